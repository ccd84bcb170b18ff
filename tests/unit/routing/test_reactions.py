"""The process manager beside the straight path: every row in scope, and what a refused move leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any, get_args

import pytest

from services.routing.case import CASE, AssignManually
from services.routing.placement import Placement
from services.routing.reactions import REACTIONS
from services.routing.ruleset import RULE_SET, PublishRuleSet
from shared.contracts.codes import DecisionCode
from shared.contracts.envelope import Actor, Authority, Event, Reason
from shared.contracts.issues import IssueRefused
from shared.contracts.reference import DecisionRow
from shared.contracts.routing import (
    CaseClosed,
    CaseOpened,
    CaseResolvedAtReview,
    CaseResolvedBySupportGroup,
    CaseRouted,
    CaseUnrouted,
    DeadlineChanged,
    EscalatedToSupportGroup,
    ImplementationAssigned,
    MoveRefused,
)
from shared.runtime.declare import Act, Wait
from tests.unit.routing.world import (
    BUSAN,
    CASE_ID,
    GANGWON,
    GYEONGGI,
    POLICY_ID,
    ULSAN,
    World,
    accepted,
    adopted,
    at_council,
    at_forum,
    at_intake,
    at_support_group,
    decided,
    direction,
    implemented,
    in_review,
    raised,
    reviewed,
    task,
    under_policy,
)

REASON = Reason(code="on_site", text="현장에서 바로 조치함")


def only(events: tuple[Event, ...]) -> Any:
    assert len(events) == 1, [event.type for event in events]
    return events[0]


def refusal(events: tuple[Event, ...]) -> MoveRefused:
    event = only(events)
    assert isinstance(event, MoveRefused)
    return event


# Row 1: council selection


def opened(**other: Any) -> CaseOpened:
    event = only(World().on(2023, 5, 8).hear(raised(**other)))
    assert isinstance(event, CaseOpened)
    return event


@pytest.mark.capability("B1", part="no expert field, kind or urgency as input yet")
def test_T_1_metropolitan_raiser_goes_to_its_council() -> None:
    event = opened(raised_by="org-busan", regions=(BUSAN,))
    assert (event.holding.body, event.holding.office) == ("council-busan", "council-busan.secretary")
    assert event.copies_to == ()


@pytest.mark.capability("A12")
def test_T_1_regions_of_one_megaregion_go_to_the_lead_regions_council() -> None:
    event = opened(raised_by="org-ulsan", regions=(ULSAN, BUSAN))
    assert event.holding.body == "council-ulsan"
    assert event.copies_to == ("council-busan",)


def test_T_1_across_megaregions_goes_to_the_planning_group_with_copies() -> None:
    event = opened(raised_by="org-gyeonggi", regions=(GYEONGGI, GANGWON))
    assert (event.holding.state, event.holding.body) == ("intake", "planning-group")
    assert event.copies_to == ("council-gyeonggi", "council-gangwon")


@pytest.mark.parametrize("other", [{"origin": "expert"}, {"origin": "ministry"}])
def test_T_1_from_a_forum_member_or_the_ministry_goes_to_the_planning_group(other: dict[str, str]) -> None:
    event = opened(**other)
    assert event.holding.body == "planning-group"
    assert event.copies_to == ("council-gangwon",)


def test_T_1_nationwide_goes_to_the_planning_group_with_copies_to_all_17_councils() -> None:
    event = opened(nationwide=True, regions=())
    assert event.holding.body == "planning-group"
    assert len(event.copies_to) == 17


def test_T_1_without_rules_the_suggestion_waits() -> None:
    world = World().on(2020, 1, 6)
    with pytest.raises(Wait):
        world.hear(raised())


def test_T_1_heard_twice_opens_once() -> None:
    world = at_intake()
    assert world.hear(raised()) == ()


# Row 8: nobody matches


@pytest.mark.capability("B4")
def test_T_8_no_intake_body_leaves_the_case_at_the_triage_desk() -> None:
    world = publish(World().on(2022, 9, 1), "council_selection", lambda rows: [r for r in rows if r.row != "C2"])
    event = only(world.hear(raised()))
    assert isinstance(event, CaseUnrouted)
    assert (event.next_step, event.from_body, event.holding.body) == ("intake", None, "triage-desk")
    assert (event.holding.office, event.holding.due) == ("triage-desk.desk", date(2022, 9, 2))
    assert not [row for row in world.matched() if row.startswith("C")]


def publish(world: World, table: str, edit: Callable[[tuple[DecisionRow, ...]], Iterable[DecisionRow]]) -> World:
    """Version 2 of the rules, from the world's day on, with one table edited."""
    rules = world.directory.rule_set(world.today)
    assert rules is not None
    tables = tuple(
        one.model_copy(update={"rows": tuple(edit(one.rows))}) if one.table == table else one for one in rules.tables
    )
    content = {name: value for name, value in rules if name != "type"}
    command = PublishRuleSet(
        by=Actor(user="u", office="operations.operator", body="operations"),
        at=world.now,
        authority=Authority(rule="reference"),
        **(content | {"version": 2, "tables": tables, "valid_from": world.today}),
    )
    world.put(Act(RULE_SET, rules.rule_set, command, key=rules.rule_set))
    return world


