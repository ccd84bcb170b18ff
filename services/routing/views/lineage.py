"""Lineage: from a suggestion down to its policy and tasks, from a policy back to every suggestion (J3, first-1).

Nodes and edges, each folded from one stream. An edge may begin at an *event* (the cause that a move or a round names);
which node that event belongs to is looked up when asked. Every node belongs to one case or one policy, except meetings
and plan items, which many share: a graph is gathered case by case and policy by policy, and what is shared is shown
but never followed. Whose case the reader may not see is masked, never named (I3).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import Boolean, Column, ColumnElement, Connection, Integer, Select, String, Table, and_, or_, select

from services.routing.views.answers import OUTCOMES, Answer, Words, body_name, stage_label, stage_of, stamp
from services.routing.views.itinerary import OPENS_HOLDING
from shared.contracts.issues import (
    DepartmentConsulted,
    IssueAccepted,
    IssueClosed,
    IssueRaised,
    IssueRefused,
    IssueReviewed,
    JointReviewOpened,
    OpinionGiven,
    OpinionNotGiven,
    ReceiptIssued,
    SupportDirectionSet,
)
from shared.contracts.meetings import (
    AgendaItemPlaced,
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
)
from shared.contracts.routing import CaseClosed, CaseLinkedToPolicy
from shared.runtime.declare import Absent, Facts, Gateway, Named, One, Recorded, Request, Resource, Tables, View
from shared.runtime.directory import Directory
from shared.runtime.views import upsert

MOST_NODES = 2_000
"""A graph ends here and says so: a plan item may have thousands of suggestions."""
MOST_ROOTS = 500

Key = tuple[str, str]
"""Kind and id of a node."""

# Tables and fold


def _tables(named: Named) -> None:
    named.table(
        "nodes",
        Column("kind", String, primary_key=True),
        Column("id", String, primary_key=True),
        Column("case_id", String, index=True),
        Column("policy_id", String, index=True),
        Column("body", String),
        Column("title", String),
        Column("number", Integer),
        Column("state", String),
        Column("detail", String),
        Column("at", String),
    )
    named.table(
        "edges",
        Column("from_kind", String, primary_key=True),
        Column("from_id", String, primary_key=True),
        Column("to_kind", String, primary_key=True),
        Column("to_id", String, primary_key=True),
        Column("relation", String, primary_key=True),
        Column("to_key", String, index=True),
        Column("owner", String, index=True),
    )
    named.table(
        "events",
        Column("event_id", String, primary_key=True),
        Column("kind", String),
        Column("id", String),
    )
    named.table(
        "cases",
        Column("case_id", String, primary_key=True),
        Column("nationwide", Boolean),
        Column("regions", String),
    )
    named.table(
        "plan_items",
        Column("item", String, primary_key=True),
        Column("year", Integer, primary_key=True),
        Column("ko", String),
        Column("en", String),
        Column("at", String),
    )


class _Writer:
    """Writes the nodes and edges of one event. ``owner`` is the case, policy or meeting whose edges these are."""

    def __init__(self, db: Connection, tables: Tables, heard: Recorded, owner: str) -> None:
        self._db, self._tables, self._heard, self._owner = db, tables, heard, owner

    def node(self, key: Key, **columns: Any) -> Key:
        upsert(self._db, self._tables["nodes"], {"kind": key[0], "id": key[1], **columns})
        return key

    def edge(self, start: Key, relation: str, end: Key) -> None:
        row = {"from_kind": start[0], "from_id": start[1], "to_kind": end[0], "to_id": end[1], "relation": relation}
        upsert(self._db, self._tables["edges"], row | {"owner": self._owner, "to_key": f"{end[0]}:{end[1]}"})

    def event_of(self, key: Key) -> None:
        """Remember that this event belongs to the node: others name it as their cause."""
        upsert(self._db, self._tables["events"], {"event_id": self._heard.id, "kind": key[0], "id": key[1]})


def _fold(db: Connection, tables: Tables, heard: Recorded) -> None:
    match heard.source:
        case "issues":
            _fold_issues(_Writer(db, tables, heard, heard.case_id or ""), db, tables, heard)
        case "routing":
            _fold_routing(_Writer(db, tables, heard, heard.case_id or ""), heard)
        case "meetings":
            _fold_meetings(db, tables, heard)
        case _:
            pass


def _fold_issues(write: _Writer, db: Connection, tables: Tables, heard: Recorded) -> None:
    event, case_id, at = heard.data, heard.case_id or "", stamp(heard.at)
    issue: Key = ("issue", case_id)
    match event:
        case IssueRaised():
            write.node(issue, case_id=case_id, title=event.title, body=event.raised_by, state="raised", at=at)
            write.event_of(issue)
            regions = json.dumps([region.region for region in event.regions])
            upsert(db, tables["cases"], {"case_id": case_id, "nationwide": event.nationwide, "regions": regions})
            if event.plan_item is not None:
                write.edge(issue, "asks_for", ("plan_item", event.plan_item))
        case ReceiptIssued():
            docket = write.node(("docket", event.docket), case_id=case_id, title=event.docket, at=at)
            write.edge(issue, "registered_as", docket)
        case IssueAccepted():
            write.node(issue, state="accepted")
            write.event_of(issue)
        case IssueRefused():
            write.node(issue, state="refused")
            write.event_of(issue)
        case IssueClosed():
            write.node(issue, state="closed", detail=event.outcome)
        case JointReviewOpened():
            review = write.node(
                _round(heard), case_id=case_id, body=event.body, number=event.round, state="open", at=at
            )
            write.edge(issue, "reviewed_in", review)
            if heard.envelope.causation_id is not None:
                write.edge(("event", heard.envelope.causation_id), "led_to", review)
        case DepartmentConsulted():
            opinion = _opinion(heard, event.department)
            write.node(opinion, case_id=case_id, body=event.department, state="consulted", at=at)
            write.edge(_round(heard), "asked", opinion)
        case OpinionGiven() | OpinionNotGiven():
            state = event.opinion if isinstance(event, OpinionGiven) else "not_given"
            write.node(_opinion(heard, event.department), case_id=case_id, body=event.department, state=state, at=at)
            write.edge(_round(heard), "asked", _opinion(heard, event.department))
        case SupportDirectionSet():
            direction = write.node(
                ("direction", heard.aggregate_id), case_id=case_id, body=event.direction.lead, state="set", at=at
            )
            write.edge(_round(heard), "set", direction)
            if event.direction.plan_item is not None:
                write.edge(direction, "belongs_to", ("plan_item", event.direction.plan_item))
        case IssueReviewed():
            write.node(_round(heard), case_id=case_id, number=event.round, state=event.outcome)
            write.event_of(_round(heard))
        case _:
            pass


def _round(heard: Recorded) -> Key:
    return ("round", heard.aggregate_id)


def _opinion(heard: Recorded, department: str) -> Key:
    return ("opinion", f"{heard.aggregate_id}.{department}")


def _fold_routing(write: _Writer, heard: Recorded) -> None:
    event, case_id = heard.data, heard.case_id or ""
    if isinstance(event, CaseLinkedToPolicy):
        write.edge(("issue", case_id), f"answered_{event.link}", ("policy", event.policy_id))
    elif isinstance(event, (*OPENS_HOLDING, CaseClosed)):
        holding = None if isinstance(event, CaseClosed) else event.holding
        move = write.node(
            ("move", heard.id),
            case_id=case_id,
            body=holding.body if holding is not None else None,
            number=heard.envelope.version,
            state=stage_of(holding) if holding is not None else "R9",
            detail=getattr(event, "outcome", None),
            at=stamp(heard.at),
        )
        write.event_of(move)
        cause = getattr(event, "cause", None) or heard.envelope.causation_id
        write.edge(("event", cause) if cause else ("issue", case_id), "led_to", move)


def _fold_meetings(db: Connection, tables: Tables, heard: Recorded) -> None:
    event, at, aggregate_id = heard.data, stamp(heard.at), heard.aggregate_id
    of_case = _Writer(db, tables, heard, heard.case_id or getattr(event, "case_id", None) or aggregate_id)
    of_policy = _Writer(db, tables, heard, aggregate_id)
    meeting: Key = ("meeting", aggregate_id)
    policy: Key = ("policy", aggregate_id)
    match event:
        case MeetingPlanned():
            of_case.node(meeting, body=event.body, title=event.day.isoformat(), state="planned", at=at)
        case MeetingOpened():
            of_case.node(meeting, body=event.body, state="in_session", at=at)
        case MeetingHeld():
            of_case.node(meeting, body=event.body, state="held")
        case AgendaItemPlaced():
            of_case.edge(("issue", event.case_id), "placed_on_agenda_of", meeting)
        case DeliberationConcluded():
            advice = of_case.node(
                _deliberation(heard, event.item),
                case_id=event.case_id,
                number=event.item,
                state=event.advice,
                at=at,
            )
            of_case.edge(advice, "held_in", meeting)
            if event.case_id is not None:
                of_case.edge(("issue", event.case_id), "deliberated_in", advice)
        case DecisionRecorded():
            decision = of_case.node(
                ("decision", event.decision),
                case_id=event.case_id,
                body=event.body,
                number=event.item,
                state=event.code,
                at=at,
            )
            of_case.event_of(decision)
            of_case.edge(decision, "taken_in", meeting)
            of_case.edge(_deliberation(heard, event.item), "advised", decision)
            if event.case_id is not None:
                of_case.edge(("issue", event.case_id), "decided_by", decision)
        case PolicyDrafted():
            of_policy.node(
                policy, policy_id=aggregate_id, title=event.title, number=event.revision, state="drafted", at=at
            )
            for source in event.sources:
                of_policy.edge((source.kind, source.ref), "source_of", policy)
            if event.plan_item is not None:
                of_policy.edge(policy, "belongs_to", ("plan_item", event.plan_item))
        case PolicyAdopted():
            of_policy.node(policy, policy_id=aggregate_id, number=event.revision, state="adopted", at=at)
            of_policy.event_of(policy)
            of_policy.edge(("event", event.decision_event), "adopted", policy)
            for source in event.sources:
                of_policy.edge((source.kind, source.ref), "source_of", policy)
            if event.plan_item is not None:
                of_policy.edge(policy, "belongs_to", ("plan_item", event.plan_item))
        case PolicyTaskAssigned():
            task = of_policy.node(
                _task(heard, event.task),
                policy_id=aggregate_id,
                body=event.owner,
                title=event.title,
                state="assigned",
                at=at,
            )
            of_policy.event_of(task)
            of_policy.edge(policy, "carried_out_by", task)
            of_policy.node(policy, policy_id=aggregate_id, state="in_implementation")
        case ProgressReported():
            state = "done" if event.done else "in_progress"
            progress = of_policy.node(("progress", heard.id), policy_id=aggregate_id, state=state, at=at)
            of_policy.edge(_task(heard, event.task), "reported", progress)
            of_policy.node(_task(heard, event.task), policy_id=aggregate_id, state=state)
        case PolicyImplemented():
            of_policy.node(policy, policy_id=aggregate_id, state="implemented")
            of_policy.event_of(policy)
        case PlanItemAdded():
            names = {"item": event.item, "year": event.year, "ko": event.name.ko, "en": event.name.en, "at": at}
            upsert(db, tables["plan_items"], names)
        case _:
            pass


def _deliberation(heard: Recorded, item: int) -> Key:
    return ("deliberation", f"{heard.aggregate_id}.{item}")


def _task(heard: Recorded, task: str) -> Key:
    return ("task", f"{heard.aggregate_id}.{task}")


VIEW = View(name="lineage", version=1, sources=("issues", "routing", "meetings"), tables=_tables, fold=_fold)

# Answer


class LineageNode(Answer):
    """One thing in the graph. A ``masked`` one tells only that there is a step which the reader may not see."""

    kind: str
    id: str
    label: Words
    at: datetime | None = None
    state: str | None = None
    body: str | None = None
    case_id: str | None = None


class LineageEdge(Answer):
    """A relation, in the direction in which things went: from the suggestion to what became of it."""

    start: str = Field(alias="from")
    end: str = Field(alias="to")
    relation: str


class LineageAnswer(Answer):
    """A graph; nodes are named in edges as ``kind:id``."""

    root: str
    nodes: list[LineageNode]
    edges: list[LineageEdge]
    truncated: bool = False


MASKED = Words(ko="열람할 수 없는 단계입니다.", en="This step is not visible to you.")

DECISIONS = {
    "resolved": Words(ko="해결", en="resolved"),
    "resolved_on_site": Words(ko="현장해결", en="resolved on site"),
    "take_for_review": Words(ko="검토회부", en="take for review"),
    "escalate": Words(ko="상향상정", en="escalate"),
    "adopt": Words(ko="채택", en="adopt"),
    "noted": Words(ko="보고·청취", en="noted"),
    "postpone_next": Words(ko="차기상정", en="postponed to the next sitting"),
}

_FIXED_LABELS = {
    "direction": Words(ko="지원방향", en="Direction of support"),
    "deliberation": Words(ko="심의", en="Deliberation"),
    "progress": Words(ko="추진 보고", en="Progress report"),
}


# Graph


@dataclass(frozen=True)
class Graph:
    """What was gathered around a root, before names and masks."""

    root: Key
    nodes: dict[Key, Any] = field(default_factory=dict)
    edges: frozenset[tuple[Key, str, Key]] = frozenset()
    truncated: bool = False

    @property
    def cases(self) -> list[str]:
        """The cases whose suggestions stand in the graph."""
        return sorted({node.case_id for node in self.nodes.values() if node.case_id is not None})


def gather(db: Connection, tables: Tables, root: Key) -> Graph:
    """The graph around a root; raises ``Absent`` where nothing of that name was heard."""
    kind, root_id = root
    match kind:
        case "issue":
            return _whole(db, tables, root, cases={root_id}, policies=set())
        case "policy":
            return _whole(db, tables, root, cases=set(), policies={root_id})
        case "decision":
            decision = _one(db, tables["nodes"], root)
            if decision.case_id is None:
                return _around_shared(db, tables, root)
            return _whole(db, tables, root, cases={decision.case_id}, policies=set())
        case "meeting" | "plan_item":
            return _around_shared(db, tables, root)
        case _:
            raise Absent("lineage")


def _one(db: Connection, nodes: Table, key: Key) -> Any:
    row = db.execute(select(nodes).where(nodes.c.kind == key[0], nodes.c.id == key[1])).first()
    if row is None:
        raise Absent(key[0])
    return row


def _whole(db: Connection, tables: Tables, root: Key, cases: set[str], policies: set[str]) -> Graph:
    """A case with the policies that answer it, or a policy with every case that it answers: all their steps."""
    nodes, edges = tables["nodes"], tables["edges"]
    answers = and_(edges.c.from_kind == "issue", edges.c.to_kind == "policy")
    if cases:
        of_cases = select(edges.c.to_id).where(answers, edges.c.from_id.in_(cases))
        policies = policies | set(db.execute(of_cases).scalars())
    else:
        keys = [f"policy:{policy}" for policy in policies]
        cases = set(db.execute(select(edges.c.from_id).where(answers, edges.c.to_key.in_(keys))).scalars())
    truncated = len(cases) > MOST_ROOTS
    cases = set(sorted(cases)[:MOST_ROOTS])
    owned = select(nodes).where(or_(nodes.c.case_id.in_(cases), nodes.c.policy_id.in_(policies)))
    found, cut = _limited(db, owned.order_by(nodes.c.at, nodes.c.kind, nodes.c.id))
    if root not in found:
        found[root] = _one(db, nodes, root)
    return _linked(db, tables, Graph(root, found, truncated=truncated or cut), edges.c.owner.in_(cases | policies))


def _around_shared(db: Connection, tables: Tables, root: Key) -> Graph:
    """A meeting or a plan item, and what is directly at it: suggestions, policies, decisions, deliberations."""
    nodes, edges = tables["nodes"], tables["edges"]
    if root[0] != "plan_item":
        _one(db, nodes, root)
    elif db.execute(select(tables["plan_items"]).where(tables["plan_items"].c.item == root[1])).first() is None:
        raise Absent("plan_item")
    touching = edges.c.to_key == f"{root[0]}:{root[1]}"
    if root[0] == "decision":
        touching = and_(edges.c.from_kind == "decision", edges.c.from_id == root[1])
    near = select(edges.c.from_kind, edges.c.from_id).where(touching, edges.c.from_kind != "direction")
    rows = db.execute(near.order_by(edges.c.from_id.desc()).limit(MOST_ROOTS + 1)).all()
    keys: set[Key] = {(row.from_kind, row.from_id) for row in rows[:MOST_ROOTS]} | {root}
    found = _by_keys(db, tables, keys)
    # A decision belongs to a suggestion, and a suggestion at a plan item to the policy that answers it.
    keys |= {("issue", node.case_id) for node in found.values() if node.case_id is not None}
    issues = [key[1] for key in keys if key[0] == "issue"]
    answering = select(edges.c.to_id).where(
        edges.c.from_kind == "issue", edges.c.to_kind == "policy", edges.c.from_id.in_(issues)
    )
    if root[0] != "plan_item":
        keys |= {("policy", policy) for policy in db.execute(answering).scalars()}
    found = _by_keys(db, tables, keys)
    owners = {key[1] for key in found if key[0] in ("issue", "policy", "meeting")}
    graph = Graph(root, found, truncated=len(rows) > MOST_ROOTS)
    return _linked(db, tables, graph, edges.c.owner.in_(owners), reach_out=False)


def _linked(
    db: Connection, tables: Tables, graph: Graph, owned: ColumnElement[bool], *, reach_out: bool = True
) -> Graph:
    """The graph with its edges; ``reach_out`` adds the meetings and plan items that they lead to."""
    edges = tables["edges"]
    rows = db.execute(select(edges).where(owned)).all()
    causes = _nodes_of_events(db, tables, [row.from_id for row in rows if row.from_kind == "event"])
    before = _previous_moves(graph.nodes.values())
    links: set[tuple[Key, str, Key]] = set()
    for row in rows:
        start: Key | None = (row.from_kind, row.from_id)
        end: Key = (row.to_kind, row.to_id)
        if row.from_kind == "event":
            # A cause that is no node of ours (a report of the owner, say): the move follows the one before it.
            start = causes.get(row.from_id) or before.get(end)
        if start is not None and start != end:
            links.add((start, row.relation, end))
    links |= _considerations(graph.nodes.values())
    nodes = graph.nodes
    if reach_out:
        shared = {end for _, _, end in links if end[0] in ("meeting", "plan_item")} - nodes.keys()
        nodes = nodes | _by_keys(db, tables, shared)
    kept = frozenset(link for link in links if link[0] in nodes and link[2] in nodes)
    return replace(graph, nodes=nodes, edges=kept)


def _considerations(nodes: Iterable[Any]) -> set[tuple[Key, str, Key]]:
    """Each decision on a case follows the move that had brought the case to that body."""
    found: set[tuple[Key, str, Key]] = set()
    moves = [node for node in nodes if node.kind == "move"]
    for decision in (node for node in nodes if node.kind == "decision" and node.case_id is not None):
        came = [
            move
            for move in moves
            if move.case_id == decision.case_id and move.body == decision.body and move.at <= decision.at
        ]
        if came:
            last = max(came, key=lambda move: move.number)
            found.add((("move", last.id), "decided_by", ("decision", decision.id)))
    return found


def _previous_moves(nodes: Iterable[Any]) -> dict[Key, Key]:
    moves = sorted((node for node in nodes if node.kind == "move"), key=lambda move: (move.case_id, move.number))
    before: dict[Key, Key] = {}
    last: dict[str, Key] = {}
    for move in moves:
        before["move", move.id] = last.get(move.case_id, ("issue", move.case_id))
        last[move.case_id] = ("move", move.id)
    return before


def _limited(db: Connection, query: Select[Any]) -> tuple[dict[Key, Any], bool]:
    rows = db.execute(query.limit(MOST_NODES + 1)).all()
    return {(row.kind, row.id): row for row in rows[:MOST_NODES]}, len(rows) > MOST_NODES


@dataclass(frozen=True)
class PlanItem:
    """A plan item as a node: named by the newest year's plan."""

    id: str
    ko: str
    en: str
    at: str
    kind: Literal["plan_item"] = "plan_item"
    case_id: None = None
    policy_id: None = None
    body: None = None
    state: None = None


