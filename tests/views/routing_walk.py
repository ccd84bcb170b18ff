"""The walk as its streams, for the tests of routing's views: a county's road from suggestion to adopted policy.

A second case, of another region, is answered by the same policy. Streams are permuted against one another, never
inside.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from shared.contracts.codes import BodyKind, CaseState, OfficeRole
from shared.contracts.envelope import Actor, Authority, Envelope, Event, Label, Reason, RuleRow, RuleTrace
from shared.contracts.issues import (
    DepartmentConsulted,
    Direction,
    IssueAccepted,
    IssueClosed,
    IssueRaised,
    IssueReviewed,
    JointReviewOpened,
    OpinionGiven,
    OpinionRef,
    ReceiptIssued,
    RegionRef,
    SupportDirectionSet,
)
from shared.contracts.meetings import (
    AgendaItemPlaced,
    CharterRef,
    DecisionFields,
    DecisionRecorded,
    DeliberationConcluded,
    MeetingHeld,
    MeetingOpened,
    MeetingPlanned,
    PlanItemAdded,
    PolicyAdopted,
    PolicyDrafted,
    PolicyImplemented,
    PolicyTaskAssigned,
    ProgressReported,
    Source,
)
from shared.contracts.reference import (
    BodyEstablished,
    ClockProfile,
    DecisionRow,
    DecisionTable,
    EdgeOpened,
    OfficeEstablished,
    OfficeHolderAppointed,
    RegionCodes,
    RegionRecoded,
    RegionRegistered,
    RuleSetPublished,
    TierRow,
)
from shared.contracts.routing import (
    CaseClosed,
    CaseLinkedToPolicy,
    CaseOpened,
    CaseRouted,
    DeadlineChanged,
    EscalatedToForum,
    EscalatedToSupportGroup,
    Holding,
    ImplementationAssigned,
    ImplementationCompleted,
)
from shared.runtime.declare import Recorded, Tables, View
from shared.runtime.directory import SEOUL, Directory
from shared.runtime.views import fold_prefix

CASE = "0187f8a0-0000-7000-8000-000000000001"
OTHER = "0187f8a0-0000-7000-8000-000000000002"
COUNCIL, GROUP, FORUM = "meeting-k", "meeting-g", "meeting-f"
POLICY = "policy-p"
ROAD, BUDGET = "dept-road", "dept-planning-coordination"


def at(month: int, day: int, hour: int = 10, year: int = 2023) -> datetime:
    """A business time of the walk, in Seoul."""
    return datetime(year, month, day, hour, tzinfo=SEOUL)


@dataclass
class Stream:
    """One stream as it grows; its events are named ``Aggregate.id.version``."""

    source: str
    aggregate: str
    id: str
    case_id: str | None = None
    events: list[Recorded] = field(default_factory=list)

    def add(
        self,
        when: datetime,
        event: Event,
        *,
        causation: str | None = None,
        trace: RuleTrace | None = None,
        rule: str = "T-1",
    ) -> str:
        """Append an event; returns its id."""
        version = len(self.events) + 1
        event_id = f"{self.aggregate}.{self.id}.{version}"
        envelope = Envelope(
            event_id=event_id,
            type=event.type,
            schema_version=1,
            service=self.source,
            aggregate=self.aggregate,
            aggregate_id=self.id,
            version=version,
            case_id=self.case_id,
            effective_at=when,
            recorded_at=when,
            actor=Actor(user="u1", office="o1", body="b1"),
            authority=Authority(rule=rule),
            correlation_id="c1",
            causation_id=causation,
            rule_trace=trace,
            prev_hash="",
            hash="",
        )
        key = self.case_id or self.id
        self.events.append(Recorded(self.source, 1, version, 0, version - 1, key, envelope, event, b""))
        return event_id


def held_by(state: CaseState, body: str, role: str, due: date, clock: str, tier: str | None = None) -> Holding:
    """A holding of the body's office of that role."""
    return Holding(state=state, tier=tier, body=body, office=f"{body}.{role}", due=due, clock=clock)


