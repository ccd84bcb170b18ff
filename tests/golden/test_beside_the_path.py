"""The rows beside the straight path, over HTTP: refusal, triage, other dates, silence, joint councils, moves that a
rule refused, and every code, outcome and act that is not built.
"""

from __future__ import annotations

import json
import uuid
from datetime import date, timedelta
from typing import Any, get_args

import pytest

from services.client import Problem
from shared.contracts.codes import DecisionCode
from shared.contracts.routing import CaseOpened, CaseRouted, CaseUnrouted, DeadlineChanged, MoveRefused
from shared.runtime.settings import ROOT
from tests.golden.play import (
    BUDGET,
    COUNCIL,
    COUNTY,
    HEAD,
    OFFICER,
    REASON,
    ROAD,
    SECRETARY,
    Play,
    Sitting,
    adoption,
    refused,
)

UNHEARD, UNPLACED = "unheard-of", "unplaced"
"""Tags that the second version of the rules knows no council, and no next step, for."""


# Row 1: who raises what, for whom


@pytest.mark.capability("A5")
def test_A5_recorded_on_behalf_of_another_with_co_raisers(play: Play) -> None:
    co_raisers = ["org-gangwon-wonju", "org-gangwon"]
    case_id = play.raise_issue(f"{COUNCIL}.secretary", co_raisers=co_raisers, channel="council_visit")

    issue = play.office(OFFICER).get(f"/v1/issues/{case_id}")
    assert (issue["raised_by"], issue["recorded_by"]) == (COUNTY, f"{COUNCIL}.secretary")
    _, secretary = play.maru.token(f"{COUNCIL}.secretary")
    assert play.events(case_id, "issues")[0].envelope.actor.user == secretary
    assert issue["co_raisers"] == co_raisers
    told = {OFFICER, *(f"{body}.officer" for body in co_raisers)}
    assert play.told(case_id)["ReceiptIssued"] == told
    play.accept(case_id)
    assert told <= play.told(case_id)["CaseRouted"], "co-raisers hear what the raiser hears"


@pytest.mark.capability("A4", part="no hint yet when several regions raise similar matters")
def test_A4_a_department_raises_what_it_found_itself(play: Play) -> None:
    case_id = play.raise_issue(f"{ROAD}.reviewer", raised_by=ROAD, channel="portal")
    assert play.office(SECRETARY).get(f"/v1/issues/{case_id}")["origin"]["code"] == "ministry"
    assert play.stage(case_id) == ("R1", "planning-group")
    opened_as = play.events(case_id, "routing")[0].data
    assert isinstance(opened_as, CaseOpened)
    assert opened_as.copies_to == (COUNCIL,), "rule 1: copies to the councils concerned"


@pytest.mark.capability("A12")
@pytest.mark.capability("B1", part="no row asks for expert field, kind of suggestion or urgency")
def test_A12_several_regions_of_one_megaregion_meet_jointly_under_the_lead_region(play: Play) -> None:
    case_id = play.raise_issue(SECRETARY, raised_by="org-busan", regions=["ulsan", "busan", "gyeongnam"])
    assert play.stage(case_id) == ("R1", "council-ulsan")
    event = play.events(case_id, "routing")[0]
    assert isinstance(event.data, CaseOpened)
    assert event.data.copies_to == ("council-busan", "council-gyeongnam")
    assert event.envelope.rule_trace is not None
    assert "C3" in {row.row for row in event.envelope.rule_trace.rows if row.matched}
    issue = play.office("org-busan.officer").get(f"/v1/issues/{case_id}")
    assert [region["region"] for region in issue["regions"]] == ["ulsan", "busan", "gyeongnam"], "the lead first"
    play.accept(case_id, "council-ulsan")
    assert play.stage(case_id) == ("R2", "council-ulsan")


@pytest.mark.parametrize(
    ("regions", "nationwide", "copies"), [(["gangwon", "seoul"], False, 2), ([], True, 17)], ids=["two", "nationwide"]
)
def test_T_4_across_megaregions_the_planning_group_takes_it_in_and_reviews(
    play: Play, regions: list[str], nationwide: bool, copies: int
) -> None:
    case_id = play.raise_issue(SECRETARY, regions=regions, nationwide=nationwide)
    assert play.stage(case_id) == ("R1", "planning-group")
    first = play.events(case_id, "routing")[0].data
    assert isinstance(first, CaseOpened)
    assert len(first.copies_to) == copies
    with refused("T-4", 403):
        play.accept(case_id, COUNCIL)
    play.accept(case_id, "planning-group")
    assert play.stage(case_id) == ("R3", "planning-group")
    assert "JointReviewOpened" in play.types(case_id, "issues")
    play.review(case_id, {ROAD: "support"})
    escalated = play.events(case_id, "routing")[-1]
    if nationwide:
        assert play.stage(case_id)[0] == "R7"
    else:
        assert escalated.type == "EscalatedToSupportGroup"
        assert escalated.data.reason.code == "several_megaregions"  # type: ignore[attr-defined]


