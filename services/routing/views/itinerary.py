"""Itinerary: where a case is, who has it, since when, what comes next, by when, and why.

Capabilities C3, G7, first-15. One row a case, one a holding, one a change of date. Holdings follow one another without
gap (I-2): the event that opens one ends the one before it at the same instant, so that the times held sum to the age.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from pydantic import Field
from sqlalchemy import Boolean, Column, Connection, Integer, String, select, update

from services.routing.views.answers import (
    OUTCOMES,
    Answer,
    NamedId,
    ReasonAnswer,
    RuleAnswer,
    Words,
    because,
    body_name,
    named_body,
    named_office,
    office_name,
    reason_answer,
    reason_columns,
    rule_answer,
    rule_columns,
    spoken,
    stage_label,
    stage_of,
    stamp,
)
from shared.contracts.routing import (
    CaseClosed,
    CaseLinkedToPolicy,
    CaseMoved,
    CaseOpened,
    CaseRouted,
    CaseUnrouted,
    DeadlineChanged,
    EscalatedToForum,
    EscalatedToSupportGroup,
    Holding,
    ImplementationAssigned,
)
from shared.runtime.declare import (
    Absent,
    Facts,
    Gateway,
    Named,
    One,
    Recorded,
    Request,
    Resource,
    Stream,
    Tables,
    View,
)
from shared.runtime.directory import Directory
from shared.runtime.views import upsert

OPENS_HOLDING = (
    CaseOpened,
    CaseRouted,
    CaseUnrouted,
    EscalatedToSupportGroup,
    EscalatedToForum,
    CaseMoved,
    ImplementationAssigned,
)
"""The events that give a case to a holder (rule (d) of section 5)."""


def _tables(named: Named) -> None:
    named.table(
        "cases",
        Column("case_id", String, primary_key=True),
        Column("version", Integer, nullable=False),
        Column("opened_at", String),
        Column("closed_at", String),
        Column("outcome", String),
        Column("stage", String),
        Column("state", String),
        Column("body", String, index=True),
        Column("office", String),
        Column("since", String),
        Column("due", String),
        Column("reason_code", String),
        Column("reason_text", String),
        Column("raised_by", String),
        Column("rule_version", Integer),
        Column("nationwide", Boolean),
        Column("regions", String),
        Column("policy_id", String),
        Column("policy_revision", Integer),
        Column("policy_link", String),
        Column("policy_reason", String),
    )
    named.table(
        "holdings",
        Column("case_id", String, primary_key=True),
        Column("version", Integer, primary_key=True),
        Column("event", String),
        Column("event_id", String),
        Column("since", String),
        Column("until", String),
        Column("stage", String),
        Column("state", String),
        Column("body", String),
        Column("office", String),
        Column("first_due", String),
        Column("due", String),
        Column("clock", String),
        Column("cause", String),
        Column("reason_code", String),
        Column("reason_text", String),
        Column("rule_set", String),
        Column("rule_version", Integer),
        Column("rule_rows", String),
    )
    named.table(
        "deadlines",
        Column("case_id", String, primary_key=True),
        Column("version", Integer, primary_key=True),
        Column("at", String),
        Column("due", String),
        Column("clock", String),
        Column("cause", String),
        Column("reason_code", String),
        Column("reason_text", String),
    )


def _fold(db: Connection, tables: Tables, heard: Recorded) -> None:
    event, case_id = heard.data, heard.case_id
    if case_id is None or heard.envelope.aggregate != "Case":
        return
    case: dict[str, Any] = {"case_id": case_id, "version": heard.envelope.version}
    match event:
        case CaseOpened():
            case |= _beginning(heard, event)
            case |= _open(db, tables, heard, event.holding, None)
        case CaseUnrouted():
            if event.next_step == "intake":
                # No rule named an intake body: the case begins here (row 8).
                case |= _beginning(heard, event)
            case |= _open(db, tables, heard, event.holding, event.cause)
        case CaseRouted() | EscalatedToSupportGroup() | EscalatedToForum() | CaseMoved() | ImplementationAssigned():
            case |= _open(db, tables, heard, event.holding, event.cause)
        case DeadlineChanged():
            holdings, deadlines = tables["holdings"], tables["deadlines"]
            db.execute(
                update(holdings)
                .where(holdings.c.case_id == case_id, holdings.c.until.is_(None))
                .values(due=event.due.isoformat(), clock=event.clock)
            )
            row = {
                "case_id": case_id,
                "version": heard.envelope.version,
                "at": stamp(heard.at),
                "due": event.due.isoformat(),
                "clock": event.clock,
                "cause": event.cause,
            }
            upsert(db, deadlines, row | reason_columns(event.reason))
            case["due"] = event.due.isoformat()
        case CaseLinkedToPolicy():
            case |= {
                "policy_id": event.policy_id,
                "policy_revision": event.policy_revision,
                "policy_link": event.link,
                "policy_reason": event.reason,
            }
        case CaseClosed():
            _end(db, tables, heard)
            case |= {"closed_at": stamp(heard.at), "outcome": event.outcome, "stage": "R9", "state": "closed"}
            case |= {"body": None, "office": None, "due": None, "since": stamp(heard.at)}
            case |= reason_columns(event.reason or heard.envelope.reason)
        case _:
            pass
    upsert(db, tables["cases"], case)


def _beginning(heard: Recorded, event: CaseOpened | CaseUnrouted) -> dict[str, Any]:
    return {
        "opened_at": stamp(heard.at),
        "raised_by": event.raised_by,
        "rule_version": event.rule_version,
        "nationwide": event.nationwide,
        "regions": json.dumps([region.model_dump(mode="json") for region in event.regions], ensure_ascii=False),
    }


def _end(db: Connection, tables: Tables, heard: Recorded) -> None:
    if heard.envelope.version == 1:
        # Nothing was held before.
        return
    holdings = tables["holdings"]
    db.execute(
        update(holdings)
        .where(holdings.c.case_id == heard.case_id, holdings.c.until.is_(None))
        .values(until=stamp(heard.at))
    )


def _open(db: Connection, tables: Tables, heard: Recorded, holding: Holding, cause: str | None) -> dict[str, Any]:
    """End the holding before, write the new one, and give the columns of the case that follow from it."""
    _end(db, tables, heard)
    position = {
        "stage": stage_of(holding),
        "state": holding.state,
        "body": holding.body,
        "office": holding.office,
        "since": stamp(heard.at),
        "due": holding.due.isoformat(),
    }
    row = position | {
        "case_id": heard.case_id,
        "version": heard.envelope.version,
        "event": heard.type,
        "event_id": heard.id,
        "first_due": position["due"],
        "clock": holding.clock,
        "cause": cause or heard.envelope.causation_id,
    }
    reason = reason_columns(getattr(heard.data, "reason", None) or heard.envelope.reason)
    upsert(db, tables["holdings"], row | reason | rule_columns(heard.envelope.rule_trace))
    return position | reason


VIEW = View(name="itinerary", version=1, sources=("routing",), tables=_tables, fold=_fold)


class RegionToday(Answer):
    """A region of today that stands for the one raised: itself, perhaps under another code, or a successor."""

    region: str
    code: str
    name: Words


class RegionThenAndNow(Answer):
    """A region as it stood when the suggestion was raised, and what it is today (I-16)."""

    region: str
    code: str
    name: str
    today: list[RegionToday]


class DueChange(Answer):
    """Another date for the present holder (I-17)."""

    at: datetime
    due: date
    clock: str
    cause: str
    reason: ReasonAnswer | None


class HoldingAnswer(Answer):
    """One holder of the case: from when to when, until what date, why, and by which rules."""

    stage: str
    label: Words
    body: NamedId
    office: NamedId
    since: datetime = Field(alias="from")
    until: datetime | None = Field(alias="to")
    first_due: date
    due: date
    due_changes: list[DueChange]
    clock: str
    seconds: float
    days: float
    event: str
    event_id: str
    cause: str | None
    because: Words
    reason: ReasonAnswer | None
    rules: RuleAnswer | None


class Held(Answer):
    """How long a body held the case in one go: a line of the time ledger."""

    body: NamedId
    since: datetime = Field(alias="from")
    until: datetime | None = Field(alias="to")
    seconds: float


class HolderAnswer(Answer):
    """Whose turn it is."""

    body: str
    name: Words
    office: str
    office_name: Words


class PolicyAnswer(Answer):
    """The policy that answers the case."""

    policy_id: str
    revision: int
    link: str
    reason: str


class ItineraryAnswer(Answer):
    """Where the case is, who has it, since when, what comes next, by when, and why."""

    case_id: str
    stage: str
    label: Words
    holder: HolderAnswer | None
    since: datetime
    due: date | None
    overdue: bool
    next: Words
    because: Words
    reason: ReasonAnswer | None
    raised_by: NamedId | None
    nationwide: bool
    regions: list[RegionThenAndNow]
    opened_at: datetime
    closed_at: datetime | None
    outcome: str | None
    outcome_label: Words | None
    policy: PolicyAnswer | None
    holdings: list[HoldingAnswer]
    ledger: list[Held]
    age_seconds: float


def case_row(facts: Facts, case_id: str) -> Any:
    """The case's row; raises ``Absent`` where no such case was opened."""
    cases = facts.tables(VIEW)["cases"]
    row = facts.db.execute(select(cases).where(cases.c.case_id == case_id)).first()
    if row is None or row.opened_at is None:
        raise Absent("case")
    return row


