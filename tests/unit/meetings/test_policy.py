"""Rules of a policy: drafted, adopted by the Minister, carried out by its tasks, implemented."""

from __future__ import annotations

import unicodedata
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.meetings.policy import (
    POLICY,
    AdoptPolicy,
    AssignTask,
    CompletePolicy,
    DraftPolicy,
    ReportProgress,
    SourceSeen,
    text_hash,
)
from shared.contracts.envelope import Actor, Authority, Event
from shared.contracts.meetings import (
    PolicyAdopted,
    PolicyDrafted,
    PolicyImplemented,
    PolicyTaskAssigned,
    ProgressReported,
    Source,
)
from shared.decider import fold
from shared.testing import given

SEOUL = ZoneInfo("Asia/Seoul")
TEXT = "The narrowest section is widened first."
SOURCES = (Source(kind="issue", ref="case-1"), Source(kind="issue", ref="case-2"))


def act(office: str, rule: str) -> dict[str, Any]:
    """``by``, ``at`` and ``authority`` of an office's act on 16 October 2023."""
    return {
        "by": Actor(user="subject-1", office=office, body=office.rsplit(".", 1)[0]),
        "at": datetime(2023, 10, 16, 10, tzinfo=SEOUL),
        "authority": Authority(rule=rule),
    }


PS = act("planning-group.secretary", "T-29a")
MIN = act("forum.chair", "T-30")
OWNER = act("dept-road.reviewer", "T-38")
DUE = date(2024, 6, 28)

DRAFTED_FACT = PolicyDrafted(
    title="Widening", text=TEXT, text_hash=text_hash(TEXT), revision=1, sources=SOURCES, plan_item="P3-2"
)
ADOPTED_FACT = PolicyAdopted(
    revision=1,
    text_hash=text_hash(TEXT),
    meeting_id="meeting-1",
    item=1,
    decision_event="event-1",
    deliberation_event="meeting-1.1",
    emergency_clause=None,
    sources=SOURCES,
    cases=("case-1", "case-2"),
    owner="dept-road",
    review_date=date(2024, 9, 12),
    plan_item="P3-2",
)
TASK = PolicyTaskAssigned(
    task="t1", title="Design", owner="dept-road", regions=("gangwon",), due=DUE, cases=("case-1", "case-2")
)
HALF_DONE = ProgressReported(task="t1", done=False, text="Half.", evidence=("Interim report",))
DONE = ProgressReported(task="t1", done=True, text="Done.", evidence=("Final report",))

DRAFTED: tuple[Event, ...] = (DRAFTED_FACT,)
ADOPTED = (*DRAFTED, ADOPTED_FACT)
IN_IMPLEMENTATION = (*ADOPTED, TASK)
ALL_DONE = (*IN_IMPLEMENTATION, HALF_DONE, DONE)
IMPLEMENTED = (*ALL_DONE, PolicyImplemented(cases=("case-1", "case-2"), tasks=1, evidence=("Final report",)))


# DraftPolicy

AT_FORUM = (SourceSeen(case_id="case-1", held_by="forum"), SourceSeen(case_id="case-2", held_by=None))


def draft(**changes: Any) -> DraftPolicy:
    facts: dict[str, Any] = {"plan_item": "P3-2", "plan_item_known": True, "sources_seen": AT_FORUM}
    return DraftPolicy(**{**PS, "title": "Widening", "text": TEXT, "sources": SOURCES, **facts, **changes})


def test_T_29a_the_planning_group_drafts_a_policy() -> None:
    given(POLICY).when(draft()).then(DRAFTED_FACT)


def test_T_29a_a_source_is_named_once() -> None:
    (drafted,) = given(POLICY).when(draft(sources=(*SOURCES, *SOURCES))).events()
    assert isinstance(drafted, PolicyDrafted)
    assert drafted.sources == SOURCES


def test_T_29a_composed_and_decomposed_text_have_one_hash() -> None:
    text = "도로를 넓힌다"
    assert text_hash(unicodedata.normalize("NFD", text)) == text_hash(text)


def test_T_29a_a_source_that_is_not_known_is_refused() -> None:
    given(POLICY).when(draft(sources_seen=AT_FORUM[:1])).refused("T-29a")


