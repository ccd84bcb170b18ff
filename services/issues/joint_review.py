"""JointReview: one round in which departments give their opinions together (rows 12 to 16; I-5, I-6, I-7).

Its id is ``<case>.<round>``. After the conclusion a round accepts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

from pydantic import Field

from shared.contracts.codes import OpinionType, ReviewOutcome
from shared.contracts.envelope import Command, Event, Fact, Id, Text
from shared.contracts.issues import (
    DepartmentConsulted,
    DepartmentReminded,
    Direction,
    IssueReviewed,
    JointReviewOpened,
    OpinionGiven,
    OpinionNotGiven,
    OpinionRef,
    SupportDirectionSet,
)
from shared.decider import Decider, Refused

SUPPORT: Mapping[str, float] = {
    "support": 1.0,
    "support_with_conditions": 0.75,
    "support_alternative": 0.5,
    "not_supportable": 0.0,
}
"""How far an opinion supports the suggestion (rule 4 of section 10); other opinions are not counted."""


class OpenReview(Command):
    """Open a round. Facts: the issue's revision, and what routing proposes."""

    round: int
    revision: int
    body: Id
    lead: Id | None
    proposed: tuple[Id, ...]


class ConsultDepartmentBody(Fact):
    """Which department is asked, and whether it leads."""

    department: Id
    lead: bool = False


class ConsultDepartment(ConsultDepartmentBody, Command):
    """Ask a department. Facts: the issue's revision, until when, and whether there is such a department today."""

    issue_revision: int
    due: date
    competent: bool


class RemindDepartmentBody(Fact):
    """Nothing to add: the path names the department."""


class RemindDepartment(RemindDepartmentBody, Command):
    """Remind a department whose date passed. Fact: the second date."""

    department: Id
    second_due: date


class RecordNotGivenBody(Fact):
    """Nothing to add: the path names the department."""


class RecordNotGiven(RecordNotGivenBody, Command):
    """Put a department's silence on record after its second date."""

    department: Id


class GiveOpinionBody(Fact):
    """A department's opinion on one revision, with its reason."""

    department: Id
    revision: int = Field(ge=1)
    opinion: OpinionType
    conditions: tuple[Text, ...] = Field(default=(), max_length=20)
    text: Text


class GiveOpinion(GiveOpinionBody, Command):
    """Give an opinion. Fact: the issue's revision now."""

    issue_revision: int


class SetSupportDirectionBody(Fact):
    """The direction of support (D3) and the revision it answers."""

    revision: int = Field(ge=1)
    direction: Direction


class SetSupportDirection(SetSupportDirectionBody, Command):
    """Set the direction. Facts: the issue's revision now; whether the department that is to lead exists today."""

    issue_revision: int
    lead_known: bool


class ConcludeReviewBody(Fact):
    """The outcome and its reason."""

    outcome: ReviewOutcome
    text: Text


class ConcludeReview(ConcludeReviewBody, Command):
    """Conclude the round. Facts: revision and version of the Issue stream that was read (I-7)."""

    issue_revision: int
    issue_version: int


@dataclass(frozen=True)
class Consultation:
    """One department in the round: asked on which revision, until when, and what it answered."""

    lead: bool
    revision: int
    due: date
    reminded: bool = False
    opinion: OpinionGiven | None = None
    silent: bool = False

    @property
    def answered(self) -> bool:
        """Its opinion is there, or its silence is on record (I-5)."""
        return self.silent or self.opinion is not None


@dataclass(frozen=True)
class ReviewState:
    """A round: its departments in the order they were asked, its direction, its conclusion."""

    status: Literal["none", "open", "concluded"] = "none"
    round: int = 0
    body: str = ""
    departments: Mapping[str, Consultation] = field(default_factory=dict)
    direction: SupportDirectionSet | None = None
    conclusion: tuple[ReviewOutcome, str] | None = None

    @property
    def lead(self) -> str | None:
        """The department that was asked as the lead."""
        return next((name for name, asked in self.departments.items() if asked.lead), None)


