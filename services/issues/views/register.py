"""register: every issue with its docket, state, regions, and each round of review with its opinions.

The Issue stream and the JointReview stream fill tables of their own; they meet in the query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import JSON, Boolean, Column, Connection, Float, Integer, Row, String, and_, or_, select, tuple_, update

from services.issues import labels
from services.issues.labels import label
from services.issues.views.position import position_of
from shared.contracts.envelope import Label, Reason
from shared.contracts.issues import (
    DepartmentConsulted,
    DepartmentReminded,
    Direction,
    IssueAccepted,
    IssueClosed,
    IssueRaised,
    IssueRefused,
    IssueReviewed,
    JointReviewOpened,
    OpinionGiven,
    OpinionNotGiven,
    ReceiptIssued,
    SupportDirectionSet,
)
from shared.runtime.declare import Absent, Facts, Named, Page, Recorded, Request, Tables, View
from shared.runtime.directory import SEOUL, Directory
from shared.runtime.views import upsert


def tables(named: Named) -> None:
    """Issues and their regions; rounds and their consultations."""
    named.table(
        "issue",
        Column("case_id", String, primary_key=True),
        Column("version", Integer),
        Column("state", String),
        Column("docket", String),
        Column("title", String),
        Column("text", String),
        Column("revision", Integer),
        Column("nationwide", Boolean),
        Column("raised_by", String, index=True),
        Column("co_raisers", JSON),
        Column("recorded_by", String),
        Column("channel", String),
        Column("origin", String),
        Column("plan_item", String),
        Column("tags", JSON),
        Column("cost_band", String),
        Column("external_id", String),
        Column("effective_at", String),
        Column("raised_at", String, index=True),
        Column("accepted_at", String),
        Column("ended_at", String),
        Column("outcome", String),
        Column("refusal_code", String),
        Column("refusal_text", String),
    )
    named.table(
        "region",
        Column("case_id", String, primary_key=True),
        Column("ordinal", Integer, primary_key=True),
        Column("region", String, index=True),
        Column("code", String),
        Column("name", String),
    )
    named.table(
        "review",
        Column("review_id", String, primary_key=True),
        Column("case_id", String, index=True),
        Column("version", Integer),
        Column("state", String),
        Column("round", Integer),
        Column("revision", Integer),
        Column("body", String),
        Column("lead", String),
        Column("proposed", JSON),
        Column("opened_at", String),
        Column("direction", JSON),
        Column("direction_revision", Integer),
        Column("concluded_at", String),
        Column("outcome", String),
        Column("divergence", Float),
        Column("text", String),
    )
    named.table(
        "consultation",
        Column("review_id", String, primary_key=True),
        Column("department", String, primary_key=True),
        Column("case_id", String),
        Column("round", Integer),
        Column("ordinal", Integer),
        Column("lead", Boolean),
        Column("revision", Integer),
        Column("due", String),
        Column("second_due", String),
        Column("open_until", String, index=True),
        Column("opinion", String),
        Column("opinion_revision", Integer),
        Column("conditions", JSON),
        Column("text", String),
        Column("answered_at", String),
    )


def stamp(at: datetime) -> str:
    """A time as stored: Seoul, of one width, so that its text sorts as it does."""
    return at.astimezone(SEOUL).isoformat(timespec="microseconds")


def fold(db: Connection, tables: Tables, heard: Recorded) -> None:
    """Take one event of issues into the register."""
    if heard.envelope.aggregate == "Issue":
        _fold_issue(db, tables, heard)
    elif heard.envelope.aggregate == "JointReview":
        _fold_review(db, tables, heard)


def _fold_issue(db: Connection, tables: Tables, heard: Recorded) -> None:
    event, at = heard.data, stamp(heard.at)
    changed: dict[str, Any]
    match event:
        case IssueRaised():
            for ordinal, ref in enumerate(event.regions):
                key = {"case_id": heard.aggregate_id, "ordinal": ordinal}
                upsert(db, tables["region"], {**key, "region": ref.region, "code": ref.code, "name": ref.name})
            changed = {
                "state": "raised",
                "title": event.title,
                "text": event.text,
                "revision": event.revision,
                "nationwide": event.nationwide,
                "raised_by": event.raised_by,
                "co_raisers": list(event.co_raisers),
                "recorded_by": heard.envelope.actor.office,
                "channel": event.channel,
                "origin": event.origin,
                "plan_item": event.plan_item,
                "tags": list(event.tags),
                "cost_band": event.cost_band,
                "external_id": event.external_id,
                "effective_at": stamp(heard.envelope.effective_at),
                "raised_at": at,
            }
        case ReceiptIssued():
            changed = {"docket": event.docket}
        case IssueAccepted():
            changed = {"state": "accepted", "accepted_at": at}
        case IssueRefused():
            changed = {
                "state": "refused",
                "ended_at": at,
                "outcome": "refused",
                "refusal_code": event.reason.code,
                "refusal_text": event.reason.text,
            }
        case IssueClosed():
            changed = {"state": "closed", "ended_at": at, "outcome": event.outcome}
        case _:
            changed = {}
    upsert(db, tables["issue"], {"case_id": heard.aggregate_id, "version": heard.envelope.version, **changed})


def _fold_review(db: Connection, tables: Tables, heard: Recorded) -> None:
    event, at = heard.data, stamp(heard.at)
    review: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    match event:
        case JointReviewOpened():
            review = {
                "state": "open",
                "round": event.round,
                "revision": event.revision,
                "body": event.body,
                "lead": event.lead,
                "proposed": list(event.proposed),
                "opened_at": at,
            }
        case DepartmentConsulted():
            if event.lead:
                review = {"lead": event.department}
            asked = {
                "department": event.department,
                "round": event.round,
                "ordinal": heard.envelope.version,
                "lead": event.lead,
                "revision": event.revision,
                "due": event.due.isoformat(),
                "second_due": None,
                "open_until": event.due.isoformat(),
                "opinion": None,
                "opinion_revision": None,
                "conditions": None,
                "text": None,
                "answered_at": None,
            }
        case DepartmentReminded():
            due = event.due.isoformat()
            asked = {"department": event.department, "second_due": due, "open_until": due}
        case OpinionNotGiven():
            asked = {"department": event.department, "open_until": None, "opinion": "not_given", "answered_at": at}
        case OpinionGiven():
            asked = {
                "department": event.department,
                "open_until": None,
                "opinion": event.opinion,
                "opinion_revision": event.revision,
                "conditions": list(event.conditions),
                "text": event.text,
                "answered_at": at,
            }
        case SupportDirectionSet():
            review = {"direction": event.direction.model_dump(mode="json"), "direction_revision": event.revision}
        case IssueReviewed():
            review = {
                "state": "concluded",
                "concluded_at": at,
                "outcome": event.outcome,
                "divergence": event.divergence,
                "lead": event.lead,
                "text": event.text,
            }
        case _:
            pass
    key = {"review_id": heard.aggregate_id, "case_id": heard.case_id}
    upsert(db, tables["review"], {**key, "version": heard.envelope.version, **review})
    if asked:
        upsert(db, tables["consultation"], {**key, **asked})
    if isinstance(event, IssueReviewed):
        consultation = tables["consultation"]
        # Nothing falls due any more in a round that is over.
        db.execute(update(consultation).where(consultation.c.review_id == heard.aggregate_id).values(open_until=None))


REGISTER = View(name="register", version=1, sources=("issues",), tables=tables, fold=fold)


# What it answers


class Answer(BaseModel):
    """Base of the answers: explicit fields only."""

    model_config = ConfigDict(frozen=True)


class Coded(Answer):
    """A code, and its label for a person."""

    code: str
    label: Label


class RegionCode(Answer):
    """A region under the code and the name of a day."""

    region: str
    code: str
    name: str


class RegionAnswer(Answer):
    """A region as of the day of the suggestion, and what it is today (I-16)."""

    region: str
    as_raised: RegionCode
    today: list[RegionCode]
    """One, or several where it was divided; empty where this service knows of none."""


class PositionAnswer(Answer):
    """Where the case is: as routing said last."""

    stage: Coded
    state: str
    body: str | None
    office: str | None
    due: date | None


class ReviewSummary(Answer):
    """A round of joint review in short."""

    round: int
    state: Coded
    lead: str | None
    departments: list[str]
    answered: int
    outcome: Coded | None
    divergence: float | None


class IssueRow(Answer):
    """An issue in the register."""

    id: str
    docket: str | None
    title: str
    state: Coded
    revision: int
    nationwide: bool
    regions: list[RegionAnswer]
    raised_by: str
    channel: Coded
    origin: Coded
    plan_item: str | None
    effective_at: datetime
    raised_at: datetime
    outcome: Coded | None


class IssueAnswer(IssueRow):
    """An issue in full, with its rounds of review and where it is."""

    text: str
    co_raisers: list[str]
    recorded_by: str
    tags: list[str]
    cost_band: str
    external_id: str | None
    accepted_at: datetime | None
    ended_at: datetime | None
    refusal: Reason | None
    reviews: list[ReviewSummary]
    position: PositionAnswer | None


class ConsultationAnswer(Answer):
    """A department in a round: asked when until, and what it answered."""

    department: str
    name: Label | None
    lead: bool
    revision: int
    due: date
    second_due: date | None
    opinion: Coded | None
    opinion_revision: int | None
    conditions: list[str]
    text: str | None
    answered_at: datetime | None


class ReviewAnswer(Answer):
    """A round of joint review in full."""

    case_id: str
    round: int
    state: Coded
    revision: int
    body: str
    lead: str | None
    proposed: list[str]
    opened_at: datetime
    consultations: list[ConsultationAnswer]
    direction: Direction | None
    direction_revision: int | None
    outcome: Coded | None
    divergence: float | None
    text: str | None
    concluded_at: datetime | None


def _coded(table: Mapping[str, Label], code: str) -> Coded:
    return Coded(code=code, label=label(table, code))


def _coded_or_none(table: Mapping[str, Label], code: str | None) -> Coded | None:
    return None if code is None else _coded(table, code)


def regions_of(facts: Facts, case_id: str) -> tuple[str, ...]:
    """The regions of an issue as raised, the lead region first."""
    return tuple(row.region for row in _regions(facts, [case_id]).get(case_id, []))


def issue_row(facts: Facts, case_id: str) -> Row[Any]:
    """The register's row of an issue; raises ``Absent``."""
    issue = facts.tables(REGISTER)["issue"]
    row = facts.db.execute(select(issue).where(issue.c.case_id == case_id)).first()
    if row is None or row.raised_at is None:
        raise Absent("issue")
    return row