# Row 5


@pytest.mark.capability("D9")
@pytest.mark.capability("A10", part="no transfer to another authority")
def test_T_5_a_refusal_with_its_reason_reaches_the_raiser(play: Play) -> None:
    case_id = play.raise_issue()
    path, reason = f"/v1/issues/{case_id}", {"code": "incomplete", "text": "위치와 노선을 알 수 없습니다."}
    chair, body = play.office(f"{COUNCIL}.chair"), {"drafted_by": f"{COUNCIL}.secretary"}
    for without in ({}, {"reason": {"code": "incomplete", "text": " "}}, {"reason": {"text": "이유"}}):
        with pytest.raises(Problem) as caught:
            chair.post(f"{path}/refusal", body | without, version=2)
        assert caught.value.status == 422, "I-8: never without code and text"
    with refused("T-5"):
        chair.post(f"{path}/refusal", body | {"reason": {"code": "not_competent", "text": "소관 아님"}}, version=2)
    with refused("T-5"):
        chair.post(f"{path}/refusal", {"reason": reason, "drafted_by": f"{COUNCIL}.chair"}, version=2)
    with refused("I-9", 403):
        play.office(f"{COUNCIL}.secretary").post(f"{path}/refusal", body | {"reason": reason}, version=2)
    assert play.stage(case_id) == ("R1", COUNCIL)

    chair.post(f"{path}/refusal", body | {"reason": reason}, version=2)
    play.settle()
    case = play.case(case_id, OFFICER)
    assert (case["stage"], case["outcome"], case["reason"]) == ("R9", "refused", reason)
    issue = play.office(OFFICER).get(path)
    assert (issue["state"]["code"], issue["refusal"]) == ("refused", reason)
    notice = play.notices(OFFICER, case_id)[-1]
    assert (notice["about_type"], notice["mandatory"]) == ("CaseClosed", True)
    assert f"/v1/cases/{case_id}" in notice["text"]["ko"], "where its reason stands"
    assert play.types(case_id, "issues") == ["IssueRaised", "ReceiptIssued", "IssueRefused"]
    with refused("T-4"):
        play.accept(case_id)


# Rows 8 and 9


@pytest.fixture(scope="module")
def earlier(play: Play) -> str:
    """A case that began before the rules were changed."""
    return play.raise_issue(tags=["road", UNPLACED])


@pytest.fixture(scope="module")
def gaps(play: Play, earlier: str) -> Play:
    """A system whose rules know nothing for two tags, from today on."""
    publish_gaps(play)
    return play


def publish_gaps(play: Play) -> None:
    """A second version of the rules, from today on, that knows no council for one tag and no next step for another."""
    rules: dict[str, Any] = json.loads((ROOT / "data" / "rules-2023.json").read_text(encoding="utf-8"))
    for table in rules["tables"]:
        tag = {"council_selection": UNHEARD, "after_acceptance": UNPLACED}.get(table["table"])
        for row in table["rows"] if tag else []:
            row["when"] = f"({row['when']}) && !('{tag}' in tags)"
    rules |= {"version": 2, "valid_from": play.today().isoformat()}
    play.office("operations.operator").post("/v1/reference/rule-sets", rules)
    play.settle()


def assign(play: Play, case_id: str, body: str, office: str = "triage-desk.desk", **more: Any) -> None:
    """The triage desk names a body."""
    path = f"/v1/cases/{case_id}"
    said = {"body": body, "reason": {"code": "no_rule", "text": "맞는 규칙이 없어 배정합니다."}} | more
    play.office(office).post(f"{path}/assignment", said, version=play.office(office).version(path))
    play.settle()


