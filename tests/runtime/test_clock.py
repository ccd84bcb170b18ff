"""Two clocks: business time is real time shifted as last heard; technical waits know only real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from shared.contracts.envelope import Authority
from shared.runtime.access import Issuer
from shared.runtime.databases import Databases
from shared.runtime.declare import Act, Facts, Recorded, Wait
from shared.runtime.directory import SEOUL
from shared.runtime.hosted import Hosted, Snapshot
from shared.runtime.log import decode
from shared.runtime.loops import Progress
from tests.runtime.ledger import AT, BY, LEDGER, MakeEntry
from tests.runtime.pair import Stepped, copy_all, pair, publish, shifted

YEAR = 365 * 86400.0


@pytest.fixture
def system(place: Databases) -> Iterator[Stepped]:
    made = Stepped(place, pair())
    yield made
    made.close()


def shift(system: Stepped, seconds: float, number: int = 1) -> None:
    system.source.submit(publish("clock", shifted(seconds)), f"clock-{number}", "clock")
    system.carry()
    system.fold()


def make(system: Stepped, text: str, at: datetime, effective_at: datetime | None = None) -> None:
    command = MakeEntry(text=text, by=BY, at=at, authority=Authority(rule="test"), effective_at=effective_at)
    system.source.submit(Act(LEDGER, "a", command, key="a"), text, text)


def recorded(hosted: Hosted) -> list[Recorded]:
    return [decode(row) for row in hosted.log.after(0)]


def offset(hosted: Hosted) -> tuple[timedelta, timedelta]:
    """Between which bounds business time stands from real time: exact, however long the look takes."""
    before = datetime.now(UTC)
    with Snapshot(hosted) as facts:
        now = facts.now
    return now - datetime.now(UTC), now - before


def test_business_time_is_real_time_with_the_last_shift_heard_in_every_service(system: Stepped) -> None:
    for number, seconds in enumerate((0.0, -3 * YEAR, -2 * YEAR)):
        if number:
            shift(system, seconds, number)
        for hosted in (system.source, system.mirror):
            least, most = offset(hosted)
            assert least <= timedelta(seconds=seconds) <= most


def test_business_days_are_those_of_seoul(system: Stepped) -> None:
    with Snapshot(system.source) as facts:
        assert facts.now.tzinfo == SEOUL
        assert facts.today == facts.now.astimezone(SEOUL).date()


def test_a_shift_not_yet_heard_does_not_count(system: Stepped) -> None:
    system.source.submit(publish("clock", shifted(YEAR)), "clock", "clock")
    system.carry()
    least, _ = offset(system.mirror)
    assert least <= timedelta(0)


def test_a_reaction_never_records_earlier_than_its_cause(system: Stepped) -> None:
    """The cause comes from a service whose clock stands ahead."""
    ahead = datetime.now(UTC) + timedelta(days=400)
    make(system, "one", ahead)
    system.carry()
    system.react()
    (copy,) = recorded(system.mirror)
    assert copy.at == ahead
    make(system, "two", ahead + timedelta(seconds=1))
    system.carry()
    system.react()
    assert recorded(system.mirror)[1].at == ahead + timedelta(seconds=1)


def test_a_reaction_to_an_old_cause_records_now(system: Stepped) -> None:
    make(system, "one", AT)
    before = datetime.now(UTC)
    system.carry()
    system.react()
    assert before <= recorded(system.mirror)[0].at <= datetime.now(UTC)


def test_the_recorded_time_of_a_stream_never_goes_back(system: Stepped, place: Databases) -> None:
    later = AT + timedelta(hours=5)
    make(system, "one", later)
    make(system, "two", AT)
    other = Hosted(system.services[0], place)  # a process that has nothing in memory
    command = MakeEntry(text="three", by=BY, at=AT, authority=Authority(rule="test"))
    other.submit(Act(LEDGER, "a", command, key="a"), "three", "three")
    other.stop()
    assert [one.at for one in recorded(system.source)] == [later] * 3


def test_when_an_act_was_true_is_kept_apart_from_when_it_was_recorded(system: Stepped) -> None:
    true = AT - timedelta(days=3)
    make(system, "one", AT, effective_at=true)
    make(system, "two", AT)
    first, second = recorded(system.source)
    assert (first.envelope.effective_at, first.at) == (true, AT)
    assert second.envelope.effective_at == second.at == AT


def test_a_shifted_clock_parks_nobody_who_waits(place: Databases) -> None:
    """Waiting is technical: 60 real seconds, however far the business clock jumps meanwhile."""
    gate: list[bool] = []

    def reaction(heard: Recorded, facts: Facts) -> Sequence[Act]:
        if not gate:
            raise Wait("the gate")
        return copy_all(heard, facts)

    system = Stepped(place, pair(reaction))
    try:
        make(system, "one", AT)
        system.carry()
        system.react(2)
        shift(system, 10 * YEAR)
        system.react(2)
        assert system.states()[0] == "waiting"
        gate.append(True)
        system.react(2)
        assert system.copies("a") == ("one",)
    finally:
        system.close()


def test_a_shifted_clock_ends_no_token(system: Stepped, place: Databases) -> None:
    issuer = Issuer(place.folder, "https://issuer.example", "maru", 1)
    token = issuer.token("u-clerk")
    shift(system, 10 * YEAR)
    assert issuer.verifier().subject(f"Bearer {token}") == "u-clerk"


def test_waiting_for_a_position_is_bounded_by_real_time() -> None:
    started = time.monotonic()
    assert not asyncio.run(Progress().wait(lambda: False, 0.15))
    assert 0.15 <= time.monotonic() - started < 5
