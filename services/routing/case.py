"""Case: where an issue is, whose turn it is, and until when (section 5).

A case moves only by what the process manager makes of a decision, a review or an adopted policy (rule (a)); the triage
desk assigns what no rule matched, and owners report. Which body comes next, its office, date and clock stand in the
command: they are answers of data. Whether the case may go there now is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from pydantic import Field

from shared.contracts.codes import CaseState, CostBand, Origin, Outcome
from shared.contracts.envelope import Command, Event, Fact, Id, Line, Reason, Text
from shared.contracts.issues import RegionRef
from shared.contracts.routing import (
    CaseClosed,
    CaseLinkedToPolicy,
    CaseMoved,
    CaseOpened,
    CaseResolvedAtReview,
    CaseResolvedBySupportGroup,
    CaseRouted,
    CaseUnrouted,
    DeadlineChanged,
    Document,
    EscalatedToForum,
    EscalatedToSupportGroup,
    Holding,
    ImplementationAssigned,
    ImplementationCompleted,
    ImplementationReported,
    MoveRefused,
)
from shared.decider import Decider, Refused

ARRIVALS: dict[str, type[EscalatedToSupportGroup] | type[EscalatedToForum] | type[CaseMoved]] = {
    "EscalatedToSupportGroup": EscalatedToSupportGroup,
    "EscalatedToForum": EscalatedToForum,
    "CaseMoved": CaseMoved,
}
"""Arrival events that the row of a tier may name; ``CaseMoved`` where it names none (section 4)."""

TASK_CLOCK = "task"
"""Name of the clock of a date that a task of the linked policy gave."""
DECISION_CLOCK = "decision"
"""Name of the clock of a date that a decision gave."""


# Facts and commands


class Asked(Fact):
    """What the rules ask of an issue, as it stood when the case began, and the version of the rules it began under."""

    regions: tuple[RegionRef, ...] = ()
    nationwide: bool = False
    raised_by: Id
    plan_item: Id | None = None
    tags: tuple[Line, ...] = ()
    cost_band: CostBand = "not_above_b"
    origin: Origin = "local_government"
    rule_version: int


class Edge(Fact):
    """An edge of the body graph that leads out of the present holder on the day of the act (I-3)."""

    edge: Id
    to_body: Id


class OpenCase(Command):
    """Row 1: an issue was raised; the intake body has it. ``holding`` is null where no office or clock was found."""

    asked: Asked
    holding: Holding | None
    copies_to: tuple[Id, ...] = ()


class _Caused(Command):
    cause: Id
    """Event id of what was heard: the same fact moves a case once (I-18)."""


class _Move(_Caused):
    from_body: Id
    """The body that decided or reviewed: a case that has left it stays where it is (rule (b))."""


class LeaveUnrouted(_Caused):
    """Row 8: no rule matched at opening or after acceptance; the triage desk has it."""

    asked: Asked
    from_body: Id | None
    next_step: Literal["intake", "after_acceptance"]
    holding: Holding | None


class RouteCase(_Move):
    """Row 4: accepted; to the council's floor, or into joint review where the planning group is the intake body."""

    holding: Holding | None
    lead: Id | None = None
    proposed: tuple[Id, ...] = ()


class CloseRefused(_Move):
    """Row 5: refused at intake."""

    reason: Reason


class TakeForReview(_Move):
    """Row 11: from a body's floor into joint review, over its one ``review`` edge."""

    edges: tuple[Edge, ...]
    holding: Holding | None
    lead: Id | None = None
    proposed: tuple[Id, ...] = ()


class ResolveOnSite(_Move):
    """Rows 11a and 11b: resolved at the council; with owner and date where work remains."""

    reason: Reason | None
    owner: Id | None
    due: date | None
    holding: Holding | None


class ChangeDeadline(_Move):
    """Row 11d: the body heard the case or postponed it; only its date moves."""

    code: Literal["noted", "postpone_next"]
    due: date | None
    reason: Reason | None


class ResolveAtReview(_Move):
    """Row 17: the round's direction settles the case; its lead carries it out."""

    round: int
    holding: Holding | None