@pytest.mark.parametrize("held_by", [None, "council"])
def test_T_29a_a_source_is_before_the_support_group_or_the_forum(held_by: str | None) -> None:
    seen = tuple(SourceSeen.model_validate({"case_id": case, "held_by": held_by}) for case in ("case-1", "case-2"))
    given(POLICY).when(draft(sources_seen=seen)).refused("T-29a")


def test_T_29a_the_plan_item_is_in_the_work_plan() -> None:
    given(POLICY).when(draft(plan_item_known=False)).refused("T-29a")


def test_T_29a_a_plan_item_may_be_missing() -> None:
    assert given(POLICY).when(draft(plan_item=None, plan_item_known=False)).events()


def test_T_29a_a_policy_is_drafted_once() -> None:
    given(POLICY, *DRAFTED).when(draft(text="Another text.")).refused("T-29a")


# AdoptPolicy


def adopt(**changes: Any) -> AdoptPolicy:
    facts = {name: value for name, value in ADOPTED_FACT if name not in ("type", "cases", "plan_item")}
    return AdoptPolicy(**{**MIN, **facts, **changes})


@pytest.mark.capability("G1")
def test_T_30_a_policy_is_adopted_by_the_ministers_decision() -> None:
    given(POLICY, *DRAFTED).when(adopt()).then(ADOPTED_FACT)


def test_I_12_under_the_emergency_clause_no_deliberation_is_cited() -> None:
    emergency = {"deliberation_event": None, "emergency_clause": "Charter art. 9"}
    (adopted,) = given(POLICY, *DRAFTED).when(adopt(**emergency)).events()
    assert isinstance(adopted, PolicyAdopted)
    assert (adopted.deliberation_event, adopted.emergency_clause) == (None, "Charter art. 9")


@pytest.mark.parametrize("stale", [{"revision": 2}, {"text_hash": "another"}])
def test_I_12_only_the_current_draft_is_adopted(stale: dict[str, Any]) -> None:
    given(POLICY, *DRAFTED).when(adopt(**stale)).refused("I-12")


@pytest.mark.parametrize("sources", [(), (Source(kind="issue", ref="case-3"),)])
def test_I_12_an_adoption_rests_on_sources_of_the_draft(sources: tuple[Source, ...]) -> None:
    given(POLICY, *DRAFTED).when(adopt(sources=sources)).refused("I-12")


def test_I_12_an_adoption_needs_deliberation_or_emergency_clause() -> None:
    given(POLICY, *DRAFTED).when(adopt(deliberation_event=None)).refused("I-12")


def test_I_13_a_policy_has_one_version_in_force() -> None:
    given(POLICY, *ADOPTED).when(adopt(decision_event="event-2")).refused("I-13")


def test_a_policy_that_was_never_drafted_is_not_adopted() -> None:
    given(POLICY).when(adopt()).refused("absent")


# AssignTask


def assign(**changes: Any) -> AssignTask:
    facts = {"task": "t1", "owner_kind": "department", "regions_known": ("gangwon",)}
    said = {"title": "Design", "owner": "dept-road", "regions": ("gangwon",), "due": DUE}
    return AssignTask(**{**PS, **said, **facts, **changes})


@pytest.mark.capability("G3", part="tasks and progress; no milestones and weights")
def test_a_task_of_an_adopted_policy_has_owner_regions_and_date() -> None:
    given(POLICY, *ADOPTED).when(assign()).then(TASK)


def test_a_second_task_is_another_one() -> None:
    given(POLICY, *IN_IMPLEMENTATION).when(assign(task="t2", title="Works")).then(
        PolicyTaskAssigned(**{**dict(TASK), "task": "t2", "title": "Works"})
    )


def test_the_same_task_under_another_number_is_a_repeat() -> None:
    given(POLICY, *IN_IMPLEMENTATION).when(assign(task="t2")).then()


def test_a_number_names_one_task() -> None:
    given(POLICY, *IN_IMPLEMENTATION).when(assign(title="Works")).refused("T-30")


