"""Which event is told to whom: rows 1 to 3 of the notification table of section 10, "at once" and mandatory.

``CaseOpened`` is not in the table: its raiser is told by the receipt, which stands in the same step of the procedure.
``CaseUnrouted`` is told to those who must act on it; the raiser hears of the next move. Of the other rows only what has
an event in the contracts could be added here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from shared.contracts.codes import BodyKind, OfficeRole
from shared.contracts.envelope import Event
from shared.contracts.issues import DepartmentConsulted, DepartmentReminded, IssueReviewed, ReceiptIssued
from shared.contracts.meetings import DecisionRecorded
from shared.contracts.routing import (
    CaseClosed,
    CaseLinkedToPolicy,
    CaseMoved,
    CaseResolvedAtReview,
    CaseResolvedBySupportGroup,
    CaseRouted,
    CaseUnrouted,
    DeadlineChanged,
    EscalatedToForum,
    EscalatedToSupportGroup,
    ImplementationAssigned,
    MoveRefused,
)

Audience = Literal["raiser", "reviewer", "secretary", "lead"]
"""``raiser``: raising body and co-raisers. ``reviewer``: the department that was asked. ``secretary``: of both bodies,
the one that gives and the one that gets the case. ``lead``: reviewer of the lead department, where there is one."""

AUDIENCES: Mapping[type[Event], tuple[Audience, ...]] = {
    # Row 1: receipt, review, change of state, decision, expected date
    ReceiptIssued: ("raiser",),
    IssueReviewed: ("raiser",),
    DecisionRecorded: ("raiser",),
    CaseResolvedAtReview: ("raiser",),
    CaseResolvedBySupportGroup: ("raiser",),
    CaseLinkedToPolicy: ("raiser",),
    ImplementationAssigned: ("raiser",),
    DeadlineChanged: ("raiser",),
    CaseClosed: ("raiser",),
    # Row 2: a department's turn
    DepartmentConsulted: ("reviewer",),
    DepartmentReminded: ("reviewer",),
    # Row 3, and row 1 where the state changes: a move
    CaseRouted: ("raiser", "secretary", "lead"),
    EscalatedToSupportGroup: ("raiser", "secretary", "lead"),
    EscalatedToForum: ("raiser", "secretary", "lead"),
    CaseMoved: ("raiser", "secretary", "lead"),
    CaseUnrouted: ("secretary",),
    MoveRefused: ("secretary",),
}
"""The order within a row is the order in which an office that belongs to several audiences is counted."""

ROW: Mapping[Audience, str] = {"raiser": "N-1", "reviewer": "N-2", "secretary": "N-3", "lead": "N-3"}
"""Row of the notification table by which an audience is told."""

DESK_OF_KIND: Mapping[BodyKind, OfficeRole] = {
    "council": "secretary",
    "planning_group": "secretary",
    "support_group": "secretary",
    "forum": "secretary",
    "department": "reviewer",
    "organisation": "officer",
    "triage": "desk",
    "operations": "operator",
}
"""Which office of a body is told what the body is to know."""


def wording_of(event: Event) -> str:
    """Which text tells of an event: by its type, and where a text would else be vague by its code or state."""
    match event:
        case DecisionRecorded():
            return f"DecisionRecorded.{event.code}"
        case CaseClosed():
            return f"CaseClosed.{event.outcome}"
        case CaseRouted():
            return f"CaseRouted.{event.holding.state}"
        case _:
            return event.type
