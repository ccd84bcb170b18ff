"""What the answers of routing's reads share: sentences in two languages, names, labels of stages and outcomes.

Names of bodies, offices and tiers come from the directory, never from a fold: a view is rebuilt the same whatever was
heard of reference facts meanwhile. The labels below are those of closed lists of codes (section 4 and 6 of the domain
model); tiers are data and have theirs in the rule set.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.contracts.envelope import Label, Reason, RuleTrace
from shared.contracts.routing import Holding
from shared.runtime.directory import SEOUL, Directory


class Answer(BaseModel):
    """Base of every answer: frozen, and written out under its wire names (``from`` is no name in Python)."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True, validate_by_name=True)


class Words(Answer):
    """A sentence or a name in both languages of the system."""

    ko: str
    en: str


class NamedId(Answer):
    """A body or an office: its id and its name."""

    id: str
    name: Words


class ReasonAnswer(Answer):
    """Why, as the acting office gave it (I-8)."""

    code: str
    text: str


class RuleRowAnswer(Answer):
    """One row of a decision table that was looked at."""

    table: str
    row: str
    matched: bool


class RuleAnswer(Answer):
    """Which version of the rules decided, and the rows that it looked at (capability B2)."""

    rule_set: str
    version: int
    rows: list[RuleRowAnswer]


STAGE_OF_STATE = {"unrouted": "R0", "intake": "R1", "in_joint_review": "R3", "implementing": "R7", "closed": "R9"}
"""States other than ``at_body``, whose code is the tier's."""

_STAGES = {
    "R0": Words(ko="미배정", en="Unrouted"),
    "R1": Words(ko="접수", en="Intake"),
    "R3": Words(ko="기획단 합동검토", en="Joint review"),
    "R7": Words(ko="이행 중", en="Implementing"),
    "R9": Words(ko="종결", en="Closed"),
}

OUTCOMES = {
    "resolved_on_site": Words(ko="현장해결", en="resolved on site"),
    "resolved_by_department": Words(ko="소관부서 해결", en="resolved by the department"),
    "resolved_by_support_group": Words(ko="지원단 해결", en="resolved by the support group"),
    "adopted_in_policy": Words(ko="정책 채택", en="adopted in a policy"),
    "refused": Words(ko="반려", en="refused at intake"),
}

MOVES = {
    "CaseOpened": Words(
        ko="건의가 제출되어 규칙에 따라 접수 기관이 정해졌습니다.",
        en="The suggestion was raised, and the rules named the intake body.",
    ),
    "CaseUnrouted": Words(
        ko="맞는 규칙이 없어 맡을 기관의 지정을 기다립니다.",
        en="No rule matched, so the case waits to be assigned.",
    ),
    "EscalatedToSupportGroup": Words(
        ko="합동검토 결과에 따라 지원단에 회부되었습니다.",
        en="The result of the joint review sent the case to the support group.",
    ),
    "EscalatedToForum": Words(
        ko="지원단의 결정에 따라 포럼에 회부되었습니다.",
        en="The decision of the body below sent the case to the forum.",
    ),
    "CaseMoved": Words(ko="상위 회의체에 회부되었습니다.", en="The case was sent to the next body."),
    "ImplementationAssigned": Words(
        ko="결정된 사항을 이행할 담당이 정해졌습니다.",
        en="What was decided has an owner and a date.",
    ),
    "CaseClosed": Words(ko="종결되었습니다.", en="The case was closed."),
}
_ROUTED = {
    "in_joint_review": Words(ko="합동검토 단계로 넘어왔습니다.", en="The case went into joint review."),
    "intake": Words(ko="접수 기관이 다시 정해졌습니다.", en="The intake body was named."),
}
_ROUTED_TO_BODY = Words(
    ko="건의가 수리되어 회의에서 논의할 단계로 넘어왔습니다.",
    en="The suggestion was accepted and went to the body's floor.",
)


