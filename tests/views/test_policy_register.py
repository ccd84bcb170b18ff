"""Policies as they stand, and the work plan that they point to."""

from __future__ import annotations

from datetime import date

import pytest

from services.meetings.views.policy_register import (
    POLICY_REGISTER,
    PolicyFile,
    policy_file,
    policy_rows,
)
from services.meetings.views.work_plan import WORK_PLAN_TREE, has_item, plan_tree
from shared.contracts.envelope import Label
from shared.contracts.meetings import (
    PlanItemAdded,
    PlanPublished,
    PolicyAdopted,
    PolicyDrafted,
    PolicyImplemented,
    PolicyTaskAssigned,
    ProgressReported,
    Source,
)
from shared.runtime.declare import Recorded
from tests.views.routing_walk import Stream, at, folded, rows

SOURCES = (Source(kind="issue", ref="case-1"),)


def drafted(policy_id: str, day: int = 13) -> Stream:
    """A policy as the planning group drafted it."""
    stream = Stream("meetings", "Policy", policy_id)
    stream.add(
        at(7, day),
        PolicyDrafted(title="Widening", text="Text.", text_hash="abc", revision=1, sources=SOURCES, plan_item="P3-2"),
    )
    return stream


def adopted(policy_id: str, day: int = 13) -> Stream:
    """The Minister has adopted it."""
    stream = drafted(policy_id, day)
    stream.add(
        at(9, 12),
        PolicyAdopted(
            revision=1,
            text_hash="abc",
            meeting_id="meeting-f",
            item=1,
            decision_event="event-9",
            deliberation_event="meeting-f.1",
            emergency_clause=None,
            sources=SOURCES,
            cases=("case-1",),
            owner="dept-road",
            review_date=date(2024, 9, 12),
            plan_item="P3-2",
        ),
    )
    return stream


def in_implementation(policy_id: str, day: int = 13) -> Stream:
    """It has two tasks; the first was reported on twice."""
    stream = adopted(policy_id, day)
    for task, title in (("t1", "Design"), ("t2", "Works")):
        stream.add(
            at(10, 16),
            PolicyTaskAssigned(
                task=task,
                title=title,
                owner="dept-road",
                regions=("gangwon",),
                due=date(2024, 6, 28),
                cases=("case-1",),
            ),
        )
    stream.add(at(11, 1), ProgressReported(task="t1", done=False, text="Half.", evidence=("Interim report",)))
    stream.add(at(12, 1), ProgressReported(task="t1", done=True, text="Done.", evidence=("Final report",)))
    return stream


def implemented(policy_id: str, day: int = 13) -> Stream:
    """Everything is done."""
    stream = in_implementation(policy_id, day)
    stream.add(at(12, 20), ProgressReported(task="t2", done=True, text="Done.", evidence=("Acceptance",)))
    stream.add(at(12, 21), PolicyImplemented(cases=("case-1",), tasks=2, evidence=("Final report", "Acceptance")))
    return stream


def everything() -> list[list[Recorded]]:
    """Four policies, one in each state."""
    streams = (drafted("policy-1", 10), adopted("policy-2", 11), in_implementation("policy-3"), implemented("policy-4"))
    return [stream.events for stream in streams]


def read(stream: Stream) -> tuple[PolicyFile, int]:
    """The file of a policy."""
    db, made = folded(POLICY_REGISTER, [stream.events])
    found = policy_file(db, made, stream.id)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(1, 8))
def test_rows_are_equal_for_every_order_of_the_streams(seed: int) -> None:
    assert rows(POLICY_REGISTER, everything(), seed) == rows(POLICY_REGISTER, everything(), 0)


def test_a_draft_shows_text_sources_and_plan_item() -> None:
    file, version = read(drafted("policy-1"))
    assert version == 1
    assert (file.state, file.text, file.sources, file.plan_item) == ("drafted", "Text.", SOURCES, "P3-2")
    assert (file.adoption, file.tasks) == (None, ())


@pytest.mark.capability("G1")
def test_I_12_an_adopted_policy_shows_on_what_it_rests() -> None:
    file, version = read(adopted("policy-1"))
    assert (version, file.state, file.state_label.ko) == (2, "adopted", "채택")
    assert file.adoption is not None
    assert (file.adoption.meeting_id, file.adoption.item, file.adoption.decision_event) == ("meeting-f", 1, "event-9")
    assert (file.adoption.deliberation_event, file.adoption.cases) == ("meeting-f.1", ("case-1",))
    assert (file.adoption.owner, file.adoption.review_date) == ("dept-road", date(2024, 9, 12))


