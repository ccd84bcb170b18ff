"""Which cases wait before a body, and on whose agenda they stand."""

from __future__ import annotations

from datetime import date

import pytest

from services.meetings.views.waiting_list import (
    WAITING_LIST,
    CaseSeen,
    Placement,
    WaitingCase,
    cases_seen,
    titles_of,
    waiting_cases,
)
from shared.contracts.envelope import Reason
from shared.contracts.issues import ReceiptIssued
from shared.contracts.meetings import (
    AgendaItemPlaced,
    CharterRef,
    ItemClosed,
    ItemOpened,
    MeetingHeld,
    MeetingOpened,
    MeetingPlanned,
)
from shared.contracts.routing import (
    CaseClosed,
    CaseOpened,
    CaseRouted,
    DeadlineChanged,
    EscalatedToSupportGroup,
)
from shared.runtime.declare import Recorded
from tests.views.routing_walk import Stream, at, folded, held_by, raised_event, rows

BODY = "council-gangwon"
DAY = date(2023, 5, 24)
CHARTER = CharterRef(charter="charter", version=1, quorum=1, method="chair_after_hearing")


def issue(case_id: str) -> Stream:
    """A county's suggestion with its docket."""
    stream = Stream("issues", "Issue", case_id, case_id)
    stream.add(at(5, 8), raised_event(f"Road of {case_id}", "gangwon", "42", "강원도", "org-gangwon-hongcheon"))
    stream.add(at(5, 8), ReceiptIssued(docket=f"2023-{case_id}", issued_to="org-gangwon-hongcheon"))
    return stream


def case(case_id: str, due: date = date(2023, 6, 8)) -> Stream:
    """A case that has reached the council's floor."""
    stream = Stream("routing", "Case", case_id, case_id)
    intake = held_by("intake", BODY, "secretary", date(2023, 5, 11), "completeness")
    stream.add(at(5, 8), CaseOpened(holding=intake, regions=(), raised_by="org-gangwon-hongcheon"))
    floor = held_by("at_body", BODY, "secretary", due, "council_placement", "R2")
    stream.add(at(5, 9), CaseRouted(from_body=BODY, holding=floor, cause="event-1"))
    return stream


def sitting(meeting_id: str, *cases: str, day: date = DAY) -> Stream:
    """A planned sitting with these cases on its agenda."""
    stream = Stream("meetings", "Meeting", meeting_id)
    stream.add(at(5, 10), MeetingPlanned(body=BODY, day=day, place="Chuncheon", form="on_site"))
    for number, case_id in enumerate(cases, start=1):
        stream.add(at(5, 15), AgendaItemPlaced(item=number, kind="case", case_id=case_id))
    return stream


def opened(meeting: Stream) -> Stream:
    """The sitting in session with its first item called."""
    meeting.add(at(5, 24), MeetingOpened(body=BODY, charter=CHARTER))
    meeting.add(at(5, 24), ItemOpened(item=1, case_id=None))
    return meeting


def ended(meeting: Stream, result: str) -> Stream:
    """The sitting held, its first item closed with this result."""
    opened(meeting).add(at(5, 24), ItemClosed.model_validate({"item": 1, "case_id": None, "result": result}))
    meeting.add(at(5, 24), MeetingHeld(body=BODY, items_decided=0, items_undecided=1))
    return meeting


def waiting(*streams: Stream, today: date = DAY, body: str = BODY) -> list[WaitingCase]:
    """The waiting list after these streams."""
    db, made = folded(WAITING_LIST, [stream.events for stream in streams])
    return waiting_cases(db, made, body, today, 50, None)


def everything() -> list[list[Recorded]]:
    """Three cases: one waits, one is placed, one has moved on; one sitting held and one planned."""
    moved = case("case-3")
    moved.add(at(6, 1), CaseClosed(from_body=BODY, outcome="resolved_on_site", cause="event-2"))
    streams = [issue("case-1"), issue("case-2"), case("case-1"), case("case-2"), moved]
    meetings = [ended(sitting("meeting-1", "case-1"), "undecided"), sitting("meeting-2", "case-2")]
    return [stream.events for stream in (*streams, *meetings)]


@pytest.mark.parametrize("seed", range(1, 8))
def test_rows_are_equal_for_every_order_of_the_streams(seed: int) -> None:
    assert rows(WAITING_LIST, everything(), seed) == rows(WAITING_LIST, everything(), 0)


