"""Rules of the dispatch: sent once, tried until it is delivered or given up, read by the office it is for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.notifications.dispatch import (
    BACK_OFF,
    DISPATCH,
    MarkRead,
    RecordDelivery,
    RecordFailure,
    RequestAndDeliver,
    RequestNotice,
)
from shared.contracts.envelope import Actor, Authority, Event, Label
from shared.contracts.notifications import (
    NotificationDelivered,
    NotificationFailed,
    NotificationGivenUp,
    NotificationRead,
    NotificationRequested,
)
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


# Channels that deliver outside

REAL = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
"""Real time of the first attempt; each test's later ones are as far behind it as it likes."""

BY_MAIL = REQUESTED_FACT.model_copy(update={"channel": "email"})
TAKEN = NotificationDelivered(about="event-1", office=OFFICE, channel="email", receipt="250 2.0.0 4F1A2B")


def requesting() -> RequestNotice:
    return RequestNotice(**by_process("forum", AT, "N-1"), **BY_MAIL.model_dump(exclude={"type"}))


def delivery(attempt: int = 1) -> RecordDelivery:
    return RecordDelivery(**by_process("forum", AT, "N-attempt"), attempt=attempt, receipt="250 2.0.0 4F1A2B")


def failure(attempt: int = 1, *, final: bool = False, detail: str = "451 4.3.0") -> RecordFailure:
    return RecordFailure(
        **by_process("forum", AT, "N-attempt"), attempt=attempt, final=final, detail=detail, attempted_at=REAL
    )


def failed(attempt: int, after: timedelta | None, detail: str = "451 4.3.0") -> NotificationFailed:
    return NotificationFailed(
        about="event-1",
        office=OFFICE,
        channel="email",
        attempt=attempt,
        detail=detail,
        attempted_at=REAL,
        next_attempt_at=None if after is None else REAL + after,
    )


def given_up(attempts: int, reason: Any, detail: str) -> NotificationGivenUp:
    return NotificationGivenUp(
        about="event-1", office=OFFICE, channel="email", attempts=attempts, reason=reason, detail=detail
    )


def failures(number: int) -> tuple[Event, ...]:
    return (BY_MAIL, *(failed(attempt, BACK_OFF[attempt - 1]) for attempt in range(1, number + 1)))


def test_N_attempt_requested_first_delivered_later() -> None:
    given(DISPATCH).when(requesting()).then(BY_MAIL).when(delivery()).then(TAKEN)


def test_I_18_requested_again_says_nothing_new() -> None:
    assert given(DISPATCH, BY_MAIL, TAKEN).when(requesting()).events() == ()


@pytest.mark.parametrize(
    ("attempt", "after"), [(1, "0:01:00"), (2, "0:05:00"), (3, "0:15:00"), (4, "1:00:00"), (5, "4:00:00")]
)
def test_N_attempt_a_failure_names_its_next_attempt(attempt: int, after: str) -> None:
    (event,) = given(DISPATCH, *failures(attempt - 1)).when(failure(attempt)).events()
    assert event == failed(attempt, BACK_OFF[attempt - 1])
    assert str(BACK_OFF[attempt - 1]) == after


def test_N_attempt_delivered_after_failures() -> None:
    given(DISPATCH, *failures(2)).when(delivery(3)).then(TAKEN)


def test_N_attempt_given_up_after_the_last() -> None:
    given(DISPATCH, *failures(5)).when(failure(6)).then(failed(6, None), given_up(6, "exhausted", "451 4.3.0"))


def test_N_attempt_given_up_at_once_where_it_is_final() -> None:
    given(DISPATCH, BY_MAIL).when(failure(final=True, detail="550 5.1.1")).then(
        failed(1, None, "550 5.1.1"), given_up(1, "refused", "550 5.1.1")
    )


@pytest.mark.parametrize("command", [delivery(2), failure(2), delivery(0), failure(0)])
def test_N_attempt_attempts_are_recorded_in_their_order(command: Any) -> None:
    given(DISPATCH, BY_MAIL).when(command).refused("N-attempt")


@pytest.mark.parametrize("command", [delivery(1), failure(1)])
def test_N_attempt_each_is_recorded_once(command: Any) -> None:
    given(DISPATCH, *failures(1)).when(command).refused("N-attempt")


@pytest.mark.parametrize("ended", [(BY_MAIL, TAKEN), (*failures(1), given_up(1, "refused", "550")), DELIVERED])
@pytest.mark.parametrize("attempt", [1, 2])
def test_N_attempt_none_after_the_end(ended: tuple[Event, ...], attempt: int) -> None:
    given(DISPATCH, *ended).when(delivery(attempt)).refused("N-attempt")
    given(DISPATCH, *ended).when(failure(attempt)).refused("N-attempt")


def test_N_attempt_nothing_was_requested() -> None:
    given(DISPATCH).when(delivery()).refused("N-attempt")


def test_N_read_an_e_mail_is_acknowledged_in_the_inbox() -> None:
    given(DISPATCH, BY_MAIL, TAKEN).when(reading()).refused("N-read")
