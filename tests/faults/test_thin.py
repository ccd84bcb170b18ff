"""Faults of reliability, section 1.3, thin: one full system, disturbed in turn, audited after each."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.faults import poison, race, shim
from tests.faults.load import plan, suggest
from tests.faults.system import LAG, READY, Disturbed, bound, until

Tell = Callable[[str], None]
KINDS = ("issues-gateway", "routing-follower", "issues-relay", "observer", "issuer")


def test_R1_each_kind_of_process_killed(thin: Disturbed, tell: Tell) -> None:
    with thin.load("R1", 3) as load:
        ready = {name: thin.kill(name) for name in KINDS}
        lag = thin.lag()
        tally = load.stop()

    found = thin.assert_clean()
    slowest = max(ready, key=lambda name: ready[name])
    tell(
        f"R1: {len(ready)} kills, ready again in {max(ready.values()):.1f} s at most ({slowest}), lag gone in "
        f"{lag:.1f} s; {tally.text()}; {found.events} events"
    )
    assert max(ready.values()) <= bound(READY)
    assert lag <= bound(LAG)


def test_R3_the_reply_is_cut_after_the_commit(thin: Disturbed, tell: Tell) -> None:
    counts = shim.cut_replies(thin, 25)

    found = thin.assert_clean()
    tell(f"R3: {counts.text()}; {found.events} events")
    assert counts.same == counts.commands
    assert counts.cuts >= counts.commands


def test_R4_postgresql_killed(thin: Disturbed, tell: Tell) -> None:
    down, resumed = [], []
    with thin.load("R4", 3) as load:
        for _ in range(2):
            thin.full.process("postgres").kill()
            down.append(until(thin.postgres_answers, "PostgreSQL does not come back"))
            back = time.monotonic()
            until(lambda since=back: any(at > since for at in load.tally.acknowledged_at), "writes do not resume")  # type: ignore[misc]
            resumed.append(time.monotonic() - back)
        tally = load.stop()

    found = thin.assert_clean()
    tell(
        f"R4: {len(down)} crashes, server back in {max(down):.1f} s at most, writes resumed {max(resumed):.1f} s "
        f"later at most; {tally.text()}; {found.events} events"
    )
    assert max(resumed) <= bound(READY)


def test_R6_the_broker_killed_and_writes_stay_available(thin: Disturbed, tell: Tell) -> None:
    broker = thin.full.process("kafka")
    broker.keep_down()
    with thin.load("R6", 1, suggest, forgetful=True) as raising, thin.load("R6", 1, plan, forgetful=True) as planning:
        until(lambda: min(len(one.tally.acknowledged_at) for one in (raising, planning)) >= 25, "writes stand still")
        tallies = [raising.stop(), planning.stop()]
    broker.bring_up()
    lag = thin.lag()

    found = thin.assert_clean()
    acknowledged = sum(tally.acknowledged for tally in tallies)
    failed = sum(tally.refused + tally.unknown + tally.unavailable for tally in tallies)
    tell(
        f"R6: 1 outage, {acknowledged} commands given, {failed} not answered at once; caught up in {lag:.1f} s; "
        f"{found.events} events"
    )
    assert failed == 0
    assert lag <= bound(30)


def test_R7_kafka_wiped_and_published_again(thin: Disturbed, tell: Tell) -> None:
    with thin.load("R7", 2) as load:
        took = thin.wipe_and_republish()
        tally = load.stop()

    found = thin.assert_clean()
    tell(f"R7: wiped once, all heard again in {took:.1f} s; {tally.text()}; {found.events} events")


def test_R9_repeats_swaps_and_replays_change_no_effect(thin: Disturbed, tell: Tell) -> None:
    try:
        counts = shim.deliver_badly(thin, records=3_000)
        found = thin.assert_clean(topics=False)
    finally:
        # What the topic holds now is our own doing, its order above all: it is thrown away.
        thin.wipe_and_republish()
    thin.assert_clean()
    tell(f"R9: {counts.text()}; {found.events} events")
    assert min(counts.repeats, counts.swaps, counts.replayed, counts.foreign) > 0


def test_R11_poison_is_kept_apart_and_stops_nobody(thin: Disturbed, tell: Tell) -> None:
    counts = poison.mixed_in(thin, good=15, each=5)

    found = thin.assert_clean()
    tell(f"R11: {counts.text()}; {found.events} events")
    assert counts.kept_apart == counts.poison
    assert counts.longest <= bound(2)


def test_R16_sixteen_writers_on_one_case(thin: Disturbed, tell: Tell) -> None:
    counts = race.rounds(thin, writers=16, rounds=8)

    found = thin.assert_clean()
    tell(f"R16: {counts.text()}; {found.events} events")
    assert counts.wins == [1] * 8
    assert set(counts.losses) <= {409, 412}
    assert sum(counts.losses.values()) == 8 * 15
