"""Two small services for tests of the runtime: one keeps ledgers, the other hears of them and keeps copies.

The first is called ``routing`` because reference facts (offices, holders, the clock) are that service's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import SerializeAsAny
from sqlalchemy import Column, Connection, Integer, String, func, select

from shared.contracts.envelope import Authority, Command, Event, Fact, Label, register
from shared.contracts.reference import BodyEstablished, ClockShifted, OfficeEstablished, OfficeHolderAppointed
from shared.decider import Decider, Refused
from shared.runtime.commands import derived_id
from shared.runtime.databases import Databases
from shared.runtime.declare import (
    Act,
    Facts,
    Gateway,
    Named,
    One,
    Reaction,
    Reactions,
    Recorded,
    Request,
    Service,
    Tables,
    View,
    by_process,
)
from shared.runtime.follow import NeighbourCarrier, ReactionFollower
from shared.runtime.hosted import Hosted
from shared.runtime.views import upsert
from tests.runtime.ledger import AT, BY, LEDGER, EntryMade, MakeEntry, entry


class EntryCopied(Event):
    """The second service has heard of an entry."""

    type: Literal["EntryCopied"] = "EntryCopied"
    text: str


register(EntryCopied, "mirror")


class CopyEntry(Command):
    """Copy an entry; the text ``forbidden`` is refused."""

    text: str


@dataclass(frozen=True)
class Copy:
    """How many entries were copied, in order."""

    texts: tuple[str, ...] = ()


def _copy(state: Copy, command: Command) -> Sequence[Event]:
    assert isinstance(command, CopyEntry)
    if command.text == "forbidden":
        raise Refused("L-2", "베낄 수 없습니다.", "That cannot be copied.")
    return [EntryCopied(text=command.text)]


def _copied(state: Copy, event: Event) -> Copy:
    return Copy((*state.texts, event.text)) if isinstance(event, EntryCopied) else state


COPY: Decider[Copy] = Decider("Copy", Copy(), _copy, _copied, (CopyEntry,))


class Publish(Command):
    """Publish a reference fact as it is."""

    fact: SerializeAsAny[Event]


def _publish(state: int, command: Command) -> Sequence[Event]:
    assert isinstance(command, Publish)
    return [command.fact]


REFERENCE: Decider[int] = Decider("Reference", 0, _publish, lambda state, _: state + 1, (Publish,))


def publish(id: str, fact: Event, at: datetime = AT) -> Act:
    """The act of publishing a reference fact."""
    return Act(REFERENCE, id, Publish(fact=fact, by=BY, at=at, authority=Authority(rule="test")), key=id)


def copying(heard: Recorded, text: str, facts: Facts, ordinal: int = 0) -> Act:
    """The act of copying an entry into the ledger's copy."""
    command = CopyEntry(text=text, **by_process("mirror", facts.now, "test"))
    name = heard.aggregate_id if not ordinal else f"{heard.aggregate_id}.{ordinal}"
    return Act(COPY, name, command, key=heard.key, case_id=heard.case_id)