class EscalateCase(_Move):
    """Rows 18 and 24: over the one ``escalate`` edge to the next body; ``round`` where a review was concluded."""

    round: int | None = None
    edges: tuple[Edge, ...]
    holding: Holding | None
    arrival: Id | None
    """The arrival event that the target tier's row of data names."""
    documents: tuple[Document, ...]
    reason: Reason | None


class ResolveAtBody(_Move):
    """Row 23: resolved at the support group; an owner carries it out until a date."""

    owner: Id | None
    due: date | None
    holding: Holding | None
    convergence: Text | None = None


class LinkToPolicy(_Move):
    """Row 30: the Minister adopted a policy that answers the case."""

    policy_id: Id
    policy_revision: int
    reason: Text
    holding: Holding | None


class FollowTask(_Caused):
    """Walk, step 32: a task of the linked policy has a date; the case waits for the earliest."""

    policy_id: Id
    due: date
    reason: Reason


class CompleteByPolicy(_Caused):
    """Row 38b: the linked policy is implemented."""

    policy_id: Id
    text: Text
    evidence: tuple[Line, ...]


class RecordMoveRefused(Command):
    """A move was refused: the fact stays on the case and in the triage queue (rule (b))."""

    rule: Line
    ko: Line
    en: Line
    body: Id
    cause: Id
    cause_type: Id


class AssignManuallyBody(Fact):
    """What the triage desk says: which body, and why (row 9, I-8)."""

    body: Id
    reason: Reason


class AssignManually(AssignManuallyBody, Command):
    """Row 9: the triage desk names the body."""

    holding: Holding | None
    """Null where the body does not exist that day, is no council and no planning group, or lacks office or clock."""
    lead: Id | None = None
    proposed: tuple[Id, ...] = ()


class ReportImplementationBody(Fact):
    """How the work stands, with evidence (row 38)."""

    text: Text
    evidence: tuple[Line, ...] = Field(min_length=1, max_length=20)


class ReportImplementation(ReportImplementationBody, Command):
    """Row 38: the owner reports."""


class CompleteImplementationBody(Fact):
    """The work is done, with evidence (row 38a)."""

    text: Text
    evidence: tuple[Line, ...] = Field(min_length=1, max_length=20)


class CompleteImplementation(CompleteImplementationBody, Command):
    """Row 38a: the owner says that it is done; only where no policy is linked."""


# State


@dataclass(frozen=True)
class State:
    """What the rules need of a case's past."""

    asked: Asked | None = None
    holding: Holding | None = None
    """Null before the case began and after it ended (I-2)."""
    next_step: Literal["intake", "after_acceptance"] | None = None
    """At the triage desk: the step for which no rule matched."""
    round: int = 0
    """Number of the round of joint review, open or concluded."""
    concluded: int = 0
    """Number of the last concluded round (I-4)."""
    documents: tuple[Document, ...] = ()
    """What the present holder was given (I-21)."""
    outcome: Outcome | None = None
    """What the case will close with, once somebody carries it out."""
    policy_id: str | None = None
    cause: str = ""
    """Event id behind the last move: the same cause moves nothing twice (I-18)."""
    refusal: str = ""
    """Event id behind the last refused move."""
    report: ReportImplementationBody | None = None


# Rules


def decide(state: State, command: Command) -> Sequence[Event]:
    """What a command stores; raises ``Refused`` with the rule that forbids it."""
    if isinstance(command, _Caused) and command.cause == state.cause:
        return []
    match command:
        case OpenCase():
            return open_case(state, command)
        case LeaveUnrouted():
            return leave_unrouted(state, command)
        case RouteCase():
            return route_case(state, command)
        case CloseRefused():
            return close_refused(state, command)
        case AssignManually():
            return assign_manually(state, command)
        case TakeForReview():
            return take_for_review(state, command)
        case ResolveOnSite():
            return resolve_on_site(state, command)
        case ChangeDeadline():
            return change_deadline(state, command)
        case ResolveAtReview():
            return resolve_at_review(state, command)
        case EscalateCase():
            return escalate_case(state, command)
        case ResolveAtBody():
            return resolve_at_body(state, command)
        case LinkToPolicy():
            return link_to_policy(state, command)
        case FollowTask():
            return follow_task(state, command)
        case ReportImplementation():
            return report_implementation(state, command)
        case CompleteImplementation():
            return complete_implementation(state, command)
        case CompleteByPolicy():
            return complete_by_policy(state, command)
        case RecordMoveRefused():
            return record_move_refused(state, command)
        case _:
            raise AssertionError(f"Case does not understand {type(command).__name__}")


