"""Plain requests during an outage: each is timed, none is repeated."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from services.walk import COUNCIL, RAISER
from tests.faults.load import SUGGESTION, Client, Tally
from tests.faults.system import Disturbed

PLAN = {"body": COUNCIL, "day": "2023-01-04", "place": "홍천군청", "form": "on_site"}
REQUESTS = (
    ("issues", "POST", "/v1/issues", f"{RAISER}.officer", SUGGESTION),
    ("issues", "GET", "/v1/issues", f"{COUNCIL}.secretary", None),
    ("routing", "GET", "/v1/clock", "operations.operator", None),
    ("meetings", "POST", "/v1/meetings", f"{COUNCIL}.secretary", PLAN),
    ("meetings", "GET", "/v1/meetings", f"{COUNCIL}.secretary", None),
    ("notifications", "GET", "/v1/notices", f"{RAISER}.officer", None),
)


@dataclass
class Seen:
    """How requests were answered, by method and status (0: not at all), and how long the slowest took."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest: float = 0.0
    no_retry_after: int = 0
    dead: int = 0
    """Liveness probes that were not answered 200."""
    probes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def total(self, *statuses: int, method: str | None = None) -> int:
        """How many were answered so."""
        return sum(n for (m, status), n in self.answers.items() if status in statuses and method in (None, m))

    def text(self) -> str:
        """In one line."""
        told = ", ".join(f"{n} x {method} {status or 'lost'}" for (method, status), n in sorted(self.answers.items()))
        return f"{told}; slowest {self.slowest:.1f} s; {self.probes} liveness probes, {self.dead} failed"


class Probing:
    """Requests of every kind to the gateways, side by side, one after the other in each thread, until it ends."""

    def __init__(self, system: Disturbed, *services: str) -> None:
        """``services``: only these; all unless told."""
        self.seen = Seen()
        self._urls = system.full.urls
        self._requests = [one for one in REQUESTS if one[0] in services or not services]
        with Client(self._urls, system.folder / "probing.jsonl", Tally()) as client:
            self._tokens = {office: client.token(office)[0] for _, _, _, office, _ in REQUESTS}
        self._ending = threading.Event()
        self._pool = ThreadPoolExecutor(len(self._requests) + 1)

    def __enter__(self) -> Self:
        self._done = [self._pool.submit(self._ask, *request) for request in self._requests]
        self._done.append(self._pool.submit(self._live))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        for done in self._done:
            done.result(60)
        self._pool.shutdown()

    def _ask(self, service: str, method: str, path: str, office: str, body: object) -> None:
        with httpx.Client(base_url=self._urls[service], timeout=30) as http:
            while not self._ending.is_set():
                headers = {"Authorization": f"Bearer {self._tokens[office]}", "Maru-Office": office}
                if method == "POST":
                    headers["Idempotency-Key"] = uuid.uuid4().hex
                started = time.monotonic()
                try:
                    answer = http.request(method, path, json=body, headers=headers)
                    status = answer.status_code
                except httpx.TransportError:
                    answer, status = None, 0
                took = time.monotonic() - started
                with self.seen.lock:
                    self.seen.answers[method, status] += 1
                    self.seen.slowest = max(self.seen.slowest, took)
                    if answer is not None and status == 503:
                        self.seen.no_retry_after += "retry-after" not in answer.headers
                self._ending.wait(0.2)

    def _live(self) -> None:
        with httpx.Client(timeout=10) as http:
            while not self._ending.is_set():
                for service in {request[0] for request in self._requests}:
                    try:
                        alive = http.get(f"{self._urls[service]}/livez").status_code == 200
                    except httpx.TransportError:
                        alive = False
                    with self.seen.lock:
                        self.seen.probes += 1
                        self.seen.dead += not alive
                self._ending.wait(0.5)
