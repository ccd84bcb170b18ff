"""Policy: from a draft to its implementation (section 9; rows 29a, 30 and 38b; walk, steps 24, 29, 32 and 33).

The Minister adopts in a meeting; ``AdoptPolicy`` is the reaction to that decision, with the Minister as actor (◆12).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

from pydantic import Field

from shared.contracts.codes import BodyKind
from shared.contracts.envelope import Command, Event, Fact, Id, Line, Text
from shared.contracts.meetings import (
    LATEST,
    PolicyAdopted,
    PolicyDrafted,
    PolicyImplemented,
    PolicyTaskAssigned,
    ProgressReported,
    Source,
)
from shared.decider import Decider, Refused

# Commands


class SourceSeen(Fact):
    """A case named as a source, as the local tables knew it."""

    case_id: Id
    held_by: BodyKind | None
    """Kind of the body before which the case waits; ``None`` where it waits before none."""


class DraftPolicyBody(Fact):
    """The text of a policy, and what it follows from."""

    title: Line
    text: Text
    sources: tuple[Source, ...] = Field(min_length=1, max_length=100)
    plan_item: Id | None = None


class DraftPolicy(DraftPolicyBody, Command):
    """The planning group's secretary drafts a policy (row 29a)."""

    sources_seen: tuple[SourceSeen, ...]
    plan_item_known: bool = False
    """Whether ``plan_item`` is an item of the work plan valid today."""


class AdoptPolicy(Command):
    """What the Minister's decision says about the policy (row 30)."""

    revision: int
    text_hash: Line
    meeting_id: Id
    item: int
    decision_event: Id
    deliberation_event: Id | None
    emergency_clause: Line | None
    sources: tuple[Source, ...]
    owner: Id
    review_date: date
    departure_reason: Text | None = None


class AssignTaskBody(Fact):
    """What is to be done, by whom, in which regions, until when."""

    title: Line
    owner: Id
    regions: tuple[Id, ...] = Field(min_length=1, max_length=50)
    due: date = Field(lt=LATEST)


class AssignTask(AssignTaskBody, Command):
    """The planning group's secretary gives a task of an adopted policy its owner and date (walk, step 32)."""

    task: Id
    owner_kind: BodyKind | None
    """Kind of the owner, where it exists today."""
    regions_known: tuple[Id, ...]
    """Those of ``regions`` that exist today."""


class ReportProgressBody(Fact):
    """How a task stands, with evidence."""

    done: bool
    text: Text
    evidence: tuple[Line, ...] = Field(min_length=1, max_length=50)


class ReportProgress(ReportProgressBody, Command):
    """The owner of a task reports (walk, step 33)."""

    task: Id


class CompletePolicyBody(Fact):
    """Evidence beyond what the tasks' reports already give."""

    evidence: tuple[Line, ...] = Field(default=(), max_length=50)


class CompletePolicy(CompletePolicyBody, Command):
    """The planning group's secretary or the owner states that all tasks are done (walk, step 33)."""


# State


@dataclass(frozen=True)
class Task:
    """A task and the last report on it."""

    assigned: PolicyTaskAssigned
    last: ProgressReported | None = None

    @property
    def done(self) -> bool:
        """Reported as done."""
        return self.last is not None and self.last.done


@dataclass(frozen=True)
class Policy:
    """A policy: its draft, what was adopted, its tasks."""

    draft: PolicyDrafted | None = None
    adopted: PolicyAdopted | None = None
    tasks: Mapping[str, Task] = field(default_factory=dict)
    implemented: bool = False

    @property
    def phase(self) -> Literal["absent", "drafted", "adopted", "in_implementation", "implemented"]:
        """Where the policy stands (section 9)."""
        if self.draft is None:
            return "absent"
        if self.adopted is None:
            return "drafted"
        if self.implemented:
            return "implemented"
        return "in_implementation" if self.tasks else "adopted"


def text_hash(text: str) -> str:
    """The name of a text version: SHA-256 over its NFC form in UTF-8."""
    return hashlib.sha256(unicodedata.normalize("NFC", text).encode()).hexdigest()


