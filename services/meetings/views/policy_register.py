"""Policy register: what was drafted and adopted, on what it rests, and how its tasks stand.

Source: "policy register" among the views of the floor; G1, G3. A draft is the ministry's own; from its adoption on a
policy is what the raisers are told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Connection, Integer, String, select, tuple_

from shared.contracts.envelope import Fact, Label
from shared.contracts.meetings import (
    PolicyAdopted,
    PolicyDrafted,
    PolicyImplemented,
    PolicyTaskAssigned,
    ProgressReported,
    Source,
)
from shared.runtime.declare import Named, Recorded, Tables, View
from shared.runtime.views import upsert

STATES = {
    "drafted": Label(ko="초안", en="drafted"),
    "adopted": Label(ko="채택", en="adopted"),
    "in_implementation": Label(ko="이행 중", en="in implementation"),
    "implemented": Label(ko="이행 완료", en="implemented"),
}


def tables(named: Named) -> None:
    """Policies, their tasks, and the reports on these."""
    named.table(
        "policies",
        Column("policy_id", String, primary_key=True),
        Column("state", String, index=True),
        Column("title", String),
        Column("text", String),
        Column("text_hash", String),
        Column("revision", Integer),
        Column("sources", JSON),
        Column("plan_item", String),
        Column("drafted_at", String),
        Column("adoption", JSON),
        Column("adopted_at", String),
        Column("adopted_by", String),
        Column("implemented_at", String),
        Column("evidence", JSON),
        Column("version", Integer),
    )
    named.table(
        "tasks",
        Column("policy_id", String, primary_key=True),
        Column("task", String, primary_key=True),
        Column("number", Integer),
        Column("title", String),
        Column("owner", String),
        Column("regions", JSON),
        Column("due", String),
        Column("done", Boolean),
    )
    named.table(
        "progress",
        Column("event_id", String, primary_key=True),
        Column("policy_id", String, index=True),
        Column("number", Integer),
        Column("task", String),
        Column("done", Boolean),
        Column("text", String),
        Column("evidence", JSON),
        Column("reported_at", String),
        Column("reported_by", String),
    )


def fold(db: Connection, made: Tables, heard: Recorded) -> None:
    """One fact more; every event of a policy also moves its version."""
    event, at = heard.data, heard.at.isoformat()
    policy: dict[str, Any] = {}
    match event:
        case PolicyDrafted():
            policy = {
                "state": "drafted",
                "title": event.title,
                "text": event.text,
                "text_hash": event.text_hash,
                "revision": event.revision,
                "sources": [source.model_dump(mode="json") for source in event.sources],
                "plan_item": event.plan_item,
                "drafted_at": at,
            }
        case PolicyAdopted():
            policy = {
                "state": "adopted",
                "adoption": event.model_dump(mode="json", exclude={"type", "revision", "text_hash", "plan_item"}),
                "adopted_at": at,
                "adopted_by": heard.envelope.actor.office,
            }
        case PolicyTaskAssigned():
            policy = {"state": "in_implementation"}
            task = {
                "policy_id": heard.aggregate_id,
                "task": event.task,
                "number": heard.envelope.version,
                "title": event.title,
                "owner": event.owner,
                "regions": list(event.regions),
                "due": event.due.isoformat(),
                "done": False,
            }
            upsert(db, made["tasks"], task)
        case ProgressReported():
            done = {"policy_id": heard.aggregate_id, "task": event.task, "done": event.done}
            upsert(db, made["tasks"], done)
            report = {
                "event_id": heard.id,
                "policy_id": heard.aggregate_id,
                "number": heard.envelope.version,
                "task": event.task,
                "done": event.done,
                "text": event.text,
                "evidence": list(event.evidence),
                "reported_at": at,
                "reported_by": heard.envelope.actor.office,
            }
            upsert(db, made["progress"], report)
        case PolicyImplemented():
            policy = {"state": "implemented", "implemented_at": at, "evidence": list(event.evidence)}
        case _:
            return
    upsert(db, made["policies"], {"policy_id": heard.aggregate_id, "version": heard.envelope.version, **policy})


POLICY_REGISTER = View(name="policy_register", version=1, sources=("meetings",), tables=tables, fold=fold)


# Queries


class PolicyRow(Fact):
    """A policy in a list."""

    policy_id: str
    title: str
    state: str
    state_label: Label
    revision: int
    plan_item: str | None
    drafted_at: str
    owner: str | None
    review_date: date | None
    adopted_at: str | None


class TaskReport(Fact):
    """What the owner of a task told."""

    done: bool
    text: str
    evidence: tuple[str, ...]
    reported_at: str
    reported_by: str


class TaskRow(Fact):
    """A task with the reports on it, the oldest first."""

    task: str
    title: str
    owner: str
    regions: tuple[str, ...]
    due: date
    done: bool
    progress: tuple[TaskReport, ...]


class PolicyAdoption(Fact):
    """On what the adoption rests (I-12)."""

    meeting_id: str
    item: int
    decision_event: str
    deliberation_event: str | None
    emergency_clause: str | None
    sources: tuple[Source, ...]
    cases: tuple[str, ...]
    owner: str
    review_date: date
    departure_reason: str | None
    adopted_at: str
    adopted_by: str


class PolicyFile(Fact):
    """A policy as it stands."""

    policy_id: str
    title: str
    text: str
    text_hash: str
    revision: int
    state: str
    state_label: Label
    plan_item: str | None
    sources: tuple[Source, ...]
    drafted_at: str
    adoption: PolicyAdoption | None
    tasks: tuple[TaskRow, ...]
    implemented_at: str | None
    evidence: tuple[str, ...]


def policy_rows(db: Connection, made: Tables, drafts: bool, limit: int, after: Sequence[Any] | None) -> list[PolicyRow]:
    """Policies, the last drafted first, with or without drafts; after ``(drafted at, policy id)`` of the last seen."""
    policies = made["policies"]
    query = select(policies).where(policies.c.drafted_at.is_not(None))
    if not drafts:
        query = query.where(policies.c.state != "drafted")
    if after is not None:
        query = query.where(tuple_(policies.c.drafted_at, policies.c.policy_id) < tuple_(*after))
    query = query.order_by(policies.c.drafted_at.desc(), policies.c.policy_id.desc()).limit(limit)
    return [
        PolicyRow(
            policy_id=row.policy_id,
            title=row.title,
            state=row.state,
            state_label=STATES[row.state],
            revision=row.revision,
            plan_item=row.plan_item,
            drafted_at=row.drafted_at,
            owner=None if row.adoption is None else row.adoption["owner"],
            review_date=None if row.adoption is None else row.adoption["review_date"],
            adopted_at=row.adopted_at,
        )
        for row in db.execute(query)
    ]


def policy_file(db: Connection, made: Tables, policy_id: str) -> tuple[PolicyFile, int] | None:
    """A policy and its version; ``None`` where it is not heard of."""
    policies, tasks, progress = made["policies"], made["tasks"], made["progress"]
    row = db.execute(select(policies).where(policies.c.policy_id == policy_id)).one_or_none()
    if row is None or row.drafted_at is None:
        return None
    reports: dict[str, list[TaskReport]] = defaultdict(list)
    for told in db.execute(select(progress).where(progress.c.policy_id == policy_id).order_by(progress.c.number)):
        reports[told.task].append(
            TaskReport(
                done=told.done,
                text=told.text,
                evidence=told.evidence,
                reported_at=told.reported_at,
                reported_by=told.reported_by,
            )
        )
    adoption = None
    if row.adoption is not None:
        adoption = PolicyAdoption(**row.adoption, adopted_at=row.adopted_at, adopted_by=row.adopted_by)
    file = PolicyFile(
        policy_id=row.policy_id,
        title=row.title,
        text=row.text,
        text_hash=row.text_hash,
        revision=row.revision,
        state=row.state,
        state_label=STATES[row.state],
        plan_item=row.plan_item,
        sources=row.sources,
        drafted_at=row.drafted_at,
        adoption=adoption,
        tasks=tuple(
            TaskRow(
                task=task.task,
                title=task.title,
                owner=task.owner,
                regions=task.regions,
                due=task.due,
                done=task.done,
                progress=tuple(reports[task.task]),
            )
            for task in db.execute(select(tasks).where(tasks.c.policy_id == policy_id).order_by(tasks.c.number))
        ),
        implemented_at=row.implemented_at,
        evidence=row.evidence or (),
    )
    return file, row.version
