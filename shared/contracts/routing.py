"""Events of routing on a case: where it is, whose turn it is, until when, and why (section 5).

Every event that opens a holding carries body, office, date and clock (rule (d), I-22).
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from shared.contracts.codes import CaseState, CostBand, Origin, Outcome
from shared.contracts.envelope import Event, Fact, Id, Line, Reason, Text, register
from shared.contracts.issues import RegionRef


class Holding(Fact):
    """Who has the case from now on, what is expected, and by when (I-2, I-22)."""

    state: CaseState
    tier: Id | None = None
    """Code of the tier where ``state`` is ``at_body`` (R2, R4, R5 and whatever else the data names)."""
    body: Id
    office: Id
    due: date
    clock: Id
    """Name of the clock profile that gave ``due``; ``decision`` where a decision named the date itself."""


class Document(Fact):
    """A document handed over with a case: what it is and where it stands (I-21)."""

    kind: Id
    ref: Line


class CaseOpened(Event):
    """A case began its way (row 1)."""

    type: Literal["CaseOpened"] = "CaseOpened"
    holding: Holding
    regions: tuple[RegionRef, ...]
    nationwide: bool = False
    raised_by: Id
    copies_to: tuple[Id, ...] = ()
    plan_item: Id | None = None
    tags: tuple[Line, ...] = ()
    cost_band: CostBand = "not_above_b"
    origin: Origin = "local_government"
    rule_version: int = 1
    """Version of the rule set that the case started with and keeps (B6)."""


class CaseRouted(Event):
    """The case went to a council's floor or into joint review (rows 4, 9, 11)."""

    type: Literal["CaseRouted"] = "CaseRouted"
    from_body: Id
    holding: Holding
    lead: Id | None = None
    proposed: tuple[Id, ...] = ()
    override: bool = False
    reason: Reason | None = None
    cause: Id


class CaseUnrouted(Event):
    """No rule matched: the triage desk has the case (row 8)."""

    type: Literal["CaseUnrouted"] = "CaseUnrouted"
    from_body: Id | None
    holding: Holding
    next_step: Literal["intake", "after_acceptance"]
    regions: tuple[RegionRef, ...] = ()
    nationwide: bool = False
    raised_by: Id | None = None
    cause: Id
    plan_item: Id | None = None
    tags: tuple[Line, ...] = ()
    cost_band: CostBand = "not_above_b"
    origin: Origin = "local_government"
    rule_version: int = 1
    """Version of the rule set, as in ``CaseOpened``."""


class _Arrival(Event):
    from_body: Id
    holding: Holding
    documents: tuple[Document, ...]
    withheld: tuple[Document, ...] = ()
    reason: Reason
    cause: Id


class EscalatedToSupportGroup(_Arrival):
    """The support group under the 1st Vice Minister has the case (row 18)."""

    type: Literal["EscalatedToSupportGroup"] = "EscalatedToSupportGroup"


class EscalatedToForum(_Arrival):
    """The Minister's forum has the case (row 24)."""

    type: Literal["EscalatedToForum"] = "EscalatedToForum"


class CaseMoved(_Arrival):
    """The case arrived at a tier whose row of data names no arrival event of its own."""

    type: Literal["CaseMoved"] = "CaseMoved"


class CaseResolvedAtReview(Event):
    """The review itself settles the case; a department carries it out (row 17)."""

    type: Literal["CaseResolvedAtReview"] = "CaseResolvedAtReview"
    round: int
    cause: Id


class CaseResolvedBySupportGroup(Event):
    """The support group resolved the case (row 23); ``convergence`` where departments had disagreed (D8)."""

    type: Literal["CaseResolvedBySupportGroup"] = "CaseResolvedBySupportGroup"
    body: Id
    convergence: Text | None = None
    cause: Id


class CaseLinkedToPolicy(Event):
    """An adopted policy answers the case (row 30)."""

    type: Literal["CaseLinkedToPolicy"] = "CaseLinkedToPolicy"
    policy_id: Id
    policy_revision: int
    link: Literal["fully", "partly", "inspired_by"] = "fully"
    reason: Text
    cause: Id


class ImplementationAssigned(Event):
    """What was decided has an owner and a date (rows 11b, 17, 23, 30)."""

    type: Literal["ImplementationAssigned"] = "ImplementationAssigned"
    from_body: Id
    holding: Holding
    outcome: Outcome
    """The outcome that the case will close with (section 6)."""
    policy_id: Id | None = None
    cause: Id


class ImplementationReported(Event):
    """The owner told how the work stands (row 38)."""

    type: Literal["ImplementationReported"] = "ImplementationReported"
    text: Text
    evidence: tuple[Line, ...]


class ImplementationCompleted(Event):
    """The work is done, with evidence (rows 38a, 38b)."""

    type: Literal["ImplementationCompleted"] = "ImplementationCompleted"
    text: Text
    evidence: tuple[Line, ...]
    cause: Id | None = None


class DeadlineChanged(Event):
    """Another date for the present holder, with its reason (row 11d, I-17)."""

    type: Literal["DeadlineChanged"] = "DeadlineChanged"
    body: Id
    office: Id
    due: date
    clock: Id
    reason: Reason
    cause: Id


class CaseClosed(Event):
    """The case ended (rows 5, 11a, 38a, 38b)."""

    type: Literal["CaseClosed"] = "CaseClosed"
    from_body: Id
    outcome: Outcome
    reason: Reason | None = None
    cause: Id


class MoveRefused(Event):
    """A decision or review was heard that moves nothing; the body's secretary is told (rule (b))."""

    type: Literal["MoveRefused"] = "MoveRefused"
    rule: Line
    ko: Line
    en: Line
    body: Id
    cause: Id
    cause_type: Id


for _cls in (
    CaseOpened,
    CaseRouted,
    CaseUnrouted,
    EscalatedToSupportGroup,
    EscalatedToForum,
    CaseMoved,
    CaseResolvedAtReview,
    CaseResolvedBySupportGroup,
    CaseLinkedToPolicy,
    ImplementationAssigned,
    ImplementationReported,
    ImplementationCompleted,
    DeadlineChanged,
    CaseClosed,
    MoveRefused,
):
    register(_cls, "routing")
