"""Rules of a sitting: planning, agenda, quorum, statements, deliberation, decisions, closing."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest

from services.meetings.meeting import (
    BUILT,
    MEETING,
    CloseItem,
    CloseMeeting,
    ConcludeDeliberation,
    OpenItem,
    OpenMeeting,
    PlaceAgendaItem,
    PlanMeeting,
    PolicySeen,
    RecordAttendance,
    RecordDecision,
    RecordStatement,
    Waiting,
)
from shared.contracts.codes import DecisionCode, Stance
from shared.contracts.envelope import Actor, Authority, Event, Reason
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
    Source,
    StatementRecorded,
)
from shared.contracts.reference import CharterAdopted
from shared.decider import fold
from shared.testing import given

SEOUL = ZoneInfo("Asia/Seoul")
CASE, OTHER_CASE, POLICY_ID = "case-1", "case-2", "policy-1"
COUNCIL_DAY, FORUM_DAY = date(2023, 5, 24), date(2023, 9, 12)


def act(office: str, day: date, rule: str = "T-10") -> dict[str, Any]:
    """``by``, ``at`` and ``authority`` of an office's act on a day."""
    return {
        "by": Actor(user="subject-1", office=office, body=office.rsplit(".", 1)[0]),
        "at": datetime(day.year, day.month, day.day, 10, tzinfo=SEOUL),
        "authority": Authority(rule=rule),
    }


CS = act("council-gangwon.secretary", COUNCIL_DAY)
CC = act("council-gangwon.chair", COUNCIL_DAY)
SS = act("support-group.secretary", COUNCIL_DAY)
FS = act("forum.secretary", FORUM_DAY)
MIN = act("forum.chair", FORUM_DAY)


def charter(body: str, quorum: int, *codes: DecisionCode, version: int = 1) -> CharterAdopted:
    """A charter of a body."""
    return CharterAdopted(
        body=body,
        charter=f"{body}-charter",
        version=version,
        quorum=quorum,
        method="chair_after_hearing",
        codes=codes,
        notice_days=7,
        decision_clause="Charter art. 5",
        valid_from=date(2022, 8, 1),
        source="M",
    )


def ref(adopted: CharterAdopted) -> CharterRef:
    """How a meeting names its charter."""
    return CharterRef(charter=adopted.charter, version=adopted.version, quorum=adopted.quorum, method=adopted.method)


COUNCIL = charter(
    "council-gangwon", 2, "take_for_review", "resolved_on_site", "noted", "postpone_next", "defer", "withdrawn"
)
GROUP = charter("council-gangwon", 2, "resolved", "escalate", "return_for_review", "not_adopt")
FORUM = charter("forum", 3, "adopt", "adopt_amended", "noted", "postpone_next")
SEATS = ("seat-chair", "seat-road", "seat-rail")
FORUM_SEATS = ("seat-1", "seat-2", "seat-3", "seat-4")
FIELDS = ("city", "environment", "land", "transportation")
SOURCES = (Source(kind="issue", ref=CASE),)
ADOPTION = DecisionFields(
    policy_id=POLICY_ID,
    policy_revision=1,
    policy_hash="abc",
    sources=SOURCES,
    owner="dept-road",
    review_date=date(2024, 9, 12),
)
DRAFT = PolicySeen(policy_id=POLICY_ID, drafted=True, revision=1, text_hash="abc", sources=SOURCES)

# Fixtures, each named after a state and built from the one before.

PLANNED: tuple[Event, ...] = (
    MeetingPlanned(body="council-gangwon", day=COUNCIL_DAY, place="Chuncheon", form="on_site"),
)
WITH_ITEM = (*PLANNED, AgendaItemPlaced(item=1, kind="case", case_id=CASE))
IN_SESSION = (*WITH_ITEM, MeetingOpened(body="council-gangwon", charter=ref(COUNCIL)))
ATTENDED = (
    *IN_SESSION,
    AttendanceRecorded(present=("seat-chair", "seat-road"), absent=("seat-rail",)),
    QuorumEstablished(present=2, required=2),
)
ITEM_OPEN = (*ATTENDED, ItemOpened(item=1, case_id=CASE))
TAKEN_FOR_REVIEW = DecisionRecorded(
    decision="meeting-1.1",
    body="council-gangwon",
    item=1,
    case_id=CASE,
    code="take_for_review",
    method="chair_after_hearing",
    clause="Charter art. 5",
    fields=DecisionFields(),
)
DECIDED = (*ITEM_OPEN, TAKEN_FOR_REVIEW)
ITEM_CLOSED = (*DECIDED, ItemClosed(item=1, case_id=CASE, result="decided"))
HELD = (*ITEM_CLOSED, MeetingHeld(body="council-gangwon", items_decided=1, items_undecided=0))

