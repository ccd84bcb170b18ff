"""Meeting: one sitting of a body, from its planning to its end (section 9; rows 10, 22, 29, 30; walk, steps 3 to 30).

Attendance, quorum, statements and decisions stand in one stream, so that a decision is checked against the quorum of
its own sitting (I-10). A decision moves no case: routing does, on hearing ``DecisionRecorded`` (rule (a) of section 5).
Who may act is the policy table's to say (secretary or chair of the body, I-9); that it is the sitting's own body, and
for a decision its own chair, is checked here again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal

from pydantic import Field

from shared.contracts.codes import BodyKind, DecisionCode, Stance
from shared.contracts.envelope import Command, Event, Fact, Id, Line, Text
from shared.contracts.meetings import (
    LATEST,
    Advice,
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
from shared.decider import Decider, Refused

# Commands: what the client says is the body; the rest are facts that the gateway looked up.


class PlanMeetingBody(Fact):
    """A sitting to come: which body, on which day, where."""

    body: Id
    day: date = Field(lt=LATEST)
    place: Line
    form: Literal["on_site", "online"] = "on_site"


class PlanMeeting(PlanMeetingBody, Command):
    """The secretary plans a sitting of the own body (walk, step 3)."""


class Waiting(Fact):
    """That a case waits for a sitting, as the waiting list knew it at ``case_version`` of the case's stream."""

    body: Id
    case_version: int


class PolicySeen(Fact):
    """A policy as its stream stood when the command was made; the command's reads name that version."""

    policy_id: Id
    drafted: bool
    """Whether it is still a draft."""
    revision: int
    text_hash: Line
    sources: tuple[Source, ...]


class PlaceAgendaItemBody(Fact):
    """A case from the waiting list, with the policy draft to be deliberated where there is one."""

    case_id: Id
    policy_id: Id | None = None


class PlaceAgendaItem(PlaceAgendaItemBody, Command):
    """The secretary puts a waiting case on the agenda (walk, step 5)."""

    waiting: Waiting | None
    policy: PolicySeen | None = None


class OpenMeetingBody(Fact):
    """Nothing to say: the path names the sitting."""


class OpenMeeting(OpenMeetingBody, Command):
    """The chair opens the sitting on its day, under the charter valid on that day (walk, step 7; I-10)."""

    charter: CharterAdopted | None


class RecordAttendanceBody(Fact):
    """Who attends: seats, never names. A member who is in neither list is absent too."""

    present: tuple[Id, ...] = Field(max_length=200)
    absent: tuple[Id, ...] = Field(default=(), max_length=200)


class RecordAttendance(RecordAttendanceBody, Command):
    """The secretary records attendance; quorum follows in the same write (walk, step 8)."""

    members: tuple[Id, ...]
    """Seats of the body on the day of the sitting."""


class OpenItemBody(Fact):
    """Nothing to say: the path names the item."""


class OpenItem(OpenItemBody, Command):
    """The chair calls an item (walk, step 9)."""

    item: int


class RecordStatementBody(Fact):
    """A member's position, spoken for one of the member's fields."""

    seat: Id
    field: Id
    stance: Stance
    text: Text


class RecordStatement(RecordStatementBody, Command):
    """The secretary records what a member said on the open item (row 29)."""

    item: int
    seat_fields: tuple[Id, ...] | None
    """Fields of the seat on the day of the sitting; ``None`` where it was no seat of this body."""


class ConcludeDeliberationBody(Fact):
    """The chair's summary."""

    text: Text


class ConcludeDeliberation(ConcludeDeliberationBody, Command):
    """The chair closes the deliberation of the open item (row 29)."""

    item: int
    fields: tuple[Id, ...]
    """All fields of the body's members on the day of the sitting."""


class RecordDecisionBody(Fact):
    """A decision code of section 6 with the fields that it asks for."""

    code: DecisionCode
    fields: DecisionFields = DecisionFields()


class RecordDecision(RecordDecisionBody, Command):
    """The chair records the body's decision on the open item (rows 10, 22, 30)."""

    meeting_id: Id
    item: int
    chair: Id | None
    """The body's chair office today (I-9)."""
    charter: CharterAdopted | None
    """The charter valid on the day of the sitting (I-10)."""
    owner_kind: BodyKind | None = None
    """Kind of the body named as owner, where it exists today."""
    policy: PolicySeen | None = None


