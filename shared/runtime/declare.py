"""What a service declares, and what its functions are given. Nothing here does I/O; the hosts in this folder do.

A service is a ``Service``: its deciders, its reactions, its views, its gateway, its due rows. ``docs/runtime.md`` tells
how each is run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sqlalchemy import Column, Connection, MetaData, Table

from shared.contracts.envelope import SYSTEM_OFFICE, Actor, Authority, Command, Envelope, Event, Fact, RuleTrace
from shared.decider import Decider, Refused

if TYPE_CHECKING:
    from shared.runtime.directory import Directory
    from shared.runtime.metrics import Reading
    from shared.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as a log holds it: source service, epoch, position, slot, previous position in that slot."""

    source: str
    epoch: int
    position: int
    slot: int
    prev: int
    key: str
    envelope: Envelope
    data: Event
    raw: bytes
    trace: str | None = None
    """W3C trace context of whoever caused it, where one was sent."""

    @property
    def id(self) -> str:
        """The event's id (UUIDv7)."""
        return self.envelope.event_id

    @property
    def type(self) -> str:
        """The literal type."""
        return self.envelope.type

    @property
    def stream(self) -> str:
        """``Aggregate/id``: the name of its stream."""
        return f"{self.envelope.aggregate}/{self.envelope.aggregate_id}"

    @property
    def aggregate_id(self) -> str:
        """Id of the aggregate."""
        return self.envelope.aggregate_id

    @property
    def case_id(self) -> str | None:
        """The case it is about, where it is about one."""
        return self.envelope.case_id

    @property
    def at(self) -> datetime:
        """Business time at which it was recorded."""
        return self.envelope.recorded_at


@dataclass(frozen=True)
class Act:
    """One command for one aggregate of the own service.

    ``key`` decides slot and order (the case id, the meeting id, else the aggregate's id). ``reads`` names other streams
    of the service that the decision rests on, with the version read; a changed one is a conflict. ``create`` refuses
    a stream that exists already; ``absent`` is the refusal where it must exist and does not.
    """

    decider: Decider[Any]
    id: str
    command: Command
    key: str
    case_id: str | None = None
    reads: Mapping[str, int] = field(default_factory=dict)
    trace: RuleTrace | None = None
    location: str | None = None
    """Where a created resource is found."""
    correlation_id: str | None = None

    @property
    def stream(self) -> str:
        """``Aggregate/id``."""
        return f"{self.decider.name}/{self.id}"


class Wait(Exception):
    """A reaction lacks a fact of another source: its key waits and is tried again; parked after 60 s."""


class Absent(Refused):
    """There is no such thing, or it is not for this reader to know (404)."""

    def __init__(self, what: str) -> None:
        super().__init__("absent", f"찾을 수 없습니다: {_NOUNS.get(what, what)}", f"Not found: {what}", kind="absent")


_NOUNS = {
    "agenda item": "안건",
    "case": "현안의 처리 경위",
    "consultation": "협의 요청",
    "issue": "현안",
    "lineage": "계보",
    "meeting": "회의",
    "notice": "통지",
    "plan_item": "업무계획 과제",
    "policy": "정책",
    "review": "합동검토",
    "task": "과제",
    "work plan": "업무계획",
}
"""What a clerk reads in place of the English word."""


@dataclass(frozen=True)
class Resource:
    """What an act or a read is about, as far as the policy table asks: body, regions, office, stage."""

    body: str | None = None
    regions: tuple[str, ...] = ()
    nationwide: bool = False
    office: str | None = None
    organisation: str | None = None
    stage: str | None = None


Tables = dict[str, Table]


class Facts(Protocol):
    """What a handler, a reaction or a due function may look at. Reads one snapshot of the local tables."""

    @property
    def now(self) -> datetime:
        """Business time (Asia/Seoul); in a reaction never earlier than its cause."""
        ...

    @property
    def today(self) -> date:
        """The business day."""
        ...

    @property
    def directory(self) -> Directory:
        """Bodies, offices, holders, regions, rules and calendar, as heard."""
        ...

    @property
    def db(self) -> Connection:
        """The views' database, read only."""
        ...

    @property
    def mutable(self) -> Connection:
        """The tables that may change in place (``Service.mutable``), read only."""
        ...

    @property
    def effects(self) -> frozenset[str]:
        """Names of the service's outside effects that the settings of this process make possible."""
        ...

    def tables(self, view: View) -> Tables:
        """The tables of the view's current generation."""
        ...

    def load(self, decider: Decider[Any], id: str) -> tuple[Any, int]:
        """State and version of an aggregate of the own service; version 0 where the stream does not exist."""
        ...


