"""REST gateway of meetings: ``/v1/meetings``, ``/v1/waiting-list``, ``/v1/policies``, ``/v1/work-plan``.

Handlers look up the facts that the rules need, in local tables and in the own streams, and put them into the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.meetings.meeting import (
    MEETING,
    CloseItem,
    CloseItemBody,
    CloseMeeting,
    CloseMeetingBody,
    ConcludeDeliberation,
    ConcludeDeliberationBody,
    Item,
    Meeting,
    OpenItem,
    OpenItemBody,
    OpenMeeting,
    OpenMeetingBody,
    PlaceAgendaItem,
    PlaceAgendaItemBody,
    PlanMeeting,
    PlanMeetingBody,
    PolicySeen,
    RecordAttendance,
    RecordAttendanceBody,
    RecordDecision,
    RecordDecisionBody,
    RecordStatement,
    RecordStatementBody,
    Waiting,
)
from services.meetings.policy import (
    POLICY,
    AssignTask,
    AssignTaskBody,
    CompletePolicy,
    CompletePolicyBody,
    DraftPolicy,
    DraftPolicyBody,
    Policy,
    ReportProgress,
    ReportProgressBody,
    SourceSeen,
)
from services.meetings.views.meeting_file import (
    MEETING_FILE,
    MeetingFile,
    MeetingRow,
    meeting_file,
    meeting_rows,
    with_fields,
    with_titles,
)
from services.meetings.views.policy_register import (
    POLICY_REGISTER,
    PolicyFile,
    PolicyRow,
    policy_file,
    policy_rows,
)
from services.meetings.views.waiting_list import (
    WAITING_LIST,
    WaitingCase,
    cases_seen,
    titles_of,
    waiting_cases,
)
from services.meetings.views.work_plan import WORK_PLAN_TREE, WorkPlanTree, has_item, plan_tree
from shared.contracts.codes import BodyKind
from shared.contracts.meetings import MeetingPlanned
from shared.runtime.declare import Absent, Act, Facts, Gateway, One, Page, Request, Resource
from shared.runtime.directory import DIRECTORY

GATEWAY = Gateway("meetings")

DECISION_ROWS: dict[BodyKind, str] = {"council": "T-10", "support_group": "T-22", "forum": "T-30"}
"""The row of section 5 by which a body of that kind decides."""


# What the routes are about


def _meeting(request: Request) -> tuple[str, Meeting, MeetingPlanned]:
    meeting_id = request.path["meeting_id"]
    meeting, _ = request.load(MEETING, meeting_id)
    if meeting.plan is None:
        raise Absent("meeting")
    return meeting_id, meeting, meeting.plan


def _item(request: Request, meeting: Meeting) -> tuple[int, Item]:
    text = request.path["item"]
    item = meeting.items.get(int(text)) if text.isascii() and text.isdecimal() and len(text) <= 4 else None
    if item is None:
        raise Absent("agenda item")
    return int(text), item


def _policy(request: Request) -> tuple[str, Policy]:
    policy_id = request.path["policy_id"]
    policy, _ = request.load(POLICY, policy_id)
    if policy.draft is None:
        raise Absent("policy")
    return policy_id, policy


def _of_new_meeting(request: Request) -> Resource:
    return Resource(body=request.body.body)


def _of_meeting(request: Request) -> Resource:
    _, meeting, plan = _meeting(request)
    return Resource(body=plan.body, stage=meeting.phase)


def _of_policy(request: Request) -> Resource:
    _, policy = _policy(request)
    return Resource(body=None if policy.adopted is None else policy.adopted.owner, stage=policy.phase)


def _of_task(request: Request) -> Resource:
    _, policy = _policy(request)
    task = policy.tasks.get(request.path["task"])
    if task is None:
        raise Absent("task")
    return Resource(body=task.assigned.owner, stage=policy.phase)


def _kind(facts: Facts, body: str | None) -> BodyKind | None:
    found = None if body is None else facts.directory.body(body, facts.today)
    return None if found is None else found.kind


def _policy_seen(request: Request, policy_id: str | None) -> tuple[PolicySeen | None, dict[str, int]]:
    """A policy as it stands, and the read that names its version; nothing where there is no such policy."""
    if policy_id is None:
        return None, {}
    policy, version = request.load(POLICY, policy_id)
    if policy.draft is None:
        return None, {}
    seen = PolicySeen(
        policy_id=policy_id,
        drafted=policy.phase == "drafted",
        revision=policy.draft.revision,
        text_hash=policy.draft.text_hash,
        sources=policy.draft.sources,
    )
    return seen, {f"{POLICY.name}/{policy_id}": version}


def _last(request: Request, rows: Sequence[Any], *keys: str) -> tuple[Any, ...] | None:
    """Sort key of the last row, where there may be more."""
    if len(rows) < request.limit:
        return None
    return tuple(str(getattr(rows[-1], key)) for key in keys)


# Meetings


@GATEWAY.command(
    "/v1/meetings",
    action="plan_meeting",
    operation_id="planMeeting",
    body=PlanMeetingBody,
    resource=_of_new_meeting,
    creates=True,
    example={"body": "council-gangwon", "day": "2023-05-24", "place": "Gangwon provincial office", "form": "on_site"},
)
def plan(request: Request, body: PlanMeetingBody) -> Act:
    """Plan a sitting of the own body."""
    meeting_id = request.new_id()
    command = PlanMeeting(**dict(body), **request.envelope("T-10"))
    return Act(MEETING, meeting_id, command, key=meeting_id, location=f"/v1/meetings/{meeting_id}")


@GATEWAY.command(
    "/v1/meetings/{meeting_id}/items",
    action="place_item",
    operation_id="placeAgendaItem",
    body=PlaceAgendaItemBody,
    resource=_of_meeting,
    example={"case_id": "01890a5d-ac96-774b-bcce-b302099a8057", "policy_id": None},
)
def place(request: Request, body: PlaceAgendaItemBody) -> Act:
    """Put a case from the waiting list on the agenda."""
    meeting_id, _, _ = _meeting(request)
    seen = cases_seen(request.db, request.tables(WAITING_LIST), [body.case_id]).get(body.case_id)
    waiting = None
    if seen is not None and seen.state == "at_body" and seen.body is not None:
        waiting = Waiting(body=seen.body, case_version=seen.version)
    policy, reads = _policy_seen(request, body.policy_id)
    command = PlaceAgendaItem(**dict(body), **request.envelope("T-10"), waiting=waiting, policy=policy)
    return Act(MEETING, meeting_id, command, key=meeting_id, case_id=body.case_id, reads=reads)


@GATEWAY.command(
    "/v1/meetings/{meeting_id}/opening",
    action="open_meeting",
    operation_id="openMeeting",
    body=OpenMeetingBody,
    resource=_of_meeting,
    example={},
)
def open_meeting(request: Request, body: OpenMeetingBody) -> Act:
    """Open the sitting on its day, under the charter of that day."""
    meeting_id, _, planned = _meeting(request)
    charter = request.directory.charter(planned.body, planned.day)
    command = OpenMeeting(**dict(body), **request.envelope("I-10"), charter=charter)
    return Act(MEETING, meeting_id, command, key=meeting_id)


@GATEWAY.command(
    "/v1/meetings/{meeting_id}/attendance",
    action="record_attendance",
    operation_id="recordAttendance",
    body=RecordAttendanceBody,
    resource=_of_meeting,
    example={"present": ["council-gangwon-seat-chair", "council-gangwon-seat-road"], "absent": []},
)
def attendance(request: Request, body: RecordAttendanceBody) -> Act:
    """Record which seats attend; quorum follows."""
    meeting_id, _, planned = _meeting(request)
    members = tuple(seat.seat for seat in request.directory.members(planned.body, planned.day))
    command = RecordAttendance(**dict(body), **request.envelope("I-10"), members=members)
    return Act(MEETING, meeting_id, command, key=meeting_id)


@GATEWAY.command(
    "/v1/meetings/{meeting_id}/items/{item}/opening",
    action="open_item",
    operation_id="openItem",
    body=OpenItemBody,
    resource=_of_meeting,
    example={},
)
def open_item(request: Request, body: OpenItemBody) -> Act:
    """Call an item of the agenda."""
    meeting_id, meeting, _ = _meeting(request)
    number, item = _item(request, meeting)
    command = OpenItem(**dict(body), **request.envelope("T-10"), item=number)
    return Act(MEETING, meeting_id, command, key=meeting_id, case_id=item.case_id)


@GATEWAY.command(
    "/v1/meetings/{meeting_id}/items/{item}/statements",
    action="record_statement",
    operation_id="recordStatement",
    body=RecordStatementBody,
    resource=_of_meeting,
    if_match=False,
    example={
        "seat": "forum-seat-03",
        "field": "transportation",
        "stance": "for",
        "text": "The section is a bottleneck.",
    },
)
def record_statement(request: Request, body: RecordStatementBody) -> Act:
    """Record a member's position on the open item."""
    meeting_id, meeting, planned = _meeting(request)
    number, item = _item(request, meeting)
    members = {seat.seat: seat.fields for seat in request.directory.members(planned.body, planned.day)}
    command = RecordStatement(**dict(body), **request.envelope("T-29"), item=number, seat_fields=members.get(body.seat))
    return Act(MEETING, meeting_id, command, key=meeting_id, case_id=item.case_id)