def _by_keys(db: Connection, tables: Tables, keys: Collection[Key]) -> dict[Key, Any]:
    nodes, plan_items = tables["nodes"], tables["plan_items"]
    found: dict[Key, Any] = {}
    for kind in sorted({key[0] for key in keys}):
        ids = [key[1] for key in keys if key[0] == kind]
        if kind == "plan_item":
            items = select(plan_items).where(plan_items.c.item.in_(ids)).order_by(plan_items.c.year)
            for row in db.execute(items):
                found["plan_item", row.item] = PlanItem(row.item, row.ko, row.en, row.at)
        else:
            for row in db.execute(select(nodes).where(nodes.c.kind == kind, nodes.c.id.in_(ids))):
                found[kind, row.id] = row
    return found


def _nodes_of_events(db: Connection, tables: Tables, event_ids: Sequence[str]) -> dict[str, Key]:
    events = tables["events"]
    rows = db.execute(select(events).where(events.c.event_id.in_(event_ids)))
    return {row.event_id: (row.kind, row.id) for row in rows}


# Names and masks


def visible_cases(db: Connection, tables: Tables, cases: Collection[str], see: Callable[[Any], bool]) -> set[str]:
    """Those of the cases that the reader may see; one whose regions are not heard yet is not shown."""
    rows = db.execute(select(tables["cases"]).where(tables["cases"].c.case_id.in_(cases)))
    return {row.case_id for row in rows if see(row)}