class CloseItemBody(Fact):
    """Nothing to say: the path names the item."""


class CloseItem(CloseItemBody, Command):
    """The chair closes an item, decided or not (walk, step 11)."""

    item: int


class CloseMeetingBody(Fact):
    """Nothing to say: the path names the sitting."""


class CloseMeeting(CloseMeetingBody, Command):
    """The chair ends the sitting (walk, step 11)."""


# State


@dataclass(frozen=True)
class Item:
    """An item of the agenda."""

    case_id: str
    policy_id: str | None = None
    opened: bool = False
    statements: tuple[StatementRecorded, ...] = ()
    deliberation: DeliberationConcluded | None = None
    decision: DecisionRecorded | None = None
    closed: bool = False

    @property
    def is_open(self) -> bool:
        """Called and not yet closed."""
        return self.opened and not self.closed


Phase = Literal["absent", "planned", "in_session", "held"]


@dataclass(frozen=True)
class Meeting:
    """A sitting. Items are known by their number on the agenda."""

    plan: MeetingPlanned | None = None
    charter: CharterRef | None = None
    attendance: AttendanceRecorded | None = None
    quorum: bool = False
    items: Mapping[int, Item] = field(default_factory=dict)
    held: bool = False

    @property
    def phase(self) -> Phase:
        """Where the sitting stands (section 9)."""
        if self.plan is None:
            return "absent"
        if self.held:
            return "held"
        return "planned" if self.charter is None else "in_session"


# Decide


def plan_meeting(state: Meeting, command: PlanMeeting) -> list[Event]:
    """I-9: a secretary plans for the own body. Refused for a day that has passed."""
    planned = MeetingPlanned(body=command.body, day=command.day, place=command.place, form=command.form)
    if state.plan is not None:
        if state.plan == planned:
            return []
        raise Refused("T-10", "이미 잡힌 회의입니다.", "This meeting is planned already.")
    _own_body(command.body, command)
    if command.day < command.today:
        raise Refused("T-10", "지난 날짜로는 회의를 잡을 수 없습니다.", "A meeting cannot be planned for a past day.")
    return [planned]


def place_agenda_item(state: Meeting, command: PlaceAgendaItem) -> list[Event]:
    """A case that waits for this body goes on the agenda, once in a sitting (walk, step 5)."""
    plan = _planned(state, command)
    for item in state.items.values():
        if item.case_id == command.case_id:
            if item.policy_id == command.policy_id:
                return []
            raise Refused(
                "T-10", "이 현안은 이미 이 회의의 안건입니다.", "This case is on the agenda of this meeting already."
            )
    if state.held:
        raise Refused(
            "T-10", "끝난 회의에는 안건을 올릴 수 없습니다.", "The meeting has ended: it takes no more items."
        )
    if command.waiting is None or command.waiting.body != plan.body:
        raise Refused(
            "T-10",
            "이 회의체의 상정 대기 목록에 없는 현안입니다.",
            "This case is not on the waiting list of this body.",
        )
    if command.policy_id is not None:
        policy = command.policy
        if policy is None or not policy.drafted or command.case_id not in _cases(policy.sources):
            raise Refused(
                "I-12",
                "이 현안을 근거로 작성된 정책 초안만 함께 상정할 수 있습니다.",
                "Only a policy draft that has this case among its sources can be placed with it.",
            )
    number = max(state.items, default=0) + 1
    return [AgendaItemPlaced(item=number, kind="case", case_id=command.case_id, policy_id=command.policy_id)]


def open_meeting(state: Meeting, command: OpenMeeting) -> list[Event]:
    """I-10: a sitting opens on its day, under the charter valid on that day."""
    plan = _planned(state, command)
    if state.phase == "in_session":
        return []
    if state.held:
        raise Refused("T-10", "이미 끝난 회의입니다.", "The meeting has ended.")
    if command.today != plan.day:
        raise Refused("I-10", "회의는 예정된 날에만 열 수 있습니다.", "A meeting opens on the day it is planned for.")
    charter = command.charter
    if charter is None:
        raise Refused(
            "I-10",
            "회의일에 유효한 운영규정이 없어 개회할 수 없습니다.",
            "No charter of this body is valid on the day of the meeting, so it cannot open.",
        )
    ref = CharterRef(charter=charter.charter, version=charter.version, quorum=charter.quorum, method=charter.method)
    return [MeetingOpened(body=plan.body, charter=ref)]