def list_issues(request: Request) -> Page:
    """Issues, the newest first, of the regions that the reader may see."""
    made = request.tables(REGISTER)
    issue, region = made["issue"], made["region"]

    def in_regions(regions: Sequence[str]) -> Any:
        # An issue keeps the region it was raised in, and is found under the one that region has become (I-16).
        known = {old for now in regions for old in request.directory.forebears(now, request.today)}
        return issue.c.case_id.in_(select(region.c.case_id).where(region.c.region.in_(known)))

    query = select(issue).where(issue.c.raised_at.is_not(None))
    allowed = request.regions_allowed()
    if allowed is not None:
        query = query.where(or_(issue.c.nationwide, in_regions(allowed)))
    if "region" in request.query:
        asked = request.query["region"]
        found = request.directory.find_region(asked, request.today)
        query = query.where(in_regions([found.id if found is not None else asked]))
    for name in ("state", "plan_item", "raised_by"):
        if name in request.query:
            query = query.where(issue.c[name] == request.query[name])
    order = (issue.c.raised_at, issue.c.case_id)
    if request.after is not None:
        query = query.where(tuple_(*order) < tuple_(*request.after))
    rows = request.db.execute(query.order_by(*(column.desc() for column in order)).limit(request.limit)).all()
    regions = _regions(request, [row.case_id for row in rows])
    return Page(
        [IssueRow(**_row(request, row, regions.get(row.case_id, []))) for row in rows],
        after=(rows[-1].raised_at, rows[-1].case_id) if len(rows) == request.limit else None,
    )