def test_T_30_a_draft_has_no_tasks() -> None:
    given(POLICY, *DRAFTED).when(assign()).refused("T-30")


def test_T_30_an_implemented_policy_gets_no_more_tasks() -> None:
    given(POLICY, *IMPLEMENTED).when(assign(task="t2", title="Works")).refused("T-30")


@pytest.mark.parametrize("kind", [None, "council"])
def test_T_30_the_owner_of_a_task_exists(kind: str | None) -> None:
    given(POLICY, *ADOPTED).when(assign(owner_kind=kind)).refused("T-30")


def test_I_1_the_regions_of_a_task_exist_today() -> None:
    given(POLICY, *ADOPTED).when(assign(regions=("gangwon", "jeonnam-gwangju"))).refused("I-1")


def test_T_30_a_task_is_not_due_in_the_past() -> None:
    given(POLICY, *ADOPTED).when(assign(due=date(2023, 10, 15))).refused("T-30")


def test_a_policy_that_was_never_drafted_has_no_tasks() -> None:
    given(POLICY).when(assign()).refused("absent")


# ReportProgress


def report(done: bool = True, **changes: Any) -> ReportProgress:
    fact = DONE if done else HALF_DONE
    values = {"task": "t1", "done": done, "text": fact.text, "evidence": fact.evidence}
    return ReportProgress(**{**OWNER, **values, **changes})


@pytest.mark.capability("G3", part="tasks and progress; no milestones and weights")
def test_T_38_the_owner_reports_with_evidence() -> None:
    after = given(POLICY, *IN_IMPLEMENTATION).when(report(done=False)).then(HALF_DONE)
    after.when(report()).then(DONE)


def test_I_9_only_the_owner_reports() -> None:
    stranger = act("dept-rail.reviewer", "T-38")
    assert given(POLICY, *IN_IMPLEMENTATION).when(report(**stranger)).refused("I-9").kind == "authority"


def test_T_38_what_is_done_stays_done() -> None:
    given(POLICY, *ALL_DONE).when(report(done=False)).refused("T-38")


def test_a_task_that_does_not_exist_is_not_reported_on() -> None:
    given(POLICY, *IN_IMPLEMENTATION).when(report(task="t9")).refused("absent")


def test_T_30_nothing_is_reported_on_a_draft() -> None:
    given(POLICY, *DRAFTED).when(report()).refused("T-30")


# CompletePolicy


def test_T_38b_a_policy_is_implemented_when_all_tasks_are_done() -> None:
    given(POLICY, *ALL_DONE).when(CompletePolicy(**PS, evidence=("Opening ceremony",))).then(
        PolicyImplemented(cases=("case-1", "case-2"), tasks=1, evidence=("Final report", "Opening ceremony"))
    )


@pytest.mark.parametrize(
    "past",
    [ADOPTED, IN_IMPLEMENTATION, (*IN_IMPLEMENTATION, HALF_DONE)],
    ids=["no task", "no report", "not done"],
)
def test_T_38b_a_policy_with_open_tasks_is_not_implemented(past: tuple[Event, ...]) -> None:
    given(POLICY, *past).when(CompletePolicy(**PS)).refused("T-38b")


def test_T_30_a_draft_is_not_implemented() -> None:
    given(POLICY, *DRAFTED).when(CompletePolicy(**PS)).refused("T-30")


# Fold


@pytest.mark.parametrize(
    ("past", "phase"),
    [
        ((), "absent"),
        (DRAFTED, "drafted"),
        (ADOPTED, "adopted"),
        (IN_IMPLEMENTATION, "in_implementation"),
        (IMPLEMENTED, "implemented"),
    ],
)
def test_where_a_policy_stands(past: tuple[Event, ...], phase: str) -> None:
    assert fold(POLICY, past).phase == phase


def test_the_fold_never_fails_on_facts_without_their_predecessors() -> None:
    assert fold(POLICY, (DONE, *IMPLEMENTED[1:])).phase == "absent"


def test_only_commands_of_a_policy_are_understood() -> None:
    from services.meetings.meeting import CloseMeeting

    with pytest.raises(TypeError):
        POLICY.decide(POLICY.initial, CloseMeeting(**PS))