FORUM_ITEM_OPEN: tuple[Event, ...] = (
    MeetingPlanned(body="forum", day=FORUM_DAY, place="Sejong", form="on_site"),
    AgendaItemPlaced(item=1, kind="case", case_id=CASE, policy_id=POLICY_ID),
    MeetingOpened(body="forum", charter=ref(FORUM)),
    AttendanceRecorded(present=("seat-1", "seat-2", "seat-3"), absent=("seat-4",)),
    QuorumEstablished(present=3, required=3),
    ItemOpened(item=1, case_id=CASE),
)


def said(seat: str, field: str, stance: Stance) -> StatementRecorded:
    """A statement that stands in the stream."""
    return StatementRecorded(item=1, case_id=CASE, seat=seat, field=field, stance=stance, text="A view.")


HEARD = (
    *FORUM_ITEM_OPEN,
    said("seat-1", "land", "for"),
    said("seat-2", "city", "for"),
    said("seat-3", "transportation", "with_conditions"),
)


def advised(advice: Any) -> DeliberationConcluded:
    """A deliberation that ended with this advice."""
    return DeliberationConcluded(
        item=1,
        case_id=CASE,
        advice=advice,
        fields_heard=("city", "land", "transportation"),
        fields_not_heard=("environment",),
        text="Summary.",
    )


DELIBERATED = (*HEARD, advised("for"))


def decide(
    code: DecisionCode, fields: DecisionFields | None = None, under: CharterAdopted = COUNCIL, **facts: Any
) -> RecordDecision:
    """The council's decision on item 1."""
    values: dict[str, Any] = {
        **CC,
        "code": code,
        "fields": fields or DecisionFields(),
        "meeting_id": "meeting-1",
        "item": 1,
        "chair": "council-gangwon.chair",
        "charter": under,
    }
    return RecordDecision(**{**values, **facts})


def adopt(fields: DecisionFields = ADOPTION, **facts: Any) -> RecordDecision:
    """The Minister's adoption of the policy on item 1."""
    values: dict[str, Any] = {"chair": "forum.chair", "owner_kind": "department", "policy": DRAFT, **MIN}
    return decide("adopt", fields, FORUM, **{**values, **facts})


# PlanMeeting


def plan(**changes: Any) -> PlanMeeting:
    return PlanMeeting(**{**CS, "body": "council-gangwon", "day": COUNCIL_DAY, "place": "Chuncheon", **changes})


def test_a_secretary_plans_a_sitting() -> None:
    given(MEETING).when(plan()).then(*PLANNED)


def test_a_planned_sitting_is_not_planned_differently() -> None:
    given(MEETING, *PLANNED).when(plan(place="Wonju")).refused("T-10")


def test_a_sitting_is_not_planned_for_a_past_day() -> None:
    given(MEETING).when(plan(day=date(2023, 5, 23))).refused("T-10")


def test_I_9_a_secretary_plans_for_the_own_body_only() -> None:
    assert given(MEETING).when(plan(**SS)).refused("I-9").kind == "authority"


# PlaceAgendaItem

WAITING = Waiting(body="council-gangwon", case_version=2)


def place(**changes: Any) -> PlaceAgendaItem:
    return PlaceAgendaItem(**{**CS, "case_id": CASE, "waiting": WAITING, **changes})


def test_a_waiting_case_is_placed() -> None:
    given(MEETING, *PLANNED).when(place()).then(AgendaItemPlaced(item=1, kind="case", case_id=CASE))


def test_items_are_numbered_in_their_order() -> None:
    given(MEETING, *WITH_ITEM).when(place(case_id=OTHER_CASE)).then(
        AgendaItemPlaced(item=2, kind="case", case_id=OTHER_CASE)
    )


def test_an_item_may_be_placed_while_the_sitting_goes_on() -> None:
    given(MEETING, *IN_SESSION).when(place(case_id=OTHER_CASE)).then(
        AgendaItemPlaced(item=2, kind="case", case_id=OTHER_CASE)
    )


def test_a_case_that_is_not_waiting_is_not_placed() -> None:
    given(MEETING, *PLANNED).when(place(waiting=None)).refused("T-10")


