"""Golden scenario 2: solved on site at the council; never above R2 (R1, R2, R9; with a promised date R7 in between)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.golden.play import COUNCIL, OFFICER, REASON, ROAD, SECRETARY, Play, refused

EVIDENCE = {"text": "가드레일을 설치하였습니다.", "evidence": ["준공검사 2023-01-04"]}


@pytest.mark.capability("C3")
def test_T_11a_nothing_left_to_do_closes_the_case(play: Play) -> None:
    case_id = play.raised_and_accepted()
    play.decide(COUNCIL, case_id, "resolved_on_site", reason=REASON)

    case = play.case(case_id, OFFICER)
    assert (case["stage"], case["outcome"], case["holder"], case["due"]) == ("R9", "resolved_on_site", None, None)
    assert [held["stage"] for held in case["holdings"]] == ["R1", "R2"]
    assert case["reason"] == REASON, "I-8: the county reads why"
    assert play.types(case_id, "routing") == ["CaseOpened", "CaseRouted", "CaseClosed"]
    assert play.types(case_id, "issues") == ["IssueRaised", "ReceiptIssued", "IssueAccepted", "IssueClosed"]
    issue = play.office(OFFICER).get(f"/v1/issues/{case_id}")
    assert (issue["state"]["code"], issue["outcome"]["code"]) == ("closed", "resolved_on_site")
    assert play.told(case_id)["CaseClosed"] == {OFFICER}
    assert play.work(case_id) == []
    assert play.waiting(COUNCIL, case_id) == []


def test_T_11b_a_promise_with_owner_and_date_is_carried_out_first(play: Play) -> None:
    case_id = play.raised_and_accepted()
    due = play.today() + timedelta(days=60)
    play.decide(COUNCIL, case_id, "resolved_on_site", reason=REASON, owner=ROAD, due=due.isoformat())

    case = play.case(case_id, OFFICER)
    assert (case["stage"], case["holder"]["body"], case["due"]) == ("R7", ROAD, due.isoformat())
    assert case["holdings"][-1]["clock"] == "decision"
    assert [row["office"]["id"] for row in play.work(case_id)] == [f"{ROAD}.reviewer"]

    path, owner = f"/v1/cases/{case_id}", play.office(f"{ROAD}.reviewer")
    with refused("T-38", 403):
        play.office("dept-rail.reviewer").post(f"{path}/implementation-reports", EVIDENCE, version=owner.version(path))
    owner.post(f"{path}/implementation-reports", EVIDENCE | {"text": "착공"}, version=owner.version(path))
    play.settle()
    assert play.stage(case_id) == ("R7", ROAD)
    owner.post(f"{path}/completion", EVIDENCE, version=owner.version(path))
    play.settle()

    case = play.case(case_id, OFFICER)
    assert (case["stage"], case["outcome"]) == ("R9", "resolved_on_site")
    assert [held["stage"] for held in case["holdings"]] == ["R1", "R2", "R7"], "never above R2"
    assert play.types(case_id, "routing") == [
        "CaseOpened",
        "CaseRouted",
        "ImplementationAssigned",
        "ImplementationReported",
        "ImplementationCompleted",
        "CaseClosed",
    ]
    assert play.types(case_id, "issues")[-1] == "IssueClosed"
    assert "JointReviewOpened" not in play.types(case_id)
    told = play.told(case_id)
    assert told["ImplementationAssigned"] == told["CaseClosed"] == {OFFICER}


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("D-resolved_on_site", {}),
        ("D-resolved_on_site", {"reason": REASON, "owner": ROAD}),
        ("D-resolved_on_site", {"reason": REASON, "due": "2023-12-01"}),
        ("D-resolved_on_site", {"reason": REASON, "owner": "council-seoul", "due": "2023-12-01"}),
        ("D-resolved_on_site", {"reason": REASON, "owner": ROAD, "due": "2022-12-01"}),
        ("D-resolved_on_site", {"reason": REASON, "escalation": "general_direction"}),
    ],
)
def test_D_resolved_on_site_needs_its_fields(play: Play, rule: str, fields: dict[str, Any]) -> None:
    case_id = play.raised_and_accepted()
    sitting = play.sitting(COUNCIL, case_id)
    sitting.act("chair", "/items/1/opening")
    with refused(rule):
        sitting.decide("resolved_on_site", 1, **fields)
    assert play.stage(case_id) == ("R2", COUNCIL)


def test_a_closed_case_takes_nothing_more(play: Play) -> None:
    case_id = play.raised_and_accepted()
    play.decide(COUNCIL, case_id, "resolved_on_site", reason=REASON)
    path, secretary = f"/v1/issues/{case_id}", play.office(f"{COUNCIL}.secretary")
    with refused("T-4"):
        secretary.post(f"{path}/acceptance", version=secretary.version(path))
    with refused("T-10"):
        play.sitting(COUNCIL, case_id)
    owner = play.office(f"{ROAD}.reviewer")
    with refused("T-38a"):
        owner.post(f"/v1/cases/{case_id}/completion", EVIDENCE, version=owner.version(f"/v1/cases/{case_id}"))


def test_lineage_of_a_case_solved_on_site(play: Play) -> None:
    case_id = play.raised_and_accepted()
    play.decide(COUNCIL, case_id, "resolved_on_site", reason=REASON)
    answer = play.office(SECRETARY).get(f"/v1/lineage/issue/{case_id}")
    kinds = {node["kind"] for node in answer["nodes"]}
    assert {"issue", "docket", "meeting", "decision", "move"} <= kinds
    assert "policy" not in kinds
    last = [node for node in answer["nodes"] if node["kind"] == "move"][-1]
    assert last["label"]["ko"] == "종결: 현장해결"
