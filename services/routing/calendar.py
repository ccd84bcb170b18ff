"""WorkingCalendar: which days of a year are off (capability D5, I-17).

A year may be published again: temporary holidays are declared in the course of a year. Dates already given stay as
they were; only later ones are counted by the new days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from shared.contracts.envelope import Command, Event, Fact, Id, Line
from shared.contracts.reference import CalendarPublished, DayOff
from shared.decider import Decider, Refused


class PublishCalendarBody(Fact):
    """The days off of a year, as they are entered."""

    calendar: Id
    year: int = Field(ge=1900, le=2200)
    days_off: tuple[DayOff, ...] = Field(max_length=366)
    source: Line


class PublishCalendar(PublishCalendarBody, Command):
    """The working calendar of a year; Saturdays and Sundays are off anyway."""


@dataclass(frozen=True)
class State:
    """The last publication of each year."""

    years: Mapping[int, CalendarPublished] = field(default_factory=dict)


def decide(state: State, command: Command) -> Sequence[Event]:
    """What a command stores; raises ``Refused``."""
    match command:
        case PublishCalendar():
            return publish_calendar(state, command)
        case _:
            raise AssertionError(f"WorkingCalendar does not understand {type(command).__name__}")


def publish_calendar(state: State, command: PublishCalendar) -> Sequence[Event]:
    """I-17: days of that year, each once."""
    event = command.as_event(CalendarPublished)
    if state.years.get(command.year) == event:
        return []
    days = [off.day for off in command.days_off]
    if len(set(days)) != len(days) or any(day.year != command.year for day in days):
        raise Refused(
            "I-17",
            "쉬는 날은 그 해의 날짜여야 하고 한 번씩만 적어야 합니다.",
            "Days off must lie in that year, each of them once.",
        )
    return [event]


def evolve(state: State, event: Event) -> State:
    """The state after an event."""
    match event:
        case CalendarPublished():
            return State({**state.years, event.year: event})
        case _:
            return state


WORKING_CALENDAR = Decider(
    name="WorkingCalendar", initial=State(), decide=decide, evolve=evolve, commands=(PublishCalendar,)
)
