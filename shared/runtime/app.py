"""The HTTP application: every gateway's routes on one port, the operators' routes, and the OpenAPI document."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, get_type_hints

from anyio import to_thread
from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.utils import get_openapi
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi_swagger import patch_fastapi
from pydantic import TypeAdapter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from shared.runtime import metrics
from shared.runtime.access import Issuer
from shared.runtime.declare import CommandRoute, Page, ReadRoute, Stream
from shared.runtime.hosted import Hosted
from shared.runtime.http import Gateways, guard
from shared.runtime.log import decode
from shared.runtime.problems import Problem, Stop, bad_request
from shared.runtime.published import add_schemas

READY_SECONDS = 3.0
"""How long ``/readyz`` waits for what it asks: less than whoever probes waits for ``/readyz``."""
_EVENT_ID = re.compile(r"^([0-9]{1,12})-([0-9]{1,15})$")
_HEADERS: dict[str, str] = {
    "Maru-Office": "Office in which the subject acts; needed where the subject holds several.",
    "Maru-Position": "Position tokens, separated by commas: the answer waits until they are reached.",
    "Prefer": "wait=N: how many seconds to wait for the positions.",
}


def build(
    gateways: Gateways, ready: Callable[[], list[str]], probe: metrics.Probe, issuer: Issuer | None = None
) -> FastAPI:
    """The application for the services hosted here.

    ``ready`` tells what is not in order (empty: ready); ``probe`` reads the gauges of the databases; ``issuer`` is the
    development issuer where one is built in.
    Raises ``ValueError`` for two routes with one operation id.
    """
    app = FastAPI(
        title="Maru",
        version="1",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    # /docs with its script and style from here: a ministry's network reaches no content network outside.
    patch_fastapi(app, docs_url="/docs")
    app.router.redirect_slashes = False
    seen: set[str] = set()
    for hosted in gateways.hosted:
        for command in hosted.service.gateway.commands:
            _unique(seen, command.operation_id)
            app.add_api_route(
                command.path,
                _command_endpoint(gateways, hosted, command),
                methods=["POST"],
                status_code=command.status,
                operation_id=command.operation_id,
                summary=command.summary,
                tags=[hosted.name],
                openapi_extra=_command_docs(command),
                responses=_problems(400, 401, 403, 404, 409, 412, 413, 415, 422, 428, 503),
                response_class=JSONResponse,
            )
        for read in hosted.service.gateway.reads:
            _unique(seen, read.operation_id)
            if read.stream:
                _add_stream(app, gateways, hosted, read)
                continue
            app.add_api_route(
                read.path,
                _read_endpoint(gateways, hosted, read),
                methods=["GET"],
                operation_id=read.operation_id,
                summary=read.summary,
                tags=[hosted.name],
                openapi_extra=_read_docs(read),
                responses=_problems(400, 401, 403, 404, 503),
                response_class=JSONResponse,
            )
    add_operations(app, ready, probe)
    add_schemas(app)
    if issuer is not None:
        _add_issuer(app, gateways, issuer)
    guard(app)
    app.openapi = lambda: _openapi(app, gateways)  # type: ignore[method-assign]
    return app


def _unique(seen: set[str], operation_id: str) -> None:
    if operation_id in seen:
        raise ValueError(f"operation id {operation_id} is used twice")
    seen.add(operation_id)


Endpoint = Callable[[HttpRequest], Awaitable[Response]]


def _command_endpoint(gateways: Gateways, hosted: Hosted, route: CommandRoute) -> Endpoint:
    async def endpoint(request: HttpRequest) -> Response:
        return await gateways.command(hosted, route, request)

    return endpoint


def _read_endpoint(gateways: Gateways, hosted: Hosted, route: ReadRoute) -> Endpoint:
    async def endpoint(request: HttpRequest) -> Response:
        return await gateways.read(hosted, route, request)

    return endpoint


def _add_stream(app: FastAPI, gateways: Gateways, hosted: Hosted, route: ReadRoute) -> None:
    async def opened(request: HttpRequest) -> tuple[Stream, int]:
        """Check everything before the stream begins: afterwards the status is sent."""
        subject = await gateways.begin_read(hosted, route, request)

        def look() -> Stream:
            with gateways.authorise_read(hosted, route, request, subject) as asked:
                stream: Stream = route.handler(asked)
                return stream

        stream = await run_in_threadpool(look)
        last = request.headers.get("last-event-id")
        if last is None:
            return stream, 0
        match = _EVENT_ID.match(last)
        if match is None or int(match[1]) != hosted.log.epoch:
            raise bad_request("last_event_id", "Last-Event-ID가 올바르지 않습니다.", "Last-Event-ID is none of ours.")
        return stream, int(match[2])

    async def endpoint(begin: tuple[Stream, int] = Depends(opened)) -> AsyncIterator[ServerSentEvent]:
        stream, position = begin
        while True:
            rows = await run_in_threadpool(
                hosted.log.select, "case_id = ? AND position > ? ORDER BY position LIMIT 100", stream.case_id, position
            )
            for row in rows:
                position = row.position
                if not stream.types or row.type in stream.types:
                    event = decode(row)
                    shown = {
                        "event_id": event.id,
                        "type": event.type,
                        "case_id": event.case_id,
                        "recorded_at": event.envelope.recorded_at,
                        "office": event.envelope.actor.office,
                        "data": event.data.model_dump(mode="json", exclude={"type"}),
                    }
                    yield ServerSentEvent(data=shown, event=event.type, id=f"{row.epoch}-{row.position}")
            await hosted.progress.wait(partial(_has_more, hosted, stream.case_id, position), 10.0, hurry=False)

    app.add_api_route(
        route.path,
        endpoint,
        methods=["GET"],
        operation_id=route.operation_id,
        summary=route.summary,
        tags=[hosted.name],
        openapi_extra=_read_docs(route),
        responses=_problems(400, 401, 403, 404),
        response_class=EventSourceResponse,
    )


def _has_more(hosted: Hosted, case_id: str, position: int) -> bool:
    found = hosted.log.query(
        "SELECT 1 FROM stored_events WHERE case_id = ? AND position > ? LIMIT 1", case_id, position
    )
    return bool(found)


def probes(ready: Callable[[], list[str]], probe: metrics.Probe) -> FastAPI:
    """The operators' routes alone, for a process that serves nothing else."""
    app = FastAPI(title="Maru probes", openapi_url=None, docs_url=None, redoc_url=None)
    add_operations(app, ready, probe)
    guard(app)
    return app


