"""The register of issues: folds, filters, regions then and now, rounds of review."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, cast

import pytest
from sqlalchemy import Connection, MetaData, create_engine

from services.issues.views.position import POSITION
from services.issues.views.register import REGISTER, list_issues, show_issue, show_review
from shared.contracts.envelope import Reason
from shared.contracts.issues import (
    DepartmentConsulted,
    DepartmentReminded,
    IssueRefused,
    JointReviewOpened,
    OpinionNotGiven,
    ReceiptIssued,
    RegionRef,
)
from shared.contracts.reference import RegionCodes, RegionRegistered, RegionSucceeded
from shared.runtime.declare import Absent, Named, Recorded, Request, Tables
from shared.runtime.directory import Directory
from tests.views.routing_walk import (
    BUDGET,
    CASE,
    OTHER,
    ROAD,
    Desk,
    Stream,
    at,
    interleaved,
    label,
    raised_event,
    rows,
    until,
    walk,
)

THIRD = "0187f8a0-0000-7000-8000-000000000003"


def folded_together(streams: Sequence[Sequence[Recorded]]) -> tuple[Connection, dict[str, Tables]]:
    """Register and position side by side, as in the service's own file."""
    metadata, made = MetaData(), {}
    for view in (REGISTER, POSITION):
        named = Named(view.name, 1, metadata)
        view.tables(named)
        made[view.name] = named.made
    db = create_engine("sqlite://").connect()
    metadata.create_all(db)
    for recorded in interleaved(streams, 3):
        for view in (REGISTER, POSITION):
            if recorded.source in view.sources:
                view.fold(db, made[view.name], recorded)
    return db, made


def desk(moment: datetime, streams: Any = None, **more: Any) -> Request:
    """A reader at that moment of the walk."""
    db, made = folded_together(until(walk() if streams is None else streams, moment))
    return cast(Request, Desk({name: (db, tables) for name, tables in made.items()}, moment, **more))


def ids(request: Request) -> list[str]:
    return [row.id for row in list_issues(request).rows]


@pytest.mark.parametrize("view", [REGISTER, POSITION], ids=lambda view: view.name)
@pytest.mark.parametrize("seed", range(1, 8))
def test_rows_are_equal_for_every_order_of_the_streams(view: Any, seed: int) -> None:
    assert rows(view, walk(), seed) == rows(view, walk(), 0)


def test_a_fold_tolerates_a_missing_predecessor() -> None:
    only_later = [stream[1:] for stream in walk() if len(stream) > 1]

    request = desk(at(12, 31), only_later)

    assert ids(request) == []
    with pytest.raises(Absent):
        show_issue(request, CASE)
    with pytest.raises(Absent):
        show_review(request, CASE, "1")


# One issue


@pytest.mark.capability("A5", "A6")
def test_T_1_docket_who_raised_and_who_wrote_it_down() -> None:
    answer, version = show_issue(desk(at(5, 8)), CASE)

    assert (answer.docket, answer.raised_by, answer.recorded_by) == ("2023-000001", "org-gangwon-hongcheon", "o1")
    assert (answer.state.code, answer.state.label.ko) == ("raised", "접수")
    assert (answer.raised_at, answer.accepted_at, version) == (at(5, 8), None, 2)


def test_T_4_T_38_state_follows_acceptance_and_closure() -> None:
    assert show_issue(desk(at(5, 9)), CASE)[0].state.code == "accepted"

    closed, version = show_issue(desk(at(12, 31)), CASE)

    assert (closed.state.code, closed.outcome and closed.outcome.code) == ("closed", "adopted_in_policy")
    assert (closed.ended_at, version) == (at(12, 21), 4)