def case_resource(request: Request) -> Resource:
    """What the policy table asks about the case in the path: holder, raiser, regions, stage."""
    row = case_row(request, request.path["case_id"])
    return Resource(
        body=row.body,
        regions=tuple(region["region"] for region in json.loads(row.regions or "[]")),
        nationwide=bool(row.nationwide),
        office=row.office,
        organisation=row.raised_by,
        stage=row.stage,
    )


def itinerary(facts: Facts, case_id: str) -> tuple[ItineraryAnswer, int]:
    """The itinerary of a case and the version of its stream; raises ``Absent``."""
    row = case_row(facts, case_id)
    directory, today = facts.directory, facts.today
    holdings = _holdings(facts, row)
    last = holdings[-1] if holdings else None
    closed = row.closed_at is not None
    opened_at = datetime.fromisoformat(row.opened_at)
    ended_at = datetime.fromisoformat(row.closed_at) if closed else facts.now
    due = date.fromisoformat(row.due) if row.due is not None else None
    holder = None
    if row.body is not None:
        holder = HolderAnswer(
            body=row.body,
            name=body_name(directory, row.body, today),
            office=row.office,
            office_name=office_name(directory, row.office),
        )
    answer = ItineraryAnswer(
        case_id=case_id,
        stage=row.stage,
        label=stage_label(directory, row.stage, row.rule_version, today),
        holder=holder,
        since=datetime.fromisoformat(row.since),
        due=due,
        overdue=due is not None and due < today,
        next=what_comes_next(row, directory, today),
        because=because("CaseClosed" if closed or last is None else last.event, row.state),
        reason=reason_answer(row),
        raised_by=named_body(directory, row.raised_by, opened_at.date()) if row.raised_by else None,
        nationwide=bool(row.nationwide),
        regions=[_region(region, directory, today) for region in json.loads(row.regions or "[]")],
        opened_at=opened_at,
        closed_at=ended_at if closed else None,
        outcome=row.outcome,
        outcome_label=OUTCOMES.get(row.outcome) if closed else None,
        policy=_policy(row),
        holdings=holdings,
        ledger=_ledger(holdings),
        age_seconds=(ended_at - opened_at).total_seconds(),
    )
    return answer, row.version


