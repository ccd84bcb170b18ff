"""outbox: what is to reach an office over a channel outside and has not: waiting for its first or next attempt, or
given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Column, Connection, Float, Index, Integer, Row, String, delete, select, tuple_

from services.notifications.contacts import Contact, contacts_of
from services.notifications.dispatch import BACK_OFF, DISPATCH, INBOX, RecordDelivery, RecordFailure
from shared.contracts.envelope import Command, Label
from shared.contracts.notifications import (
    NotificationDelivered,
    NotificationFailed,
    NotificationGivenUp,
    NotificationRequested,
)
from shared.runtime.declare import (
    Act,
    Facts,
    Named,
    Outcome,
    Owed,
    Page,
    Recorded,
    Request,
    Tables,
    View,
    by_process,
)
from shared.runtime.directory import SEOUL
from shared.runtime.views import upsert


def tables(named: Named) -> None:
    """One row a notice; delivered ones leave."""
    outbox = named.table(
        "outbox",
        Column("notice_id", String, primary_key=True),
        Column("channel", String),
        Column("office", String),
        Column("body", String),
        Column("case_id", String),
        Column("about", String),
        Column("about_type", String),
        Column("title_ko", String),
        Column("title_en", String),
        Column("text_ko", String),
        Column("text_en", String),
        Column("requested_at", String),
        Column("attempts", Integer),
        Column("next_at", Float),
        Column("reason", String),
        Column("detail", String),
    )
    # ``next_at``: real time, seconds since 1970; 0 for at once, none where it was given up.
    Index(f"{outbox.name}_by_time", outbox.c.channel, outbox.c.next_at, outbox.c.notice_id)


def fold(db: Connection, tables: Tables, heard: Recorded) -> None:
    """Take one event of a dispatch over a channel outside."""
    outbox, event = tables["outbox"], heard.data
    match event:
        case NotificationRequested() if event.channel != INBOX:
            row: dict[str, Any] = {
                "channel": event.channel,
                "office": event.office,
                "body": heard.envelope.actor.body,
                "case_id": heard.case_id,
                "about": event.about,
                "about_type": event.about_type,
                "title_ko": event.title.ko,
                "title_en": event.title.en,
                "text_ko": event.text.ko,
                "text_en": event.text.en,
                "requested_at": heard.at.astimezone(SEOUL).isoformat(timespec="microseconds"),
                "attempts": 0,
                "next_at": 0.0,
            }
        case NotificationFailed():
            following = event.next_attempt_at
            row = {
                "attempts": event.attempt,
                "detail": event.detail,
                "next_at": None if following is None else following.timestamp(),
            }
        case NotificationGivenUp():
            row = {"reason": event.reason, "detail": event.detail}
        case NotificationDelivered() if event.channel != INBOX:
            db.execute(delete(outbox).where(outbox.c.notice_id == heard.aggregate_id))
            return
        case _:
            return
    upsert(db, outbox, {"notice_id": heard.aggregate_id, **row})


OUTBOX = View(name="outbox", version=1, sources=("notifications",), tables=tables, fold=fold)


@dataclass(frozen=True)
class Letter:
    """What a sender needs for an attempt, and what its record needs; ``contact`` is ``None`` where none is left."""

    contact: Contact | None
    title: Label
    text: Label
    body: str
    case_id: str | None


def owed(channel: str, facts: Facts, now: datetime, limit: int) -> Sequence[Owed]:
    """The attempts that are due over a channel, with the contact as it stands today."""
    outbox = facts.tables(OUTBOX)["outbox"]
    due = select(outbox).where(outbox.c.channel == channel, outbox.c.next_at <= now.timestamp())
    rows = facts.db.execute(due.order_by(outbox.c.next_at, outbox.c.notice_id).limit(limit)).all()
    contacts = contacts_of(facts, {row.office for row in rows}) if rows else {}
    return [
        Owed(
            id=row.notice_id,
            attempt=row.attempts + 1,
            last=row.attempts >= len(BACK_OFF),
            work=Letter(
                contact=contacts.get(row.office),
                title=Label(ko=row.title_ko, en=row.title_en),
                text=Label(ko=row.text_ko, en=row.text_en),
                body=row.body,
                case_id=row.case_id,
            ),
        )
        for row in rows
    ]


def attempted(facts: Facts, owed: Owed, outcome: Outcome, at: datetime) -> Act:
    """The act that records an attempt made at a real time."""
    letter: Letter = owed.work
    envelope = by_process(letter.body, facts.now, "N-attempt")
    command: Command
    if outcome.result == "done":
        command = RecordDelivery(**envelope, attempt=owed.attempt, receipt=outcome.detail)
    else:
        command = RecordFailure(
            **envelope,
            attempt=owed.attempt,
            final=outcome.result == "refused",
            detail=outcome.detail,
            attempted_at=at,
        )
    return Act(DISPATCH, owed.id, command, key=owed.id, case_id=letter.case_id)


class UndeliveredAnswer(BaseModel):
    """A notice that has not arrived over a channel outside; its words stand in the office's inbox alone."""

    model_config = ConfigDict(frozen=True)

    id: str
    office: str
    case_id: str | None
    about: str
    about_type: str
    channel: str
    state: Literal["waiting", "given_up"]
    requested_at: datetime
    attempts: int
    next_attempt_at: datetime | None
    """Real time; none where it is due at once, or given up."""
    reason: str | None
    """Why it was given up: ``refused`` for good, or its attempts ``exhausted``."""
    detail: str | None
    """Of the last failure: the receiver's reply code, or what went wrong in one word."""


def list_undelivered(request: Request) -> Page:
    """What has not arrived, the oldest first; with ``given_up=true`` only that of which no other attempt is made."""
    outbox = request.tables(OUTBOX)["outbox"]
    query = select(outbox)
    if request.query.get("given_up") == "true":
        query = query.where(outbox.c.reason.is_not(None))
    order = (outbox.c.requested_at, outbox.c.notice_id)
    if request.after is not None:
        query = query.where(tuple_(*order) > tuple_(*request.after))
    rows = request.db.execute(query.order_by(*order).limit(request.limit)).all()
    return Page(
        [_answer(row) for row in rows],
        after=(rows[-1].requested_at, rows[-1].notice_id) if len(rows) == request.limit else None,
    )


def _answer(row: Row[Any]) -> UndeliveredAnswer:
    return UndeliveredAnswer(
        id=row.notice_id,
        office=row.office,
        case_id=row.case_id,
        about=row.about,
        about_type=row.about_type,
        channel=row.channel,
        state="waiting" if row.reason is None else "given_up",
        requested_at=row.requested_at,
        attempts=row.attempts,
        next_attempt_at=datetime.fromtimestamp(row.next_at, UTC) if row.next_at else None,
        reason=row.reason,
        detail=row.detail,
    )
