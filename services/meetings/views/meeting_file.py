"""Meeting file: a sitting with its agenda, attendance, statements, deliberations and decisions.

Source: "meeting file" among the views of the floor; E8 (positions, not minutes), E6 (quorum).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import JSON, Column, Connection, Integer, String, select, tuple_

from shared.contracts.codes import DecisionCode, Method, Stance
from shared.contracts.envelope import Fact, Label
from shared.contracts.meetings import (
    AgendaItemPlaced,
    AttendanceRecorded,
    CharterRef,
    DecisionFields,
    DecisionRecorded,
    DeliberationConcluded,
    ItemClosed,
    ItemOpened,
    MeetingHeld,
    MeetingOpened,
    MeetingPlanned,
    QuorumEstablished,
    StatementRecorded,
)
from shared.runtime.declare import Named, Recorded, Tables, View
from shared.runtime.views import upsert

PHASES = {
    "planned": Label(ko="예정", en="planned"),
    "in_session": Label(ko="진행 중", en="in session"),
    "held": Label(ko="종료", en="held"),
}
ITEM_STATES = {
    "placed": Label(ko="상정", en="placed"),
    "open": Label(ko="진행 중", en="open"),
    "decided": Label(ko="의결", en="decided"),
    "undecided": Label(ko="미의결", en="undecided"),
}
CODES: dict[DecisionCode, Label] = {
    "resolved": Label(ko="해결", en="resolved"),
    "resolved_on_site": Label(ko="현장해결", en="resolved on site"),
    "take_for_review": Label(ko="검토회부", en="taken for review"),
    "escalate": Label(ko="상향상정", en="escalated"),
    "return_for_review": Label(ko="재검토", en="returned for review"),
    "delegate_down": Label(ko="하위 회부", en="delegated down"),
    "refer_ministries": Label(ko="관계부처 협의", en="referred to ministries"),
    "adopt": Label(ko="채택", en="adopted"),
    "adopt_amended": Label(ko="수정채택", en="adopted as amended"),
    "adopt_alternative": Label(ko="대안채택", en="alternative adopted"),
    "set_direction": Label(ko="방향설정", en="direction set"),
    "commission_task": Label(ko="과제부여", en="task commissioned"),
    "noted": Label(ko="보고·청취", en="noted"),
    "defer": Label(ko="보류", en="deferred"),
    "postpone_next": Label(ko="차기상정", en="postponed to the next sitting"),
    "not_adopt": Label(ko="불수용", en="not adopted"),
    "not_applicable": Label(ko="해당없음", en="not applicable"),
    "withdrawn": Label(ko="취하", en="withdrawn"),
}
"""Korean terms of section 6."""


def tables(named: Named) -> None:
    """Sittings, their items, and what was said on them."""
    named.table(
        "meetings",
        Column("meeting_id", String, primary_key=True),
        Column("body", String, index=True),
        Column("day", String),
        Column("place", String),
        Column("form", String),
        Column("phase", String),
        Column("charter", JSON),
        Column("present", JSON),
        Column("absent", JSON),
        Column("quorum_present", Integer),
        Column("quorum_required", Integer),
        Column("opened_at", String),
        Column("held_at", String),
        Column("version", Integer),
    )
    named.table(
        "items",
        Column("meeting_id", String, primary_key=True),
        Column("item", Integer, primary_key=True),
        Column("case_id", String),
        Column("policy_id", String),
        Column("state", String),
        Column("deliberation", JSON),
        Column("decision", JSON),
        Column("decision_event", String),
        Column("decided_at", String),
        Column("decided_by", String),
    )
    named.table(
        "statements",
        Column("event_id", String, primary_key=True),
        Column("meeting_id", String, index=True),
        Column("item", Integer),
        Column("number", Integer),
        Column("seat", String),
        Column("field", String),
        Column("stance", String),
        Column("text", String),
    )


def fold(db: Connection, made: Tables, heard: Recorded) -> None:
    """One fact more; every event of a meeting also moves its version."""
    event = heard.data
    meeting: dict[str, Any] = {}
    item: dict[str, Any] = {}
    match event:
        case MeetingPlanned():
            meeting = {
                "body": event.body,
                "day": event.day.isoformat(),
                "place": event.place,
                "form": event.form,
                "phase": "planned",
            }
        case AgendaItemPlaced():
            item = {"case_id": event.case_id, "policy_id": event.policy_id, "state": "placed"}
        case MeetingOpened():
            meeting = {
                "phase": "in_session",
                "charter": event.charter.model_dump(mode="json"),
                "opened_at": heard.at.isoformat(),
            }
        case AttendanceRecorded():
            meeting = {
                "present": list(event.present),
                "absent": list(event.absent),
                "quorum_present": None,
                "quorum_required": None,
            }
        case QuorumEstablished():
            meeting = {"quorum_present": event.present, "quorum_required": event.required}
        case ItemOpened():
            item = {"state": "open"}
        case StatementRecorded():
            row = {
                "event_id": heard.id,
                "meeting_id": heard.aggregate_id,
                "item": event.item,
                "number": heard.envelope.version,
                "seat": event.seat,
                "field": event.field,
                "stance": event.stance,
                "text": event.text,
            }
            upsert(db, made["statements"], row)
        case DeliberationConcluded():
            item = {"deliberation": event.model_dump(mode="json", exclude={"type", "item", "case_id"})}
        case DecisionRecorded():
            item = {
                "decision": event.model_dump(mode="json", exclude={"type", "item", "case_id", "body"}),
                "decision_event": heard.id,
                "decided_at": heard.at.isoformat(),
                "decided_by": heard.envelope.actor.office,
            }
        case ItemClosed():
            item = {"state": event.result}
        case MeetingHeld():
            meeting = {"phase": "held", "held_at": heard.at.isoformat()}
        case _:
            return
    upsert(db, made["meetings"], {"meeting_id": heard.aggregate_id, "version": heard.envelope.version, **meeting})
    if item:
        number = getattr(event, "item", None)
        upsert(db, made["items"], {"meeting_id": heard.aggregate_id, "item": number, **item})


MEETING_FILE = View(name="meeting_file", version=1, sources=("meetings",), tables=tables, fold=fold)


# Queries


class MeetingRow(Fact):
    """A sitting in a list."""

    meeting_id: str
    body: str
    day: date
    place: str
    form: str
    phase: str
    phase_label: Label
    items: int


class MemberStatement(Fact):
    """A member's position."""

    seat: str
    field: str
    stance: Stance
    text: str