def _policy(row: Any) -> PolicyAnswer | None:
    if row.policy_id is None:
        return None
    return PolicyAnswer(
        policy_id=row.policy_id, revision=row.policy_revision, link=row.policy_link, reason=row.policy_reason
    )


def _region(raised: dict[str, str], directory: Directory, today: date) -> RegionThenAndNow:
    heirs = (directory.region(heir, today) for heir in directory.successors(raised["region"], today))
    return RegionThenAndNow(
        region=raised["region"],
        code=raised["code"],
        name=raised["name"],
        today=[
            RegionToday(region=heir.id, code=heir.codes.mois, name=Words(ko=heir.name.ko, en=heir.name.en))
            for heir in heirs
            if heir is not None
        ],
    )


def _holdings(facts: Facts, case: Any) -> list[HoldingAnswer]:
    tables = facts.tables(VIEW)
    rows, changes = tables["holdings"], tables["deadlines"]
    found = facts.db.execute(select(rows).where(rows.c.case_id == case.case_id).order_by(rows.c.version)).all()
    changed = facts.db.execute(
        select(changes).where(changes.c.case_id == case.case_id).order_by(changes.c.version)
    ).all()
    ends = [row.version for row in found[1:]] + [case.version + 1]
    return [
        _holding(facts, case, row, [change for change in changed if row.version < change.version < end])
        for row, end in zip(found, ends, strict=True)
    ]