def divergence(opinions: Iterable[str]) -> float:
    """Highest minus lowest support among the opinions that count; 0 where fewer than two do (rule 4)."""
    counted = [SUPPORT[opinion] for opinion in opinions if opinion in SUPPORT]
    return max(counted) - min(counted) if len(counted) > 1 else 0.0


def decide(state: ReviewState, command: Command) -> Sequence[Event]:
    """The events of a command; raises ``Refused`` by rows 12 to 16, I-5, I-6 or I-7."""
    match command:
        case OpenReview():
            return _open(state, command)
        case ConsultDepartment():
            return _consult(state, command)
        case RemindDepartment():
            return _remind(state, command)
        case RecordNotGiven():
            return _record_not_given(state, command)
        case GiveOpinion():
            return _give_opinion(state, command)
        case SetSupportDirection():
            return _set_direction(state, command)
        case ConcludeReview():
            return _conclude(state, command)
        case _:
            raise TypeError(f"JointReview does not understand {type(command).__name__}")


def _open(state: ReviewState, command: OpenReview) -> Sequence[Event]:
    """Rows 4, 9 and 11: routing brought the case into joint review."""
    if state.status != "none":
        return []
    return [
        JointReviewOpened(
            round=command.round,
            revision=command.revision,
            body=command.body,
            lead=command.lead,
            proposed=command.proposed,
        )
    ]


def _consult(state: ReviewState, command: ConsultDepartment) -> Sequence[Event]:
    """Row 12 and I-5: a department of that day, exactly one of them as the lead."""
    _must_be_open(state, "T-12")
    asked = state.departments.get(command.department)
    if asked is not None and asked.lead == command.lead and asked.revision == command.issue_revision:
        return []
    if asked is not None and asked.lead != command.lead:
        raise Refused(
            "T-12",
            "이미 의견을 요청한 부서의 주관 여부는 바꿀 수 없습니다.",
            "Whether a department that was already asked leads the review cannot be changed here.",
        )
    if not command.competent:
        raise Refused(
            "T-12",
            "의견을 요청할 수 있는 소관부서가 아닙니다.",
            "There is no such department to ask today.",
        )
    if command.lead and state.lead not in (None, command.department):
        raise Refused(
            "I-5",
            "합동검토의 주관부서는 하나여야 하며, 이미 정해져 있습니다.",
            "A review has exactly one lead department, and it has been asked already.",
        )
    return [
        DepartmentConsulted(
            round=state.round,
            department=command.department,
            lead=command.lead,
            revision=command.issue_revision,
            due=command.due,
        )
    ]


def _remind(state: ReviewState, command: RemindDepartment) -> Sequence[Event]:
    """Row 12a: only once, and only after the date has passed."""
    _must_be_open(state, "T-12a")
    asked = _asked(state, command.department, "T-12a")
    if asked.reminded:
        return []
    _must_be_unanswered(asked, "T-12a")
    if command.today <= asked.due:
        raise Refused(
            "T-12a",
            "의견 제출 기한이 아직 지나지 않았습니다.",
            "The date for the opinion has not passed yet.",
        )
    return [DepartmentReminded(round=state.round, department=command.department, due=command.second_due)]


def _record_not_given(state: ReviewState, command: RecordNotGiven) -> Sequence[Event]:
    """Row 12b and D6: only after one reminder, and after the second date has passed."""
    _must_be_open(state, "T-12b")
    asked = _asked(state, command.department, "T-12b")
    if asked.silent:
        return []
    _must_be_unanswered(asked, "T-12b")
    if not asked.reminded or command.today <= asked.due:
        raise Refused(
            "T-12b",
            "한 번 독촉하고 그 기한도 지난 뒤에만 미제출로 기록할 수 있습니다.",
            "Silence is put on record only after one reminder, when its date has passed too.",
        )
    return [OpinionNotGiven(round=state.round, department=command.department)]


