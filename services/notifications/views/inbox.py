"""inbox: what each office was told, and what it has acknowledged."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Boolean, Column, Connection, Index, Integer, Row, String, select, tuple_

from shared.contracts.envelope import Label
from shared.contracts.notifications import NotificationDelivered, NotificationRead, NotificationRequested
from shared.runtime.declare import Facts, Named, Page, Recorded, Request, Tables, View
from shared.runtime.directory import SEOUL
from shared.runtime.views import upsert


def tables(named: Named) -> None:
    """One row a notice."""
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
        Column("read_at", String),
    )
    # Offices read their own page, the newest first.
    Index(f"{notice.name}_by_office", notice.c.office, notice.c.delivered_at, notice.c.notice_id)


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
        case NotificationRead():
            changed = {"read_at": at}
        case _:
            return
    upsert(db, tables["notice"], {"notice_id": heard.aggregate_id, "version": heard.envelope.version, **changed})


INBOX = View(name="inbox", version=1, sources=("notifications",), tables=tables, fold=fold)


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


def case_of(facts: Facts, notice_id: str) -> str | None:
    """The case that a notice tells of."""
    notice = facts.tables(INBOX)["notice"]
    case_id: str | None = facts.db.execute(select(notice.c.case_id).where(notice.c.notice_id == notice_id)).scalar()
    return case_id


def list_notices(request: Request) -> Page:
    """The notices of the reader's own office, the newest first; with ``unread=true`` only those not yet read."""
    notice = request.tables(INBOX)["notice"]
    query = select(notice).where(notice.c.office == request.actor.office, notice.c.delivered_at.is_not(None))
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
    )
