"""inbox: what each office was told, what it has acknowledged, and whether it was told by e-mail too."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Boolean, Column, Connection, Index, Integer, Row, String, and_, select, tuple_

from services.notifications.dispatch import INBOX as INBOX_CHANNEL
from shared.contracts.envelope import Label
from shared.contracts.notifications import (
    NotificationDelivered,
    NotificationFailed,
    NotificationGivenUp,
    NotificationRead,
    NotificationRequested,
)
from shared.runtime.declare import Facts, Named, Page, Recorded, Request, Tables, View
from shared.runtime.directory import SEOUL
from shared.runtime.views import upsert


def tables(named: Named) -> None:
    """One row a dispatch, over whichever channel."""
    notice = named.table(
        "notice",
        Column("notice_id", String, primary_key=True),
        Column("version", Integer),
        Column("office", String),
        Column("case_id", String),
        Column("about", String),
        Column("about_type", String),
        Column("channel", String),
        Column("audience", String),
        Column("mandatory", Boolean),
        Column("wording", String),
        Column("title_ko", String),
        Column("title_en", String),
        Column("text_ko", String),
        Column("text_en", String),
        Column("delivered_at", String),
        Column("given_up_at", String),
        Column("read_at", String),
    )
    # Offices read their own page, the newest first.
    Index(f"{notice.name}_by_office", notice.c.office, notice.c.channel, notice.c.delivered_at, notice.c.notice_id)
    # What else was told of the same event, of other streams: it meets in the query.
    Index(f"{notice.name}_by_event", notice.c.about, notice.c.office, notice.c.channel)


def fold(db: Connection, tables: Tables, heard: Recorded) -> None:
    """Take one event of a dispatch into the inbox."""
    event = heard.data
    at = heard.at.astimezone(SEOUL).isoformat(timespec="microseconds")
    match event:
        case NotificationRequested():
            changed: dict[str, Any] = {
                "office": event.office,
                "case_id": heard.case_id,
                "about": event.about,
                "about_type": event.about_type,
                "channel": event.channel,
                "audience": event.audience,
                "mandatory": event.mandatory,
                "wording": event.wording,
                "title_ko": event.title.ko,
                "title_en": event.title.en,
                "text_ko": event.text.ko,
                "text_en": event.text.en,
            }
        case NotificationDelivered():
            changed = {"delivered_at": at}
        case NotificationFailed():
            changed = {}
        case NotificationGivenUp():
            changed = {"given_up_at": at}
        case NotificationRead():
            changed = {"read_at": at}
        case _:
            return
    upsert(db, tables["notice"], {"notice_id": heard.aggregate_id, "version": heard.envelope.version, **changed})


INBOX = View(name="inbox", version=2, sources=("notifications",), tables=tables, fold=fold)


class NoticeAnswer(BaseModel):
    """A notice in an office's inbox."""

    model_config = ConfigDict(frozen=True)

    id: str
    office: str
    case_id: str | None
    about: str
    """Event id of what is told."""
    about_type: str
    audience: str
    mandatory: bool
    title: Label
    text: Label
    delivered_at: datetime
    read_at: datetime | None
    email: Literal["requested", "delivered", "given_up"] | None
    """Whether the mail server took over an e-mail of the same; none where no e-mail was asked for."""


def case_of(facts: Facts, notice_id: str) -> str | None:
    """The case that a notice tells of."""
    notice = facts.tables(INBOX)["notice"]
    case_id: str | None = facts.db.execute(select(notice.c.case_id).where(notice.c.notice_id == notice_id)).scalar()
    return case_id


def list_notices(request: Request) -> Page:
    """The notices of the reader's own office, the newest first; with ``unread=true`` only those not yet read."""
    notice = request.tables(INBOX)["notice"]
    mail = notice.alias()
    same = and_(mail.c.about == notice.c.about, mail.c.office == notice.c.office, mail.c.channel == "email")
    query = (
        select(
            notice,
            mail.c.notice_id.label("mail_id"),
            mail.c.delivered_at.label("mail_delivered_at"),
            mail.c.given_up_at.label("mail_given_up_at"),
        )
        .select_from(notice.outerjoin(mail, same))
        .where(notice.c.office == request.actor.office)
        .where(notice.c.channel == INBOX_CHANNEL, notice.c.delivered_at.is_not(None))
    )
    if request.query.get("unread") == "true":
        query = query.where(notice.c.read_at.is_(None))
    order = (notice.c.delivered_at, notice.c.notice_id)
    if request.after is not None:
        query = query.where(tuple_(*order) < tuple_(*request.after))
    rows = request.db.execute(query.order_by(*(column.desc() for column in order)).limit(request.limit)).all()
    return Page(
        [_answer(row) for row in rows],
        after=(rows[-1].delivered_at, rows[-1].notice_id) if len(rows) == request.limit else None,
    )


def _answer(row: Row[Any]) -> NoticeAnswer:
    return NoticeAnswer(
        id=row.notice_id,
        office=row.office,
        case_id=row.case_id,
        about=row.about,
        about_type=row.about_type,
        audience=row.audience,
        mandatory=row.mandatory,
        title=Label(ko=row.title_ko, en=row.title_en),
        text=Label(ko=row.text_ko, en=row.text_en),
        delivered_at=row.delivered_at,
        read_at=row.read_at,
        email=_email(row),
    )


def _email(row: Row[Any]) -> Literal["requested", "delivered", "given_up"] | None:
    if row.mail_id is None:
        return None
    if row.mail_delivered_at is not None:
        return "delivered"
    return "requested" if row.mail_given_up_at is None else "given_up"
