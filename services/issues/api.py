"""REST gateway of issues: raise, accept, refuse; the rounds of joint review; the register.

Each handler looks up the facts that the rules need and puts them into the command. Review acts ask the round itself
whose turn it is, not ``position``: an open round is stage R3, and it is this service's own, never late.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from services.issues.issue import (
    ISSUE,
    AcceptIssue,
    AcceptIssueBody,
    RaiseIssue,
    RaiseIssueBody,
    RefuseIssue,
    RefuseIssueBody,
)
from services.issues.joint_review import (
    JOINT_REVIEW,
    ConcludeReview,
    ConcludeReviewBody,
    ConsultDepartment,
    ConsultDepartmentBody,
    GiveOpinion,
    GiveOpinionBody,
    RecordNotGiven,
    RecordNotGivenBody,
    RemindDepartment,
    RemindDepartmentBody,
    ReviewState,
    SetSupportDirection,
    SetSupportDirectionBody,
)
from services.issues.reactions import deadline, review_id
from services.issues.views.position import POSITION, position_of
from services.issues.views.register import (
    REGISTER,
    IssueAnswer,
    IssueRow,
    ReviewAnswer,
    issue_row,
    list_issues,
    regions_of,
    show_issue,
    show_review,
)
from shared.contracts.codes import BodyKind
from shared.contracts.envelope import Command
from shared.contracts.issues import RegionRef
from shared.runtime.declare import Absent, Act, Gateway, One, Page, Request, Resource
from shared.runtime.directory import SEOUL

GATEWAY = Gateway("issues")

REVIEW = "/v1/issues/{case_id}/reviews/{round}"


# What an act or a read is about


def _about_new_issue(request: Request) -> Resource:
    body: RaiseIssueBody = request.body
    return Resource(
        organisation=body.raised_by or request.actor.body,
        regions=tuple(found.region for found in _regions_found(request, body) if found is not None),
        nationwide=body.nationwide,
    )


def _about_case(request: Request) -> Resource:
    case_id = request.path["case_id"]
    if not request.load(ISSUE, case_id)[1]:
        raise Absent("issue")
    position = position_of(request, case_id)
    return Resource(
        body=position.body if position is not None else None,
        stage=position.stage if position is not None else None,
        regions=regions_of(request, case_id),
    )


def _about_issue(request: Request) -> Resource:
    row = issue_row(request, request.path["case_id"])
    return Resource(regions=regions_of(request, row.case_id), nationwide=row.nationwide, organisation=row.raised_by)


def _about_register(request: Request) -> Resource:
    # The register is the whole country's; each row is filtered by what the reader may see.
    return Resource(nationwide=True)


def _about_review(request: Request) -> Resource:
    return Resource(body=_review(request)[0].body)


def _about_lead(request: Request) -> Resource:
    return Resource(body=_review(request)[0].lead)


def _about_opinion(request: Request) -> Resource:
    body: GiveOpinionBody = request.body
    return Resource(body=body.department)


def _review(request: Request) -> tuple[ReviewState, int]:
    state, version = request.load(JOINT_REVIEW, _review_id(request))
    if not version:
        raise Absent("review")
    return state, version


def _review_id(request: Request) -> str:
    return review_id(request.path["case_id"], request.path["round"])


# Issue


@GATEWAY.command(
    "/v1/issues",
    action="raise_issue",
    operation_id="raiseIssue",
    body=RaiseIssueBody,
    resource=_about_new_issue,
    creates=True,
    example={
        "title": "국도 확장 건의",
        "text": "관광객이 늘어 정체가 심하니 국도를 4차로로 넓혀 주시기 바랍니다.",
        "regions": ["gangwon"],
        "raised_by": "org-gangwon-hongcheon",
        "channel": "letter",
        "plan_item": "P3-2",
        "tags": ["road"],
        "cost_band": "above_c",
    },
)
def raise_issue(request: Request, body: RaiseIssueBody) -> Act:
    """Raise an issue of one or more regions, or of the whole country; a receipt with docket number follows at once."""
    case_id = request.new_id()
    raiser = body.raised_by or request.actor.body
    command = RaiseIssue(
        **request.envelope("T-1"),
        **_given(body),
        docket=request.docket(request.today.year),
        regions_found=_regions_found(request, body),
        raiser=raiser,
        raiser_kind=_kind(request, body, raiser),
        co_raiser_kinds=tuple(_kind(request, body, raiser) for raiser in body.co_raisers),
    )
    return Act(ISSUE, case_id, command, key=case_id, case_id=case_id, location=f"/v1/issues/{case_id}")


@GATEWAY.command(
    "/v1/issues/{case_id}/acceptance",
    action="accept_issue",
    operation_id="acceptIssue",
    body=AcceptIssueBody,
    resource=_about_case,
    example={},
)
def accept_issue(request: Request, body: AcceptIssueBody) -> Act:
    """Accept an issue at intake: the suggestion is complete."""
    position = position_of(request, request.path["case_id"])
    command = AcceptIssue(
        **request.envelope("T-4"),
        holder=position.body if position is not None else None,
        stage=position.stage if position is not None else None,
    )
    return _issue_act(request, command)


@GATEWAY.command(
    "/v1/issues/{case_id}/refusal",
    action="refuse_issue",
    operation_id="refuseIssue",
    body=RefuseIssueBody,
    resource=_about_case,
    example={
        "reason": {"code": "incomplete", "text": "위치와 노선을 알 수 없어 검토할 수 없습니다."},
        "drafted_by": "council-gangwon.secretary",
    },
)
def refuse_issue(request: Request, body: RefuseIssueBody) -> Act:
    """Refuse an issue at intake, with its reason, on a draft by the secretary."""
    position = position_of(request, request.path["case_id"])
    holder = position.body if position is not None else None
    secretary = request.directory.office_of(holder, "secretary", request.today) if holder is not None else None
    command = RefuseIssue(
        **request.envelope("T-5"),
        **_given(body),
        holder=holder,
        stage=position.stage if position is not None else None,
        secretary=secretary.office if secretary is not None else None,
    )
    return _issue_act(request, command)


# JointReview


@GATEWAY.command(
    f"{REVIEW}/consultations",
    action="consult_department",
    operation_id="consultDepartment",
    body=ConsultDepartmentBody,
    resource=_about_review,
    example={"department": "dept-road", "lead": True},
)
def consult_department(request: Request, body: ConsultDepartmentBody) -> Act:
    """Ask a department for its opinion, one of them as the lead."""
    department = request.directory.body(body.department, request.today)
    command = ConsultDepartment(
        **request.envelope("T-12"),
        **_given(body),
        issue_revision=_issue_revision(request),
        due=deadline(request, "opinion"),
        competent=department is not None and department.kind == "department",
    )
    return _review_act(request, command)


@GATEWAY.command(
    f"{REVIEW}/consultations/{{department}}/reminders",
    action="remind_department",
    operation_id="remindDepartment",
    body=RemindDepartmentBody,
    resource=_about_review,
    example={},
)
def remind_department(request: Request, body: RemindDepartmentBody) -> Act:
    """Remind a department whose date has passed, and set a second date."""
    command = RemindDepartment(
        **request.envelope("T-12a"),
        department=_department(request),
        second_due=deadline(request, "reminder"),
    )
    return _review_act(request, command)


@GATEWAY.command(
    f"{REVIEW}/consultations/{{department}}/not-given",
    action="record_not_given",
    operation_id="recordNotGiven",
    body=RecordNotGivenBody,
    resource=_about_review,
    example={},
)
def record_not_given(request: Request, body: RecordNotGivenBody) -> Act:
    """Put on record that a department stayed silent past its second date."""
    return _review_act(request, RecordNotGiven(**request.envelope("T-12b"), department=_department(request)))


@GATEWAY.command(
    f"{REVIEW}/opinions",
    action="give_opinion",
    operation_id="giveOpinion",
    body=GiveOpinionBody,
    resource=_about_opinion,
    # Many opinions arrive at once: each pins the revision it speaks of (I-7), not the version of the round.
    if_match=False,
    example={
        "department": "dept-road",
        "revision": 1,
        "opinion": "support_with_conditions",
        "conditions": ["가장 좁은 구간부터 시행"],
        "text": "교통량이 기준을 넘어 확장이 필요합니다.",
    },
)
def give_opinion(request: Request, body: GiveOpinionBody) -> Act:
    """Give the own department's opinion on one revision of the issue."""
    _review(request)
    command = GiveOpinion(**request.envelope("T-13"), **_given(body), issue_revision=_issue_revision(request))
    return _review_act(request, command)


