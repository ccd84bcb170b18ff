"""Dates that have passed fire once, whoever looks: the command id does it, not leadership."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.contracts.envelope import Command, Event
from shared.decider import Decider, Refused
from shared.runtime.databases import Databases
from shared.runtime.declare import Act, DueRow, Facts, Service, by_process
from shared.runtime.hosted import Hosted
from tests.runtime.ledger import AT
from tests.runtime.pair import COPY, Copy, CopyEntry, pair, publish, shifted

DEADLINES = 20


def due_by(when: datetime) -> Sequence[DueRow]:
    """Every deadline that has passed; two of them on one stream."""
    return [
        DueRow(
            f"deadline-{number}",
            when,
            Act(COPY, f"case-{number // 2}", CopyEntry(text=f"{number}", **by_process("mirror", AT, "T-11")), key="k"),
        )
        for number in range(DEADLINES)
    ]


def always(facts: Facts) -> Sequence[DueRow]:
    """A view that never hears that its rows were fired: they come back each time."""
    return due_by(AT)


def service() -> Service:
    return replace(pair(None)[1], due=always)


def fired(hosted: Hosted) -> list[tuple[str, ...]]:
    states: list[Copy] = [hosted.log.load(COPY, f"case-{number}").state for number in range(DEADLINES // 2)]
    return [tuple(sorted(state.texts)) for state in states]


ONCE = [tuple(sorted((str(2 * number), str(2 * number + 1)))) for number in range(DEADLINES // 2)]


def test_three_schedulers_at_once_and_again_after_a_restart_fire_each_row_once(place: Databases) -> None:
    Hosted.migrate(service(), place)
    schedulers = [Hosted(service(), place) for _ in range(3)]
    gate = threading.Barrier(3)
    faults: list[BaseException] = []

    def fire(hosted: Hosted) -> None:
        try:
            gate.wait(10)
            for _ in range(3):
                hosted.fire_due()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=fire, args=(hosted,)) for hosted in schedulers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert fired(schedulers[0]) == ONCE
    for hosted in schedulers:
        hosted.stop()
    restarted = Hosted(service(), place)
    assert not restarted.fire_due()
    assert fired(restarted) == ONCE
    restarted.stop()


def _process(place: Databases, gate: object) -> None:
    hosted = Hosted(service(), place)
    gate.wait(60)  # type: ignore[attr-defined]
    hosted.fire_due()
    hosted.stop()


def test_three_processes_at_once_fire_each_row_once(place: Databases) -> None:
    Hosted.migrate(service(), place)
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(3)
    processes = [context.Process(target=_process, args=(place, gate)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    hosted = Hosted(service(), place)
    assert fired(hosted) == ONCE
    hosted.stop()


def test_a_deadline_moved_to_another_time_is_another_firing(place: Databases) -> None:
    when = [AT]
    one = replace(service(), due=lambda facts: due_by(when[0])[:1])
    Hosted.migrate(one, place)
    hosted = Hosted(one, place)
    assert hosted.fire_due()
    assert not hosted.fire_due()
    when[0] = AT + timedelta(days=1)
    assert hosted.fire_due()
    assert hosted.log.load(COPY, "case-0").state.texts == ("0", "0")
    hosted.stop()


def test_a_row_whose_command_is_refused_holds_up_no_other(place: Databases) -> None:
    def decide(state: Copy, command: Command) -> Sequence[Event]:
        raise Refused("L-3", "이미 처리되었습니다.", "It is done already.")

    refusing = Decider("Copy", Copy(), decide, COPY.evolve, COPY.commands)

    def due(facts: Facts) -> Sequence[DueRow]:
        first, *others = due_by(AT)
        return [replace(first, act=replace(first.act, decider=refusing)), *others]

    one = replace(service(), due=due)
    Hosted.migrate(one, place)
    hosted = Hosted(one, place)
    assert hosted.fire_due()
    assert sum(map(len, fired(hosted))) == DEADLINES - 1
    hosted.stop()


def test_dates_pass_on_the_business_clock(place: Databases) -> None:
    date = datetime.now(UTC) + timedelta(days=30)
    first = replace(pair(None)[0], due=lambda facts: due_by(date)[:1] if facts.now >= date else [])
    Hosted.migrate(first, place)
    hosted = Hosted(first, place)
    assert not hosted.fire_due()
    hosted.submit(publish("clock", shifted(31 * 86400.0)), "clock", "clock")
    while hosted.views_follower.step():
        pass
    assert hosted.fire_due()
    hosted.stop()


@pytest.mark.parametrize("step", [0, 1, 2])
def test_killed_between_firing_and_hearing_of_it_nothing_fires_twice(place: Databases, step: int) -> None:
    """The command is stored; the scheduler is gone before any view has heard of it."""
    Hosted.migrate(service(), place)
    for _ in range(step + 1):
        hosted = Hosted(service(), place)
        hosted.fire_due()
        hosted.stop()
    hosted = Hosted(service(), place)
    assert fired(hosted) == ONCE
    hosted.stop()