class Request(Facts, Protocol):
    """A request at the gateway: facts, who asks, the path and the query."""

    @property
    def actor(self) -> Actor:
        """Who asks, in which office (verified token, holder on this business day)."""
        ...

    @property
    def path(self) -> Mapping[str, str]:
        """Path parameters."""
        ...

    @property
    def body(self) -> Any:
        """The client's part of a command, already checked (the route's ``XyzBody``), so that ``resource`` can tell what
        a new thing will be about; ``None`` in a read."""
        ...

    @property
    def query(self) -> Mapping[str, str]:
        """Query parameters; only declared ones."""
        ...

    @property
    def limit(self) -> int:
        """For lists: how many rows at most (``limit``, 50 unless told, 200 at most)."""
        ...

    @property
    def after(self) -> tuple[Any, ...] | None:
        """For lists: the sort key of the last row already seen (from the signed ``cursor``)."""
        ...

    def new_id(self) -> str:
        """A UUIDv7; the same for the same command id."""
        ...

    @property
    def development(self) -> bool:
        """Whether tokens come from the development issuer; only then may the clock be shifted."""
        ...

    def docket(self, year: int) -> str:
        """The next docket number of a year, from the counter row (gaps allowed, never used twice)."""
        ...

    def envelope(self, rule: str, clause: str | None = None) -> dict[str, Any]:
        """``by``, ``at`` and ``authority`` for a command of this request."""
        ...

    def regions_allowed(self) -> tuple[str, ...] | None:
        """For lists: the regions that this reader may see, or ``None`` for all."""
        ...


def by_process(body: str, at: datetime, rule: str, clause: str | None = None) -> dict[str, Any]:
    """``by``, ``at`` and ``authority`` of a command that the process manager or the clock gives (SYS)."""
    return {
        "by": Actor(user=SYSTEM_OFFICE, office=SYSTEM_OFFICE, body=body),
        "at": at,
        "authority": Authority(rule=rule, clause=clause),
    }


class Named:
    """Makes a view's tables under the names of one generation."""

    def __init__(self, view: str, generation: int, metadata: MetaData) -> None:
        self._prefix = f"{view}_g{generation}_"
        self._metadata = metadata
        self.made: Tables = {}

    def table(self, name: str, *columns: Column[Any]) -> Table:
        """A table of this view; ``name`` is how the view speaks of it. Its primary key is what ``upsert`` goes by."""
        table = Table(self._prefix + name, self._metadata, *columns)
        self.made[name] = table
        return table


@dataclass(frozen=True)
class View:
    """A read model: its tables, what it hears, and its fold.

    Rows must be equal for every interleaving that keeps each stream's order: values of two streams meet in the query,
    never in the fold. A change of tables or fold raises ``version``; the runtime then builds it anew beside the old.
    """

    name: str
    version: int
    sources: tuple[str, ...]
    """Services whose events it folds, the own one included where wanted."""
    tables: Callable[[Named], None]
    fold: Callable[[Connection, Tables, Recorded], None]


Reaction = Callable[[Recorded, Facts], Sequence[Act]]
AfterRefusal = Callable[[Recorded, Facts, Refused], Sequence[Act]]


class Reactions:
    """What a service does when it hears a fact. One function per event type; a write for all acts of one event."""

    def __init__(self) -> None:
        self.by_type: dict[str, Reaction] = {}
        self.after_refusal: dict[str, AfterRefusal] = {}

    def on(self, *types: type[Event], refused: AfterRefusal | None = None) -> Callable[[Reaction], Reaction]:
        """Declare a reaction to these events. ``refused`` gives the acts that record a refusal as a fact."""

        def declare(function: Reaction) -> Reaction:
            for cls in types:
                name = str(cls.model_fields["type"].default)
                if name in self.by_type:
                    raise ValueError(f"two reactions to {name}")
                self.by_type[name] = function
                if refused is not None:
                    self.after_refusal[name] = refused
            return function

        return declare


@dataclass(frozen=True)
class DueRow:
    """A date that has passed: its deadline's own id, the due time, and the command that it fires."""

    deadline_id: str
    due: datetime
    act: Act


