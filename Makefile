# Thin over the program: `make run` and `make test` are all that a newcomer needs.
# Needs make and Python 3.11 or newer; everything else comes from PyPI into .venv, as uv.lock says.
# args=... is passed on, as in: make run args=--once

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
args ?=

.PHONY: run full test faults check bench generate clean help

help:
	@echo "make run       set up, start the whole system, walk a case before your eyes  (args=--once: end after the walk)"
	@echo "make full      the same with PostgreSQL, Kafka and a process for each part   (args=--once: end after the audit)"
	@echo "make test      the whole test suite                                          (args='-k name': some of it)"
	@echo "make faults    the long lane of fault tests, with its counts                 (args='-k R5': one of them)"
	@echo "make check     style, types, import contracts, generated files, contracts, alerts, image and manifests"
	@echo "make bench     the figures, each beside its limit"
	@echo "make generate  write contracts/, the generated pages of docs/ and the dashboard anew"
	@echo "make clean     remove .venv and caches; data folders stay"

run: $(VENV)/.run
	@$(BIN)/maru up $(args)

full: $(VENV)/.full
	@$(BIN)/maru up --full $(args)

# Two workers: much of the suite waits for processes, brokers and databases to do something.
test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(args)

faults: $(VENV)/.dev $(BIN)/prometheus
	@$(BIN)/python -m pytest -m faults -s $(args)

check: $(VENV)/.dev $(BIN)/promtool
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m services.generate --check
	$(BIN)/python -m services.compatibility
	$(BIN)/python -m checks.asyncapi
	$(BIN)/python -m services.promtool
	$(BIN)/python -m tests.deploy.checks

bench: $(VENV)/.dev
	@$(BIN)/python -m bench $(args)

generate: $(VENV)/.dev
	@$(BIN)/python -m services.generate

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up. A stamp file says what is installed, so that a warm start costs nothing; a change of the lock installs again.

# Without a writable home uv has nowhere to cache. --inexact: what the other stamp installed stays. The second try is for
# networks whose certificates only the system knows.
define sync
	@[ -w "$${XDG_CACHE_HOME:-$$HOME}" ] || export UV_NO_CACHE=1; \
	export UV_PROJECT_ENVIRONMENT=$(VENV) UV_PYTHON_DOWNLOADS=never; \
	$(BIN)/uv sync --quiet --frozen --inexact $(1) 2>/dev/null || \
	$(BIN)/uv sync --quiet --frozen --inexact --system-certs $(1)
endef

$(VENV)/.run: pyproject.toml uv.lock | $(BIN)/uv
	$(call sync,--no-dev)
	@touch $@

$(VENV)/.full: pyproject.toml uv.lock | $(BIN)/uv
	$(call sync,--no-dev --group full)
	@touch $(VENV)/.run $@

$(VENV)/.dev: pyproject.toml uv.lock | $(BIN)/uv
	$(call sync)
	@touch $(VENV)/.run $(VENV)/.full $@

# Prometheus and its own checker, out of Debian's package, unpacked and not installed. Where that is not to be had, what
# needs one of them says so.
$(BIN)/promtool $(BIN)/prometheus: $(BIN)/%: | $(VENV)/.dev
	@command -v $* >/dev/null || { cd $(VENV) && { apt-get -qq download prometheus || \
	    { apt-get -qq update && apt-get -qq download prometheus; }; } && dpkg-deb --fsys-tarfile prometheus_*.deb | \
	    tar -xf - -C bin --strip-components=3 ./usr/bin/$* && rm prometheus_*.deb; } >/dev/null 2>&1 || true

$(BIN)/uv:
	@echo "Setting up Python packages in $(VENV), once ..." >&2
	@set -e; if [ ! -x $(BIN)/python ]; then \
	    found=; \
	    for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	        if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then echo "Python 3.11 or newer is needed, and none is on the PATH." >&2; exit 1; fi; \
	    $$found -m venv --without-pip $(VENV); \
	fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null 2>&1 || { \
	    echo "This Python has no ensurepip: install your system's package for it (Debian, Ubuntu: python3-venv)." >&2; \
	    exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
