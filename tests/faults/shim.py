"""Between gateway and PostgreSQL: replies cut after the commit. Between relay and carriers: repeats, swaps, replays."""

from __future__ import annotations

import random
import threading
import uuid
from dataclasses import dataclass

from services.walk import RAISER
from shared.runtime.jobs import Unread
from shared.runtime.kafka import Outgoing
from shared.runtime.records import to_record
from tests.faults.load import SUGGESTION, Tally, suggest
from tests.faults.system import BOUND, Disturbed, until
from tests.kafka.driving import saved, send


@dataclass
class Cuts:
    """Commands given, replies cut after a commit, tries that the client saw fail, and repeats with the first answer."""

    commands: int = 0
    cuts: int = 0
    seen: int = 0
    same: int = 0

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.cuts} replies of COMMIT cut over {self.commands} commands, {self.seen} of them seen by the client, "
            f"{self.same} of {self.commands} repeats got the first answer"
        )


class Cutter:
    """Cuts the connection instead of passing the reply of a commit on, so many times in a row once armed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0
        self.cuts = 0

    def arm(self, times: int) -> None:
        """From now on."""
        with self._lock:
            self._left = times

    def __call__(self, data: bytes, from_server: bool) -> bool:
        """What ``Proxy.watch`` asks. The commit of a mere NOTIFY is let through: nothing is stored in it."""
        if not from_server or b"COMMIT\x00" not in data or b"NOTIFY\x00" in data:
            return True
        with self._lock:
            if not self._left:
                return True
            self._left -= 1
            self.cuts += 1
            return False


def cut_replies(system: Disturbed, commands: int) -> Cuts:
    """The reply of each command's commit is cut once, of every fifth so often that the gateway cannot answer."""
    counts, cutter = Cuts(), Cutter()
    with system.postgres_proxy() as proxy:
        system.reroute("issues-gateway", system.through("issues", proxy))
        proxy.watch = cutter
        try:
            tally = Tally()
            with system.client("R3", tally) as client:
                office = client.office(f"{RAISER}.officer")
                for number in range(commands):
                    key = uuid.uuid4().hex
                    cutter.arm(3 if number % 5 == 4 else 1)
                    first = office.post("/v1/issues", SUGGESTION, key=key)
                    cutter.arm(0)
                    counts.commands += 1
                    counts.same += office.post("/v1/issues", SUGGESTION, key=key) == first
        finally:
            proxy.watch = lambda data, from_server: True
            system.reroute("issues-gateway", None)
    counts.cuts, counts.seen = cutter.cuts, tally.unavailable + tally.unknown
    return counts


@dataclass
class Deliveries:
    """Records that were published instead of the relay's, and how."""

    records: int = 0
    repeats: int = 0
    swaps: int = 0
    replayed: int = 0
    foreign: int = 0

    def text(self) -> str:
        """In one line."""
        return (
            f"{self.records} records, of them {self.repeats} repeats, {self.swaps} swaps within 50, "
            f"{self.replayed} replayed in old blocks, {self.foreign} under another key"
        )


def badly(rows: list[Unread], records: int, counts: Deliveries, chance: random.Random) -> list[Outgoing]:
    """Every row at least once: 20 % twice, 20 % swapped within 50, old blocks again, 1 % also under another key."""
    rows = list(rows)
    for number in range(len(rows)):
        other = min(number + chance.randint(1, 50), len(rows) - 1)
        if other != number and chance.random() < 0.2:
            rows[number], rows[other] = rows[other], rows[number]
            counts.swaps += 1
    made = [to_record(row) for row in rows]
    given: list[Outgoing] = []
    while len(given) < records:
        for number, record in enumerate(made):
            given.append(record)
            if chance.random() < 0.2:
                given.append(record)
                counts.repeats += 1
            if chance.random() < 0.05:
                block = made[max(0, number - chance.randint(1, 50)) : number]
                given += block
                counts.replayed += len(block)
            if chance.random() < 0.01 or number == 0:
                given.append(record._replace(key=b"another-key"))
                counts.foreign += 1
    counts.records = len(given)
    return given


def deliver_badly(system: Disturbed, records: int, suggestions: int = 60) -> Deliveries:
    """The relay of issues is down; somebody else publishes what it would, badly; then it publishes everything again."""
    counts = Deliveries()
    relay, log = system.full.process("issues-relay"), system.service("issues").log
    assert system.opened.idle()
    relay.keep_down()
    before = saved(log)
    tallies = []
    with system.load("R9", 2, suggest, forgetful=True) as load:
        until(lambda: load.tally.acknowledged >= suggestions, "no suggestions")
        tallies.append(load.stop())
    rows = log.after(before, 100_000)
    assert len(rows) >= suggestions
    send(system.full.kafka.bootstrap, badly(rows, records, counts, random.Random(9)))
    assert system.opened.idle(), "what was delivered badly is not heard"
    relay.bring_up()
    system.full.wait_ready(["issues-relay"], seconds=BOUND)
    until(lambda: saved(log) == log.last_position(), "the relay does not publish")
    return counts