def open_case(state: State, command: OpenCase) -> Sequence[Event]:
    """Row 1: the intake body has the case, with an office and a date (I-22)."""
    if state.asked is not None:
        return []
    return [
        CaseOpened(holding=_complete(command, command.holding), copies_to=command.copies_to, **dict(command.asked)),
    ]


def leave_unrouted(state: State, command: LeaveUnrouted) -> Sequence[Event]:
    """Row 8: never lost, never routed by default (B4): the triage desk has one working day."""
    if state.asked is not None and command.next_step == "intake":
        return []
    if command.next_step == "after_acceptance":
        _still_with(state, command.from_body, "intake")
    return [
        CaseUnrouted(
            from_body=command.from_body,
            holding=_complete(command, command.holding),
            next_step=command.next_step,
            cause=command.cause,
            **dict(command.asked),
        )
    ]


def route_case(state: State, command: RouteCase) -> Sequence[Event]:
    """Row 4: the intake body keeps the case, on its floor or in joint review; any other body needs an edge (I-3)."""
    _still_with(state, command.from_body, "intake")
    holding = _complete(command, command.holding)
    if holding.body != command.from_body:
        raise _no_edge()
    return [
        CaseRouted(
            from_body=command.from_body,
            holding=holding,
            lead=command.lead,
            proposed=command.proposed,
            cause=command.cause,
        )
    ]


def close_refused(state: State, command: CloseRefused) -> Sequence[Event]:
    """Row 5: a refusal at intake ends the case, with its reason (I-8, D9)."""
    _still_with(state, command.from_body, "intake")
    return [CaseClosed(from_body=command.from_body, outcome="refused", reason=command.reason, cause=command.cause)]


def assign_manually(state: State, command: AssignManually) -> Sequence[Event]:
    """Row 9: only from the triage desk; to intake while not accepted, else to a floor or into joint review."""
    present = state.holding
    if present is None or present.state != "unrouted":
        raise Refused(
            "T-9",
            "배정 창구에 있는 사건만 직접 배정할 수 있습니다.",
            "Only a case that waits at the triage desk can be assigned by hand.",
        )
    if command.holding is None:
        raise Refused(
            "T-9",
            "그 기구에는 배정할 수 없습니다. 담당 직위와 처리기간이 있는 현존 지역협의회나 기획단이어야 합니다.",
            "The case cannot be assigned to that body: name a council or the planning group that exists today and has "
            "an office and a clock.",
        )
    return [
        CaseRouted(
            from_body=present.body,
            holding=_complete(command, command.holding),
            lead=command.lead,
            proposed=command.proposed,
            override=True,
            reason=command.reason,
            cause=state.cause,
        )
    ]


def take_for_review(state: State, command: TakeForReview) -> Sequence[Event]:
    """Row 11: over the one review edge of that day (I-3)."""
    _still_with(state, command.from_body, "at_body")
    return [
        CaseRouted(
            from_body=command.from_body,
            holding=_over_one_edge(command, command.edges, command.holding),
            lead=command.lead,
            proposed=command.proposed,
            cause=command.cause,
        )
    ]


def resolve_on_site(state: State, command: ResolveOnSite) -> Sequence[Event]:
    """Rows 11a and 11b: nothing left to do ends the case; an owner with a date carries out what was promised."""
    _still_with(state, command.from_body, "at_body")
    if command.reason is None:
        raise Refused(
            "D-resolved_on_site",
            "현장해결에는 사유가 있어야 합니다.",
            "A case resolved on site needs a reason.",
        )
    if command.owner is None and command.due is None:
        return [
            CaseClosed(
                from_body=command.from_body, outcome="resolved_on_site", reason=command.reason, cause=command.cause
            )
        ]
    if command.owner is None or command.due is None:
        raise Refused(
            "D-resolved_on_site",
            "할 일이 남아 있으면 담당 기관과 기한을 함께 정해야 합니다.",
            "Where work remains, an owner and a date are both needed.",
        )
    return [_assigned(command, "resolved_on_site", command.holding)]


