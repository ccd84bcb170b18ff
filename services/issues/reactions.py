"""What issues does by itself: when it hears where routing took a case, and when a department's date has passed.

Rows 4, 9 and 11 (a round opens), section 4 (the issue ends), rows 12a and 12b (reminder, silence on record).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

from services.issues.issue import ISSUE, CloseIssue
from services.issues.joint_review import JOINT_REVIEW, OpenReview, RecordNotGiven, RemindDepartment
from services.issues.views.register import overdue
from shared.contracts.routing import CaseClosed, CaseRouted
from shared.decider import Refused
from shared.runtime.declare import Act, DueRow, Facts, Reactions, Recorded, Wait, by_process
from shared.runtime.directory import SEOUL

REACTIONS = Reactions()

FIRST_ROUND = 1
"""A case comes into joint review once; the rows that would send it back for another round are not built."""


def review_id(case_id: str, round: int | str) -> str:
    """Id of a case's round of joint review."""
    return f"{case_id}.{round}"


@REACTIONS.on(CaseRouted)
def open_review(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """Open the round when the planning group gets the case; under the row that brought it there."""
    assert isinstance(heard.data, CaseRouted)
    holding = heard.data.holding
    if holding.state != "in_joint_review":
        return []
    case_id = heard.aggregate_id
    issue, version = facts.load(ISSUE, case_id)
    if not version:
        raise Wait(f"issue {case_id}")
    command = OpenReview(
        **by_process(holding.body, facts.now, heard.envelope.authority.rule),
        round=FIRST_ROUND,
        revision=issue.revision,
        body=holding.body,
        lead=heard.data.lead,
        proposed=heard.data.proposed,
    )
    return [Act(JOINT_REVIEW, review_id(case_id, FIRST_ROUND), command, key=case_id, case_id=case_id)]


@REACTIONS.on(CaseClosed)
def close_issue(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """The issue ends with its case, unless its refusal had ended both."""
    assert isinstance(heard.data, CaseClosed)
    case_id = heard.aggregate_id
    command = CloseIssue(
        **by_process(heard.data.from_body, facts.now, heard.envelope.authority.rule), outcome=heard.data.outcome
    )
    return [Act(ISSUE, case_id, command, key=case_id, case_id=case_id)]


def deadline(facts: Facts, clock: str) -> date:
    """The last day of a period that begins today, by the clock profile of today's rules (I-17)."""
    rules = facts.directory.rule_set(facts.today)
    profile = next((it for it in rules.clocks if it.clock == clock), None) if rules is not None else None
    if profile is None:
        raise Refused("I-17", "오늘 적용할 기한 규칙이 없습니다.", "No rule of today gives this period.")
    return facts.directory.deadline(facts.today, profile)


def due(facts: Facts) -> Sequence[DueRow]:
    """For each department that has not answered in time: a reminder, after the second date its silence on record."""
    rows = []
    for asked in overdue(facts):
        reminded = asked.second_due is not None
        rule, what = ("T-12b", "not-given") if reminded else ("T-12a", "reminder")
        by = by_process(asked.body, facts.now, rule)
        command = (
            RecordNotGiven(**by, department=asked.department)
            if reminded
            else RemindDepartment(**by, department=asked.department, second_due=deadline(facts, "reminder"))
        )
        act = Act(JOINT_REVIEW, asked.review_id, command, key=asked.case_id, case_id=asked.case_id)
        end = datetime.combine(date.fromisoformat(asked.open_until) + timedelta(days=1), time(), SEOUL)
        rows.append(DueRow(f"{asked.review_id}/{asked.department}/{what}", end, act))
    return rows
