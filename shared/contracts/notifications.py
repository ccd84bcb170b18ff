"""Events of the notifications service: who was told what, and whether it arrived (section 10)."""

from __future__ import annotations

from typing import Literal

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
    """It is in the office's inbox; that counts as delivery (I-8)."""

    type: Literal["NotificationDelivered"] = "NotificationDelivered"
    about: Id
    office: Id
    channel: Id
    receipt: Line


class NotificationRead(Event):
    """The office acknowledged it: an act, not a page view."""

    type: Literal["NotificationRead"] = "NotificationRead"
    office: Id


for _cls in (NotificationRequested, NotificationDelivered, NotificationRead):
    register(_cls, "notifications")