@pytest.mark.capability("B4")
def test_T_8_what_no_rule_matches_waits_at_the_triage_desk(gaps: Play) -> None:
    case_id = gaps.raise_issue(tags=["road", UNHEARD])
    case = gaps.case(case_id, OFFICER)
    assert (case["stage"], case["holder"]["office"]) == ("R0", "triage-desk.desk")
    assert case["holdings"][0]["clock"] == "triage"
    assert gaps.today() < date.fromisoformat(case["due"]) <= gaps.today() + timedelta(days=5)
    event = gaps.events(case_id, "routing")[0]
    assert isinstance(event.data, CaseUnrouted)
    assert event.envelope.rule_trace is not None
    assert event.envelope.rule_trace.version == 2
    asked = [row for row in event.envelope.rule_trace.rows if row.table == "council_selection"]
    assert len(asked) == 4
    assert not any(row.matched for row in asked)
    (row,) = gaps.work(case_id, office="triage-desk.desk")
    assert (row["kind"], row["stage"]) == ("triage", "R0")
    assert gaps.told(case_id)["CaseUnrouted"] == {"triage-desk.desk"}
    hindrances = gaps.office(OFFICER).get(f"/v1/cases/{case_id}/why")["not_there"]
    assert {place["rule"] for place in hindrances} == {"T-9"}


@pytest.mark.capability("B4")
@pytest.mark.capability("B3", part="a mark on the move rather than an event of its own, and no metric counts it")
def test_T_9_the_triage_desk_assigns_by_hand_with_a_reason(gaps: Play) -> None:
    case_id = gaps.raise_issue(tags=["road", UNHEARD])
    with refused("I-9", 403):
        assign(gaps, case_id, COUNCIL, office=f"{COUNCIL}.secretary")
    for body in ("support-group", "forum", ROAD, "council-nowhere"):
        with refused("T-9", 409):
            assign(gaps, case_id, body)
    with pytest.raises(Problem, match="422"):
        assign(gaps, case_id, COUNCIL, reason=None)

    assign(gaps, case_id, COUNCIL)
    assert gaps.stage(case_id) == ("R1", COUNCIL)
    event = gaps.events(case_id, "routing")[-1]
    assert isinstance(event.data, CaseRouted)
    assert event.data.override
    assert event.data.reason is not None
    assert event.data.reason.code == "no_rule"
    assert event.envelope.actor.office == "triage-desk.desk"
    assert gaps.work(case_id, kind="triage") == []
    with refused("T-9", 409):
        assign(gaps, case_id, "council-seoul")
    gaps.accept(case_id)
    assert gaps.stage(case_id) == ("R2", COUNCIL), "its way goes on"


@pytest.mark.parametrize(("body", "stage"), [(COUNCIL, "R2"), ("planning-group", "R3")])
def test_T_8_after_acceptance_too(gaps: Play, body: str, stage: str) -> None:
    case_id = gaps.raise_issue(tags=["road", UNPLACED])
    gaps.accept(case_id)
    assert gaps.stage(case_id) == ("R0", "triage-desk")
    assert gaps.told(case_id)["CaseUnrouted"] == {"triage-desk.desk", f"{COUNCIL}.secretary"}
    assign(gaps, case_id, body)
    assert gaps.stage(case_id) == (stage, body)
    assert ("JointReviewOpened" in gaps.types(case_id, "issues")) == (stage == "R3")


@pytest.mark.capability("B6")
def test_B6_a_case_keeps_the_version_that_it_began_under(gaps: Play, earlier: str) -> None:
    later = gaps.raise_issue(tags=["road", UNPLACED])
    for case_id in (earlier, later):
        gaps.accept(case_id)
    traces = {case_id: gaps.events(case_id, "routing")[-1].envelope.rule_trace for case_id in (earlier, later)}
    assert {case_id: trace and trace.version for case_id, trace in traces.items()} == {earlier: 1, later: 2}
    assert gaps.stage(earlier) == ("R2", COUNCIL)
    assert gaps.stage(later) == ("R0", "triage-desk")


def test_T_8_a_region_without_a_council(play: Play) -> None:
    today = play.today().isoformat()
    region = {
        "region": "dokdo",
        "codes": {"mois": "99", "kosis": None, "iso": None},
        "name": {"ko": "독도특별자치도", "en": "Dokdo"},
        "capital_area": False,
        "valid_from": today,
        "source": "M test",
    }
    play.office("operations.operator").post("/v1/reference/regions", region)
    play.settle()
    case_id = play.raise_issue(SECRETARY, regions=["99"])
    assert play.stage(case_id) == ("R0", "triage-desk")


# Row 11d