def test_a_case_that_waits_for_another_body_is_not_placed() -> None:
    elsewhere = Waiting(body="support-group", case_version=4)
    given(MEETING, *PLANNED).when(place(waiting=elsewhere)).refused("T-10")


def test_a_case_stands_once_on_an_agenda() -> None:
    given(MEETING, *WITH_ITEM).when(place(policy_id=POLICY_ID, policy=DRAFT)).refused("T-10")


def test_nothing_is_placed_after_the_sitting_was_held() -> None:
    given(MEETING, *HELD).when(place(case_id=OTHER_CASE)).refused("T-10")


def test_nothing_is_placed_on_a_sitting_that_was_never_planned() -> None:
    assert given(MEETING).when(place()).refused("absent").kind == "absent"


def test_I_9_another_body_places_nothing_here() -> None:
    given(MEETING, *PLANNED).when(place(**SS)).refused("I-9")


def test_a_draft_is_placed_with_the_case_it_follows_from() -> None:
    given(MEETING, *PLANNED).when(place(policy_id=POLICY_ID, policy=DRAFT)).then(
        AgendaItemPlaced(item=1, kind="case", case_id=CASE, policy_id=POLICY_ID)
    )


@pytest.mark.parametrize(
    "policy",
    [
        None,
        PolicySeen(policy_id=POLICY_ID, drafted=False, revision=1, text_hash="abc", sources=SOURCES),
        PolicySeen(
            policy_id=POLICY_ID,
            drafted=True,
            revision=1,
            text_hash="abc",
            sources=(Source(kind="issue", ref=OTHER_CASE),),
        ),
    ],
    ids=["unknown", "adopted already", "of another case"],
)
def test_I_12_no_other_policy_is_placed_with_a_case(policy: PolicySeen | None) -> None:
    given(MEETING, *PLANNED).when(place(policy_id=POLICY_ID, policy=policy)).refused("I-12")


# OpenMeeting


def open_meeting(**changes: Any) -> OpenMeeting:
    return OpenMeeting(**{**CC, "charter": COUNCIL, **changes})


def test_I_10_a_sitting_opens_under_the_charter_of_its_day() -> None:
    given(MEETING, *WITH_ITEM).when(open_meeting()).then(MeetingOpened(body="council-gangwon", charter=ref(COUNCIL)))


def test_I_10_a_sitting_opens_on_its_day_only() -> None:
    the_day_before = act("council-gangwon.chair", date(2023, 5, 23))
    given(MEETING, *WITH_ITEM).when(open_meeting(**the_day_before)).refused("I-10")


def test_I_10_without_a_valid_charter_no_sitting_opens() -> None:
    given(MEETING, *WITH_ITEM).when(open_meeting(charter=None)).refused("I-10")


def test_a_held_sitting_does_not_open_again() -> None:
    given(MEETING, *HELD).when(open_meeting()).refused("T-10")


def test_I_9_the_chair_of_another_body_opens_nothing_here() -> None:
    given(MEETING, *WITH_ITEM).when(open_meeting(**act("support-group.chair", COUNCIL_DAY))).refused("I-9")


def test_a_sitting_that_was_never_planned_does_not_open() -> None:
    given(MEETING).when(open_meeting()).refused("absent")


# RecordAttendance


def attendance(*present: str, absent: tuple[str, ...] = (), **changes: Any) -> RecordAttendance:
    return RecordAttendance(**{**CS, "present": present, "absent": absent, "members": SEATS, **changes})


def test_I_10_quorum_is_established_with_the_attendance_that_reaches_it() -> None:
    given(MEETING, *IN_SESSION).when(attendance("seat-chair", "seat-road")).then(
        AttendanceRecorded(present=("seat-chair", "seat-road"), absent=("seat-rail",)),
        QuorumEstablished(present=2, required=2),
    )


def test_I_10_too_few_members_make_no_quorum() -> None:
    given(MEETING, *IN_SESSION).when(attendance("seat-chair", absent=("seat-rail",))).then(
        AttendanceRecorded(present=("seat-chair",), absent=("seat-road", "seat-rail"))
    )


def test_I_10_a_seat_counts_once() -> None:
    given(MEETING, *IN_SESSION).when(attendance("seat-chair", "seat-chair")).then(
        AttendanceRecorded(present=("seat-chair",), absent=("seat-road", "seat-rail"))
    )