# Decide


def draft_policy(state: Policy, command: DraftPolicy) -> list[Event]:
    """T-29a: at least one source, all of them known, one before the support group or the forum (R4, R5)."""
    drafted = PolicyDrafted(
        title=command.title,
        text=command.text,
        text_hash=text_hash(command.text),
        revision=1,
        sources=tuple(dict.fromkeys(command.sources)),
        plan_item=command.plan_item,
    )
    if state.draft is not None:
        if state.draft == drafted:
            return []
        raise Refused("T-29a", "이미 작성된 정책입니다.", "This policy has been drafted already.")
    seen = {source.case_id: source.held_by for source in command.sources_seen}
    if any(source.ref not in seen for source in command.sources):
        raise Refused(
            "T-29a", "근거로 든 현안을 찾을 수 없습니다.", "A case named as a source is not known to this service."
        )
    if not {"support_group", "forum"} & {seen[source.ref] for source in command.sources}:
        raise Refused(
            "T-29a",
            "근거가 되는 현안이 지원단이나 포럼에 올라와 있어야 합니다.",
            "At least one source must be before the support group or the forum.",
        )
    if command.plan_item is not None and not command.plan_item_known:
        raise Refused("T-29a", "업무계획에 없는 추진과제입니다.", "The work plan has no such item valid today.")
    return [drafted]


def adopt_policy(state: Policy, command: AdoptPolicy) -> list[Event]:
    """T-30: I-12 (the current draft, its sources, deliberation or emergency clause), I-13 (adopted once)."""
    if state.adopted is not None:
        if state.adopted.decision_event == command.decision_event:
            return []
        raise Refused("I-13", "이미 채택된 정책입니다.", "This policy has been adopted already.")
    draft = _draft(state)
    if (command.revision, command.text_hash) != (draft.revision, draft.text_hash):
        raise Refused(
            "I-12", "정책 초안의 현재 차수·본문과 다릅니다.", "This is not the current revision and text of the draft."
        )
    if not command.sources or not set(command.sources) <= set(draft.sources):
        raise Refused(
            "I-12", "정책 초안의 근거만 채택 근거가 됩니다.", "A policy is adopted on sources that its draft names."
        )
    if command.deliberation_event is None and command.emergency_clause is None:
        raise Refused(
            "I-12",
            "심의나 긴급 조항 없이는 채택할 수 없습니다.",
            "Without a deliberation or an emergency clause nothing can be adopted.",
        )
    return [
        PolicyAdopted(
            revision=command.revision,
            text_hash=command.text_hash,
            meeting_id=command.meeting_id,
            item=command.item,
            decision_event=command.decision_event,
            deliberation_event=command.deliberation_event,
            emergency_clause=command.emergency_clause,
            sources=command.sources,
            cases=tuple(dict.fromkeys(source.ref for source in command.sources)),
            owner=command.owner,
            review_date=command.review_date,
            departure_reason=command.departure_reason,
            plan_item=draft.plan_item,
        )
    ]


def assign_task(state: Policy, command: AssignTask) -> list[Event]:
    """A task of an adopted policy has an owner that exists, regions that exist, and a date to come (G3)."""
    adopted = _adopted(state)
    assigned = PolicyTaskAssigned(
        task=command.task,
        title=command.title,
        owner=command.owner,
        regions=tuple(dict.fromkeys(command.regions)),
        due=command.due,
        cases=adopted.cases,
    )
    if any(_same_work(task.assigned, assigned) for task in state.tasks.values()):
        return []
    if state.implemented:
        raise Refused("T-30", "이미 이행이 끝난 정책입니다.", "This policy has been implemented already.")
    if command.task in state.tasks:
        raise Refused("T-30", "같은 번호의 과제가 이미 있습니다.", "There is a task of this number already.")
    if command.owner_kind not in ("department", "organisation"):
        raise Refused(
            "T-30",
            "담당 기관은 현재 있는 부서나 기관이어야 합니다.",
            "The owner must be a department or an organisation that exists today.",
        )
    if not set(command.regions) <= set(command.regions_known):
        raise Refused("I-1", "현재 없는 지역이 있습니다.", "One of the regions does not exist today.")
    if command.due < command.today:
        raise Refused("T-30", "기한이 지난 날짜입니다.", "The date lies in the past.")
    return [assigned]