def _give_opinion(state: ReviewState, command: GiveOpinion) -> Sequence[Event]:
    """Row 13 and I-7: the department itself, on the revision now in force, once for each revision.

    A late opinion is worth more than recorded silence: it is taken until the round is concluded.
    """
    _must_be_open(state, "T-13")
    asked = _asked(state, command.department, "T-13")
    if command.by.body != command.department:
        raise Refused(
            "T-13",
            "검토의견은 해당 부서만 낼 수 있습니다.",
            "Only the department itself gives its opinion.",
            kind="authority",
        )
    _must_be_current(command.revision, command.issue_revision)
    opinion = OpinionGiven(
        round=state.round,
        department=command.department,
        revision=command.revision,
        opinion=command.opinion,
        conditions=command.conditions,
        text=command.text,
    )
    if asked.opinion == opinion:
        return []
    if asked.opinion is not None and asked.opinion.revision == command.revision:
        raise Refused(
            "T-13",
            "이 본문에 대한 부서 의견은 이미 제출되었습니다.",
            "The department has already given its opinion on this revision.",
        )
    return [opinion]


def _set_direction(state: ReviewState, command: SetSupportDirection) -> Sequence[Event]:
    """Row 15 and I-7: the lead department; until the conclusion it may set another, and the last one counts."""
    _must_be_open(state, "T-15")
    if state.lead is None or command.by.body != state.lead:
        raise Refused(
            "T-15",
            "지원방향은 주관부서만 정할 수 있습니다.",
            "Only the lead department sets the direction of support.",
            kind="authority",
        )
    _must_be_current(command.revision, command.issue_revision)
    if not command.lead_known:
        raise Refused(
            "T-15",
            "지원을 주관할 부서로 적으신 부서가 없습니다.",
            "There is no such department to lead the support.",
        )
    direction = SupportDirectionSet(round=state.round, revision=command.revision, direction=command.direction)
    return [] if state.direction == direction else [direction]


def _conclude(state: ReviewState, command: ConcludeReview) -> Sequence[Event]:
    """Row 16: everybody asked has answered (I-5) on the revision now in force (I-7), and the outcome has its ground."""
    if state.conclusion == (command.outcome, command.text):
        return []
    _must_be_open(state, "T-16")
    if command.outcome not in ("supportable", "needs_coordination"):
        raise _not_available(command.outcome)
    if state.lead is None:
        raise Refused(
            "I-5",
            "주관부서에 의견을 요청하지 않은 합동검토는 마칠 수 없습니다.",
            "A review without a lead department cannot be concluded.",
        )
    waiting = [name for name, asked in state.departments.items() if not asked.answered]
    if waiting:
        raise Refused(
            "I-5",
            f"의견을 기다리는 부서가 있습니다: {', '.join(waiting)}.",
            f"Departments have yet to answer: {', '.join(waiting)}.",
        )
    opinions = {name: asked.opinion for name, asked in state.departments.items() if asked.opinion is not None}
    stale = [name for name, opinion in opinions.items() if opinion.revision != command.issue_revision]
    if stale:
        raise Refused(
            "I-7",
            f"본문이 바뀌기 전의 의견이 있습니다: {', '.join(stale)}.",
            f"These opinions speak of an older revision of the issue: {', '.join(stale)}.",
        )
    if state.direction is not None and state.direction.revision != command.issue_revision:
        raise Refused(
            "I-7",
            "지원방향이 바뀌기 전의 본문에 대한 것입니다.",
            "The direction of support speaks of an older revision of the issue.",
        )
    if command.outcome == "supportable" and state.direction is None:
        raise Refused(
            "T-16",
            "지원방향이 정해져야 지원 가능으로 결론지을 수 있습니다.",
            "The outcome 'supportable' needs a direction of support.",
        )
    return [
        IssueReviewed(
            round=state.round,
            revision=command.issue_revision,
            outcome=command.outcome,
            divergence=divergence(opinion.opinion for opinion in opinions.values()),
            lead=state.lead,
            opinions=tuple(
                OpinionRef(department=name, opinion=opinions[name].opinion if name in opinions else "not_given")
                for name in state.departments
            ),
            direction=state.direction.direction if state.direction is not None else None,
            text=command.text,
        )
    ]