class ItemDeliberation(Fact):
    """How a deliberation ended."""

    advice: str
    fields_heard: tuple[str, ...]
    fields_not_heard: tuple[str, ...]
    text: str


class ItemDecision(Fact):
    """What was decided on an item."""

    decision: str
    decision_event: str
    code: DecisionCode
    code_label: Label
    method: Method
    clause: str
    fields: DecisionFields
    decided_at: str
    decided_by: str


class AgendaItem(Fact):
    """An item of the agenda with what was said and decided."""

    item: int
    case_id: str
    title: str | None
    policy_id: str | None
    state: str
    state_label: Label
    statements: tuple[MemberStatement, ...]
    deliberation: ItemDeliberation | None
    decision: ItemDecision | None


class MeetingQuorum(Fact):
    """How many attended, how many the charter asks for."""

    present: int
    required: int


class MeetingFile(Fact):
    """A sitting as it stands."""

    meeting_id: str
    body: str
    day: date
    place: str
    form: str
    phase: str
    phase_label: Label
    charter: CharterRef | None
    present: tuple[str, ...]
    absent: tuple[str, ...]
    quorum: MeetingQuorum | None
    """``None`` until attendance reached what the charter asks for."""
    fields_covered: tuple[str, ...] = ()
    """Fields of expertise that a seat of the body has on the day of the sitting (C6)."""
    fields_not_covered: tuple[str, ...] = ()
    """Fields that a seat had before, and none has on that day."""
    opened_at: str | None
    held_at: str | None
    agenda: tuple[AgendaItem, ...]