def record_attendance(state: Meeting, command: RecordAttendance) -> list[Event]:
    """I-10: only seats of that day count; reaching the charter's quorum is a fact of the same write.

    Attendance may be recorded again when somebody comes or leaves: quorum is then counted anew.
    """
    _planned(state, command)
    charter = _in_session(state)
    present = tuple(dict.fromkeys(command.present))
    if strangers := {*present, *command.absent} - set(command.members):
        raise Refused(
            "I-10",
            f"회의일 현재 이 회의체의 위원석이 아닌 항목이 {len(strangers)}건 있습니다.",
            f"{len(strangers)} of these are no seats of this body on the day of the meeting.",
        )
    if set(present) & set(command.absent):
        raise Refused(
            "I-10", "같은 위원석이 출석이면서 불참일 수 없습니다.", "A seat cannot be both present and absent."
        )
    absent = tuple(seat for seat in command.members if seat not in present)
    attendance = AttendanceRecorded(present=present, absent=absent)
    if attendance == state.attendance:
        return []
    if len(present) < charter.quorum:
        return [attendance]
    return [attendance, QuorumEstablished(present=len(present), required=charter.quorum)]


def open_item(state: Meeting, command: OpenItem) -> list[Event]:
    """One item at a time, in session; a closed item is not called again in the same sitting."""
    _planned(state, command)
    item = _item(state, command.item)
    if item.is_open:
        return []
    _in_session(state)
    if item.closed:
        raise Refused("T-10", "이미 종료된 안건입니다.", "This item is closed already.")
    if any(other.is_open for other in state.items.values()):
        raise Refused("T-10", "다른 안건이 진행 중입니다. 먼저 종료하세요.", "Another item is open: close it first.")
    return [ItemOpened(item=command.item, case_id=item.case_id)]


def record_statement(state: Meeting, command: RecordStatement) -> list[Event]:
    """T-29: a member who attends speaks on the open item, for a field held that day (I-11)."""
    _planned(state, command)
    item = _item(state, command.item)
    statement = StatementRecorded(
        item=command.item,
        case_id=item.case_id,
        seat=command.seat,
        field=command.field,
        stance=command.stance,
        text=command.text,
    )
    if statement in item.statements:
        return []
    _in_session(state)
    _under_deliberation(item)
    if state.attendance is None or command.seat not in state.attendance.present:
        raise Refused("T-29", "출석한 위원만 발언할 수 있습니다.", "Only a member who attends can make a statement.")
    if command.seat_fields is None or command.field not in command.seat_fields:
        raise Refused(
            "I-11",
            "회의일 현재 이 위원의 전문 분야가 아닙니다.",
            "This is not one of the member's fields of expertise on the day of the meeting.",
        )
    return [statement]


def conclude_deliberation(state: Meeting, command: ConcludeDeliberation) -> list[Event]:
    """T-29: the chair closes the deliberation; advice and the fields (not) heard are counted, not stated.

    Each seat counts with its last position (a question is none); more than half of them make the advice, otherwise it
    is ``divided``. Without any position there is no advice, and the deliberation stays open.
    """
    _planned(state, command)
    item = _item(state, command.item)
    if item.deliberation is not None and item.deliberation.text == command.text:
        return []
    _in_session(state)
    _under_deliberation(item)
    advice = majority(item.statements)
    if advice is None:
        raise Refused(
            "T-29",
            "아직 찬반 의견을 낸 위원이 없어 심의를 종결할 수 없습니다.",
            "No member has taken a position yet, so the deliberation cannot be concluded.",
        )
    heard = {statement.field for statement in item.statements}
    return [
        DeliberationConcluded(
            item=command.item,
            case_id=item.case_id,
            advice=advice,
            fields_heard=tuple(sorted(heard)),
            fields_not_heard=tuple(sorted(set(command.fields) - heard)),
            text=command.text,
        )
    ]


def majority(statements: Sequence[StatementRecorded]) -> Advice | None:
    """What more than half of the seats say, each by its last position; ``None`` where nobody took one."""
    positions: dict[str, Advice] = {}
    for statement in statements:
        if statement.stance != "question":
            positions[statement.seat] = statement.stance
    if not positions:
        return None
    stance, count = Counter(positions.values()).most_common(1)[0]
    return stance if 2 * count > len(positions) else "divided"


