"""Dates that have passed fire once, whoever looks: the command id does it, not leadership."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.contracts.envelope import Command, Event
from shared.decider import Decider, Refused
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


def test_three_schedulers_at_once_and_again_after_a_restart_fire_each_row_once(tmp_path: Path) -> None:
    Hosted.migrate(service(), tmp_path)
    schedulers = [Hosted(service(), tmp_path) for _ in range(3)]
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
    restarted = Hosted(service(), tmp_path)
    assert not restarted.fire_due()
    assert fired(restarted) == ONCE
    restarted.stop()


def _process(folder: str, gate: object) -> None:
    hosted = Hosted(service(), Path(folder))
    gate.wait(60)  # type: ignore[attr-defined]
    hosted.fire_due()
    hosted.stop()


def test_three_processes_at_once_fire_each_row_once(tmp_path: Path) -> None:
    Hosted.migrate(service(), tmp_path)
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(3)
    processes = [context.Process(target=_process, args=(str(tmp_path), gate)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    hosted = Hosted(service(), tmp_path)
    assert fired(hosted) == ONCE
    hosted.stop()


def test_a_deadline_moved_to_another_time_is_another_firing(tmp_path: Path) -> None:
    when = [AT]
    one = replace(service(), due=lambda facts: due_by(when[0])[:1])
    Hosted.migrate(one, tmp_path)
    hosted = Hosted(one, tmp_path)
    assert hosted.fire_due()
    assert not hosted.fire_due()
    when[0] = AT + timedelta(days=1)
    assert hosted.fire_due()
    assert hosted.log.load(COPY, "case-0").state.texts == ("0", "0")
    hosted.stop()


def test_a_row_whose_command_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    def decide(state: Copy, command: Command) -> Sequence[Event]:
        raise Refused("L-3", "이미 처리되었습니다.", "It is done already.")

    refusing = Decider("Copy", Copy(), decide, COPY.evolve, COPY.commands)

    def due(facts: Facts) -> Sequence[DueRow]:
        first, *others = due_by(AT)
        return [replace(first, act=replace(first.act, decider=refusing)), *others]

    one = replace(service(), due=due)
    Hosted.migrate(one, tmp_path)
    hosted = Hosted(one, tmp_path)
    assert hosted.fire_due()
    assert sum(map(len, fired(hosted))) == DEADLINES - 1
    hosted.stop()


def test_dates_pass_on_the_business_clock(tmp_path: Path) -> None:
    date = datetime.now(UTC) + timedelta(days=30)
    first = replace(pair(None)[0], due=lambda facts: due_by(date)[:1] if facts.now >= date else [])
    Hosted.migrate(first, tmp_path)
    hosted = Hosted(first, tmp_path)
    assert not hosted.fire_due()
    hosted.submit(publish("clock", shifted(31 * 86400.0)), "clock", "clock")
    while hosted.views_follower.step():
        pass
    assert hosted.fire_due()
    hosted.stop()


@pytest.mark.parametrize("step", [0, 1, 2])
def test_killed_between_firing_and_hearing_of_it_nothing_fires_twice(tmp_path: Path, step: int) -> None:
    """The command is stored; the scheduler is gone before any view has heard of it."""
    Hosted.migrate(service(), tmp_path)
    for _ in range(step + 1):
        hosted = Hosted(service(), tmp_path)
        hosted.fire_due()
        hosted.stop()
    hosted = Hosted(service(), tmp_path)
    assert fired(hosted) == ONCE
    hosted.stop()
