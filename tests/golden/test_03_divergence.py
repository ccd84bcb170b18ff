"""Golden scenario 3: departments disagree, the support group brings them together, the convergence stays on record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.client import Problem
from shared.contracts.issues import IssueReviewed
from shared.contracts.routing import CaseResolvedBySupportGroup, EscalatedToSupportGroup, ImplementationAssigned
from tests.golden.play import BUDGET, COUNCIL, OFFICER, ROAD, SECRETARY, Play, refused

CONVERGENCE = "우회도로를 먼저 놓고 확장은 교통량을 다시 본 뒤 정하기로 두 부서가 뜻을 모았습니다."
EVIDENCE = {"text": "우회도로를 개통하였습니다.", "evidence": ["준공검사 2023-06-30"]}


def diverging(play: Play) -> str:
    """A case whose lead supports it and whose budget officer does not; concluded as supportable."""
    case_id = play.in_review(cost_band="above_b")
    play.review(case_id, {ROAD: "support", BUDGET: "not_supportable"})
    return case_id


@pytest.mark.capability("D8")
def test_T_18_divergence_sends_the_case_to_the_support_group(play: Play) -> None:
    case_id = diverging(play)
    reviewed = next(event for event in play.events(case_id, "issues") if event.type == "IssueReviewed")
    assert isinstance(reviewed.data, IssueReviewed)
    assert reviewed.data.divergence == 1.0
    assert play.stage(case_id) == ("R4", "support-group")
    moved = play.events(case_id, "routing")[-1]
    assert isinstance(moved.data, EscalatedToSupportGroup)
    assert moved.data.reason.code == "unresolved_divergence"
    trace = moved.envelope.rule_trace
    assert trace is not None
    matched = [row.row for row in trace.rows if row.matched]
    assert matched[0] == "E-divergence", "18 comes before 17"
    assert trace.inputs["divergence"] == 1.0
    kinds = [document.kind for document in moved.data.documents]
    assert kinds == ["issue", "decision", "joint_review"], "I-21"


@pytest.mark.capability("D8")
def test_T_23_convergence_is_recorded_and_carried_out(play: Play) -> None:
    case_id = diverging(play)
    due = play.today() + timedelta(days=90)
    play.decide("support-group", case_id, "resolved", owner=ROAD, due=due.isoformat(), convergence=CONVERGENCE)

    resolved, assigned = (event.data for event in play.events(case_id, "routing")[-2:])
    assert isinstance(resolved, CaseResolvedBySupportGroup)
    assert resolved.convergence == CONVERGENCE
    assert isinstance(assigned, ImplementationAssigned)
    assert (assigned.holding.body, assigned.holding.due, assigned.outcome) == (ROAD, due, "resolved_by_support_group")
    case = play.case(case_id, OFFICER)
    assert (case["stage"], case["due"]) == ("R7", due.isoformat())
    told = play.told(case_id)
    assert told["CaseResolvedBySupportGroup"] == told["ImplementationAssigned"] == {OFFICER}

    path, owner = f"/v1/cases/{case_id}", play.office(f"{ROAD}.reviewer")
    owner.post(f"{path}/completion", EVIDENCE, version=owner.version(path))
    play.settle()
    case = play.case(case_id, OFFICER)
    assert (case["stage"], case["outcome"]) == ("R9", "resolved_by_support_group")
    assert [held["stage"] for held in case["holdings"]] == ["R1", "R2", "R3", "R4", "R7"]
    assert play.types(case_id, "issues")[-1] == "IssueClosed"
    decided = [event for event in play.events(case_id, "meetings") if event.type == "DecisionRecorded"][-1]
    (item,) = play.office(SECRETARY).get(f"/v1/meetings/{decided.aggregate_id}")["agenda"]
    assert item["decision"]["code"] == "resolved"
    assert item["decision"]["fields"]["convergence"] == CONVERGENCE


def test_T_18_a_contested_lead_goes_up_as_needs_coordination(play: Play) -> None:
    case_id = play.in_review()
    play.review(case_id, {ROAD: "support", "dept-rail": "support"}, outcome="needs_coordination")
    moved = play.events(case_id, "routing")[-1].data
    assert isinstance(moved, EscalatedToSupportGroup)
    assert moved.reason.code == "needs_coordination"
    assert play.stage(case_id) == ("R4", "support-group")


@pytest.mark.capability("D2")
def test_D2_six_types_of_opinion_of_which_four_are_counted(play: Play) -> None:
    case_id = play.in_review()
    opinions = {
        ROAD: "support",
        BUDGET: "support_with_conditions",
        "dept-land-urban": "support_alternative",
        "dept-rail": "not_competent",
        "dept-aviation": "needs_other_ministry",
    }
    play.review(case_id, opinions)
    review = play.office(OFFICER).get(play.review_path(case_id))
    told = {asked["department"]: asked["opinion"] for asked in review["consultations"]}
    assert {name: opinion["code"] for name, opinion in told.items()} == opinions
    assert all(opinion["label"]["ko"] and opinion["label"]["en"] for opinion in told.values())
    assert review["divergence"] == 0.5
    assert play.stage(case_id) == ("R4", "support-group"), "a divergence of 0.5 is one"

    other = play.in_review()
    play.consult(other, ROAD, lead=True)
    play.opine(other, ROAD, "not_supportable")
    refusal = {"department": ROAD, "revision": 1, "opinion": "perhaps", "text": "모르겠습니다."}
    with pytest.raises(Problem, match="422"):
        play.office(f"{ROAD}.reviewer").post(f"{play.review_path(other)}/opinions", refusal)


def test_below_the_threshold_the_case_is_settled_at_review(play: Play) -> None:
    """Row 17: supportable, divergence 0.25, not dear: the lead carries it out."""
    case_id = play.in_review()
    play.review(case_id, {ROAD: "support_with_conditions", BUDGET: "support"})
    assert play.types(case_id, "routing")[-2:] == ["CaseResolvedAtReview", "ImplementationAssigned"]
    case = play.case(case_id, OFFICER)
    assert (case["stage"], case["holder"]["body"]) == ("R7", ROAD)
    assert case["holdings"][-1]["clock"] == "implementation", "I-22: a date, though no decision named one"
    owner, path = play.office(f"{ROAD}.reviewer"), f"/v1/cases/{case_id}"
    owner.post(f"{path}/completion", EVIDENCE, version=owner.version(path))
    play.settle()
    assert play.case(case_id)["outcome"] == "resolved_by_department"
    assert play.told(case_id)["CaseResolvedAtReview"] == {OFFICER}


@pytest.mark.parametrize("lacking", ["owner", "due"])
def test_D_resolved_needs_owner_and_date(play: Play, lacking: str) -> None:
    case_id = play.at_support_group()
    fields: dict[str, Any] = {"owner": ROAD, "due": (play.today() + timedelta(days=30)).isoformat()}
    del fields[lacking]
    sitting = play.sitting("support-group", case_id)
    sitting.act("chair", "/items/1/opening")
    with refused("D-resolved"):
        sitting.decide("resolved", 1, **fields)
    assert play.stage(case_id) == ("R4", "support-group")


def test_the_council_cannot_settle_what_is_the_support_groups(play: Play) -> None:
    case_id = play.raised_and_accepted()
    sitting = play.sitting(COUNCIL, case_id)
    sitting.act("chair", "/items/1/opening")
    with refused("D-resolved"):
        sitting.decide("resolved", owner=ROAD, due=(play.today() + timedelta(days=30)).isoformat())
