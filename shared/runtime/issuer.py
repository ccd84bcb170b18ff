"""The development issuer as a process of its own: OpenID Connect discovery, keys, and a token for anybody who asks.

For one machine only. A deployment brings an issuer that knows its people, and refuses this one (``keys.check_issuer``).
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from shared.runtime import logs, metrics
from shared.runtime.access import Issuer
from shared.runtime.app import add_operations
from shared.runtime.directory import Directory
from shared.runtime.http import guard
from shared.runtime.problems import bad_request, unavailable
from shared.runtime.settings import Settings
from shared.runtime.web import CannotStart, HttpServer

BANNER = """
 ****************************************************************************
 *  개발용 인증 서버입니다. 누구에게나 어느 직위의 토큰이든 내줍니다.           *
 *  DEVELOPMENT ISSUER: it gives anybody a token for any office.            *
 *  For this machine only, never for production.                            *
 ****************************************************************************
"""

logger = structlog.get_logger("maru.issuer")


def application(issuer: Issuer, url: str, directory: Callable[[], Directory]) -> FastAPI:
    """The issuer's routes. ``url`` is its own address, the ``iss`` of its tokens.

    ``directory`` gives the reference facts; whatever it raises is answered 503, and ``/readyz`` tells it.
    """
    app = FastAPI(title="Maru development issuer", version="1", openapi_url=None, docs_url=None, redoc_url=None)

    def look(office: str) -> str | None:
        """The subject who holds an office on the business day."""
        known = directory()
        holders = known.holders(office, known.business_time(datetime.now(UTC)).date())
        return holders[0] if holders else None

    @app.get("/.well-known/openid-configuration")
    async def configuration() -> dict[str, Any]:
        """OpenID Connect Discovery 1.0, section 3: what there is of it."""
        return {
            "issuer": url,
            "jwks_uri": f"{url.rstrip('/')}/jwks",
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA"],
        }

    @app.get("/jwks")
    async def keys() -> dict[str, Any]:
        """The public key (RFC 7517)."""
        return issuer.key_set

    @app.get("/dev/token/{office}")
    async def token(office: str) -> Response:
        """A token for whoever holds an office on the business day."""
        try:
            subject = await run_in_threadpool(look, office)
        except Exception as error:
            logger.warning("no reference facts", error=logs.cause(error))
            return unavailable().response()
        if subject is None:
            raise bad_request("not_found", "오늘 그 직위를 맡은 이가 없습니다.", "Nobody holds this office today.", 404)
        return JSONResponse({"office": office, "subject": subject, "token": issuer.token(subject)})

    def lacking() -> list[str]:
        """Keys are always there; offices need the reference facts, for tokens."""
        try:
            directory()
        except Exception as error:
            return [f"directory: {type(error).__name__}"]
        return []

    add_operations(app, lacking, metrics.Probe(lambda: ()))
    guard(app)
    return app


def run(settings: Settings, directory: Callable[[], Directory]) -> int:
    """Serve on the settings' host and port until SIGTERM or SIGINT; gives the exit code.

    Its URL, and the issuer of its tokens, is the setting ``issuer``; its key is kept in the data folder.
    Raises ``CannotStart``: 3 where the port is taken, 4 where the folder cannot be written.
    """
    sys.stderr.write(BANNER)
    sys.stderr.flush()
    logger.warning("DEVELOPMENT ISSUER: gives anybody a token for any office", issuer=settings.issuer)
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        issuer = Issuer(settings.data, settings.issuer, settings.audience, settings.token_hours)
    except OSError as error:
        raise CannotStart(f"{settings.data} cannot be written: {error.strerror}.", 4) from None
    server = HttpServer(application(issuer, settings.issuer, directory), settings.host, settings.port)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    ended.wait()
    server.stop()
    return 0
