"""Events of the notifications service: who was told what, and whether it arrived (section 10)."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from shared.contracts.envelope import Event, Id, Label, Line, register


class NotificationRequested(Event):
    """An office is to be told of an event over a channel; one for each event, office and channel."""

    type: Literal["NotificationRequested"] = "NotificationRequested"
    about: Id
    """Event id of what is told."""
    about_type: Id
    office: Id
    channel: Id
    audience: Literal["raiser", "reviewer", "secretary", "lead"]
    mandatory: bool
    wording: Id
    """Which text of ``wording/``; no title of a case stands in it."""
    title: Label
    text: Label


class NotificationDelivered(Event):
    """Inbox: it is in the office's inbox, which counts as delivery (I-8). E-mail: the mail server has taken it over."""

    type: Literal["NotificationDelivered"] = "NotificationDelivered"
    about: Id
    office: Id
    channel: Id
    receipt: Line
    """By e-mail the server's reply code and queue id; never an address."""


class NotificationFailed(Event):
    """An attempt to deliver outside failed; the next one, where one follows, has its time."""

    type: Literal["NotificationFailed"] = "NotificationFailed"
    about: Id
    office: Id
    channel: Id
    attempt: int
    """Counts from 1."""
    detail: Line
    """The server's reply code, or what went wrong in one word; never an address, never the server's words."""
    attempted_at: AwareDatetime
    """Real time, not business time: mail servers know no other."""
    next_attempt_at: AwareDatetime | None
    """Real time; ``None`` where it was given up."""


class NotificationGivenUp(Event):
    """No further attempt is made: it was refused for good, or the last attempt failed."""

    type: Literal["NotificationGivenUp"] = "NotificationGivenUp"
    about: Id
    office: Id
    channel: Id
    attempts: int
    reason: Literal["refused", "exhausted"]
    detail: Line


class NotificationRead(Event):
    """The office acknowledged it: an act, not a page view."""

    type: Literal["NotificationRead"] = "NotificationRead"
    office: Id


for _cls in (
    NotificationRequested,
    NotificationDelivered,
    NotificationFailed,
    NotificationGivenUp,
    NotificationRead,
):
    register(_cls, "notifications")
