"""Work queue: what a body, a department or an office has to do now, the most urgent first (capability J2).

One row a thing to do. Each row belongs to one stream (a case's holding and its refused moves to ``Case``, a
department's consultation to ``JointReview``), so that the folds of the two services commute.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy import Boolean, Column, Connection, Integer, String, and_, delete, false, or_, select, update

from services.routing.views.answers import (
    Answer,
    NamedId,
    Words,
    named_body,
    named_office,
    stage_label,
    stage_of,
    stamp,
)
from shared.contracts.codes import OfficeRole
from shared.contracts.issues import (
    DepartmentConsulted,
    DepartmentReminded,
    IssueReviewed,
    OpinionGiven,
    OpinionNotGiven,
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
    MoveRefused,
)
from shared.runtime.declare import Gateway, Named, Page, Recorded, Request, Tables, View
from shared.runtime.directory import Directory
from shared.runtime.views import upsert

Kind = Literal["holding", "triage", "consultation", "move_refused"]


def _tables(named: Named) -> None:
    named.table(
        "work",
        Column("id", String, primary_key=True),
        Column("kind", String),
        Column("case_id", String, index=True),
        Column("body", String, index=True),
        Column("office", String),
        Column("since", String),
        Column("due", String, index=True),
        Column("stage", String),
        Column("clock", String),
        Column("rule_version", Integer),
        Column("round", Integer),
        Column("lead", Boolean),
        Column("reminded", Boolean),
        Column("rule", String),
        Column("ko", String),
        Column("en", String),
        Column("cause", String),
    )


def _fold(db: Connection, tables: Tables, heard: Recorded) -> None:
    work, event, case_id = tables["work"], heard.data, heard.case_id
    held = f"holding:{case_id}"
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
            holding, trace = event.holding, heard.envelope.rule_trace
            upsert(
                db,
                work,
                {
                    "id": held,
                    "kind": "triage" if holding.state == "unrouted" else "holding",
                    "case_id": case_id,
                    "body": holding.body,
                    "office": holding.office,
                    "since": stamp(heard.at),
                    "due": holding.due.isoformat(),
                    "stage": stage_of(holding),
                    "clock": holding.clock,
                    "rule_version": trace.version if trace is not None else None,
                },
            )
            _forget_refusals(db, tables, heard)
        case DeadlineChanged():
            db.execute(update(work).where(work.c.id == held).values(due=event.due.isoformat(), clock=event.clock))
        case CaseClosed():
            db.execute(delete(work).where(work.c.id == held))
            _forget_refusals(db, tables, heard)
        case MoveRefused():
            upsert(
                db,
                work,
                {
                    "id": f"move_refused:{heard.id}",
                    "kind": "move_refused",
                    "case_id": case_id,
                    "body": event.body,
                    "since": stamp(heard.at),
                    "due": stamp(heard.at)[:10],
                    "rule": event.rule,
                    "ko": event.ko,
                    "en": event.en,
                    "cause": event.cause,
                },
            )
        case DepartmentConsulted() | DepartmentReminded():
            row: dict[str, Any] = {
                "id": _consultation(heard, event.department),
                "kind": "consultation",
                "case_id": case_id,
                "body": event.department,
                "due": event.due.isoformat(),
                "round": event.round,
            }
            if isinstance(event, DepartmentConsulted):
                row |= {"since": stamp(heard.at), "lead": event.lead, "clock": "opinion"}
            else:
                row |= {"reminded": True, "clock": "reminder"}
            upsert(db, work, row)
        case OpinionGiven() | OpinionNotGiven():
            db.execute(delete(work).where(work.c.id == _consultation(heard, event.department)))
        case IssueReviewed():
            of_round = and_(work.c.case_id == case_id, work.c.kind == "consultation", work.c.round == event.round)
            db.execute(delete(work).where(of_round))
        case _:
            pass


def _consultation(heard: Recorded, department: str) -> str:
    return f"consultation:{heard.aggregate_id}.{department}"


def _forget_refusals(db: Connection, tables: Tables, heard: Recorded) -> None:
    """A refused move is told until the case next moves; before its first event none was."""
    if heard.envelope.version == 1:
        return
    work = tables["work"]
    db.execute(delete(work).where(work.c.case_id == heard.case_id, work.c.kind == "move_refused"))


VIEW = View(name="work_queue", version=1, sources=("routing", "issues"), tables=_tables, fold=_fold)


class WorkAnswer(Answer):
    """One thing to do: what, on which case, by whom, by when."""

    id: str
    kind: Kind
    case_id: str
    body: NamedId
    office: NamedId | None
    todo: Words
    since: datetime | None
    due: date
    overdue: bool
    stage: str | None
    label: Words | None
    clock: str | None
    round: int | None
    lead: bool | None
    reminded: bool
    rule: str | None
    cause: str | None


_WHAT_TO_DO = {
    "R0": Words(ko="맡을 기관 지정", en="Name the competent body"),
    "R1": Words(ko="건의 확인 후 수리 또는 반려", en="Check the suggestion; accept or refuse it"),
    "R3": Words(ko="검토의견을 모아 합동검토 종결", en="Gather the opinions and conclude the joint review"),
    "R7": Words(ko="결정된 사항 이행", en="Carry out what was decided"),
}
_TO_DECIDE = Words(ko="회의에 상정하여 결정", en="Put on the agenda and decide")
_TO_GIVE_OPINION = Words(ko="검토의견 제출", en="Give an opinion")

_HANDLED_BY: dict[str, tuple[OfficeRole, ...]] = {
    "consultation": ("reviewer",),
    "move_refused": ("secretary", "reviewer", "desk", "officer", "chair"),
}
"""Who handles what no event names an office for: the first of these that the body has."""


def handling_office(directory: Directory, kind: str, body: str, day: date) -> str | None:
    """The office of ``body`` that handles work of this kind, e.g. its secretary a refused move (rule (b))."""
    offices = (directory.office_of(body, role, day) for role in _HANDLED_BY.get(kind, ()))
    return next((office.office for office in offices if office is not None), None)


def page(request: Request) -> Page:
    """The rows that the reader asks for and may see, ordered by date, then id.

    Ministry offices see every body's work, a raising organisation's office only that of its own body.
    """
    work, directory, today, query = request.tables(VIEW)["work"], request.directory, request.today, request.query
    wanted = select(work)
    own = directory.body(request.actor.body, today)
    if own is None or own.kind == "organisation":
        wanted = wanted.where(work.c.body == request.actor.body)
    for name in ("body", "department"):
        if name in query:
            wanted = wanted.where(work.c.body == query[name])
    if "department" in query:
        wanted = wanted.where(or_(work.c.kind == "consultation", work.c.stage == "R7"))
    if "kind" in query:
        wanted = wanted.where(work.c.kind == query["kind"])
    if "office" in query:
        office = directory.known_office(query["office"])
        handled = [
            kind
            for kind in _HANDLED_BY
            if office is not None and handling_office(directory, kind, office.body, today) == office.office
        ]
        unnamed = and_(work.c.body == office.body, work.c.kind.in_(handled)) if office is not None else false()
        wanted = wanted.where(or_(work.c.office == query["office"], unnamed))
    if request.after is not None:
        due, row_id = request.after
        wanted = wanted.where(or_(work.c.due > due, and_(work.c.due == due, work.c.id > row_id)))
    found = request.db.execute(wanted.order_by(work.c.due, work.c.id).limit(request.limit + 1)).all()
    shown = found[: request.limit]
    following = (shown[-1].due, shown[-1].id) if len(found) > request.limit else None
    return Page([_answer(row, directory, today) for row in shown], following)


def _answer(row: Any, directory: Directory, today: date) -> WorkAnswer:
    due = date.fromisoformat(row.due)
    office = row.office or handling_office(directory, row.kind, row.body, today)
    match row.kind:
        case "consultation":
            todo = _TO_GIVE_OPINION
        case "move_refused":
            todo = Words(ko=row.ko, en=row.en)
        case _:
            todo = _WHAT_TO_DO.get(row.stage, _TO_DECIDE)
    return WorkAnswer(
        id=row.id,
        kind=row.kind,
        case_id=row.case_id,
        body=named_body(directory, row.body, today),
        office=named_office(directory, office) if office is not None else None,
        todo=todo,
        since=datetime.fromisoformat(row.since) if row.since is not None else None,
        due=due,
        overdue=due < today,
        stage=row.stage,
        label=stage_label(directory, row.stage, row.rule_version, today) if row.stage is not None else None,
        clock=row.clock,
        round=row.round,
        lead=row.lead,
        reminded=bool(row.reminded),
        rule=row.rule,
        cause=row.cause,
    )


def routes(gateway: Gateway) -> None:
    """Declare the read of the work queue."""

    @gateway.read(
        "/v1/work-queue",
        action="read_work_queue",
        operation_id="list_work",
        views=(VIEW,),
        answer=WorkAnswer,
        query=("body", "department", "office", "kind"),
    )
    def list_work(request: Request) -> Page:
        """What a body, a department or an office has to do now, the most urgent first."""
        return page(request)