def add_operations(app: FastAPI, ready: Callable[[], list[str]], probe: metrics.Probe) -> None:
    """The operators' routes of a process. ``ready`` says what it lacks; it may wait for a store."""
    asking: asyncio.Future[list[str]] | None = None

    async def missing() -> list[str]:
        """What ``ready`` says. A store that is silent is not waited for, and not asked again while it is."""
        nonlocal asking
        if asking is None or asking.done():
            asking = asyncio.ensure_future(to_thread.run_sync(ready, abandon_on_cancel=True))
        asked = asking
        done, _ = await asyncio.wait({asked}, timeout=READY_SECONDS)
        return asked.result() if done else ["a store does not answer"]

    @app.get("/livez", tags=["operation"], operation_id="livez", summary="The process turns; touches nothing")
    async def livez() -> dict[str, str]:
        await asyncio.sleep(0)
        return {"status": "live"}

    @app.get("/readyz", tags=["operation"], operation_id="readyz", summary="Every loop turns and the stores answer")
    async def readyz() -> JSONResponse:
        lacking = await missing()
        body = {"status": "ready"} if not lacking else {"status": "not ready", "missing": lacking}
        return JSONResponse(body, 503 if lacking else 200)

    @app.get("/metrics", tags=["operation"], operation_id="metrics", summary="Prometheus metrics")
    async def exposition() -> Response:
        body, kind = await run_in_threadpool(metrics.exposition, probe)
        return Response(body, media_type=kind)


