"""The business clock."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from services.routing.clock import CLOCK, ShiftClock, ShiftClockBody
from shared.contracts.envelope import Actor, Authority
from shared.contracts.reference import ClockShifted
from shared.runtime.directory import SEOUL
from shared.testing import given

REAL = datetime(2026, 11, 24, 9, tzinfo=SEOUL)
START = datetime(2023, 1, 4, 9, tzinfo=SEOUL)
MAY = datetime(2023, 5, 8, 9, tzinfo=SEOUL)


def shift(to: datetime, real: datetime = REAL, development: bool = True) -> ShiftClock:
    fields: dict[str, Any] = {
        "by": Actor(user="u", office="operations.operator", body="operations"),
        "at": real,
        "authority": Authority(rule="T-clock"),
    }
    return ShiftClock(**fields, to=to, real=real, development=development)


def shifted(to: datetime, real: datetime = REAL) -> ClockShifted:
    return ClockShifted(offset_seconds=(to - real).total_seconds(), business_time=to)


def test_T_clock_the_first_shift_goes_anywhere_later_ones_forward_only() -> None:
    first = given(CLOCK).when(shift(START)).then(shifted(START))
    minute_later = REAL + timedelta(minutes=1)
    may = first.when(shift(MAY, minute_later)).then(shifted(MAY, minute_later))
    may.when(shift(START, minute_later)).refused("T-clock")


def test_T_clock_a_time_that_has_passed_meanwhile_is_backward() -> None:
    started = given(CLOCK, shifted(START))
    started.when(shift(START, REAL + timedelta(seconds=1))).refused("T-clock")


def test_T_clock_under_the_development_issuer_only() -> None:
    refusal = given(CLOCK).when(shift(START, development=False)).refused("T-clock")
    assert refusal.kind == "authority"


def test_the_body_names_either_an_instant_or_a_day() -> None:
    assert ShiftClockBody(date=date(2023, 5, 8)).to is None
    with pytest.raises(ValidationError):
        ShiftClockBody()
    with pytest.raises(ValidationError):
        ShiftClockBody(to=MAY, date=date(2023, 5, 8))
