"""A sitting as it reads afterwards: agenda, attendance, statements, deliberation, decision."""

from __future__ import annotations

from datetime import date

import pytest

from services.meetings.views.meeting_file import (
    CODES,
    MEETING_FILE,
    MeetingFile,
    meeting_file,
    meeting_rows,
    with_titles,
)
from shared.contracts.codes import DecisionCode, Stance
from shared.contracts.meetings import (
    AgendaItemPlaced,
    AttendanceRecorded,
    CharterRef,
    DecisionFields,
    DecisionRecorded,
    DeliberationConcluded,
    ItemClosed,
    ItemOpened,
    MeetingHeld,
    MeetingOpened,
    MeetingPlanned,
    QuorumEstablished,
    StatementRecorded,
)
from shared.runtime.declare import Recorded
from tests.views.routing_walk import Stream, at, folded, rows

CHARTER = CharterRef(charter="charter", version=1, quorum=2, method="chair_after_hearing")


def sitting(meeting_id: str, body: str, day: date) -> Stream:
    """A planned sitting with one case."""
    stream = Stream("meetings", "Meeting", meeting_id)
    stream.add(at(8, 29), MeetingPlanned(body=body, day=day, place="Sejong", form="on_site"))
    stream.add(at(8, 29), AgendaItemPlaced(item=1, kind="case", case_id="case-1", policy_id="policy-1"))
    return stream


def statement(seat: str, stance: Stance) -> StatementRecorded:
    """A member's position on item 1."""
    return StatementRecorded(item=1, case_id="case-1", seat=seat, field="land", stance=stance, text="A view.")


def held(meeting_id: str) -> Stream:
    """A forum sitting from its planning to its end."""
    stream = sitting(meeting_id, "forum", date(2023, 9, 12))
    decision = DecisionRecorded(
        decision=f"{meeting_id}.1",
        body="forum",
        item=1,
        case_id="case-1",
        code="adopt",
        method="chair_after_hearing",
        clause="Charter art. 5",
        fields=DecisionFields(policy_id="policy-1", owner="dept-road", review_date=date(2024, 9, 12)),
    )
    advice = DeliberationConcluded(
        item=1, case_id="case-1", advice="for", fields_heard=("land",), fields_not_heard=("city",), text="Summary."
    )
    for event in (
        MeetingOpened(body="forum", charter=CHARTER),
        AttendanceRecorded(present=("seat-1", "seat-2"), absent=("seat-3",)),
        QuorumEstablished(present=2, required=2),
        ItemOpened(item=1, case_id="case-1"),
        statement("seat-2", "for"),
        statement("seat-1", "with_conditions"),
        advice,
        decision,
        ItemClosed(item=1, case_id="case-1", result="decided"),
        MeetingHeld(body="forum", items_decided=1, items_undecided=0),
    ):
        stream.add(at(9, 12), event)
    return stream


def everything() -> list[list[Recorded]]:
    """One sitting held, two planned."""
    planned = (
        sitting("meeting-2", "council-gangwon", date(2023, 9, 20)),
        sitting("meeting-3", "forum", date(2023, 10, 4)),
    )
    return [stream.events for stream in (held("meeting-1"), *planned)]


def read(*streams: Stream, meeting_id: str = "meeting-1") -> tuple[MeetingFile, int]:
    """The file of a sitting."""
    db, made = folded(MEETING_FILE, [stream.events for stream in streams])
    found = meeting_file(db, made, meeting_id)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(1, 8))
def test_rows_are_equal_for_every_order_of_the_streams(seed: int) -> None:
    assert rows(MEETING_FILE, everything(), seed) == rows(MEETING_FILE, everything(), 0)


def test_a_planned_sitting_shows_its_agenda_and_nothing_more() -> None:
    file, version = read(sitting("meeting-1", "forum", date(2023, 9, 12)))
    assert version == 2
    assert (file.phase, file.charter, file.present, file.quorum) == ("planned", None, (), None)
    (item,) = file.agenda
    assert (item.state, item.policy_id, item.statements, item.decision) == ("placed", "policy-1", (), None)


@pytest.mark.capability("E8")
def test_a_held_sitting_shows_who_attended_what_was_said_and_what_was_decided() -> None:
    file, version = read(held("meeting-1"))
    assert version == 12
    assert (file.phase, file.present, file.absent) == ("held", ("seat-1", "seat-2"), ("seat-3",))
    assert file.charter == CHARTER
    assert file.quorum is not None
    assert (file.quorum.present, file.quorum.required) == (2, 2)
    (item,) = file.agenda
    assert item.state == "decided"
    assert [(said.seat, said.stance) for said in item.statements] == [("seat-2", "for"), ("seat-1", "with_conditions")]
    assert item.deliberation is not None
    assert (item.deliberation.advice, item.deliberation.fields_not_heard) == ("for", ("city",))
    assert item.decision is not None
    assert (item.decision.code, item.decision.code_label.ko, item.decision.decided_by) == ("adopt", "채택", "o1")
    assert item.decision.decision_event == "Meeting.meeting-1.10"
    assert item.decision.fields.review_date == date(2024, 9, 12)


def test_attendance_recorded_again_without_quorum_shows_none() -> None:
    stream = sitting("meeting-1", "forum", date(2023, 9, 12))
    stream.add(at(9, 12), AttendanceRecorded(present=("seat-1", "seat-2"), absent=()))
    stream.add(at(9, 12), QuorumEstablished(present=2, required=2))
    stream.add(at(9, 12), AttendanceRecorded(present=("seat-1",), absent=("seat-2",)))
    assert read(stream)[0].quorum is None


def test_titles_come_from_another_source() -> None:
    file, _ = read(held("meeting-1"))
    assert with_titles(file, {"case-1": "Road"}).agenda[0].title == "Road"
    assert with_titles(file, {}).agenda[0].title is None


def test_a_sitting_not_heard_of_has_no_file() -> None:
    db, made = folded(MEETING_FILE, everything())
    assert meeting_file(db, made, "meeting-9") is None


def test_sittings_are_listed_by_day_the_latest_first_and_pages_follow_on() -> None:
    db, made = folded(MEETING_FILE, everything())
    first = meeting_rows(db, made, None, 2, None)
    rest = meeting_rows(db, made, None, 2, (first[-1].day.isoformat(), first[-1].meeting_id))
    assert [row.meeting_id for row in (*first, *rest)] == ["meeting-3", "meeting-2", "meeting-1"]
    assert [row.items for row in first] == [1, 1]


def test_sittings_of_one_body_are_listed() -> None:
    db, made = folded(MEETING_FILE, everything())
    assert [row.meeting_id for row in meeting_rows(db, made, "forum", 50, None)] == ["meeting-3", "meeting-1"]


def test_every_decision_code_has_its_korean_term() -> None:
    from typing import get_args

    assert set(CODES) == set(get_args(DecisionCode))