@GATEWAY.command(
    f"{REVIEW}/direction",
    action="set_direction",
    operation_id="setSupportDirection",
    body=SetSupportDirectionBody,
    resource=_about_lead,
    example={
        "revision": 1,
        "direction": {
            "instruments": ["facility", "budget"],
            "lead": "dept-road",
            "legal_basis": "도로법",
            "cost_band": "above_c",
            "horizon": "2028",
            "plan_item": "P3-2",
            "statute_needed": False,
            "text": "가장 좁은 구간부터 4차로로 확장한다.",
        },
    },
)
def set_support_direction(request: Request, body: SetSupportDirectionBody) -> Act:
    """Set the direction of support, as the lead department."""
    lead = request.directory.body(body.direction.lead, request.today)
    command = SetSupportDirection(
        **request.envelope("T-15"),
        **_given(body),
        issue_revision=_issue_revision(request),
        lead_known=lead is not None and lead.kind == "department",
    )
    return _review_act(request, command)


@GATEWAY.command(
    f"{REVIEW}/conclusion",
    action="conclude_review",
    operation_id="concludeReview",
    body=ConcludeReviewBody,
    resource=_about_review,
    example={"outcome": "supportable", "text": "지원방향에 따라 지원할 수 있습니다."},
)
def conclude_review(request: Request, body: ConcludeReviewBody) -> Act:
    """Conclude the round; rests on the version of the issue that was read (I-7)."""
    issue, version = request.load(ISSUE, request.path["case_id"])
    command = ConcludeReview(
        **request.envelope("T-16"), **_given(body), issue_revision=issue.revision, issue_version=version
    )
    return _review_act(request, command, reads={f"{ISSUE.name}/{request.path['case_id']}": version})


