"""What issues does by itself: rounds that open, issues that close, dates that pass."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, cast

import pytest

from services.issues.issue import ISSUE, CloseIssue
from services.issues.joint_review import JOINT_REVIEW, OpenReview, RecordNotGiven, RemindDepartment
from services.issues.reactions import close_issue, due, open_review
from services.issues.views.register import REGISTER
from shared.contracts.issues import (
    DepartmentConsulted,
    DepartmentReminded,
    IssueReviewed,
    JointReviewOpened,
    OpinionGiven,
)
from shared.contracts.reference import ClockProfile
from shared.contracts.routing import CaseClosed, CaseRouted
from shared.decider import Decider, Refused, fold
from shared.runtime.declare import Facts, Recorded, Wait
from shared.runtime.directory import SEOUL, Directory
from tests.views.routing_walk import BUDGET, CASE, ROAD, Desk, Stream, at, folded, rule_set, until, walk

REVIEW = f"{CASE}.1"


class Here(Desk):
    """Facts with this service's own streams as they stood at a moment of the walk."""

    def __init__(self, moment: datetime, streams: list[list[Recorded]] | None = None) -> None:
        self.streams = until(walk() if streams is None else streams, moment)
        super().__init__({REGISTER.name: folded(REGISTER, self.streams)}, moment)
        clocks = (ClockProfile(clock="reminder", days=3, unit="working"),)
        self.directory = Directory([rule_set().model_copy(update={"clocks": clocks})])

    def load(self, decider: Decider[Any], id: str) -> tuple[Any, int]:
        found = [s for s in self.streams if s and s[0].stream == f"{decider.name}/{id}"]
        events = [recorded.data for recorded in found[0]] if found else []
        return fold(decider, events), len(events)


def here(moment: datetime, streams: list[list[Recorded]] | None = None) -> Facts:
    return cast(Facts, Here(moment, streams))


def heard(kind: type[Any], number: int = 0) -> Recorded:
    return [event for stream in walk() for event in stream if isinstance(event.data, kind)][number]


def test_T_11_a_case_in_joint_review_opens_the_first_round() -> None:
    [act] = open_review(heard(CaseRouted, 1), here(at(5, 24, 11)))

    assert isinstance(act.command, OpenReview)
    assert (act.stream, act.key, act.case_id) == (f"JointReview/{REVIEW}", CASE, CASE)
    assert (act.command.round, act.command.revision, act.command.body) == (1, 1, "planning-group")
    assert (act.command.lead, act.command.proposed) == (ROAD, (BUDGET,))


def test_T_4_a_case_at_a_council_opens_none() -> None:
    assert open_review(heard(CaseRouted, 0), here(at(5, 9))) == []


def test_T_11_waits_for_an_issue_that_is_not_there() -> None:
    with pytest.raises(Wait):
        open_review(heard(CaseRouted, 1), here(at(5, 24, 11), []))


def test_T_11_opened_twice_is_opened_once() -> None:
    [act] = open_review(heard(CaseRouted, 1), here(at(5, 25)))
    state, _ = here(at(5, 25)).load(JOINT_REVIEW, REVIEW)

    assert JOINT_REVIEW.decide(state, act.command) == []


def test_T_38_a_closed_case_closes_its_issue() -> None:
    [act] = close_issue(heard(CaseClosed), here(at(12, 20)))

    assert isinstance(act.command, CloseIssue)
    assert (act.stream, act.command.outcome) == (f"Issue/{CASE}", "adopted_in_policy")
    assert act.decider is ISSUE


# Dates that pass


def round_of(*events: Any) -> list[list[Recorded]]:
    """A round with the lead asked until 12 June, and whatever follows."""
    stream = Stream("issues", "JointReview", REVIEW, CASE)
    stream.add(at(5, 24), JointReviewOpened(round=1, revision=1, body="planning-group", lead=ROAD, proposed=()))
    stream.add(at(5, 25), DepartmentConsulted(round=1, department=ROAD, lead=True, revision=1, due=date(2023, 6, 12)))
    for event in events:
        stream.add(at(6, 1), event)
    return [stream.events]


REMINDED = DepartmentReminded(round=1, department=ROAD, due=date(2023, 6, 16))
ANSWERED = OpinionGiven(round=1, department=ROAD, revision=1, opinion="support", text="동의")


@pytest.mark.capability("D5", part="no warning before a date, no pauses")
def test_T_12a_the_clock_reminds_when_the_date_has_passed() -> None:
    assert due(here(at(6, 12, 23), round_of())) == []

    [row] = due(here(at(6, 13), round_of()))

    assert row.deadline_id == f"{REVIEW}/{ROAD}/reminder"
    assert row.due == datetime(2023, 6, 13, tzinfo=SEOUL)
    assert isinstance(row.act.command, RemindDepartment)
    assert row.act.command.second_due == date(2023, 6, 16)
    assert row.act.command.by.office == "process"


@pytest.mark.capability("D6", part="the breach is seen in the round; it is no event of its own")
def test_T_12b_the_clock_records_silence_when_the_second_date_has_passed() -> None:
    assert due(here(at(6, 16, 23), round_of(REMINDED))) == []

    [row] = due(here(at(6, 17), round_of(REMINDED)))

    assert row.deadline_id == f"{REVIEW}/{ROAD}/not-given"
    assert isinstance(row.act.command, RecordNotGiven)


def test_T_12a_nothing_falls_due_for_who_has_answered_or_after_the_conclusion() -> None:
    concluded = heard(IssueReviewed).data

    assert due(here(at(7, 1), round_of(ANSWERED))) == []
    assert due(here(at(7, 1), round_of(concluded))) == []


def test_I_17_no_date_without_a_rule_of_today() -> None:
    facts = Here(at(6, 13), round_of())
    facts.directory = Directory()

    with pytest.raises(Refused, match="I-17"):
        due(cast(Facts, facts))