@GATEWAY.command(
    "/v1/meetings/{meeting_id}/items/{item}/deliberation",
    action="conclude_deliberation",
    operation_id="concludeDeliberation",
    body=ConcludeDeliberationBody,
    resource=_of_meeting,
    example={"text": "The members are for the policy; two fields were not heard."},
)
def conclude_deliberation(request: Request, body: ConcludeDeliberationBody) -> Act:
    """Close the deliberation of the open item: advice, fields heard and not heard."""
    meeting_id, meeting, planned = _meeting(request)
    number, item = _item(request, meeting)
    members = request.directory.members(planned.body, planned.day)
    fields = tuple(sorted({field for seat in members for field in seat.fields}))
    command = ConcludeDeliberation(**dict(body), **request.envelope("T-29"), item=number, fields=fields)
    return Act(MEETING, meeting_id, command, key=meeting_id, case_id=item.case_id)


@GATEWAY.command(
    "/v1/meetings/{meeting_id}/items/{item}/decision",
    action="record_decision",
    operation_id="recordDecision",
    body=RecordDecisionBody,
    resource=_of_meeting,
    example={"code": "take_for_review", "fields": {}},
)
def record_decision(request: Request, body: RecordDecisionBody) -> Act:
    """Record the body's decision on the open item, with the fields that its code asks for."""
    meeting_id, meeting, planned = _meeting(request)
    number, item = _item(request, meeting)
    directory, today = request.directory, request.today
    chair = directory.office_of(planned.body, "chair", today)
    charter = directory.charter(planned.body, planned.day)
    policy, reads = _policy_seen(request, body.fields.policy_id)
    kind = _kind(request, planned.body)
    rule = "T-10" if kind is None else DECISION_ROWS.get(kind, "T-10")
    command = RecordDecision(
        **dict(body),
        **request.envelope(rule, None if charter is None else charter.decision_clause),
        meeting_id=meeting_id,
        item=number,
        chair=None if chair is None else chair.office,
        charter=charter,
        owner_kind=_kind(request, body.fields.owner),
        policy=policy,
    )
    return Act(MEETING, meeting_id, command, key=meeting_id, case_id=item.case_id, reads=reads)


