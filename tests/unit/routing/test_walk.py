"""The conversation of golden scenario 1: what routing stores upon each fact it hears, with the dates of the walk."""

from __future__ import annotations

from datetime import date

import pytest

from shared.contracts.envelope import Reason
from shared.contracts.routing import (
    CaseClosed,
    CaseLinkedToPolicy,
    CaseOpened,
    CaseRouted,
    DeadlineChanged,
    Document,
    EscalatedToForum,
    EscalatedToSupportGroup,
    Holding,
    ImplementationAssigned,
    ImplementationCompleted,
)
from tests.unit.routing.world import (
    CASE_ID,
    GANGWON,
    POLICY_ID,
    World,
    accepted,
    adopted,
    decided,
    implemented,
    raised,
    reviewed,
    task,
)


@pytest.mark.capability("C1", "C3", "B2")
def test_the_straight_path() -> None:
    world = World()

    # 1: raised; the council of the county's region has it until 05-11
    opened = world.on(2023, 5, 8).hear(raised(), by="org-gangwon-hongcheon.officer")
    assert opened == (
        CaseOpened(
            holding=Holding(
                state="intake",
                body="council-gangwon",
                office="council-gangwon.secretary",
                due=date(2023, 5, 11),
                clock="completeness",
            ),
            regions=(GANGWON,),
            raised_by="org-gangwon-hongcheon",
            plan_item="P3-2",
            tags=("road",),
            cost_band="above_c",
        ),
    )
    assert world.matched() == ["C2", "K-intake"]

    # 2: accepted; on the council's floor until 06-08
    routed = world.on(2023, 5, 9).hear(accepted(), by="council-gangwon.secretary")
    assert routed == (
        CaseRouted(
            from_body="council-gangwon",
            holding=Holding(
                state="at_body",
                tier="R2",
                body="council-gangwon",
                office="council-gangwon.secretary",
                due=date(2023, 6, 8),
                clock="council_placement",
            ),
            cause="e2",
        ),
    )
    assert world.matched() == ["A1", "K-council"]

    # 10: taken for review; the planning group has it until 06-23
    taken = world.on(2023, 5, 24).hear(
        decided("council-gangwon", "take_for_review"), "m1", "council-gangwon.chair", CASE_ID
    )
    assert taken == (
        CaseRouted(
            from_body="council-gangwon",
            holding=Holding(
                state="in_joint_review",
                body="planning-group",
                office="planning-group.secretary",
                due=date(2023, 6, 23),
                clock="review",
            ),
            lead="dept-road",
            proposed=("dept-planning-coordination",),
            cause="e3",
        ),
    )
    assert world.matched() == ["L-P3-2", "L-road", "D-budget", "K-review"]

    # 20: reviewed, above the thresholds; the support group has it until 07-13
    escalated = world.on(2023, 6, 15).hear(reviewed(), f"{CASE_ID}.1", "planning-group.chair", CASE_ID)
    handed_over = (
        Document(kind="issue", ref=f"Issue/{CASE_ID}#1"),
        Document(kind="decision", ref="e3"),
        Document(kind="joint_review", ref=f"JointReview/{CASE_ID}.1"),
    )
    assert escalated == (
        EscalatedToSupportGroup(
            from_body="planning-group",
            holding=Holding(
                state="at_body",
                tier="R4",
                body="support-group",
                office="support-group.secretary",
                due=date(2023, 7, 13),
                clock="support_placement",
            ),
            documents=handed_over,
            reason=Reason(code="cost_above_c", text="예상 비용이 C 구간을 넘음"),
            cause="e4",
        ),
    )
    assert world.matched() == ["E-cost", "E-resolve", "K-support"]

    # 22: escalated; the forum has it until 10-05, 60 working days
    to_forum = world.on(2023, 7, 6).hear(
        decided("support-group", "escalate", escalation="law_or_budget_beyond_powers"),
        "m2",
        "support-group.chair",
        CASE_ID,
    )
    assert to_forum == (
        EscalatedToForum(
            from_body="support-group",
            holding=Holding(
                state="at_body",
                tier="R5",
                body="forum",
                office="forum.secretary",
                due=date(2023, 10, 5),
                clock="forum_placement",
            ),
            documents=(*handed_over, Document(kind="decision", ref="e5")),
            reason=Reason(code="law_or_budget_beyond_powers", text="법령 또는 예산이 지원단의 권한을 넘는 사안"),
            cause="e5",
        ),
    )

    # 29: decided and adopted; the decision moves nothing by itself, the policy does
    world.on(2023, 9, 12)
    assert world.hear(decided("forum", "adopt"), "m3", "forum.chair", CASE_ID) == ()
    road_bureau = Holding(
        state="implementing",
        body="dept-road",
        office="dept-road.reviewer",
        due=date(2024, 9, 12),
        clock="decision",
    )
    assert world.hear(adopted(), POLICY_ID, "forum.chair") == (
        CaseLinkedToPolicy(policy_id=POLICY_ID, policy_revision=1, reason="채택된 정책이 이 현안에 답함", cause="e7"),
        ImplementationAssigned(
            from_body="forum", holding=road_bureau, outcome="adopted_in_policy", policy_id=POLICY_ID, cause="e7"
        ),
    )

    # 32: a task; its date is the case's
    assigned = world.on(2023, 10, 16).hear(task(date(2023, 12, 15)), POLICY_ID, "planning-group.secretary")
    assert assigned == (
        DeadlineChanged(
            body="dept-road",
            office="dept-road.reviewer",
            due=date(2023, 12, 15),
            clock="task",
            reason=Reason(code="policy_task", text="연결된 정책의 과제 기한"),
            cause="e8",
        ),
    )

    # 33: implemented; the case ends
    done = world.on(2023, 12, 15).hear(implemented(), POLICY_ID, "planning-group.secretary")
    assert done == (
        ImplementationCompleted(text="연결된 정책의 이행이 끝남", evidence=("준공검사",), cause="e9"),
        CaseClosed(from_body="dept-road", outcome="adopted_in_policy", cause="e9"),
    )
    assert len(world.streams[f"Case/{CASE_ID}"]) == 10


def test_I_2_holdings_are_contiguous_on_the_straight_path() -> None:
    world = World()
    world.on(2023, 5, 8).hear(raised(), by="org-gangwon-hongcheon.officer")
    world.hear(accepted(), by="council-gangwon.secretary")
    world.hear(decided("council-gangwon", "take_for_review"), "m1", "council-gangwon.chair", CASE_ID)
    world.hear(reviewed(), f"{CASE_ID}.1", case_id=CASE_ID)
    holder = None
    for event in world.streams[f"Case/{CASE_ID}"]:
        before = getattr(event, "from_body", None)
        assert before == holder
        holding = getattr(event, "holding", None)
        assert isinstance(holding, Holding)
        assert holding.office.startswith(holding.body)
        holder = holding.body
