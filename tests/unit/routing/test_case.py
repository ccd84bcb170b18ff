"""The rules of a case, one command at a time."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from services.routing.case import (
    CASE,
    Asked,
    AssignManually,
    ChangeDeadline,
    CloseRefused,
    CompleteByPolicy,
    CompleteImplementation,
    Edge,
    EscalateCase,
    FollowTask,
    LeaveUnrouted,
    LinkToPolicy,
    OpenCase,
    RecordMoveRefused,
    ReportImplementation,
    ResolveAtBody,
    ResolveAtReview,
    ResolveOnSite,
    RouteCase,
    TakeForReview,
)
from shared.contracts.codes import CaseState
from shared.contracts.envelope import Actor, Authority, Event, Reason
from shared.contracts.issues import RegionRef
from shared.contracts.routing import (
    CaseClosed,
    CaseLinkedToPolicy,
    CaseMoved,
    CaseOpened,
    CaseResolvedAtReview,
    CaseResolvedBySupportGroup,
    CaseRouted,
    CaseUnrouted,
    DeadlineChanged,
    Document,
    EscalatedToForum,
    EscalatedToSupportGroup,
    Holding,
    ImplementationAssigned,
    ImplementationCompleted,
    ImplementationReported,
    MoveRefused,
)
from shared.runtime.directory import SEOUL
from shared.testing import given

SYS: dict[str, Any] = {
    "by": Actor(user="process", office="process", body="planning-group"),
    "at": datetime(2023, 5, 8, 10, tzinfo=SEOUL),
    "authority": Authority(rule="test"),
}
OWNER = SYS | {"by": Actor(user="u", office="dept-road.reviewer", body="dept-road")}
REASON = Reason(code="r", text="사유")
DUE = date(2023, 6, 30)
GANGWON = RegionRef(region="gangwon", code="42", name="강원도")
ASKED = Asked(
    regions=(GANGWON,), raised_by="org-gangwon-hongcheon", plan_item="P3-2", cost_band="above_c", rule_version=1
)


def holding(state: CaseState, body: str, role: str = "secretary", due: date = DUE, tier: str | None = None) -> Holding:
    return Holding(state=state, tier=tier, body=body, office=f"{body}.{role}", due=due, clock="some_clock")


INTAKE = holding("intake", "council-gangwon")
FLOOR = holding("at_body", "council-gangwon", tier="R2")
REVIEW = holding("in_joint_review", "planning-group")
SUPPORT = holding("at_body", "support-group", tier="R4")
FORUM = holding("at_body", "forum", tier="R5")
TRIAGE = holding("unrouted", "triage-desk", "desk")
ROAD = holding("implementing", "dept-road", "reviewer")

COUNCIL_DECISION = Document(kind="decision", ref="taken")
PAPERS = (COUNCIL_DECISION, Document(kind="joint_review", ref="JointReview/c.1"))

OPENED: tuple[Event, ...] = (
    CaseOpened(
        holding=INTAKE,
        regions=(GANGWON,),
        raised_by="org-gangwon-hongcheon",
        plan_item="P3-2",
        cost_band="above_c",
        rule_version=1,
    ),
)
UNROUTED_AT_OPENING: tuple[Event, ...] = (
    CaseUnrouted(
        from_body=None,
        holding=TRIAGE,
        next_step="intake",
        regions=(GANGWON,),
        raised_by="org-gangwon-hongcheon",
        plan_item="P3-2",
        cost_band="above_c",
        rule_version=1,
        cause="raised",
    ),
)
AT_COUNCIL = (*OPENED, CaseRouted(from_body="council-gangwon", holding=FLOOR, cause="accepted"))
IN_REVIEW = (
    *AT_COUNCIL,
    CaseRouted(
        from_body="council-gangwon",
        holding=REVIEW,
        lead="dept-road",
        proposed=("dept-planning-coordination",),
        cause="taken",
    ),
)
AT_SUPPORT_GROUP = (
    *IN_REVIEW,
    EscalatedToSupportGroup(
        from_body="planning-group", holding=SUPPORT, documents=PAPERS, reason=REASON, cause="reviewed"
    ),
)
AT_FORUM = (
    *AT_SUPPORT_GROUP,
    EscalatedToForum(from_body="support-group", holding=FORUM, documents=PAPERS, reason=REASON, cause="escalated"),
)
RESOLVED_AT_REVIEW = (
    *IN_REVIEW,
    CaseResolvedAtReview(round=1, cause="reviewed"),
    ImplementationAssigned(
        from_body="planning-group", holding=ROAD, outcome="resolved_by_department", cause="reviewed"
    ),
)
UNDER_POLICY = (
    *AT_FORUM,
    CaseLinkedToPolicy(policy_id="p1", policy_revision=1, reason="답함", cause="adopted"),
    ImplementationAssigned(
        from_body="forum", holding=ROAD, outcome="adopted_in_policy", policy_id="p1", cause="adopted"
    ),
)
CLOSED = (*AT_COUNCIL, CaseClosed(from_body="council-gangwon", outcome="resolved_on_site", cause="decided"))


# Row 1


def test_T_1_open_case() -> None:
    given(CASE).when(OpenCase(**SYS, asked=ASKED, holding=INTAKE)).then(*OPENED)


def test_T_1_a_case_is_opened_once() -> None:
    assert given(CASE, *AT_COUNCIL).when(OpenCase(**SYS, asked=ASKED, holding=INTAKE)).events() == ()


def test_I_22_no_holding_without_office_or_clock() -> None:
    given(CASE).when(OpenCase(**SYS, asked=ASKED, holding=None)).refused("I-22")


def test_I_22_no_holding_whose_date_is_past() -> None:
    late = holding("intake", "council-gangwon", due=date(2023, 5, 7))
    given(CASE).when(OpenCase(**SYS, asked=ASKED, holding=late)).refused("I-22")


# Rows 8 and 9


def test_T_8_leave_unrouted_at_opening() -> None:
    command = LeaveUnrouted(**SYS, asked=ASKED, from_body=None, next_step="intake", holding=TRIAGE, cause="raised")
    given(CASE).when(command).then(*UNROUTED_AT_OPENING)
    assert given(CASE, *OPENED).when(command).events() == ()


def test_T_8_leave_unrouted_after_acceptance() -> None:
    command = LeaveUnrouted(
        **SYS,
        asked=ASKED,
        from_body="council-gangwon",
        next_step="after_acceptance",
        holding=TRIAGE,
        cause="accepted",
    )
    after = given(CASE, *OPENED).when(command)
    after.then(
        CaseUnrouted(
            from_body="council-gangwon",
            holding=TRIAGE,
            next_step="after_acceptance",
            regions=(GANGWON,),
            raised_by="org-gangwon-hongcheon",
            plan_item="P3-2",
            cost_band="above_c",
            rule_version=1,
            cause="accepted",
        )
    )
    given(CASE, *IN_REVIEW).when(command).refused("rule-b")


def test_I_22_the_triage_desk_too_needs_office_and_clock() -> None:
    command = LeaveUnrouted(**SYS, asked=ASKED, from_body=None, next_step="intake", holding=None, cause="raised")
    given(CASE).when(command).refused("I-22")


def by_hand(body: str, to: Holding | None) -> AssignManually:
    return AssignManually(**SYS, body=body, reason=REASON, holding=to)


@pytest.mark.capability("B3", part="overrides are not yet counted as a metric")
def test_T_9_assign_manually_keeps_the_waiting_fact_as_cause() -> None:
    given(CASE, *UNROUTED_AT_OPENING).when(by_hand("council-gangwon", INTAKE)).then(
        CaseRouted(from_body="triage-desk", holding=INTAKE, override=True, reason=REASON, cause="raised")
    )


def test_T_9_only_from_the_triage_desk() -> None:
    given(CASE, *AT_COUNCIL).when(by_hand("council-gangwon", FLOOR)).refused("T-9")
    given(CASE, *CLOSED).when(by_hand("council-gangwon", FLOOR)).refused("T-9")


def test_T_9_not_to_a_body_that_cannot_take_it() -> None:
    given(CASE, *UNROUTED_AT_OPENING).when(by_hand("dept-road", None)).refused("T-9")


# Rows 4 and 5


def test_T_4_route_case_to_the_floor() -> None:
    command = RouteCase(**SYS, from_body="council-gangwon", cause="accepted", holding=FLOOR)
    given(CASE, *OPENED).when(command).then(CaseRouted(from_body="council-gangwon", holding=FLOOR, cause="accepted"))


def test_T_4_only_from_intake_and_by_its_body() -> None:
    command = RouteCase(**SYS, from_body="council-gangwon", cause="again", holding=FLOOR)
    given(CASE, *AT_COUNCIL).when(command).refused("rule-b")
    other = RouteCase(**SYS, from_body="council-busan", cause="accepted", holding=FLOOR)
    given(CASE, *OPENED).when(other).refused("rule-b")


def test_I_3_after_acceptance_the_case_stays_with_its_intake_body() -> None:
    command = RouteCase(**SYS, from_body="council-gangwon", cause="accepted", holding=REVIEW)
    given(CASE, *OPENED).when(command).refused("I-3")


def test_T_4_without_a_holding() -> None:
    command = RouteCase(**SYS, from_body="council-gangwon", cause="accepted", holding=None)
    given(CASE, *OPENED).when(command).refused("I-22")


def test_T_5_close_refused() -> None:
    command = CloseRefused(**SYS, from_body="council-gangwon", cause="refused", reason=REASON)
    given(CASE, *OPENED).when(command).then(
        CaseClosed(from_body="council-gangwon", outcome="refused", reason=REASON, cause="refused")
    )
    given(CASE, *AT_COUNCIL).when(command).refused("rule-b")


# Row 11 and its kin


def take(*edges: Edge, to: Holding | None = REVIEW) -> TakeForReview:
    return TakeForReview(
        **SYS,
        from_body="council-gangwon",
        cause="taken",
        edges=edges,
        holding=to,
        lead="dept-road",
        proposed=("dept-planning-coordination",),
    )


TO_REVIEW = Edge(edge="council-gangwon.review", to_body="planning-group")


def test_T_11_take_for_review() -> None:
    given(CASE, *AT_COUNCIL).when(take(TO_REVIEW)).then(
        CaseRouted(
            from_body="council-gangwon",
            holding=REVIEW,
            lead="dept-road",
            proposed=("dept-planning-coordination",),
            cause="taken",
        )
    )


def test_T_11_only_from_a_floor() -> None:
    given(CASE, *OPENED).when(take(TO_REVIEW)).refused("rule-b")


@pytest.mark.capability("C2", part="no named emergency edge yet")
def test_I_3_exactly_one_edge_and_where_it_leads() -> None:
    given(CASE, *AT_COUNCIL).when(take()).refused("I-3")
    given(CASE, *AT_COUNCIL).when(take(TO_REVIEW, Edge(edge="other", to_body="forum"))).refused("I-3")
    given(CASE, *AT_COUNCIL).when(take(TO_REVIEW, to=SUPPORT)).refused("I-3")
    given(CASE, *AT_COUNCIL).when(take(TO_REVIEW, to=None)).refused("I-22")


def on_site(
    reason: Reason | None = REASON, owner: str | None = None, due: date | None = None, to: Holding | None = None
) -> ResolveOnSite:
    return ResolveOnSite(
        **SYS, from_body="council-gangwon", cause="decided", reason=reason, owner=owner, due=due, holding=to
    )


def test_T_11a_resolve_on_site_with_nothing_left() -> None:
    given(CASE, *AT_COUNCIL).when(on_site()).then(
        CaseClosed(from_body="council-gangwon", outcome="resolved_on_site", reason=REASON, cause="decided")
    )


def test_T_11b_resolve_on_site_with_owner_and_date() -> None:
    given(CASE, *AT_COUNCIL).when(on_site(owner="dept-road", due=DUE, to=ROAD)).then(
        ImplementationAssigned(from_body="council-gangwon", holding=ROAD, outcome="resolved_on_site", cause="decided")
    )


def test_D_resolved_on_site_needs_reason_and_both_owner_and_date() -> None:
    given(CASE, *AT_COUNCIL).when(on_site(reason=None)).refused("D-resolved_on_site")
    given(CASE, *AT_COUNCIL).when(on_site(owner="dept-road")).refused("D-resolved_on_site")
    given(CASE, *AT_COUNCIL).when(on_site(due=DUE)).refused("D-resolved_on_site")
    given(CASE, *AT_COUNCIL).when(on_site(owner="dept-x", due=DUE, to=None)).refused("I-22")
    given(CASE, *IN_REVIEW).when(on_site()).refused("rule-b")


def postpone(code: str, due: date | None = DUE, reason: Reason | None = REASON) -> ChangeDeadline:
    return ChangeDeadline(**SYS, from_body="council-gangwon", cause="decided", code=code, due=due, reason=reason)


@pytest.mark.parametrize("code", ["noted", "postpone_next"])
def test_T_11d_change_deadline(code: str) -> None:
    given(CASE, *AT_COUNCIL).when(postpone(code)).then(
        DeadlineChanged(
            body="council-gangwon",
            office="council-gangwon.secretary",
            due=DUE,
            clock="decision",
            reason=REASON,
            cause="decided",
        )
    )


def test_T_11d_the_same_date_named_again_is_still_a_move_of_its_decision() -> None:
    after = given(CASE, *AT_COUNCIL).when(postpone("noted"))
    assert len(after.events()) == 1, "the floor's date was the same already"


def test_D_noted_and_postpone_next_need_their_fields() -> None:
    given(CASE, *AT_COUNCIL).when(postpone("noted", due=None)).refused("D-noted")
    given(CASE, *AT_COUNCIL).when(postpone("postpone_next", due=None)).refused("D-postpone_next")
    given(CASE, *AT_COUNCIL).when(postpone("postpone_next", reason=None)).refused("D-postpone_next")
    given(CASE, *AT_COUNCIL).when(postpone("noted", due=date(2023, 5, 1))).refused("I-22")
    given(CASE, *IN_REVIEW).when(postpone("noted")).refused("rule-b")


# Rows 17, 18, 23, 24


def test_T_17_resolve_at_review() -> None:
    command = ResolveAtReview(**SYS, from_body="planning-group", cause="reviewed", round=1, holding=ROAD)
    given(CASE, *IN_REVIEW).when(command).then(*RESOLVED_AT_REVIEW[-2:])
    given(CASE, *AT_SUPPORT_GROUP).when(
        ResolveAtReview(**SYS, from_body="planning-group", cause="late", round=1, holding=ROAD)
    ).refused("rule-b")


def test_rule_b_a_review_of_another_round() -> None:
    command = ResolveAtReview(**SYS, from_body="planning-group", cause="reviewed", round=2, holding=ROAD)
    given(CASE, *IN_REVIEW).when(command).refused("rule-b")


def test_T_17_I_22_an_owner_without_an_office() -> None:
    command = ResolveAtReview(**SYS, from_body="planning-group", cause="reviewed", round=1, holding=None)
    given(CASE, *IN_REVIEW).when(command).refused("I-22")


def escalate(from_body: str, to: Holding | None, **other: Any) -> EscalateCase:
    fields: dict[str, Any] = {
        "cause": "reviewed",
        "round": None,
        "edges": (Edge(edge=f"{from_body}.escalate", to_body=to.body if to else "forum"),),
        "arrival": "EscalatedToSupportGroup",
        "documents": PAPERS,
        "reason": REASON,
    }
    return EscalateCase(**SYS, from_body=from_body, holding=to, **(fields | other))


def test_T_18_escalate_after_a_concluded_review() -> None:
    given(CASE, *IN_REVIEW).when(escalate("planning-group", SUPPORT, round=1)).then(AT_SUPPORT_GROUP[-1])


def test_T_24_escalate_by_decision() -> None:
    command = escalate("support-group", FORUM, arrival="EscalatedToForum", cause="escalated")
    given(CASE, *AT_SUPPORT_GROUP).when(command).then(AT_FORUM[-1])


def test_a_tier_that_names_no_arrival_event_is_reached_by_CaseMoved() -> None:
    board = holding("at_body", "coordination-board", tier="R4b")
    given(CASE, *AT_SUPPORT_GROUP).when(escalate("support-group", board, arrival=None, cause="d")).then(
        CaseMoved(from_body="support-group", holding=board, documents=PAPERS, reason=REASON, cause="d")
    )


def test_I_3_escalation_without_a_single_edge() -> None:
    given(CASE, *AT_SUPPORT_GROUP).when(escalate("support-group", FORUM, cause="d", edges=())).refused("I-3")
    two = (Edge(edge="a", to_body="forum"), Edge(edge="b", to_body="planning-group"))
    given(CASE, *AT_SUPPORT_GROUP).when(escalate("support-group", FORUM, cause="d", edges=two)).refused("I-3")


def test_I_4_no_escalation_without_a_concluded_round() -> None:
    given(CASE, *AT_COUNCIL).when(escalate("council-gangwon", SUPPORT, cause="d")).refused("I-4")


def test_I_21_the_next_body_sees_at_least_what_the_present_one_saw() -> None:
    fewer = PAPERS[1:]
    given(CASE, *IN_REVIEW).when(escalate("planning-group", SUPPORT, round=1, documents=fewer)).refused("I-21")
    given(CASE, *AT_SUPPORT_GROUP).when(
        escalate("support-group", FORUM, cause="d", documents=(COUNCIL_DECISION,))
    ).refused("I-21")


def test_I_22_escalation_to_a_body_without_office_or_clock() -> None:
    given(CASE, *AT_SUPPORT_GROUP).when(escalate("support-group", None, cause="d")).refused("I-22")


def test_T_24_needs_a_reason_of_the_list() -> None:
    given(CASE, *AT_SUPPORT_GROUP).when(escalate("support-group", FORUM, cause="d", reason=None)).refused("T-24")


def test_rule_b_escalation_of_a_case_that_left() -> None:
    given(CASE, *AT_FORUM).when(escalate("support-group", FORUM, cause="d")).refused("rule-b")
    given(CASE, *IN_REVIEW).when(escalate("planning-group", SUPPORT, round=2)).refused("rule-b")


def resolve(owner: str | None = "dept-road", due: date | None = DUE, to: Holding | None = ROAD) -> ResolveAtBody:
    return ResolveAtBody(
        **SYS,
        from_body="support-group",
        cause="decided",
        owner=owner,
        due=due,
        holding=to,
        convergence="단계별 시행에 합의함",
    )


@pytest.mark.capability("D8")
def test_T_23_resolve_at_body_keeps_how_departments_converged() -> None:
    given(CASE, *AT_SUPPORT_GROUP).when(resolve()).then(
        CaseResolvedBySupportGroup(body="support-group", convergence="단계별 시행에 합의함", cause="decided"),
        ImplementationAssigned(
            from_body="support-group", holding=ROAD, outcome="resolved_by_support_group", cause="decided"
        ),
    )


def test_D_resolved_needs_owner_and_date() -> None:
    given(CASE, *AT_SUPPORT_GROUP).when(resolve(owner=None)).refused("D-resolved")
    given(CASE, *AT_SUPPORT_GROUP).when(resolve(due=None)).refused("D-resolved")
    given(CASE, *AT_SUPPORT_GROUP).when(resolve(to=None)).refused("I-22")
    given(CASE, *AT_FORUM).when(resolve()).refused("rule-b")


# Row 30 and the policy


def link(to: Holding | None = ROAD, cause: str = "adopted") -> LinkToPolicy:
    return LinkToPolicy(
        **SYS, from_body="forum", cause=cause, policy_id="p1", policy_revision=1, reason="답함", holding=to
    )


@pytest.mark.capability("G1")
def test_T_30_link_to_policy_and_assign_in_one_write() -> None:
    given(CASE, *AT_FORUM).when(link()).then(*UNDER_POLICY[-2:])


def test_T_30_only_while_the_deciding_body_has_the_case() -> None:
    given(CASE, *AT_SUPPORT_GROUP).when(link()).refused("rule-b")
    given(CASE, *UNDER_POLICY).when(link(cause="again")).refused("rule-b")
    given(CASE, *AT_FORUM).when(link(to=None)).refused("I-22")


def follow(due: date, cause: str, policy_id: str = "p1") -> FollowTask:
    return FollowTask(**SYS, policy_id=policy_id, due=due, reason=REASON, cause=cause)


def task_date(due: date, cause: str) -> DeadlineChanged:
    return DeadlineChanged(
        body="dept-road", office="dept-road.reviewer", due=due, clock="task", reason=REASON, cause=cause
    )


def test_I_17_the_first_task_gives_the_date_and_of_several_the_earliest_stands() -> None:
    first = given(CASE, *UNDER_POLICY).when(follow(date(2024, 12, 31), "t1")).then(task_date(date(2024, 12, 31), "t1"))
    second = first.when(follow(date(2024, 3, 29), "t2")).then(task_date(date(2024, 3, 29), "t2"))
    assert second.when(follow(date(2024, 6, 28), "t3")).events() == ()


def test_T_38b_a_task_of_another_policy_or_of_the_past() -> None:
    given(CASE, *UNDER_POLICY).when(follow(DUE, "t1", "p2")).refused("T-38b")
    given(CASE, *RESOLVED_AT_REVIEW).when(follow(DUE, "t1")).refused("T-38b")
    given(CASE, *UNDER_POLICY).when(follow(date(2023, 5, 1), "t1")).refused("I-22")


def complete_by(policy_id: str = "p1") -> CompleteByPolicy:
    return CompleteByPolicy(**SYS, policy_id=policy_id, text="이행됨", evidence=("준공검사",), cause="implemented")


def test_T_38b_complete_by_policy() -> None:
    given(CASE, *UNDER_POLICY).when(complete_by()).then(
        ImplementationCompleted(text="이행됨", evidence=("준공검사",), cause="implemented"),
        CaseClosed(from_body="dept-road", outcome="adopted_in_policy", cause="implemented"),
    )
    given(CASE, *UNDER_POLICY).when(complete_by("p2")).refused("T-38b")
    given(CASE, *RESOLVED_AT_REVIEW).when(complete_by()).refused("T-38b")


# Rows 38 and 38a


def report(by: dict[str, Any] = OWNER, text: str = "착공함") -> ReportImplementation:
    return ReportImplementation(**by, text=text, evidence=("사진 3매",))


def test_T_38_report_implementation() -> None:
    after = (
        given(CASE, *RESOLVED_AT_REVIEW)
        .when(report())
        .then(ImplementationReported(text="착공함", evidence=("사진 3매",)))
    )
    after.when(report(text="포장을 마침")).then(ImplementationReported(text="포장을 마침", evidence=("사진 3매",)))


def test_T_38_only_what_is_being_carried_out_and_only_by_its_owner() -> None:
    given(CASE, *AT_SUPPORT_GROUP).when(report()).refused("T-38")
    given(CASE, *CLOSED).when(report()).refused("T-38")
    assert given(CASE, *RESOLVED_AT_REVIEW).when(report(SYS)).refused("I-9").kind == "authority"


def complete(by: dict[str, Any] = OWNER) -> CompleteImplementation:
    return CompleteImplementation(**by, text="준공함", evidence=("준공검사",))


def test_T_38a_complete_implementation() -> None:
    given(CASE, *RESOLVED_AT_REVIEW).when(complete()).then(
        ImplementationCompleted(text="준공함", evidence=("준공검사",)),
        CaseClosed(from_body="dept-road", outcome="resolved_by_department", cause="reviewed"),
    )


def test_T_38a_not_where_a_policy_is_linked_nor_by_another() -> None:
    given(CASE, *UNDER_POLICY).when(complete()).refused("T-38a")
    given(CASE, *AT_COUNCIL).when(complete()).refused("T-38a")
    given(CASE, *RESOLVED_AT_REVIEW).when(complete(SYS)).refused("I-9")


# Rule (b)


def test_rule_b_record_move_refused_once_for_each_cause() -> None:
    command = RecordMoveRefused(
        **SYS,
        rule="I-3",
        ko="경로 없음",
        en="No edge.",
        body="council-gangwon",
        cause="d",
        cause_type="DecisionRecorded",
    )
    given(CASE, *AT_COUNCIL).when(command).then(
        MoveRefused(
            rule="I-3",
            ko="경로 없음",
            en="No edge.",
            body="council-gangwon",
            cause="d",
            cause_type="DecisionRecorded",
        )
    )
    given(CASE).when(command).refused("T-1")


def test_rule_b_a_refused_move_changes_nothing_else() -> None:
    refused = MoveRefused(rule="I-3", ko="-", en="-", body="council-gangwon", cause="d", cause_type="DecisionRecorded")
    given(CASE, *AT_COUNCIL, refused).when(take(TO_REVIEW)).then(IN_REVIEW[-1])


@pytest.mark.parametrize("past", [OPENED, AT_COUNCIL, IN_REVIEW, AT_SUPPORT_GROUP, AT_FORUM, UNDER_POLICY])
def test_I_18_the_cause_of_the_last_move_moves_nothing_again(past: tuple[Event, ...]) -> None:
    cause = getattr(past[-1], "cause", None)
    if cause is None:
        return
    repeated = TakeForReview(**SYS, from_body="anybody", cause=cause, edges=(), holding=None)
    assert given(CASE, *past).when(repeated).events() == ()


def test_a_command_of_another_aggregate_is_a_fault_of_the_program() -> None:
    from services.routing.clock import ShiftClock

    command = ShiftClock(**SYS, to=SYS["at"], real=SYS["at"], development=True)
    with pytest.raises(AssertionError, match="ShiftClock"):
        given(CASE).when(command).events()
