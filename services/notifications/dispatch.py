"""Dispatch: one event told to one office over one channel (section 10; I-8).

Its id follows from event, office and channel, so that hearing an event again tells nobody twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from shared.contracts.envelope import Command, Event, Fact, Id, Label, Line
from shared.contracts.notifications import (
    NotificationDelivered,
    NotificationRead,
    NotificationRequested,
)
from shared.decider import Decider, Refused


class RequestAndDeliver(Command):
    """Tell an office of an event over a channel that delivers at once. Facts: the words, the channel's receipt."""

    about: Id
    about_type: Id
    office: Id
    channel: Id
    audience: Literal["raiser", "reviewer", "secretary", "lead"]
    mandatory: bool
    wording: Id
    title: Label
    text: Label
    receipt: Line


class MarkReadBody(Fact):
    """Nothing to add: the path names the notice."""


class MarkRead(MarkReadBody, Command):
    """Acknowledge a notice: an act of the office it is for, not a page view."""


@dataclass(frozen=True)
class DispatchState:
    """For which office it is (none: not sent), and whether it was read."""

    office: str | None = None
    read: bool = False


def decide(state: DispatchState, command: Command) -> Sequence[Event]:
    """The events of a command; raises ``Refused`` by N-read."""
    match command:
        case RequestAndDeliver():
            return _request_and_deliver(state, command)
        case MarkRead():
            return _mark_read(state, command)
        case _:
            raise TypeError(f"Dispatch does not understand {type(command).__name__}")


def _request_and_deliver(state: DispatchState, command: RequestAndDeliver) -> Sequence[Event]:
    """Request and delivery in one write: once it is in the inbox it has arrived (I-8)."""
    if state.office is not None:
        return []
    return [
        NotificationRequested(
            about=command.about,
            about_type=command.about_type,
            office=command.office,
            channel=command.channel,
            audience=command.audience,
            mandatory=command.mandatory,
            wording=command.wording,
            title=command.title,
            text=command.text,
        ),
        NotificationDelivered(
            about=command.about, office=command.office, channel=command.channel, receipt=command.receipt
        ),
    ]


def _mark_read(state: DispatchState, command: MarkRead) -> Sequence[Event]:
    """N-read: only the office that it is for; reading it again says nothing new."""
    if state.office is None:
        raise Refused("N-read", "그런 알림이 없습니다.", "There is no such notice.", kind="absent")
    if command.by.office != state.office:
        raise Refused(
            "N-read",
            "알림은 받은 직위에서만 확인할 수 있습니다.",
            "Only the office that a notice is for can acknowledge it.",
            kind="authority",
        )
    return [] if state.read else [NotificationRead(office=state.office)]


def evolve(state: DispatchState, event: Event) -> DispatchState:
    """The state after an event."""
    match event:
        case NotificationRequested():
            return replace(state, office=event.office)
        case NotificationRead():
            return replace(state, read=True)
        case _:
            return state


DISPATCH = Decider(
    name="Dispatch",
    initial=DispatchState(),
    decide=decide,
    evolve=evolve,
    commands=(RequestAndDeliver, MarkRead),
)