def record_decision(state: Meeting, command: RecordDecision) -> list[Event]:
    """T-10, T-22, T-30: the chair decides once on the open item of a quorate sitting, within the charter's codes."""
    plan = _planned(state, command)
    if command.by.office != command.chair:
        raise Refused(
            "I-9", "의결은 의장만 기록할 수 있습니다.", "Only the chair of the body records its decision.", "authority"
        )
    item = _item(state, command.item)
    if item.decision is not None:
        if (item.decision.code, item.decision.fields) == (command.code, command.fields):
            return []
        raise Refused("T-10", "이 안건은 이미 의결되었습니다.", "This item has been decided already.")
    opened_under = _in_session(state)
    if not item.is_open:
        raise Refused("T-10", "진행 중인 안건이 아닙니다.", "This item is not open.")
    if not state.quorum:
        raise Refused(
            "I-10",
            "의사정족수가 확인되지 않아 의결할 수 없습니다.",
            "Quorum has not been established, so nothing can be decided.",
        )
    charter = command.charter
    if charter is None or (charter.charter, charter.version) != (opened_under.charter, opened_under.version):
        raise Refused(
            "I-10",
            "개회 이후 운영규정이 바뀌었습니다. 안건을 종료하고 새 회의에서 의결하세요.",
            "The charter has changed since the meeting was opened: close the item and decide in a new meeting.",
        )
    _check_code(command.code, charter)
    _check_fields(command)
    if command.code == "adopt":
        _check_adoption(state, item, command)
    return [
        DecisionRecorded(
            decision=f"{command.meeting_id}.{command.item}",
            body=plan.body,
            item=command.item,
            case_id=item.case_id,
            code=command.code,
            method=charter.method,
            clause=charter.decision_clause,
            fields=command.fields,
        )
    ]


def close_item(state: Meeting, command: CloseItem) -> list[Event]:
    """An item ends decided or undecided; undecided, its case is back on the waiting list (section 9)."""
    _planned(state, command)
    item = _item(state, command.item)
    if item.closed:
        return []
    if not item.is_open:
        raise Refused("T-10", "진행 중인 안건이 아닙니다.", "This item is not open.")
    return [_closed(command.item, item)]


def close_meeting(state: Meeting, command: CloseMeeting) -> list[Event]:
    """The sitting ends. Items that were never called are closed undecided with it (section 9)."""
    plan = _planned(state, command)
    if state.held:
        return []
    _in_session(state)
    if any(item.is_open for item in state.items.values()):
        raise Refused("T-10", "진행 중인 안건을 먼저 종료하세요.", "An item is still open: close it first.")
    closed = [_closed(number, item) for number, item in state.items.items() if not item.closed]
    decided = sum(item.decision is not None for item in state.items.values())
    held = MeetingHeld(body=plan.body, items_decided=decided, items_undecided=len(state.items) - decided)
    return [*closed, held]


# Rules that several commands share


def _own_body(body: str, command: Command) -> None:
    if command.by.body != body:
        raise Refused(
            "I-9",
            "다른 회의체의 회의에서는 이 행위를 할 수 없습니다.",
            "This act belongs to an office of the body whose meeting it is.",
            "authority",
        )


def _planned(state: Meeting, command: Command) -> MeetingPlanned:
    if state.plan is None:
        raise Refused("absent", "그런 회의가 없습니다.", "There is no such meeting.", "absent")
    _own_body(state.plan.body, command)
    return state.plan


def _in_session(state: Meeting) -> CharterRef:
    if state.charter is None or state.held:
        raise Refused("T-10", "회의가 진행 중이 아닙니다.", "The meeting is not in session.")
    return state.charter


def _item(state: Meeting, number: int) -> Item:
    item = state.items.get(number)
    if item is None:
        raise Refused("absent", "그런 안건이 없습니다.", "There is no such agenda item.", "absent")
    return item


def _under_deliberation(item: Item) -> None:
    if not item.is_open:
        raise Refused("T-29", "진행 중인 안건이 아닙니다.", "This item is not open.")
    if item.deliberation is not None or item.decision is not None:
        raise Refused("T-29", "이 안건의 심의는 종결되었습니다.", "The deliberation of this item is concluded.")


def _closed(number: int, item: Item) -> ItemClosed:
    result: Literal["decided", "undecided"] = "undecided" if item.decision is None else "decided"
    return ItemClosed(item=number, case_id=item.case_id, result=result)


