# One image for every process: docker build -t maru . ; the command after `maru` says which it is.
# A release fills DIGEST (@sha256:...) for its platform, so that the base is that very one and no other.
ARG PYTHON=python:3.11.16-slim-bookworm
ARG DIGEST=

FROM ${PYTHON}${DIGEST} AS build
ENV UV_PROJECT_ENVIRONMENT=/opt/maru/.venv UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /opt/maru
RUN pip install --no-cache-dir uv==0.13.9
# Packages first: they change seldom, and are then not installed again.
COPY pyproject.toml uv.lock README.md ./
RUN uv sync --frozen --no-dev --no-install-project --no-cache
COPY services ./services
COPY shared ./shared
COPY data ./data
COPY contracts ./contracts
# Bytecode of our own as well: the root file system may be read-only, and every start would compile it anew.
RUN uv sync --frozen --no-dev --no-cache && python -m compileall -q services shared

FROM ${PYTHON}${DIGEST}
# What installs packages has no work left here.
RUN pip uninstall --yes pip setuptools wheel \
    && rm -rf /usr/local/lib/python3.11/ensurepip \
    && groupadd --gid 10001 maru \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/maru --shell /usr/sbin/nologin maru \
    && install -d -o maru -g maru -m 0700 /var/lib/maru
COPY --from=build /opt/maru /opt/maru
ENV PATH=/opt/maru/.venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    MARU_HOST=0.0.0.0 MARU_PORT=8700 MARU_DATA=/var/lib/maru MARU_REFERENCE=/opt/maru/data
WORKDIR /var/lib/maru
USER 10001:10001
EXPOSE 8700
# Whether the process turns. Compose asks /readyz instead, Kubernetes asks by itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"MARU_PORT\"]}/livez', timeout=4)"]
ENTRYPOINT ["maru"]
CMD ["--help"]
