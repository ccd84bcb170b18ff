"""Waiting list of a body: the cases that are before it, by date, and the sitting on whose agenda each stands.

Source: walk, ◆6, and "waiting list of a body" among the views of the floor. Routing tells which case is before which
body, issues what it is about, our own meetings where it is placed: three sources, tables of their own, met in the
query. An item whose meeting ended without a decision is no longer placed, so its case waits again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Column, Connection, Integer, String, and_, or_, select, tuple_

from shared.contracts.envelope import Fact
from shared.contracts.issues import IssueRaised, ReceiptIssued
from shared.contracts.meetings import (
    AgendaItemPlaced,
    ItemClosed,
    MeetingHeld,
    MeetingOpened,
    MeetingPlanned,
)
from shared.contracts.routing import (
    CaseClosed,
    CaseMoved,
    CaseOpened,
    CaseRouted,
    CaseUnrouted,
    DeadlineChanged,
    EscalatedToForum,
    EscalatedToSupportGroup,
    ImplementationAssigned,
)
from shared.runtime.declare import Named, Recorded, Tables, View
from shared.runtime.views import upsert


def tables(named: Named) -> None:
    """Where cases are (routing), what they are about (issues), sittings and placements (own)."""
    named.table(
        "cases",
        Column("case_id", String, primary_key=True),
        Column("state", String),
        Column("tier", String),
        Column("body", String, index=True),
        Column("since", String),
        Column("due", String),
        Column("version", Integer),
    )
    named.table(
        "titles",
        Column("case_id", String, primary_key=True),
        Column("title", String),
        Column("raised_by", String),
        Column("docket", String),
    )
    named.table(
        "meetings",
        Column("meeting_id", String, primary_key=True),
        Column("body", String),
        Column("day", String),
        Column("phase", String),
    )
    named.table(
        "placements",
        Column("meeting_id", String, primary_key=True),
        Column("item", Integer, primary_key=True),
        Column("case_id", String, index=True),
        Column("closed", String),
    )


def fold(db: Connection, made: Tables, heard: Recorded) -> None:
    """One fact more."""
    event = heard.data
    match event:
        case (
            CaseOpened()
            | CaseRouted()
            | CaseUnrouted()
            | EscalatedToSupportGroup()
            | EscalatedToForum()
            | CaseMoved()
            | ImplementationAssigned()
        ):
            holding = event.holding
            row = {
                "case_id": heard.aggregate_id,
                "state": holding.state,
                "tier": holding.tier,
                "body": holding.body,
                "since": heard.at.isoformat(),
                "due": holding.due.isoformat(),
                "version": heard.envelope.version,
            }
            upsert(db, made["cases"], row)
        case DeadlineChanged():
            row = {"case_id": heard.aggregate_id, "due": event.due.isoformat(), "version": heard.envelope.version}
            upsert(db, made["cases"], row)
        case CaseClosed():
            row = {"case_id": heard.aggregate_id, "state": "closed", "version": heard.envelope.version}
            upsert(db, made["cases"], row)
        case IssueRaised():
            row = {"case_id": heard.aggregate_id, "title": event.title, "raised_by": event.raised_by}
            upsert(db, made["titles"], row)
        case ReceiptIssued():
            upsert(db, made["titles"], {"case_id": heard.aggregate_id, "docket": event.docket})
        case MeetingPlanned():
            row = {
                "meeting_id": heard.aggregate_id,
                "body": event.body,
                "day": event.day.isoformat(),
                "phase": "planned",
            }
            upsert(db, made["meetings"], row)
        case MeetingOpened():
            upsert(db, made["meetings"], {"meeting_id": heard.aggregate_id, "phase": "in_session"})
        case MeetingHeld():
            upsert(db, made["meetings"], {"meeting_id": heard.aggregate_id, "phase": "held"})
        case AgendaItemPlaced():
            row = {"meeting_id": heard.aggregate_id, "item": event.item, "case_id": event.case_id}
            upsert(db, made["placements"], row)
        case ItemClosed():
            row = {"meeting_id": heard.aggregate_id, "item": event.item, "closed": event.result}
            upsert(db, made["placements"], row)
        case _:
            pass


WAITING_LIST = View(name="waiting_list", version=1, sources=("routing", "issues", "meetings"), tables=tables, fold=fold)


# Queries


class Placement(Fact):
    """On which agenda a waiting case stands."""

    meeting_id: str
    item: int
    day: date


class WaitingCase(Fact):
    """A case before a body."""

    case_id: str
    title: str | None
    docket: str | None
    raised_by: str | None
    body: str
    tier: str | None
    since: str
    due: date
    placed: Placement | None
    """``None`` where it stands on no agenda yet."""


class CaseSeen(Fact):
    """Where a case is, as heard from routing."""

    case_id: str
    state: str
    body: str | None
    version: int


def waiting_cases(
    db: Connection, made: Tables, body: str, today: date, limit: int, after: Sequence[Any] | None
) -> list[WaitingCase]:
    """The cases before a body, the next due first; after ``(due, case id)`` of the last one seen."""
    cases, titles = made["cases"], made["titles"]
    query = (
        select(cases, titles.c.title, titles.c.docket, titles.c.raised_by)
        .select_from(cases.outerjoin(titles, titles.c.case_id == cases.c.case_id))
        .where(cases.c.body == body, cases.c.state == "at_body")
        .order_by(cases.c.due, cases.c.case_id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(cases.c.due, cases.c.case_id) > tuple_(*after))
    rows = db.execute(query).all()
    placed = placements(db, made, body, [row.case_id for row in rows], today)
    return [
        WaitingCase(
            case_id=row.case_id,
            title=row.title,
            docket=row.docket,
            raised_by=row.raised_by,
            body=row.body,
            tier=row.tier,
            since=row.since,
            due=row.due,
            placed=placed.get(row.case_id),
        )
        for row in rows
    ]


def placements(db: Connection, made: Tables, body: str, case_ids: Sequence[str], today: date) -> dict[str, Placement]:
    """Of these cases those that stand on an agenda of the body: sitting to come or going on, item not closed.

    A sitting that was never opened on its day has lapsed, and so has its agenda. Where a case stands on several
    agendas, the next sitting is told.
    """
    meetings, items = made["meetings"], made["placements"]
    query = (
        select(items.c.case_id, items.c.item, meetings.c.meeting_id, meetings.c.day)
        .join(meetings, meetings.c.meeting_id == items.c.meeting_id)
        .where(
            items.c.case_id.in_(case_ids),
            items.c.closed.is_(None),
            meetings.c.body == body,
            or_(
                meetings.c.phase == "in_session",
                and_(meetings.c.phase == "planned", meetings.c.day >= today.isoformat()),
            ),
        )
        .order_by(meetings.c.day.desc(), meetings.c.meeting_id.desc())
    )
    return {row.case_id: Placement(meeting_id=row.meeting_id, item=row.item, day=row.day) for row in db.execute(query)}


def cases_seen(db: Connection, made: Tables, case_ids: Sequence[str]) -> dict[str, CaseSeen]:
    """Where these cases are; those not heard of are missing."""
    cases = made["cases"]
    rows = db.execute(select(cases).where(cases.c.case_id.in_(case_ids), cases.c.state.is_not(None)))
    return {
        row.case_id: CaseSeen(case_id=row.case_id, state=row.state, body=row.body, version=row.version) for row in rows
    }


def titles_of(db: Connection, made: Tables, case_ids: Sequence[str]) -> dict[str, str]:
    """Titles of these cases, as far as heard."""
    titles = made["titles"]
    rows = db.execute(select(titles.c.case_id, titles.c.title).where(titles.c.case_id.in_(case_ids)))
    return {row.case_id: row.title for row in rows if row.title is not None}