def hidden(graph: Graph, visible: Collection[str]) -> set[Key]:
    """The nodes that a reader who sees only these cases must not be shown.

    A case's steps go with the case; a policy is seen, once it is adopted, by whoever has a case that it answers, its
    tasks with it; a meeting by whoever has something in it. The work plan is open to all.
    """
    seen_policies = {
        end[1] for start, _, end in graph.edges if end[0] == "policy" and start[0] == "issue" and start[1] in visible
    }
    masked: set[Key] = set()
    for key, node in graph.nodes.items():
        if key[0] in ("meeting", "plan_item"):
            continue
        if node.case_id is not None and node.case_id not in visible:
            masked.add(key)
        if node.policy_id is not None and node.policy_id not in seen_policies:
            masked.add(key)
        if key[0] == "policy" and node.state == "drafted":
            masked.add(key)
    for key in graph.nodes:
        if key[0] == "meeting":
            others = {start for start, _, end in graph.edges if end == key} - masked
            if not others and key != graph.root:
                masked.add(key)
    return masked


def _opaque(key: Key, case_id: str | None) -> Key:
    """A name that tells nothing: docket numbers could be guessed, so the case's id goes in."""
    digest = hashlib.sha256(f"{key[0]}:{key[1]}:{case_id}".encode()).hexdigest()
    return ("masked", digest[:24])


