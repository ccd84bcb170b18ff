"""RegionRegister: which regions exist when, under which codes, and in which megaregions (I-1, I-15, I-16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from pydantic import Field

from shared.contracts.envelope import Command, Event, Fact, Id, Label, Line
from shared.contracts.reference import (
    Megaregion,
    RegionCodes,
    RegionGroupingPublished,
    RegionRecoded,
    RegionRegistered,
    RegionSucceeded,
)
from shared.decider import Decider, Refused

REGISTER = "korea"
"""Id of the one register."""


class RegisterRegionBody(Fact):
    """A region as it is entered."""

    region: Id
    codes: RegionCodes
    name: Label
    capital_area: bool = False
    valid_from: date
    source: Line


class RegisterRegion(RegisterRegionBody, Command):
    """A region exists from a day on."""


class RecodeRegionBody(Fact):
    """The new code and name."""

    region: Id
    codes: RegionCodes
    name: Label
    valid_from: date
    source: Line


class RecodeRegion(RecodeRegionBody, Command):
    """The same region has another code or name from a day on."""


class SucceedRegionBody(Fact):
    """Which region ends, and what it becomes."""

    region: Id
    successors: tuple[Id, ...] = Field(min_length=1)
    valid_from: date
    source: Line


class SucceedRegion(SucceedRegionBody, Command):
    """A region ends on a day and names its successors."""


class PublishGroupingBody(Fact):
    """A scheme of megaregions as it is entered."""

    grouping: Id
    name: Label
    megaregions: tuple[Megaregion, ...] = Field(min_length=1)
    valid_from: date
    valid_to: date | None = None
    source: Line


class PublishGrouping(PublishGroupingBody, Command):
    """A scheme of megaregions is valid between two days."""


@dataclass(frozen=True)
class State:
    """Everything entered so far."""

    registered: tuple[RegionRegistered, ...] = ()
    recoded: tuple[RegionRecoded, ...] = ()
    succeeded: tuple[RegionSucceeded, ...] = ()
    groupings: tuple[RegionGroupingPublished, ...] = ()

    def begun(self, region: str) -> date | None:
        """The region's first day, or ``None`` where it is unknown."""
        return next((fact.valid_from for fact in self.registered if fact.region == region), None)

    def ended(self, region: str) -> date | None:
        """The day from which the region no longer exists."""
        return next((fact.valid_from for fact in self.succeeded if fact.region == region), None)

    def descendants(self, region: str) -> set[str]:
        """Everything that the region has become, directly or later."""
        found: set[str] = set()
        waiting = [region]
        while waiting:
            of = waiting.pop()
            for fact in self.succeeded:
                if fact.region == of:
                    waiting += [new for new in fact.successors if new not in found]
                    found |= set(fact.successors)
        return found


def decide(state: State, command: Command) -> Sequence[Event]:
    """What a command stores; raises ``Refused``."""
    match command:
        case RegisterRegion():
            return register_region(state, command)
        case RecodeRegion():
            return recode_region(state, command)
        case SucceedRegion():
            return succeed_region(state, command)
        case PublishGrouping():
            return publish_grouping(state, command)
        case _:
            raise AssertionError(f"RegionRegister does not understand {type(command).__name__}")


def register_region(state: State, command: RegisterRegion) -> Sequence[Event]:
    """A region is entered once; a change is a recoding or a succession (I-16)."""
    event = command.as_event(RegionRegistered)
    if event in state.registered:
        return []
    if state.begun(command.region) is not None:
        raise _rewritten()
    return [event]


def recode_region(state: State, command: RecodeRegion) -> Sequence[Event]:
    """I-16: the same region under another code, while it exists."""
    event = command.as_event(RegionRecoded)
    if event in state.recoded:
        return []
    _exists(state, command.region, command.valid_from)
    if any(fact.region == command.region and fact.valid_from == command.valid_from for fact in state.recoded):
        raise _rewritten()
    return [event]


def succeed_region(state: State, command: SucceedRegion) -> Sequence[Event]:
    """I-15: every region that ends names successors that are entered, and succession makes no circle."""
    event = command.as_event(RegionSucceeded)
    if event in state.succeeded:
        return []
    if state.ended(command.region) is not None:
        raise _rewritten()
    _exists(state, command.region, command.valid_from)
    for successor in command.successors:
        if successor == command.region or command.region in state.descendants(successor):
            raise Refused(
                "I-15",
                "지역의 승계가 순환할 수 없습니다.",
                "The succession of regions cannot go in a circle.",
            )
        begun, ended = state.begun(successor), state.ended(successor)
        if begun is None or begun > command.valid_from or (ended is not None and ended <= command.valid_from):
            raise Refused(
                "I-15",
                "승계하는 지역이 그 날짜에 존재하지 않습니다.",
                "A successor does not exist on that day.",
            )
    return [event]


def publish_grouping(state: State, command: PublishGrouping) -> Sequence[Event]:
    """I-15: regions that are entered, each in one megaregion; of those valid on a day the latest begun applies."""
    event = command.as_event(RegionGroupingPublished)
    if event in state.groupings:
        return []
    if any(fact.grouping == command.grouping for fact in state.groupings):
        raise _rewritten()
    if command.valid_to is not None and command.valid_to <= command.valid_from:
        raise Refused("I-15", "유효기간의 끝은 시작보다 뒤여야 합니다.", "A validity must end after it begins.")
    # An open grouping is followed, not ended: which of two applies must follow from their first days.
    if any(fact.valid_from == command.valid_from for fact in state.groupings):
        raise Refused(
            "I-15",
            "같은 날에 시작하는 권역 구분이 이미 있습니다.",
            "Another grouping of megaregions begins on that day.",
        )
    regions = [region for megaregion in command.megaregions for region in megaregion.regions]
    if len(regions) != len(set(regions)) or any(state.begun(region) is None for region in regions):
        raise Refused(
            "I-15",
            "권역에는 등록된 지역이 한 번씩만 들어갈 수 있습니다.",
            "Megaregions hold regions that are entered, each of them once.",
        )
    return [event]


def _exists(state: State, region: str, day: date) -> None:
    begun, ended = state.begun(region), state.ended(region)
    if begun is None or day <= begun or (ended is not None and day >= ended):
        raise Refused("I-1", "그 날짜에 존재하지 않는 지역입니다.", "The region does not exist on that day.")


def _rewritten() -> Refused:
    return Refused(
        "I-16",
        "이미 등록된 사실과 다릅니다. 지난 사실은 고쳐 쓰지 않습니다.",
        "This differs from what is entered already; what was entered is not rewritten.",
    )


def evolve(state: State, event: Event) -> State:
    """The state after an event."""
    match event:
        case RegionRegistered():
            return replace(state, registered=(*state.registered, event))
        case RegionRecoded():
            return replace(state, recoded=(*state.recoded, event))
        case RegionSucceeded():
            return replace(state, succeeded=(*state.succeeded, event))
        case RegionGroupingPublished():
            return replace(state, groupings=(*state.groupings, event))
        case _:
            return state


REGION_REGISTER = Decider(
    name="RegionRegister",
    initial=State(),
    decide=decide,
    evolve=evolve,
    commands=(RegisterRegion, RecodeRegion, SucceedRegion, PublishGrouping),
)
