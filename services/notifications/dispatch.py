"""Dispatch: one event told to one office over one channel (section 10; I-8).

Its id follows from event, office and channel, so that hearing an event again tells nobody twice. The inbox delivers in
the write that requests; what goes outside is requested first, and each attempt is recorded under its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from pydantic import AwareDatetime

from shared.contracts.envelope import Command, Event, Fact, Id, Label, Line
from shared.contracts.notifications import (
    NotificationDelivered,
    NotificationFailed,
    NotificationGivenUp,
    NotificationRead,
    NotificationRequested,
)
from shared.decider import Decider, Refused

INBOX = "inbox"
"""The channel that every office has: its notices are read and acknowledged in the system itself."""

BACK_OFF = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=4),
)
"""How long after each failed attempt the next one is made, in real time. After as many again as there are it is given
up: six attempts in five hours and twenty-one minutes."""


class RequestNotice(Command):
    """Tell an office of an event over a channel that delivers outside, later. Facts: the words."""

    about: Id
    about_type: Id
    office: Id
    channel: Id
    audience: Literal["raiser", "reviewer", "secretary", "lead"]
    mandatory: bool
    wording: Id
    title: Label
    text: Label


class RequestAndDeliver(RequestNotice):
    """Tell an office of an event over a channel that delivers at once. Facts: the words, the channel's receipt."""

    receipt: Line


class RecordDelivery(Command):
    """The attempt of this number arrived."""

    attempt: int
    receipt: Line


class RecordFailure(Command):
    """The attempt of this number failed; ``final``: no other attempt can succeed. ``attempted_at`` is real time."""

    attempt: int
    final: bool
    detail: Line
    attempted_at: AwareDatetime


class MarkReadBody(Fact):
    """Nothing to add: the path names the notice."""


class MarkRead(MarkReadBody, Command):
    """Acknowledge a notice: an act of the office it is for, not a page view."""


@dataclass(frozen=True)
class DispatchState:
    """For which office it is (none: not sent), how often it was tried, how that ended, and whether it was read."""

    office: str | None = None
    about: str = ""
    channel: str = ""
    attempts: int = 0
    ended: Literal["delivered", "given_up"] | None = None
    read: bool = False


def decide(state: DispatchState, command: Command) -> Sequence[Event]:
    """The events of a command; raises ``Refused`` by N-read or N-attempt."""
    match command:
        case RequestAndDeliver():
            return _request_and_deliver(state, command)
        case RequestNotice():
            return [] if state.office is not None else [command.as_event(NotificationRequested)]
        case RecordDelivery():
            return _record_delivery(state, command)
        case RecordFailure():
            return _record_failure(state, command)
        case MarkRead():
            return _mark_read(state, command)
        case _:
            raise TypeError(f"Dispatch does not understand {type(command).__name__}")


def _request_and_deliver(state: DispatchState, command: RequestAndDeliver) -> Sequence[Event]:
    """Request and delivery in one write: once it is in the inbox it has arrived (I-8)."""
    if state.office is not None:
        return []
    return [command.as_event(NotificationRequested), command.as_event(NotificationDelivered)]


def _record_delivery(state: DispatchState, command: RecordDelivery) -> Sequence[Event]:
    office = _tried(state, command.attempt)
    return [
        NotificationDelivered(about=state.about, office=office, channel=state.channel, receipt=command.receipt),
    ]


def _record_failure(state: DispatchState, command: RecordFailure) -> Sequence[Event]:
    """A failure has its next attempt; one that is final, or the last, is given up in the same write."""
    office = _tried(state, command.attempt)
    last = command.attempt > len(BACK_OFF)
    given_up = command.final or last
    failed = NotificationFailed(
        about=state.about,
        office=office,
        channel=state.channel,
        attempt=command.attempt,
        detail=command.detail,
        attempted_at=command.attempted_at,
        next_attempt_at=None if given_up else command.attempted_at + BACK_OFF[command.attempt - 1],
    )
    if not given_up:
        return [failed]
    return [
        failed,
        NotificationGivenUp(
            about=state.about,
            office=office,
            channel=state.channel,
            attempts=command.attempt,
            reason="refused" if command.final else "exhausted",
            detail=command.detail,
        ),
    ]


def _tried(state: DispatchState, attempt: int) -> str:
    """N-attempt: attempts are recorded in their order, each once, and none after the end. Gives the office."""
    if state.office is None:
        raise Refused("N-attempt", "그런 알림이 없습니다.", "There is no such notice.", kind="absent")
    if state.ended is not None:
        raise Refused("N-attempt", "이미 처리가 끝난 알림입니다.", "This notice was delivered or given up before.")
    if attempt != state.attempts + 1:
        raise Refused("N-attempt", "발송 순번이 맞지 않습니다.", "This is not the next attempt of the notice.")
    return state.office


def _mark_read(state: DispatchState, command: MarkRead) -> Sequence[Event]:
    """N-read: only the office that it is for, in its inbox; reading it again says nothing new."""
    if state.office is None:
        raise Refused("N-read", "그런 알림이 없습니다.", "There is no such notice.", kind="absent")
    if command.by.office != state.office:
        raise Refused(
            "N-read",
            "알림은 받은 직위에서만 확인할 수 있습니다.",
            "Only the office that a notice is for can acknowledge it.",
            kind="authority",
        )
    if state.channel != INBOX:
        raise Refused("N-read", "알림은 알림함에서 확인합니다.", "A notice is acknowledged in the inbox.")
    return [] if state.read else [NotificationRead(office=state.office)]


def evolve(state: DispatchState, event: Event) -> DispatchState:
    """The state after an event."""
    match event:
        case NotificationRequested():
            return replace(state, office=event.office, about=event.about, channel=event.channel)
        case NotificationDelivered():
            return replace(state, ended="delivered")
        case NotificationFailed():
            return replace(state, attempts=event.attempt)
        case NotificationGivenUp():
            return replace(state, ended="given_up")
        case NotificationRead():
            return replace(state, read=True)
        case _:
            return state


DISPATCH = Decider(
    name="Dispatch",
    initial=DispatchState(),
    decide=decide,
    evolve=evolve,
    commands=(RequestNotice, RequestAndDeliver, RecordDelivery, RecordFailure, MarkRead),
)