def _cases(sources: Sequence[Source]) -> set[str]:
    return {source.ref for source in sources}


# Decision codes and their fields (section 6)


@dataclass(frozen=True)
class FieldRule:
    """Which fields a code must have and may have; a field outside both would be lost, so it is refused."""

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset({"reason"})


BUILT: Mapping[DecisionCode, FieldRule] = {
    "take_for_review": FieldRule(),
    "resolved_on_site": FieldRule(frozenset({"reason"}), frozenset({"owner", "due"})),
    "noted": FieldRule(frozenset({"due"})),
    "postpone_next": FieldRule(frozenset({"due", "reason"})),
    "resolved": FieldRule(frozenset({"owner", "due"}), frozenset({"reason", "convergence"})),
    "escalate": FieldRule(frozenset({"escalation"})),
    "adopt": FieldRule(
        frozenset({"policy_id", "policy_revision", "policy_hash", "sources", "owner", "review_date"}),
        frozenset({"reason", "emergency_clause", "departure_reason"}),
    ),
}
"""The codes whose rows of section 5 are built; any other is refused, so that no case gets where it cannot leave."""

FIELD_NAMES: Mapping[str, tuple[str, str]] = {
    "reason": ("사유", "reason"),
    "owner": ("담당 기관", "owner"),
    "due": ("기한", "date"),
    "escalation": ("상정 사유", "escalation reason"),
    "convergence": ("이견 조정 내용", "convergence"),
    "policy_id": ("정책", "policy"),
    "policy_revision": ("정책 차수", "policy revision"),
    "policy_hash": ("정책 본문 해시", "policy text hash"),
    "review_date": ("검토 기일", "review date"),
    "sources": ("근거", "sources"),
    "emergency_clause": ("긴급 조항", "emergency clause"),
    "departure_reason": ("권고와 달리 결정한 사유", "reason for departing from the advice"),
}


def _check_code(code: DecisionCode, charter: CharterAdopted) -> None:
    if code not in charter.codes:
        raise Refused(
            f"D-{code}",
            "이 회의체가 할 수 있는 의결이 아닙니다.",
            "This decision is not within the powers of this body.",
        )
    if code not in BUILT:
        raise Refused(f"D-{code}", "아직 제공하지 않는 의결 유형입니다.", "This kind of decision is not available yet.")


def _check_fields(command: RecordDecision) -> None:
    code, fields, rule = command.code, command.fields, BUILT[command.code]
    given = {name for name, value in fields if value not in (None, ())}
    missing = rule.required - given
    if missing:
        ko, en = _named(missing)
        if code == "adopt":
            number = "I-12"
        elif code == "postpone_next" and "reason" in missing:
            number = "I-8"
        else:
            number = f"D-{code}"
        raise Refused(number, f"이 의결에 필요한 항목이 빠졌습니다: {ko}", f"This decision lacks: {en}")
    if extra := given - rule.required - rule.optional:
        ko, en = _named(extra)
        raise Refused(f"D-{code}", f"이 의결에 쓰지 않는 항목입니다: {ko}", f"This decision takes no: {en}")
    if code == "resolved_on_site" and (fields.owner is None) != (fields.due is None):
        raise Refused(
            f"D-{code}",
            "남은 일이 있으면 담당 기관과 기한을 함께 적어야 합니다.",
            "Where work remains, its owner and its date go together.",
        )
    if fields.due is not None and fields.due < command.today:
        raise Refused(f"D-{code}", "기한이 지난 날짜입니다.", "The date lies in the past.")
    if fields.owner is not None and command.owner_kind not in ("department", "organisation"):
        raise Refused(
            f"D-{code}",
            "담당 기관은 현재 있는 부서나 기관이어야 합니다.",
            "The owner must be a department or an organisation that exists today.",
        )


def _named(names: set[str] | frozenset[str]) -> tuple[str, str]:
    ordered = [label for name, label in FIELD_NAMES.items() if name in names]
    return ", ".join(ko for ko, _ in ordered), ", ".join(en for _, en in ordered)


