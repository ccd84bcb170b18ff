"""Records that no relay of ours has made, mixed into a topic while others go on."""

from __future__ import annotations

import json
import pickle
import time
from dataclasses import dataclass, replace

from services.walk import RAISER
from shared.runtime.kafka import Outgoing
from shared.runtime.log import Unread
from shared.runtime.records import MAX_BYTES, to_record
from tests.faults.load import SUGGESTION
from tests.faults.system import NAMES, Disturbed, until
from tests.kafka.driving import send


@dataclass
class Counts:
    """Poison published, what of it is accounted for with its cause, and how long others waited."""

    poison: int = 0
    kept_apart: int = 0
    causes: int = 0
    good: int = 0
    longest: float = 0.0

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.poison} poisonous records over all who hear them, {self.kept_apart} kept apart under "
            f"{self.causes} causes; {self.good} good ones meanwhile, raised and shown elsewhere in "
            f"{self.longest:.2f} s at most"
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


def mixed_in(system: Disturbed, good: int, each: int) -> Counts:
    """Poison goes into the topic of issues, so often each kind; meanwhile suggestions are raised and read as cases."""
    counts = Counts()
    hearing = [name for name in NAMES if "issues" in system.service(name).service.hears]
    issue, case = system.service("issues").log.after(0, 1)[0], system.service("routing").log.after(0, 1)[0]
    before = _rejected(system)
    rounds = max(1, good // each)
    with system.client("R11") as client:
        office, reader = client.office(f"{RAISER}.officer"), client.office("planning-group.secretary")
        for number in range(good):
            if number % rounds == 0 and counts.poison < each * len(kinds(issue, case)) * len(hearing):
                bad = kinds(issue, case)
                send(system.full.kafka.bootstrap, bad)
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