@pytest.mark.parametrize("code", ["noted", "postpone_next"])
@pytest.mark.parametrize("tier", ["R2", "R4", "R5"])
def test_T_11d_another_date_and_nothing_else(play: Play, code: str, tier: str) -> None:
    case_id = {"R2": play.raised_and_accepted, "R4": play.at_support_group, "R5": play.at_forum}[tier]()
    body = play.case(case_id)["holder"]["body"]
    due = play.today() + timedelta(days=45)
    play.decide(body, case_id, code, due=due.isoformat(), reason=REASON)

    case = play.case(case_id, OFFICER)
    assert (case["stage"], case["holder"]["body"], case["due"]) == (tier, body, due.isoformat())
    (change,) = case["holdings"][-1]["due_changes"]
    assert (change["due"], change["reason"]) == (due.isoformat(), REASON), "I-17, I-8"
    assert isinstance(play.events(case_id, "routing")[-1].data, DeadlineChanged)
    assert play.told(case_id)["DeadlineChanged"] == {OFFICER}
    (waits,) = play.waiting(body, case_id)
    assert (waits["due"], waits["placed"]) == (due.isoformat(), None), "for the next sitting"
    assert [row["due"] for row in play.work(case_id)] == [due.isoformat()]


def test_T_11d_needs_date_and_for_a_postponement_a_reason(play: Play) -> None:
    case_id = play.raised_and_accepted()
    sitting = play.sitting(COUNCIL, case_id)
    sitting.act("chair", "/items/1/opening")
    soon, past = (play.today() + timedelta(days=n) for n in (9, -9))
    with refused("D-noted"):
        sitting.decide("noted")
    with refused("D-noted"):
        sitting.decide("noted", due=past.isoformat())
    with refused("I-8"):
        sitting.decide("postpone_next", due=soon.isoformat())
    sitting.decide("noted", due=soon.isoformat())
    with refused("T-10"):
        sitting.decide("take_for_review")


# Rows 12a and 12b


def silent(play: Play) -> tuple[str, date]:
    """In review with the lead's opinion given and the budget officer silent; with the date of the opinions."""
    case_id = play.in_review()
    play.consult(case_id, ROAD, lead=True)
    play.consult(case_id, BUDGET)
    play.opine(case_id, ROAD, "support")
    play.direct(case_id)
    review = play.office(SECRETARY).get(play.review_path(case_id))
    (due,) = {asked["due"] for asked in review["consultations"]}
    return case_id, date.fromisoformat(due)


@pytest.mark.capability("D6")
def test_T_12a_T_12b_the_clock_reminds_then_puts_silence_on_record_once(play: Play) -> None:
    case_id, due = silent(play)
    with refused("I-5"):
        play.conclude(case_id, "supportable")
    play.go_to(due + timedelta(days=1))
    play.until(lambda: "DepartmentReminded" in play.types(case_id, "issues"))
    (row,) = play.work(case_id, department=BUDGET)
    second = date.fromisoformat(row["due"])
    assert (row["reminded"], second > play.today()) == (True, True)
    assert play.told(case_id)["DepartmentReminded"] == {f"{BUDGET}.reviewer"}

    play.go_to(second + timedelta(days=1))
    play.until(lambda: "OpinionNotGiven" in play.types(case_id, "issues"))
    types = play.types(case_id, "issues")
    assert (types.count("DepartmentReminded"), types.count("OpinionNotGiven")) == (1, 1)
    reminded = next(event for event in play.events(case_id, "issues") if event.type == "DepartmentReminded")
    assert (reminded.envelope.actor.office, reminded.envelope.authority.rule) == ("process", "T-12a")
    assert play.work(case_id, department=BUDGET) == []
    play.conclude(case_id, "supportable")
    assert play.stage(case_id) == ("R7", ROAD)
    reviewed = next(event for event in play.events(case_id, "issues") if event.type == "IssueReviewed")
    given = {ref.department: ref.opinion for ref in reviewed.data.opinions}  # type: ignore[attr-defined]
    assert given == {ROAD: "support", BUDGET: "not_given"}, "I-5: the silence is seen by the next body"


# Rule (b), and edges


