"""What a body, a department or an office has to do now."""

from __future__ import annotations

from datetime import date
from typing import Any, cast

import pytest

from services.routing.views.work_queue import VIEW, WorkAnswer, page
from shared.contracts.issues import DepartmentConsulted, DepartmentReminded, OpinionNotGiven
from shared.contracts.routing import CaseClosed, CaseRouted, CaseUnrouted, MoveRefused
from shared.runtime.declare import Request
from tests.views.routing_walk import (
    BUDGET,
    CASE,
    OTHER,
    ROAD,
    Desk,
    Stream,
    at,
    folded,
    held_by,
    rows,
    until,
    walk,
)


def queue(moment: Any, streams: Any = None, office: str = "planning-group.secretary", **more: Any) -> list[WorkAnswer]:
    """The queue as that office sees it at that moment."""
    seen = until(streams or walk(), moment)
    desk = Desk({VIEW.name: folded(VIEW, seen)}, moment, office, **more)
    return cast(list[WorkAnswer], page(cast(Request, desk)).rows)


def refused_move() -> Stream:
    """A case at the council's floor, for which a late decision moved nothing."""
    case = Stream("routing", "Case", CASE, CASE)
    case.events = walk()[1][:2]
    case.add(
        at(5, 20),
        MoveRefused(
            rule="T-11",
            ko="이미 다른 단계에 있습니다.",
            en="It has left that stage.",
            body="council-gangwon",
            cause="Meeting.x.5",
            cause_type="DecisionRecorded",
        ),
    )
    return case


@pytest.mark.parametrize("seed", range(1, 8))
def test_rows_are_equal_for_every_order_of_the_streams(seed: int) -> None:
    assert rows(VIEW, walk(), seed) == rows(VIEW, walk(), 0)


@pytest.mark.capability("J2", part="by body, department and office; not by person, and no dashboards")
def test_I_22_the_most_urgent_first_with_office_and_date() -> None:
    found = queue(at(5, 10))

    assert [(work.case_id, work.office and work.office.id, work.due) for work in found] == [
        (OTHER, "council-gyeonggi.secretary", date(2023, 5, 4)),
        (CASE, "council-gangwon.secretary", date(2023, 6, 8)),
    ]
    assert [work.overdue for work in found] == [True, False]
    assert [(work.stage, work.todo.en) for work in found] == [
        ("R1", "Check the suggestion; accept or refuse it"),
        ("R2", "Put on the agenda and decide"),
    ]


def test_T_12_a_consulted_department_has_it_until_it_gave_its_opinion() -> None:
    during, after = queue(at(6, 2), query={"kind": "consultation"}), queue(at(6, 8), query={"kind": "consultation"})

    assert [(work.body.id, work.due, work.lead) for work in during] == [(BUDGET, date(2023, 6, 12), False)]
    assert after == []


def test_T_12a_T_12b_a_reminder_moves_the_date_and_silence_ends_it() -> None:
    review = Stream("issues", "JointReview", f"{CASE}.1", CASE)
    review.add(at(5, 25), DepartmentConsulted(round=1, department=ROAD, lead=True, revision=1, due=date(2023, 6, 12)))
    review.add(at(6, 13), DepartmentReminded(round=1, department=ROAD, due=date(2023, 6, 16)))
    review.add(at(6, 19), OpinionNotGiven(round=1, department=ROAD))

    reminded = queue(at(6, 13), [review.events], query={"department": ROAD})
    assert [(work.due, work.reminded, work.clock) for work in reminded] == [(date(2023, 6, 16), True, "reminder")]
    assert queue(at(6, 19), [review.events]) == []


def test_T_16_the_conclusion_of_a_round_ends_what_is_left_of_it() -> None:
    streams = walk()
    review = [event for event in streams[2] if event.type != "OpinionGiven"]

    assert queue(at(6, 14), [review]) != []
    assert queue(at(6, 15), [review]) == []


@pytest.mark.capability("B4")
def test_T_8_T_9_an_unrouted_case_stands_in_triage_until_it_is_assigned() -> None:
    case = Stream("routing", "Case", CASE, CASE)
    desk = held_by("unrouted", "triage-desk", "desk", date(2023, 5, 9), "triage")
    case.add(at(5, 8), CaseUnrouted(from_body=None, holding=desk, next_step="intake", cause="Issue.x.1"))
    council = held_by("intake", "council-gangwon", "secretary", date(2023, 5, 12), "completeness")
    case.add(at(5, 9), CaseRouted(from_body="triage-desk", holding=council, override=True, cause="Case.x.1"))

    before, after = queue(at(5, 8), [case.events]), queue(at(5, 9), [case.events])
    assert [(work.kind, work.office and work.office.id, work.stage) for work in before] == [
        ("triage", "triage-desk.desk", "R0")
    ]
    assert [(work.kind, work.body.id) for work in after] == [("holding", "council-gangwon")]


def test_rule_b_a_refused_move_is_told_to_the_secretary_until_the_case_next_moves() -> None:
    case = refused_move()
    told = queue(at(5, 20), [case.events], query={"kind": "move_refused", "office": "council-gangwon.secretary"})
    assert [(work.rule, work.todo.en) for work in told] == [("T-11", "It has left that stage.")]

    case.add(at(5, 24), CaseClosed(from_body="council-gangwon", outcome="resolved_on_site", cause="Meeting.x.9"))
    assert queue(at(5, 24), [case.events]) == []


def test_an_office_sees_what_is_named_to_it_and_what_falls_to_it() -> None:
    reviewer, secretary = {"office": f"{ROAD}.reviewer"}, {"office": "planning-group.secretary"}

    assert [work.kind for work in queue(at(5, 26), query=reviewer)] == ["consultation"]
    assert [work.kind for work in queue(at(5, 26), query=secretary)] == ["holding"]
    assert [work.stage for work in queue(at(9, 13), query=reviewer)] == ["R7"]
    assert queue(at(5, 26), query={"office": "nobody"}) == []


def test_I_17_a_changed_date_moves_the_row() -> None:
    assert [work.due for work in queue(at(10, 20), query={"department": ROAD})] == [date(2023, 12, 29)]


def test_a_raising_organisation_sees_its_own_work_only() -> None:
    assert queue(at(5, 10), office="org-gangwon-hongcheon.officer") == []


def test_pages_follow_one_another_without_gap_or_repeat() -> None:
    seen = until(walk(), at(5, 26))
    whole = [work.id for work in queue(at(5, 26))]
    found: list[str] = []
    after: tuple[Any, ...] | None = None
    for _ in whole:
        desk = Desk({VIEW.name: folded(VIEW, seen)}, at(5, 26), limit=1, after=after)
        part = page(cast(Request, desk))
        found += [work.id for work in part.rows]
        after = tuple(part.after or ())

    assert found == whole
    assert len(whole) == 4