def test_T_8_two_rows_of_a_unique_table_leave_the_case_unrouted_never_a_silent_default() -> None:
    world = publish(
        World().on(2023, 5, 8),
        "council_selection",
        lambda rows: (*rows, rows[1].model_copy(update={"row": "C2-again"})),
    )
    event = only(world.hear(raised()))
    assert isinstance(event, CaseUnrouted)
    assert {"C2", "C2-again"} <= set(world.matched())


def unaccepted_step() -> World:
    """Accepted, but no rule says what comes after acceptance."""
    world = publish(World().on(2023, 5, 8), "after_acceptance", lambda _: ())
    world.hear(raised())
    world.hear(accepted())
    return world


def test_T_8_no_row_for_the_step_after_acceptance() -> None:
    event = unaccepted_step().streams[f"Case/{CASE_ID}"][-1]
    assert isinstance(event, CaseUnrouted)
    assert (event.next_step, event.from_body) == ("after_acceptance", "council-gangwon")
    assert (event.regions, event.raised_by) == ((GANGWON,), "org-gangwon-hongcheon")


def test_T_8_without_a_clock_for_the_triage_desk_the_case_waits_and_is_not_lost() -> None:
    world = publish(World().on(2023, 5, 8), "council_selection", lambda _: ())
    publish_again = world.directory.rule_set_version(2)
    assert publish_again is not None
    world.streams["RuleSet/maru-rules"] = [publish_again.model_copy(update={"clocks": ()})]
    world.forget()
    with pytest.raises(Wait):
        world.hear(raised())


# Row 9: by hand


@pytest.mark.capability("B3", part="overrides are not yet counted as a metric")
def test_T_9_from_the_triage_desk_into_review_with_what_the_rules_propose() -> None:
    world = unaccepted_step()
    asked = world.case().asked
    assert asked is not None
    version_2 = world.directory.rule_set_version(2)
    assert version_2 is not None
    placement = Placement(world.directory, version_2, world.today)
    lead, proposed = placement.departments(asked)
    command = AssignManually(
        by=Actor(user="u", office="triage-desk.desk", body="triage-desk"),
        at=world.now,
        authority=Authority(rule="T-9"),
        body="planning-group",
        reason=Reason(code="no_rule", text="규칙 없음"),
        holding=placement.holding(placement.body("planning-group"), "in_joint_review"),
        lead=lead,
        proposed=proposed,
    )
    event = only(world.put(Act(CASE, CASE_ID, command, key=CASE_ID)))
    assert isinstance(event, CaseRouted)
    assert (event.override, event.lead, event.from_body) == (True, "dept-road", "triage-desk")
    assert event.cause == "e2", "the acceptance that was waiting for its move"


# Row 4 and 5


def test_T_4_planning_group_as_intake_body_goes_straight_into_review() -> None:
    world = at_intake(origin="expert")
    event = only(world.on(2023, 5, 9).hear(accepted("planning-group")))
    assert isinstance(event, CaseRouted)
    assert (event.holding.state, event.holding.body) == ("in_joint_review", "planning-group")
    assert (event.lead, event.proposed) == ("dept-road", ("dept-planning-coordination",))


def test_T_4_no_lead_found_is_allowed_the_secretary_consults_freely() -> None:
    world = at_intake(origin="expert", plan_item=None, tags=())
    event = only(world.hear(accepted("planning-group")))
    assert isinstance(event, CaseRouted)
    assert event.lead is None


def test_T_4_acceptance_by_a_body_that_is_not_the_intake_body_moves_nothing() -> None:
    event = refusal(at_intake().hear(accepted("council-busan")))
    assert (event.rule, event.body, event.cause_type) == ("rule-b", "council-busan", "IssueAccepted")