@dataclass(frozen=True)
class Owed:
    """An attempt at an outside effect that is due now.

    ``id`` names what is owed, and the receiver gets it as its key; ``attempt`` counts from 1; no other follows the
    ``last``. ``work`` is for the effect's own functions: it is neither stored nor logged.
    """

    id: str
    attempt: int
    last: bool
    work: Any


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: ``done``, ``failed`` (another may succeed) or ``refused`` (none will).

    ``detail`` is stored and logged: a code, never what a client, a server or an address said.
    """

    result: Literal["done", "failed", "refused"]
    detail: str


Attempt = Callable[[Owed], Awaitable[Outcome]]


@dataclass(frozen=True)
class Effect:
    """Something a service does outside of itself, at least once, never in a reaction or a fold.

    What is owed follows from events alone: a request that is neither done nor given up. So neither a rebuilt view nor a
    repeated event does it again. Each attempt is recorded by a command whose id is derived from effect, ``Owed.id`` and
    attempt. A crash between the attempt and its record repeats the attempt.
    """

    name: str
    opened: Callable[[Settings], Attempt | None]
    """How to make an attempt under these settings; ``None`` where they do not provide for it."""
    owed: Callable[[Facts, datetime, int], Sequence[Owed]]
    """What is due at a real time, the longest due first, at most so many."""
    recorded: Callable[[Facts, Owed, Outcome, datetime], Act]
    """The command that records an attempt made at a real time."""


CommandHandler = Callable[[Request, Any], Act]
ReadHandler = Callable[[Request], Any]
ResourceOf = Callable[[Request], Resource]


@dataclass(frozen=True)
class CommandRoute:
    """A POST that gives a command. See ``Gateway.command``."""

    path: str
    action: str
    operation_id: str
    body: type[Fact]
    handler: CommandHandler
    resource: ResourceOf
    status: int
    if_match: bool
    summary: str
    example: Mapping[str, Any] | None


@dataclass(frozen=True)
class ReadRoute:
    """A GET that answers from views. See ``Gateway.read``."""

    path: str
    action: str
    operation_id: str
    handler: ReadHandler
    resource: ResourceOf
    views: tuple[View, ...]
    answer: type[Any]
    query: tuple[str, ...]
    summary: str
    stream: bool


def no_resource(_: Request) -> Resource:
    """For routes whose policy rows ask for nothing but the office."""
    return Resource()


class Gateway:
    """The routes of one service, each with its row of the policy table (``action``)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.commands: list[CommandRoute] = []
        self.reads: list[ReadRoute] = []

    def command(
        self,
        path: str,
        *,
        action: str,
        operation_id: str,
        body: type[Fact],
        resource: ResourceOf = no_resource,
        creates: bool = False,
        if_match: bool | None = None,
        example: Mapping[str, Any] | None = None,
    ) -> Callable[[CommandHandler], CommandHandler]:
        """Declare a command. Its answer is 201 where it ``creates`` a stream, else 200.

        ``if_match`` (default: not where it creates) demands the aggregate's version; opinions and statements switch it
        off because they pin the revision that they speak of.
        """

        def declare(handler: CommandHandler) -> CommandHandler:
            self.commands.append(
                CommandRoute(
                    path=path,
                    action=action,
                    operation_id=operation_id,
                    body=body,
                    handler=handler,
                    resource=resource,
                    status=201 if creates else 200,
                    if_match=not creates if if_match is None else if_match,
                    summary=(handler.__doc__ or operation_id).splitlines()[0],
                    example=example,
                )
            )
            return handler

        return declare

    def read(
        self,
        path: str,
        *,
        action: str,
        operation_id: str,
        views: tuple[View, ...],
        answer: type[Any],
        resource: ResourceOf = no_resource,
        query: tuple[str, ...] = (),
        stream: bool = False,
    ) -> Callable[[ReadHandler], ReadHandler]:
        """Declare a read. The handler returns ``One`` or ``Page``; ``stream`` makes it server-sent events."""

        def declare(handler: ReadHandler) -> ReadHandler:
            self.reads.append(
                ReadRoute(
                    path=path,
                    action=action,
                    operation_id=operation_id,
                    handler=handler,
                    resource=resource,
                    views=views,
                    answer=answer,
                    query=query,
                    summary=(handler.__doc__ or operation_id).splitlines()[0],
                    stream=stream,
                )
            )
            return handler

        return declare


@dataclass(frozen=True)
class One:
    """The answer to a GET of one thing; ``version`` becomes its ``ETag``, ``key`` names its slot for the token."""

    value: Any
    version: int
    key: str | None = None


@dataclass(frozen=True)
class Page:
    """The answer to a GET of a list: rows in a stable order; ``after`` is the sort key of the last, or ``None``."""

    rows: Sequence[Any]
    after: Sequence[Any] | None = None


@dataclass(frozen=True)
class Stream:
    """A live feed: own events of one case, as server-sent events with ``epoch-position`` as id."""

    case_id: str
    types: tuple[str, ...] = ()


Figures = Callable[[Facts, Mapping[str, int]], Iterable["Reading"]]
"""Metrics of the procedure: facts, and for each event type how many heard events wait for a reaction or are parked, in;
readings out. Asked some seconds apart while Prometheus asks: a query or two each."""


@dataclass(frozen=True)
class Service:
    """Everything the runtime hosts for one service."""

    name: str
    hears: tuple[str, ...]
    """The other services whose logs are carried into its inbox."""
    deciders: tuple[Decider[Any], ...]
    reactions: Reactions
    views: tuple[View, ...]
    gateway: Gateway
    due: Callable[[Facts], Sequence[DueRow]] | None = None
    seed: Callable[[Path, datetime], Iterator[tuple[str, Act]]] | None = None
    """Reference data as acts: the data folder and the recording time in; stable external ids with acts out."""
    mutable: MetaData | None = None
    """Tables that may change in place (contact addresses): nothing personal stands in events."""
    load_mutable: Callable[[Connection, Path], int] | None = None
    effects: tuple[Effect, ...] = ()
    figures: Figures | None = None