def traced(**rows: bool) -> RuleTrace:
    """A trace of rule set 1 in which these rows (``table__row``) were looked at."""
    found = tuple(RuleRow(table=t, row=r, matched=matched) for (t, r), matched in _split(rows))
    return RuleTrace(rule_set="rules", version=1, rows=found, inputs={"regions": ("gangwon",), "cost_band": "above_c"})


def _split(rows: Mapping[str, bool]) -> Iterable[tuple[tuple[str, str], bool]]:
    for name, matched in rows.items():
        table, row = name.split("__")
        yield (table, row), matched


def walk() -> list[list[Recorded]]:
    """Steps 1 to 33 of the walk without those marked as left out, as streams."""
    issue, case = Stream("issues", "Issue", CASE, CASE), Stream("routing", "Case", CASE, CASE)
    review = Stream("issues", "JointReview", f"{CASE}.1", CASE)
    policy, plan = Stream("meetings", "Policy", POLICY), Stream("meetings", "WorkPlan", "2023")
    plan.add(
        at(1, 3),
        PlanItemAdded(
            year=2023, item="P3-2", parent="P3", name=label("지역 도로망"), valid_from=date(2023, 1, 3), source="V"
        ),
    )

    raised = issue.add(at(5, 8), raised_event("국도 확장", "gangwon", "42", "강원도", "org-gangwon-hongcheon"))
    issue.add(at(5, 8), ReceiptIssued(docket="2023-000001", issued_to="org-gangwon-hongcheon"))
    case.add(
        at(5, 8),
        CaseOpened(
            holding=held_by("intake", "council-gangwon", "secretary", date(2023, 5, 11), "completeness"),
            regions=(RegionRef(region="gangwon", code="42", name="강원도"),),
            raised_by="org-gangwon-hongcheon",
        ),
        causation=raised,
        trace=traced(council_selection__one_region=True),
    )
    accepted = issue.add(at(5, 9), IssueAccepted(intake_body="council-gangwon"))
    case.add(
        at(5, 9),
        CaseRouted(
            from_body="council-gangwon",
            holding=held_by("at_body", "council-gangwon", "secretary", date(2023, 6, 8), "council_placement", "R2"),
            cause=accepted,
        ),
    )

    council = meeting(COUNCIL, "council-gangwon", date(2023, 5, 24), at(5, 10))
    taken = council.add(at(5, 24, 11), decision(COUNCIL, "council-gangwon", "take_for_review"))
    council.add(at(5, 24, 12), MeetingHeld(body="council-gangwon", items_decided=1, items_undecided=0))
    to_review = case.add(
        at(5, 24, 11),
        CaseRouted(
            from_body="council-gangwon",
            holding=held_by("in_joint_review", "planning-group", "secretary", date(2023, 6, 23), "review"),
            lead=ROAD,
            proposed=(BUDGET,),
            cause=taken,
        ),
        trace=traced(lead__road=True, consulted__budget=True),
    )

    review.add(
        at(5, 24, 11),
        JointReviewOpened(round=1, revision=1, body="planning-group", lead=ROAD, proposed=(BUDGET,)),
        causation=to_review,
    )
    for department in (ROAD, BUDGET):
        review.add(
            at(5, 25),
            DepartmentConsulted(
                round=1, department=department, lead=department == ROAD, revision=1, due=date(2023, 6, 12)
            ),
        )
    review.add(
        at(6, 1),
        OpinionGiven(round=1, department=ROAD, revision=1, opinion="support_with_conditions", text="조건부"),
    )
    review.add(at(6, 7), OpinionGiven(round=1, department=BUDGET, revision=1, opinion="support", text="동의"))
    direction = Direction(
        instruments=("facility", "budget"),
        lead=ROAD,
        legal_basis="도로법",
        cost_band="above_c",
        horizon="2028",
        plan_item="P3-2",
        text="단계별 확장",
    )
    review.add(at(6, 14), SupportDirectionSet(round=1, revision=1, direction=direction))
    concluded = review.add(
        at(6, 15),
        IssueReviewed(
            round=1,
            revision=1,
            outcome="supportable",
            divergence=0.25,
            lead=ROAD,
            opinions=(OpinionRef(department=ROAD, opinion="support_with_conditions"),),
            direction=direction,
            text="지원 가능",
        ),
    )
    case.add(
        at(6, 15),
        EscalatedToSupportGroup(
            from_body="planning-group",
            holding=held_by("at_body", "support-group", "secretary", date(2023, 7, 13), "support_placement", "R4"),
            documents=(),
            reason=Reason(code="above_thresholds", text="총사업비가 기준을 넘습니다."),
            cause=concluded,
        ),
        trace=traced(resolve_or_escalate__above_c=True, resolve_or_escalate__diverging=False),
    )

    group = meeting(GROUP, "support-group", date(2023, 7, 6), at(6, 20))
    escalated = group.add(at(7, 6, 11), decision(GROUP, "support-group", "escalate"))
    case.add(
        at(7, 6, 11),
        EscalatedToForum(
            from_body="support-group",
            holding=held_by("at_body", "forum", "secretary", date(2023, 10, 5), "forum_placement", "R5"),
            documents=(),
            reason=Reason(code="law_or_budget_beyond_powers", text="지원단 권한을 넘는 예산입니다."),
            cause=escalated,
        ),
    )

    sources = (Source(kind="issue", ref=CASE), Source(kind="issue", ref=OTHER))
    policy.add(
        at(7, 13),
        PolicyDrafted(
            title="국도 확장 정책", text="본문", text_hash="h1", revision=1, sources=sources, plan_item="P3-2"
        ),
    )
    forum = meeting(FORUM, "forum", date(2023, 9, 12), at(8, 29))
    advised = forum.add(
        at(9, 12, 11),
        DeliberationConcluded(
            item=1, case_id=CASE, advice="for", fields_heard=("transport",), fields_not_heard=(), text="찬성"
        ),
    )
    adopted = forum.add(at(9, 12, 12), decision(FORUM, "forum", "adopt"))
    in_force = policy.add(
        at(9, 12, 12),
        PolicyAdopted(
            revision=1,
            text_hash="h1",
            meeting_id=FORUM,
            item=1,
            decision_event=adopted,
            deliberation_event=advised,
            emergency_clause=None,
            sources=sources,
            cases=(CASE, OTHER),
            owner=ROAD,
            review_date=date(2024, 9, 12),
            plan_item="P3-2",
        ),
    )
    case.add(
        at(9, 12, 12),
        CaseLinkedToPolicy(policy_id=POLICY, policy_revision=1, reason="건의를 그대로 담았습니다.", cause=in_force),
    )
    case.add(
        at(9, 12, 12),
        ImplementationAssigned(
            from_body="forum",
            holding=held_by("implementing", ROAD, "reviewer", date(2024, 9, 12), "decision"),
            outcome="adopted_in_policy",
            policy_id=POLICY,
            cause=in_force,
        ),
    )
    assigned = policy.add(
        at(10, 16),
        PolicyTaskAssigned(
            task="t1", title="설계", owner=ROAD, regions=("gangwon",), due=date(2023, 12, 29), cases=(CASE, OTHER)
        ),
    )
    case.add(
        at(10, 16),
        DeadlineChanged(
            body=ROAD,
            office=f"{ROAD}.reviewer",
            due=date(2023, 12, 29),
            clock="task",
            reason=Reason(code="task", text="과제 기한입니다."),
            cause=assigned,
        ),
    )
    policy.add(at(12, 20), ProgressReported(task="t1", done=True, text="마침", evidence=("보고서",)))
    implemented = policy.add(at(12, 21), PolicyImplemented(cases=(CASE, OTHER), tasks=1, evidence=("보고서",)))
    done = case.add(at(12, 21), ImplementationCompleted(text="마침", evidence=("보고서",), cause=implemented))
    case.add(at(12, 21), CaseClosed(from_body=ROAD, outcome="adopted_in_policy", cause=done))
    issue.add(at(12, 21), IssueClosed(outcome="adopted_in_policy"))
    streams = [issue, case, review, council, group, forum, policy, plan, *_other_case()]
    return [stream.events for stream in streams]


