"""A client of the REST gateways: the walk, the import, the benchmarks and the tests all speak through it.

It remembers the position tokens of its own commands and sends them along, so that it always reads what it wrote; a
repeat after a lost reply carries the same ``Idempotency-Key``. It journals every request and outcome where told to.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

RETRIES = 5
"""How often a request is sent, at least, before its last outcome counts."""
PATIENCE = 15.0
"""How long a request is repeated, seconds, where each service is a process that its supervisor starts again."""
PAUSE = (0.05, 1.0)
"""First and longest pause between repeats; ``Retry-After`` is honoured up to ``LONGEST``."""
LONGEST = 5.0
TOKENS = 6
"""How many position tokens a client sends along: the services and slots that it touched last."""


class Problem(Exception):
    """An answer of 4xx or 5xx; ``rule`` is the rule that refused, where one did."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {body.get('rule') or body.get('title')}: {body.get('en') or body.get('detail')}")
        self.status = status
        self.body = body
        self.rule: str | None = body.get("rule")


@dataclass(frozen=True)
class Done:
    """An accepted command: id and version of the aggregate, what was stored, and where."""

    id: str
    version: int
    events: tuple[Mapping[str, Any], ...]
    position: str
    key: str


@cache
def routes() -> Mapping[str, str]:
    """The service of each first segment below ``/v1``, as the services' gateways say; what an ingress needs too.

    Raises ``ValueError`` where two services own one segment.
    """
    from services.__main__ import SERVICES

    found: dict[str, str] = {}
    for service in SERVICES:
        paths = [route.path for route in service.gateway.commands] + [route.path for route in service.gateway.reads]
        for path in paths:
            if found.setdefault(segment(path), service.name) != service.name:
                raise ValueError(f"{path}: its first segment belongs to {found[segment(path)]} already")
    return found


def segment(path: str) -> str:
    """The first segment below ``/v1``: ``/v1/issues/{id}`` → ``issues``."""
    return path.removeprefix("/v1/").partition("/")[0].partition("?")[0]


def base_of(url: str | Mapping[str, str], path: str) -> str:
    """Where a path is served: at the one URL, or at that of the service that owns its first segment.

    Raises ``Problem`` (404) where no service does.
    """
    if isinstance(url, str):
        return url
    service = "issuer" if path.startswith("/dev/") else routes().get(segment(path), "")
    if service not in url:
        raise Problem(404, {"title": f"no service is known for {path}"})
    return url[service]