def test_rule_b_a_decision_on_a_case_that_left_moves_nothing_and_says_so(play: Play) -> None:
    case_id = play.raised_and_accepted()
    one, other = play.sitting(COUNCIL, case_id), play.sitting(COUNCIL, case_id)
    for sitting in (one, other):
        sitting.act("chair", "/items/1/opening")
    one.decide("take_for_review")
    play.settle()
    assert play.stage(case_id) == ("R3", "planning-group")
    late = other.decide("resolved_on_site", reason=REASON)
    play.settle()

    assert play.stage(case_id) == ("R3", "planning-group")
    refusal = play.events(case_id, "routing")[-1]
    assert isinstance(refusal.data, MoveRefused)
    assert (refusal.data.rule, refusal.data.body) == ("rule-b", COUNCIL)
    assert refusal.data.cause == late.events[0]["event_id"]
    (row,) = play.work(case_id, kind="move_refused")
    assert (row["office"]["id"], row["rule"], row["cause"]) == (f"{COUNCIL}.secretary", "rule-b", refusal.data.cause)
    assert [found["id"] for found in play.work(case_id, office=f"{COUNCIL}.secretary")] == [row["id"]]
    assert play.told(case_id)["MoveRefused"] == {f"{COUNCIL}.secretary"}
    (miss,) = play.office(OFFICER).get(f"/v1/cases/{case_id}/why")["refused"]
    assert (miss["rule"], miss["cause_type"], miss["body"]["id"]) == ("rule-b", "DecisionRecorded", COUNCIL)
    assert miss["why"]["ko"]
    # Told until the case next moves.
    play.review(case_id, {ROAD: "support"})
    assert play.work(case_id, kind="move_refused") == []


@pytest.mark.capability("C2", part="no emergency edge that skips a tier")
def test_I_3_where_no_edge_leads_nothing_moves(play: Play) -> None:
    council, today = "council-jeju", play.today()
    case_id = play.raised_and_accepted(office="org-jeju.officer", raised_by="org-jeju", regions=["jeju"])
    closing = {"body": council, "edge": f"{council}.review", "valid_from": today.isoformat(), "source": "M test"}
    play.office("operations.operator").post("/v1/reference/closed-edges", closing)
    play.settle()
    play.decide(council, case_id, "take_for_review")
    assert play.stage(case_id) == ("R2", council)
    refusal = play.events(case_id, "routing")[-1].data
    assert isinstance(refusal, MoveRefused)
    assert refusal.rule == "I-3"
    opening = {
        "body": council,
        "edge": f"{council}.review-2",
        "to_body": "planning-group",
        "kind": "review",
        "valid_from": today.isoformat(),
        "source": "M test",
    }
    play.office("operations.operator").post("/v1/reference/edges", opening)
    play.settle()
    play.decide(council, case_id, "take_for_review")
    assert play.stage(case_id) == ("R3", "planning-group"), "decided again once the way is open"


# What is not built is refused with its rule


NOT_BUILT = ("support_alternative", "not_supportable", "needs_other_ministry")
BUILT = {
    COUNCIL: {"resolved_on_site", "take_for_review", "noted", "postpone_next"},
    "support-group": {"resolved", "escalate", "noted", "postpone_next"},
    "forum": {"adopt", "noted", "postpone_next"},
}


@pytest.mark.capability("E10", part="codes whose rows come later are refused, each with its rule")
@pytest.mark.parametrize("body", BUILT)
def test_D_codes_outside_the_column_or_not_built_are_refused(play: Play, body: str) -> None:
    ways = {COUNCIL: play.raised_and_accepted, "support-group": play.at_support_group, "forum": play.at_forum}
    case_id = ways[body]()
    sitting = play.sitting(body, case_id)
    sitting.act("chair", "/items/1/opening")
    before = play.stage(case_id)
    codes = set(get_args(DecisionCode)) - BUILT[body]
    assert len(codes) == 18 - len(BUILT[body])
    for code in sorted(codes):
        with refused(f"D-{code}", 409):
            sitting.decide(code, reason=REASON)
    with pytest.raises(Problem, match="422"):
        sitting.decide("applaud", reason=REASON)
    assert play.office(SECRETARY).version(sitting.path) == sitting.version, "nothing was stored"
    assert play.stage(case_id) == before


@pytest.mark.parametrize("outcome", NOT_BUILT)
def test_T_16_outcomes_not_built_are_refused(play: Play, outcome: str) -> None:
    case_id = play.in_review()
    play.consult(case_id, ROAD, lead=True)
    play.opine(case_id, ROAD, "support_alternative")
    with refused("T-16", 409):
        play.conclude(case_id, outcome)
    assert play.stage(case_id) == ("R3", "planning-group")
    with refused("T-16", 409):
        play.conclude(case_id, "supportable")  # no direction of support was set


@pytest.mark.parametrize(
    "act",
    [
        "issues/{case}/supplement",
        "issues/{case}/supplement-requests",
        "issues/{case}/transfer",
        "issues/{case}/withdrawal",
        "issues/{case}/merge",
        "issues/{case}/split",
        "issues/{case}/revisions",
        "issues/{case}/objection",
        "issues/{case}/reopening",
        "issues/{case}/reviews/1/alternatives",
        "issues/{case}/reviews/1/lead",
        "cases/{case}/call-up",
        "cases/{case}/urgency",
        "cases/{case}/deadline",
        "cases/{case}/obstacles",
        "referrals",
        "directions",
    ],
)
def test_acts_not_built_do_not_exist(play: Play, act: str) -> None:
    with pytest.raises(Problem) as caught:
        play.office(SECRETARY).post(f"/v1/{act.format(case='019f0000-0000-7000-8000-000000000000')}", {}, version=1)
    assert caught.value.status in (404, 405)


