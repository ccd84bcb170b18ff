"""Offices and who holds them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from services.routing.office import OFFICE, AppointHolder, EstablishOffice, RemoveHolder
from shared.contracts.envelope import Actor, Authority, Label
from shared.contracts.reference import OfficeEstablished, OfficeHolderAppointed, OfficeHolderLeft
from shared.runtime.directory import SEOUL
from shared.testing import given

OPERATOR: dict[str, Any] = {
    "by": Actor(user="u", office="operations.operator", body="operations"),
    "at": datetime(2023, 1, 4, 9, tzinfo=SEOUL),
    "authority": Authority(rule="reference"),
}
BEGIN, LATER, LAST = date(2022, 8, 1), date(2023, 1, 4), date(2023, 7, 1)
OFFICE_FACT: dict[str, Any] = {
    "office": "dept-road.reviewer",
    "body": "dept-road",
    "role": "reviewer",
    "name": Label(ko="도로국 검토담당", en="Reviewer, Road Bureau"),
    "valid_from": BEGIN,
    "source": "M test",
}
ESTABLISHED = OfficeEstablished(**OFFICE_FACT)


def establish(**other: Any) -> EstablishOffice:
    return EstablishOffice(**OPERATOR, **(OFFICE_FACT | {"body_known": True} | other))


def test_establish_office() -> None:
    given(OFFICE).when(establish()).then(ESTABLISHED)
    given(OFFICE).when(establish(body_known=False)).refused("I-15")
    given(OFFICE).when(establish(valid_to=BEGIN)).refused("I-15")
    given(OFFICE, ESTABLISHED).when(establish(role="chair")).refused("I-16")


def holder(subject: str, day: date) -> dict[str, Any]:
    return {"office": "dept-road.reviewer", "subject": subject, "valid_from": day, "source": "M test"}


def appoint(subject: str, day: date) -> AppointHolder:
    return AppointHolder(**OPERATOR, **holder(subject, day))


def remove(subject: str, day: date) -> RemoveHolder:
    return RemoveHolder(**OPERATOR, **holder(subject, day))


@pytest.mark.capability("C5", part="no acting chair by delegation yet")
def test_I_9_holders_come_and_go_and_come_again() -> None:
    first = given(OFFICE, ESTABLISHED).when(appoint("u-1", BEGIN)).then(OfficeHolderAppointed(**holder("u-1", BEGIN)))
    both = first.when(appoint("u-2", LATER)).then(OfficeHolderAppointed(**holder("u-2", LATER)))
    left = both.when(remove("u-1", LATER)).then(OfficeHolderLeft(**holder("u-1", LATER)))
    left.when(appoint("u-1", LAST)).then(OfficeHolderAppointed(**holder("u-1", LAST)))


def test_I_9_appoint_holder_refused() -> None:
    given(OFFICE).when(appoint("u-1", BEGIN)).refused("I-9")
    given(OFFICE, ESTABLISHED).when(appoint("u-1", date(2022, 7, 1))).refused("I-9")
    held = given(OFFICE, ESTABLISHED, OfficeHolderAppointed(**holder("u-1", BEGIN)))
    held.when(appoint("u-1", LATER)).refused("I-9")


def test_I_16_a_time_in_office_does_not_overlap_an_earlier_one() -> None:
    gone = given(
        OFFICE,
        ESTABLISHED,
        OfficeHolderAppointed(**holder("u-1", BEGIN)),
        OfficeHolderLeft(**holder("u-1", LAST)),
    )
    gone.when(appoint("u-1", LATER)).refused("I-16")


def test_I_9_remove_holder_refused() -> None:
    held = given(OFFICE, ESTABLISHED, OfficeHolderAppointed(**holder("u-1", LATER)))
    held.when(remove("u-2", LAST)).refused("I-9")
    held.when(remove("u-1", LATER)).refused("I-9")
