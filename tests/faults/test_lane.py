"""The faults of ``test_thin``, with the numbers of reliability, section 1.3."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.faults import poison, race, shim
from tests.faults.load import plan, suggest
from tests.faults.system import BOUND, LAG, NAMES, READY, Disturbed, bound, until

pytestmark = pytest.mark.faults
Tell = Callable[[str], None]
KINDS = [
    *(f"{name}-{kind}" for kind in ("gateway", "follower") for name in NAMES),
    "issues-relay",
    "observer",
    "issuer",
]
KILLS = 5
"""Of each kind of process."""


def test_R1_processes_killed_at_random(thin: Disturbed, tell: Tell) -> None:
    chance, slowest = random.Random(1), dict.fromkeys(KINDS, 0.0)
    order = KINDS * KILLS
    chance.shuffle(order)
    with thin.load("R1", 8) as load:
        for name in order:
            slowest[name] = max(slowest[name], thin.kill(name))
            time.sleep(chance.uniform(1, 3))
        lag = thin.lag()
        tally = load.stop()

    found = thin.assert_clean()
    worst = max(slowest, key=lambda name: slowest[name])
    tell(
        f"R1: {len(order)} kills over {len(KINDS)} processes, ready again in {slowest[worst]:.1f} s at most ({worst}), "
        f"lag gone in {lag:.1f} s; {tally.text()}; {found.events} events"
    )
    assert slowest[worst] <= bound(READY)
    assert lag <= bound(LAG)


def test_R3_replies_cut_after_the_commit(thin: Disturbed, tell: Tell) -> None:
    counts = shim.cut_replies(thin, 170)

    found = thin.assert_clean()
    tell(f"R3: {counts.text()}; {found.events} events")
    assert counts.cuts >= 200
    assert counts.same == counts.commands


def test_R4_postgresql_crashes(thin: Disturbed, tell: Tell) -> None:
    down, resumed = [], []
    with thin.load("R4", 8) as load:
        for number in range(10):
            until(lambda reached=15 * number: load.tally.acknowledged >= reached, "no load")  # type: ignore[misc]
            thin.full.process("postgres").kill()
            down.append(until(thin.postgres_answers, "PostgreSQL does not come back"))
            back = time.monotonic()
            until(lambda since=back: any(at > since for at in load.tally.acknowledged_at), "writes do not resume")  # type: ignore[misc]
            resumed.append(time.monotonic() - back)
        lag = thin.lag()
        tally = load.stop()

    found = thin.assert_clean()
    tell(
        f"R4: {len(down)} crashes, server back in {max(down):.1f} s at most, writes resumed {max(resumed):.1f} s later "
        f"at most, lag gone in {lag:.1f} s; {tally.text()}; {found.events} events"
    )
    assert max(resumed) <= bound(READY)


def test_R6_outages_of_the_broker(thin: Disturbed, tell: Tell) -> None:
    broker, lags, failed, acknowledged = thin.full.process("kafka"), [], 0, 0
    for seconds in (5, 5, 6, 8, 8, 10, 12, 15, 30, 60):
        broker.keep_down()
        with (
            thin.load("R6", 1, suggest, forgetful=True) as raising,
            thin.load("R6", 1, plan, forgetful=True) as planning,
        ):
            time.sleep(seconds)
            for tally in (raising.stop(), planning.stop()):
                failed += tally.refused + tally.unknown + tally.unavailable
                acknowledged += tally.acknowledged
        broker.bring_up()
        lags.append(thin.lag())
    with thin.load("R6", 2, once=True) as after:
        tally = after.wait()

    found = thin.assert_clean()
    tell(
        f"R6: {len(lags)} outages of 5 to 60 s, {acknowledged} commands given meanwhile, {failed} not answered at "
        f"once; caught up in {max(lags):.1f} s at most; afterwards {tally.text()}; {found.events} events"
    )
    assert failed == 0
    assert max(lags) <= bound(30)


def test_R7_kafka_wiped(thin: Disturbed, tell: Tell) -> None:
    with thin.load("R7", 6) as load:
        until(lambda: len(load.tally.walks) >= 6, "no walks")
        took = [thin.wipe_and_republish() for _ in range(3)]
        tally = load.stop()

    found = thin.assert_clean()
    tell(
        f"R7: wiped {len(took)} times, all heard again in {max(took):.1f} s at most; {tally.text()}; "
        f"{found.events} events"
    )


def test_R9_bad_delivery(thin: Disturbed, tell: Tell) -> None:
    try:
        counts = shim.deliver_badly(thin, records=20_000, suggestions=400)
        found = thin.assert_clean(topics=False)
    finally:
        thin.wipe_and_republish()
    thin.assert_clean()
    tell(f"R9: {counts.text()}; {found.events} events")
    assert counts.records >= 20_000


def test_R11_poison_among_ten_thousand_records(thin: Disturbed, tell: Tell) -> None:
    counts = poison.mixed_in(thin, good=60, each=9, repeats=10_000)

    found = thin.assert_clean()
    tell(f"R11: {counts.text()}; {found.events} events")
    assert counts.kept_apart == counts.poison
    assert counts.longest <= bound(2)


def test_R11_a_reaction_that_always_fails_parks_its_key_alone(own: Disturbed, tell: Tell) -> None:
    counts = poison.failing_reactions(own, always=10, for_a_while=10, good=20)

    found = own.assert_clean()
    tell(f"R11 reactions: {counts.text()}; {found.events} events")
    assert counts.parked == counts.always
    assert counts.given_back >= counts.parked
    assert counts.longest <= bound(2)


def test_R16_sixteen_writers_on_one_case(thin: Disturbed, tell: Tell) -> None:
    counts = race.rounds(thin, writers=16, rounds=100)

    found = thin.assert_clean()
    tell(f"R16: {counts.text()}; {found.events} events")
    assert counts.wins == [1] * 100
    assert set(counts.losses) <= {409, 412}
    assert sum(counts.losses.values()) == 100 * 15


def test_R6_and_R4_at_once(thin: Disturbed, tell: Tell) -> None:
    """Both servers die together, as a machine does."""
    with thin.load("R46", 4) as load:
        until(lambda: load.tally.acknowledged >= 10, "no load")
        for name in ("kafka", "postgres"):
            thin.full.process(name).kill()
        until(thin.postgres_answers, "PostgreSQL does not come back")
        thin.full.wait_ready(seconds=BOUND)
        lag = thin.lag()
        tally = load.stop()

    found = thin.assert_clean()
    tell(f"R4 and R6 at once: lag gone in {lag:.1f} s; {tally.text()}; {found.events} events")