# Quorum


@pytest.mark.capability("E6", part="no quorum-lost event, and none counted anew for each item")
def test_I_10_nothing_is_decided_without_quorum(play: Play) -> None:
    case_id = play.raised_and_accepted()
    seats = [row["seat"] for row in play.seats(COUNCIL)]
    sitting = play.sitting(COUNCIL, case_id, present=seats[:2])
    assert play.stream("meetings", f"Meeting/{sitting.id}")[-1].type == "AttendanceRecorded", "two of three"
    sitting.act("chair", "/items/1/opening")
    with refused("I-10", 409):
        sitting.decide("take_for_review")
    sitting.act("secretary", "/attendance", {"present": seats[:3]})
    sitting.act("secretary", "/attendance", {"present": seats[1:3]})
    with refused("I-10"):
        sitting.decide("take_for_review")
    with refused("I-10"):
        sitting.act("secretary", "/attendance", {"present": ["forum-seat-01", *seats]})
    sitting.act("chair", "/items/1/closing")
    sitting.act("chair", "/closing")
    play.settle()
    (closed,) = (e for e in play.stream("meetings", f"Meeting/{sitting.id}") if e.type == "ItemClosed")
    assert closed.data.result == "undecided"  # type: ignore[attr-defined]
    (waits,) = play.waiting(COUNCIL, case_id)
    assert waits["placed"] is None, "back on the waiting list"
    assert play.types(case_id, "routing") == ["CaseOpened", "CaseRouted"], "the case never moved"


# Adopting


def deliberated(play: Play, stance: str = "for") -> tuple[Sitting, str, dict[str, Any]]:
    """Before the Minister: a draft on the agenda, three statements, the deliberation concluded."""
    sitting, case_id, policy = on_the_agenda(play)
    for seat, field in (("03", "transportation"), ("01", "land"), ("02", "city")):
        sitting.state(f"forum-seat-{seat}", field, stance)
    sitting.act("chair", "/items/1/deliberation", {"text": "위원들의 의견을 모았습니다."})
    return sitting, case_id, policy


def on_the_agenda(play: Play) -> tuple[Sitting, str, dict[str, Any]]:
    """Before the Minister with a draft, the item open, nothing said yet."""
    case_id = play.at_forum()
    policy = play.draft(case_id)
    sitting = play.sitting("forum", case_id, policy_id=policy["policy_id"])
    sitting.act("chair", "/items/1/opening")
    return sitting, case_id, policy


@pytest.fixture(scope="module")
def ready(play: Play) -> tuple[Sitting, str, dict[str, Any]]:
    """One item that waits for the Minister; the refusals below leave it as it is."""
    return deliberated(play)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("policy_revision", 2),
        ("policy_hash", "0" * 64),
        ("policy_id", "019f0000-0000-7000-8000-000000000000"),
        ("owner", None),
        ("review_date", None),
        ("policy_revision", None),
        ("policy_hash", None),
        ("sources", []),
        ("sources", [{"kind": "issue", "ref": "019f0000-0000-7000-8000-000000000000"}]),
    ],
)
def test_I_12_nothing_may_be_missing(
    play: Play, ready: tuple[Sitting, str, dict[str, Any]], field: str, value: object
) -> None:
    sitting, case_id, policy = ready
    fields = adoption(policy, play.today(), case_id) | {field: value}
    with refused("I-12", 409):
        sitting.decide("adopt", 1, **fields)
    assert play.stage(case_id) == ("R5", "forum")
    assert play.office(SECRETARY).get(f"/v1/policies/{policy['policy_id']}")["state"] == "drafted"


def test_I_12_a_review_date_lies_ahead(play: Play, ready: tuple[Sitting, str, dict[str, Any]]) -> None:
    sitting, case_id, policy = ready
    with refused("I-12"):
        sitting.decide("adopt", 1, **adoption(policy, play.today(), case_id, review_date=play.today().isoformat()))