def test_I_10_a_charter_may_ask_for_no_quorum() -> None:
    without = MeetingOpened(body="council-gangwon", charter=ref(charter("council-gangwon", 0)))
    given(MEETING, *PLANNED, without).when(attendance()).then(
        AttendanceRecorded(present=(), absent=SEATS), QuorumEstablished(present=0, required=0)
    )


def test_I_10_quorum_is_counted_anew_when_somebody_leaves() -> None:
    after = (
        given(MEETING, *ITEM_OPEN)
        .when(attendance("seat-chair"))
        .then(AttendanceRecorded(present=("seat-chair",), absent=("seat-road", "seat-rail")))
    )
    after.when(decide("take_for_review")).refused("I-10")


@pytest.mark.parametrize("absent", [(), ("seat-of-another-body",)])
def test_I_10_only_members_of_that_day_attend(absent: tuple[str, ...]) -> None:
    present = ("seat-chair",) if absent else ("seat-chair", "seat-of-another-body")
    given(MEETING, *IN_SESSION).when(attendance(*present, absent=absent)).refused("I-10")


def test_I_10_a_seat_is_not_present_and_absent() -> None:
    given(MEETING, *IN_SESSION).when(attendance("seat-chair", absent=("seat-chair",))).refused("I-10")


@pytest.mark.parametrize("past", [WITH_ITEM, HELD], ids=["planned", "held"])
def test_attendance_is_recorded_in_session_only(past: tuple[Event, ...]) -> None:
    given(MEETING, *past).when(attendance("seat-chair", "seat-rail")).refused("T-10")


def test_I_9_another_body_records_no_attendance_here() -> None:
    given(MEETING, *IN_SESSION).when(attendance("seat-chair", **SS)).refused("I-9")


# OpenItem


def open_item(item: int = 1, **changes: Any) -> OpenItem:
    return OpenItem(**{**CC, "item": item, **changes})


def test_the_chair_calls_an_item() -> None:
    given(MEETING, *ATTENDED).when(open_item()).then(ItemOpened(item=1, case_id=CASE))


def test_one_item_is_open_at_a_time() -> None:
    second = AgendaItemPlaced(item=2, kind="case", case_id=OTHER_CASE)
    given(MEETING, *ITEM_OPEN, second).when(open_item(2)).refused("T-10")


def test_a_closed_item_is_not_called_again() -> None:
    given(MEETING, *ITEM_CLOSED).when(open_item()).refused("T-10")


def test_no_item_is_called_before_the_sitting_opens() -> None:
    given(MEETING, *WITH_ITEM).when(open_item()).refused("T-10")


def test_an_item_that_is_not_on_the_agenda_is_not_called() -> None:
    given(MEETING, *ATTENDED).when(open_item(7)).refused("absent")


def test_I_9_another_body_calls_no_item_here() -> None:
    given(MEETING, *ATTENDED).when(open_item(**SS)).refused("I-9")


# RecordStatement


def state(seat: str = "seat-1", field: str = "land", stance: Stance = "for", **changes: Any) -> RecordStatement:
    facts = {"text": "A view.", "item": 1, "seat_fields": ("land", "city")}
    return RecordStatement(**{**FS, "seat": seat, "field": field, "stance": stance, **facts, **changes})


@pytest.mark.capability("E8")
def test_T_29_a_member_states_a_position_for_a_field() -> None:
    given(MEETING, *FORUM_ITEM_OPEN).when(state()).then(said("seat-1", "land", "for"))


def test_T_29_a_member_may_speak_again() -> None:
    after = given(MEETING, *FORUM_ITEM_OPEN).when(state()).then(said("seat-1", "land", "for"))
    after.when(state(field="city", stance="question")).then(said("seat-1", "city", "question"))


def test_T_29_who_does_not_attend_does_not_speak() -> None:
    given(MEETING, *FORUM_ITEM_OPEN).when(state("seat-4")).refused("T-29")


def test_T_29_nobody_speaks_before_attendance_is_recorded() -> None:
    planned, placed, opened, *_ = FORUM_ITEM_OPEN
    called = ItemOpened(item=1, case_id=CASE)
    given(MEETING, planned, placed, opened, called).when(state()).refused("T-29")


def test_T_29_no_statement_on_an_item_that_is_not_open() -> None:
    given(MEETING, *FORUM_ITEM_OPEN[:-1]).when(state()).refused("T-29")


def test_T_29_no_statement_after_the_deliberation_is_concluded() -> None:
    given(MEETING, *DELIBERATED).when(state("seat-1", "land", "against")).refused("T-29")


