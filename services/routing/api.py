"""Routing's gateway: what the triage desk, owners and the operator may command. Reads are in ``reads.py``."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, time

from services.routing.body import (
    BODY,
    AdoptCharter,
    AdoptCharterBody,
    AppointMember,
    AppointMemberBody,
    CloseEdge,
    CloseEdgeBody,
    EstablishBody,
    EstablishBodyBody,
    OpenEdge,
    OpenEdgeBody,
    RemoveMember,
    RemoveMemberBody,
)
from services.routing.calendar import WORKING_CALENDAR, PublishCalendar, PublishCalendarBody
from services.routing.case import (
    CASE,
    AssignManually,
    AssignManuallyBody,
    CompleteImplementation,
    CompleteImplementationBody,
    ReportImplementation,
    ReportImplementationBody,
    State,
)
from services.routing.clock import CLOCK, CLOCK_ID, ShiftClock, ShiftClockBody
from services.routing.office import (
    OFFICE,
    AppointHolder,
    AppointHolderBody,
    EstablishOffice,
    EstablishOfficeBody,
    RemoveHolder,
    RemoveHolderBody,
)
from services.routing.placement import Placement
from services.routing.region import (
    REGION_REGISTER,
    REGISTER,
    PublishGrouping,
    PublishGroupingBody,
    RecodeRegion,
    RecodeRegionBody,
    RegisterRegion,
    RegisterRegionBody,
    SucceedRegion,
    SucceedRegionBody,
)
from services.routing.ruleset import RULE_SET, PublishRuleSet, PublishRuleSetBody
from services.routing.tables import TableFault, faults
from shared.contracts.codes import CaseState
from shared.contracts.reference import BodyEstablished, RuleSetPublished
from shared.runtime.declare import Absent, Act, Gateway, Request, Resource
from shared.runtime.directory import SEOUL

GATEWAY = Gateway("routing")


# Cases


def the_case(request: Request) -> Resource:
    """The case as the policy table asks of it. One that nobody holds any more is refused by its own rule."""
    state = _opened(request)
    holding, asked = state.holding, state.asked
    return Resource(
        body=holding.body if holding else request.actor.body,
        regions=tuple(region.region for region in asked.regions) if asked else (),
        nationwide=asked.nationwide if asked else False,
        office=holding.office if holding else None,
        stage=holding.state if holding else "closed",
    )


@GATEWAY.command(
    "/v1/cases/{case_id}/assignment",
    action="assign_case",
    operation_id="assignCase",
    body=AssignManuallyBody,
    resource=the_case,
    example={
        "body": "council-gangwon",
        "reason": {"code": "no_rule", "text": "맞는 규칙이 없어 담당 지역협의회에 배정함"},
    },
)
def assign_case(request: Request, body: AssignManuallyBody) -> Act:
    """Assign a case that no rule could route to a council or the planning group (row 9)."""
    state = _opened(request)
    asked = state.asked
    directory = request.directory
    rules = directory.rule_set_version(asked.rule_version) if asked else None
    if asked is None or rules is None:
        raise Absent("case")
    placement = Placement(directory, rules, request.today)
    named = placement.body(body.body)
    step = _step(state, named)
    lead: str | None = None
    proposed: tuple[str, ...] = ()
    if step == "in_joint_review":
        with suppress(TableFault):  # the very reason why the case is here, perhaps: the secretary consults freely
            lead, proposed = placement.departments(asked)
    command = AssignManually(
        **request.envelope("T-9"),
        **dict(body),
        holding=placement.holding(named, step) if step else None,
        lead=lead,
        proposed=proposed,
    )
    case_id = request.path["case_id"]
    return Act(CASE, case_id, command, key=case_id, case_id=case_id, trace=placement.trace())


def _step(state: State, named: BodyEstablished | None) -> CaseState | None:
    """To intake while the issue is not accepted, else to the council's floor or into joint review (row 9)."""
    if named is None or named.kind not in ("council", "planning_group"):
        return None
    if state.next_step == "intake":
        return "intake"
    return "at_body" if named.kind == "council" else "in_joint_review"


@GATEWAY.command(
    "/v1/cases/{case_id}/implementation-reports",
    action="report_implementation",
    operation_id="reportImplementation",
    body=ReportImplementationBody,
    resource=the_case,
    example={"text": "실시설계를 마치고 보상에 착수함", "evidence": ["설계도서 2024-03"]},
)
def report_implementation(request: Request, body: ReportImplementationBody) -> Act:
    """Report how the work on a resolved case stands, with evidence (row 38)."""
    case_id = request.path["case_id"]
    command = ReportImplementation(**request.envelope("T-38"), **dict(body))
    return Act(CASE, case_id, command, key=case_id, case_id=case_id)


