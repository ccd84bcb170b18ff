"""The loader of reference data."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest

from services.routing.reference import load
from shared.runtime.declare import Act
from tests.unit.routing.world import DATA, SEEDED, World

SHIPPED = ("regions", "megaregions", "bodies", "offices", "holders", "members", "charters", "edges")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped data that a test may spoil."""
    for name in SHIPPED:
        shutil.copy(DATA / f"{name}.csv", tmp_path)
    shutil.copy(DATA / "rules-2023.json", tmp_path)
    return tmp_path


def acts(folder: Path) -> list[tuple[str, Act]]:
    return list(load(folder, SEEDED))


def test_external_ids_are_unique_and_stable() -> None:
    ids = [external_id for external_id, _ in acts(DATA)]
    assert len(ids) == len(set(ids)) > 500
    assert ids == [external_id for external_id, _ in acts(DATA)]


def test_loading_twice_stores_everything_once() -> None:
    world = World(act for _, act in acts(DATA))
    before = {name: len(events) for name, events in world.streams.items()}
    for _, act in acts(DATA):
        assert world.put(act) == ()
    assert {name: len(events) for name, events in world.streams.items()} == before


def test_I_16_regions_of_January_2023_and_of_July_2026() -> None:
    directory = World().directory
    assert len(directory.regions(date(2023, 1, 4))) == 17
    assert len(directory.regions(date(2026, 7, 1))) == 16
    gangwon = [directory.region("gangwon", day) for day in (date(2023, 5, 8), date(2023, 6, 11))]
    assert [region and region.codes.mois for region in gangwon] == ["42", "51"]
    assert directory.successors("gwangju", date(2026, 7, 1)) == ("jeonnam-gwangju",)


@pytest.mark.capability("D5", part="no warning, breach or pause yet")
def test_I_17_the_deadlines_of_the_walk_by_the_computed_calendar() -> None:
    directory = World().directory
    rules = directory.rule_set(date(2023, 5, 8))
    assert rules is not None
    clocks = {clock.clock: clock for clock in rules.clocks}
    due = {
        "completeness": (date(2023, 5, 8), date(2023, 5, 11)),
        "council_placement": (date(2023, 5, 9), date(2023, 6, 8)),
        "opinion": (date(2023, 5, 25), date(2023, 6, 12)),
        "review": (date(2023, 5, 24), date(2023, 6, 23)),
        "support_placement": (date(2023, 6, 15), date(2023, 7, 13)),
        "forum_placement": (date(2023, 7, 6), date(2023, 10, 5)),
    }
    for clock, (start, end) in due.items():
        assert directory.deadline(start, clocks[clock]) == end, clock
    assert not directory.is_working_day(date(2023, 10, 2)), "temporary holiday"


def test_every_body_that_may_hold_a_case_has_the_office_in_charge() -> None:
    from services.routing.placement import IN_CHARGE

    directory = World().directory
    for day in (date(2023, 1, 4), date(2026, 7, 1)):
        for body in directory.bodies(day):
            assert directory.office_of(body.body, IN_CHARGE[body.kind], day), body.body


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("bodies", "x,council,R2,가,x,nowhere,,,2022-08-01,,M", "unknown parent 'nowhere'"),
        ("bodies", "x,council,R2,가,x,x,,,2022-08-01,,M", "'x' stands above itself"),
        ("bodies", "x,parliament,R2,가,x,,,,2022-08-01,,M", "kind: "),
        ("bodies", "x,council,R2,가", "as many cells"),
        ("offices", "x.secretary,nowhere,secretary,가,x,2022-08-01,,M", "unknown body 'nowhere'"),
        ("holders", "nowhere.chair,u-1,2022-08-01,,M", "unknown office 'nowhere.chair'"),
        ("members", "forum,s,가,x,land,perhaps,expert,,2023-01-04,,M", "voting: true or false"),
        ("members", "forum,s,가,x,land,true,,,2023-01-04,,M", "role: "),
        ("members", "forum,s,가,x,land,true,expert,nowhere,2023-01-04,,M", "unknown on_behalf_of 'nowhere'"),
        ("charters", "forum,c,1,-1,chair_after_hearing,adopt,7,art. 5,2023-01-04,,M", "quorum: "),
        ("edges", "e,forum,nowhere,escalate,2023-01-04,,M", "unknown to_body 'nowhere'"),
        ("regions", "x,99,99,KR-99,가,x,false,vanished,,2023-01-04,M", "unknown change 'vanished'"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(folder: Path, file: str, line: str, message: str) -> None:
    path = folder / f"{file}.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + line + "\n", encoding="utf-8")
    number = len(text.splitlines()) + 1
    with pytest.raises(ValueError, match=rf"{file}\.csv, line {number}: .*{message}"):
        acts(folder)


def test_bad_rules_are_named_by_file(folder: Path) -> None:
    (folder / "rules-2024.json").write_text('{"rule_set": "maru-rules"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"rules-2024\.json"):
        acts(folder)
