"""Body: a council, group, forum, department, organisation or desk; its charter, members and edges (capability C1).

Bodies are data with validity. What was once established is never rewritten: a later fact stands beside it (I-16).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from pydantic import Field

from shared.contracts.codes import BodyKind, DecisionCode, Method
from shared.contracts.envelope import Command, Event, Fact, Id, Label, Line
from shared.contracts.reference import (
    BodyEstablished,
    CharterAdopted,
    EdgeClosed,
    EdgeOpened,
    MemberAppointed,
    MemberLeft,
)
from shared.decider import Decider, Refused


class EstablishBodyBody(Fact):
    """A body as it is entered."""

    body: Id
    kind: BodyKind
    tier: Id | None = None
    name: Label
    parent: Id | None = None
    regions: tuple[Id, ...] = ()
    level: Literal["metropolitan", "basic"] | None = None
    valid_from: date
    valid_to: date | None = None
    source: Line


class EstablishBody(EstablishBodyBody, Command):
    """A body exists from a day on."""

    ancestors: tuple[Id, ...] = ()
    """The parent, its parent and so on, as known; empty where there is no parent, or none of that name."""


class AdoptCharterBody(Fact):
    """A charter as it is entered."""

    body: Id
    charter: Id
    version: int = Field(ge=1)
    quorum: int = Field(ge=0)
    method: Method
    codes: tuple[DecisionCode, ...]
    notice_days: int = Field(ge=0)
    decision_clause: Line
    valid_from: date
    valid_to: date | None = None
    source: Line


class AdoptCharter(AdoptCharterBody, Command):
    """How a body sits and decides from a day on (I-10)."""


class AppointMemberBody(Fact):
    """A seat as it is entered."""

    body: Id
    seat: Id
    name: Label
    fields: tuple[Id, ...] = ()
    voting: bool = True
    role: Id = "member"
    on_behalf_of: Id | None = None
    valid_from: date
    valid_to: date | None = None
    source: Line


class AppointMember(AppointMemberBody, Command):
    """A seat with its role and fields of expertise, from a day on (C6)."""

    sender_known: bool = False
    """Whether the body on whose behalf it sits exists on its first day; nothing where it names none."""


class RemoveMemberBody(Fact):
    """Which seat becomes empty, and when."""

    body: Id
    seat: Id
    valid_from: date
    source: Line


class RemoveMember(RemoveMemberBody, Command):
    """A seat becomes empty on a day."""


class OpenEdgeBody(Fact):
    """An edge as it is entered."""

    body: Id
    edge: Id
    to_body: Id
    kind: Literal["review", "escalate"]
    valid_from: date
    source: Line


class OpenEdge(OpenEdgeBody, Command):
    """From a day on cases may go from one body to another (I-3)."""

    to_body_known: bool
    """Whether the body that the edge leads to is established."""


class CloseEdgeBody(Fact):
    """Which edge ends, and when."""

    body: Id
    edge: Id
    valid_from: date
    source: Line


class CloseEdge(CloseEdgeBody, Command):
    """From a day on cases no longer go that way."""


@dataclass(frozen=True)
class State:
    """Everything entered so far: a repeated fact is known by being the same."""

    established: BodyEstablished | None = None
    charters: tuple[CharterAdopted, ...] = ()
    seats: tuple[MemberAppointed, ...] = ()
    left: tuple[MemberLeft, ...] = ()
    edges: tuple[EdgeOpened, ...] = ()
    closed: tuple[EdgeClosed, ...] = ()


def decide(state: State, command: Command) -> Sequence[Event]:
    """What a command stores; raises ``Refused``."""
    match command:
        case EstablishBody():
            return establish_body(state, command)
        case AdoptCharter():
            return adopt_charter(state, command)
        case AppointMember():
            return appoint_member(state, command)
        case RemoveMember():
            return remove_member(state, command)
        case OpenEdge():
            return open_edge(state, command)
        case CloseEdge():
            return close_edge(state, command)
        case _:
            raise AssertionError(f"Body does not understand {type(command).__name__}")


def establish_body(state: State, command: EstablishBody) -> Sequence[Event]:
    """I-15: one parent, which is known, and no circle; a validity that has a length."""
    event = command.as_event(BodyEstablished)
    if state.established == event:
        return []
    if state.established is not None:
        raise _rewritten()
    _has_length(command.valid_from, command.valid_to)
    if command.parent is not None and command.ancestors[:1] != (command.parent,):
        raise Refused("I-15", "상위 기구가 등록되어 있지 않습니다.", "The parent body is not established.")
    if command.body in command.ancestors:
        raise Refused(
            "I-15",
            "기구가 자기 자신의 상위 기구가 될 수 없습니다.",
            "A body cannot stand above itself.",
        )
    return [event]


def adopt_charter(state: State, command: AdoptCharter) -> Sequence[Event]:
    """I-10: versions go upwards; an adopted version is never changed."""
    event = command.as_event(CharterAdopted)
    if event in state.charters:
        return []
    _exists(state)
    _has_length(command.valid_from, command.valid_to)
    if any(charter.version == command.version for charter in state.charters):
        raise _rewritten()
    if any(charter.version > command.version for charter in state.charters):
        raise Refused(
            "I-10",
            "운영규정의 판 번호는 앞선 판보다 커야 합니다.",
            "The version of a charter must be higher than the earlier ones.",
        )
    return [event]


def appoint_member(state: State, command: AppointMember) -> Sequence[Event]:
    """C6: a seat is entered once; whoever follows in it, the seat and its fields stay."""
    event = command.as_event(MemberAppointed)
    if event in state.seats:
        return []
    _exists(state)
    _has_length(command.valid_from, command.valid_to)
    if any(seat.seat == command.seat for seat in state.seats):
        raise _rewritten()
    if command.on_behalf_of is not None and not command.sender_known:
        raise Refused(
            "I-15",
            "위원석을 보내는 기구가 그 날짜에 등록되어 있지 않습니다.",
            "The body on whose behalf the seat sits is not established on that day.",
        )
    return [event]


def remove_member(state: State, command: RemoveMember) -> Sequence[Event]:
    """A seat that is entered, once, after it began."""
    event = command.as_event(MemberLeft)
    if event in state.left:
        return []
    seat = next((seat for seat in state.seats if seat.seat == command.seat), None)
    if seat is None:
        raise Refused("I-16", "등록되지 않은 위원석입니다.", "This seat is not entered.")
    if any(left.seat == command.seat for left in state.left):
        raise _rewritten()
    _has_length(seat.valid_from, command.valid_from)
    return [event]


def open_edge(state: State, command: OpenEdge) -> Sequence[Event]:
    """I-3: between two bodies that are established."""
    event = command.as_event(EdgeOpened)
    if event in state.edges:
        return []
    _exists(state)
    if any(edge.edge == command.edge for edge in state.edges):
        raise _rewritten()
    if not command.to_body_known or command.to_body == command.body:
        raise Refused(
            "I-3",
            "경로는 등록된 다른 기구로 이어져야 합니다.",
            "An edge must lead to another body that is established.",
        )
    return [event]


def close_edge(state: State, command: CloseEdge) -> Sequence[Event]:
    """I-3: an edge that is open, once, after it began."""
    event = command.as_event(EdgeClosed)
    if event in state.closed:
        return []
    edge = next((edge for edge in state.edges if edge.edge == command.edge), None)
    if edge is None:
        raise Refused("I-3", "등록되지 않은 경로입니다.", "This edge is not entered.")
    if any(closed.edge == command.edge for closed in state.closed):
        raise _rewritten()
    _has_length(edge.valid_from, command.valid_from)
    return [event]


def _exists(state: State) -> None:
    if state.established is None:
        raise Refused("I-15", "등록되지 않은 기구입니다.", "This body is not established.", kind="absent")


def _has_length(valid_from: date, valid_to: date | None) -> None:
    if valid_to is not None and valid_to <= valid_from:
        raise Refused(
            "I-15",
            "유효기간의 끝은 시작보다 뒤여야 합니다.",
            "A validity must end after it begins.",
        )


def _rewritten() -> Refused:
    return Refused(
        "I-16",
        "이미 등록된 사실과 다릅니다. 지난 사실은 고쳐 쓰지 않습니다.",
        "This differs from what is entered already; what was entered is not rewritten.",
    )


def evolve(state: State, event: Event) -> State:
    """The state after an event."""
    match event:
        case BodyEstablished():
            return replace(state, established=event)
        case CharterAdopted():
            return replace(state, charters=(*state.charters, event))
        case MemberAppointed():
            return replace(state, seats=(*state.seats, event))
        case MemberLeft():
            return replace(state, left=(*state.left, event))
        case EdgeOpened():
            return replace(state, edges=(*state.edges, event))
        case EdgeClosed():
            return replace(state, closed=(*state.closed, event))
        case _:
            return state


BODY = Decider(
    name="Body",
    initial=State(),
    decide=decide,
    evolve=evolve,
    commands=(EstablishBody, AdoptCharter, AppointMember, RemoveMember, OpenEdge, CloseEdge),
)
