"""A new tier and a new rule are rows of data: no line of code knows of them, and a case walks over both."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from services.routing.reference import load
from shared.contracts.envelope import Reason
from shared.contracts.routing import CaseMoved, CaseRouted, EscalatedToForum, Holding
from tests.unit.routing.world import CASE_ID, DATA, SEEDED, World, accepted, decided, raised, reviewed

BODIES = "coordination-board,support_group,R4b,균형발전조정위원회,Coordination Board,forum,,,2023-06-01,,M test\n"
OFFICES = "coordination-board.secretary,coordination-board,secretary,조정위원회 간사,Secretary,2023-06-01,,M test\n"
EDGES = """\
support-group.to-board,support-group,coordination-board,escalate,2023-06-01,,M test
coordination-board.escalate,coordination-board,forum,escalate,2023-06-01,,M test
"""
TIER = {
    "tier": "R4b",
    "state": "at_body",
    "label": {"ko": "조정위원회 논의", "en": "At the coordination board"},
    "arrival": None,
    "clock": "board_placement",
}
CLOCK = {"clock": "board_placement", "days": 15, "unit": "working"}
RULE = {
    "row": "D-bridge",
    "when": "'bridge' in tags",
    "gives": {"department": "dept-construction-policy"},
    "source": "M test: bridges concern the Construction Policy Bureau",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The shipped data with a coordination board between support group and forum from June 2023, and one rule more."""
    for path in (*DATA.glob("*.csv"), DATA / "rules-2023.json"):
        shutil.copy(path, tmp_path)
    for name, rows in {"bodies": BODIES, "offices": OFFICES, "edges": EDGES}.items():
        path = tmp_path / f"{name}.csv"
        text = path.read_text(encoding="utf-8")
        if name == "edges":  # the old way to the forum ends when the new one begins
            text = text.replace(
                "support-group.escalate,support-group,forum,escalate,2023-01-04,,",
                "support-group.escalate,support-group,forum,escalate,2023-01-04,2023-06-01,",
            )
        path.write_text(text + rows, encoding="utf-8")
    rules: dict[str, Any] = json.loads((DATA / "rules-2023.json").read_text(encoding="utf-8"))
    rules |= {"version": 2, "valid_from": "2023-06-01"}
    rules["tiers"].insert(2, TIER)
    rules["clocks"].append(CLOCK)
    next(table for table in rules["tables"] if table["table"] == "consulted_departments")["rows"].append(RULE)
    (tmp_path / "rules-2024.json").write_text(json.dumps(rules), encoding="utf-8")
    return tmp_path


def world_of(data: Path) -> World:
    return World(act for _, act in load(data, SEEDED))


BOARD = Holding(
    state="at_body",
    tier="R4b",
    body="coordination-board",
    office="coordination-board.secretary",
    due=date(2023, 8, 11),
    clock="board_placement",
)


@pytest.mark.capability("C1", "B6")
def test_a_case_walks_over_a_new_tier_and_a_new_rule(data: Path) -> None:
    world = world_of(data)
    world.on(2023, 6, 7).hear(raised(tags=("road", "bridge")))
    world.on(2023, 6, 8).hear(accepted())

    (routed,) = world.on(2023, 6, 14).hear(decided("council-gangwon", "take_for_review"))
    assert isinstance(routed, CaseRouted)
    assert routed.proposed == ("dept-planning-coordination", "dept-construction-policy")
    assert "D-bridge" in world.matched()
    trace = world.traces[-1]
    assert trace is not None
    assert trace.version == 2

    world.on(2023, 7, 5).hear(reviewed(), f"{CASE_ID}.1", case_id=CASE_ID)
    assert world.holding().tier == "R4"

    (moved,) = world.on(2023, 7, 21).hear(
        decided("support-group", "escalate", escalation="unresolved_divergence"), by="support-group.chair"
    )
    assert isinstance(moved, CaseMoved)
    assert moved.holding == BOARD
    assert moved.reason == Reason(code="unresolved_divergence", text="부서 간 이견이 조정되지 않은 사안")

    (arrived,) = world.on(2023, 8, 10).hear(
        decided("coordination-board", "escalate", escalation="general_direction"), by="coordination-board.chair"
    )
    assert isinstance(arrived, EscalatedToForum)
    assert (arrived.from_body, arrived.holding.tier) == ("coordination-board", "R5")
    assert set(moved.documents) < set(arrived.documents), "I-21"


def test_I_3_a_case_begun_under_the_old_rules_goes_by_the_edges_of_the_day_too(data: Path) -> None:
    world = world_of(data)
    world.on(2023, 5, 8).hear(raised())
    world.on(2023, 5, 9).hear(accepted())
    world.on(2023, 5, 24).hear(decided("council-gangwon", "take_for_review"))
    world.on(2023, 6, 15).hear(reviewed(), f"{CASE_ID}.1", case_id=CASE_ID)
    (moved,) = world.on(2023, 7, 21).hear(decided("support-group", "escalate", escalation="unresolved_divergence"))
    assert isinstance(moved, CaseMoved)
    assert moved.holding == BOARD
    trace = world.traces[-1]
    assert trace is not None
    assert trace.version == 1, "rules are those that the case began under; tiers and edges are facts of the day"


def test_the_old_way_still_holds_before_that_day(data: Path) -> None:
    world = world_of(data)
    assert [edge.to_body for edge in world.directory.edges("support-group", date(2023, 5, 31), "escalate")] == ["forum"]
    assert [edge.to_body for edge in world.directory.edges("support-group", date(2023, 6, 1), "escalate")] == [
        "coordination-board"
    ]
