"""Routing without a host: streams in memory, the directory that hears them, and the process manager over both.

Built from the shipped reference data, through the aggregates' own commands. ``hear`` gives the process manager another
service's fact and returns what routing stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from services.routing.case import CASE, State
from services.routing.reactions import REACTIONS
from services.routing.reference import load
from shared.contracts.envelope import Actor, Authority, Envelope, Event, RuleTrace
from shared.contracts.issues import Direction, IssueAccepted, IssueRaised, IssueReviewed, OpinionRef, RegionRef
from shared.contracts.meetings import (
    DecisionFields,
    DecisionRecorded,
    PolicyAdopted,
    PolicyImplemented,
    PolicyTaskAssigned,
    Source,
)
from shared.contracts.routing import Holding
from shared.decider import Refused, fold
from shared.runtime.declare import Act, Recorded, Tables, View
from shared.runtime.directory import SEOUL, Directory

DATA = Path(__file__).parents[3] / "data"
CASE_ID = "01880000-0000-7000-8000-000000000001"
POLICY_ID = "01880000-0000-7000-8000-0000000000f1"
SEEDED = datetime(2023, 1, 4, 9, tzinfo=SEOUL)


@lru_cache(maxsize=1)
def shipped() -> tuple[Act, ...]:
    """The shipped reference data as acts."""
    return tuple(act for _, act in load(DATA, SEEDED))


class World:
    """One routing service."""

    def __init__(self, acts: Iterable[Act] = ()) -> None:
        self.streams: dict[str, list[Event]] = {}
        self.traces: list[RuleTrace | None] = []
        self.now = SEEDED
        self._heard = 0
        self._directory: Directory | None = None
        for act in acts or shipped():
            self.put(act)
        self.traces.clear()

    # Facts, as the process manager sees them

    @property
    def today(self) -> date:
        return self.now.date()

    @property
    def directory(self) -> Directory:
        if self._directory is None:
            self._directory = Directory(event for events in self.streams.values() for event in events)
        return self._directory

    @property
    def db(self) -> Connection:
        raise LookupError("the process manager reads no view: views lag behind")

    @property
    def mutable(self) -> Connection:
        raise LookupError("routing has no mutable tables")

    @property
    def effects(self) -> frozenset[str]:
        return frozenset()

    def tables(self, view: View) -> Tables:
        raise LookupError("the process manager reads no view: views lag behind")

    def load(self, decider: Any, id: str) -> tuple[Any, int]:
        past = self.streams.get(f"{decider.name}/{id}", [])
        return fold(decider, past), len(past)

    # What tests do

    def on(self, year: int, month: int, day: int) -> World:
        """Set the business day, ten o'clock."""
        self.now = datetime.combine(date(year, month, day), time(10), SEOUL)
        return self

    def put(self, act: Act) -> tuple[Event, ...]:
        """Decide and store one act."""
        state, _ = self.load(act.decider, act.id)
        events = tuple(act.decider.decide(state, act.command))
        self.streams.setdefault(act.stream, []).extend(events)
        if act.decider is not CASE:
            self.forget()
        if events:
            self.traces.append(act.trace)
        return events

    def forget(self) -> None:
        """Read the directory anew: reference facts changed."""
        self._directory = None

    def hear(
        self, event: Event, id: str = CASE_ID, by: str = "planning-group.chair", case_id: str | None = None
    ) -> tuple[Event, ...]:
        """What routing stores upon another service's fact; the office ``by`` is its actor."""
        heard = self.recorded(event, id, by, case_id)
        name = event.type
        try:
            return self._store(REACTIONS.by_type[name](heard, self))
        except Refused as refusal:
            return self._store(REACTIONS.after_refusal[name](heard, self, refusal))

    def recorded(self, event: Event, id: str, by: str, case_id: str | None = None) -> Recorded:
        """The fact with its envelope, as the inbox holds it."""
        self._heard += 1
        envelope = Envelope(
            event_id=f"e{self._heard}",
            type=event.type,
            schema_version=event.schema_version,
            service=event.owning_service,
            aggregate="Any",
            aggregate_id=id,
            version=self._heard,
            case_id=case_id or id,
            effective_at=self.now,
            recorded_at=self.now,
            actor=Actor(user="u-test", office=by, body=by.partition(".")[0]),
            authority=Authority(rule="test"),
            correlation_id="c",
            prev_hash="",
            hash="",
        )
        return Recorded("test", 1, self._heard, 0, self._heard - 1, id, envelope, event, b"")

    def _store(self, acts: Sequence[Act]) -> tuple[Event, ...]:
        return tuple(event for act in acts for event in self.put(act))

    def case(self, id: str = CASE_ID) -> State:
        """The case as it stands."""
        state, _ = self.load(CASE, id)
        assert isinstance(state, State)
        return state

    def holding(self, id: str = CASE_ID) -> Holding:
        """Who has the case."""
        holding = self.case(id).holding
        assert holding is not None
        return holding

    def matched(self) -> list[str]:
        """The rows that matched in the last stored move."""
        trace = self.traces[-1]
        assert trace is not None
        return [row.row for row in trace.rows if row.matched]


