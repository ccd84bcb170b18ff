"""Why: the rules that brought a case to where it is, and why it is nowhere else (capabilities B2, first-7).

One row a move with its rule trace, one row a refused move. What is not so is worked out when asked, from these rows and
the directory of the day: the edges, the tiers and the conditions of the rules that the case goes by.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Column, Connection, Integer, String, select

from services.routing.views.answers import (
    OUTCOMES,
    Answer,
    NamedId,
    ReasonAnswer,
    Words,
    because,
    body_name,
    named_body,
    reason_answer,
    reason_columns,
    spoken,
    stage_label,
    stage_of,
    stamp,
    words,
)
from services.routing.views.itinerary import OPENS_HOLDING, case_resource
from services.routing.views.itinerary import VIEW as ITINERARY
from shared.contracts.envelope import Event
from shared.contracts.reference import BodyEstablished, DecisionRow, EdgeOpened, RuleSetPublished, TierRow
from shared.contracts.routing import CaseClosed, CaseOpened, CaseUnrouted, Holding, MoveRefused
from shared.runtime.declare import Absent, Facts, Gateway, Named, One, Recorded, Request, Tables, View
from shared.runtime.directory import Directory
from shared.runtime.views import upsert


def _tables(named: Named) -> None:
    named.table(
        "moves",
        Column("case_id", String, primary_key=True),
        Column("version", Integer, primary_key=True),
        Column("event", String),
        Column("event_id", String),
        Column("at", String),
        Column("body", String),
        Column("state", String),
        Column("stage", String),
        Column("regions", String),
        Column("outcome", String),
        Column("cause", String),
        Column("reason_code", String),
        Column("reason_text", String),
        Column("authority_rule", String),
        Column("authority_clause", String),
        Column("rule_set", String),
        Column("rule_version", Integer),
        Column("rule_rows", String),
        Column("inputs", String),
        Column("began_under", Integer),
    )
    named.table(
        "refused",
        Column("event_id", String, primary_key=True),
        Column("case_id", String, index=True),
        Column("version", Integer),
        Column("at", String),
        Column("body", String),
        Column("rule", String),
        Column("ko", String),
        Column("en", String),
        Column("cause", String),
        Column("cause_type", String),
    )


def _fold(db: Connection, tables: Tables, heard: Recorded) -> None:
    event, envelope = heard.data, heard.envelope
    if isinstance(event, MoveRefused):
        row = event.model_dump(include={"body", "rule", "ko", "en", "cause", "cause_type"})
        row |= {"event_id": heard.id, "case_id": heard.case_id, "version": envelope.version, "at": stamp(heard.at)}
        upsert(db, tables["refused"], row)
    elif isinstance(event, (*OPENS_HOLDING, CaseClosed)):
        holding: Holding | None = getattr(event, "holding", None)
        trace = envelope.rule_trace
        row = {
            "case_id": heard.case_id,
            "version": envelope.version,
            "event": heard.type,
            "event_id": heard.id,
            "at": stamp(heard.at),
            "body": holding.body if holding is not None else None,
            "state": holding.state if holding is not None else "closed",
            "stage": stage_of(holding) if holding is not None else "R9",
            **_beginning(event),
            "outcome": getattr(event, "outcome", None),
            "cause": getattr(event, "cause", None) or envelope.causation_id,
            "authority_rule": envelope.authority.rule,
            "authority_clause": envelope.authority.clause,
            "rule_set": trace.rule_set if trace is not None else None,
            "rule_version": trace.version if trace is not None else None,
            "rule_rows": json.dumps([[r.table, r.row, r.matched] for r in trace.rows]) if trace is not None else None,
            "inputs": json.dumps(trace.inputs, ensure_ascii=False, sort_keys=True) if trace is not None else None,
        }
        upsert(db, tables["moves"], row | reason_columns(getattr(event, "reason", None) or envelope.reason))


def _beginning(event: Event) -> dict[str, Any]:
    """Regions and version of the rules, where the case begins with this event."""
    if not isinstance(event, CaseOpened | CaseUnrouted):
        return {"regions": None, "began_under": None}
    return {"regions": json.dumps([region.region for region in event.regions]), "began_under": event.rule_version}


VIEW = View(name="why", version=1, sources=("routing",), tables=_tables, fold=_fold)


class RuleRowExplained(Answer):
    """A row that was looked at, with its condition as the rule set writes it."""

    table: str
    row: str
    matched: bool
    condition: str | None
    gives: dict[str, Any] | None
    source: str | None


class AuthorityAnswer(Answer):
    """By what right: a row of the transition table or an invariant, and the charter's clause where one applies."""

    rule: str
    clause: str | None