class Journal:
    """What a client was told, one JSON line a request: the audit compares it with the stores (I1)."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def note(self, **line: Any) -> None:
        """One line, on disk before the client goes on."""
        with self._lock:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


Noted = Callable[[str, httpx.Response | None], None]


class Maru:
    """The system, as seen by one client with its offices: behind one URL, or with a URL for each service."""

    def __init__(
        self, url: str | Mapping[str, str], journal: Path | None = None, wait: int = 10, patience: float | None = None
    ) -> None:
        """``url``: of everything, or of each service by its name and of the ``issuer``.

        ``wait``: how long a request may wait for its positions at the gateway; ``patience``: how long a request is
        repeated after a lost connection or a 503, once the system has answered at all. Seconds, both.
        """
        self.url = url
        self._wait = wait
        self._patience = (0.0 if isinstance(url, str) else PATIENCE) if patience is None else patience
        self._answered = False
        limits = httpx.Limits(max_connections=100)
        addresses = {url} if isinstance(url, str) else set(url.values())
        self._clients = {address: httpx.Client(base_url=address, timeout=60, limits=limits) for address in addresses}
        self._journal = None if journal is None else Journal(journal)
        self._tokens: dict[str, tuple[str, str]] = {}
        self.positions: OrderedDict[str, str] = OrderedDict()
        """The newest position tokens by service and slot, sent along with every request."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and the journal."""
        for client in self._clients.values():
            client.close()
        if self._journal is not None:
            self._journal.close()

    def office(self, office: str) -> Office:
        """An office, to act as whoever holds it on the business day."""
        return Office(self, office)

    def token(self, office: str) -> tuple[str, str]:
        """Token and subject of the present holder, from the development issuer."""
        if office not in self._tokens:
            answer = self._repeated("GET", f"/dev/token/{office}", lambda outcome, answer: None)
            if answer.status_code != 200:
                raise Problem(answer.status_code, {"title": f"no token for {office}"})
            body = answer.json()
            self._tokens[office] = (body["token"], body["subject"])
        return self._tokens[office]

    def forget_tokens(self) -> None:
        """After the clock has moved, offices may have other holders."""
        self._tokens.clear()

    def send(
        self,
        office: str,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
        version: int | None = None,
        dry_run: bool = False,
    ) -> httpx.Response:
        """One request, repeated with the same key while its outcome is unknown or the system says 503."""
        token = self.token(office)[0]
        headers = {"Authorization": f"Bearer {token}", "Maru-Office": office, "Prefer": f"wait={self._wait}"}
        if self.positions:
            headers["Maru-Position"] = ",".join(self.positions.values())
        if key is not None:
            headers["Idempotency-Key"] = key
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        if dry_run:
            headers["Maru-Dry-Run"] = "true"
        answer = self._repeated(
            method,
            path,
            lambda outcome, answer: self._note(office, key, path, outcome, answer),
            json=body,
            params=query,
            headers=headers,
        )
        if not dry_run:
            self._note(office, key, path, _outcome(answer), answer)
        position = answer.headers.get("maru-position")
        if key is None and self._journal is not None:
            self._journal.note(
                method=method,
                office=office,
                path=path,
                status=answer.status_code,
                sent=headers.get("Maru-Position", ""),
                position=position,
                etag=answer.headers.get("etag"),
            )
        if position is not None and not position.endswith(":0"):
            self._remember(position)
        return answer

    def _repeated(self, method: str, path: str, noted: Noted, **request: Any) -> httpx.Response:
        """The answer of the first try that was not lost nor 503, or of the last try.

        ``noted`` hears of every try before it. Raises ``httpx.TransportError`` where the last try was lost.
        """
        client = self._clients[base_of(self.url, path)]
        end = time.monotonic() + self._patience
        pause = PAUSE[0]
        tries = 0
        while True:
            tries += 1
            try:
                answer = client.request(method, path, **request)
            except httpx.TransportError:
                noted("unknown", None)
                if tries >= RETRIES and (not self._answered or time.monotonic() >= end):
                    raise
                wanted = 0.0
            else:
                self._answered = True
                wanted = _retry_after(answer)
                if answer.status_code != 503 or (tries >= RETRIES and time.monotonic() + wanted >= end):
                    return answer
                noted("unknown", answer)
            time.sleep(max(wanted, pause))
            pause = min(2 * pause, PAUSE[1])

    def _remember(self, position: str) -> None:
        name = position.rpartition(":")[0]
        self.positions[name] = position
        self.positions.move_to_end(name)
        while len(self.positions) > TOKENS:
            self.positions.popitem(last=False)

    def _note(self, office: str, key: str | None, path: str, outcome: str, answer: httpx.Response | None) -> None:
        if self._journal is not None and key is not None:
            told = answer.json() if answer is not None and answer.status_code < 400 else None
            status = None if answer is None else answer.status_code
            subject = self._tokens[office][1]
            self._journal.note(
                subject=subject, office=office, key=key, path=path, outcome=outcome, status=status, answer=told
            )


def _outcome(answer: httpx.Response) -> str:
    """What the journal says of a command: after a 5xx nobody knows whether it was stored."""
    return "accepted" if answer.status_code < 400 else "refused" if answer.status_code < 500 else "unknown"


def _retry_after(answer: httpx.Response) -> float:
    """The seconds of ``Retry-After``, at most ``LONGEST``; 0 where there are none."""
    said = answer.headers.get("retry-after", "")
    return min(float(said), LONGEST) if said.isdecimal() else 0.0


class Office:
    """One office at the gateways. Raises ``Problem`` for every answer that is not a success."""

    def __init__(self, maru: Maru, office: str) -> None:
        self._maru = maru
        self.name = office

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, version: int | None = None, key: str | None = None
    ) -> Done:
        """Give a command; ``version`` goes into ``If-Match``."""
        key = key or uuid.uuid4().hex
        answer = self._maru.send(self.name, "POST", path, body=body or {}, key=key, version=version)
        told = _read(answer)
        return Done(told["id"], told["version"], tuple(told["events"]), told["position"], key)

    def try_out(self, path: str, body: Mapping[str, Any], *, key: str) -> None:
        """Let a command be decided without storing anything; raises ``Problem`` where it would be refused."""
        _read(self._maru.send(self.name, "POST", path, body=body, key=key, dry_run=True))

    def get(self, path: str, **query: Any) -> Any:
        """Read one thing, or one page of a list."""
        return _read(self._maru.send(self.name, "GET", path, query=query))

    def all(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every row of a list, page by page."""
        page = self.get(path, limit=200, **query)
        yield from page["items"]
        while page["next"] is not None:
            page = _read(self._maru.send(self.name, "GET", page["next"]))
            yield from page["items"]

    def version(self, path: str) -> int:
        """The version of a thing, from its ``ETag``."""
        answer = self._maru.send(self.name, "GET", path)
        _read(answer)
        return int(answer.headers["etag"].strip('"'))


def _read(answer: httpx.Response) -> Any:
    if answer.status_code >= 400:
        try:
            body = answer.json()
        except ValueError:
            body = {"title": "no problem document"}
        raise Problem(answer.status_code, body)
    return answer.json()
