"""Records that no relay of ours has made, mixed into a topic while others go on."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.walk import RAISER
from shared.runtime.jobs import Unread
from shared.runtime.kafka import Outgoing
from shared.runtime.log import EventLog
from shared.runtime.records import MAX_BYTES, to_record
from tests.faults.launch import ALWAYS, FOR_A_WHILE
from tests.faults.load import SUGGESTION
from tests.faults.system import NAMES, Disturbed, until
from tests.kafka.driving import send


@dataclass
class Counts:
    """Poison published, what of it is accounted for with its cause, and how long others waited."""

    poison: int = 0
    kept_apart: int = 0
    causes: int = 0
    repeats: int = 0
    good: int = 0
    longest: float = 0.0

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.poison} poisonous records over all who hear them, {self.kept_apart} kept apart under "
            f"{self.causes} causes, among {self.repeats} repeated ones; {self.good} suggestions meanwhile, raised and "
            f"shown elsewhere in {self.longest:.2f} s at most"
        )


def kinds(row: Unread, foreign: Unread) -> list[Outgoing]:
    """One of each kind, made of an event of the topic and of one of another service."""
    one = to_record(row)
    headers = dict(one.headers)
    document = json.loads(row.raw)
    return [
        one._replace(value=b"\x00\xff\xfe not JSON"),
        one._replace(value=pickle.dumps({"os": "system"})),
        one._replace(value=json.dumps({**document, "data": 7}).encode()),
        one._replace(value=json.dumps({"type": document["type"]}).encode()),
        one._replace(headers=list({**headers, "ce_type": b"maru.issues.NeverHeardOf.v1"}.items())),
        one._replace(headers=[]),
        to_record(foreign)._replace(partition=one.partition),
        one._replace(key=b"somebody-else"),
        one._replace(value=b" " * (MAX_BYTES + 1)),
        one._replace(value=b""),
        one._replace(key=b""),
        to_record(replace(row, epoch=0)),
    ]


def _rejected(system: Disturbed) -> int:
    return sum(system.service(name).log.query("SELECT COUNT(*) FROM rejected")[0][0] for name in NAMES)


def mixed_in(system: Disturbed, good: int, each: int, repeats: int = 0) -> Counts:
    """Poison goes into the topic of issues, so often each kind, among so many repeats of what is there.

    Meanwhile suggestions are raised, and read as cases elsewhere.
    """
    counts = Counts()
    hearing = [name for name in NAMES if "issues" in system.service(name).service.hears]
    known = [to_record(row) for row in system.service("issues").log.after(0, 1000)]
    issue, case = system.service("issues").log.after(0, 1)[0], system.service("routing").log.after(0, 1)[0]
    before = _rejected(system)
    rounds = max(1, good // each)
    with system.client("R11") as client:
        office, reader = client.office(f"{RAISER}.officer"), client.office("planning-group.secretary")
        for number in range(good):
            if number % rounds == 0 and counts.poison < each * len(kinds(issue, case)) * len(hearing):
                bad = kinds(issue, case)
                again = [known[at % len(known)] for at in range(repeats // each)]
                send(system.full.kafka.bootstrap, [*again, *bad])
                counts.repeats += len(again)
                counts.poison += len(bad) * len(hearing)
            started = time.monotonic()
            raised = office.post("/v1/issues", SUGGESTION)
            reader.get(f"/v1/cases/{raised.id}")
            counts.longest = max(counts.longest, time.monotonic() - started)
            counts.good += 1
    until(lambda: _rejected(system) - before >= counts.poison, "poison is not accounted for")
    counts.kept_apart = _rejected(system) - before
    causes = {row[0] for name in hearing for row in system.service(name).log.query("SELECT cause FROM rejected")}
    counts.causes = len(causes)
    return counts


@dataclass
class Parked:
    """Suggestions whose reaction fails for good, or at first, and those of others."""

    always: int = 0
    for_a_while: int = 0
    good: int = 0
    parked: int = 0
    given_back: int = 0
    longest: float = 0.0

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.always} events failed always and {self.parked} were parked, {self.for_a_while} failed at first and "
            f"went through, {self.given_back} given back by the command; {self.good} others meanwhile in "
            f"{self.longest:.2f} s at most"
        )


def failing_reactions(system: Disturbed, always: int, for_a_while: int, good: int) -> Parked:
    """Routing's reaction to some suggestions raises, as ``launch`` has it; others go on; then its cause is mended."""
    counts = Parked(always, for_a_while, good)
    fuses = system.on_fuses("routing-follower")
    failing = fuses.folder / "failing"
    failing.write_text("")
    log = system.service("routing").log
    with system.client("R11") as client:
        office, reader = client.office(f"{RAISER}.officer"), client.office("planning-group.secretary")
        for title in _mixed(always, for_a_while, good):
            started = time.monotonic()
            raised = office.post("/v1/issues", SUGGESTION | ({} if title is None else {"title": title}))
            if title is None:
                reader.get(f"/v1/cases/{raised.id}")
                counts.longest = max(counts.longest, time.monotonic() - started)
            else:
                # Nobody may wait for what is not going to happen.
                client.positions.clear()
    until(lambda: _parked(log) >= always, "what fails always is not parked")
    until(lambda: log.query("SELECT COUNT(*) FROM inbox WHERE state = 'waiting'")[0][0] == 0, "others do not go on")
    counts.parked = len(log.query("SELECT DISTINCT key FROM inbox WHERE state = 'parked'"))
    failing.unlink()
    system.maru("parked", "list")
    counts.given_back = json.loads(system.maru("parked", "replay"))["given_back"]
    return counts


def _mixed(always: int, for_a_while: int, good: int) -> Iterable[str | None]:
    titles: list[str | None] = [*[ALWAYS] * always, *[FOR_A_WHILE] * for_a_while, *[None] * good]
    # Spread over each other, the same each time.
    return [titles[(at * 7) % len(titles)] for at in range(len(titles))] if len(titles) % 7 else titles


def _parked(log: EventLog) -> int:
    return len(log.query("SELECT DISTINCT key FROM inbox WHERE state = 'parked'"))