def test_T_4_before_the_case_exists_it_waits() -> None:
    with pytest.raises(Wait):
        World().on(2023, 5, 9).hear(accepted())


@pytest.mark.capability("D9")
def test_T_5_refusal_at_intake_closes_the_case_with_its_reason() -> None:
    world = at_intake()
    reason = Reason(code="no_content", text="건의 내용이 없음")
    refused = IssueRefused(intake_body="council-gangwon", reason=reason, drafted_by="council-gangwon.secretary")
    event = only(world.hear(refused, by="council-gangwon.chair"))
    assert event == CaseClosed(from_body="council-gangwon", outcome="refused", reason=reason, cause="e2")
    late = refusal(at_council().hear(refused, by="council-gangwon.chair"))
    assert late.rule == "rule-b"


# Rows 11 to 11d


def test_T_11_lead_by_tag_where_there_is_no_plan_item_and_the_highest_priority_alone() -> None:
    world = at_council(plan_item=None, tags=("rail", "airport"), cost_band="not_above_b")
    event = only(world.hear(decided("council-gangwon", "take_for_review")))
    assert isinstance(event, CaseRouted)
    assert (event.lead, event.proposed) == ("dept-aviation", ())


def test_T_11_law_needed_proposes_the_legal_officers_department_once() -> None:
    world = at_council(tags=("law",), cost_band="above_b")
    event = only(world.hear(decided("council-gangwon", "take_for_review")))
    assert isinstance(event, CaseRouted)
    assert event.proposed == ("dept-planning-coordination",)
    assert {"D-budget", "D-legal"} <= set(world.matched())


def test_T_11_a_rule_that_names_a_department_not_existing_that_day_moves_nothing() -> None:
    world = World().on(2022, 9, 1)
    world.hear(raised(plan_item=None, tags=("mobility",)))
    world.hear(accepted())
    event = refusal(world.hear(decided("council-gangwon", "take_for_review")))
    assert event.rule == "lead_department"


def test_T_11a_resolved_on_site_with_nothing_left_closes_the_case() -> None:
    world = at_council()
    event = only(world.hear(decided("council-gangwon", "resolved_on_site", reason=REASON), by="council-gangwon.chair"))
    assert event == CaseClosed(from_body="council-gangwon", outcome="resolved_on_site", reason=REASON, cause="e3")


def test_T_11b_resolved_on_site_with_owner_and_date() -> None:
    world = at_council()
    fields = {"reason": REASON, "owner": "org-gangwon", "due": date(2023, 6, 30)}
    event = only(world.hear(decided("council-gangwon", "resolved_on_site", **fields)))
    assert isinstance(event, ImplementationAssigned)
    assert (event.holding.office, event.holding.due, event.outcome) == (
        "org-gangwon.officer",
        date(2023, 6, 30),
        "resolved_on_site",
    )


def test_T_11b_unknown_owner_is_refused_by_I_22() -> None:
    fields = {"reason": REASON, "owner": "dept-nowhere", "due": date(2023, 6, 30)}
    event = refusal(at_council().hear(decided("council-gangwon", "resolved_on_site", **fields)))
    assert event.rule == "I-22"


def test_T_11d_noted_changes_the_date() -> None:
    world = at_council()
    event = only(world.hear(decided("council-gangwon", "noted", due=date(2023, 7, 3))))
    assert isinstance(event, DeadlineChanged)
    assert (event.due, event.clock, event.body) == (date(2023, 7, 3), "decision", "council-gangwon")
    assert world.holding().due == date(2023, 7, 3)


def test_T_11d_postponed_needs_reason_and_date() -> None:
    world = at_council()
    assert refusal(world.hear(decided("council-gangwon", "postpone_next", due=date(2023, 7, 3)))).rule == (
        "D-postpone_next"
    )
    assert refusal(world.hear(decided("council-gangwon", "noted"))).rule == "D-noted"


BUILT = {"take_for_review", "resolved_on_site", "noted", "postpone_next", "resolved", "escalate", "adopt"}


@pytest.mark.parametrize("code", sorted(set(get_args(DecisionCode)) - BUILT))
def test_a_code_not_in_use_moves_nothing_and_names_its_rule(code: str) -> None:
    world = at_support_group()
    event = refusal(world.hear(decided("support-group", code), by="support-group.chair"))
    assert (event.rule, event.body, event.cause_type) == (f"D-{code}", "support-group", "DecisionRecorded")


def test_a_decision_on_no_case_is_none_of_routings_business() -> None:
    event = decided("forum", "noted").model_copy(update={"case_id": None})
    assert World().hear(event) == ()


