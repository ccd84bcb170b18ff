"""RuleSet: tiers, clocks and decision tables, in versions that are valid from a day on (capabilities B1, B6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pydantic import Field

from shared.contracts.envelope import Command, Event, Fact, Id, Line
from shared.contracts.reference import ClockProfile, DecisionTable, RuleSetPublished, TierRow
from shared.decider import Decider, Refused


class PublishRuleSetBody(Fact):
    """A version of the rules as it is entered."""

    rule_set: Id
    version: int = Field(ge=1)
    tiers: tuple[TierRow, ...]
    clocks: tuple[ClockProfile, ...]
    tables: tuple[DecisionTable, ...]
    valid_from: date
    source: Line


class PublishRuleSet(PublishRuleSetBody, Command):
    """Rules are valid from a day on; open cases keep the version that they began under."""

    faults: tuple[Line, ...] = ()
    """What is wrong with tables, expressions and names; see ``tables.faults``."""


@dataclass(frozen=True)
class State:
    """The versions published so far."""

    published: tuple[RuleSetPublished, ...] = ()


def decide(state: State, command: Command) -> Sequence[Event]:
    """What a command stores; raises ``Refused``."""
    match command:
        case PublishRuleSet():
            return publish_rule_set(state, command)
        case _:
            raise AssertionError(f"RuleSet does not understand {type(command).__name__}")


def publish_rule_set(state: State, command: PublishRuleSet) -> Sequence[Event]:
    """B6: versions go upwards and forward in time; B1: every expression must be sound before anybody relies on it."""
    event = command.as_event(RuleSetPublished)
    if event in state.published:
        return []
    if command.faults:
        first = command.faults[0]
        more = len(command.faults) - 1
        raise Refused(
            "B1",
            f"규칙에 잘못이 있어 공표할 수 없습니다: {first}" + (f" 외 {more}건" if more else ""),
            f"The rules are faulty and cannot be published: {first}" + (f", and {more} more" if more else ""),
        )
    for earlier in state.published:
        if command.version <= earlier.version or command.valid_from < earlier.valid_from:
            raise Refused(
                "B6",
                "규칙의 새 판은 판 번호가 더 크고 시행일이 더 이르지 않아야 합니다.",
                "A new version of the rules needs a higher number and a start no earlier than the one before.",
            )
    return [event]


def evolve(state: State, event: Event) -> State:
    """The state after an event."""
    match event:
        case RuleSetPublished():
            return State((*state.published, event))
        case _:
            return state


RULE_SET = Decider(name="RuleSet", initial=State(), decide=decide, evolve=evolve, commands=(PublishRuleSet,))