def meeting_rows(
    db: Connection, made: Tables, body: str | None, limit: int, after: Sequence[Any] | None
) -> list[MeetingRow]:
    """Sittings of a body or of all, the latest day first; after ``(day, meeting id)`` of the last one seen."""
    meetings, items = made["meetings"], made["items"]
    query = select(meetings).where(meetings.c.body.is_not(None))
    if body is not None:
        query = query.where(meetings.c.body == body)
    if after is not None:
        query = query.where(tuple_(meetings.c.day, meetings.c.meeting_id) < tuple_(*after))
    rows = db.execute(query.order_by(meetings.c.day.desc(), meetings.c.meeting_id.desc()).limit(limit)).all()
    numbers: dict[str, int] = defaultdict(int)
    for row in db.execute(select(items.c.meeting_id).where(items.c.meeting_id.in_([row.meeting_id for row in rows]))):
        numbers[row.meeting_id] += 1
    return [
        MeetingRow(
            meeting_id=row.meeting_id,
            body=row.body,
            day=row.day,
            place=row.place,
            form=row.form,
            phase=row.phase,
            phase_label=PHASES[row.phase],
            items=numbers[row.meeting_id],
        )
        for row in rows
    ]


def meeting_file(db: Connection, made: Tables, meeting_id: str) -> tuple[MeetingFile, int] | None:
    """A sitting and its version, without the titles of its cases; ``None`` where it is not heard of."""
    meetings, items, statements = made["meetings"], made["items"], made["statements"]
    row = db.execute(select(meetings).where(meetings.c.meeting_id == meeting_id)).one_or_none()
    if row is None or row.body is None:
        return None
    spoken: dict[int, list[MemberStatement]] = defaultdict(list)
    for said in db.execute(
        select(statements).where(statements.c.meeting_id == meeting_id).order_by(statements.c.number)
    ):
        spoken[said.item].append(MemberStatement(seat=said.seat, field=said.field, stance=said.stance, text=said.text))
    agenda = tuple(
        AgendaItem(
            item=item.item,
            case_id=item.case_id,
            title=None,
            policy_id=item.policy_id,
            state=item.state,
            state_label=ITEM_STATES[item.state],
            statements=tuple(spoken[item.item]),
            deliberation=None if item.deliberation is None else ItemDeliberation.model_validate(item.deliberation),
            decision=_decision(item),
        )
        for item in db.execute(select(items).where(items.c.meeting_id == meeting_id).order_by(items.c.item))
    )
    file = MeetingFile(
        meeting_id=row.meeting_id,
        body=row.body,
        day=row.day,
        place=row.place,
        form=row.form,
        phase=row.phase,
        phase_label=PHASES[row.phase],
        charter=None if row.charter is None else CharterRef.model_validate(row.charter),
        present=tuple(row.present or ()),
        absent=tuple(row.absent or ()),
        quorum=None
        if row.quorum_present is None
        else MeetingQuorum(present=row.quorum_present, required=row.quorum_required),
        opened_at=row.opened_at,
        held_at=row.held_at,
        agenda=agenda,
    )
    return file, row.version


def with_fields(file: MeetingFile, covered: tuple[str, ...], not_covered: tuple[str, ...]) -> MeetingFile:
    """The same file with the coverage of the body's fields, which the directory told."""
    return file.model_copy(update={"fields_covered": covered, "fields_not_covered": not_covered})


def with_titles(file: MeetingFile, titles: dict[str, str]) -> MeetingFile:
    """The same file with the titles of its cases, which another source told."""
    agenda = tuple(AgendaItem(**{**dict(item), "title": titles.get(item.case_id)}) for item in file.agenda)
    return MeetingFile(**{**dict(file), "agenda": agenda})


def _decision(item: Any) -> ItemDecision | None:
    if item.decision is None:
        return None
    return ItemDecision(
        **item.decision,
        code_label=CODES[item.decision["code"]],
        decision_event=item.decision_event,
        decided_at=item.decided_at,
        decided_by=item.decided_by,
    )