@pytest.mark.capability("D9")
def test_T_5_I_8_a_refusal_shows_its_reason() -> None:
    issue = Stream("issues", "Issue", THIRD, THIRD)
    issue.add(at(5, 8), raised_event("국도", "gangwon", "42", "강원도", "org-gangwon-hongcheon"))
    issue.add(
        at(5, 9),
        IssueRefused(
            intake_body="council-gangwon",
            reason=Reason(code="incomplete", text="위치를 알 수 없습니다."),
            drafted_by="council-gangwon.secretary",
        ),
    )

    answer, _ = show_issue(desk(at(5, 10), [issue.events]), THIRD)

    assert (answer.state.code, answer.outcome and answer.outcome.code) == ("refused", "refused")
    assert answer.refusal == Reason(code="incomplete", text="위치를 알 수 없습니다.")


@pytest.mark.capability("C8", part="no succession of open cases in this issue")
def test_I_16_region_as_raised_and_as_it_is_today() -> None:
    [before] = show_issue(desk(at(5, 8)), CASE)[0].regions
    [after] = show_issue(desk(at(6, 11)), CASE)[0].regions

    assert (before.as_raised.code, before.today[0].code) == ("42", "42")
    assert (after.as_raised.code, after.as_raised.name) == ("42", "강원도")
    assert (after.today[0].code, after.today[0].name) == ("51", "강원특별자치도")


def test_where_the_case_is_stands_beside_the_issue() -> None:
    position = show_issue(desk(at(6, 20)), CASE)[0].position

    assert position is not None
    assert (position.stage.code, position.stage.label.ko) == ("R4", "지원단 논의")
    assert (position.body, position.due) == ("support-group", date(2023, 7, 13))
    ended = show_issue(desk(at(12, 31)), CASE)[0].position
    assert ended is not None
    assert (ended.stage.code, ended.body, ended.office, ended.due) == ("R9", None, None, None)


# Rounds


@pytest.mark.capability("D1", "D2", "D3")
def test_T_16_a_round_shows_departments_opinions_direction_and_conclusion() -> None:
    answer, version = show_review(desk(at(6, 15)), CASE, "1")

    assert [(it.department, it.lead, it.due, it.opinion and it.opinion.code) for it in answer.consultations] == [
        (ROAD, True, date(2023, 6, 12), "support_with_conditions"),
        (BUDGET, False, date(2023, 6, 12), "support"),
    ]
    assert answer.direction is not None
    assert (answer.direction.instruments, answer.direction_revision) == (("facility", "budget"), 1)
    assert (answer.state.code, answer.outcome and answer.outcome.code, answer.divergence) == (
        "concluded",
        "supportable",
        0.25,
    )
    assert version == 7
    [summary] = show_issue(desk(at(6, 15)), CASE)[0].reviews
    assert (summary.round, summary.departments, summary.answered) == (1, [ROAD, BUDGET], 2)


@pytest.mark.capability("D6", part="the breach is seen in the round; it is no event of its own")
def test_T_12b_a_round_shows_reminder_and_silence() -> None:
    review = Stream("issues", "JointReview", f"{THIRD}.1", THIRD)
    review.add(at(5, 24), JointReviewOpened(round=1, revision=1, body="planning-group", lead=None, proposed=()))
    review.add(at(5, 25), DepartmentConsulted(round=1, department=ROAD, lead=True, revision=1, due=date(2023, 6, 12)))
    review.add(at(6, 13), DepartmentReminded(round=1, department=ROAD, due=date(2023, 6, 16)))
    review.add(at(6, 19), OpinionNotGiven(round=1, department=ROAD))

    answer, _ = show_review(desk(at(6, 20), [review.events]), THIRD, "1")

    [asked] = answer.consultations
    assert (asked.due, asked.second_due) == (date(2023, 6, 12), date(2023, 6, 16))
    assert asked.opinion is not None
    assert (asked.opinion.code, asked.opinion.label.ko, answer.lead) == ("not_given", "미제출", ROAD)


def test_a_round_that_does_not_exist() -> None:
    with pytest.raises(Absent):
        show_review(desk(at(6, 15)), CASE, "2")