def change_deadline(state: State, command: ChangeDeadline) -> Sequence[Event]:
    """Row 11d: the next date, given by the decision (I-17); a postponement has a reason (I-8)."""
    holding = _still_with(state, command.from_body, "at_body")
    if command.due is None:
        raise Refused(
            f"D-{command.code}",
            "보고·청취나 차기상정에는 다음 일자가 있어야 합니다.",
            "A case that was noted or postponed needs its next date.",
        )
    if command.code == "postpone_next" and command.reason is None:
        raise Refused("D-postpone_next", "차기상정에는 사유가 있어야 합니다.", "A postponement needs a reason.")
    return [
        DeadlineChanged(
            body=holding.body,
            office=holding.office,
            due=_not_past(command, command.due),
            clock=DECISION_CLOCK,
            reason=command.reason or Reason(code="noted", text="보고·청취: 다음 일자 지정"),
            cause=command.cause,
        )
    ]


def resolve_at_review(state: State, command: ResolveAtReview) -> Sequence[Event]:
    """Row 17: the review settles the case; the lead has it now, until a date."""
    _still_with(state, command.from_body, "in_joint_review")
    _same_round(state, command.round)
    return [
        CaseResolvedAtReview(round=command.round, cause=command.cause),
        _assigned(command, "resolved_by_department", command.holding),
    ]


def escalate_case(state: State, command: EscalateCase) -> Sequence[Event]:
    """Rows 18 and 24: edge valid that day (I-3), review concluded (I-4), nothing withheld (I-21), a reason."""
    _still_with(state, command.from_body, "at_body" if command.round is None else "in_joint_review")
    if command.round is not None:
        _same_round(state, command.round)
    elif not state.concluded:
        raise Refused(
            "I-4",
            "합동검토가 끝나지 않은 사건은 상위 회의체에 회부할 수 없습니다.",
            "A case whose joint review has not been concluded cannot be escalated.",
        )
    if command.reason is None:
        raise Refused(
            "T-24",
            "상위 회의체 회부에는 정해진 목록의 사유가 있어야 합니다.",
            "An escalation needs a reason from the list.",
        )
    holding = _over_one_edge(command, command.edges, command.holding)
    if not set(state.documents) <= set(command.documents):
        raise Refused(
            "I-21",
            "지금 기구가 가진 자료를 모두 상위 회의체에 넘겨야 합니다.",
            "Every document that the present body has must be handed over to the next.",
        )
    return [
        ARRIVALS[command.arrival or "CaseMoved"](
            from_body=command.from_body,
            holding=holding,
            documents=command.documents,
            reason=command.reason,
            cause=command.cause,
        )
    ]


def resolve_at_body(state: State, command: ResolveAtBody) -> Sequence[Event]:
    """Row 23: an owner and a date are mandatory (section 6)."""
    _still_with(state, command.from_body, "at_body")
    if command.owner is None or command.due is None:
        raise Refused(
            "D-resolved",
            "해결 결정에는 담당 기관과 기한이 있어야 합니다.",
            "A decision that resolves a case needs an owner and a date.",
        )
    return [
        CaseResolvedBySupportGroup(body=command.from_body, convergence=command.convergence, cause=command.cause),
        _assigned(command, "resolved_by_support_group", command.holding),
    ]


def link_to_policy(state: State, command: LinkToPolicy) -> Sequence[Event]:
    """Row 30: only a case that the deciding body still has; its owner carries the policy out until the review date."""
    _still_with(state, command.from_body, "at_body")
    return [
        CaseLinkedToPolicy(
            policy_id=command.policy_id,
            policy_revision=command.policy_revision,
            reason=command.reason,
            cause=command.cause,
        ),
        _assigned(command, "adopted_in_policy", command.holding, command.policy_id),
    ]


