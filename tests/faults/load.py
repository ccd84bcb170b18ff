"""Load J of the fault tests: concurrent walks over HTTP, every request and outcome journalled and counted.

A command whose outcome is unknown, or that was answered 503, is repeated with the same key until it is answered, for
``PATIENCE`` at most; what a client is told in the end stands in its journal, for the audit to compare (I1, I11).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from services.client import Done, Maru, Problem
from services.walk import COUNCIL, RAISER, Walk

PATIENCE = 240.0
"""How long a client repeats a request, seconds: longer than any fault of these tests."""
ROAD = "dept-road"
SUGGESTION = {
    "title": "국도 56호선 선형 개량",
    "text": "급커브 구간의 개량을 건의합니다.",
    "regions": ["gangwon"],
    "raised_by": RAISER,
    "channel": "letter",
    "plan_item": "P3-2",
    "tags": ["road"],
}


@dataclass
class Tally:
    """What the clients of one load were told."""

    acknowledged: int = 0
    refused: int = 0
    """Answers of 4xx that were final."""
    unknown: int = 0
    """Tries whose connection was lost."""
    unavailable: int = 0
    """Tries that were answered 503."""
    settled: int = 0
    """Commands with at least one try of unknown outcome that were answered in the end."""
    reads: int = 0
    outage_of_writers: float = 0.0
    """The longest time from a command's first try to its answer, where a try had failed; seconds."""
    outage_of_readers: float = 0.0
    slowest: float = 0.0
    """The longest single try that was answered, seconds."""
    no_retry_after: int = 0
    """Answers of 503 without ``Retry-After``."""
    walks: list[float] = field(default_factory=list)
    """Durations of the walks that went through, seconds."""
    acknowledged_at: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def text(self) -> str:
        """The counts in one line."""
        longest = max(self.walks, default=0.0)
        return (
            f"commands {self.acknowledged} acknowledged, {self.refused} refused, {self.unknown} lost replies, "
            f"{self.unavailable} x 503, {self.settled} unknown then answered; reads {self.reads}; "
            f"walks {len(self.walks)}, longest {longest:.1f} s; "
            f"outage writers {self.outage_of_writers:.1f} s, readers {self.outage_of_readers:.1f} s"
        )


class Client(Maru):
    """One client that counts what it is told. For one thread."""

    def __init__(
        self,
        urls: str | Mapping[str, str],
        journal: Path,
        tally: Tally,
        *,
        patience: float = PATIENCE,
        forgetful: bool = False,
    ) -> None:
        """``forgetful``: sends no position tokens, so that it waits for nothing but what it writes to."""
        super().__init__(urls, journal, wait=4, patience=patience)
        self._tally = tally
        self._forgetful = forgetful
        self._lost = self._unavailable = 0

    def send(self, office: str, method: str, path: str, **request: Any) -> httpx.Response:
        """One request, as any client sends it; counted."""
        started, lost, unavailable = time.monotonic(), self._lost, self._unavailable
        answer = super().send(office, method, path, **request)
        took, tally = time.monotonic() - started, self._tally
        troubled = self._lost > lost or self._unavailable > unavailable
        with tally.lock:
            if method == "GET":
                tally.reads += 1
                tally.outage_of_readers = max(tally.outage_of_readers, took if troubled else 0.0)
            elif answer.status_code < 500:
                accepted = answer.status_code < 400
                tally.acknowledged += accepted
                tally.refused += not accepted
                tally.settled += self._lost > lost
                tally.outage_of_writers = max(tally.outage_of_writers, took if troubled else 0.0)
                if accepted:
                    tally.acknowledged_at.append(time.monotonic())
        return answer

    def _note(self, office: str, key: str | None, path: str, outcome: str, answer: httpx.Response | None) -> None:
        super()._note(office, key, path, outcome, answer)
        with self._tally.lock:
            if answer is None:
                self._lost += 1
                self._tally.unknown += 1
                return
            self._tally.slowest = max(self._tally.slowest, answer.elapsed.total_seconds())
            self._tally.statuses[answer.status_code] = self._tally.statuses.get(answer.status_code, 0) + 1
            if answer.status_code == 503:
                self._unavailable += 1
                self._tally.unavailable += 1
                self._tally.no_retry_after += "retry-after" not in answer.headers

    def _remember(self, position: str) -> None:
        if not self._forgetful:
            super()._remember(position)


