"""Issue: what was asked, by whom, and whether it was taken in (rows 1, 4, 5; sections 4 and 7 of the domain model)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from shared.contracts.codes import BodyKind, Channel, CostBand, Origin, Outcome
from shared.contracts.envelope import Command, Event, Fact, Id, Line, Reason, Text
from shared.contracts.issues import IssueAccepted, IssueClosed, IssueRaised, IssueRefused, ReceiptIssued, RegionRef
from shared.decider import Decider, Refused

INTAKE = "R1"
"""Stage of a case whose intake body has not yet answered."""

NOT_OURS = "not_competent"
"""Reason code of a transfer to another authority (row 6): no ground for a refusal."""

_EARLIEST, _LATEST = datetime(1948, 8, 15, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""No suggestion to this ministry is older; outside of this a day in Seoul might not be computable."""

_ORIGIN_OF_KIND: dict[BodyKind, Origin] = {"department": "ministry", "forum": "expert"}


class RaiseIssueBody(Fact):
    """What a raiser gives: subject, regions (the lead region first) or nationwide, channel, for whom."""

    title: Line
    text: Text
    regions: tuple[Line, ...] = Field(default=(), max_length=50)
    """Each an id, a code or a name of a region as valid on the effective day."""
    nationwide: bool = False
    raised_by: Id | None = None
    """The raising body; the own one unless told."""
    co_raisers: tuple[Id, ...] = Field(default=(), max_length=50)
    channel: Channel
    origin: Origin | None = None
    """Where it comes from; follows from the raising body unless told."""
    plan_item: Id | None = None
    tags: tuple[Line, ...] = Field(default=(), max_length=20)
    cost_band: CostBand = "not_above_b"
    external_id: Line | None = None
    effective_at: AwareDatetime | None = Field(default=None, ge=_EARLIEST, lt=_LATEST)
    """When it was first put forward, where that is earlier than today."""


class RaiseIssue(RaiseIssueBody, Command):
    """Raise an issue. Facts: the regions and raising bodies as the directory knows them on the effective day."""

    docket: Line
    regions_found: tuple[RegionRef | None, ...]
    """For each of ``regions`` what it was on that day; ``None`` where there was no such region."""
    raiser: Id
    """``raised_by``, or the acting office's body."""
    raiser_kind: BodyKind | None
    co_raiser_kinds: tuple[BodyKind | None, ...] = ()


class AcceptIssueBody(Fact):
    """Nothing to add: the suggestion is complete."""


class AcceptIssue(AcceptIssueBody, Command):
    """Accept an issue. Facts: which body holds the case, and in which stage."""

    holder: Id | None
    stage: Line | None


class RefuseIssueBody(Fact):
    """Why it is refused, and which office drafted that."""

    reason: Reason
    drafted_by: Id


class RefuseIssue(RefuseIssueBody, Command):
    """Refuse an issue. Facts: which body holds the case, in which stage, and the office of that body's secretary."""

    holder: Id | None
    stage: Line | None
    secretary: Id | None


class CloseIssue(Command):
    """Follow routing, which closed the case (section 4)."""

    outcome: Outcome


@dataclass(frozen=True)
class IssueState:
    """``status`` as in section 4; ``revision`` is the number of the text that opinions speak of (I-7)."""

    status: Literal["none", "raised", "accepted", "refused", "closed"] = "none"
    revision: int = 0


def decide(state: IssueState, command: Command) -> Sequence[Event]:
    """The events of a command; raises ``Refused`` by rows 1, 4, 5 or I-1."""
    match command:
        case RaiseIssue():
            return _raise(state, command)
        case AcceptIssue():
            return _accept(state, command)
        case RefuseIssue():
            return _refuse(state, command)
        case CloseIssue():
            return _close(state, command)
        case _:
            raise TypeError(f"Issue does not understand {type(command).__name__}")


