"""Rules of the work plan, and its file of data."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.meetings.reference import load
from services.meetings.work_plan import WORK_PLAN, AddPlanItem, PublishPlan, WorkPlan
from shared.contracts.envelope import Command, Event, Label
from shared.contracts.meetings import PlanItemAdded, PlanPublished
from shared.decider import fold
from shared.runtime.declare import by_process
from shared.testing import given

AT = datetime(2023, 1, 4, 9, tzinfo=ZoneInfo("Asia/Seoul"))
SYS = by_process("planning-group", AT, "G4")
DAY = date(2023, 1, 3)

PUBLISHED_FACT = PlanPublished(
    year=2023, title=Label(ko="2023년 업무계획", en="2023 work plan"), presented_on=DAY, source="V"
)
P3 = PlanItemAdded(
    year=2023, item="P3", parent=None, name=Label(ko="교통망", en="Transport"), valid_from=DAY, source="V"
)
P3_2 = PlanItemAdded(
    year=2023, item="P3-2", parent="P3", name=Label(ko="도로망", en="Roads"), valid_from=DAY, source="V"
)
PUBLISHED: tuple[Event, ...] = (PUBLISHED_FACT,)


def command(cls: type[Command], fact: Event, **changes: Any) -> Any:
    """The command that stores this fact."""
    return cls(**SYS, **{**fact.model_dump(exclude={"type"}), **changes})


@pytest.mark.capability("G4", part="the tree and the pointers to it; unplanned demand is not measured yet")
def test_G4_a_plan_is_published_and_filled() -> None:
    published = given(WORK_PLAN).when(command(PublishPlan, PUBLISHED_FACT)).then(PUBLISHED_FACT)
    published.when(command(AddPlanItem, P3)).then(P3).when(command(AddPlanItem, P3_2)).then(P3_2)


def test_G4_a_year_has_one_plan() -> None:
    given(WORK_PLAN, *PUBLISHED).when(command(PublishPlan, PUBLISHED_FACT, source="M")).refused("G4")


def test_G4_an_item_needs_a_plan() -> None:
    given(WORK_PLAN).when(command(AddPlanItem, P3)).refused("G4")


def test_G4_an_item_hangs_under_one_that_is_there() -> None:
    given(WORK_PLAN, *PUBLISHED).when(command(AddPlanItem, P3_2)).refused("G4")


def test_G4_a_code_names_one_item() -> None:
    given(WORK_PLAN, *PUBLISHED, P3).when(command(AddPlanItem, P3, source="M")).refused("G4")


def test_the_file_of_2023_is_a_plan() -> None:
    """Every row of the shipped file is accepted, in its order, under ids that do not change."""
    data = Path(__file__).parents[3] / "data"
    plans: dict[str, WorkPlan] = {}
    ids = []
    for external_id, act in load(data, AT):
        ids.append(external_id)
        state = plans.get(act.id, WorkPlan())
        plans[act.id] = fold(WORK_PLAN, WORK_PLAN.decide(state, act.command), state)
    assert {"P1", "P2", "P3", "P3-2"} <= set(plans["2023"].items)
    assert len(ids) == len(set(ids))
    assert ids == [external_id for external_id, _ in load(data, AT)]


def test_only_commands_of_a_work_plan_are_understood() -> None:
    from services.meetings.meeting import CloseMeeting

    with pytest.raises(TypeError):
        WORK_PLAN.decide(WORK_PLAN.initial, CloseMeeting(**SYS))