def _add_issuer(app: FastAPI, gateways: Gateways, issuer: Issuer) -> None:
    @app.get("/dev/token/{office}", tags=["development"], operation_id="developmentToken")
    async def token(office: str) -> JSONResponse:
        """A token for whoever holds an office on the business day. Development issuer only."""
        directory = gateways.hosted[0].directory()
        from_now = directory.business_time(_utc_now()).date()
        holders = directory.holders(office, from_now)
        if not holders:
            raise bad_request("not_found", "오늘 그 직위를 맡은 이가 없습니다.", "Nobody holds this office today.", 404)
        return JSONResponse({"office": office, "subject": holders[0], "token": issuer.token(holders[0])})


def _utc_now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


# The OpenAPI document


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "Problem (RFC 9457)", "content": content} for status in statuses}


def _parameters(path: str, query: Sequence[str]) -> list[dict[str, Any]]:
    text = {"type": "string", "maxLength": 120}
    named = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in re.findall(r"\{([a-z_]+)\}", path)
    ]
    asked = [{"name": name, "in": "query", "required": False, "schema": text} for name in query]
    headers = [
        {"name": name, "in": "header", "required": False, "schema": text, "description": about}
        for name, about in _HEADERS.items()
    ]
    return [*named, *asked, *headers]


def _command_docs(route: CommandRoute) -> dict[str, Any]:
    parameters = _parameters(route.path, ())
    parameters.append(
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "schema": {"type": "string", "minLength": 8, "maxLength": 128},
            "description": "The same key with the same body gives the first answer again; with another body 422.",
        }
    )
    parameters.append(
        {
            "name": "Maru-Dry-Run",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "enum": ["true"]},
            "description": "Decide only: the answer tells whether the command would be accepted; nothing is stored.",
        }
    )
    if route.if_match:
        parameters.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": "ETag of the version read; 412 where it has changed, 428 where it is missing.",
            }
        )
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{route.body.__name__}"}}
    if route.example is not None:
        content["example"] = dict(route.example)
    return {
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {
            str(route.status): {
                "description": "Accepted and stored",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Accepted"}}},
            }
        },
    }


def _read_docs(route: ReadRoute) -> dict[str, Any]:
    docs: dict[str, Any] = {"parameters": _parameters(route.path, route.query)}
    if not route.stream:
        schema: dict[str, Any] = {"$ref": f"#/components/schemas/{route.answer.__name__}"}
        if get_type_hints(route.handler).get("return") is Page:
            following = {"type": ["string", "null"], "description": "The next page's address, also in Link"}
            items = {"type": "array", "items": schema}
            schema = {
                "type": "object",
                "required": ["items", "next"],
                "properties": {"items": items, "next": following},
            }
            for name in ("cursor", "limit"):
                docs["parameters"].append(
                    {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
                )
        docs["responses"] = {
            "200": {"description": "Found", "content": {"application/json": {"schema": schema}}},
        }
    return docs


ACCEPTED = {
    "title": "Accepted",
    "type": "object",
    "required": ["id", "version", "events", "position"],
    "properties": {
        "id": {"type": "string", "description": "Id of the aggregate"},
        "version": {"type": "integer", "description": "Its version afterwards, also the ETag"},
        "events": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "event_id": {"type": "string"},
                    "type": {"type": "string"},
                    "position": {"type": "integer"},
                },
            },
        },
        "position": {"type": "string", "description": "Position token: service:epoch:slot:position"},
    },
}


def _openapi(app: FastAPI, gateways: Gateways) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes, openapi_version="3.1.0")
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Accepted"] = ACCEPTED
        models: list[Any] = [Problem]
        for hosted in gateways.hosted:
            models += [route.body for route in hosted.service.gateway.commands]
            models += [route.answer for route in hosted.service.gateway.reads]
        for model in models:
            schema = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}")
            for name, found in {**schema.pop("$defs", {}), model.__name__: schema}.items():
                if schemas.setdefault(name, found) != found:
                    raise ValueError(f"two different models are called {name} in the OpenAPI document")
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"bearer": []}]
        app.openapi_schema = document
    return app.openapi_schema


__all__ = ["Stop", "build"]