def until(streams: Sequence[Sequence[Recorded]], moment: datetime) -> list[list[Recorded]]:
    """The streams as they stood at a moment."""
    return [[event for event in stream if event.at <= moment] for stream in streams]


def _other_case() -> list[Stream]:
    issue, case = Stream("issues", "Issue", OTHER, OTHER), Stream("routing", "Case", OTHER, OTHER)
    raised = issue.add(at(5, 2), raised_event("경기도의 비밀 도로", "gyeonggi", "41", "경기도", "org-gyeonggi"))
    issue.add(at(5, 2), ReceiptIssued(docket="2023-000000", issued_to="org-gyeonggi"))
    case.add(
        at(5, 2),
        CaseOpened(
            holding=held_by("intake", "council-gyeonggi", "secretary", date(2023, 5, 4), "completeness"),
            regions=(RegionRef(region="gyeonggi", code="41", name="경기도"),),
            raised_by="org-gyeonggi",
        ),
        causation=raised,
    )
    return [issue, case]


def raised_event(title: str, region: str, code: str, name: str, raised_by: str) -> IssueRaised:
    """A suggestion for the road network."""
    return IssueRaised(
        title=title,
        text="본문",
        regions=(RegionRef(region=region, code=code, name=name),),
        raised_by=raised_by,
        channel="letter",
        origin="local_government",
        plan_item="P3-2",
        cost_band="above_c",
    )