def follow_task(state: State, command: FollowTask) -> Sequence[Event]:
    """Walk, step 32: the first task's date replaces the review date; of several the earliest stands (I-17)."""
    holding = _under_policy(state, command.policy_id)
    if holding.clock == TASK_CLOCK and holding.due <= command.due:
        return []
    return [
        DeadlineChanged(
            body=holding.body,
            office=holding.office,
            due=_not_past(command, command.due),
            clock=TASK_CLOCK,
            reason=command.reason,
            cause=command.cause,
        )
    ]


def report_implementation(state: State, command: ReportImplementation) -> Sequence[Event]:
    """Row 38: the owner of the task, with evidence."""
    _owned(state, command, "T-38")
    if state.report == ReportImplementationBody(text=command.text, evidence=command.evidence):
        return []
    return [ImplementationReported(text=command.text, evidence=command.evidence)]


def complete_implementation(state: State, command: CompleteImplementation) -> Sequence[Event]:
    """Row 38a: the owner ends the case, unless a policy is linked: then the policy does (row 38b)."""
    holding = _owned(state, command, "T-38a")
    if state.policy_id is not None:
        raise Refused(
            "T-38a",
            "정책에 연결된 사건은 그 정책의 이행이 끝나면 종결됩니다.",
            "A case linked to a policy ends when that policy is implemented.",
        )
    assert state.outcome is not None  # every assignment names it
    return [
        ImplementationCompleted(text=command.text, evidence=command.evidence),
        CaseClosed(from_body=holding.body, outcome=state.outcome, cause=state.cause),
    ]


def complete_by_policy(state: State, command: CompleteByPolicy) -> Sequence[Event]:
    """Row 38b: the policy is implemented, and so is the case."""
    holding = _under_policy(state, command.policy_id)
    return [
        ImplementationCompleted(text=command.text, evidence=command.evidence, cause=command.cause),
        CaseClosed(from_body=holding.body, outcome=state.outcome or "adopted_in_policy", cause=command.cause),
    ]


def record_move_refused(state: State, command: RecordMoveRefused) -> Sequence[Event]:
    """Rule (b): what was heard and moved nothing stays on record, once for each cause."""
    if command.cause == state.refusal:
        return []
    if state.asked is None:
        raise Refused("T-1", "아직 열리지 않은 사건입니다.", "This case has not been opened yet.")
    return [command.as_event(MoveRefused)]


# What several rules share


def _still_with(state: State, body: str | None, expected: CaseState) -> Holding:
    """Rule (b): the case must still be with the body that decided, in the state that the row starts from."""
    holding = state.holding
    if holding is None or holding.body != body or holding.state != expected:
        raise Refused(
            "rule-b",
            "사건이 이미 그 기구나 그 단계를 떠났으므로 이 결정으로는 옮겨지지 않습니다.",
            "The case has meanwhile left that body or that stage, so this moves nothing.",
        )
    return holding


def _same_round(state: State, number: int) -> None:
    if number != state.round:
        raise Refused(
            "rule-b",
            "지금 진행 중인 차수의 검토가 아니므로 사건이 옮겨지지 않습니다.",
            "This review is not of the case's present round, so it moves nothing.",
        )


def _complete(command: Command, holding: Holding | None) -> Holding:
    """I-22: every holding has a body, an office, a date that is not past, and a clock."""
    if holding is None:
        raise Refused(
            "I-22",
            "받을 기구의 담당 직위나 처리기간을 찾을 수 없어 사건을 넘길 수 없습니다.",
            "The receiving body has no responsible office or no clock on this day, so the case cannot go there.",
        )
    _not_past(command, holding.due)
    return holding


def _not_past(command: Command, due: date) -> date:
    if due < command.today:
        raise Refused("I-22", "기한이 이미 지난 날짜입니다.", "The date lies in the past.")
    return due


def _over_one_edge(command: Command, edges: tuple[Edge, ...], holding: Holding | None) -> Holding:
    """I-3: exactly one edge of that kind leads out on that day, and the case goes where it leads."""
    if len(edges) != 1:
        raise _no_edge()
    complete = _complete(command, holding)
    if complete.body != edges[0].to_body:
        raise _no_edge()
    return complete


def _no_edge() -> Refused:
    return Refused(
        "I-3",
        "이 날짜에 그 기구로 가는 경로가 없거나 하나로 정해지지 않습니다.",
        "On this day no single edge leads from the present body to that one.",
    )