def _raise(state: IssueState, command: RaiseIssue) -> Sequence[Event]:
    """Row 1 and I-1: at least one region of that day or nationwide, a raising body of that day, a receipt at once."""
    if state.status != "none":
        raise Refused("T-1", "이 번호의 현안은 이미 접수되었습니다.", "An issue with this id was already raised.")
    if command.effective_at is not None and command.effective_at > command.at:
        raise Refused(
            "T-1",
            "건의한 날은 오늘보다 늦을 수 없습니다.",
            "The day of the suggestion cannot lie in the future.",
        )
    if not command.regions and not command.nationwide:
        raise Refused(
            "I-1",
            "지역을 하나 이상 적거나 전국 사안임을 밝혀야 합니다.",
            "Name at least one region, or say that the issue is nationwide.",
        )
    unknown = [number for number, region in enumerate(command.regions_found, start=1) if region is None]
    if unknown:
        which = ", ".join(map(str, unknown))
        raise Refused(
            "I-1",
            f"적으신 지역 가운데 건의한 날에 없던 지역이 있습니다(순번: {which}).",
            f"Not every region existed on the day of the suggestion (number in the list: {which}).",
        )
    if not _may_raise(command.raiser_kind, own=command.by.body == command.raiser):
        raise Refused(
            "T-1",
            "제기 기관은 그날 있던 지방자치단체이거나, 스스로 제기하는 소관부서 또는 포럼이어야 합니다.",
            "The raising body must be an organisation that existed on that day, or a department or the forum "
            "raising an issue of its own.",
        )
    if any(kind not in ("organisation", "department") for kind in command.co_raiser_kinds):
        raise Refused(
            "T-1",
            "공동 제기 기관은 모두 그날 있던 지방자치단체나 소관부서여야 합니다.",
            "Every co-raiser must be an organisation or a department that existed on that day.",
        )
    co_raisers = tuple(body for body in dict.fromkeys(command.co_raisers) if body != command.raiser)
    return [
        IssueRaised(
            title=command.title,
            text=command.text,
            nationwide=command.nationwide,
            # The same region named twice, by code and by name, is one; the order given stands, the first leads.
            regions=tuple(dict.fromkeys(region for region in command.regions_found if region is not None)),
            raised_by=command.raiser,
            co_raisers=co_raisers,
            channel=command.channel,
            origin=command.origin or _ORIGIN_OF_KIND.get(command.raiser_kind or "organisation", "local_government"),
            plan_item=command.plan_item,
            tags=command.tags,
            cost_band=command.cost_band,
            external_id=command.external_id,
        ),
        ReceiptIssued(docket=command.docket, issued_to=command.raiser, copies_to=co_raisers),
    ]


def _may_raise(kind: BodyKind | None, *, own: bool) -> bool:
    """Others may write down what an organisation suggests; a department or the forum speaks for itself (row 1)."""
    return kind == "organisation" or (kind in ("department", "forum") and own)


def _accept(state: IssueState, command: AcceptIssue) -> Sequence[Event]:
    """Row 4: the intake body finds the suggestion complete."""
    if state.status == "accepted":
        return []
    _must_be_raised(state, "T-4")
    holder = _intake_body(command.holder, command.stage, command.by.body, "T-4")
    return [IssueAccepted(intake_body=holder)]


def _refuse(state: IssueState, command: RefuseIssue) -> Sequence[Event]:
    """Row 5 and I-8: the chair refuses on the secretary's draft, with a reason that is more than "not ours"."""
    if state.status == "refused":
        return []
    _must_be_raised(state, "T-5")
    holder = _intake_body(command.holder, command.stage, command.by.body, "T-5")
    if command.secretary is None or command.drafted_by != command.secretary:
        raise Refused(
            "T-5",
            "반려는 접수 기관 간사의 안에 따라야 합니다.",
            "A refusal rests on a draft by the secretary of the intake body.",
        )
    if command.reason.code == NOT_OURS:
        raise Refused(
            "T-5",
            "소관이 아니라는 사유만으로는 반려할 수 없으며, 다른 기관으로의 이송은 아직 제공하지 않습니다.",
            "That it is not ours is no ground for a refusal; a transfer to another authority (row 6) is not available.",
        )
    return [IssueRefused(intake_body=holder, reason=command.reason, drafted_by=command.drafted_by)]


def _close(state: IssueState, command: CloseIssue) -> Sequence[Event]:
    """Section 4: the issue follows its case; one that was refused or closed has ended already."""
    if state.status in ("refused", "closed"):
        return []
    if state.status == "none":
        raise Refused("T-38", "그런 현안이 없습니다.", "There is no such issue.", kind="absent")
    return [IssueClosed(outcome=command.outcome)]


def _must_be_raised(state: IssueState, rule: str) -> None:
    match state.status:
        case "raised":
            return
        case "none":
            raise Refused(rule, "그런 현안이 없습니다.", "There is no such issue.", kind="absent")
        case "accepted":
            raise Refused(rule, "이미 수리된 현안입니다.", "The issue was already accepted.")
        case "refused":
            raise Refused(rule, "이미 반려된 현안입니다.", "The issue was already refused.")
        case "closed":
            raise Refused(rule, "이미 종결된 현안입니다.", "The issue is already closed.")


def _intake_body(holder: str | None, stage: str | None, acting: str, rule: str) -> str:
    if stage != INTAKE or holder is None:
        raise Refused(
            rule,
            "이 현안은 지금 접수 단계에 있지 않습니다.",
            "The case is not at intake now.",
        )
    if acting != holder:
        raise Refused(
            rule,
            "이 현안의 접수 기관만 할 수 있는 일입니다.",
            "Only the intake body of the case may do this.",
            kind="authority",
        )
    return holder


def evolve(state: IssueState, event: Event) -> IssueState:
    """The state after an event."""
    match event:
        case IssueRaised():
            return IssueState("raised", event.revision)
        case IssueAccepted():
            return replace(state, status="accepted")
        case IssueRefused():
            return replace(state, status="refused")
        case IssueClosed():
            return replace(state, status="closed")
        case _:
            return state


ISSUE = Decider(
    name="Issue",
    initial=IssueState(),
    decide=decide,
    evolve=evolve,
    commands=(RaiseIssue, AcceptIssue, RefuseIssue, CloseIssue),
)