def test_I_9_only_the_minister_adopts(play: Play, ready: tuple[Sitting, str, dict[str, Any]]) -> None:
    sitting, case_id, policy = ready
    decision = {"code": "adopt", "fields": adoption(policy, play.today(), case_id)}
    for office in ("forum.secretary", "support-group.chair", HEAD, OFFICER):
        with refused("I-9", 403):
            play.office(office).post(f"{sitting.path}/items/1/decision", decision, version=sitting.version)


def test_I_12_not_without_a_deliberation_but_under_an_emergency_clause(play: Play) -> None:
    sitting, case_id, policy = on_the_agenda(play)
    fields = adoption(policy, play.today(), case_id)
    with refused("I-12"):
        sitting.decide("adopt", 1, **fields)
    sitting.decide("adopt", 1, **fields, emergency_clause="운영규정 제9조")
    play.settle()
    adopted = play.office(OFFICER).get(f"/v1/policies/{policy['policy_id']}")["adoption"]
    assert (adopted["deliberation_event"], adopted["emergency_clause"]) == (None, "운영규정 제9조")
    assert play.stage(case_id) == ("R7", ROAD)


@pytest.mark.parametrize("stance", ["against", "with_conditions"])
def test_I_12_against_the_advice_only_with_a_reason(play: Play, stance: str) -> None:
    sitting, case_id, policy = deliberated(play, stance)
    fields = adoption(policy, play.today(), case_id)
    with refused("I-12"):
        sitting.decide("adopt", 1, **fields)
    sitting.decide("adopt", 1, **fields, departure_reason="안전을 위해 미룰 수 없습니다.")
    play.settle()
    adopted = play.office(OFFICER).get(f"/v1/policies/{policy['policy_id']}")["adoption"]
    assert adopted["departure_reason"] == "안전을 위해 미룰 수 없습니다."


def test_I_13_a_policy_is_adopted_once(play: Play) -> None:
    first, second = play.at_forum(), play.at_forum()
    policy = play.draft(first, second)
    sitting = play.sitting("forum", first, second, policy_id=policy["policy_id"])
    for item, case_id in ((1, first), (2, second)):
        sitting.act("chair", f"/items/{item}/opening")
        statement = {"seat": "forum-seat-03", "field": "transportation", "stance": "for", "text": "찬성합니다."}
        sitting.act("secretary", f"/items/{item}/statements", statement)
        sitting.act("chair", f"/items/{item}/deliberation", {"text": "권고합니다."})
        fields = adoption(policy, play.today(), case_id)
        if item == 1:
            sitting.decide("adopt", item, **fields)
            sitting.act("chair", "/items/1/closing")
            play.settle()
        else:
            with refused("I-13", 409):
                sitting.decide("adopt", item, **fields)
    assert play.stage(first) == ("R7", ROAD)
    assert play.stage(second) == ("R5", "forum")
    adopted = [e for e in play.stream("meetings", f"Policy/{policy['policy_id']}") if e.type == "PolicyAdopted"]
    assert len(adopted) == 1


def test_T_29_statements_of_members_who_attend_for_a_field_of_theirs(play: Play) -> None:
    sitting, _, _ = on_the_agenda(play)
    with refused("T-29"):
        sitting.act("chair", "/items/1/deliberation", {"text": "아무도 말하지 않았습니다."})
    with refused("I-11"):
        sitting.state("forum-seat-03", "culture", "for")
    seats = [row["seat"] for row in play.seats("forum") if row["seat"] != "forum-seat-03"]
    sitting.act("secretary", "/attendance", {"present": seats})
    with refused("T-29"):
        sitting.state("forum-seat-03", "transportation", "for")


def test_T_29a_a_draft_needs_a_source_before_support_group_or_forum(play: Play) -> None:
    with refused("T-29a"):
        play.draft(play.raised_and_accepted())
    with refused("T-29a"):
        play.draft("019f0000-0000-7000-8000-000000000000")


def test_T_38a_a_case_under_a_policy_ends_with_the_policy(play: Play) -> None:
    sitting, case_id, policy = deliberated(play)
    sitting.decide("adopt", 1, **adoption(policy, play.today(), case_id))
    play.settle()
    path, owner = f"/v1/cases/{case_id}", play.office(f"{ROAD}.reviewer")
    done = {"text": "끝났습니다.", "evidence": ["준공검사"]}
    with refused("T-38a", 409):
        owner.post(f"{path}/completion", done, version=owner.version(path))
    policy_path = f"/v1/policies/{policy['policy_id']}"
    with refused("T-38b", 409):
        play.office(SECRETARY).post(f"{policy_path}/completion", version=play.office(SECRETARY).version(policy_path))


