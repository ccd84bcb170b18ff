"""Events of the meetings service: what bodies did, what was adopted and what became of it (section 9)."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from shared.contracts.codes import DecisionCode, EscalationReason, Method, Stance
from shared.contracts.envelope import Event, Fact, Id, Label, Line, Reason, Text, register

LATEST = date(2200, 1, 1)
"""Dates that clients name lie before it, so that reckoning with them never leaves the calendar."""

Advice = Literal["for", "with_conditions", "against", "divided"]


class CharterRef(Fact):
    """Which charter applied on the day of the meeting (I-10)."""

    charter: Id
    version: int
    quorum: int
    method: Method


class Source(Fact):
    """What a policy follows from (I-12): an issue (its case id), a direction or a strategy."""

    kind: Literal["issue"]
    ref: Id


class DecisionFields(Fact):
    """The fields that the codes of section 6 ask for; which are mandatory depends on the code."""

    reason: Reason | None = None
    owner: Id | None = None
    """The department or body that carries it out."""
    due: date | None = Field(default=None, lt=LATEST)
    """Date of what is to be done; with ``noted`` and ``postpone_next`` the next date."""
    escalation: EscalationReason | None = None
    convergence: Text | None = None
    """How departments that had disagreed came together (D8)."""
    policy_id: Id | None = None
    policy_revision: int | None = Field(default=None, ge=1, le=1_000_000)
    policy_hash: Line | None = None
    review_date: date | None = Field(default=None, lt=LATEST)
    sources: tuple[Source, ...] = ()
    emergency_clause: Line | None = None
    departure_reason: Text | None = None
    """Why the Minister departs from the forum's majority advice (I-12)."""


class MeetingPlanned(Event):
    """A sitting of a body on a day (walk, step 3)."""

    type: Literal["MeetingPlanned"] = "MeetingPlanned"
    body: Id
    day: date
    place: Line
    form: Literal["on_site", "online"]


class AgendaItemPlaced(Event):
    """An item from the waiting list was put on the agenda (walk, step 5)."""

    type: Literal["AgendaItemPlaced"] = "AgendaItemPlaced"
    item: int
    kind: Literal["case"]
    case_id: Id
    policy_id: Id | None = None


class MeetingOpened(Event):
    """The chair opened the sitting under a charter."""

    type: Literal["MeetingOpened"] = "MeetingOpened"
    body: Id
    charter: CharterRef


class AttendanceRecorded(Event):
    """Who attends: seats, never names."""

    type: Literal["AttendanceRecorded"] = "AttendanceRecorded"
    present: tuple[Id, ...]
    absent: tuple[Id, ...]


class QuorumEstablished(Event):
    """Attendance reached what the charter asks for (I-10)."""

    type: Literal["QuorumEstablished"] = "QuorumEstablished"
    present: int
    required: int


class ItemOpened(Event):
    """The chair called an item."""

    type: Literal["ItemOpened"] = "ItemOpened"
    item: int
    case_id: Id | None


class StatementRecorded(Event):
    """A member's position on an item, with the field valid that day (row 29, I-11, E8)."""

    type: Literal["StatementRecorded"] = "StatementRecorded"
    item: int
    case_id: Id | None
    seat: Id
    field: Id
    stance: Stance
    text: Text


class DeliberationConcluded(Event):
    """The chair closed the deliberation: advice, fields heard and not heard (row 29)."""

    type: Literal["DeliberationConcluded"] = "DeliberationConcluded"
    item: int
    case_id: Id | None
    advice: Advice
    fields_heard: tuple[Id, ...]
    fields_not_heard: tuple[Id, ...]
    text: Text


class DecisionRecorded(Event):
    """What the body decided on an item (rows 10, 22, 30; codes and fields of section 6)."""

    type: Literal["DecisionRecorded"] = "DecisionRecorded"
    decision: Id
    """Meeting id and item number: the decision's own name."""
    body: Id
    item: int
    case_id: Id | None
    code: DecisionCode
    method: Method
    clause: Line
    """The charter clause that lends the power."""
    fields: DecisionFields

    @property
    def reason(self) -> Reason | None:
        """The decision's reason, for the envelope (I-8)."""
        return self.fields.reason


class ItemClosed(Event):
    """An item is finished, with a decision or without (then it is back on the waiting list)."""

    type: Literal["ItemClosed"] = "ItemClosed"
    item: int
    case_id: Id | None
    result: Literal["decided", "undecided"]


class MeetingHeld(Event):
    """The sitting ended."""

    type: Literal["MeetingHeld"] = "MeetingHeld"
    body: Id
    items_decided: int
    items_undecided: int


class PolicyDrafted(Event):
    """The planning group drafted a policy (row 29a): text by its hash, sources, plan item."""

    type: Literal["PolicyDrafted"] = "PolicyDrafted"
    title: Line
    text: Text
    text_hash: Line
    revision: int
    sources: tuple[Source, ...] = Field(min_length=1)
    plan_item: Id | None = None


class PolicyAdopted(Event):
    """The Minister adopted a revision (row 30, I-12)."""

    type: Literal["PolicyAdopted"] = "PolicyAdopted"
    revision: int
    text_hash: Line
    meeting_id: Id
    item: int
    decision_event: Id
    """Event id of the Minister's ``DecisionRecorded``."""
    deliberation_event: Id | None
    """``<meeting id>.<item>`` of the ``DeliberationConcluded`` that it follows; ``None`` under the emergency clause."""
    emergency_clause: Line | None
    sources: tuple[Source, ...] = Field(min_length=1)
    cases: tuple[Id, ...]
    owner: Id
    review_date: date
    departure_reason: Text | None = None
    plan_item: Id | None = None


class PolicyTaskAssigned(Event):
    """A task of an adopted policy has an owner, regions and a date (G3)."""

    type: Literal["PolicyTaskAssigned"] = "PolicyTaskAssigned"
    task: Id
    title: Line
    owner: Id
    regions: tuple[Id, ...]
    due: date
    cases: tuple[Id, ...]


class ProgressReported(Event):
    """The owner told how a task stands, with evidence."""

    type: Literal["ProgressReported"] = "ProgressReported"
    task: Id
    done: bool
    text: Text
    evidence: tuple[Line, ...]


class PolicyImplemented(Event):
    """All tasks are done (walk, step 33)."""

    type: Literal["PolicyImplemented"] = "PolicyImplemented"
    cases: tuple[Id, ...]
    tasks: int
    evidence: tuple[Line, ...]


class PlanPublished(Event):
    """The ministry's work plan of a year (section 8)."""

    type: Literal["PlanPublished"] = "PlanPublished"
    year: int
    title: Label
    presented_on: date
    source: Line


class PlanItemAdded(Event):
    """An item of the work plan: direction, item or the open leaf under a direction (G4)."""

    type: Literal["PlanItemAdded"] = "PlanItemAdded"
    year: int
    item: Id
    parent: Id | None
    name: Label
    note: Text | None = None
    valid_from: date
    valid_to: date | None = None
    source: Line


for _cls in (
    MeetingPlanned,
    AgendaItemPlaced,
    MeetingOpened,
    AttendanceRecorded,
    QuorumEstablished,
    ItemOpened,
    StatementRecorded,
    DeliberationConcluded,
    DecisionRecorded,
    ItemClosed,
    MeetingHeld,
    PolicyDrafted,
    PolicyAdopted,
    PolicyTaskAssigned,
    ProgressReported,
    PolicyImplemented,
    PlanPublished,
    PlanItemAdded,
):
    register(_cls, "meetings")
