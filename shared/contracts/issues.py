"""Events of the issues service: what was asked, and its merits (section 2; rows 1 to 16 of section 5)."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from shared.contracts.codes import Channel, CostBand, Instrument, OpinionType, Origin, Outcome, ReviewOutcome
from shared.contracts.envelope import Event, Fact, Id, Line, Reason, Text, register


class RegionRef(Fact):
    """A region as it stood on the day: our id, and the MOIS code and Korean name valid then (I-16)."""

    region: Id
    code: Line
    name: Line


class Direction(Fact):
    """Direction of support (지원방향, capability D3): with what instrument, by whom, on what basis, by when."""

    instruments: tuple[Instrument, ...] = Field(min_length=1, max_length=7)
    lead: Id
    legal_basis: Line
    cost_band: CostBand
    horizon: Line
    plan_item: Id | None = None
    statute_needed: bool = False
    text: Text


class OpinionRef(Fact):
    """One department's opinion as the conclusion of a review counts it."""

    department: Id
    opinion: OpinionType | Literal["not_given"]


class IssueRaised(Event):
    """A suggestion of a region was received (row 1). Case id = issue id, for life."""

    type: Literal["IssueRaised"] = "IssueRaised"
    title: Line
    text: Text
    revision: int = 1
    nationwide: bool = False
    regions: tuple[RegionRef, ...] = ()
    """The lead region first; empty only where ``nationwide`` (I-1)."""
    raised_by: Id
    """The raising organisation's body; who wrote it down is the envelope's actor."""
    co_raisers: tuple[Id, ...] = ()
    channel: Channel
    origin: Origin
    plan_item: Id | None = None
    tags: tuple[Line, ...] = ()
    cost_band: CostBand = "not_above_b"
    external_id: Line | None = None


class ReceiptIssued(Event):
    """The raiser's receipt with the docket number, which is never used again and never changes (A6)."""

    type: Literal["ReceiptIssued"] = "ReceiptIssued"
    docket: Line
    issued_to: Id
    copies_to: tuple[Id, ...] = ()
    """The co-raisers, who get the receipt too."""


class IssueAccepted(Event):
    """The intake body found the suggestion complete (row 4)."""

    type: Literal["IssueAccepted"] = "IssueAccepted"
    intake_body: Id


class IssueRefused(Event):
    """The intake body refused the suggestion, with its reason (row 5, I-8)."""

    type: Literal["IssueRefused"] = "IssueRefused"
    intake_body: Id
    reason: Reason
    drafted_by: Id


class IssueClosed(Event):
    """Routing closed the case; the issue follows (section 4)."""

    type: Literal["IssueClosed"] = "IssueClosed"
    outcome: Outcome


class JointReviewOpened(Event):
    """A round of joint review began (rows 4, 9 and 11)."""

    type: Literal["JointReviewOpened"] = "JointReviewOpened"
    round: int
    revision: int
    body: Id
    lead: Id | None
    """The lead that the rules propose; null where none was found."""
    proposed: tuple[Id, ...]


class DepartmentConsulted(Event):
    """A department was asked for its opinion on a revision, until a date (row 12)."""

    type: Literal["DepartmentConsulted"] = "DepartmentConsulted"
    round: int
    department: Id
    lead: bool
    revision: int
    due: date


class DepartmentReminded(Event):
    """The date passed without an opinion; a second date was set (row 12a)."""

    type: Literal["DepartmentReminded"] = "DepartmentReminded"
    round: int
    department: Id
    due: date


class OpinionNotGiven(Event):
    """The second date passed too: the department's silence is on record (row 12b, D6)."""

    type: Literal["OpinionNotGiven"] = "OpinionNotGiven"
    round: int
    department: Id


class OpinionGiven(Event):
    """A department's opinion on one revision (row 13, I-7)."""

    type: Literal["OpinionGiven"] = "OpinionGiven"
    round: int
    department: Id
    revision: int
    opinion: OpinionType
    conditions: tuple[Text, ...] = ()
    text: Text


class SupportDirectionSet(Event):
    """The lead department set the direction of support (row 15)."""

    type: Literal["SupportDirectionSet"] = "SupportDirectionSet"
    round: int
    revision: int
    direction: Direction


class IssueReviewed(Event):
    """The round was concluded (row 16): outcome, how far opinions lie apart, and the direction of support."""

    type: Literal["IssueReviewed"] = "IssueReviewed"
    round: int
    revision: int
    outcome: ReviewOutcome
    divergence: float = Field(ge=0, le=1)
    """Highest minus lowest opinion: support 1, with conditions 0.75, an alternative 0.5, not supportable 0."""
    lead: Id
    opinions: tuple[OpinionRef, ...]
    direction: Direction | None
    alternatives: tuple[Text, ...] = ()
    no_alternative_because: Text | None = None
    text: Text


for _cls in (
    IssueRaised,
    ReceiptIssued,
    IssueAccepted,
    IssueRefused,
    IssueClosed,
    JointReviewOpened,
    DepartmentConsulted,
    DepartmentReminded,
    OpinionNotGiven,
    OpinionGiven,
    SupportDirectionSet,
    IssueReviewed,
):
    register(_cls, "issues")