@GATEWAY.command(
    "/v1/cases/{case_id}/completion",
    action="complete_implementation",
    operation_id="completeImplementation",
    body=CompleteImplementationBody,
    resource=the_case,
    example={"text": "가드레일 설치를 마침", "evidence": ["준공검사 2023-06-30"]},
)
def complete_implementation(request: Request, body: CompleteImplementationBody) -> Act:
    """Complete the work on a case without a policy, and with it the case (row 38a)."""
    case_id = request.path["case_id"]
    command = CompleteImplementation(**request.envelope("T-38a"), **dict(body))
    return Act(CASE, case_id, command, key=case_id, case_id=case_id)


def _opened(request: Request) -> State:
    state, _ = request.load(CASE, request.path["case_id"])
    if not isinstance(state, State) or state.asked is None:
        raise Absent("case")
    return state


# The clock


@GATEWAY.command(
    "/v1/clock/shifts",
    action="shift_clock",
    operation_id="shiftClock",
    body=ShiftClockBody,
    if_match=False,
    example={"date": "2023-05-08"},
)
def shift_clock(request: Request, body: ShiftClockBody) -> Act:
    """Move the business clock forward to an instant or a day (development issuer only)."""
    if body.to is not None:
        to = body.to
    elif body.date == request.today or body.date is None:
        to = request.now
    else:
        to = datetime.combine(body.date, time(9), SEOUL)
    command = ShiftClock(
        **request.envelope("T-clock"),
        to=to.astimezone(SEOUL),
        real=request.now - request.directory.clock_offset,
        development=request.development,
    )
    return Act(CLOCK, CLOCK_ID, command, key=CLOCK_ID)


# Reference facts, by the operator

_BY_OPERATOR = "keep_reference"
_RULE = "reference"


@GATEWAY.command(
    "/v1/reference/bodies",
    action=_BY_OPERATOR,
    operation_id="establishBody",
    body=EstablishBodyBody,
    if_match=False,
)
def establish_body(request: Request, body: EstablishBodyBody) -> Act:
    """Establish a body from a day on."""
    ancestors = _ancestors(request, body.parent, body.valid_from)
    command = EstablishBody(**request.envelope(_RULE), **dict(body), ancestors=ancestors)
    return Act(BODY, body.body, command, key=body.body)


def _ancestors(request: Request, parent: str | None, day: date) -> tuple[str, ...]:
    found: list[str] = []
    while parent is not None and parent not in found:
        above = request.directory.body(parent, day)
        if above is None:
            break
        found.append(parent)
        parent = above.parent
    return tuple(found)


@GATEWAY.command(
    "/v1/reference/charters",
    action=_BY_OPERATOR,
    operation_id="adoptCharter",
    body=AdoptCharterBody,
    if_match=False,
)
def adopt_charter(request: Request, body: AdoptCharterBody) -> Act:
    """Adopt a version of a body's charter."""
    return Act(BODY, body.body, AdoptCharter(**request.envelope(_RULE), **dict(body)), key=body.body)


@GATEWAY.command(
    "/v1/reference/members",
    action=_BY_OPERATOR,
    operation_id="appointMember",
    body=AppointMemberBody,
    if_match=False,
)
def appoint_member(request: Request, body: AppointMemberBody) -> Act:
    """Enter a seat of a body with its role and fields of expertise."""
    sender = body.on_behalf_of
    known = sender is not None and request.directory.body(sender, body.valid_from) is not None
    command = AppointMember(**request.envelope(_RULE), **dict(body), sender_known=known)
    return Act(BODY, body.body, command, key=body.body)


@GATEWAY.command(
    "/v1/reference/departed-members",
    action=_BY_OPERATOR,
    operation_id="removeMember",
    body=RemoveMemberBody,
    if_match=False,
)
def remove_member(request: Request, body: RemoveMemberBody) -> Act:
    """End a seat of a body on a day."""
    return Act(BODY, body.body, RemoveMember(**request.envelope(_RULE), **dict(body)), key=body.body)


@GATEWAY.command(
    "/v1/reference/edges",
    action=_BY_OPERATOR,
    operation_id="openEdge",
    body=OpenEdgeBody,
    if_match=False,
)
def open_edge(request: Request, body: OpenEdgeBody) -> Act:
    """Open an edge from one body to another."""
    known = request.directory.body(body.to_body, body.valid_from) is not None
    command = OpenEdge(**request.envelope(_RULE), **dict(body), to_body_known=known)
    return Act(BODY, body.body, command, key=body.body)