def _not_available(outcome: str) -> Refused:
    """The outcomes whose following rows (19 to 21) are not there: a case must not go where it cannot leave."""
    if outcome == "needs_other_ministry":
        return Refused(
            "T-16",
            "'타 부처 협의 필요' 결론은 아직 제공하지 않습니다.",
            "The outcome 'needs_other_ministry' is not available.",
        )
    ko = "대안 지원" if outcome == "support_alternative" else "지원 불가"
    return Refused(
        "T-16",
        f"'{ko}' 결론은 아직 제공하지 않습니다. 이 결론에는 대안이나 대안이 없는 사유가 있어야 합니다(I-6).",
        f"The outcome '{outcome}' is not available; it would need an alternative, or a reason why none exists (I-6).",
    )


def _must_be_open(state: ReviewState, rule: str) -> None:
    if state.status == "none":
        raise Refused(rule, "그런 합동검토가 없습니다.", "There is no such review.", kind="absent")
    if state.status == "concluded":
        raise Refused(rule, "이미 결론이 난 합동검토입니다.", "The review has already been concluded.")


def _asked(state: ReviewState, department: str, rule: str) -> Consultation:
    asked = state.departments.get(department)
    if asked is None:
        raise Refused(
            rule,
            "이 합동검토에서 의견을 요청하지 않은 부서입니다.",
            "This department has not been asked in this review.",
        )
    return asked


def _must_be_unanswered(asked: Consultation, rule: str) -> None:
    if asked.answered:
        raise Refused(rule, "이미 답한 부서입니다.", "The department has answered already.")


def _must_be_current(revision: int, current: int) -> None:
    """I-7: nothing is said about a revision that is not the one in force."""
    if revision != current:
        raise Refused(
            "I-7",
            f"현재 본문(제{current}판)에 대한 것이 아닙니다.",
            f"This does not speak of the issue's present revision ({current}).",
        )


def evolve(state: ReviewState, event: Event) -> ReviewState:
    """The state after an event."""
    match event:
        case JointReviewOpened():
            return ReviewState(status="open", round=event.round, body=event.body)
        case DepartmentConsulted():
            return _with(state, event.department, Consultation(event.lead, event.revision, event.due))
        case DepartmentReminded():
            return _with(state, event.department, replace(_of(state, event), reminded=True, due=event.due))
        case OpinionNotGiven():
            return _with(state, event.department, replace(_of(state, event), silent=True))
        case OpinionGiven():
            return _with(state, event.department, replace(_of(state, event), opinion=event, silent=False))
        case SupportDirectionSet():
            return replace(state, direction=event)
        case IssueReviewed():
            return replace(state, status="concluded", conclusion=(event.outcome, event.text))
        case _:
            return state


def _of(state: ReviewState, event: DepartmentReminded | OpinionNotGiven | OpinionGiven) -> Consultation:
    return state.departments.get(event.department) or Consultation(lead=False, revision=0, due=date.min)


def _with(state: ReviewState, department: str, asked: Consultation) -> ReviewState:
    return replace(state, departments={**state.departments, department: asked})


JOINT_REVIEW = Decider(
    name="JointReview",
    initial=ReviewState(),
    decide=decide,
    evolve=evolve,
    commands=(
        OpenReview,
        ConsultDepartment,
        RemindDepartment,
        RecordNotGiven,
        GiveOpinion,
        SetSupportDirection,
        ConcludeReview,
    ),
)