def test_T_29_no_statement_after_the_sitting_was_held() -> None:
    given(MEETING, *HELD).when(state(**CS)).refused("T-10")


@pytest.mark.capability("C6")
@pytest.mark.parametrize("fields", [None, (), ("city",)], ids=["no member", "no field", "another field"])
def test_I_11_a_statement_keeps_a_field_valid_that_day(fields: tuple[str, ...] | None) -> None:
    given(MEETING, *FORUM_ITEM_OPEN).when(state(seat_fields=fields)).refused("I-11")


def test_I_9_another_body_records_no_statement_here() -> None:
    given(MEETING, *FORUM_ITEM_OPEN).when(state(**SS)).refused("I-9")


# ConcludeDeliberation


def conclude(**changes: Any) -> ConcludeDeliberation:
    return ConcludeDeliberation(**{**MIN, "text": "Summary.", "item": 1, "fields": FIELDS, **changes})


def test_T_29_the_deliberation_ends_with_advice_and_the_fields_not_heard() -> None:
    given(MEETING, *HEARD).when(conclude()).then(advised("for"))


@pytest.mark.parametrize(
    ("stances", "advice"),
    [
        (("for", "for", "against"), "for"),
        (("against", "against", "for"), "against"),
        (("with_conditions", "with_conditions", "question"), "with_conditions"),
        (("for", "against", "question"), "divided"),
        (("for", "with_conditions", "against"), "divided"),
    ],
)
def test_T_29_more_than_half_of_the_positions_make_the_advice(stances: tuple[Stance, ...], advice: str) -> None:
    heard = [said(f"seat-{number}", "land", stance) for number, stance in enumerate(stances, start=1)]
    (concluded,) = given(MEETING, *FORUM_ITEM_OPEN, *heard).when(conclude()).events()
    assert isinstance(concluded, DeliberationConcluded)
    assert concluded.advice == advice


def test_T_29_a_seat_counts_with_its_last_position() -> None:
    changed = (said("seat-1", "land", "against"), said("seat-1", "city", "against"), said("seat-1", "land", "for"))
    (concluded,) = given(MEETING, *FORUM_ITEM_OPEN, *changed).when(conclude()).events()
    assert isinstance(concluded, DeliberationConcluded)
    assert concluded.advice == "for"


def test_T_29_without_any_position_there_is_nothing_to_conclude() -> None:
    asked = said("seat-1", "land", "question")
    given(MEETING, *FORUM_ITEM_OPEN, asked).when(conclude()).refused("T-29")


def test_T_29_a_deliberation_is_concluded_once() -> None:
    given(MEETING, *DELIBERATED).when(conclude(text="Another summary.")).refused("T-29")


def test_T_29_nothing_is_deliberated_after_the_decision() -> None:
    given(MEETING, *DECIDED).when(conclude(**CC)).refused("T-29")


def test_T_29_a_deliberation_belongs_to_an_open_item() -> None:
    given(MEETING, *FORUM_ITEM_OPEN[:-1]).when(conclude()).refused("T-29")


def test_I_9_another_body_concludes_no_deliberation_here() -> None:
    given(MEETING, *HEARD).when(conclude(**SS)).refused("I-9")


# RecordDecision: who, when, which


def test_T_10_the_chair_takes_a_case_for_review() -> None:
    given(MEETING, *ITEM_OPEN).when(decide("take_for_review")).then(TAKEN_FOR_REVIEW)


def test_T_10_an_item_is_decided_once() -> None:
    noted = DecisionFields(due=date(2023, 6, 21))
    given(MEETING, *DECIDED).when(decide("noted", noted)).refused("T-10")


def test_a_decision_repeated_after_the_sitting_stores_nothing() -> None:
    given(MEETING, *HELD).when(decide("take_for_review")).then()


def test_I_9_only_the_chair_decides() -> None:
    assert given(MEETING, *ITEM_OPEN).when(decide("take_for_review", **CS)).refused("I-9").kind == "authority"


def test_I_9_the_chair_of_another_body_does_not_decide() -> None:
    other = {**act("support-group.chair", COUNCIL_DAY), "chair": "support-group.chair"}
    given(MEETING, *ITEM_OPEN).when(decide("take_for_review", **other)).refused("I-9")