def show_issue(facts: Facts, case_id: str) -> tuple[IssueAnswer, int]:
    """One issue in full and its version; raises ``Absent``."""
    row = issue_row(facts, case_id)
    refusal = Reason(code=row.refusal_code, text=row.refusal_text) if row.refusal_code is not None else None
    answer = IssueAnswer(
        **_row(facts, row, _regions(facts, [case_id]).get(case_id, [])),
        text=row.text,
        co_raisers=row.co_raisers,
        recorded_by=row.recorded_by,
        tags=row.tags,
        cost_band=row.cost_band,
        external_id=row.external_id,
        accepted_at=row.accepted_at,
        ended_at=row.ended_at,
        refusal=refusal,
        reviews=_summaries(facts, case_id),
        position=_position(facts, case_id),
    )
    return answer, row.version


def show_review(facts: Facts, case_id: str, round: str) -> tuple[ReviewAnswer, int]:
    """One round in full and its version; raises ``Absent``."""
    review = facts.tables(REGISTER)["review"]
    row = facts.db.execute(select(review).where(review.c.review_id == f"{case_id}.{round}")).first()
    if row is None or row.opened_at is None:
        raise Absent("review")
    answer = ReviewAnswer(
        case_id=case_id,
        round=row.round,
        state=_coded(labels.REVIEW_STATE, row.state),
        revision=row.revision,
        body=row.body,
        lead=row.lead,
        proposed=row.proposed,
        opened_at=row.opened_at,
        consultations=[_consultation(facts, asked) for asked in _consultations(facts, [row.review_id])],
        direction=row.direction,
        direction_revision=row.direction_revision,
        outcome=_coded_or_none(labels.REVIEW_OUTCOME, row.outcome),
        divergence=row.divergence,
        text=row.text,
        concluded_at=row.concluded_at,
    )
    return answer, row.version


