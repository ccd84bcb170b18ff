"""Clock: how far business time stands from real time ("Time" in the architecture; development issuer only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date as Day

from pydantic import AwareDatetime, model_validator

from shared.contracts.envelope import Command, Event, Fact
from shared.contracts.reference import ClockShifted
from shared.decider import Decider, Refused

CLOCK_ID = "business"
"""Id of the one clock."""


class ShiftClockBody(Fact):
    """The business time to reach: an instant, or a day (its ninth hour)."""

    to: AwareDatetime | None = None
    date: Day | None = None

    @model_validator(mode="after")
    def one_of_both(self) -> ShiftClockBody:
        """Exactly one of the two is given."""
        if (self.to is None) == (self.date is None):
            raise ValueError("give either to or date")
        return self


class ShiftClock(Command):
    """Business time jumps to ``to``: at the first shift anywhere, later only forward."""

    to: AwareDatetime
    real: AwareDatetime
    """Real time at the moment of the command."""
    development: bool
    """Whether the development issuer vouches for identities: nowhere else may the clock move."""


@dataclass(frozen=True)
class State:
    """The offset in force; ``None`` before the first shift."""

    offset_seconds: float | None = None


def decide(state: State, command: Command) -> Sequence[Event]:
    """What a command stores; raises ``Refused``."""
    match command:
        case ShiftClock():
            return shift_clock(state, command)
        case _:
            raise AssertionError(f"Clock does not understand {type(command).__name__}")


def shift_clock(state: State, command: ShiftClock) -> Sequence[Event]:
    """T-clock: under the development issuer only, and forward except the first time."""
    if not command.development:
        raise Refused(
            "T-clock",
            "업무 시각은 개발용 발급자 아래에서만 옮길 수 있습니다.",
            "The business clock moves only under the development issuer.",
            kind="authority",
        )
    offset = (command.to - command.real).total_seconds()
    if state.offset_seconds is not None and offset == state.offset_seconds:
        return []
    if state.offset_seconds is not None and offset < state.offset_seconds:
        raise Refused(
            "T-clock",
            "업무 시각은 앞으로만 옮길 수 있습니다.",
            "The business clock moves forward only.",
        )
    return [ClockShifted(offset_seconds=offset, business_time=command.to)]


def evolve(state: State, event: Event) -> State:
    """The state after an event."""
    match event:
        case ClockShifted():
            return State(event.offset_seconds)
        case _:
            return state


CLOCK = Decider(name="Clock", initial=State(), decide=decide, evolve=evolve, commands=(ShiftClock,))