@pytest.mark.parametrize("past", [WITH_ITEM, IN_SESSION, ATTENDED], ids=["planned", "in session", "item not open"])
def test_T_10_nothing_is_decided_on_an_item_that_is_not_open(past: tuple[Event, ...]) -> None:
    given(MEETING, *past).when(decide("take_for_review")).refused("T-10")


def test_T_10_nothing_is_decided_on_an_item_closed_undecided() -> None:
    closed = ItemClosed(item=1, case_id=CASE, result="undecided")
    given(MEETING, *ITEM_OPEN, closed).when(decide("take_for_review")).refused("T-10")


@pytest.mark.capability("E6", part="quorum is counted for the sitting, not yet for each item")
def test_I_10_nothing_is_decided_without_quorum() -> None:
    without_quorum = (*IN_SESSION, ItemOpened(item=1, case_id=CASE))
    given(MEETING, *without_quorum).when(decide("take_for_review")).refused("I-10")


@pytest.mark.parametrize(
    "now",
    [None, charter("council-gangwon", 2, "take_for_review", version=2)],
    ids=["no charter", "another version"],
)
def test_I_10_a_sitting_decides_under_the_charter_it_opened_with(now: CharterAdopted | None) -> None:
    given(MEETING, *ITEM_OPEN).when(decide("take_for_review", charter=now)).refused("I-10")


@pytest.mark.capability("E10", part="seven of the eighteen codes are built; the others are refused by name")
@pytest.mark.parametrize("code", [code for code in get_args(DecisionCode) if code not in COUNCIL.codes])
def test_a_code_outside_the_column_of_the_body_is_refused(code: DecisionCode) -> None:
    given(MEETING, *ITEM_OPEN).when(decide(code)).refused(f"D-{code}")


@pytest.mark.parametrize("code", [code for code in get_args(DecisionCode) if code not in BUILT])
def test_a_code_that_is_not_built_is_refused_by_name(code: DecisionCode) -> None:
    everything = charter("council-gangwon", 2, *get_args(DecisionCode))
    given(MEETING, *ITEM_OPEN).when(decide(code, under=everything)).refused(f"D-{code}")


# RecordDecision: the fields of each code (section 6)

REASON = Reason(code="done", text="Settled during the visit.")
LATER = date(2023, 6, 21)


@pytest.mark.capability("E10", part="seven of the eighteen codes are built; the others are refused by name")
@pytest.mark.parametrize(
    ("code", "under", "fields"),
    [
        ("take_for_review", COUNCIL, DecisionFields()),
        ("resolved_on_site", COUNCIL, DecisionFields(reason=REASON)),
        ("resolved_on_site", COUNCIL, DecisionFields(reason=REASON, owner="dept-road", due=LATER)),
        ("noted", COUNCIL, DecisionFields(due=LATER)),
        ("postpone_next", COUNCIL, DecisionFields(reason=REASON, due=LATER)),
        ("resolved", GROUP, DecisionFields(owner="dept-road", due=LATER, convergence="Both agree.")),
        ("escalate", GROUP, DecisionFields(escalation="law_or_budget_beyond_powers")),
    ],
)
def test_T_10_T_22_T_30_a_decision_with_its_fields_is_recorded(
    code: DecisionCode, under: CharterAdopted, fields: DecisionFields
) -> None:
    opened = MeetingOpened(body="council-gangwon", charter=ref(under))
    past = (*WITH_ITEM, opened, *ITEM_OPEN[3:])
    recorded = DecisionRecorded(**{**dict(TAKEN_FOR_REVIEW), "code": code, "fields": fields})
    given(MEETING, *past).when(decide(code, fields, under, owner_kind="department")).then(recorded)


@pytest.mark.parametrize(
    ("code", "fields", "rule"),
    [
        ("resolved_on_site", DecisionFields(), "D-resolved_on_site"),
        ("resolved_on_site", DecisionFields(reason=REASON, owner="dept-road"), "D-resolved_on_site"),
        ("resolved_on_site", DecisionFields(reason=REASON, due=LATER), "D-resolved_on_site"),
        ("noted", DecisionFields(), "D-noted"),
        ("postpone_next", DecisionFields(reason=REASON), "D-postpone_next"),
        ("resolved", DecisionFields(due=LATER), "D-resolved"),
        ("resolved", DecisionFields(owner="dept-road"), "D-resolved"),
        ("escalate", DecisionFields(), "D-escalate"),
        ("take_for_review", DecisionFields(owner="dept-road"), "D-take_for_review"),
        ("noted", DecisionFields(due=date(2023, 5, 23)), "D-noted"),
    ],
)
def test_a_decision_without_its_fields_is_refused(code: DecisionCode, fields: DecisionFields, rule: str) -> None:
    everything = charter("council-gangwon", 2, *BUILT)
    given(MEETING, *ITEM_OPEN).when(decide(code, fields, everything, owner_kind="department")).refused(rule)