# Rule (b)


def test_rule_b_a_decision_for_a_case_that_has_left_moves_nothing() -> None:
    world = in_review()
    event = refusal(world.hear(decided("council-gangwon", "noted", due=date(2023, 7, 3))))
    assert (event.rule, event.body) == ("rule-b", "council-gangwon")
    assert world.holding().body == "planning-group"


def test_rule_b_a_review_of_another_round_moves_nothing() -> None:
    event = refusal(in_review().hear(reviewed(round=2), f"{CASE_ID}.2", case_id=CASE_ID))
    assert (event.rule, event.body, event.cause_type) == ("rule-b", "planning-group", "IssueReviewed")


def test_rule_b_a_decision_heard_before_the_case_exists_waits() -> None:
    with pytest.raises(Wait):
        World().hear(decided("council-gangwon", "take_for_review"))


def test_rule_b_a_decision_after_the_end() -> None:
    world = at_council()
    world.hear(decided("council-gangwon", "resolved_on_site", reason=REASON))
    assert refusal(world.hear(decided("council-gangwon", "take_for_review"))).rule == "rule-b"


def test_a_refusal_at_the_log_is_considered_again_on_the_case_as_it_stands_now() -> None:
    """Between the process manager's look and the append another fact moved the case."""
    world = at_council()
    heard = world.recorded(decided("council-gangwon", "take_for_review"), "m1", "council-gangwon.chair", CASE_ID)
    acts = REACTIONS.by_type["DecisionRecorded"](heard, world)
    world.hear(decided("council-gangwon", "resolved_on_site", reason=REASON))
    again = REACTIONS.after_refusal["DecisionRecorded"](heard, world, None)  # type: ignore[arg-type]
    assert [type(act.command).__name__ for act in acts] == ["TakeForReview"]
    assert [type(act.command).__name__ for act in again] == ["RecordMoveRefused"]


# Rows 17, 18


def test_T_17_supportable_below_the_thresholds_is_resolved_by_the_lead() -> None:
    world = in_review(cost_band="not_above_b").on(2023, 6, 15)
    events = world.hear(reviewed(direction=direction(cost_band="above_b")), f"{CASE_ID}.1", case_id=CASE_ID)
    assert [event.type for event in events] == ["CaseResolvedAtReview", "ImplementationAssigned"]
    resolved, assigned = events
    assert isinstance(resolved, CaseResolvedAtReview)
    assert isinstance(assigned, ImplementationAssigned)
    assert (assigned.holding.body, assigned.holding.clock, assigned.outcome) == (
        "dept-road",
        "implementation",
        "resolved_by_department",
    )
    assert assigned.holding.due == date(2023, 9, 8)


@pytest.mark.parametrize(
    ("other", "row"),
    [
        ({"outcome": "needs_coordination", "direction": None}, "E-coordination"),
        ({"divergence": 0.5, "direction": direction(cost_band="above_b")}, "E-divergence"),
        ({"direction": direction(cost_band="above_c")}, "E-cost"),
        ({"direction": direction(cost_band="above_b", statute_needed=True)}, "E-statute"),
    ],
)
@pytest.mark.capability("D8")
def test_T_18_above_a_threshold_goes_to_the_support_group(other: dict[str, Any], row: str) -> None:
    world = in_review(cost_band="above_b").on(2023, 6, 15)
    event = only(world.hear(reviewed(**other), f"{CASE_ID}.1", case_id=CASE_ID))
    assert isinstance(event, EscalatedToSupportGroup)
    assert row in world.matched()


def test_T_18_several_megaregions() -> None:
    world = at_intake(regions=(GYEONGGI, GANGWON), raised_by="org-gyeonggi", cost_band="not_above_b")
    world.hear(accepted("planning-group"))
    event = only(world.hear(reviewed(direction=direction(cost_band="not_above_b")), f"{CASE_ID}.1", case_id=CASE_ID))
    assert isinstance(event, EscalatedToSupportGroup)
    assert event.reason.code == "several_megaregions"


def test_T_24_I_3_without_an_edge_that_day_the_decision_moves_nothing() -> None:
    """The support group's edge to the forum begins with the forum, on 4 January 2023."""
    world = at_support_group().on(2022, 12, 1)
    event = refusal(world.hear(decided("support-group", "escalate", escalation="general_direction")))
    assert event.rule == "I-3"