class Here(Answer):
    """The move that brought the case to where it is."""

    event: str
    event_id: str
    at: datetime
    stage: str
    label: Words
    body: NamedId | None
    because: Words
    cause: str | None
    reason: ReasonAnswer | None
    authority: AuthorityAnswer
    rule_set: str | None
    version: int | None
    rows: list[RuleRowExplained]
    inputs: dict[str, Any]


class NotThere(Answer):
    """One place where the case is not, and the rule that keeps it from there."""

    stage: str | None
    label: Words | None
    body: NamedId | None
    rule: str
    why: Words
    rows: list[RuleRowExplained]


class RefusedMove(Answer):
    """A decision or a review that was heard and moved nothing (rule (b))."""

    event_id: str
    at: datetime
    body: NamedId
    rule: str
    why: Words
    cause: str
    cause_type: str


class WhyAnswer(Answer):
    """Why the case is here, why it is nowhere else, and which moves were refused."""

    case_id: str
    here: Here
    not_there: list[NotThere]
    refused: list[RefusedMove]


@dataclass(frozen=True)
class Place:
    """Where a case could be: a body at a stage. ``edge`` is the way there from the present body, if there is one."""

    stage: str
    body: BodyEstablished | None
    tier: TierRow | None
    edge: EdgeOpened | None


def why(facts: Facts, case_id: str) -> tuple[WhyAnswer, int]:
    """The explanation for one case and the version of its last move; raises ``Absent``."""
    tables, directory, today = facts.tables(VIEW), facts.directory, facts.today
    moves, refused = tables["moves"], tables["refused"]
    rows = facts.db.execute(select(moves).where(moves.c.case_id == case_id).order_by(moves.c.version)).all()
    if not rows:
        raise Absent("case")
    misses = facts.db.execute(select(refused).where(refused.c.case_id == case_id).order_by(refused.c.version)).all()
    last = rows[-1]
    version = next((row.began_under for row in rows if row.began_under is not None), None)
    rules = directory.rule_set_version(version) if version is not None else None
    rules = rules or directory.rule_set(today)
    at = datetime.fromisoformat(last.at)
    here = Here(
        event=last.event,
        event_id=last.event_id,
        at=at,
        stage=last.stage,
        label=stage_label(directory, last.stage, version, today),
        body=named_body(directory, last.body, at.date()) if last.body is not None else None,
        because=because(last.event, last.state),
        cause=last.cause,
        reason=reason_answer(last),
        authority=AuthorityAnswer(rule=last.authority_rule, clause=last.authority_clause),
        rule_set=last.rule_set,
        version=last.rule_version,
        rows=_of_row(last, rules),
        inputs=json.loads(last.inputs) if last.inputs is not None else {},
    )
    regions: list[str] = next((json.loads(row.regions) for row in rows if row.regions is not None), [])
    answer = WhyAnswer(
        case_id=case_id,
        here=here,
        not_there=[
            _not_there(place, rows, misses, rules, directory, today)
            for place in places(last, regions, rules, directory, today)
        ],
        refused=[
            RefusedMove(
                event_id=miss.event_id,
                at=datetime.fromisoformat(miss.at),
                body=named_body(directory, miss.body, datetime.fromisoformat(miss.at).date()),
                rule=miss.rule,
                why=Words(ko=miss.ko, en=miss.en),
                cause=miss.cause,
                cause_type=miss.cause_type,
            )
            for miss in misses
        ],
    )
    return answer, max(row.version for row in (*rows, *misses))