# The list


def test_newest_first_page_by_page() -> None:
    first = list_issues(desk(at(12, 31), limit=1))

    assert [row.id for row in first.rows] == [CASE]
    assert first.after is not None
    second = list_issues(desk(at(12, 31), limit=1, after=tuple(first.after)))
    assert [row.id for row in second.rows] == [OTHER]
    assert second.after is not None
    assert list_issues(desk(at(12, 31), limit=1, after=tuple(second.after))).rows == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"region": "gangwon"}, [CASE]),
        ({"region": "51"}, [CASE]),
        ({"region": "none"}, []),
        ({"state": "raised"}, [OTHER]),
        ({"state": "closed", "plan_item": "P3-2"}, [CASE]),
        ({"plan_item": "P1"}, []),
        ({"raised_by": "org-gyeonggi"}, [OTHER]),
    ],
)
def test_filters(query: dict[str, str], expected: list[str]) -> None:
    assert ids(desk(at(12, 31), query=query)) == expected


@pytest.mark.capability("I1", part="regions of raisers and scopes of the policy table; no confidentiality levels")
def test_I_9_a_raising_office_sees_its_region_and_what_is_nationwide() -> None:
    nationwide = Stream("issues", "Issue", THIRD, THIRD)
    raised = raised_event("전국 건의", "gyeonggi", "41", "경기도", "org-gyeonggi")
    nationwide.add(at(5, 9), raised.model_copy(update={"nationwide": True, "regions": ()}))
    nationwide.add(at(5, 9), ReceiptIssued(docket="2023-000002", issued_to="org-gyeonggi"))
    streams = [*walk(), nationwide.events]

    assert ids(desk(at(12, 31), streams, office="org-gyeonggi.officer")) == [THIRD, OTHER]
    assert ids(desk(at(12, 31), streams, office="org-gangwon-hongcheon.officer")) == [THIRD, CASE]
    assert ids(desk(at(12, 31), streams)) == [THIRD, CASE, OTHER]


def test_I_1_several_regions_keep_their_order_and_each_finds_the_issue() -> None:
    issue = Stream("issues", "Issue", THIRD, THIRD)
    raised = raised_event("광역철도", "gyeonggi", "41", "경기도", "org-gyeonggi")
    both = (*raised.regions, RegionRef(region="gangwon", code="42", name="강원도"))
    issue.add(at(5, 9), raised.model_copy(update={"regions": both}))

    [row] = list_issues(desk(at(5, 10), [issue.events], query={"region": "gangwon"})).rows

    assert [region.region for region in row.regions] == ["gyeonggi", "gangwon"]


@pytest.mark.capability("C8", part="no succession of open cases in this issue")
def test_I_16_an_issue_of_a_region_that_ended_is_found_under_its_successor() -> None:
    issue = Stream("issues", "Issue", THIRD, THIRD)
    issue.add(at(5, 9), raised_event("광주 건의", "gwangju", "29", "광주광역시", "org-gwangju"))
    merger = date(2026, 7, 1)
    codes = RegionCodes(mois="29"), RegionCodes(mois="12")
    facts = [
        RegionRegistered(
            region="gwangju", codes=codes[0], name=label("광주광역시"), valid_from=date(2020, 1, 1), source="S"
        ),
        RegionRegistered(
            region="jeonnam-gwangju", codes=codes[1], name=label("전남광주"), valid_from=merger, source="S"
        ),
        RegionSucceeded(region="gwangju", successors=("jeonnam-gwangju",), valid_from=merger, source="V"),
    ]

    request = desk(at(7, 1, year=2026), [issue.events], query={"region": "jeonnam-gwangju"})
    cast(Any, request).directory = Directory(facts)
    [row] = list_issues(request).rows

    [region] = row.regions
    assert (region.as_raised.code, [it.code for it in region.today]) == ("29", ["12"])