@pytest.mark.capability("D9")
def test_I_8_a_deferring_decision_has_a_reason() -> None:
    given(MEETING, *ITEM_OPEN).when(decide("postpone_next", DecisionFields(due=LATER))).refused("I-8")


@pytest.mark.parametrize("kind", [None, "council"])
def test_an_owner_is_a_department_or_an_organisation_that_exists(kind: str | None) -> None:
    fields = DecisionFields(reason=REASON, owner="dept-gone", due=LATER)
    given(MEETING, *ITEM_OPEN).when(decide("resolved_on_site", fields, owner_kind=kind)).refused("D-resolved_on_site")


# RecordDecision: adopt


@pytest.mark.capability("G1")
def test_T_30_the_minister_adopts_a_deliberated_policy() -> None:
    given(MEETING, *DELIBERATED).when(adopt()).then(
        DecisionRecorded(
            decision="meeting-1.1",
            body="forum",
            item=1,
            case_id=CASE,
            code="adopt",
            method="chair_after_hearing",
            clause="Charter art. 5",
            fields=ADOPTION,
        )
    )


def changed(**changes: Any) -> DecisionFields:
    return DecisionFields(**{**dict(ADOPTION), **changes})


@pytest.mark.parametrize("lacking", ["policy_id", "policy_revision", "policy_hash", "owner", "review_date"])
def test_I_12_an_adoption_names_policy_owner_and_review_date(lacking: str) -> None:
    given(MEETING, *DELIBERATED).when(adopt(changed(**{lacking: None}))).refused("I-12")


@pytest.mark.parametrize(
    "sources",
    [(), (Source(kind="issue", ref=OTHER_CASE),), (*SOURCES, Source(kind="issue", ref=OTHER_CASE))],
    ids=["none", "not this case", "not in the draft"],
)
def test_I_12_an_adoption_cites_this_case_among_the_sources_of_the_draft(sources: tuple[Source, ...]) -> None:
    given(MEETING, *DELIBERATED).when(adopt(changed(sources=sources))).refused("I-12")


@pytest.mark.parametrize("stale", [{"policy_revision": 2}, {"policy_hash": "def"}])
def test_I_12_the_current_draft_is_adopted_and_no_other_text(stale: dict[str, Any]) -> None:
    given(MEETING, *DELIBERATED).when(adopt(changed(**stale))).refused("I-12")


def test_I_12_the_policy_on_the_agenda_is_adopted_and_no_other() -> None:
    other = PolicySeen(policy_id="policy-2", drafted=True, revision=1, text_hash="abc", sources=SOURCES)
    given(MEETING, *DELIBERATED).when(adopt(changed(policy_id="policy-2"), policy=other)).refused("I-12")


def test_I_12_a_policy_that_does_not_exist_is_not_adopted() -> None:
    given(MEETING, *DELIBERATED).when(adopt(policy=None)).refused("I-12")


@pytest.mark.capability("G5", part="the review date is mandatory; evaluation comes later")
def test_I_12_the_review_lies_ahead() -> None:
    given(MEETING, *DELIBERATED).when(adopt(changed(review_date=FORUM_DAY))).refused("I-12")


def test_I_12_nothing_is_adopted_without_deliberation() -> None:
    given(MEETING, *HEARD).when(adopt()).refused("I-12")


def test_I_12_the_emergency_clause_stands_for_the_deliberation() -> None:
    fields = changed(emergency_clause="Charter art. 9")
    (recorded,) = given(MEETING, *HEARD).when(adopt(fields)).events()
    assert isinstance(recorded, DecisionRecorded)
    assert recorded.fields.emergency_clause == "Charter art. 9"


@pytest.mark.capability("first-13", part="where the Minister departs needs a reason; no list over all meetings yet")
@pytest.mark.parametrize("advice", ["against", "with_conditions"])
def test_I_12_departing_from_the_majority_advice_has_a_reason(advice: str) -> None:
    past = (*HEARD, advised(advice))
    given(MEETING, *past).when(adopt()).refused("I-12")
    reasoned = changed(departure_reason="Safety cannot wait.")
    assert given(MEETING, *past).when(adopt(reasoned)).events()


