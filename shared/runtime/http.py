"""The gateways' host: one pipeline for every command, one for every read.

Command: token, body, command id (a stored answer is given again), positions, policy, ``If-Match``, decide, append.
Handlers touch the stores and so run in threads; waiting (for a position, for the append) holds no thread.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
import uuid_utils
from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from werkzeug.http import parse_etags

from shared.contracts.envelope import Actor, Authority
from shared.decider import Refused
from shared.runtime import logs, metrics, strict_json, tracing
from shared.runtime.access import PolicyTable, Unauthenticated, Verifier, act_as
from shared.runtime.commands import IMPORT_KEY, client_command_id, content_hash, seal_decision
from shared.runtime.cursors import Cursors
from shared.runtime.declare import Act, CommandRoute, One, Page, ReadRoute
from shared.runtime.hosted import Hosted, Snapshot
from shared.runtime.jobs import Answer, IdReused, Write
from shared.runtime.log import EventLog, Loaded
from shared.runtime.log_database import Unavailable
from shared.runtime.positions import last_of, reached, read_positions
from shared.runtime.problems import Stop, bad_request, not_authenticated, unavailable
from shared.runtime.views import STORE_DOWN, Readings
from shared.runtime.workers import Call, Workers

_KEY = re.compile(r"^[!-~]{8,128}$")
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,119}$")

NO_ANSWER: tuple[type[Exception], ...] = (Unavailable, TimeoutError, *STORE_DOWN)
"""What becomes 503: the database does not answer just now."""

logger = structlog.get_logger("maru.http")


class Asked(Snapshot):
    """A request as handlers see it: facts, who asks, path and query."""

    def __init__(
        self,
        web: Gateways,
        hosted: Hosted,
        subject: str,
        http: HttpRequest,
        action: str,
        readings: Readings | None = None,
    ) -> None:
        super().__init__(hosted, readings=readings)
        self._web, self._action = web, action
        self.actor: Actor = act_as(self.directory, self.today, subject, http.headers.get("maru-office"))
        self.path: Mapping[str, str] = http.path_params
        self.query: Mapping[str, str] = http.query_params
        self.development = web.development
        self._ids: list[str] = []
        self._dockets: dict[int, str] = {}
        self._next_id = 0
        self.limit = 50
        self.after: tuple[Any, ...] | None = None
        self.body: Any = None
        self.dry_run = http.headers.get("maru-dry-run") == "true"

    def again(self, earlier: Asked | None) -> None:
        """A command decided again keeps the ids and numbers that it was given first."""
        if earlier is not None:
            self._ids, self._dockets = earlier._ids, earlier._dockets

    def new_id(self) -> str:
        """A UUIDv7."""
        if self._next_id == len(self._ids):
            self._ids.append(str(uuid_utils.uuid7()))
        self._next_id += 1
        return self._ids[self._next_id - 1]

    def made(self, id: str) -> bool:
        """Whether this request has made up an id: then nothing is stored under it."""
        return id in self._ids

    def docket(self, year: int) -> str:
        """The next docket number of a year."""
        if self.dry_run:
            return f"{year}-000000"
        if year not in self._dockets:
            self._dockets[year] = f"{year}-{self._hosted.log.next_number(f'docket-{year}'):06d}"
        return self._dockets[year]

    def envelope(self, rule: str, clause: str | None = None) -> dict[str, Any]:
        """``by``, ``at`` and ``authority`` of a command of this request."""
        return {"by": self.actor, "at": self.now, "authority": Authority(rule=rule, clause=clause)}

    def regions_allowed(self) -> tuple[str, ...] | None:
        """The regions that this reader may see in lists."""
        return self._web.policy.regions_allowed(self.directory, self.today, self.actor, self._action)


class Gateways:
    """The gateways of the services hosted here, behind one policy table and one verifier."""

    def __init__(
        self,
        hosted: Sequence[Hosted],
        verifier: Verifier,
        policy: PolicyTable,
        cursors: Cursors,
        *,
        development: bool,
        wait_seconds: float,
        answer_seconds: float = 30.0,
    ) -> None:
        """Raises ``ValueError`` for a route whose action has no row in the policy table: default deny."""
        self.hosted = hosted
        self.verifier = verifier
        self.policy = policy
        self.cursors = cursors
        self.development = development
        self.wait_seconds = wait_seconds
        # One for commands: a second would take turns with it at the one interpreter, and split what shares a commit.
        self.commands = Workers("commands", 1, answer_seconds, look_up)
        self.reads = Workers("reads", 2, answer_seconds)
        for one in hosted:
            routes: list[CommandRoute | ReadRoute] = [*one.service.gateway.commands, *one.service.gateway.reads]
            for route in routes:
                if route.action not in policy.actions:
                    raise ValueError(f"{route.operation_id}: action {route.action} has no row in the policy table")

    # Commands

    async def command(self, hosted: Hosted, route: CommandRoute, http: HttpRequest) -> Response:
        """Answer one command; every way out is counted."""
        started = time.perf_counter()
        trace = tracing.carried(http.headers.get("traceparent"))
        try:
            with tracing.span(f"POST {route.operation_id}", trace, root=True) as trace:
                logs.TRACE.set(trace)
                response = await self._command(hosted, route, http, trace)
        except Stop as stop:
            response = stop.response()
        except Refused as refusal:
            response = Stop.refused(refusal).response()
        except Unauthenticated:
            response = not_authenticated().response()
        except IdReused:
            response = _id_reused().response()
        except NO_ANSWER:
            response = unavailable().response()
        metrics.REQUESTS.labels(route.operation_id, response.status_code).observe(time.perf_counter() - started)
        return response

    async def _command(self, hosted: Hosted, route: CommandRoute, http: HttpRequest, trace: str | None) -> Response:
        subject = self.verifier.subject(http.headers.get("authorization"))
        _check_path(http)
        if http.query_params:
            raise bad_request("unknown_parameter", "알 수 없는 매개변수입니다.", "Unknown query parameter.")
        key = http.headers.get("idempotency-key", "")
        if not _KEY.match(key):
            raise bad_request(
                "idempotency_key",
                "Idempotency-Key 머리글(8~128자)이 필요합니다.",
                "An Idempotency-Key header of 8 to 128 characters is needed.",
            )
        document = _read_document(http, await _read_body(http))
        body = _read_model(route, document)
        if_match = http.headers.get("if-match")
        command_id = client_command_id(hosted.name, subject, http.headers.get("maru-office"), key)
        canonical = body.model_dump(mode="json", exclude_unset=True)
        asked = content_hash(route.operation_id, http.scope["path"], if_match, canonical)
        await self._await_positions(hosted, http, hosted.views)
        job = CommandJob(self, hosted, route, http, subject, body, command_id, asked, trace)
        hosted.pressure.commands += 1
        try:
            response: Response = await self.commands.run(job)
        finally:
            hosted.pressure.commands -= 1
        return response

    # Reads

    async def read(self, hosted: Hosted, route: ReadRoute, http: HttpRequest) -> Response:
        """Answer one read; every way out is counted."""
        started = time.perf_counter()
        try:
            subject = await self.begin_read(hosted, route, http)
            response: Response = await self.reads.run(Call(partial(self._read, hosted, route, http, subject)))
        except Stop as stop:
            response = stop.response()
        except Refused as refusal:
            response = Stop.refused(refusal).response()
        except Unauthenticated:
            response = not_authenticated().response()
        except NO_ANSWER:
            response = unavailable().response()
        metrics.REQUESTS.labels(route.operation_id, response.status_code).observe(time.perf_counter() - started)
        return response

    async def begin_read(self, hosted: Hosted, route: ReadRoute, http: HttpRequest) -> str:
        """What comes before every read, a stream too: token, path, parameters, positions. Gives the subject."""
        logs.TRACE.set(tracing.carried(http.headers.get("traceparent")))
        subject = self.verifier.subject(http.headers.get("authorization"))
        _check_path(http)
        allowed = route.query if route.stream else (*route.query, "cursor", "limit")
        if any(name not in allowed for name in http.query_params):
            raise bad_request("unknown_parameter", "알 수 없는 매개변수입니다.", "Unknown query parameter.")
        await self._await_positions(hosted, http, route.views)
        return subject

    def authorise_read(
        self, hosted: Hosted, route: ReadRoute, http: HttpRequest, subject: str, readings: Readings | None = None
    ) -> Asked:
        """A read request that the policy allows, with its snapshot open. Raises ``Refused``."""
        logs.TRACE.set(tracing.carried(http.headers.get("traceparent")))
        request = Asked(self, hosted, subject, http, route.action, readings)
        try:
            resource = route.resource(request)
            self.policy.authorise(request.directory, request.today, request.actor, route.action, resource)
        except BaseException:
            request.close()
            raise
        return request

    def _read(self, hosted: Hosted, route: ReadRoute, http: HttpRequest, subject: str, readings: Readings) -> Response:
        with self.authorise_read(hosted, route, http, subject, readings) as request:
            request.limit = _limit(http.query_params.get("limit"))
            if "cursor" in http.query_params:
                request.after = self.cursors.read(route.operation_id, http.query_params["cursor"])
            value = route.handler(request)
            marks = [hosted.progress.views.get(view.name, {}) for view in route.views]
            scan = min((m.get((hosted.name, 0, -1), 0) for m in marks), default=0)
            if isinstance(value, Page):
                return self._page(hosted, route, http, value, scan)
            headers = {"Maru-Position": str(last_of(hosted, value.key, scan))}
            if isinstance(value, One) and value.version:
                headers["ETag"] = f'"{value.version}"'
            return Response(_dump(route.answer, value.value), 200, headers, "application/json")

    def _page(self, hosted: Hosted, route: ReadRoute, http: HttpRequest, page: Page, scan: int) -> Response:
        headers = {"Maru-Position": str(last_of(hosted, None, scan))}
        following = None
        if page.after is not None:
            cursor = self.cursors.make(route.operation_id, page.after)
            following = str(http.url.include_query_params(cursor=cursor).replace(scheme="", netloc=""))
            headers["Link"] = f'<{following}>; rel="next"'
        rows = b",".join(_dump(route.answer, row) for row in page.rows)
        body = b'{"items":[' + rows + b'],"next":' + (b"null" if following is None else _quote(following)) + b"}"
        return Response(body, 200, headers, "application/json")

    # Positions

    async def _await_positions(self, hosted: Hosted, http: HttpRequest, views: Sequence[Any]) -> None:
        header = http.headers.get("maru-position")
        if header is None:
            return
        seconds = self.wait_seconds
        prefer = re.search(r"\bwait=(\d{1,2})\b", http.headers.get("prefer", ""))
        if prefer is not None:
            seconds = min(float(prefer.group(1)), 30.0)
        end = time.monotonic() + seconds
        for position in read_positions(header):
            if hosted.progress.remote and position.position > hosted.log.seen:
                # Asked of a server, so not in the event loop's thread.
                question = await asyncio.wait_for(asyncio.to_thread(reached, hosted, position, views), seconds)
            else:
                question = reached(hosted, position, views)
            if not await hosted.progress.wait(question, end - time.monotonic()):
                raise Stop(
                    503,
                    "position_not_reached",
                    "요청한 시점까지 아직 반영되지 않았습니다. 잠시 뒤 다시 시도하십시오.",
                    "The position asked for is not reached yet: try again shortly.",
                    headers={"Retry-After": "1"},
                )


@dataclass
class CommandJob:
    """A command on its way: decided in ``begin``, answered in ``end`` once it is stored; decided again if it lost."""

    web: Gateways
    hosted: Hosted
    route: CommandRoute
    http: HttpRequest
    subject: str
    body: Any
    command_id: str
    asked: str
    trace: str | None = None
    request: Asked | None = None
    location: str | None = None
    submitted: float = 0.0
    stored: tuple[str, Answer] | None = None
    """What this command id was asked and answered before; see ``look_up``."""

    def begin(self, readings: Readings) -> Response | Future[Any]:
        """The stored answer of a repeat, or the future of the append. Raises ``Stop`` and ``Refused``."""
        hosted, route, headers = self.hosted, self.route, self.http.headers
        logs.TRACE.set(self.trace)
        if headers.get("idempotency-key", "").startswith(IMPORT_KEY):
            # These ids are the office's: nobody else may learn what they were answered.
            with Asked(self.web, hosted, self.subject, self.http, route.action, readings):
                pass
        if self.stored is not None:
            asked, known = self.stored
            if asked != self.asked:
                raise _id_reused()
            metrics.COMMANDS.labels(hosted.name, route.operation_id, "repeated").inc()
            return _answer(known, None)
        with Asked(self.web, hosted, self.subject, self.http, route.action, readings) as request:
            request.again(self.request)
            self.request = request
            request.body = self.body
            resource = route.resource(request)
            self.web.policy.authorise(request.directory, request.today, request.actor, route.action, resource)
            act: Act = route.handler(request, self.body)
            loaded = Loaded.nothing(act.decider) if request.made(act.id) else hosted.log.load(act.decider, act.id)
            if route.if_match:
                _check_if_match(headers.get("if-match"), loaded.version)
            self.location = act.location
            prepared = seal_decision(
                hosted.log, act, loaded, self.command_id, self.asked, status=route.status, trace=self.trace
            )
        if request.dry_run:
            return Response(b'{"dry_run":true}', 200, media_type="application/json")
        self.submitted = time.time()
        return hosted.log.submit(Write((prepared,)))

    def end(self, stored: tuple[Answer, ...]) -> Response:
        """The answer of what was stored."""
        tracing.since("append", self.trace, self.submitted)
        metrics.COMMANDS.labels(self.hosted.name, self.route.operation_id, "accepted").inc()
        return _answer(stored[0], self.location)


def look_up(jobs: Sequence[CommandJob]) -> None:
    """Find the stored answers of commands that begin together, with one statement a log. Raises ``Unavailable``."""
    by_log: dict[EventLog, list[CommandJob]] = {}
    for job in jobs:
        by_log.setdefault(job.hosted.log, []).append(job)
    for log, asked in by_log.items():
        found = log.answers([job.command_id for job in asked])
        for job in asked:
            job.stored = found.get(job.command_id)


def _answer(answer: Answer, location: str | None) -> Response:
    headers = {"ETag": answer.etag, "Maru-Position": answer.position}
    if location is not None:
        headers["Location"] = location
    return Response(answer.body, answer.status, headers, "application/json")


def _id_reused() -> Stop:
    return Stop(
        422,
        "I-18",
        "같은 Idempotency-Key로 다른 내용이 이미 처리되었습니다.",
        "This Idempotency-Key was used for another content.",
        rule="I-18",
    )


async def _read_body(http: HttpRequest) -> bytes:
    declared = http.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > strict_json.MAX_BYTES:
        raise bad_request("too_large", "본문이 너무 큽니다.", "The body is too large.", 413)
    chunks, size = [], 0
    async for chunk in http.stream():
        size += len(chunk)
        if size > strict_json.MAX_BYTES:
            raise bad_request("too_large", "본문이 너무 큽니다.", "The body is too large.", 413)
        chunks.append(chunk)
    return b"".join(chunks)


def _read_document(http: HttpRequest, raw: bytes) -> dict[str, Any]:
    kind = http.headers.get("content-type", "")
    if not re.fullmatch(r"application/json(\s*;\s*charset=utf-8)?", kind.strip(), re.IGNORECASE) or (
        http.headers.get("content-encoding", "identity") != "identity"
    ):
        raise bad_request("media_type", "본문은 UTF-8 JSON이어야 합니다.", "The body must be JSON in UTF-8.", 415)
    try:
        return strict_json.read(raw)
    except strict_json.BadJson as bad:
        raise Stop(
            413 if bad.code == "too_large" else 400,
            bad.code,
            "본문이 올바른 JSON 객체가 아닙니다.",
            "The body is no acceptable JSON object.",
        ) from None


def _read_model(route: CommandRoute, document: dict[str, Any]) -> Any:
    try:
        return route.body.model_validate_json(strict_json.dump(document), strict=True)
    except ValidationError as error:
        errors = [
            {"at": "/".join(_shown(part, route) for part in problem["loc"]), "because": problem["type"]}
            for problem in error.errors(include_url=False, include_input=False, include_context=False)[:20]
        ]
        raise Stop(
            422,
            "body_does_not_fit",
            "본문의 항목이 맞지 않습니다.",
            "Fields of the body do not fit.",
            errors=errors,
        ) from None


def _shown(part: str | int, route: CommandRoute) -> str:
    """A part of a path that may be shown: names of ours and numbers, never a key that the client made up."""
    if isinstance(part, int):
        return str(part)
    return part if part in strict_json.known_names(route.body) else "?"


def _check_path(http: HttpRequest) -> None:
    for value in http.path_params.values():
        if not _ID.match(str(value)):
            raise bad_request("not_found", "찾을 수 없습니다.", "Not found.", 404)
    office = http.headers.get("maru-office")
    if office is not None and not _ID.match(office):
        raise bad_request("office", "직위 표시가 올바르지 않습니다.", "The Maru-Office header is not an office.")


def _check_if_match(header: str | None, version: int) -> None:
    if header is None or header.strip() == "*":
        # "*" would match whatever stands there: the command would be given without having read it.
        raise Stop(
            428,
            "I-18",
            "If-Match 머리글에 읽은 판을 밝혀야 합니다.",
            "Say in If-Match which version you have read.",
            rule="I-18",
        )
    if header.startswith("W/") or not parse_etags(header).contains(str(version)):
        raise Stop(
            412,
            "I-18",
            "그 사이에 내용이 바뀌었습니다. 새 판을 읽고 다시 하십시오.",
            "It has changed meanwhile: read the new version and try again.",
            headers={"ETag": f'"{version}"'},
            rule="I-18",
        )


def _limit(text: str | None) -> int:
    if text is None:
        return 50
    if not re.fullmatch(r"[1-9][0-9]{0,2}", text) or int(text) > 200:
        raise bad_request("limit", "limit은 1~200입니다.", "limit is 1 to 200.")
    return int(text)


_adapters: dict[Any, TypeAdapter[Any]] = {}


def _dump(kind: Any, value: Any) -> bytes:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind].dump_json(value)


def _quote(text: str) -> bytes:
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


def guard(app: FastAPI) -> None:
    """Errors that no route of ours has answered: unknown paths, wrong methods, and what should never happen."""

    async def known(_: HttpRequest, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 400
        return bad_request(
            "not_found" if status == 404 else "method" if status == 405 else "request",
            "요청한 경로나 방법이 없습니다.",
            "No such path or method.",
            status,
        ).response()

    async def unknown(_: HttpRequest, error: Exception) -> Response:
        logger.error("unexpected", error=logs.cause(error))
        return Stop(500, "internal", "내부 오류입니다.", "Internal error.").response()

    async def stopped(_: HttpRequest, error: Exception) -> Response:
        if isinstance(error, Stop):
            return error.response()
        return Stop.refused(error).response() if isinstance(error, Refused) else not_authenticated().response()

    for kind in (Stop, Refused, Unauthenticated):
        app.add_exception_handler(kind, stopped)
    app.add_exception_handler(HTTPException, known)
    app.add_exception_handler(Exception, unknown)
