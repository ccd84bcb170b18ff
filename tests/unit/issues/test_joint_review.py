"""Rules of the joint review: who is asked, who answers, and what may be concluded from it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest

from services.issues.joint_review import (
    JOINT_REVIEW,
    ConcludeReview,
    ConsultDepartment,
    GiveOpinion,
    OpenReview,
    RecordNotGiven,
    RemindDepartment,
    SetSupportDirection,
    divergence,
)
from shared.contracts.codes import OpinionType
from shared.contracts.envelope import Actor, Authority, Command, Event
from shared.contracts.issues import (
    DepartmentConsulted,
    DepartmentReminded,
    Direction,
    IssueReviewed,
    JointReviewOpened,
    OpinionGiven,
    OpinionNotGiven,
    OpinionRef,
    SupportDirectionSet,
)
from shared.decider import fold
from shared.testing import given

ROAD, BUDGET = "dept-road", "dept-planning-coordination"
DUE, SECOND_DUE = date(2023, 6, 12), date(2023, 6, 16)
DIRECTION = Direction(
    instruments=("facility", "budget"),
    lead=ROAD,
    legal_basis="도로법",
    cost_band="above_c",
    horizon="2028",
    plan_item="P3-2",
    text="단계별 확장",
)


def on(month: int, day: int, office: str) -> dict[str, Any]:
    return {
        "by": Actor(user="s-1", office=office, body=office.rpartition(".")[0]),
        "at": datetime(2023, month, day, 10, tzinfo=ZoneInfo("Asia/Seoul")),
        "authority": Authority(rule="T-12"),
    }


def opening() -> OpenReview:
    by = on(5, 24, "planning-group.process")
    return OpenReview(**by, round=1, revision=1, body="planning-group", lead=ROAD, proposed=(BUDGET,))


def consulting(department: str = ROAD, lead: bool = True, revision: int = 1, **changes: Any) -> ConsultDepartment:
    facts = {"issue_revision": revision, "due": DUE, "competent": True, **changes}
    return ConsultDepartment(**on(5, 25, "planning-group.secretary"), department=department, lead=lead, **facts)


def reminding(month: int, day: int, department: str = ROAD) -> RemindDepartment:
    return RemindDepartment(**on(month, day, "planning-group.secretary"), department=department, second_due=SECOND_DUE)


def giving_up(month: int, day: int, department: str = ROAD) -> RecordNotGiven:
    return RecordNotGiven(**on(month, day, "planning-group.secretary"), department=department)


def opining(
    department: str = ROAD, opinion: Any = "support", office: str | None = None, revision: int = 1, current: int = 1
) -> GiveOpinion:
    return GiveOpinion(
        **on(6, 1, office or f"{department}.reviewer"),
        department=department,
        revision=revision,
        opinion=opinion,
        text="검토하였습니다.",
        issue_revision=current,
    )


def directing(office: str = f"{ROAD}.reviewer", **changes: Any) -> SetSupportDirection:
    fields = {"revision": 1, "direction": DIRECTION, "issue_revision": 1, "lead_known": True, **changes}
    return SetSupportDirection(**on(6, 14, office), **fields)


def concluding(outcome: Any = "supportable", revision: int = 1, text: str = "지원 가능") -> ConcludeReview:
    by = on(6, 15, "planning-group.chair")
    return ConcludeReview(**by, outcome=outcome, text=text, issue_revision=revision, issue_version=3)


def consulted(department: str, lead: bool = False, revision: int = 1) -> DepartmentConsulted:
    return DepartmentConsulted(round=1, department=department, lead=lead, revision=revision, due=DUE)


def opinion(department: str, kind: Any, revision: int = 1) -> OpinionGiven:
    return OpinionGiven(round=1, department=department, revision=revision, opinion=kind, text="검토하였습니다.")


OPENED_FACT = JointReviewOpened(round=1, revision=1, body="planning-group", lead=ROAD, proposed=(BUDGET,))
DIRECTION_FACT = SupportDirectionSet(round=1, revision=1, direction=DIRECTION)
REMINDED_FACT = DepartmentReminded(round=1, department=ROAD, due=SECOND_DUE)
NOT_GIVEN_FACT = OpinionNotGiven(round=1, department=ROAD)

OPENED: tuple[Event, ...] = (OPENED_FACT,)
LEAD_CONSULTED: tuple[Event, ...] = (*OPENED, consulted(ROAD, lead=True))
BOTH_CONSULTED: tuple[Event, ...] = (*LEAD_CONSULTED, consulted(BUDGET))
REMINDED: tuple[Event, ...] = (*LEAD_CONSULTED, REMINDED_FACT)
SILENT: tuple[Event, ...] = (*REMINDED, NOT_GIVEN_FACT)
LEAD_ANSWERED: tuple[Event, ...] = (*BOTH_CONSULTED, opinion(ROAD, "support_with_conditions"))
BOTH_ANSWERED: tuple[Event, ...] = (*LEAD_ANSWERED, opinion(BUDGET, "support"))
DIRECTED: tuple[Event, ...] = (*BOTH_ANSWERED, DIRECTION_FACT)
REVIEWED_FACT = IssueReviewed(
    round=1,
    revision=1,
    outcome="supportable",
    divergence=0.25,
    lead=ROAD,
    opinions=(
        OpinionRef(department=ROAD, opinion="support_with_conditions"),
        OpinionRef(department=BUDGET, opinion="support"),
    ),
    direction=DIRECTION,
    text="지원 가능",
)
CONCLUDED: tuple[Event, ...] = (*DIRECTED, REVIEWED_FACT)


# OpenReview


@pytest.mark.capability("D1")
def test_T_11_open_review() -> None:
    given(JOINT_REVIEW).when(opening()).then(OPENED_FACT)


# ConsultDepartment


def test_T_12_consult_department() -> None:
    given(JOINT_REVIEW, *OPENED).when(consulting()).then(consulted(ROAD, lead=True))
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(consulting(BUDGET, lead=False)).then(consulted(BUDGET))


@pytest.mark.capability("B5", part="a contested lead cannot be changed by PH in this issue")
def test_I_5_only_one_lead() -> None:
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(consulting(BUDGET, lead=True)).refused("I-5")


def test_T_12_a_department_does_not_become_or_cease_to_be_lead() -> None:
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(consulting(ROAD, lead=False)).refused("T-12")
    given(JOINT_REVIEW, *BOTH_CONSULTED).when(consulting(BUDGET, lead=True)).refused("T-12")


def test_T_12_no_such_department_today() -> None:
    given(JOINT_REVIEW, *OPENED).when(consulting(competent=False)).refused("T-12")


def test_I_7_a_department_is_asked_again_on_a_newer_revision() -> None:
    asked_again = consulted(ROAD, lead=True, revision=2)

    given(JOINT_REVIEW, *LEAD_ANSWERED).when(consulting(revision=2)).then(asked_again)

    assert not fold(JOINT_REVIEW, (*LEAD_ANSWERED, asked_again)).departments[ROAD].answered


# RemindDepartment


@pytest.mark.capability("D6", part="the breach is seen in the round; it is no event of its own")
def test_T_12a_remind_department_after_its_date() -> None:
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(reminding(6, 13)).then(REMINDED_FACT)


def test_T_12a_not_on_its_last_day() -> None:
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(reminding(6, 12)).refused("T-12a")


def test_T_12a_not_one_that_was_not_asked_or_has_answered() -> None:
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(reminding(6, 13, BUDGET)).refused("T-12a")
    given(JOINT_REVIEW, *LEAD_ANSWERED).when(reminding(6, 13)).refused("T-12a")


def test_T_12a_reminded_once_only() -> None:
    assert given(JOINT_REVIEW, *REMINDED).when(reminding(6, 20)).events() == ()


# RecordNotGiven


@pytest.mark.capability("D6", part="the breach is seen in the round; it is no event of its own")
def test_T_12b_silence_on_record_after_the_second_date() -> None:
    given(JOINT_REVIEW, *REMINDED).when(giving_up(6, 17)).then(NOT_GIVEN_FACT)


def test_T_12b_not_before_the_second_date_has_passed() -> None:
    given(JOINT_REVIEW, *REMINDED).when(giving_up(6, 16)).refused("T-12b")


def test_T_12b_not_without_a_reminder() -> None:
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(giving_up(7, 1)).refused("T-12b")


def test_T_12b_not_one_that_was_not_asked_or_has_answered() -> None:
    given(JOINT_REVIEW, *REMINDED).when(giving_up(6, 17, BUDGET)).refused("T-12b")
    given(JOINT_REVIEW, *REMINDED, opinion(ROAD, "support")).when(giving_up(6, 17)).refused("T-12b")


# GiveOpinion


@pytest.mark.capability("D2")
@pytest.mark.parametrize("kind", get_args(OpinionType))
def test_T_13_give_opinion_of_each_type(kind: str) -> None:
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(opining(opinion=kind)).then(opinion(ROAD, kind))


def test_T_13_only_the_department_itself() -> None:
    given(JOINT_REVIEW, *BOTH_CONSULTED).when(opining(ROAD, office=f"{BUDGET}.reviewer")).refused("T-13")


def test_T_13_only_who_was_asked() -> None:
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(opining(BUDGET)).refused("T-13")


def test_T_13_once_for_each_revision() -> None:
    given(JOINT_REVIEW, *LEAD_ANSWERED).when(opining(opinion="not_supportable")).refused("T-13")


@pytest.mark.capability("D7", part="an issue is not revised in this issue")
def test_I_7_an_opinion_speaks_of_the_present_revision() -> None:
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(opining(revision=1, current=2)).refused("I-7")
    given(JOINT_REVIEW, *LEAD_CONSULTED).when(opining(revision=2, current=1)).refused("I-7")


def test_I_7_a_new_opinion_on_a_newer_revision() -> None:
    given(JOINT_REVIEW, *LEAD_ANSWERED).when(opining(revision=2, current=2)).then(opinion(ROAD, "support", revision=2))


def test_T_13_a_late_opinion_is_worth_more_than_silence() -> None:
    given(JOINT_REVIEW, *SILENT).when(opining()).then(opinion(ROAD, "support"))


# SetSupportDirection


@pytest.mark.capability("D3")
def test_T_15_set_support_direction() -> None:
    given(JOINT_REVIEW, *BOTH_ANSWERED).when(directing()).then(DIRECTION_FACT)


def test_T_15_another_direction_before_the_conclusion_replaces_the_first() -> None:
    later = DIRECTION.model_copy(update={"horizon": "2030"})
    set_later = SupportDirectionSet(round=1, revision=1, direction=later)

    given(JOINT_REVIEW, *DIRECTED).when(directing(direction=later)).then(set_later)


def test_T_15_only_the_lead_department() -> None:
    given(JOINT_REVIEW, *BOTH_ANSWERED).when(directing(f"{BUDGET}.reviewer")).refused("T-15")
    given(JOINT_REVIEW, *OPENED).when(directing()).refused("T-15")


def test_T_15_support_is_led_by_a_department_that_exists() -> None:
    given(JOINT_REVIEW, *BOTH_ANSWERED).when(directing(lead_known=False)).refused("T-15")


def test_I_7_a_direction_answers_the_present_revision() -> None:
    given(JOINT_REVIEW, *BOTH_ANSWERED).when(directing(issue_revision=2)).refused("I-7")


# ConcludeReview


@pytest.mark.capability("D1", "D3")
@pytest.mark.capability("D8", part="convergence is recorded by the support group")
def test_T_16_conclude_review_as_supportable() -> None:
    given(JOINT_REVIEW, *DIRECTED).when(concluding()).then(REVIEWED_FACT)


def test_T_16_departments_that_disagree_need_coordination() -> None:
    past = (*BOTH_CONSULTED, opinion(ROAD, "support"), opinion(BUDGET, "not_supportable"))

    [reviewed] = given(JOINT_REVIEW, *past).when(concluding("needs_coordination")).events()

    assert isinstance(reviewed, IssueReviewed)
    assert (reviewed.outcome, reviewed.divergence, reviewed.direction) == ("needs_coordination", 1.0, None)


@pytest.mark.capability("D6", part="the breach is seen in the round; it is no event of its own")
def test_I_5_every_department_answered_or_not_given() -> None:
    given(JOINT_REVIEW, *LEAD_ANSWERED, DIRECTION_FACT).when(concluding()).refused("I-5")

    [reviewed] = given(JOINT_REVIEW, *SILENT, DIRECTION_FACT).when(concluding()).events()

    assert isinstance(reviewed, IssueReviewed)
    assert reviewed.opinions == (OpinionRef(department=ROAD, opinion="not_given"),)
    assert reviewed.divergence == 0.0


def test_I_5_no_conclusion_without_a_lead() -> None:
    past = (*OPENED, consulted(BUDGET), opinion(BUDGET, "support"))

    given(JOINT_REVIEW, *past).when(concluding("needs_coordination")).refused("I-5")


def test_I_7_no_conclusion_on_stale_opinions() -> None:
    given(JOINT_REVIEW, *BOTH_ANSWERED).when(concluding("needs_coordination", revision=2)).refused("I-7")


def test_I_7_no_conclusion_on_a_stale_direction() -> None:
    renewed = (*DIRECTED, opinion(ROAD, "support", revision=2), opinion(BUDGET, "support", revision=2))

    given(JOINT_REVIEW, *renewed).when(concluding(revision=2)).refused("I-7")


def test_T_16_supportable_needs_a_direction() -> None:
    given(JOINT_REVIEW, *BOTH_ANSWERED).when(concluding()).refused("T-16")


@pytest.mark.parametrize("outcome", ["support_alternative", "not_supportable"])
def test_I_6_T_16_outcomes_that_need_an_alternative_are_not_available(outcome: str) -> None:
    refusal = given(JOINT_REVIEW, *DIRECTED).when(concluding(outcome)).refused("T-16")

    assert outcome in refusal.en
    assert "I-6" in refusal.en
    assert "I-6" in refusal.ko


def test_T_16_referral_to_another_ministry_is_not_available() -> None:
    given(JOINT_REVIEW, *DIRECTED).when(concluding("needs_other_ministry")).refused("T-16")


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        (consulting("dept-rail", lead=False), "T-12"),
        (reminding(7, 1), "T-12a"),
        (giving_up(7, 1), "T-12b"),
        (opining(), "T-13"),
        (directing(), "T-15"),
        (concluding("needs_coordination"), "T-16"),
        (concluding(text="다른 결론"), "T-16"),
    ],
)
def test_T_16_after_the_conclusion_nothing_is_accepted(command: Command, rule: str) -> None:
    given(JOINT_REVIEW, *CONCLUDED).when(command).refused(rule)
    given(JOINT_REVIEW).when(command).refused(rule)


# Divergence (rule 4 of section 10)


@pytest.mark.capability("D8", part="convergence is recorded by the support group")
@pytest.mark.parametrize(
    ("opinions", "expected"),
    [
        (("support", "not_supportable"), 1.0),
        (("support", "support_with_conditions"), 0.25),
        (("support_alternative", "support", "support_with_conditions"), 0.5),
        (("support", "not_competent", "needs_other_ministry"), 0.0),
        (("support", "support"), 0.0),
        ((), 0.0),
    ],
)
def test_divergence_is_highest_minus_lowest_of_those_that_count(opinions: tuple[str, ...], expected: float) -> None:
    assert divergence(opinions) == expected


def test_evolve_never_fails_on_a_missing_predecessor() -> None:
    assert fold(JOINT_REVIEW, [opinion(ROAD, "support"), REMINDED_FACT, NOT_GIVEN_FACT]).departments[ROAD].silent