def meeting(meeting_id: str, body: str, day: date, planned: datetime) -> Stream:
    """A sitting with the case as item 1, open."""
    stream = Stream("meetings", "Meeting", meeting_id)
    stream.add(planned, MeetingPlanned(body=body, day=day, place="청사", form="on_site"))
    stream.add(planned, AgendaItemPlaced(item=1, kind="case", case_id=CASE))
    charter = CharterRef(charter=f"{body}-charter", version=1, quorum=3, method="chair_after_hearing")
    stream.add(at(day.month, day.day), MeetingOpened(body=body, charter=charter))
    return stream


def decision(meeting_id: str, body: str, code: Any) -> DecisionRecorded:
    """The decision on item 1."""
    return DecisionRecorded(
        decision=f"{meeting_id}.1",
        body=body,
        item=1,
        case_id=CASE,
        code=code,
        method="chair_after_hearing",
        clause="art. 5",
        fields=DecisionFields(),
    )


def label(text: str) -> Label:
    """A name that is the same in both languages, but for a mark."""
    return Label(ko=text, en=f"{text} (en)")


def directory() -> Directory:
    """The reference facts of the walk: three bodies in a chain, two councils, two departments, two counties."""
    start, events = date(2022, 8, 1), list[Event]()
    regions = (("gangwon", "42", "강원도"), ("gyeonggi", "41", "경기도"))
    for region, code, name in regions:
        events.append(
            RegionRegistered(
                region=region, codes=RegionCodes(mois=code), name=label(name), valid_from=date(2020, 1, 1), source="S"
            )
        )
    events.append(
        RegionRecoded(
            region="gangwon",
            codes=RegionCodes(mois="51"),
            name=label("강원특별자치도"),
            valid_from=date(2023, 6, 11),
            source="S",
        )
    )
    bodies: tuple[tuple[str, BodyKind, str | None, OfficeRole, tuple[str, ...]], ...] = (
        ("council-gangwon", "council", "R2", "secretary", ("gangwon",)),
        ("council-gyeonggi", "council", "R2", "secretary", ("gyeonggi",)),
        ("planning-group", "planning_group", None, "secretary", ()),
        ("support-group", "support_group", "R4", "secretary", ()),
        ("forum", "forum", "R5", "secretary", ()),
        ("triage-desk", "triage", None, "desk", ()),
        ("operations", "operations", None, "operator", ()),
        (ROAD, "department", None, "reviewer", ()),
        (BUDGET, "department", None, "reviewer", ()),
        ("org-gangwon-hongcheon", "organisation", None, "officer", ("gangwon",)),
        ("org-gyeonggi", "organisation", None, "officer", ("gyeonggi",)),
    )
    for body, kind, tier, role, covers in bodies:
        events.append(
            BodyEstablished(
                body=body, kind=kind, tier=tier, name=label(body), regions=covers, valid_from=start, source="M"
            )
        )
        office = f"{body}.{role}"
        events.append(
            OfficeEstablished(office=office, body=body, role=role, name=label(office), valid_from=start, source="M")
        )
        events.append(OfficeHolderAppointed(office=office, subject=f"s-{body}", valid_from=start, source="M"))
    edges = (
        ("council-gangwon", "planning-group", "review"),
        ("planning-group", "support-group", "escalate"),
        ("support-group", "forum", "escalate"),
    )
    for body, to_body, kind_of_edge in edges:
        events.append(
            EdgeOpened.model_validate(
                {
                    "body": body,
                    "edge": f"{body}.{kind_of_edge}",
                    "to_body": to_body,
                    "kind": kind_of_edge,
                    "valid_from": start,
                    "source": "M",
                }
            )
        )
    events.append(rule_set())
    return Directory(events, revision=len(events))