def test_I_12_divided_advice_has_no_majority_to_depart_from() -> None:
    assert given(MEETING, *HEARD, advised("divided")).when(adopt()).events()


def test_I_13_a_policy_is_not_adopted_twice() -> None:
    adopted = PolicySeen(policy_id=POLICY_ID, drafted=False, revision=1, text_hash="abc", sources=SOURCES)
    given(MEETING, *DELIBERATED).when(adopt(policy=adopted)).refused("I-13")


def test_I_13_a_policy_is_not_adopted_twice_in_one_sitting() -> None:
    both = (*SOURCES, Source(kind="issue", ref=OTHER_CASE))
    draft = PolicySeen(policy_id=POLICY_ID, drafted=True, revision=1, text_hash="abc", sources=both)
    (first,) = given(MEETING, *DELIBERATED).when(adopt(policy=draft)).events()
    second = (
        *DELIBERATED,
        first,
        ItemClosed(item=1, case_id=CASE, result="decided"),
        AgendaItemPlaced(item=2, kind="case", case_id=OTHER_CASE),
        ItemOpened(item=2, case_id=OTHER_CASE),
    )
    again = adopt(changed(sources=both, emergency_clause="Charter art. 9"), policy=draft, item=2)
    given(MEETING, *second).when(again).refused("I-13")


@pytest.mark.parametrize("kind", [None, "forum"])
def test_an_adopted_policy_has_an_owner_that_exists(kind: str | None) -> None:
    given(MEETING, *DELIBERATED).when(adopt(owner_kind=kind)).refused("D-adopt")


# CloseItem, CloseMeeting


def test_a_decided_item_is_closed() -> None:
    given(MEETING, *DECIDED).when(CloseItem(**CC, item=1)).then(ItemClosed(item=1, case_id=CASE, result="decided"))


def test_an_undecided_item_is_closed_so_that_its_case_waits_again() -> None:
    given(MEETING, *ITEM_OPEN).when(CloseItem(**CC, item=1)).then(ItemClosed(item=1, case_id=CASE, result="undecided"))


def test_an_item_that_was_not_called_is_not_closed() -> None:
    given(MEETING, *ATTENDED).when(CloseItem(**CC, item=1)).refused("T-10")


def test_an_item_that_is_not_on_the_agenda_is_not_closed() -> None:
    given(MEETING, *ITEM_OPEN).when(CloseItem(**CC, item=2)).refused("absent")


def test_I_9_another_body_closes_no_item_here() -> None:
    given(MEETING, *DECIDED).when(CloseItem(**SS, item=1)).refused("I-9")


def test_a_sitting_is_held() -> None:
    given(MEETING, *ITEM_CLOSED).when(CloseMeeting(**CC)).then(
        MeetingHeld(body="council-gangwon", items_decided=1, items_undecided=0)
    )


def test_items_never_called_are_closed_undecided_with_the_sitting() -> None:
    second = AgendaItemPlaced(item=2, kind="case", case_id=OTHER_CASE)
    given(MEETING, *ITEM_CLOSED, second).when(CloseMeeting(**CC)).then(
        ItemClosed(item=2, case_id=OTHER_CASE, result="undecided"),
        MeetingHeld(body="council-gangwon", items_decided=1, items_undecided=1),
    )


def test_a_sitting_does_not_end_while_an_item_is_open() -> None:
    given(MEETING, *DECIDED).when(CloseMeeting(**CC)).refused("T-10")


def test_a_sitting_that_was_not_opened_does_not_end() -> None:
    given(MEETING, *WITH_ITEM).when(CloseMeeting(**CC)).refused("T-10")


def test_I_9_another_body_ends_no_sitting_here() -> None:
    given(MEETING, *ITEM_CLOSED).when(CloseMeeting(**SS)).refused("I-9")


# Fold


def test_the_fold_never_fails_on_facts_without_their_predecessors() -> None:
    orphans = (*HELD[2:], said("seat-1", "land", "for"), advised("for"))
    assert fold(MEETING, orphans).phase == "absent"


def test_only_commands_of_a_meeting_are_understood() -> None:
    from services.meetings.work_plan import PublishPlan
    from shared.contracts.envelope import Label

    stranger = PublishPlan(
        **CS, year=2023, title=Label(ko="계획", en="Plan"), presented_on=date(2023, 1, 3), source="V"
    )
    with pytest.raises(TypeError):
        MEETING.decide(MEETING.initial, stranger)