def _assigned(
    command: _Move, outcome: Outcome, holding: Holding | None, policy_id: str | None = None
) -> ImplementationAssigned:
    return ImplementationAssigned(
        from_body=command.from_body,
        holding=_complete(command, holding),
        outcome=outcome,
        policy_id=policy_id,
        cause=command.cause,
    )


def _under_policy(state: State, policy_id: str) -> Holding:
    if state.holding is None or state.policy_id != policy_id:
        raise Refused(
            "T-38b",
            "이 사건은 그 정책으로 이행 중이 아닙니다.",
            "The case is not being carried out under that policy.",
        )
    return state.holding


def _owned(state: State, command: Command, rule: str) -> Holding:
    """Rows 38 and 38a: in implementation, and the owner acts (I-9)."""
    holding = state.holding
    if holding is None or holding.state != "implementing":
        raise Refused(rule, "이행 중인 사건이 아닙니다.", "The case is not being carried out.")
    if command.by.body != holding.body:
        raise Refused(
            "I-9",
            "이행을 맡은 기관만 할 수 있는 일입니다.",
            "Only the body that owns the task may do this.",
            kind="authority",
        )
    return holding


# Facts


def evolve(state: State, event: Event) -> State:
    """The state after an event."""
    match event:
        case CaseOpened():
            return replace(state, asked=_asked(event, event.raised_by), holding=event.holding)
        case CaseUnrouted():
            asked = state.asked
            if asked is None and event.raised_by is not None:
                asked = _asked(event, event.raised_by)
            return replace(state, asked=asked, holding=event.holding, next_step=event.next_step, cause=event.cause)
        case CaseRouted():
            decided = state.holding is not None and state.holding.state == "at_body"
            return replace(
                state,
                holding=event.holding,
                next_step=None,
                round=state.round + (event.holding.state == "in_joint_review"),
                documents=(*state.documents, decision(event.cause)) if decided else state.documents,
                cause=event.cause,
            )
        case EscalatedToSupportGroup() | EscalatedToForum() | CaseMoved():
            return replace(
                state,
                holding=event.holding,
                concluded=state.round,
                documents=event.documents,
                cause=event.cause,
            )
        case CaseResolvedAtReview():
            return replace(state, concluded=event.round)
        case CaseLinkedToPolicy():
            return replace(state, policy_id=event.policy_id)
        case ImplementationAssigned():
            return replace(state, holding=event.holding, outcome=event.outcome, cause=event.cause)
        case DeadlineChanged() if state.holding is not None:
            holding = Holding(
                state=state.holding.state,
                tier=state.holding.tier,
                body=event.body,
                office=event.office,
                due=event.due,
                clock=event.clock,
            )
            return replace(state, holding=holding, cause=event.cause)
        case ImplementationReported():
            return replace(state, report=ReportImplementationBody(text=event.text, evidence=event.evidence))
        case CaseClosed():
            return replace(state, holding=None, cause=event.cause)
        case MoveRefused():
            return replace(state, refusal=event.cause)
        case _:
            return state


def decision(cause: str) -> Document:
    """The decision that moved a case, as one of its documents (I-21)."""
    return Document(kind="decision", ref=cause)


def _asked(event: CaseOpened | CaseUnrouted, raised_by: str) -> Asked:
    return Asked(
        regions=event.regions,
        nationwide=event.nationwide,
        raised_by=raised_by,
        plan_item=event.plan_item,
        tags=event.tags,
        cost_band=event.cost_band,
        origin=event.origin,
        rule_version=event.rule_version,
    )


CASE = Decider(
    name="Case",
    initial=State(),
    decide=decide,
    evolve=evolve,
    commands=(
        OpenCase,
        LeaveUnrouted,
        RouteCase,
        CloseRefused,
        AssignManually,
        TakeForReview,
        ResolveOnSite,
        ChangeDeadline,
        ResolveAtReview,
        EscalateCase,
        ResolveAtBody,
        LinkToPolicy,
        FollowTask,
        ReportImplementation,
        CompleteImplementation,
        CompleteByPolicy,
        RecordMoveRefused,
    ),
)