def rule_set() -> RuleSetPublished:
    """Rules with three tiers and the two tables that the walk's traces speak of."""
    councils = DecisionRow(
        row="one_region", when="size(regions) == 1", gives={"body": "council-gangwon"}, source="rule 1"
    )
    return RuleSetPublished(
        rule_set="rules",
        version=1,
        tiers=tuple(
            TierRow(tier=tier, state="at_body", label=label(name), clock=clock)
            for tier, name, clock in (
                ("R2", "지역협의회 논의", "council_placement"),
                ("R4", "지원단 논의", "support_placement"),
                ("R5", "포럼 논의", "forum_placement"),
            )
        ),
        clocks=(ClockProfile(clock="completeness", days=3, unit="working"),),
        tables=(
            DecisionTable(table="council_selection", hit_policy="unique", rows=(councils,)),
            DecisionTable(
                table="resolve_or_escalate",
                hit_policy="rule_order",
                rows=(
                    DecisionRow(
                        row="above_c", when="cost_band == 'above_c'", gives={"move": "escalate"}, source="rule 5"
                    ),
                    DecisionRow(row="diverging", when="divergence >= 0.5", gives={"move": "escalate"}, source="rule 4"),
                ),
            ),
        ),
        valid_from=date(2022, 8, 1),
        source="M",
    )


class Desk:
    """A reader at the gateway, in an office, on a business day, over views folded in memory."""

    def __init__(
        self,
        views: Mapping[str, tuple[Connection, Tables]],
        now: datetime,
        office: str = "planning-group.secretary",
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        limit: int = 50,
        after: tuple[Any, ...] | None = None,
    ) -> None:
        self._views = views
        self.now, self.today = now, now.date()
        self.directory = directory()
        body = office.rsplit(".", 1)[0]
        self.actor = Actor(user=f"s-{body}", office=office, body=body)
        self.path, self.query, self.limit, self.after = path or {}, query or {}, limit, after

    @property
    def db(self) -> Connection:
        """The database of the one view at hand."""
        return next(iter(self._views.values()))[0]

    def tables(self, view: View) -> Tables:
        """The tables of a view."""
        return self._views[view.name][1]

    def regions_allowed(self) -> tuple[str, ...] | None:
        """A raising organisation's regions; ``None`` for the ministry."""
        own = self.directory.body(self.actor.body, self.today)
        return own.regions if own is not None and own.kind == "organisation" else None


def folded(view: View, streams: Sequence[Sequence[Recorded]], seed: int = 0) -> tuple[Connection, Tables]:
    """The view after all events of its sources, in one of the orders that keep each stream's own."""
    return fold_prefix(view, interleaved([s for s in streams if s and s[0].source in view.sources], seed))


def interleaved(streams: Sequence[Sequence[Recorded]], seed: int) -> list[Recorded]:
    """One interleaving of the streams, chosen by ``seed``; 0 is stream after stream."""
    order = [index for index, stream in enumerate(streams) for _ in stream]
    if seed:
        random.Random(seed).shuffle(order)
    iterators = [iter(stream) for stream in streams]
    return [next(iterators[index]) for index in order]


def rows(view: View, streams: Sequence[Sequence[Recorded]], seed: int) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the view."""
    db, tables = folded(view, streams, seed)
    return {name: sorted((tuple(row) for row in db.execute(select(table))), key=repr) for name, table in tables.items()}


def days(count: float) -> float:
    """Days in seconds."""
    return timedelta(days=count).total_seconds()