@pytest.mark.capability("G3", part="tasks and progress; no milestones and weights")
def test_tasks_show_their_progress_in_order() -> None:
    file, _ = read(in_implementation("policy-1"))
    design, works = file.tasks
    assert file.state == "in_implementation"
    assert (design.task, design.done, [report.done for report in design.progress]) == ("t1", True, [False, True])
    assert design.progress[1].evidence == ("Final report",)
    assert (works.task, works.done, works.progress) == ("t2", False, ())


def test_an_implemented_policy_shows_its_evidence() -> None:
    file, version = read(implemented("policy-1"))
    assert (version, file.state, file.evidence) == (8, "implemented", ("Final report", "Acceptance"))


def test_a_policy_not_heard_of_has_no_file() -> None:
    db, made = folded(POLICY_REGISTER, everything())
    assert policy_file(db, made, "policy-9") is None


def test_policies_are_listed_the_last_drafted_first_and_pages_follow_on() -> None:
    db, made = folded(POLICY_REGISTER, everything())
    first = policy_rows(db, made, True, 3, None)
    rest = policy_rows(db, made, True, 3, (first[-1].drafted_at, first[-1].policy_id))
    assert [row.policy_id for row in (*first, *rest)] == ["policy-4", "policy-3", "policy-2", "policy-1"]
    assert first[0].owner == "dept-road"


def test_drafts_may_be_left_out() -> None:
    db, made = folded(POLICY_REGISTER, everything())
    assert [row.policy_id for row in policy_rows(db, made, False, 50, None)] == ["policy-4", "policy-3", "policy-2"]


# The work plan


def plan_of(year: int) -> Stream:
    """A plan with two directions and an item."""
    stream, day = Stream("meetings", "WorkPlan", str(year)), date(year, 1, 3)
    title = Label(ko=f"{year}년 업무계획", en=f"{year} work plan")
    stream.add(at(1, 4), PlanPublished(year=year, title=title, presented_on=day, source="V"))
    items: tuple[tuple[str, str | None, date | None], ...] = (
        ("P2", None, None),
        ("P3", None, None),
        ("P3-2", "P3", date(year + 1, 1, 1)),
    )
    for item, parent, valid_to in items:
        name = Label(ko=f"{item} 과제", en=f"Item {item}")
        stream.add(
            at(1, 4),
            PlanItemAdded(
                year=year, item=item, parent=parent, name=name, valid_from=day, valid_to=valid_to, source="V"
            ),
        )
    return stream


def plans() -> list[list[Recorded]]:
    """The plans of two years."""
    return [plan_of(2023).events, plan_of(2024).events]


@pytest.mark.parametrize("seed", range(1, 8))
def test_plan_rows_are_equal_for_every_order_of_the_streams(seed: int) -> None:
    assert rows(WORK_PLAN_TREE, plans(), seed) == rows(WORK_PLAN_TREE, plans(), 0)


@pytest.mark.capability("G4", part="the tree and the pointers to it; unplanned demand is not measured yet")
def test_a_plan_is_a_tree() -> None:
    db, made = folded(WORK_PLAN_TREE, plans())
    found = plan_tree(db, made, 2023)
    assert found is not None
    tree, version = found
    assert (version, tree.presented_on) == (4, date(2023, 1, 3))
    assert [item.item for item in tree.items] == ["P2", "P3"]
    assert [item.item for item in tree.items[1].items] == ["P3-2"]


def test_a_year_without_plan_has_no_tree() -> None:
    db, made = folded(WORK_PLAN_TREE, plans())
    assert plan_tree(db, made, 2022) is None


@pytest.mark.parametrize(
    ("day", "known"), [(date(2023, 1, 2), False), (date(2023, 1, 3), True), (date(2025, 1, 1), False)]
)
def test_an_item_is_known_while_it_is_valid(day: date, known: bool) -> None:
    db, made = folded(WORK_PLAN_TREE, plans())
    assert has_item(db, made, "P3-2", day) is known
