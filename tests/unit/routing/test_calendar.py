"""Working calendars."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from services.routing.calendar import WORKING_CALENDAR, PublishCalendar
from shared.contracts.envelope import Actor, Authority
from shared.contracts.reference import CalendarPublished, DayOff
from shared.runtime.directory import SEOUL
from shared.testing import given

OPERATOR: dict[str, Any] = {
    "by": Actor(user="u", office="operations.operator", body="operations"),
    "at": datetime(2023, 1, 4, 9, tzinfo=SEOUL),
    "authority": Authority(rule="reference"),
}
LIBERATION = DayOff(day=date(2023, 8, 15), name="광복절")
TEMPORARY = DayOff(day=date(2023, 10, 2), name="임시공휴일")


def publish(*days_off: DayOff, year: int = 2023) -> PublishCalendar:
    return PublishCalendar(**OPERATOR, calendar="korea", year=year, days_off=days_off, source="test")


def published(*days_off: DayOff) -> CalendarPublished:
    return CalendarPublished(calendar="korea", year=2023, days_off=days_off, source="test")


@pytest.mark.capability("D5", part="no warning, breach or pause yet")
def test_I_17_publish_calendar_and_again_when_a_temporary_holiday_is_declared() -> None:
    first = given(WORKING_CALENDAR).when(publish(LIBERATION)).then(published(LIBERATION))
    first.when(publish(LIBERATION, TEMPORARY)).then(published(LIBERATION, TEMPORARY))


def test_I_17_days_of_that_year_each_once() -> None:
    given(WORKING_CALENDAR).when(publish(LIBERATION, year=2024)).refused("I-17")
    given(WORKING_CALENDAR).when(publish(LIBERATION, LIBERATION)).refused("I-17")