@pytest.mark.parametrize("outcome", ["not_supportable", "support_alternative", "needs_other_ministry"])
def test_an_outcome_whose_row_is_not_built_moves_nothing(outcome: str) -> None:
    event = refusal(in_review().hear(reviewed(outcome=outcome), f"{CASE_ID}.1", case_id=CASE_ID))
    assert event.rule == "T-16"


# Rows 23, 24


@pytest.mark.capability("D8")
def test_T_23_resolved_with_convergence_goes_to_its_owner() -> None:
    world = at_support_group()
    fields = {"owner": "dept-road", "due": date(2023, 12, 29), "convergence": "두 부서가 단계별 시행에 합의함"}
    events = world.hear(decided("support-group", "resolved", **fields), by="support-group.chair")
    resolved, assigned = events
    assert resolved == CaseResolvedBySupportGroup(
        body="support-group", convergence="두 부서가 단계별 시행에 합의함", cause="e5"
    )
    assert isinstance(assigned, ImplementationAssigned)
    assert (assigned.holding.body, assigned.holding.due) == ("dept-road", date(2023, 12, 29))
    assert assigned.outcome == "resolved_by_support_group"


def test_T_24_without_a_reason_of_the_list() -> None:
    event = refusal(at_support_group().hear(decided("support-group", "escalate")))
    assert event.rule == "T-24"


@pytest.mark.capability("C2", part="no named emergency edge yet")
def test_I_4_a_council_with_an_escalation_edge_still_needs_a_concluded_review() -> None:
    world = at_council()
    event = refusal(world.hear(decided("council-gangwon", "escalate", escalation="general_direction")))
    assert event.rule == "I-4"


# Row 30 and after


def test_T_30_each_case_of_a_policy_stands_alone() -> None:
    other = "01880000-0000-7000-8000-000000000002"
    world = at_forum().on(2023, 9, 12)
    world.hear(raised(), id=other)
    events = world.hear(adopted(CASE_ID, other), POLICY_ID, "forum.chair")
    assert [event.type for event in events] == ["CaseLinkedToPolicy", "ImplementationAssigned", "MoveRefused"]
    assert world.case().policy_id == POLICY_ID
    assert world.case(other).policy_id is None
    # the refused one is told once; later facts of that policy are none of its business
    both = implemented().model_copy(update={"cases": (CASE_ID, other)})
    assert [event.type for event in world.hear(both, POLICY_ID)] == ["ImplementationCompleted", "CaseClosed"]


def test_I_17_the_first_task_replaces_the_review_date_and_the_earliest_stands() -> None:
    world = under_policy()
    assert only(world.hear(task(date(2025, 6, 30)), POLICY_ID)).due == date(2025, 6, 30)
    assert only(world.hear(task(date(2024, 3, 29), "t2"), POLICY_ID)).due == date(2024, 3, 29)
    assert world.hear(task(date(2024, 12, 31), "t3"), POLICY_ID) == ()


@pytest.mark.capability("B6")
def test_B6_an_open_case_keeps_the_rules_that_it_began_under() -> None:
    world = at_council()
    publish(
        world.on(2023, 5, 10),
        "lead_department",
        lambda rows: [
            row.model_copy(update={"gives": {"lead": "dept-rail"}}) if row.row == "L-P3-2" else row for row in rows
        ],
    )
    world.on(2023, 5, 24)
    old = only(world.hear(decided("council-gangwon", "take_for_review"), case_id=CASE_ID))
    assert (old.lead, world.traces[-1].version) == ("dept-road", 1)  # type: ignore[union-attr]

    new = "01880000-0000-7000-8000-000000000003"
    world.hear(raised(), id=new)
    world.hear(accepted(), id=new)
    later = decided("council-gangwon", "take_for_review").model_copy(update={"case_id": new})
    assert only(world.hear(later)).lead == "dept-rail"


def test_I_16_a_case_of_a_region_that_ended_goes_to_its_successors_council() -> None:
    gwangju = GANGWON.model_copy(update={"region": "gwangju", "code": "29", "name": "광주광역시"})
    world = World().on(2026, 7, 1)
    event = only(world.hear(raised(regions=(gwangju,), raised_by="org-gwangju")))
    assert isinstance(event, CaseOpened)
    assert event.holding.body == "council-jeonnam-gwangju"
    assert event.regions == (gwangju,), "as raised"


def test_every_move_carries_a_trace() -> None:
    world = under_policy()
    assert len(world.traces) == 6
    assert all(trace is not None and trace.rule_set == "maru-rules" for trace in world.traces)