def places(
    last: Any, regions: Sequence[str], rules: RuleSetPublished | None, directory: Directory, today: date
) -> Iterator[Place]:
    """Where the case could be and is not: the end of each edge out of the present body, and each tier of the rules.

    Of a tier with a body for each region (the councils), those of the case's regions are meant.
    """
    tiers = {tier.tier: tier for tier in rules.tiers if tier.state == "at_body"} if rules is not None else {}
    seen: set[tuple[str, str | None]] = {(last.stage, last.body)}
    edges = directory.edges(last.body, today) if last.body is not None else []
    for edge in edges:
        body = directory.body(edge.to_body, today)
        stage = "R3" if edge.kind == "review" else (body.tier if body is not None else None) or "R3"
        if (stage, edge.to_body) not in seen:
            seen.add((stage, edge.to_body))
            yield Place(stage, body, tiers.get(stage), edge)
    for tier in tiers.values():
        bodies = [body for body in directory.bodies(today) if body.tier == tier.tier]
        if len(bodies) > 1:
            bodies = [body for body in bodies if not regions or set(body.regions) & set(regions)]
        for body in bodies:
            if (tier.tier, body.body) not in seen:
                seen.add((tier.tier, body.body))
                yield Place(tier.tier, body, tier, None)


def _not_there(
    place: Place,
    moves: Sequence[Any],
    misses: Sequence[Any],
    rules: RuleSetPublished | None,
    directory: Directory,
    today: date,
) -> NotThere:
    rule, reason = _hindrance(place, moves, misses, directory, today)
    return NotThere(
        stage=place.stage,
        label=words(place.tier.label) if place.tier is not None else stage_label(directory, place.stage, None, today),
        body=named_body(directory, place.body.body, today) if place.body is not None else None,
        rule=rule,
        why=reason,
        rows=[] if _was_there(place, moves) else _rows_that_would_lead(place, moves, rules, directory, today),
    )


def _rows_that_would_lead(
    place: Place, moves: Sequence[Any], rules: RuleSetPublished | None, directory: Directory, today: date
) -> list[RuleRowExplained]:
    """Rows that were looked at on this case's way, did not apply, and would have led to the place.

    A row leads there where it gives the body, its kind or its tier, or the kind of an edge (``review``, ``escalate``)
    that goes there from the body which had the case when the row was looked at.
    """
    found: dict[tuple[str, str], RuleRowExplained] = {}
    before: str | None = None
    for move in moves:
        ways = {place.stage}
        if place.body is not None:
            ways |= {place.body.body, place.body.kind}
            edges = directory.edges(before, today) if before is not None else []
            ways |= {edge.kind for edge in edges if edge.to_body == place.body.body}
        for row in _of_row(move, rules):
            if not row.matched and _gives(row) & ways:
                found[row.table, row.row] = row
        before = move.body
    return list(found.values())


def _was_there(place: Place, moves: Sequence[Any]) -> bool:
    return place.body is not None and any((move.body, move.stage) == (place.body.body, place.stage) for move in moves)