Work = Callable[[Client, Tally], None]


def walk(client: Client, tally: Tally) -> None:
    """One walk, whole: raised, discussed, escalated, adopted, told, carried out."""
    started = time.monotonic()
    whole = Walk(client, dated=False)
    whole.run()
    assert whole.outcome.told
    with tally.lock:
        tally.walks.append(time.monotonic() - started)


def suggest(client: Client, tally: Tally) -> None:
    """A suggestion: one command to one service."""
    client.office(f"{RAISER}.officer").post("/v1/issues", SUGGESTION)


def suggest_and_see(client: Client, tally: Tally) -> None:
    """A suggestion, read back as a case of the next service: no faster than what carries it."""
    office = client.office(f"{RAISER}.officer")
    case = office.post("/v1/issues", SUGGESTION).id
    assert office.get(f"/v1/cases/{case}")["case_id"] == case


def plan(client: Client, tally: Tally) -> None:
    """A sitting is planned: one command to one service."""
    body = {"body": COUNCIL, "day": "2023-01-04", "place": "홍천군청", "form": "on_site"}
    client.office(f"{COUNCIL}.secretary").post("/v1/meetings", body)


def in_work(client: Client) -> str:
    """A case that was decided on site and is being carried out: any number of reports may follow. Gives its id."""
    acts = Walk(client, dated=False)
    acts.raise_and_accept()
    meeting = acts._plan(COUNCIL, (1, 4), "홍천군청", (1, 4))
    version = acts._sit(COUNCIL, meeting, seats=None)
    fields = {
        "reason": {"code": "heard", "text": "현장에서 확인하고 의견을 들었습니다."},
        "owner": ROAD,
        "due": date(acts._today.year + 1, 6, 28).isoformat(),
    }
    version = acts._decide(
        COUNCIL, meeting, version, "resolves it on site", {"code": "resolved_on_site", "fields": fields}
    )
    acts._finish(COUNCIL, meeting, version)
    acts._case()
    return acts.outcome.case_id


def report(client: Client, case_id: str, text: str, version: int, key: str | None = None) -> Done:
    """A report on a case that is being carried out. Raises ``Problem``."""
    path = f"/v1/cases/{case_id}/implementation-reports"
    body = {"text": text, "evidence": ["착공 보고"]}
    return client.office(f"{ROAD}.reviewer").post(path, body, version=version, key=key)


class Load:
    """Clients at work, each in a thread, one piece of work after the other until ``stop``."""

    def __init__(
        self,
        urls: Mapping[str, str],
        folder: Path,
        name: str,
        clients: int,
        work: Work = walk,
        *,
        once: bool = False,
        forgetful: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        """``once``: each does one piece. ``folder``: of the journals, which are named ``name`` and a number."""
        self.tally = Tally()
        self.errors: list[str] = []
        self.journals = [folder / f"{name}-{number}.jsonl" for number in range(clients)]
        self._urls, self._work, self._once = urls, work, once
        self._forgetful, self._patience = forgetful, patience
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(journal,), name=journal.stem) for journal in self.journals
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._join()

    def stop(self) -> Tally:
        """Let each finish what it is at; fails where one met an error."""
        self._ending.set()
        self._join()
        assert self.errors == [], self.errors[:3]
        return self.tally

    def wait(self) -> Tally:
        """Where each does one piece: until all have."""
        self._join()
        assert self.errors == [], self.errors[:3]
        return self.tally

    def _join(self) -> None:
        end = time.monotonic() + 3 * PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} hangs"

    def _client(self, journal: Path) -> None:
        try:
            with Client(self._urls, journal, self.tally, patience=self._patience, forgetful=self._forgetful) as client:
                while True:
                    self._work(client, self.tally)
                    if self._once or self._ending.is_set():
                        return
        except (Problem, httpx.TransportError, AssertionError, LookupError) as error:
            self.errors.append(f"{journal.stem}: {type(error).__name__}: {error}")