@pytest.mark.capability("E3", part="ordered by due date; no proposal engine")
def test_a_case_before_a_body_waits_with_title_docket_and_date() -> None:
    (row,) = waiting(issue("case-1"), case("case-1"))
    assert (row.case_id, row.title, row.docket) == ("case-1", "Road of case-1", "2023-case-1")
    assert (row.tier, row.due, row.placed) == ("R2", date(2023, 6, 8), None)


def test_the_next_due_comes_first_and_pages_follow_on() -> None:
    streams = [case("case-1", date(2023, 6, 20)), case("case-2", date(2023, 6, 8)), case("case-3", date(2023, 6, 8))]
    db, made = folded(WAITING_LIST, [stream.events for stream in streams])
    first = waiting_cases(db, made, BODY, DAY, 2, None)
    rest = waiting_cases(db, made, BODY, DAY, 2, (first[-1].due.isoformat(), first[-1].case_id))
    assert [row.case_id for row in (*first, *rest)] == ["case-2", "case-3", "case-1"]


def test_a_case_at_intake_does_not_wait_for_a_sitting() -> None:
    at_intake = case("case-1")
    del at_intake.events[1:]
    assert waiting(at_intake) == []


def test_a_changed_deadline_changes_the_place_in_the_list() -> None:
    later = case("case-1")
    reason = Reason(code="postpone_next", text="Papers are missing.")
    later.add(
        at(5, 24),
        DeadlineChanged(
            body=BODY, office=f"{BODY}.secretary", due=date(2023, 6, 28), clock="decision", reason=reason, cause="e"
        ),
    )
    (row,) = waiting(later)
    assert row.due == date(2023, 6, 28)


def test_a_placed_case_tells_its_sitting() -> None:
    (row,) = waiting(case("case-1"), sitting("meeting-1", "case-1"))
    assert row.placed == Placement(meeting_id="meeting-1", item=1, day=DAY)


def test_a_case_under_deliberation_is_still_placed() -> None:
    (row,) = waiting(case("case-1"), opened(sitting("meeting-1", "case-1")))
    assert row.placed is not None


@pytest.mark.parametrize("result", ["undecided", "decided"])
def test_a_case_whose_item_was_closed_waits_again_while_it_stays(result: str) -> None:
    (row,) = waiting(case("case-1"), ended(sitting("meeting-1", "case-1"), result))
    assert row.placed is None


def test_a_sitting_that_never_opened_lapses_with_its_agenda() -> None:
    (row,) = waiting(case("case-1"), sitting("meeting-1", "case-1"), today=date(2023, 5, 25))
    assert row.placed is None


def test_of_several_sittings_the_next_is_told() -> None:
    later = sitting("meeting-2", "case-1", day=date(2023, 6, 21))
    (row,) = waiting(case("case-1"), later, sitting("meeting-1", "case-1"))
    assert row.placed is not None
    assert row.placed.meeting_id == "meeting-1"


def test_a_case_that_moved_on_waits_at_its_new_body_only() -> None:
    moved = case("case-1")
    holding = held_by("at_body", "support-group", "secretary", date(2023, 7, 13), "support_placement", "R4")
    moved.add(
        at(6, 15),
        EscalatedToSupportGroup(
            from_body="planning-group",
            holding=holding,
            documents=(),
            reason=Reason(code="above_thresholds", text="Above band C."),
            cause="event-2",
        ),
    )
    placed_before = sitting("meeting-1", "case-1")
    assert waiting(moved, placed_before) == []
    (row,) = waiting(moved, placed_before, body="support-group")
    assert (row.body, row.placed) == ("support-group", None)


def test_a_closed_case_waits_nowhere() -> None:
    closed = case("case-1")
    closed.add(at(6, 1), CaseClosed(from_body=BODY, outcome="resolved_on_site", cause="event-2"))
    assert waiting(closed) == []


def test_what_the_gateway_asks_of_cases() -> None:
    db, made = folded(WAITING_LIST, everything())
    assert cases_seen(db, made, ["case-1", "case-9"]) == {
        "case-1": CaseSeen(case_id="case-1", state="at_body", body=BODY, version=2)
    }
    assert titles_of(db, made, ["case-1", "case-3"]) == {"case-1": "Road of case-1"}
