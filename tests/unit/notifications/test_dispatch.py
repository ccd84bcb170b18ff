"""Rules of the dispatch: sent once, read by the office it is for."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.notifications.dispatch import DISPATCH, MarkRead, RequestAndDeliver
from shared.contracts.envelope import Actor, Authority, Event, Label
from shared.contracts.notifications import NotificationDelivered, NotificationRead, NotificationRequested
from shared.runtime.declare import by_process
from shared.testing import given

AT = datetime(2023, 9, 13, 9, tzinfo=ZoneInfo("Asia/Seoul"))
OFFICE = "org-gangwon-hongcheon.officer"
TITLE, TEXT = Label(ko="정책 채택", en="Adopted"), Label(ko="확인: /v1/cases/1", en="See /v1/cases/1")

REQUESTED_FACT = NotificationRequested(
    about="event-1",
    about_type="CaseLinkedToPolicy",
    office=OFFICE,
    channel="inbox",
    audience="raiser",
    mandatory=True,
    wording="CaseLinkedToPolicy",
    title=TITLE,
    text=TEXT,
)
DELIVERED_FACT = NotificationDelivered(about="event-1", office=OFFICE, channel="inbox", receipt="inbox:1")
READ_FACT = NotificationRead(office=OFFICE)

DELIVERED: tuple[Event, ...] = (REQUESTED_FACT, DELIVERED_FACT)


def telling(**changes: Any) -> RequestAndDeliver:
    told = {**REQUESTED_FACT.model_dump(exclude={"type"}), "receipt": "inbox:1", **changes}
    return RequestAndDeliver(**by_process("forum", AT, "N-1"), **told)


def reading(office: str = OFFICE) -> MarkRead:
    by = Actor(user="s-1", office=office, body=office.rpartition(".")[0])
    return MarkRead(by=by, at=AT, authority=Authority(rule="N-read"))


@pytest.mark.capability("G7")
def test_I_8_requested_and_delivered_in_one_write() -> None:
    given(DISPATCH).when(telling()).then(REQUESTED_FACT, DELIVERED_FACT)


def test_I_18_told_again_says_nothing_new() -> None:
    assert given(DISPATCH, *DELIVERED).when(telling(text=TITLE)).events() == ()


def test_N_read_the_office_acknowledges() -> None:
    given(DISPATCH, *DELIVERED).when(reading()).then(READ_FACT)


def test_N_read_again_says_nothing_new() -> None:
    assert given(DISPATCH, *DELIVERED, READ_FACT).when(reading()).events() == ()


def test_N_read_only_the_office_it_is_for() -> None:
    given(DISPATCH, *DELIVERED).when(reading("org-gyeonggi.officer")).refused("N-read")
    given(DISPATCH, *DELIVERED, READ_FACT).when(reading("org-gyeonggi.officer")).refused("N-read")


def test_N_read_nothing_to_read() -> None:
    given(DISPATCH).when(reading()).refused("N-read")