@GATEWAY.command(
    "/v1/meetings/{meeting_id}/items/{item}/closing",
    action="close_item",
    operation_id="closeItem",
    body=CloseItemBody,
    resource=_of_meeting,
    example={},
)
def close_item(request: Request, body: CloseItemBody) -> Act:
    """Close an item, decided or not."""
    meeting_id, meeting, _ = _meeting(request)
    number, item = _item(request, meeting)
    command = CloseItem(**dict(body), **request.envelope("T-10"), item=number)
    return Act(MEETING, meeting_id, command, key=meeting_id, case_id=item.case_id)


@GATEWAY.command(
    "/v1/meetings/{meeting_id}/closing",
    action="close_meeting",
    operation_id="closeMeeting",
    body=CloseMeetingBody,
    resource=_of_meeting,
    example={},
)
def close_meeting(request: Request, body: CloseMeetingBody) -> Act:
    """End the sitting; items never called are closed undecided."""
    meeting_id, _, _ = _meeting(request)
    command = CloseMeeting(**dict(body), **request.envelope("T-10"))
    return Act(MEETING, meeting_id, command, key=meeting_id)


@GATEWAY.read(
    "/v1/meetings",
    action="read_meetings",
    operation_id="listMeetings",
    views=(MEETING_FILE,),
    answer=MeetingRow,
    query=("body",),
)
def list_meetings(request: Request) -> Page:
    """Sittings of one body or of all, the latest day first."""
    made = request.tables(MEETING_FILE)
    rows = meeting_rows(request.db, made, request.query.get("body"), request.limit, request.after)
    return Page(rows, _last(request, rows, "day", "meeting_id"))


