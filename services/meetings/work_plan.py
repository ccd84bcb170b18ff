"""WorkPlan: the ministry's plan of a year as a tree of directions and items (section 8, G4); loaded as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from shared.contracts.envelope import Command, Event, Id, Label, Line, Text
from shared.contracts.meetings import PlanItemAdded, PlanPublished
from shared.decider import Decider, Refused


class PublishPlan(Command):
    """The plan of a year was presented."""

    year: int
    title: Label
    presented_on: date
    source: Line


class AddPlanItem(Command):
    """A direction, or an item under one."""

    year: int
    item: Id
    parent: Id | None
    name: Label
    note: Text | None = None
    valid_from: date
    valid_to: date | None = None
    source: Line


@dataclass(frozen=True)
class WorkPlan:
    """A year's plan and its items."""

    published: PlanPublished | None = None
    items: Mapping[str, PlanItemAdded] = field(default_factory=dict)


def publish_plan(state: WorkPlan, command: PublishPlan) -> list[Event]:
    """A year has one plan."""
    published = PlanPublished(
        year=command.year, title=command.title, presented_on=command.presented_on, source=command.source
    )
    if state.published is None:
        return [published]
    if state.published == published:
        return []
    raise Refused("G4", "그 해의 업무계획은 이미 공표되었습니다.", "The plan of that year has been published already.")


def add_plan_item(state: WorkPlan, command: AddPlanItem) -> list[Event]:
    """An item hangs under the plan or under an item that is there: the tree has no cycle and no orphan."""
    added = PlanItemAdded(
        year=command.year,
        item=command.item,
        parent=command.parent,
        name=command.name,
        note=command.note,
        valid_from=command.valid_from,
        valid_to=command.valid_to,
        source=command.source,
    )
    if state.published is None:
        raise Refused("G4", "그 해의 업무계획이 아직 없습니다.", "There is no plan of that year yet.")
    known = state.items.get(command.item)
    if known == added:
        return []
    if known is not None:
        raise Refused("G4", "이미 있는 추진과제입니다.", "The plan has an item of this code already.")
    if command.parent is not None and command.parent not in state.items:
        raise Refused("G4", "상위 과제가 업무계획에 없습니다.", "The item above it is not in the plan.")
    return [added]


def decide(state: WorkPlan, command: Command) -> Sequence[Event]:
    """What a command stores; raises ``Refused`` with the rule that does not allow it."""
    match command:
        case PublishPlan():
            return publish_plan(state, command)
        case AddPlanItem():
            return add_plan_item(state, command)
        case _:
            raise TypeError(f"not a command of WorkPlan: {type(command).__name__}")


def evolve(state: WorkPlan, event: Event) -> WorkPlan:
    """The state after one more fact."""
    match event:
        case PlanPublished():
            return replace(state, published=event)
        case PlanItemAdded():
            return replace(state, items={**state.items, event.item: event})
        case _:
            return state


WORK_PLAN = Decider(
    name="WorkPlan", initial=WorkPlan(), decide=decide, evolve=evolve, commands=(PublishPlan, AddPlanItem)
)