def copy_all(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """The plain reaction: every entry is copied."""
    assert isinstance(heard.data, EntryMade)
    return [copying(heard, heard.data.text, facts)]


# Views: the entries as they came (primary key: where they stand), and how many of each ledger (a column of one stream).


def _entries(named: Named) -> None:
    named.table(
        "entry",
        Column("ledger", String, primary_key=True),
        Column("version", Integer, primary_key=True),
        Column("kind", String, primary_key=True),
        Column("text", String, nullable=False),
    )
    named.table("count", Column("ledger", String, primary_key=True), Column("made", Integer), Column("copied", Integer))


def _fold(db: Connection, tables: Tables, recorded: Recorded) -> None:
    event = recorded.data
    if not isinstance(event, EntryMade | EntryCopied):
        return
    ledger, kind = recorded.aggregate_id, "made" if isinstance(event, EntryMade) else "copied"
    version = recorded.envelope.version
    upsert(db, tables["entry"], {"ledger": ledger, "version": version, "kind": kind, "text": event.text})
    # Deliberately no upsert of an absolute value: folded twice, it would count twice.
    count = tables["count"]
    upsert(db, count, {"ledger": ledger})
    column = count.c[kind]
    db.execute(count.update().where(count.c.ledger == ledger).values({kind: func.coalesce(column, 0) + 1}))


ENTRIES = View(name="entries", version=1, sources=("routing",), tables=_entries, fold=_fold)
COPIES = View(name="copies", version=1, sources=("routing", "mirror"), tables=_entries, fold=_fold)


class EntryBody(Fact):
    """What a client says to make an entry."""

    text: str


class LedgerRead(Fact):
    """A ledger as read."""

    ledger: str
    entries: int
    copied: int


def _reading(view: View) -> Callable[[Request], One]:
    def read(request: Request) -> One:
        """A ledger."""
        count = request.tables(view)["count"]
        ledger = request.path["ledger_id"]
        row = request.db.execute(select(count).where(count.c.ledger == ledger)).first()
        made, copied = (0, 0) if row is None else (row.made or 0, row.copied or 0)
        return One(LedgerRead(ledger=ledger, entries=made, copied=copied), made, ledger)

    return read


def _gateways() -> tuple[Gateway, Gateway]:
    source, mirror = Gateway("routing"), Gateway("mirror")

    @source.command(
        "/v1/ledgers/{ledger_id}", action="make_entry", operation_id="makeEntry", body=EntryBody, creates=True
    )
    def make_entry(request: Request, body: EntryBody) -> Act:
        """Make an entry."""
        command = MakeEntry(text=body.text, **request.envelope("test"))
        return Act(LEDGER, request.path["ledger_id"], command, key=request.path["ledger_id"])

    source.read(
        "/v1/ledgers/{ledger_id}", action="read_ledger", operation_id="readLedger", views=(ENTRIES,), answer=LedgerRead
    )(_reading(ENTRIES))
    mirror.read(
        "/v1/copies/{ledger_id}", action="read_copy", operation_id="readCopy", views=(COPIES,), answer=LedgerRead
    )(_reading(COPIES))
    return source, mirror


SINCE = date(2022, 1, 1)
OFFICE = "clerks.secretary"
SUBJECT = "u-clerk"
LABEL = Label(ko="서기", en="Clerk")


def body(name: str = "clerks", **more: Any) -> BodyEstablished:
    """A body for tests."""
    return BodyEstablished(
        body=name, kind=more.pop("kind", "council"), name=LABEL, valid_from=SINCE, source="V", **more
    )


def office(name: str = OFFICE, of: str = "clerks", role: Any = "secretary") -> OfficeEstablished:
    """An office for tests."""
    return OfficeEstablished(office=name, body=of, role=role, name=LABEL, valid_from=SINCE, source="V")


def holder(subject: str = SUBJECT, name: str = OFFICE, since: date = SINCE) -> OfficeHolderAppointed:
    """An office's holder for tests."""
    return OfficeHolderAppointed(office=name, subject=subject, valid_from=since, source="V")


def shifted(seconds: float) -> ClockShifted:
    """The business clock stands this much from real time."""
    return ClockShifted(offset_seconds=seconds, business_time=AT)


def _seed(_: Path, at: datetime) -> Iterator[tuple[str, Act]]:
    for name, fact in (("body", body()), ("office", office()), ("holder", holder())):
        yield name, publish(name, fact, at)


def pair(reaction: Reaction | None = copy_all, refused: Any = None, **mirror: Any) -> tuple[Service, Service]:
    """Both services; the second with this reaction to an entry (none where ``None``)."""
    reactions = Reactions()
    if reaction is not None:
        reactions.on(EntryMade, refused=refused)(reaction)
    source, copies = _gateways()
    first = Service("routing", (), (LEDGER, REFERENCE), Reactions(), (ENTRIES,), source, seed=_seed)
    second = Service("mirror", ("routing",), (COPY,), reactions, (COPIES,), copies)
    return first, replace(second, **mirror)


class Stepped:
    """Both services on their databases, loops stepped by hand: what runs when is the test's to say."""

    def __init__(self, place: Databases | Path, services: tuple[Service, Service]) -> None:
        self.services, self.place = services, Databases.at(place)
        for service in services:
            Hosted.migrate(service, place)
        self.source, self.mirror = (Hosted(service, place) for service in services)
        self.carrier = NeighbourCarrier(self.mirror.log, [self.source.log])
        self.reactions = ReactionFollower(self.mirror.service, self.mirror.log, self.mirror.reacting)
        self._made = 0

    def make(self, *entries: tuple[str, str]) -> None:
        """Make entries (ledger, text) in the first service."""
        for ledger, words in entries:
            self._made += 1
            self.source.submit(entry(ledger, words), derived_id("made", ledger, words, self._made), "asked")

    def carry(self) -> None:
        """Carry all there is."""
        while self.carrier.step():
            pass

    def react(self, times: int = 1) -> None:
        """Step the reactions until they find nothing, so often."""
        for _ in range(times):
            while self.reactions.step():
                pass

    def fold(self) -> None:
        """Fold all there is in both services."""
        for hosted in (self.source, self.mirror):
            while hosted.views_follower.step():
                pass

    def states(self) -> list[str]:
        """The inbox rows' states in order."""
        return [row[0] for row in self.mirror.log.query("SELECT state FROM inbox ORDER BY seq")]

    def copies(self, ledger: str) -> tuple[str, ...]:
        """What was copied of a ledger, in order."""
        state: Copy = self.mirror.log.load(COPY, ledger).state
        return state.texts

    def close(self) -> None:
        """Close the databases."""
        for hosted in (self.source, self.mirror):
            hosted.stop()


POLICY = """action,body_kind,role,scope,stages,rule,note
make_entry,council,secretary,any,,T-1,test
read_ledger,*,*,any,,I-9,test
read_copy,*,*,any,,I-9,test
"""


def reference_folder(folder: Path) -> Path:
    """A folder of reference data with the policy table of both services."""
    (folder / "policy").mkdir(parents=True)
    (folder / "policy" / "pair.csv").write_text(POLICY, encoding="utf-8")
    return folder
