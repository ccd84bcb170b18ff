"""A small aggregate for tests of the runtime: a ledger of entries, declared as any other contract is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from shared.contracts.envelope import Actor, Authority, Command, Event, register
from shared.decider import Decider, Refused
from shared.runtime.commands import prepare
from shared.runtime.databases import Databases
from shared.runtime.declare import Act, Gateway, Reactions, Service
from shared.runtime.jobs import NewEvent, Prepared
from shared.runtime.log import EventLog

BY = Actor(user="u-test", office="test.desk", body="test")
AT = datetime(2023, 1, 4, 9, tzinfo=UTC)


class EntryMade(Event):
    """An entry of the test ledger."""

    type: Literal["EntryMade"] = "EntryMade"
    text: str


register(EntryMade, "ledger")


class MakeEntry(Command):
    """Make an entry; an empty one is refused, the last one repeated says nothing new."""

    text: str


@dataclass(frozen=True)
class Ledger:
    """How many entries there are, and the last."""

    entries: int = 0
    last: str | None = None


def decide(state: Ledger, command: Command) -> list[Event]:
    """Refuses an empty text."""
    assert isinstance(command, MakeEntry)
    if not command.text:
        raise Refused("L-1", "빈 기재는 할 수 없습니다.", "An empty entry cannot be made.")
    return [] if command.text == state.last else [EntryMade(text=command.text)]


def evolve(state: Ledger, event: Event) -> Ledger:
    """Counts."""
    return replace(state, entries=state.entries + 1, last=event.text) if isinstance(event, EntryMade) else state


LEDGER: Decider[Ledger] = Decider("Ledger", Ledger(), decide, evolve, (MakeEntry,))


def entry(name: str, text: str, **more: Any) -> Act:
    """The act of making an entry in a ledger."""
    command = MakeEntry(text=text, by=BY, at=AT, authority=Authority(rule="test"))
    return Act(LEDGER, name, command, key=name, **more)


def new_log(place: Databases | Path, service: str = "ledger", own: frozenset[str] = frozenset()) -> EventLog:
    """A new log."""
    databases = Databases.at(place)
    databases.migrate(Service(service, (), (LEDGER,), Reactions(), (), Gateway(service)))
    return databases.log(service, own)


def prepared(log: EventLog, name: str, text: str, command_id: str, **more: Any) -> Prepared:
    """An entry decided on the ledger as it stands."""
    return prepare(log, entry(name, text, **more), command_id, f"hash of {text}")


def claimed(stream: str, version: int, command_id: str, count: int) -> Prepared:
    """A command that claims to have read a version of a ledger, with sealed events on top of it."""
    events = tuple(
        NewEvent(f"{command_id}-{n}", "EntryMade", f"Ledger/{stream}", version + n, "EntryMade.v1", b"{}", stream, None)
        for n in range(1, count + 1)
    )
    return Prepared(command_id, "hash", f"Ledger/{stream}", stream, stream, version, 0, events)