def told(graph: Graph, masked: Collection[Key], directory: Directory, today: date) -> LineageAnswer:
    """The graph as the reader gets it: names in both languages, masked nodes under opaque ids."""
    shown = {key: _opaque(key, node.case_id) if key in masked else key for key, node in graph.nodes.items()}
    nodes = [
        LineageNode(kind="masked", id=shown[key][1], label=MASKED)
        if key in masked
        else LineageNode(
            kind=node.kind,
            id=node.id,
            label=_label(node, directory, today),
            at=datetime.fromisoformat(node.at) if node.at is not None else None,
            state=node.detail if node.kind == "issue" and node.detail is not None else node.state,
            body=node.body,
            case_id=node.case_id,
        )
        for key, node in graph.nodes.items()
    ]
    edges = [
        LineageEdge(start=":".join(shown[start]), end=":".join(shown[end]), relation=relation)
        for start, relation, end in graph.edges
    ]
    return LineageAnswer(
        root=":".join(shown[graph.root]),
        nodes=sorted(nodes, key=lambda node: (node.at.isoformat() if node.at else "~", node.kind, node.id)),
        edges=sorted(edges, key=lambda edge: (edge.start, edge.end, edge.relation)),
        truncated=graph.truncated,
    )


def _label(node: Any, directory: Directory, today: date) -> Words:
    day = datetime.fromisoformat(node.at).date() if node.at is not None else today
    body = body_name(directory, node.body, day)
    match node.kind:
        case "plan_item":
            return Words(ko=node.ko, en=node.en)
        case "docket":
            return Words(ko=f"접수번호 {node.title}", en=f"Docket {node.title}")
        case "round":
            return Words(ko=f"합동검토 {node.number}차", en=f"Joint review, round {node.number}")
        case "opinion":
            return Words(ko=f"{body.ko} 검토의견", en=f"Opinion of {body.en}")
        case "decision":
            code = DECISIONS.get(node.state, Words(ko=node.state, en=node.state))
            return Words(ko=f"{body.ko} 결정: {code.ko}", en=f"Decision of {body.en}: {code.en}")
        case "meeting":
            return Words(
                ko=f"{body.ko} 회의 {node.title or ''}".strip(), en=f"{body.en} meeting {node.title or ''}".strip()
            )
        case "move" if node.state == "R9":
            outcome = OUTCOMES.get(node.detail, Words(ko=node.detail or "", en=node.detail or ""))
            return Words(ko=f"종결: {outcome.ko}", en=f"Closed: {outcome.en}")
        case "move":
            stage = stage_label(directory, node.state, None, day)
            return Words(ko=f"{stage.ko} ({body.ko})", en=f"{stage.en} ({body.en})")
        case _:
            fixed = _FIXED_LABELS.get(node.kind)
            return fixed or Words(ko=node.title or node.id, en=node.title or node.id)


