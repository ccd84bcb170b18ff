"""The outbox: what is owed over a channel outside, from events alone; and what the office and the operator see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Connection, create_engine

from services.notifications.contacts import CONTACT, METADATA
from services.notifications.views.inbox import INBOX, list_notices
from services.notifications.views.outbox import OUTBOX, UndeliveredAnswer, list_undelivered, owed
from shared.contracts.envelope import Event, Label
from shared.contracts.notifications import (
    NotificationDelivered,
    NotificationFailed,
    NotificationGivenUp,
    NotificationRequested,
)
from shared.runtime.declare import Facts, Owed, Recorded, Request
from shared.runtime.views import upsert
from tests.views.routing_walk import CASE, Desk, Stream, at, folded, rows

COUNTY, CHAIR = "org-gangwon-hongcheon.officer", "forum.chair"
REAL = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def requested(about: str, channel: str, office: str = COUNTY) -> NotificationRequested:
    return NotificationRequested(
        about=about,
        about_type="ReceiptIssued",
        office=office,
        channel=channel,
        audience="raiser",
        mandatory=True,
        wording="ReceiptIssued",
        title=Label(ko="접수 알림", en="Received"),
        text=Label(ko="접수되었습니다.", en="It was received."),
    )


def delivered(about: str, channel: str) -> NotificationDelivered:
    return NotificationDelivered(about=about, office=COUNTY, channel=channel, receipt="250")


def failed(about: str, attempt: int, following: datetime | None, detail: str = "451") -> NotificationFailed:
    return NotificationFailed(
        about=about,
        office=COUNTY,
        channel="email",
        attempt=attempt,
        detail=detail,
        attempted_at=REAL,
        next_attempt_at=following,
    )


def given_up(about: str) -> NotificationGivenUp:
    return NotificationGivenUp(
        about=about, office=COUNTY, channel="email", attempts=2, reason="refused", detail="550 5.1.1"
    )


def stream(notice_id: str, hour: int, *events: Event) -> list[Recorded]:
    notice = Stream("notifications", "Dispatch", notice_id, CASE)
    for event in events:
        notice.add(at(5, 8, hour), event)
    return notice.events


def notices() -> list[list[Recorded]]:
    """One of each fate: in the inbox, waiting, sent, tried once, refused for good."""
    return [
        *(stream(f"i{n}", 9 + n, requested(f"e{n}", "inbox"), delivered(f"e{n}", "inbox")) for n in range(1, 6)),
        stream("m2", 11, requested("e2", "email")),
        stream("m3", 12, requested("e3", "email"), delivered("e3", "email")),
        stream("m4", 13, requested("e4", "email"), failed("e4", 1, REAL + timedelta(minutes=1))),
        stream(
            "m5",
            14,
            requested("e5", "email"),
            failed("e5", 1, REAL + timedelta(minutes=1)),
            failed("e5", 2, None, "550 5.1.1"),
            given_up("e5"),
        ),
    ]


class Clerk(Desk):
    """A reader with contacts."""

    mutable: Connection


@contextmanager
def outbox(*contacts: tuple[str, str]) -> Iterator[Facts]:
    """Facts over the notices, with contacts of office and locale."""
    desk = cast(Any, Clerk({OUTBOX.name: folded(OUTBOX, notices())}, at(6, 1)))
    engine = create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.connect() as db:
        for office, locale in contacts:
            row = {
                "office": office,
                "email": "a@b.example",
                "locale": locale,
                "valid_from": "2023-01-04",
                "source": "M",
            }
            upsert(db, CONTACT, row)
        desk.mutable = db
        yield desk
    engine.dispose()


def due(facts: Facts, after: timedelta, limit: int = 10) -> list[tuple[str, int]]:
    return [(one.id, one.attempt) for one in owed("email", facts, REAL + after, limit)]


@pytest.mark.parametrize("seed", range(1, 8))
def test_rows_are_equal_for_every_order_of_the_streams(seed: int) -> None:
    assert rows(OUTBOX, notices(), seed) == rows(OUTBOX, notices(), 0)
    assert rows(INBOX, notices(), seed) == rows(INBOX, notices(), 0)


def test_a_first_attempt_is_owed_at_once_and_the_next_at_its_time() -> None:
    with outbox((COUNTY, "ko")) as facts:
        assert due(facts, timedelta(0)) == [("m2", 1)]
        assert due(facts, timedelta(seconds=59)) == [("m2", 1)]
        assert due(facts, timedelta(seconds=60)) == [("m2", 1), ("m4", 2)]
        assert due(facts, timedelta(days=9), limit=1) == [("m2", 1)]


def test_what_is_delivered_or_given_up_is_owed_no_more() -> None:
    with outbox((COUNTY, "ko")) as facts:
        assert {id for id, _ in due(facts, timedelta(days=9))} == {"m2", "m4"}


def test_the_inbox_owes_nothing() -> None:
    with outbox() as facts:
        assert not owed("inbox", facts, REAL, 10)


def letter(facts: Facts) -> Owed:
    return owed("email", facts, REAL, 10)[0]


def test_the_contact_is_read_when_the_attempt_is_due() -> None:
    with outbox((COUNTY, "en")) as facts:
        assert letter(facts).work.contact.locale == "en"
    with outbox((CHAIR, "ko")) as facts:
        assert letter(facts).work.contact is None


def test_no_address_is_printed_by_mistake() -> None:
    with outbox((COUNTY, "en")) as facts:
        assert "b.example" not in repr(letter(facts))


# What is seen of it


def test_the_office_sees_in_its_inbox_how_the_e_mail_fares() -> None:
    desk = cast(Request, Desk({INBOX.name: folded(INBOX, notices())}, at(6, 1), COUNTY))
    assert [(row.id, row.email) for row in list_notices(desk).rows] == [
        ("i5", "given_up"),
        ("i4", "requested"),
        ("i3", "delivered"),
        ("i2", "requested"),
        ("i1", None),
    ]


def undelivered(**more: Any) -> list[UndeliveredAnswer]:
    desk = cast(Request, Desk({OUTBOX.name: folded(OUTBOX, notices())}, at(6, 1), "operations.operator", **more))
    return list(list_undelivered(desk).rows)


def test_the_operator_sees_what_has_not_arrived_the_oldest_first() -> None:
    assert [(row.id, row.state, row.attempts, row.next_attempt_at, row.detail) for row in undelivered()] == [
        ("m2", "waiting", 0, None, None),
        ("m4", "waiting", 1, REAL + timedelta(minutes=1), "451"),
        ("m5", "given_up", 2, None, "550 5.1.1"),
    ]


def test_the_operator_sees_what_is_tried_no_more_alone() -> None:
    assert [(row.id, row.reason) for row in undelivered(query={"given_up": "true"})] == [("m5", "refused")]


def test_page_by_page() -> None:
    first = list_undelivered(
        cast(Request, Desk({OUTBOX.name: folded(OUTBOX, notices())}, at(6, 1), "operations.operator", limit=2))
    )
    assert [row.id for row in first.rows] == ["m2", "m4"]
    assert first.after is not None
    assert [row.id for row in undelivered(after=tuple(first.after))] == ["m5"]