def report_progress(state: Policy, command: ReportProgress) -> list[Event]:
    """T-38: only the owner of the task reports, with evidence; what is done stays done."""
    _adopted(state)
    task = state.tasks.get(command.task)
    if task is None:
        raise Refused("absent", "그런 과제가 없습니다.", "There is no such task.", "absent")
    if command.by.body != task.assigned.owner:
        raise Refused(
            "I-9", "과제의 담당 기관만 보고할 수 있습니다.", "Only the owner of the task reports on it.", "authority"
        )
    report = ProgressReported(task=command.task, done=command.done, text=command.text, evidence=command.evidence)
    if report == task.last:
        return []
    if task.done:
        raise Refused("T-38", "이미 완료된 과제입니다.", "This task is done already.")
    return [report]


def complete_policy(state: Policy, command: CompletePolicy) -> list[Event]:
    """T-38b: a policy is implemented when it has tasks and all of them are done."""
    adopted = _adopted(state)
    if state.implemented:
        return []
    if not state.tasks or not all(task.done for task in state.tasks.values()):
        raise Refused(
            "T-38b",
            "과제가 모두 완료된 뒤에만 정책 이행을 끝낼 수 있습니다.",
            "A policy is implemented only when it has tasks and all of them are done.",
        )
    reported = (line for task in state.tasks.values() if task.last is not None for line in task.last.evidence)
    evidence = tuple(dict.fromkeys((*reported, *command.evidence)))
    return [PolicyImplemented(cases=adopted.cases, tasks=len(state.tasks), evidence=evidence)]


def _same_work(one: PolicyTaskAssigned, other: PolicyTaskAssigned) -> bool:
    return (one.title, one.owner, one.regions, one.due) == (other.title, other.owner, other.regions, other.due)


def _draft(state: Policy) -> PolicyDrafted:
    if state.draft is None:
        raise Refused("absent", "그런 정책이 없습니다.", "There is no such policy.", "absent")
    return state.draft


def _adopted(state: Policy) -> PolicyAdopted:
    _draft(state)
    if state.adopted is None:
        raise Refused("T-30", "아직 채택되지 않은 정책입니다.", "This policy has not been adopted yet.")
    return state.adopted


# Decider


def decide(state: Policy, command: Command) -> Sequence[Event]:
    """What a command stores; raises ``Refused`` with the rule that does not allow it."""
    match command:
        case DraftPolicy():
            return draft_policy(state, command)
        case AdoptPolicy():
            return adopt_policy(state, command)
        case AssignTask():
            return assign_task(state, command)
        case ReportProgress():
            return report_progress(state, command)
        case CompletePolicy():
            return complete_policy(state, command)
        case _:
            raise TypeError(f"not a command of Policy: {type(command).__name__}")


def evolve(state: Policy, event: Event) -> Policy:
    """The state after one more fact."""
    match event:
        case PolicyDrafted():
            return replace(state, draft=event)
        case PolicyAdopted():
            return replace(state, adopted=event)
        case PolicyTaskAssigned():
            return replace(state, tasks={**state.tasks, event.task: Task(event)})
        case ProgressReported():
            task = state.tasks.get(event.task)
            return (
                state if task is None else replace(state, tasks={**state.tasks, event.task: replace(task, last=event)})
            )
        case PolicyImplemented():
            return replace(state, implemented=True)
        case _:
            return state


POLICY = Decider(
    name="Policy",
    initial=Policy(),
    decide=decide,
    evolve=evolve,
    commands=(DraftPolicy, AdoptPolicy, AssignTask, ReportProgress, CompletePolicy),
)