def _hindrance(
    place: Place, moves: Sequence[Any], misses: Sequence[Any], directory: Directory, today: date
) -> tuple[str, Words]:
    """The first rule that keeps the case from the place, as rule id and sentence."""
    last = moves[-1]
    there = body_name(directory, place.body.body if place.body is not None else None, today)
    here = body_name(directory, last.body, today)
    if last.state == "closed":
        outcome = OUTCOMES.get(last.outcome, Words(ko=last.outcome or "", en=last.outcome or ""))
        return "I-2", Words(
            ko=f"이 건은 종결되어({outcome.ko}) 어느 기관에도 있지 않습니다.",
            en=f"The case is closed ({outcome.en}), so no body holds it.",
        )
    if last.state == "unrouted":
        return "T-9", Words(
            ko=f"맞는 규칙이 없었으므로 {here.ko}에서 먼저 맡을 기관을 정해야 합니다.",
            en=f"No rule matched, so {here.en} has to name the competent body first.",
        )
    if last.state == "intake":
        return "T-4", Words(
            ko=f"{here.ko}에서 아직 건의를 수리하지 않았습니다.",
            en=f"{here.en} has not accepted the suggestion yet.",
        )
    if last.state == "implementing":
        return "T-38", Words(
            ko=f"이미 결정된 건이며 {here.ko}에서 이행하고 있습니다.",
            en=f"The case is decided, and {here.en} is carrying it out.",
        )
    if _was_there(place, moves):
        return "I-3", Words(
            ko=f"{there.ko}에서는 이미 다루었고, {here.ko}에서 그곳으로 되돌아가는 경로는 {_on(today).ko} 없습니다.",
            en=f"{there.en} has dealt with it already, and no way led back there from {here.en} {_on(today).en}.",
        )
    if place.edge is None:
        return "I-3", Words(
            ko=f"{_on(today).ko} {here.ko}에서 {there.ko}에 바로 이어지는 경로가 없습니다.",
            en=f"No way leads straight from {here.en} to {there.en} {_on(today).en}.",
        )
    if misses and misses[-1].version > last.version:
        # It was to go on, and was kept here: the refusal says why.
        return misses[-1].rule, Words(ko=misses[-1].ko, en=misses[-1].en)
    if last.state == "in_joint_review":
        return "I-4", Words(
            ko="합동검토가 아직 끝나지 않았습니다. 검토가 끝나야 다음 회의체에 회부할 수 있습니다.",
            en="The joint review is not concluded yet; only a concluded review sends a case on.",
        )
    if place.edge.kind == "review":
        return "T-11", Words(
            ko=f"{here.ko}에서 합동검토에 부치기로 결정해야 합니다(검토회부).",
            en=f"{here.en} has to decide first that it be reviewed (take_for_review).",
        )
    return "T-24", Words(
        ko=f"{here.ko}에서 상위 회의체에 회부하기로 결정해야 합니다(상향상정).",
        en=f"{here.en} has to decide first that it go to the next body (escalate).",
    )


def _on(day: date) -> Words:
    said = spoken(day)
    return Words(ko=f"{said.ko} 현재", en=f"on {said.en}")


def _of_row(move: Any, rules: RuleSetPublished | None) -> list[RuleRowExplained]:
    """The rows that a move's trace looked at, with their conditions where they are of the rule set at hand."""
    known: dict[tuple[str, str], DecisionRow] = {}
    if rules is not None and move.rule_version == rules.version:
        known = {(table.table, row.row): row for table in rules.tables for row in table.rows}
    traced: list[tuple[str, str, bool]] = json.loads(move.rule_rows) if move.rule_rows is not None else []
    found = []
    for table, name, matched in traced:
        row = known.get((table, name))
        found.append(
            RuleRowExplained(
                table=table,
                row=name,
                matched=matched,
                condition=row.when if row is not None else None,
                gives=dict(row.gives) if row is not None else None,
                source=row.source if row is not None else None,
            )
        )
    return found


def _gives(row: RuleRowExplained) -> set[str]:
    """Where a row leads to: the values that it gives, the names of clocks apart."""
    values: set[str] = set()
    for name, value in (row.gives or {}).items():
        if name != "clock":
            values.update(value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ())
    return values


def routes(gateway: Gateway) -> None:
    """Declare the explanation of a case's position."""

    @gateway.read(
        "/v1/cases/{case_id}/why",
        action="read_why",
        operation_id="explain_case",
        views=(VIEW, ITINERARY),
        answer=WhyAnswer,
        resource=case_resource,
    )
    def explain_case(request: Request) -> One:
        """Why a case is where it is, why it is nowhere else, and which moves were refused."""
        case_id = request.path["case_id"]
        answer, version = why(request, case_id)
        return One(answer, version, case_id)