def _check_adoption(state: Meeting, item: Item, command: RecordDecision) -> None:
    """I-12, I-13: what the Minister adopts is the policy's current draft, deliberated, with sources and review date."""
    fields, policy = command.fields, command.policy
    if policy is None or policy.policy_id != fields.policy_id or item.policy_id not in (None, fields.policy_id):
        raise Refused(
            "I-12",
            "이 안건에 올라온 정책이 아닙니다.",
            "This is not the policy that was placed on the agenda with this item.",
        )
    adopted_here = any(
        other.decision is not None and other.decision.fields.policy_id == fields.policy_id
        for other in state.items.values()
    )
    if not policy.drafted or adopted_here:
        raise Refused("I-13", "이미 채택된 정책입니다.", "This policy has been adopted already.")
    if (fields.policy_revision, fields.policy_hash) != (policy.revision, policy.text_hash):
        raise Refused(
            "I-12",
            "정책 초안의 현재 차수·본문과 다릅니다. 다시 확인하세요.",
            "This is not the current revision and text of the draft: read it again.",
        )
    if item.case_id not in _cases(fields.sources) or not _cases(fields.sources) <= _cases(policy.sources):
        raise Refused(
            "I-12",
            "근거에는 이 현안이 있어야 하고, 모두 정책 초안의 근거여야 합니다.",
            "The sources must include this case, and all of them must be sources of the draft.",
        )
    if fields.review_date is None or fields.review_date <= command.today:
        raise Refused("I-12", "검토 기일은 오늘 이후여야 합니다.", "The review date must lie after today.")
    if item.deliberation is None and fields.emergency_clause is None:
        raise Refused(
            "I-12",
            "심의가 종결되지 않았습니다. 긴급 조항 없이는 채택할 수 없습니다.",
            "The deliberation is not concluded: without an emergency clause nothing can be adopted.",
        )
    # The draft is adopted as it stands, so advice that asks for conditions is departed from too.
    departs = item.deliberation is not None and item.deliberation.advice in ("against", "with_conditions")
    if departs and fields.departure_reason is None:
        raise Refused(
            "I-12",
            "포럼 다수 의견과 다른 결정에는 사유가 있어야 합니다.",
            "A decision that departs from the forum's majority advice needs a reason.",
        )


# Decider


def decide(state: Meeting, command: Command) -> Sequence[Event]:
    """What a command stores; raises ``Refused`` with the rule that does not allow it."""
    match command:
        case PlanMeeting():
            return plan_meeting(state, command)
        case PlaceAgendaItem():
            return place_agenda_item(state, command)
        case OpenMeeting():
            return open_meeting(state, command)
        case RecordAttendance():
            return record_attendance(state, command)
        case OpenItem():
            return open_item(state, command)
        case RecordStatement():
            return record_statement(state, command)
        case ConcludeDeliberation():
            return conclude_deliberation(state, command)
        case RecordDecision():
            return record_decision(state, command)
        case CloseItem():
            return close_item(state, command)
        case CloseMeeting():
            return close_meeting(state, command)
        case _:
            raise TypeError(f"not a command of Meeting: {type(command).__name__}")


def evolve(state: Meeting, event: Event) -> Meeting:
    """The state after one more fact."""
    match event:
        case MeetingPlanned():
            return replace(state, plan=event)
        case AgendaItemPlaced():
            placed = Item(case_id=event.case_id, policy_id=event.policy_id)
            return replace(state, items={**state.items, event.item: placed})
        case MeetingOpened():
            return replace(state, charter=event.charter)
        case AttendanceRecorded():
            return replace(state, attendance=event, quorum=False)
        case QuorumEstablished():
            return replace(state, quorum=True)
        case ItemOpened():
            return _with(state, event.item, opened=True)
        case StatementRecorded():
            item = state.items.get(event.item)
            return state if item is None else _with(state, event.item, statements=(*item.statements, event))
        case DeliberationConcluded():
            return _with(state, event.item, deliberation=event)
        case DecisionRecorded():
            return _with(state, event.item, decision=event)
        case ItemClosed():
            return _with(state, event.item, closed=True)
        case MeetingHeld():
            return replace(state, held=True)
        case _:
            return state


def _with(state: Meeting, number: int, **changes: Any) -> Meeting:
    item = state.items.get(number)
    return state if item is None else replace(state, items={**state.items, number: replace(item, **changes)})


MEETING = Decider(
    name="Meeting",
    initial=Meeting(),
    decide=decide,
    evolve=evolve,
    commands=(
        PlanMeeting,
        PlaceAgendaItem,
        OpenMeeting,
        RecordAttendance,
        OpenItem,
        RecordStatement,
        ConcludeDeliberation,
        RecordDecision,
        CloseItem,
        CloseMeeting,
    ),
)
