"""The inbox of an office, and the parties of a case that notices rest on."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import pytest

from services.notifications.views.case_parties import PARTIES, proposed_lead, raisers_of, reviewed_lead
from services.notifications.views.inbox import INBOX, case_of, list_notices
from shared.contracts.envelope import Label
from shared.contracts.notifications import NotificationDelivered, NotificationRead, NotificationRequested
from shared.runtime.declare import Facts, Recorded, Request
from tests.views.routing_walk import CASE, OTHER, ROAD, Desk, Stream, at, folded, rows, walk

COUNTY = "org-gangwon-hongcheon.officer"


def notice(notice_id: str, office: str, when: datetime, *, read: bool = False) -> Stream:
    """A notice of the receipt, delivered; read an hour later where told so."""
    stream = Stream("notifications", "Dispatch", notice_id, CASE)
    stream.add(
        when,
        NotificationRequested(
            about=f"about-{notice_id}",
            about_type="ReceiptIssued",
            office=office,
            channel="inbox",
            audience="raiser",
            mandatory=True,
            wording="ReceiptIssued",
            title=Label(ko="접수 알림", en="Received"),
            text=Label(ko="접수되었습니다.", en="It was received."),
        ),
    )
    stream.add(
        when, NotificationDelivered(about=f"about-{notice_id}", office=office, channel="inbox", receipt="inbox:1")
    )
    if read:
        stream.add(when.replace(hour=when.hour + 1), NotificationRead(office=office))
    return stream


def notices() -> list[list[Recorded]]:
    streams = (
        notice("n1", COUNTY, at(5, 8), read=True),
        notice("n2", COUNTY, at(5, 9)),
        notice("n3", COUNTY, at(5, 9)),
        notice("n4", "org-gyeonggi.officer", at(5, 10)),
    )
    return [stream.events for stream in streams]


def desk(office: str = COUNTY, **more: Any) -> Request:
    return cast(Request, Desk({INBOX.name: folded(INBOX, notices())}, at(6, 1), office, **more))


def ids(request: Request) -> list[str]:
    return [row.id for row in list_notices(request).rows]


@pytest.mark.parametrize("seed", range(1, 8))
def test_rows_are_equal_for_every_order_of_the_streams(seed: int) -> None:
    assert rows(INBOX, notices(), seed) == rows(INBOX, notices(), 0)
    assert rows(PARTIES, walk(), seed) == rows(PARTIES, walk(), 0)


def test_N_read_an_office_sees_its_own_notices_the_newest_first() -> None:
    assert ids(desk()) == ["n3", "n2", "n1"]
    assert ids(desk("org-gyeonggi.officer")) == ["n4"]
    assert ids(desk("forum.secretary")) == []


@pytest.mark.capability("G7")
@pytest.mark.capability("I5", part="terms of mark M await a Korean reader")
def test_N_read_unread_only_in_both_languages() -> None:
    [first, second] = list_notices(desk(query={"unread": "true"})).rows

    assert [first.id, second.id] == ["n3", "n2"]
    assert (first.title.ko, first.title.en) == ("접수 알림", "Received")
    assert (first.case_id, first.about_type, first.delivered_at, first.read_at) == (
        CASE,
        "ReceiptIssued",
        at(5, 9),
        None,
    )


def test_read_notices_keep_when_they_were_read() -> None:
    assert list_notices(desk()).rows[-1].read_at == at(5, 8, 11)


def test_page_by_page() -> None:
    first = list_notices(desk(limit=2))

    assert [row.id for row in first.rows] == ["n3", "n2"]
    assert first.after is not None
    assert ids(desk(limit=2, after=tuple(first.after))) == ["n1"]


def test_the_case_of_a_notice() -> None:
    assert case_of(desk(), "n1") == CASE
    assert case_of(desk(), "none") is None


def test_a_notice_without_its_request_is_nobody_s() -> None:
    later = [stream[1:] for stream in notices()]
    request = cast(Request, Desk({INBOX.name: folded(INBOX, later)}, at(6, 1), COUNTY))

    assert list_notices(request).rows == []


def test_parties_of_a_case() -> None:
    facts = cast(Facts, Desk({PARTIES.name: folded(PARTIES, walk())}, at(12, 31)))

    assert raisers_of(facts, CASE) == ("org-gangwon-hongcheon",)
    assert (reviewed_lead(facts, CASE), reviewed_lead(facts, OTHER)) == (ROAD, None)
    assert proposed_lead(facts, CASE) == (ROAD, 10)
    assert proposed_lead(facts, OTHER) == (None, 1)
    assert (raisers_of(facts, "none"), proposed_lead(facts, "none")) == (None, (None, 0))