# Facts of other services

GANGWON = RegionRef(region="gangwon", code="42", name="강원도")
GYEONGGI = RegionRef(region="gyeonggi", code="41", name="경기도")
BUSAN = RegionRef(region="busan", code="26", name="부산광역시")
ULSAN = RegionRef(region="ulsan", code="31", name="울산광역시")


def raised(**other: Any) -> IssueRaised:
    """Step 1 of the walk: a county in Gangwon asks for a wider national road."""
    fields: dict[str, Any] = {
        "title": "국도 확장",
        "text": "국도 44호선의 확장을 건의함",
        "regions": (GANGWON,),
        "raised_by": "org-gangwon-hongcheon",
        "channel": "letter",
        "origin": "local_government",
        "plan_item": "P3-2",
        "tags": ("road",),
        "cost_band": "above_c",
    }
    return IssueRaised(**(fields | other))


def accepted(body: str = "council-gangwon") -> IssueAccepted:
    return IssueAccepted(intake_body=body)


def decided(body: str, code: str, **fields: Any) -> DecisionRecorded:
    return DecisionRecorded(
        decision="m1.1",
        body=body,
        item=1,
        case_id=CASE_ID,
        code=code,
        method="chair_after_hearing",
        clause="Charter art. 5",
        fields=DecisionFields(**fields),
    )


def reviewed(**other: Any) -> IssueReviewed:
    """Step 20 of the walk: supportable, above band C, divergence 0.25."""
    fields: dict[str, Any] = {
        "round": 1,
        "revision": 1,
        "outcome": "supportable",
        "divergence": 0.25,
        "lead": "dept-road",
        "opinions": (OpinionRef(department="dept-road", opinion="support_with_conditions"),),
        "direction": direction(),
        "text": "지원 가능",
    }
    return IssueReviewed(**(fields | other))


def direction(**other: Any) -> Direction:
    fields: dict[str, Any] = {
        "instruments": ("facility", "budget"),
        "lead": "dept-road",
        "legal_basis": "도로법",
        "cost_band": "above_c",
        "horizon": "2023-2027",
        "plan_item": "P3-2",
        "text": "좁은 구간부터 확장",
    }
    return Direction(**(fields | other))


def adopted(*cases: str) -> PolicyAdopted:
    return PolicyAdopted(
        revision=1,
        text_hash="h",
        meeting_id="m3",
        item=1,
        decision_event="e-decision",
        deliberation_event="e-deliberation",
        emergency_clause=None,
        sources=tuple(Source(kind="issue", ref=case) for case in cases or (CASE_ID,)),
        cases=cases or (CASE_ID,),
        owner="dept-road",
        review_date=date(2024, 9, 12),
    )


def task(due: date, name: str = "t1") -> PolicyTaskAssigned:
    return PolicyTaskAssigned(
        task=name, title="실시설계", owner="dept-road", regions=("gangwon",), due=due, cases=(CASE_ID,)
    )


def implemented() -> PolicyImplemented:
    return PolicyImplemented(cases=(CASE_ID,), tasks=1, evidence=("준공검사",))


# Worlds named after the state of their case


def at_intake(**other: Any) -> World:
    world = World().on(2023, 5, 8)
    world.hear(raised(**other), by="org-gangwon-hongcheon.officer")
    return world


def at_council(**other: Any) -> World:
    world = at_intake(**other).on(2023, 5, 9)
    world.hear(accepted(), by="council-gangwon.secretary")
    return world


def in_review(**other: Any) -> World:
    world = at_council(**other).on(2023, 5, 24)
    world.hear(decided("council-gangwon", "take_for_review"), "m1", "council-gangwon.chair", CASE_ID)
    return world


def at_support_group(**other: Any) -> World:
    world = in_review(**other).on(2023, 6, 15)
    world.hear(reviewed(), f"{CASE_ID}.1", case_id=CASE_ID)
    return world


def at_forum() -> World:
    world = at_support_group().on(2023, 7, 6)
    escalate = decided("support-group", "escalate", escalation="law_or_budget_beyond_powers")
    world.hear(escalate, "m2", "support-group.chair", CASE_ID)
    return world


def under_policy() -> World:
    world = at_forum().on(2023, 9, 12)
    world.hear(adopted(), POLICY_ID, "forum.chair")
    return world