# Reads


@GATEWAY.read(
    "/v1/issues",
    action="read_issues",
    operation_id="listIssues",
    views=(REGISTER,),
    answer=IssueRow,
    resource=_about_register,
    query=("region", "state", "plan_item", "raised_by"),
)
def read_issues(request: Request) -> Page:
    """The register of issues, the newest first."""
    return list_issues(request)


@GATEWAY.read(
    "/v1/issues/{case_id}",
    action="read_issue",
    operation_id="getIssue",
    views=(REGISTER, POSITION),
    answer=IssueAnswer,
    resource=_about_issue,
)
def read_issue(request: Request) -> One:
    """One issue with its regions then and now, its rounds of review, and where it is."""
    answer, version = show_issue(request, request.path["case_id"])
    return One(answer, version, key=request.path["case_id"])


@GATEWAY.read(
    REVIEW,
    action="read_issue",
    operation_id="getReview",
    views=(REGISTER,),
    answer=ReviewAnswer,
    resource=_about_issue,
)
def read_review(request: Request) -> One:
    """One round of joint review: who was asked until when, opinions, direction, conclusion."""
    answer, version = show_review(request, request.path["case_id"], request.path["round"])
    return One(answer, version, key=request.path["case_id"])


# Facts for the commands


def _given(body: Any) -> dict[str, Any]:
    """The client's part of a command, as it stands."""
    return {name: getattr(body, name) for name in type(body).model_fields}


def _issue_act(request: Request, command: Command) -> Act:
    case_id = request.path["case_id"]
    return Act(ISSUE, case_id, command, key=case_id, case_id=case_id)


def _review_act(request: Request, command: Command, reads: dict[str, int] | None = None) -> Act:
    case_id = request.path["case_id"]
    return Act(JOINT_REVIEW, _review_id(request), command, key=case_id, case_id=case_id, reads=reads or {})


def _department(request: Request) -> str:
    department = request.path["department"]
    if department not in _review(request)[0].departments:
        raise Absent("consultation")
    return department


def _issue_revision(request: Request) -> int:
    revision: int = request.load(ISSUE, request.path["case_id"])[0].revision
    return revision


def _effective_day(request: Request, body: RaiseIssueBody) -> date:
    return (body.effective_at or request.now).astimezone(SEOUL).date()


def _regions_found(request: Request, body: RaiseIssueBody) -> tuple[RegionRef | None, ...]:
    """What each region was on the effective day, under the code and name of that day (I-1, I-16)."""
    day = _effective_day(request, body)
    found = [request.directory.find_region(region, day) for region in body.regions]
    return tuple(
        RegionRef(region=it.id, code=it.codes.mois, name=it.name.ko) if it is not None else None for it in found
    )


def _kind(request: Request, body: RaiseIssueBody, raiser: str) -> BodyKind | None:
    """What kind of body a raiser was on the effective day; ``None`` where it did not exist."""
    found = request.directory.body(raiser, _effective_day(request, body))
    return found.kind if found is not None else None