def overdue(facts: Facts) -> Sequence[Row[Any]]:
    """Consultations without an answer whose last date has passed (rows 12a and 12b)."""
    made = facts.tables(REGISTER)
    review, asked = made["review"], made["consultation"]
    return facts.db.execute(
        select(asked, review.c.body)
        .join(review, review.c.review_id == asked.c.review_id)
        .where(and_(asked.c.open_until < facts.today.isoformat(), review.c.state == "open"))
        .order_by(asked.c.open_until, asked.c.review_id, asked.c.department)
    ).all()


def _row(facts: Facts, row: Row[Any], regions: Sequence[Row[Any]]) -> dict[str, Any]:
    return {
        "id": row.case_id,
        "docket": row.docket,
        "title": row.title,
        "state": _coded(labels.ISSUE_STATE, row.state),
        "revision": row.revision,
        "nationwide": row.nationwide,
        "regions": [_region(facts.directory, region, facts.today) for region in regions],
        "raised_by": row.raised_by,
        "channel": _coded(labels.CHANNEL, row.channel),
        "origin": _coded(labels.ORIGIN, row.origin),
        "plan_item": row.plan_item,
        "effective_at": row.effective_at,
        "raised_at": row.raised_at,
        "outcome": _coded_or_none(labels.OUTCOME, row.outcome),
    }


def _region(directory: Directory, row: Row[Any], today: date) -> RegionAnswer:
    """I-16: the past stands as it was raised; the present is computed from the directory of today."""
    now = [directory.region(region, today) for region in directory.successors(row.region, today)]
    return RegionAnswer(
        region=row.region,
        as_raised=RegionCode(region=row.region, code=row.code, name=row.name),
        today=[RegionCode(region=it.id, code=it.codes.mois, name=it.name.ko) for it in now if it is not None],
    )


def _regions(facts: Facts, case_ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    region = facts.tables(REGISTER)["region"]
    query = select(region).where(region.c.case_id.in_(case_ids)).order_by(region.c.case_id, region.c.ordinal)
    found: dict[str, list[Row[Any]]] = {}
    for row in facts.db.execute(query):
        found.setdefault(row.case_id, []).append(row)
    return found


def _consultations(facts: Facts, review_ids: Sequence[str]) -> Sequence[Row[Any]]:
    asked = facts.tables(REGISTER)["consultation"]
    query = select(asked).where(asked.c.review_id.in_(review_ids)).order_by(asked.c.review_id, asked.c.ordinal)
    return facts.db.execute(query).all()


def _summaries(facts: Facts, case_id: str) -> list[ReviewSummary]:
    review = facts.tables(REGISTER)["review"]
    query = select(review).where(review.c.case_id == case_id, review.c.opened_at.is_not(None))
    rounds = facts.db.execute(query.order_by(review.c.round)).all()
    asked = _consultations(facts, [row.review_id for row in rounds])
    return [
        ReviewSummary(
            round=row.round,
            state=_coded(labels.REVIEW_STATE, row.state),
            lead=row.lead,
            departments=[it.department for it in asked if it.review_id == row.review_id],
            answered=sum(it.review_id == row.review_id and it.opinion is not None for it in asked),
            outcome=_coded_or_none(labels.REVIEW_OUTCOME, row.outcome),
            divergence=row.divergence,
        )
        for row in rounds
    ]


def _consultation(facts: Facts, row: Row[Any]) -> ConsultationAnswer:
    body = facts.directory.body(row.department, facts.today)
    return ConsultationAnswer(
        department=row.department,
        name=body.name if body is not None else None,
        lead=row.lead,
        revision=row.revision,
        due=row.due,
        second_due=row.second_due,
        opinion=_coded_or_none(labels.OPINION, row.opinion),
        opinion_revision=row.opinion_revision,
        conditions=row.conditions or [],
        text=row.text,
        answered_at=row.answered_at,
    )


def _position(facts: Facts, case_id: str) -> PositionAnswer | None:
    row = position_of(facts, case_id)
    if row is None or row.stage is None:
        return None
    return PositionAnswer(
        stage=_stage(facts.directory, row.stage, facts.today),
        state=row.state,
        body=row.body,
        office=row.office,
        due=row.due,
    )


def _stage(directory: Directory, stage: str, today: date) -> Coded:
    """A tier's label is data of the rule set; the other stages are states (section 4)."""
    rules = directory.rule_set(today)
    tiers = {tier.tier: tier.label for tier in rules.tiers} if rules is not None else {}
    return Coded(code=stage, label=tiers.get(stage) or label(labels.STAGE, stage))
