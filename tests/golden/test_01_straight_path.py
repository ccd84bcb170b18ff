"""Golden scenario 1 (walk.md): a county's suggestion becomes an adopted policy, and the county is told.

Walked twice on one system: with the dates of the page, then again on the business day, where Gangwon has another code.
Steps marked ○ are not built; what is counted is the walk without them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest

from services.client import Office, Problem
from services.walk import Outcome, Step, Walk
from shared.contracts.meetings import DecisionRecorded, PolicyAdopted
from shared.contracts.routing import EscalatedToForum, EscalatedToSupportGroup
from shared.runtime.declare import Recorded
from tests.full_form import Form, Seeded
from tests.golden.play import BUDGET, COUNCIL, COUNTY, OFFICER, ROAD, SECRETARY, Play, playing, refused

WATCHED = {
    "IssueRaised",
    "IssueAccepted",
    "AgendaItemPlaced",
    "DecisionRecorded",
    "DepartmentConsulted",
    "OpinionGiven",
    "IssueReviewed",
    "PolicyDrafted",
    "PolicyTaskAssigned",
    "PolicyImplemented",
}
"""After acts that store one of these, what the offices see is looked at."""
FLOORS = (COUNCIL, "support-group", "forum")


@dataclass
class Seen:
    """What the offices saw once an act had run its course."""

    day: date
    act: str
    case: dict[str, Any]
    issue: dict[str, Any]
    why: dict[str, Any]
    notices: list[dict[str, Any]]
    work: list[dict[str, Any]]
    waiting: dict[str, list[dict[str, Any]]]
    may_read_policy: bool | None


@dataclass
class Walked:
    """A walk that is over, with what was seen on the way."""

    play: Play
    outcome: Outcome
    began: date
    seen: list[Seen] = field(default_factory=list)

    @property
    def case_id(self) -> str:
        """The case, for life."""
        return self.outcome.case_id

    def after(self, act: str, number: int = 0) -> Seen:
        """What was seen after the n-th act that stored an event of a type."""
        return [seen for seen in self.seen if seen.act == act][number]

    def events(self) -> list[Recorded]:
        """The events of the eight streams of the page, notices apart."""
        return [event for name in STREAMS for event in self.stream(name)]

    def stream(self, name: str) -> list[Recorded]:
        """One of the streams of the page, by the name it has there."""
        service, aggregate = STREAMS[name]
        meetings = self.outcome.meetings
        ids = {
            "Issue": self.case_id,
            "Case": self.case_id,
            "JointReview": f"{self.case_id}.1",
            "K": meetings[COUNCIL],
            "G": meetings["support-group"],
            "F": meetings["forum"],
            "Policy": self.outcome.policy_id,
        }
        return self.play.stream(service, f"{aggregate}/{ids[name]}")


STREAMS = {
    "Issue": ("issues", "Issue"),
    "Case": ("routing", "Case"),
    "JointReview": ("issues", "JointReview"),
    "K": ("meetings", "Meeting"),
    "G": ("meetings", "Meeting"),
    "F": ("meetings", "Meeting"),
    "Policy": ("meetings", "Policy"),
}


def walk(play: Play, *, dated: bool) -> Walked:
    """Walk, and look around on the way."""
    walked = Walked(play, Outcome(), play.today())

    def told(step: Step) -> None:
        watched = [event for event in step.events if event in WATCHED]
        if watched:
            play.settle()
            walked.seen.append(look(play, running.outcome, step, watched[0]))

    running = Walk(play.maru, dated=dated, told=told)
    walked.outcome = running.outcome
    running.run()
    play.settle()
    return walked


def look(play: Play, outcome: Outcome, step: Step, act: str) -> Seen:
    """What the county reads with its own token, and what stands in the ministry's queues and lists."""
    if not outcome.case_id:  # the very first act: the walk notes the id a moment later
        outcome.case_id = play.office(OFFICER).get("/v1/issues", raised_by=COUNTY, limit=1)["items"][0]["id"]
    case_id, county = outcome.case_id, play.office(OFFICER)
    policy_read: bool | None = None
    if outcome.policy_id:
        policy_read = may_read(county, f"/v1/policies/{outcome.policy_id}")
    return Seen(
        day=step.day,
        act=act,
        case=play.case(case_id, OFFICER),
        issue=county.get(f"/v1/issues/{case_id}"),
        why=county.get(f"/v1/cases/{case_id}/why"),
        notices=play.notices(OFFICER, case_id),
        work=play.work(case_id),
        waiting={body: play.waiting(body, case_id) for body in FLOORS},
        may_read_policy=policy_read,
    )


def may_read(office: Office, path: str) -> bool:
    """Whether an office is shown the thing; to whom it may not be shown, it does not exist."""
    try:
        office.get(path)
    except Problem as problem:
        if problem.status != 404:
            raise
        return False
    return True