@GATEWAY.command(
    "/v1/reference/closed-edges",
    action=_BY_OPERATOR,
    operation_id="closeEdge",
    body=CloseEdgeBody,
    if_match=False,
)
def close_edge(request: Request, body: CloseEdgeBody) -> Act:
    """Close an edge on a day."""
    return Act(BODY, body.body, CloseEdge(**request.envelope(_RULE), **dict(body)), key=body.body)


@GATEWAY.command(
    "/v1/reference/offices",
    action=_BY_OPERATOR,
    operation_id="establishOffice",
    body=EstablishOfficeBody,
    if_match=False,
)
def establish_office(request: Request, body: EstablishOfficeBody) -> Act:
    """Establish an office of a body."""
    known = request.directory.body(body.body, body.valid_from) is not None
    command = EstablishOffice(**request.envelope(_RULE), **dict(body), body_known=known)
    return Act(OFFICE, body.office, command, key=body.office)


@GATEWAY.command(
    "/v1/reference/holders",
    action=_BY_OPERATOR,
    operation_id="appointHolder",
    body=AppointHolderBody,
    if_match=False,
)
def appoint_holder(request: Request, body: AppointHolderBody) -> Act:
    """Appoint a holder of an office from a day on."""
    return Act(OFFICE, body.office, AppointHolder(**request.envelope(_RULE), **dict(body)), key=body.office)


@GATEWAY.command(
    "/v1/reference/departed-holders",
    action=_BY_OPERATOR,
    operation_id="removeHolder",
    body=RemoveHolderBody,
    if_match=False,
)
def remove_holder(request: Request, body: RemoveHolderBody) -> Act:
    """End a subject's hold of an office on a day."""
    return Act(OFFICE, body.office, RemoveHolder(**request.envelope(_RULE), **dict(body)), key=body.office)


@GATEWAY.command(
    "/v1/reference/regions",
    action=_BY_OPERATOR,
    operation_id="registerRegion",
    body=RegisterRegionBody,
    if_match=False,
)
def register_region(request: Request, body: RegisterRegionBody) -> Act:
    """Enter a region into the register."""
    return Act(REGION_REGISTER, REGISTER, RegisterRegion(**request.envelope(_RULE), **dict(body)), key=REGISTER)


@GATEWAY.command(
    "/v1/reference/region-codes",
    action=_BY_OPERATOR,
    operation_id="recodeRegion",
    body=RecodeRegionBody,
    if_match=False,
)
def recode_region(request: Request, body: RecodeRegionBody) -> Act:
    """Give the same region another code or name from a day on."""
    return Act(REGION_REGISTER, REGISTER, RecodeRegion(**request.envelope(_RULE), **dict(body)), key=REGISTER)


@GATEWAY.command(
    "/v1/reference/region-successions",
    action=_BY_OPERATOR,
    operation_id="succeedRegion",
    body=SucceedRegionBody,
    if_match=False,
)
def succeed_region(request: Request, body: SucceedRegionBody) -> Act:
    """End a region on a day and name its successors."""
    return Act(REGION_REGISTER, REGISTER, SucceedRegion(**request.envelope(_RULE), **dict(body)), key=REGISTER)


@GATEWAY.command(
    "/v1/reference/groupings",
    action=_BY_OPERATOR,
    operation_id="publishGrouping",
    body=PublishGroupingBody,
    if_match=False,
)
def publish_grouping(request: Request, body: PublishGroupingBody) -> Act:
    """Publish a scheme of megaregions."""
    return Act(REGION_REGISTER, REGISTER, PublishGrouping(**request.envelope(_RULE), **dict(body)), key=REGISTER)


@GATEWAY.command(
    "/v1/reference/rule-sets",
    action=_BY_OPERATOR,
    operation_id="publishRuleSet",
    body=PublishRuleSetBody,
    if_match=False,
)
def publish_rule_set(request: Request, body: PublishRuleSetBody) -> Act:
    """Publish a version of the rules from a day on."""
    found = faults(RuleSetPublished(**dict(body)))
    command = PublishRuleSet(**request.envelope(_RULE), **dict(body), faults=found)
    return Act(RULE_SET, body.rule_set, command, key=body.rule_set)


@GATEWAY.command(
    "/v1/reference/calendars",
    action=_BY_OPERATOR,
    operation_id="publishCalendar",
    body=PublishCalendarBody,
    if_match=False,
)
def publish_calendar(request: Request, body: PublishCalendarBody) -> Act:
    """Publish the working calendar of a year."""
    command = PublishCalendar(**request.envelope(_RULE), **dict(body))
    return Act(WORKING_CALENDAR, body.calendar, command, key=body.calendar)