def _region_sees(allowed: tuple[str, ...], directory: Directory, today: date) -> Callable[[Any], bool]:
    def see(case: Any) -> bool:
        regions = json.loads(case.regions)
        heirs = {heir for region in regions for heir in directory.successors(region, today)}
        return bool(case.nationwide) or not heirs.union(regions).isdisjoint(allowed)

    return see


def _root(request: Request) -> Key:
    return (request.path["kind"], request.path["id"])


def root_resource(request: Request) -> Resource:
    """The regions of the root's cases; the work plan belongs to everybody."""
    root = _root(request)
    graph = gather(request.db, request.tables(VIEW), root)
    cases = request.tables(VIEW)["cases"]
    rows = request.db.execute(select(cases).where(cases.c.case_id.in_(graph.cases))).all()
    regions = {region for row in rows for region in json.loads(row.regions)}
    nationwide = root[0] == "plan_item" or any(row.nationwide for row in rows)
    return Resource(regions=tuple(sorted(regions)), nationwide=nationwide)


def lineage(facts: Facts, root: Key, allowed: tuple[str, ...] | None) -> LineageAnswer:
    """The graph around ``root`` for a reader of the regions ``allowed`` (``None``: of all); raises ``Absent``."""
    tables = facts.tables(VIEW)
    graph = gather(facts.db, tables, root)
    masked: set[Key] = set()
    if allowed is not None:
        see = _region_sees(allowed, facts.directory, facts.today)
        masked = hidden(graph, visible_cases(facts.db, tables, graph.cases, see))
    return told(graph, masked, facts.directory, facts.today)


def routes(gateway: Gateway) -> None:
    """Declare the read of the lineage."""

    @gateway.read(
        "/v1/lineage/{kind}/{id}",
        action="read_lineage",
        operation_id="get_lineage",
        views=(VIEW,),
        answer=LineageAnswer,
        resource=root_resource,
    )
    def get_lineage(request: Request) -> One:
        """From a suggestion to its policy and tasks, or from a policy back to every suggestion."""
        answer = lineage(request, _root(request), request.regions_allowed())
        # No stream has this version: it is the graph's own, so that an ETag changes when the graph does.
        version = int(hashlib.sha256(answer.model_dump_json().encode()).hexdigest()[:8], 16)
        return One(answer, version, request.path["id"])