def because(event_type: str, state: str | None) -> Words:
    """Why a holding began, in one sentence, from the type of the event that opened it."""
    if event_type == "CaseRouted":
        return _ROUTED.get(state or "", _ROUTED_TO_BODY)
    return MOVES.get(event_type, Words(ko=event_type, en=event_type))


def stamp(at: datetime) -> str:
    """A time as the views store it: Seoul time, of fixed width, so that text sorts as time does."""
    return at.astimezone(SEOUL).isoformat(timespec="microseconds")


def stage_of(holding: Holding) -> str:
    """The stage's code: R1, R3, R7, R0, or the tier's code where a body of that tier has the case."""
    return STAGE_OF_STATE.get(holding.state, holding.tier or holding.state)


def stage_label(directory: Directory, stage: str | None, rule_version: int | None, day: date) -> Words:
    """The stage's name: that of the state, or of the tier in the rule set that the case goes by (B6)."""
    if stage in _STAGES:
        return _STAGES[stage]
    rules = directory.rule_set_version(rule_version) if rule_version is not None else None
    rules = rules or directory.rule_set(day)
    for tier in rules.tiers if rules is not None else ():
        if tier.tier == stage:
            return words(tier.label)
    return Words(ko=stage or "", en=stage or "")


def words(label: Label) -> Words:
    """A label of the reference data as an answer holds it."""
    return Words(ko=label.ko, en=label.en)


def body_name(directory: Directory, body: str | None, day: date) -> Words:
    """A body's name on ``day``; its id where the body is not known."""
    found = directory.body(body, day) if body is not None else None
    return words(found.name) if found is not None else Words(ko=body or "", en=body or "")


def office_name(directory: Directory, office: str | None) -> Words:
    """An office's name; its id where the office is not known."""
    found = directory.known_office(office) if office is not None else None
    return words(found.name) if found is not None else Words(ko=office or "", en=office or "")


def named_body(directory: Directory, body: str, day: date) -> NamedId:
    """A body with its name on ``day``."""
    return NamedId(id=body, name=body_name(directory, body, day))


def named_office(directory: Directory, office: str) -> NamedId:
    """An office with its name."""
    return NamedId(id=office, name=office_name(directory, office))


def spoken(day: date) -> Words:
    """A day as it is said: 2023년 6월 8일, 8 June 2023."""
    return Words(ko=f"{day.year}년 {day.month}월 {day.day}일", en=f"{day.day} {day:%B %Y}")


def rule_columns(trace: RuleTrace | None) -> dict[str, Any]:
    """Columns ``rule_set``, ``rule_version`` and ``rule_rows`` of a row that remembers a rule trace."""
    if trace is None:
        return {"rule_set": None, "rule_version": None, "rule_rows": None}
    rows = [[row.table, row.row, row.matched] for row in trace.rows]
    return {"rule_set": trace.rule_set, "rule_version": trace.version, "rule_rows": json.dumps(rows)}


def rule_answer(row: Any, *, matched_only: bool = False) -> RuleAnswer | None:
    """The rule trace of a view's row, all rows that were looked at or only those that applied."""
    if row.rule_set is None:
        return None
    rows: Sequence[Sequence[Any]] = json.loads(row.rule_rows)
    return RuleAnswer(
        rule_set=row.rule_set,
        version=row.rule_version,
        rows=[RuleRowAnswer(table=t, row=r, matched=m) for t, r, m in rows if m or not matched_only],
    )


def reason_columns(reason: Reason | None) -> dict[str, str | None]:
    """Columns ``reason_code`` and ``reason_text``."""
    return {"reason_code": reason.code if reason else None, "reason_text": reason.text if reason else None}


def reason_answer(row: Any) -> ReasonAnswer | None:
    """The reason of a view's row, where one was given."""
    return ReasonAnswer(code=row.reason_code, text=row.reason_text) if row.reason_code is not None else None