@GATEWAY.read(
    "/v1/meetings/{meeting_id}",
    action="read_meetings",
    operation_id="getMeeting",
    views=(MEETING_FILE, WAITING_LIST, DIRECTORY),
    answer=MeetingFile,
)
def get_meeting(request: Request) -> One:
    """A sitting with agenda, attendance, statements, deliberations, decisions, and the fields that its body covers."""
    meeting_id = request.path["meeting_id"]
    found = meeting_file(request.db, request.tables(MEETING_FILE), meeting_id)
    if found is None:
        raise Absent("meeting")
    file, version = found
    titles = titles_of(request.db, request.tables(WAITING_LIST), [item.case_id for item in file.agenda])
    fields = request.directory.fields(file.body, file.day)
    return One(with_fields(with_titles(file, titles), *fields), version, key=meeting_id)


@GATEWAY.read(
    "/v1/waiting-list",
    action="read_waiting_list",
    operation_id="getWaitingList",
    views=(WAITING_LIST,),
    answer=WaitingCase,
    query=("body",),
)
def waiting_list(request: Request) -> Page:
    """The cases before a body (``body``, else the own one), the next due first."""
    body = request.query.get("body") or request.actor.body
    made = request.tables(WAITING_LIST)
    rows = waiting_cases(request.db, made, body, request.today, request.limit, request.after)
    return Page(rows, _last(request, rows, "due", "case_id"))


# Policies


@GATEWAY.command(
    "/v1/policies",
    action="draft_policy",
    operation_id="draftPolicy",
    body=DraftPolicyBody,
    creates=True,
    example={
        "title": "Widening of the national road in Hongcheon",
        "text": "The narrowest section of the national road is widened first.",
        "sources": [{"kind": "issue", "ref": "01890a5d-ac96-774b-bcce-b302099a8057"}],
        "plan_item": "P3-2",
    },
)
def draft_policy(request: Request, body: DraftPolicyBody) -> Act:
    """Draft a policy on one or more cases."""
    policy_id = request.new_id()
    cases = cases_seen(request.db, request.tables(WAITING_LIST), [source.ref for source in body.sources])
    seen = tuple(
        SourceSeen(case_id=case.case_id, held_by=_kind(request, case.body) if case.state == "at_body" else None)
        for case in cases.values()
    )
    plan_items = request.tables(WORK_PLAN_TREE)
    known = body.plan_item is not None and has_item(request.db, plan_items, body.plan_item, request.today)
    command = DraftPolicy(**dict(body), **request.envelope("T-29a"), sources_seen=seen, plan_item_known=known)
    return Act(POLICY, policy_id, command, key=policy_id, location=f"/v1/policies/{policy_id}")