@pytest.fixture(scope="module")
def play(form: Form, seeded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A system of its own, whose clock nobody else has moved."""
    with seeded.running(form, tmp_path_factory.mktemp("straight") / "data") as system, playing(system) as acts:
        yield acts


@pytest.fixture(scope="module")
def dated(play: Play) -> Walked:
    """The walk with the dates of the page."""
    return walk(play, dated=True)


@pytest.fixture(scope="module")
def undated(play: Play, dated: Walked) -> Walked:
    """A second walk on the same system: a new case, all on one business day, no clock shifted."""
    return walk(play, dated=False)


@pytest.fixture(params=["dated", "undated"])
def walked(request: pytest.FixtureRequest, play: Play) -> Walked:
    """Each of the two walks."""
    found: Walked = request.getfixturevalue(request.param)
    return found


def both(words: dict[str, str]) -> bool:
    """Said in both languages."""
    return bool(words["ko"]) and bool(words["en"])


# What is stored


@pytest.mark.capability("C3")
def test_the_streams_of_the_page_hold_57_events(walked: Walked) -> None:
    counts = {name: len(walked.stream(name)) for name in STREAMS}
    assert counts == {"Issue": 4, "Case": 10, "JointReview": 7, "K": 9, "G": 9, "F": 13, "Policy": 5}
    assert sum(counts.values()) == 57
    # One identity: every event about the case, in whatever service, names it by one id.
    stored = walked.play.events(walked.case_id)
    assert {event.case_id for event in stored} == {walked.case_id}
    assert {event.aggregate_id for event in stored if event.envelope.aggregate in ("Issue", "Case")} == {walked.case_id}


def test_the_case_goes_the_way_of_the_page(walked: Walked) -> None:
    assert [event.type for event in walked.stream("Case")] == [
        "CaseOpened",
        "CaseRouted",
        "CaseRouted",
        "EscalatedToSupportGroup",
        "EscalatedToForum",
        "CaseLinkedToPolicy",
        "ImplementationAssigned",
        "DeadlineChanged",
        "ImplementationCompleted",
        "CaseClosed",
    ]
    assert [event.type for event in walked.stream("Issue")] == [
        "IssueRaised",
        "ReceiptIssued",
        "IssueAccepted",
        "IssueClosed",
    ]
    assert [event.type for event in walked.stream("Policy")] == [
        "PolicyDrafted",
        "PolicyAdopted",
        "PolicyTaskAssigned",
        "ProgressReported",
        "PolicyImplemented",
    ]
    assert walked.outcome.told
    assert walked.outcome.itinerary["outcome"] == "adopted_in_policy"
    issue = walked.play.office(OFFICER).get(f"/v1/issues/{walked.case_id}")
    assert (issue["state"]["code"], issue["outcome"]["code"]) == ("closed", "adopted_in_policy")


@pytest.mark.capability("A1")
def test_A1_region_raiser_and_channel_stand_in_the_suggestion(walked: Walked) -> None:
    raised, receipt, *_ = walked.stream("Issue")
    assert raised.type == "IssueRaised"
    assert [region.region for region in raised.data.regions] == ["gangwon"]  # type: ignore[attr-defined]
    assert (raised.data.raised_by, raised.data.channel) == (COUNTY, "letter")  # type: ignore[attr-defined]
    assert raised.data.revision == 1  # type: ignore[attr-defined]
    # A receipt within the same command: one act, two events, one after the other.
    assert (receipt.type, receipt.position) == ("ReceiptIssued", raised.position + 1)
    assert receipt.data.docket == walked.outcome.docket  # type: ignore[attr-defined]


# Where the case was


DATED_HOLDINGS = [
    # stage, body, from, to, first due, due in the end
    ("R1", COUNCIL, "2023-05-08", "2023-05-09", "2023-05-11", "2023-05-11"),
    ("R2", COUNCIL, "2023-05-09", "2023-05-24", "2023-06-08", "2023-06-08"),
    ("R3", "planning-group", "2023-05-24", "2023-06-15", "2023-06-23", "2023-06-23"),
    ("R4", "support-group", "2023-06-15", "2023-07-06", "2023-07-13", "2023-07-13"),
    ("R5", "forum", "2023-07-06", "2023-09-12", "2023-10-05", "2023-10-05"),
    ("R7", ROAD, "2023-09-12", "2024-06-20", "2024-09-12", "2024-06-28"),
]
"""The last: the review date at first, then the date of the task (walk, steps 29 and 32)."""


@pytest.mark.capability("C3")
def test_I_2_holdings_with_the_dates_of_the_page(dated: Walked) -> None:
    holdings = dated.play.case(dated.case_id)["holdings"]
    assert [
        (
            held["stage"],
            held["body"]["id"],
            held["from"][:10],
            held["to"][:10],
            held["first_due"],
            held["due"],
        )
        for held in holdings
    ] == DATED_HOLDINGS
    (change,) = holdings[-1]["due_changes"]
    assert (change["at"][:10], change["due"], change["reason"]["code"]) == ("2023-10-16", "2024-06-28", "policy_task")


def test_I_2_holdings_are_contiguous_and_sum_to_the_age(walked: Walked) -> None:
    case = walked.play.case(walked.case_id)
    holdings = case["holdings"]
    assert [held["stage"] for held in holdings] == ["R1", "R2", "R3", "R4", "R5", "R7"]
    for before, after in pairwise(holdings):
        assert before["to"] == after["from"]
    assert holdings[0]["from"] == case["opened_at"]
    assert holdings[-1]["to"] == case["closed_at"]
    assert sum(held["seconds"] for held in holdings) == pytest.approx(case["age_seconds"], abs=1e-3)
    assert sum(line["seconds"] for line in case["ledger"]) == pytest.approx(case["age_seconds"], abs=1e-3)


def test_I_22_office_and_date_at_every_moment(walked: Walked) -> None:
    for seen in walked.seen:
        if seen.case["stage"] != "R9":
            assert seen.case["holder"]["office"].startswith(seen.case["holder"]["body"])
            assert date.fromisoformat(seen.case["due"]) >= seen.day


def test_I_16_the_region_is_42_then_and_51_now(dated: Walked) -> None:
    issue = dated.play.office(OFFICER).get(f"/v1/issues/{dated.case_id}")
    (region,) = issue["regions"]
    assert (region["region"], region["as_raised"]["code"], region["as_raised"]["name"]) == ("gangwon", "42", "강원도")
    assert [(now["region"], now["code"]) for now in region["today"]] == [("gangwon", "51")]
    # On 14 June, in the middle of the review, the same council still had it: a new code is no new region.
    at_first, later = dated.seen[0], dated.after("IssueReviewed")
    assert at_first.issue["regions"][0]["today"][0]["code"] == "42"
    assert later.issue["regions"][0]["today"][0]["code"] == "51"
    (then,) = dated.play.case(dated.case_id)["regions"]
    assert (then["code"], then["today"][0]["code"]) == ("42", "51")


def test_I_16_a_later_suggestion_carries_the_code_of_its_own_day(undated: Walked) -> None:
    assert undated.began > date(2023, 6, 11)
    (region,) = undated.play.office(OFFICER).get(f"/v1/issues/{undated.case_id}")["regions"]
    assert region["as_raised"]["code"] == "51"
    assert region["as_raised"]["name"] == "강원특별자치도"
    assert region["today"][0]["code"] == "51"


def test_the_second_walk_shifts_no_clock(undated: Walked) -> None:
    assert undated.play.today() == undated.began
    assert {seen.day for seen in undated.seen} == {undated.began}


# The joint review


@pytest.mark.capability("D1")
def test_D1_departments_review_together_with_one_result(walked: Walked) -> None:
    events = walked.stream("JointReview")
    assert [event.type for event in events] == [
        "JointReviewOpened",
        "DepartmentConsulted",
        "DepartmentConsulted",
        "OpinionGiven",
        "OpinionGiven",
        "SupportDirectionSet",
        "IssueReviewed",
    ]
    opened, lead, other = (event.data for event in events[:3])
    assert (opened.lead, opened.proposed) == (ROAD, (BUDGET,))  # type: ignore[attr-defined]
    assert (lead.lead, other.lead) == (True, False)  # type: ignore[attr-defined]
    review = walked.play.office(SECRETARY).get(f"/v1/issues/{walked.case_id}/reviews/1")
    assert review["divergence"] == 0.25
    assert review["outcome"]["code"] == "supportable"
    assert {asked["department"]: asked["opinion"]["code"] for asked in review["consultations"]} == {
        ROAD: "support_with_conditions",
        BUDGET: "support",
    }


def test_I_17_opinions_are_due_after_ten_working_days(dated: Walked) -> None:
    review = dated.play.office(SECRETARY).get(f"/v1/issues/{dated.case_id}/reviews/1")
    assert {asked["due"] for asked in review["consultations"]} == {"2023-06-12"}


@pytest.mark.capability("D3")
def test_D3_the_direction_of_support_is_structured(walked: Walked) -> None:
    direction = walked.play.office(OFFICER).get(f"/v1/issues/{walked.case_id}/reviews/1")["direction"]
    assert direction["instruments"] == ["facility", "budget"]
    assert direction["lead"] == ROAD
    assert direction["legal_basis"] == "도로법"
    assert direction["cost_band"] == "above_c"
    assert direction["horizon"] == "2028"
    assert direction["plan_item"] == "P3-2"
    lineage = walked.play.office(SECRETARY).get(f"/v1/lineage/issue/{walked.case_id}")
    assert ("direction", "plan_item") in {
        (edge["from"].split(":")[0], edge["to"].split(":")[0]) for edge in lineage["edges"]
    }


# The way up


def test_I_21_every_escalation_hands_over_all_documents(walked: Walked) -> None:
    case = walked.stream("Case")
    (council,) = (event.id for event in walked.stream("K") if event.type == "DecisionRecorded")
    (support,) = (event.id for event in walked.stream("G") if event.type == "DecisionRecorded")
    up, further = (event.data for event in case[3:5])
    assert isinstance(up, EscalatedToSupportGroup)
    assert isinstance(further, EscalatedToForum)
    given = [(document.kind, document.ref) for document in up.documents]
    assert given == [
        ("issue", f"Issue/{walked.case_id}#1"),
        ("decision", council),
        ("joint_review", f"JointReview/{walked.case_id}.1"),
    ]
    assert [(d.kind, d.ref) for d in further.documents] == [*given, ("decision", support)]
    assert up.withheld == further.withheld == ()
    assert up.reason.code == "cost_above_c"
    assert further.reason.code == "law_or_budget_beyond_powers"


@pytest.mark.capability("B2")
@pytest.mark.capability("B1", part="no row asks for expert field, kind of suggestion or urgency")
def test_B2_every_move_keeps_version_rows_and_inputs(walked: Walked) -> None:
    moves = [event for event in walked.stream("Case") if event.type not in ("ImplementationCompleted",)]
    for event in moves:
        trace = event.envelope.rule_trace
        assert trace is not None, event.type
        assert (trace.rule_set, trace.version) == ("maru-rules", 1)
    matched = {
        event.type + str(number): {row.row for row in trace.rows if row.matched}
        for number, event in enumerate(moves)
        if (trace := event.envelope.rule_trace) is not None
    }
    assert matched["CaseOpened0"] == {"C2", "K-intake"}
    assert matched["CaseRouted1"] == {"A1", "K-council"}
    assert matched["CaseRouted2"] == {"L-P3-2", "L-road", "D-budget", "K-review"}
    assert matched["EscalatedToSupportGroup3"] == {"E-cost", "E-resolve", "K-support"}
    assert matched["EscalatedToForum4"] == {"K-forum"}
    opened = moves[0].envelope.rule_trace
    assert opened is not None
    assert {"regions", "megaregions", "raiser_level", "plan_item", "tags", "origin"} <= opened.inputs.keys()
    assert opened.inputs["raiser_level"] == "basic"
    reviewed = moves[3].envelope.rule_trace
    assert reviewed is not None
    assert (reviewed.inputs["divergence"], reviewed.inputs["cost_band"]) == (0.25, "above_c")


def test_why_answers_here_and_not_there(walked: Walked) -> None:
    at_review = walked.after("DecisionRecorded", 0).why
    assert at_review["here"]["event"] == "CaseRouted"
    assert at_review["here"]["stage"] == "R3"
    assert at_review["here"]["authority"]["rule"] == "T-11"
    fired = {row["row"]: row for row in at_review["here"]["rows"] if row["matched"]}
    assert fired["L-P3-2"]["condition"] == "plan_item == 'P3-2'"
    assert fired["L-P3-2"]["gives"] == {"lead": ROAD}
    assert at_review["here"]["inputs"]["plan_item"] == "P3-2"
    hindered = {place["body"]["id"]: place["rule"] for place in at_review["not_there"]}
    assert hindered == {"support-group": "I-4", COUNCIL: "I-3", "forum": "I-3"}
    for place in at_review["not_there"]:
        assert both(place["why"])

    at_council = {p["body"]["id"]: p["rule"] for p in walked.after("IssueAccepted").why["not_there"]}
    assert at_council["planning-group"] == "T-11"
    at_support = {p["body"]["id"]: p["rule"] for p in walked.after("IssueReviewed").why["not_there"]}
    assert at_support["forum"] == "T-24"
    assert walked.after("IssueReviewed").why["here"]["reason"]["code"] == "cost_above_c"


# Who decided, by what right


def test_I_12_the_minister_adopts(walked: Walked) -> None:
    (adopted,) = (event for event in walked.stream("Policy") if event.type == "PolicyAdopted")
    by = adopted.envelope.actor
    assert (by.office, by.body, by.user) == ("forum.chair", "forum", "u-0027")
    assert adopted.envelope.authority.rule == "T-30"
    assert adopted.envelope.authority.clause
    decision = next(event for event in walked.stream("F") if event.type == "DecisionRecorded")
    deliberated = next(event for event in walked.stream("F") if event.type == "DeliberationConcluded")
    fact = adopted.data
    assert isinstance(fact, PolicyAdopted)
    assert fact.decision_event == decision.id == adopted.envelope.causation_id
    assert fact.deliberation_event == f"{deliberated.aggregate_id}.1"
    assert [source.ref for source in fact.sources] == [walked.case_id]
    assert (fact.owner, fact.revision) == (ROAD, 1)
    assert len(fact.text_hash) == 64
    assert fact.review_date > adopted.at.date()


@pytest.mark.capability("K1")
def test_K1_every_event_says_who_when_why_and_by_what_right(walked: Walked) -> None:
    events = walked.events()
    assert len(events) == 57
    by_id = {event.id: event for event in events}
    for event in events:
        envelope = event.envelope
        assert envelope.actor.user
        assert envelope.actor.office
        assert envelope.actor.body
        assert envelope.authority.rule
        assert envelope.correlation_id
        assert envelope.recorded_at
        assert "delegation_id" in type(envelope.actor).model_fields
        if envelope.actor.office == "process":
            assert envelope.causation_id in by_id, f"{event.type} follows from a stored fact"
            cause = by_id[str(envelope.causation_id)].envelope
            assert envelope.correlation_id == cause.correlation_id, "what followed belongs to the act that began it"
    acts = {event.type: event.envelope.actor.office for event in events}
    assert acts["IssueRaised"] == OFFICER
    assert acts["IssueReviewed"] == "planning-group.chair"
    assert acts["CaseClosed"] == "process"
    decided = next(event for event in walked.stream("G") if event.type == "DecisionRecorded")
    assert decided.envelope.authority.clause == "Charter art. 5 (the chair decides after hearing)"
    assert decided.envelope.reason is not None
    assert decided.envelope.reason.code == "law_or_budget_beyond_powers"


@pytest.mark.capability("E8")
def test_E8_statements_are_seat_field_stance_and_text(walked: Walked) -> None:
    (item,) = walked.play.office(SECRETARY).get(f"/v1/meetings/{walked.outcome.meetings['forum']}")["agenda"]
    assert [(said["seat"], said["field"], said["stance"]) for said in item["statements"]] == [
        ("forum-seat-01", "land", "for"),
        ("forum-seat-02", "city", "for"),
        ("forum-seat-03", "transportation", "with_conditions"),
    ]
    assert all(said["text"] for said in item["statements"])
    # The other two stances, and a stance that is none, on an item of their own.
    case_id = walked.play.at_forum()
    sitting = walked.play.sitting("forum", case_id)
    sitting.act("chair", "/items/1/opening")
    sitting.state("forum-seat-07", "industry", "against")
    sitting.state("forum-seat-08", "jobs", "question")
    with pytest.raises(Problem) as caught:
        sitting.state("forum-seat-09", "environment", "perhaps")
    assert caught.value.status == 422


@pytest.mark.capability("C6")
def test_C6_seats_have_fields_and_a_term_and_fields_not_heard_are_told(walked: Walked) -> None:
    operator = walked.play.office("operations.operator")
    seats = list(operator.all("/v1/reference/members", on="2023-09-12", body="forum"))
    assert len(seats) == 11
    assert {row["body"] for row in seats} == {"forum"}
    assert all(row["voting"] and row["fields"] and row["valid_from"] == "2023-01-04" for row in seats)
    assert {(row["role"], row["on_behalf_of"]) for row in seats} == {("expert", None)}
    assert not list(operator.all("/v1/reference/members", on="2023-01-03", body="forum"))
    file = walked.play.office(SECRETARY).get(f"/v1/meetings/{walked.outcome.meetings['forum']}")
    assert set(file["fields_covered"]) == {one for row in seats for one in row["fields"]}
    assert file["fields_not_covered"] == []
    (item,) = file["agenda"]
    heard, missing = item["deliberation"]["fields_heard"], item["deliberation"]["fields_not_heard"]
    assert heard == ["city", "land", "transportation"]
    assert set(heard) | set(missing) == {one for row in seats for one in row["fields"]}
    assert not set(heard) & set(missing)


# The raiser is told


EXPECTED_NOTICES = {
    "ReceiptIssued": [{OFFICER}],
    "CaseRouted": [
        {OFFICER, f"{COUNCIL}.secretary"},
        {OFFICER, SECRETARY, f"{COUNCIL}.secretary", f"{ROAD}.reviewer"},
    ],
    "DecisionRecorded": [{OFFICER}, {OFFICER}, {OFFICER}],
    "DepartmentConsulted": [{f"{ROAD}.reviewer"}, {f"{BUDGET}.reviewer"}],
    "IssueReviewed": [{OFFICER}],
    "EscalatedToSupportGroup": [{OFFICER, "support-group.secretary", SECRETARY, f"{ROAD}.reviewer"}],
    "EscalatedToForum": [{OFFICER, "forum.secretary", "support-group.secretary", f"{ROAD}.reviewer"}],
    "CaseLinkedToPolicy": [{OFFICER}],
    "ImplementationAssigned": [{OFFICER}],
    "DeadlineChanged": [{OFFICER}],
    "CaseClosed": [{OFFICER}],
}
"""Rows 1 to 3 of the notification table: for each event of the walk the offices that are told of it."""


def test_notices_by_the_table_one_dispatch_for_each_event_office_and_channel(walked: Walked) -> None:
    stored = walked.play.events(walked.case_id, "notifications")
    asked = [event for event in stored if event.type == "NotificationRequested"]
    by_event: dict[tuple[str, str], set[str]] = defaultdict(set)
    for event in asked:
        by_event[event.data.about_type, event.data.about].add(event.data.office)  # type: ignore[attr-defined]
    told: dict[str, list[set[str]]] = defaultdict(list)
    for (about_type, _), offices in by_event.items():
        told[about_type].append(offices)
    assert {name: sorted(map(sorted, sets)) for name, sets in told.items()} == {
        name: sorted(map(sorted, sets)) for name, sets in EXPECTED_NOTICES.items()
    }
    assert Counter(event.type for event in stored) == {
        "NotificationRequested": 25,
        "NotificationDelivered": 25,
        "NotificationRead": 1,
    }
    unique = {(e.data.about, e.data.office, e.data.channel) for e in asked}  # type: ignore[attr-defined]
    assert len(unique) == 25
    assert len({event.aggregate_id for event in stored}) == 25, "one Dispatch each"


@pytest.mark.capability("G7")
def test_G7_the_county_knows_position_next_step_date_and_reason_at_every_stage(walked: Walked) -> None:
    ways = ["R1", "R2", "R3", "R4", "R5", "R7", "R9"]
    stages = list(dict.fromkeys(seen.case["stage"] for seen in walked.seen))
    assert stages == ways
    for seen in walked.seen:
        case = seen.case
        assert both(case["label"])
        assert both(case["next"])
        assert both(case["because"])
        assert (case["due"] is None) == (case["stage"] == "R9")
        if case["stage"] != "R9":
            due = date.fromisoformat(case["due"])
            assert f"{due.year}년 {due.month}월 {due.day}일" in case["next"]["ko"]
            assert (
                case["holder"]["name"]["ko"] in case["next"]["ko"]
                or case["holder"]["office_name"]["ko"] in (case["next"]["ko"])
            )
    # A reason of the escalating body reaches the county in its own words.
    at_forum = next(seen for seen in walked.seen if seen.case["stage"] == "R5")
    assert at_forum.case["reason"]["text"] == "사업비가 지원단의 권한을 넘습니다."


@pytest.mark.capability("G7")
def test_I_8_each_decision_is_delivered_to_the_county(walked: Walked) -> None:
    decided = [seen for seen in walked.seen if seen.act == "DecisionRecorded"]
    assert len(decided) == 3
    for number, seen in enumerate(decided, start=1):
        notices = [row for row in seen.notices if row["about_type"] == "DecisionRecorded"]
        assert len(notices) == number
        assert notices[-1]["delivered_at"]
        assert notices[-1]["mandatory"]
        assert both(notices[-1]["title"])
        assert walked.case_id in notices[-1]["text"]["ko"], "where to look"
        assert "국도" not in notices[-1]["title"]["ko"] + notices[-1]["text"]["ko"], "never the case's title"
    assert [row["about_type"] for row in decided[-1].notices][-3:] == [
        "DecisionRecorded",
        "CaseLinkedToPolicy",
        "ImplementationAssigned",
    ]


def test_the_county_sees_the_policy_from_its_adoption_on(walked: Walked) -> None:
    before = [seen.may_read_policy for seen in walked.seen if seen.case["stage"] == "R5"]
    after = [seen.may_read_policy for seen in walked.seen if seen.case["stage"] in ("R7", "R9")]
    assert before[-1] is False
    assert set(after) == {True}
    read = walked.outcome.policy_read
    assert (read["state"], read["adoption"]["adopted_by"]) == ("adopted", "forum.chair")


def test_the_county_acknowledged_its_notice(walked: Walked) -> None:
    read = [row for row in walked.play.notices(OFFICER, walked.case_id) if row["read_at"]]
    assert [row["about_type"] for row in read] == ["CaseLinkedToPolicy"]
    assert read[0]["id"] == walked.outcome.notice_read["id"]


# Queues and lists


def todo(seen: Seen, kind: str) -> set[str]:
    """Who has something of that kind to do."""
    return {row["office"]["id"] for row in seen.work if row["kind"] == kind}


@pytest.mark.capability("J2", part="no queue by region or person, no ageing")
def test_J2_work_queues_follow_the_case(walked: Walked) -> None:
    assert todo(walked.after("IssueRaised"), "holding") == {f"{COUNCIL}.secretary"}
    assert todo(walked.after("IssueAccepted"), "holding") == {f"{COUNCIL}.secretary"}
    assert todo(walked.after("DecisionRecorded", 0), "holding") == {SECRETARY}
    assert todo(walked.after("DecisionRecorded", 0), "consultation") == set(), "proposed is not yet consulted"
    assert todo(walked.after("DepartmentConsulted", 0), "consultation") == {f"{ROAD}.reviewer"}
    assert todo(walked.after("DepartmentConsulted", 1), "consultation") == {f"{ROAD}.reviewer", f"{BUDGET}.reviewer"}
    assert todo(walked.after("OpinionGiven", 0), "consultation") == {f"{BUDGET}.reviewer"}
    assert todo(walked.after("OpinionGiven", 1), "consultation") == set()
    assert todo(walked.after("IssueReviewed"), "holding") == {"support-group.secretary"}
    assert todo(walked.after("DecisionRecorded", 1), "holding") == {"forum.secretary"}
    assert todo(walked.after("DecisionRecorded", 2), "holding") == {f"{ROAD}.reviewer"}
    assert walked.after("PolicyImplemented").work == []
    (asked,) = (row for row in walked.after("DepartmentConsulted", 0).work if row["kind"] == "consultation")
    assert (asked["lead"], asked["round"], asked["overdue"]) == (True, 1, False)
    assert asked["todo"]["ko"] == "검토의견 제출"


def test_J2_queues_can_be_asked_by_body_department_and_office(dated: Walked) -> None:
    case_id = dated.play.in_review()
    dated.play.consult(case_id, ROAD, lead=True)
    dated.play.settle()
    assert [row["kind"] for row in dated.play.work(case_id, department=ROAD)] == ["consultation"]
    assert [row["kind"] for row in dated.play.work(case_id, body="planning-group")] == ["holding"]
    assert [row["kind"] for row in dated.play.work(case_id, office=f"{ROAD}.reviewer")] == ["consultation"]
    assert dated.play.work(case_id, office=f"{BUDGET}.reviewer") == []


def test_waiting_lists_before_and_after(walked: Walked) -> None:
    def where(seen: Seen) -> list[str]:
        return [body for body, rows in seen.waiting.items() if rows]

    assert where(walked.after("IssueRaised")) == [], "at intake it waits for no sitting"
    accepted = walked.after("IssueAccepted")
    assert where(accepted) == [COUNCIL]
    assert accepted.waiting[COUNCIL][0]["placed"] is None
    placed = walked.after("AgendaItemPlaced", 0).waiting[COUNCIL][0]["placed"]
    assert (placed["meeting_id"], placed["item"]) == (walked.outcome.meetings[COUNCIL], 1)
    assert where(walked.after("DecisionRecorded", 0)) == []
    assert where(walked.after("IssueReviewed")) == ["support-group"]
    assert where(walked.after("DecisionRecorded", 1)) == ["forum"]
    assert where(walked.after("PolicyDrafted")) == ["forum"]
    assert where(walked.after("DecisionRecorded", 2)) == []


# Lineage


def graph(walked: Walked, kind: str, id: str) -> tuple[dict[str, dict[str, Any]], dict[str, set[str]]]:
    """Nodes by name, and for each node those that followed from it."""
    answer = walked.play.office(SECRETARY).get(f"/v1/lineage/{kind}/{id}")
    assert answer["truncated"] is False
    nodes = {f"{node['kind']}:{node['id']}": node for node in answer["nodes"]}
    following: dict[str, set[str]] = defaultdict(set)
    for edge in answer["edges"]:
        assert edge["from"] in nodes
        assert edge["to"] in nodes
        following[edge["from"]].add(edge["to"])
    return nodes, following


def reached(start: str, following: dict[str, set[str]]) -> set[str]:
    """Everything that can be come to from a node."""
    found, left = {start}, [start]
    while left:
        new = following[left.pop()] - found
        found |= new
        left += new
    return found


def steps_of(walked: Walked) -> list[str]:
    """What walk.md asks the lineage for (without ○), from the suggestion to the plan item."""
    case_id, meetings, policy = walked.case_id, walked.outcome.meetings, walked.outcome.policy_id
    return [
        f"issue:{case_id}",
        f"docket:{walked.outcome.docket}",
        f"decision:{meetings[COUNCIL]}.1",
        f"round:{case_id}.1",
        f"opinion:{case_id}.1.{ROAD}",
        f"opinion:{case_id}.1.{BUDGET}",
        f"direction:{case_id}.1",
        f"decision:{meetings['support-group']}.1",
        f"deliberation:{meetings['forum']}.1",
        f"decision:{meetings['forum']}.1",
        f"policy:{policy}",
        f"task:{policy}.t1",
        "plan_item:P3-2",
        *(f"meeting:{meeting}" for meeting in meetings.values()),
    ]


@pytest.mark.capability("J3")
def test_J3_lineage_down_from_the_suggestion(walked: Walked) -> None:
    nodes, following = graph(walked, "issue", walked.case_id)
    assert set(steps_of(walked)) <= reached(f"issue:{walked.case_id}", following)
    assert nodes[f"policy:{walked.outcome.policy_id}"]["state"] == "implemented"
    assert nodes[f"policy:{walked.outcome.policy_id}"]["label"]["ko"] == "강원권 국도 확충 정책"
    assert nodes[f"issue:{walked.case_id}"]["state"] == "adopted_in_policy"
    # In the order of the page: each of these led to the next.
    meetings, case_id = walked.outcome.meetings, walked.case_id
    chain = [
        f"decision:{meetings[COUNCIL]}.1",
        f"round:{case_id}.1",
        f"decision:{meetings['support-group']}.1",
        f"decision:{meetings['forum']}.1",
        f"policy:{walked.outcome.policy_id}",
        f"task:{walked.outcome.policy_id}.t1",
    ]
    for before, after in pairwise(chain):
        assert after in reached(before, following), f"{before} leads to {after}"


@pytest.mark.capability("J3")
def test_J3_lineage_back_from_the_policy_to_every_suggestion(walked: Walked) -> None:
    policy = f"policy:{walked.outcome.policy_id}"
    nodes, following = graph(walked, "policy", walked.outcome.policy_id)
    assert set(steps_of(walked)) <= nodes.keys()
    leading: dict[str, set[str]] = defaultdict(set)
    for start, ends in following.items():
        for end in ends:
            leading[end].add(start)
    back = reached(policy, leading)
    suggestions = {name for name in back if name.startswith("issue:")}
    assert suggestions == {f"issue:{walked.case_id}"}
    meetings = walked.outcome.meetings
    for step in (
        f"decision:{meetings[COUNCIL]}.1",
        f"round:{walked.case_id}.1",
        f"decision:{meetings['support-group']}.1",
        f"deliberation:{meetings['forum']}.1",
    ):
        assert step in back, f"{step} stands between the suggestion and the policy"


def test_lineage_both_ways_is_one_graph(walked: Walked) -> None:
    down, _ = graph(walked, "issue", walked.case_id)
    back, _ = graph(walked, "policy", walked.outcome.policy_id)
    assert down.keys() == back.keys()
    again, _ = graph(walked, "decision", f"{walked.outcome.meetings['forum']}.1")
    assert again.keys() == down.keys()


def test_lineage_of_the_plan_item_has_both_suggestions(dated: Walked, undated: Walked) -> None:
    nodes, _ = graph(undated, "plan_item", "P3-2")
    assert {f"issue:{dated.case_id}", f"issue:{undated.case_id}"} <= nodes.keys()


# The policy


@pytest.mark.capability("G1")
def test_G1_the_policy_holds_text_version_decision_and_who_adopted(walked: Walked) -> None:
    policy = walked.play.office(OFFICER).get(f"/v1/policies/{walked.outcome.policy_id}")
    assert policy["state"] == "implemented"
    assert policy["revision"] == 1
    assert len(policy["text_hash"]) == 64
    decision = next(event for event in walked.stream("F") if event.type == "DecisionRecorded")
    assert isinstance(decision.data, DecisionRecorded)
    assert policy["adoption"]["decision_event"] == decision.id
    assert decision.data.fields.policy_hash == policy["text_hash"]
    assert policy["adoption"]["adopted_by"] == "forum.chair"
    assert policy["adoption"]["cases"] == [walked.case_id]


@pytest.mark.capability("G3", part="no milestones, and a parent's progress is not computed from weights")
def test_G3_tasks_have_owner_region_date_progress_and_evidence(walked: Walked) -> None:
    (task,) = walked.play.office(OFFICER).get(f"/v1/policies/{walked.outcome.policy_id}")["tasks"]
    assert (task["owner"], task["regions"], task["done"]) == (ROAD, ["gangwon"], True)
    assert date.fromisoformat(task["due"]) > walked.seen[0].day
    (report,) = task["progress"]
    assert report["evidence"] == ["착공 보고 2024-0620"]
    assert report["reported_by"] == f"{ROAD}.reviewer"


@pytest.mark.capability("G2", part="links that satisfy partly or only inspire are not offered")
def test_G2_one_policy_answers_several_suggestions(undated: Walked) -> None:
    play = undated.play
    first, second = play.at_forum(), play.at_forum()
    policy = play.draft(first, second)
    sitting = play.sitting("forum", first, policy_id=policy["policy_id"])
    sitting.act("chair", "/items/1/opening")
    sitting.state("forum-seat-03", "transportation", "for")
    sitting.act("chair", "/items/1/deliberation", {"text": "권고합니다."})
    today = play.today()
    fields = {
        "policy_id": policy["policy_id"],
        "policy_revision": policy["revision"],
        "policy_hash": policy["text_hash"],
        "owner": ROAD,
        "review_date": (today + timedelta(days=365)).isoformat(),
        "sources": [{"kind": "issue", "ref": case_id} for case_id in (first, second)],
    }
    sitting.decide("adopt", **fields)
    play.settle()
    for case_id in (first, second):
        case = play.case(case_id)
        assert case["stage"] == "R7"
        assert case["policy"]["policy_id"] == policy["policy_id"]
        assert (case["policy"]["link"], bool(case["policy"]["reason"])) == ("fully", True)
    nodes, _ = graph(undated, "policy", policy["policy_id"])
    assert {f"issue:{first}", f"issue:{second}"} <= nodes.keys()


# The gateways


@pytest.mark.capability("L1")
def test_L1_keys_versions_and_problems(walked: Walked) -> None:
    play, path = walked.play, "/v1/issues"
    county, body = play.office(OFFICER), {"title": "같은 건의", "text": "한 번만.", "regions": ["gangwon"]}
    body |= {"raised_by": COUNTY, "channel": "letter"}
    key = f"once-{walked.case_id}"
    first, again = county.post(path, body, key=key), county.post(path, body, key=key)
    assert (first.id, first.version, first.position) == (again.id, again.version, again.position)
    with refused("I-18", 422):
        county.post(path, body | {"title": "다른 건의"}, key=key)
    play.settle()
    secretary, acceptance = play.office(f"{COUNCIL}.secretary"), f"{path}/{first.id}/acceptance"
    with refused("I-18", 412):
        secretary.post(acceptance, version=1)
    with refused("I-18", 428):
        secretary.post(acceptance)
    with refused("T-4", 403):
        play.office("council-seoul.secretary").post(acceptance, version=2)
    secretary.post(acceptance, version=2)
    # Every command of every decider that a client gives has its route; problems are RFC 9457 documents.
    documents = [httpx.get(f"{url}/openapi.json").raise_for_status().json() for url in play.system.gateways]
    paths = {path: item for document in documents for path, item in document["paths"].items()}
    posts = {path: item["post"] for path, item in paths.items() if "post" in item}
    assert len(posts) == sum(len(hosted.service.gateway.commands) for hosted in play.system.hosted)
    for operation in posts.values():
        headers = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"}
        assert "Idempotency-Key" in headers
        assert "application/problem+json" in operation["responses"]["409"]["content"]


@pytest.mark.capability("L6", part="no share of overrides, no time of a rebuild")
def test_L6_metrics_are_exposed(walked: Walked) -> None:
    text = walked.play.system.metrics()
    for name in (
        'maru_events_appended_total{service="routing",type="EscalatedToForum"}',
        "maru_commands_total{",
        "maru_http_request_duration_seconds_bucket{",
        "maru_inbox_waiting{",
        "maru_view_behind_events{",
        "maru_inbox_parked{",
    ):
        assert name in text


def test_events_of_the_case_can_be_followed(walked: Walked) -> None:
    """SSE of routing's events of the case: ids are epoch and position, so that a reader goes on where it stopped."""
    token, _ = walked.play.maru.token(OFFICER)
    headers = {"Authorization": f"Bearer {token}", "Maru-Office": OFFICER}
    wanted = walked.stream("Case")
    types: list[str] = []
    ids: list[str] = []
    path = f"/v1/cases/{walked.case_id}/events"
    with walked.play.system.client() as http, http.stream("GET", path, headers=headers) as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                types.append(line.removeprefix("event: "))
            elif line.startswith("id: "):
                ids.append(line.removeprefix("id: "))
            elif not line and len(types) == len(ids) == len(wanted):
                break
    assert types == [event.type for event in wanted]
    assert ids == [f"{event.epoch}-{event.position}" for event in wanted]


def test_recorded_times_never_run_backwards_in_a_stream(walked: Walked) -> None:
    for name in STREAMS:
        times: list[datetime] = [event.at for event in walked.stream(name)]
        assert times == sorted(times)