def _holding(facts: Facts, case: Any, row: Any, changes: Sequence[Any]) -> HoldingAnswer:
    directory = facts.directory
    since = datetime.fromisoformat(row.since)
    until = datetime.fromisoformat(row.until) if row.until is not None else None
    held = (until or facts.now) - since
    return HoldingAnswer(
        stage=row.stage,
        label=stage_label(directory, row.stage, case.rule_version, since.date()),
        body=named_body(directory, row.body, since.date()),
        office=named_office(directory, row.office),
        since=since,
        until=until,
        first_due=date.fromisoformat(row.first_due),
        due=date.fromisoformat(row.due),
        due_changes=[_due_change(change) for change in changes],
        clock=row.clock,
        seconds=held.total_seconds(),
        days=round(held / timedelta(days=1), 2),
        event=row.event,
        event_id=row.event_id,
        cause=row.cause,
        because=because(row.event, row.state),
        reason=reason_answer(row),
        rules=rule_answer(row, matched_only=True),
    )


def _due_change(row: Any) -> DueChange:
    return DueChange(
        at=datetime.fromisoformat(row.at),
        due=date.fromisoformat(row.due),
        clock=row.clock,
        cause=row.cause,
        reason=reason_answer(row),
    )


def _ledger(holdings: Sequence[HoldingAnswer]) -> list[Held]:
    """Holdings of one body that follow one another, as one line (a council's R1 and R2)."""
    lines: list[Held] = []
    for holding in holdings:
        before = lines[-1] if lines and lines[-1].body.id == holding.body.id else None
        if before is not None:
            lines.pop()
        lines.append(
            Held(
                body=holding.body,
                since=before.since if before else holding.since,
                until=holding.until,
                seconds=holding.seconds + (before.seconds if before else 0.0),
            )
        )
    return lines


def what_comes_next(row: Any, directory: Directory, today: date) -> Words:
    """One sentence: who does what by when, and where the case can go from there."""
    if row.state == "closed":
        outcome = OUTCOMES.get(row.outcome, Words(ko=row.outcome, en=row.outcome))
        return Words(
            ko=f"종결되었습니다({outcome.ko}). 남은 절차가 없습니다.",
            en=f"The case is closed ({outcome.en}). Nothing is left to do.",
        )
    body, office = body_name(directory, row.body, today), office_name(directory, row.office)
    due = spoken(date.fromisoformat(row.due))
    onward = [body_name(directory, edge.to_body, today) for edge in directory.edges(row.body, today)]
    then = Words(ko="", en="")
    if onward:
        then = Words(
            ko=f" 그다음 갈 수 있는 곳: {', '.join(name.ko for name in onward)}.",
            en=f" From there it can go to: {', '.join(name.en for name in onward)}.",
        )
    match row.state:
        case "intake":
            return Words(
                ko=f"{office.ko}에서 {due.ko}까지 건의가 갖추어졌는지 확인하여 수리하거나 반려합니다.",
                en=f"{office.en} checks by {due.en} whether the suggestion is complete, and accepts or refuses it.",
            )
        case "in_joint_review":
            return Words(
                ko=f"{body.ko}에서 소관부서의 검토의견을 모아 {due.ko}까지 합동검토를 마칩니다.{then.ko}",
                en=f"{body.en} gathers the departments' opinions and concludes the review by {due.en}.{then.en}",
            )
        case "implementing":
            return Words(
                ko=f"{body.ko}에서 결정된 사항을 {due.ko}까지 이행하고, 이행이 끝나면 종결됩니다.",
                en=f"{body.en} carries out what was decided by {due.en}; then the case is closed.",
            )
        case "unrouted":
            return Words(
                ko=f"{office.ko}에서 {due.ko}까지 맡을 기관을 정합니다.",
                en=f"{office.en} names the competent body by {due.en}.",
            )
        case _:
            return Words(
                ko=f"{body.ko}에서 {due.ko}까지 회의에 상정하여 결정합니다.{then.ko}",
                en=f"{body.en} puts the case on its agenda and decides by {due.en}.{then.en}",
            )


def routes(gateway: Gateway) -> None:
    """Declare the reads of a case's way."""

    @gateway.read(
        "/v1/cases/{case_id}",
        action="read_case",
        operation_id="get_case",
        views=(VIEW,),
        answer=ItineraryAnswer,
        resource=case_resource,
    )
    def get_case(request: Request) -> One:
        """Where a case is, who has it, since when, what comes next, by when, and why."""
        case_id = request.path["case_id"]
        answer, version = itinerary(request, case_id)
        return One(answer, version, case_id)

    @gateway.read(
        "/v1/cases/{case_id}/events",
        action="follow_case",
        operation_id="follow_case",
        views=(VIEW,),
        answer=Stream,
        resource=case_resource,
        stream=True,
    )
    def follow_case(request: Request) -> Stream:
        """Routing's events of a case as they are stored, as server-sent events."""
        return Stream(case_row(request, request.path["case_id"]).case_id)