@GATEWAY.command(
    "/v1/policies/{policy_id}/tasks",
    action="assign_task",
    operation_id="assignTask",
    body=AssignTaskBody,
    resource=_of_policy,
    example={"title": "Detailed design", "owner": "dept-road", "regions": ["gangwon"], "due": "2024-06-28"},
)
def assign_task(request: Request, body: AssignTaskBody) -> Act:
    """Give a task of an adopted policy its owner, regions (code or name) and date; tasks are ``t1``, ``t2`` …"""
    policy_id, policy = _policy(request)
    found = {text: request.directory.find_region(text, request.today) for text in body.regions}
    known = {text: region.id for text, region in found.items() if region is not None}
    facts = dict(body)
    facts["regions"] = tuple(known.get(text, text) for text in body.regions)
    command = AssignTask(
        **facts,
        **request.envelope("T-30"),
        task=f"t{len(policy.tasks) + 1}",
        owner_kind=_kind(request, body.owner),
        regions_known=tuple(known.values()),
    )
    return Act(POLICY, policy_id, command, key=policy_id)


@GATEWAY.command(
    "/v1/policies/{policy_id}/tasks/{task}/progress",
    action="report_progress",
    operation_id="reportProgress",
    body=ReportProgressBody,
    resource=_of_task,
    example={"done": True, "text": "The design is approved.", "evidence": ["Approval of 2024-05-30"]},
)
def report_progress(request: Request, body: ReportProgressBody) -> Act:
    """Report on a task, with evidence."""
    policy_id, _ = _policy(request)
    command = ReportProgress(**dict(body), **request.envelope("T-38"), task=request.path["task"])
    return Act(POLICY, policy_id, command, key=policy_id)


@GATEWAY.command(
    "/v1/policies/{policy_id}/completion",
    action="complete_policy",
    operation_id="completePolicy",
    body=CompletePolicyBody,
    resource=_of_policy,
    example={"evidence": []},
)
def complete_policy(request: Request, body: CompletePolicyBody) -> Act:
    """State that all tasks of a policy are done."""
    policy_id, _ = _policy(request)
    command = CompletePolicy(**dict(body), **request.envelope("T-38b"))
    return Act(POLICY, policy_id, command, key=policy_id)


def _sees_drafts(request: Request) -> bool:
    """A draft is the ministry's own: raising organisations see a policy from its adoption on."""
    return _kind(request, request.actor.body) != "organisation"


@GATEWAY.read(
    "/v1/policies",
    action="read_policies",
    operation_id="listPolicies",
    views=(POLICY_REGISTER,),
    answer=PolicyRow,
)
def list_policies(request: Request) -> Page:
    """Policies, the last drafted first; drafts are shown to the ministry's offices only."""
    made, drafts = request.tables(POLICY_REGISTER), _sees_drafts(request)
    rows = policy_rows(request.db, made, drafts, request.limit, request.after)
    return Page(rows, _last(request, rows, "drafted_at", "policy_id"))


@GATEWAY.read(
    "/v1/policies/{policy_id}",
    action="read_policies",
    operation_id="getPolicy",
    views=(POLICY_REGISTER,),
    answer=PolicyFile,
)
def get_policy(request: Request) -> One:
    """A policy with its text, sources, adoption, tasks and progress."""
    policy_id = request.path["policy_id"]
    found = policy_file(request.db, request.tables(POLICY_REGISTER), policy_id)
    if found is None or (found[0].state == "drafted" and not _sees_drafts(request)):
        raise Absent("policy")
    file, version = found
    return One(file, version, key=policy_id)


@GATEWAY.read(
    "/v1/work-plan/{year}",
    action="read_work_plan",
    operation_id="getWorkPlan",
    views=(WORK_PLAN_TREE,),
    answer=WorkPlanTree,
)
def get_work_plan(request: Request) -> One:
    """The work plan of a year as a tree."""
    year = request.path["year"]
    valid = year.isascii() and year.isdecimal() and len(year) == 4
    found = plan_tree(request.db, request.tables(WORK_PLAN_TREE), int(year)) if valid else None
    if found is None:
        raise Absent("work plan")
    tree, version = found
    return One(tree, version, key=year)