# The secretary instead of the clock; offices change hands; regions merge. These move the clock furthest, so they come
# last, and nobody fires what was due meanwhile.


@pytest.fixture(scope="module")
def without_scheduler(play: Play) -> Play:
    """From now on nobody fires the due rows: what the secretary does himself."""
    play.system.stop_due("issues")
    return play


def test_T_12a_T_12b_by_the_secretary(without_scheduler: Play) -> None:
    play = without_scheduler
    case_id, due = silent(play)
    path, secretary = play.review_path(case_id), play.office(SECRETARY)

    def do(what: str, department: str = BUDGET) -> None:
        secretary.post(f"{path}/consultations/{department}/{what}", version=secretary.version(path))
        play.settle()

    for what, rule in (("reminders", "T-12a"), ("not-given", "T-12b")):
        with refused(rule, 409):
            do(what)
    play.go_to(due)
    with refused("T-12a"):
        do("reminders")
    play.go_to(due + timedelta(days=1))
    with refused("T-12b"):
        do("not-given")
    with refused("T-12a"):
        do("reminders", ROAD)
    do("reminders")
    do("reminders")
    (row,) = play.work(case_id, department=BUDGET)
    play.go_to(date.fromisoformat(row["due"]))
    with refused("T-12b"):
        do("not-given")
    play.go_to(play.today() + timedelta(days=1))
    do("not-given")
    types = play.types(case_id, "issues")
    assert (types.count("DepartmentReminded"), types.count("OpinionNotGiven")) == (1, 1)
    assert play.events(case_id, "issues")[-1].envelope.actor.office == SECRETARY
    play.conclude(case_id, "supportable")
    assert play.stage(case_id) == ("R7", ROAD)


@pytest.mark.capability("C5", part="no acting chair by written delegation")
def test_I_9_a_former_holder_acts_no_more(without_scheduler: Play) -> None:
    play, office = without_scheduler, f"{COUNCIL}.secretary"
    case_id = play.raise_issue()
    before, former = play.maru.token(office)
    play.go_to(date(2023, 3, 1))
    _, present = play.maru.token(office)
    assert (former, present) == ("u-0011", "u-0012")
    path = f"/v1/issues/{case_id}"
    version = play.office(office).version(path)
    # Named or, as the only one that he held, meant.
    for named in ({"Maru-Office": office}, {}):
        headers = {"Authorization": f"Bearer {before}", "Idempotency-Key": uuid.uuid4().hex, "If-Match": f'"{version}"'}
        with play.system.client() as http:
            answer = http.post(f"{path}/acceptance", json={}, headers=headers | named)
        assert (answer.status_code, answer.json()["rule"]) == (403, "I-9")
        assert "today" in answer.json()["en"]
        assert answer.json()["ko"]
    play.accept(case_id)
    accepted = next(event for event in play.events(case_id, "issues") if event.type == "IssueAccepted")
    assert (accepted.envelope.actor.user, accepted.envelope.actor.office) == ("u-0012", office)


@pytest.mark.capability("A6")
def test_A6_a_docket_number_outlives_the_merger_of_its_region(without_scheduler: Play) -> None:
    play = without_scheduler
    merged: dict[str, Any] = {"office": "org-gwangju.officer", "raised_by": "org-gwangju", "regions": ["gwangju"]}
    cases = [play.raise_issue(**merged) for _ in range(3)]
    with pytest.raises(Problem, match="409"):
        play.raise_issue(**(merged | {"regions": []}))
    cases.append(play.raise_issue())

    def dockets() -> list[str]:
        return [play.office(SECRETARY).get(f"/v1/issues/{case_id}")["docket"] for case_id in cases]

    before = dockets()
    assert len(set(before)) == 4, "never used again"
    assert all(docket.startswith("2023-") for docket in before)
    for case_id in cases:
        raised, receipt = play.events(case_id, "issues")
        assert receipt.position == raised.position + 1, "within the same command"
    play.go_to(date(2026, 7, 2))
    assert dockets() == before
    issue = play.office(SECRETARY).get(f"/v1/issues/{cases[0]}")
    (region,) = issue["regions"]
    assert (region["as_raised"]["code"], [now["region"] for now in region["today"]]) == ("29", ["jeonnam-gwangju"])
    later = play.raise_issue("org-jeonnam-gwangju-nam.officer", raised_by="org-jeonnam-gwangju-nam", regions=["12"])
    assert play.office(SECRETARY).get(f"/v1/issues/{later}")["docket"] == "2026-000001"
    assert play.stage(later) == ("R1", "council-jeonnam-gwangju")
