"""What an audit reads: every service's log and views in one snapshot each, and the events in them, whole or named.

The system's shape (who hears whom, how a key gives a slot) is written down here once more on purpose: taken from the
product it could not contradict it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from services.audit_findings import Check, Reported
from services.audit_folds import Event
from shared.runtime.databases import Databases
from shared.runtime.reading import CannotRead, Row, Snapshot, both_of, end_of, epoch_at, epochs, number

HEARS: Mapping[str, tuple[str, ...]] = {
    "issues": ("routing",),
    "routing": ("issues", "meetings"),
    "meetings": ("routing", "issues"),
    "notifications": ("issues", "routing", "meetings"),
}
"""Which service hears whom (section 2 of the domain model)."""
SELF: Mapping[str, frozenset[str]] = {"meetings": frozenset({"DecisionRecorded"})}
"""Own events that have a reaction of their own service (walk, ◆12)."""
TOPIC: Mapping[str, str] = {service: f"maru.{service}.v1" for service in HEARS}
SLOTS = 12


@dataclass(frozen=True)
class Busy:
    """Why the system is not idle; ``stays``: where it does not pass within the wait it is a finding, not work."""

    why: str
    stays: bool = False


class Files:
    """One snapshot of everything stored, read only. Raises ``CannotRead``."""

    def __init__(self, where: Databases | Path, *, relayed: bool = False) -> None:
        """``relayed``: the logs are published to Kafka."""
        self.where = where
        self.relayed = relayed
        self.logs: dict[str, Snapshot] = {}
        self.views: dict[str, Snapshot] = {}
        try:
            for service in HEARS:
                self.logs[service], self.views[service] = both_of(where, service)
            self.epochs = {service: epochs(log) for service, log in self.logs.items()}
            self._last = {service: number(log, _LAST) for service, log in self.logs.items()}
            self._heads = {service: self._read_heads(service) for service in HEARS}
        except CannotRead:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the snapshot."""
        for db in (*self.logs.values(), *self.views.values()):
            db.close()

    def last(self, service: str) -> int:
        """Last position of a log."""
        return self._last[service]

    def end_of(self, service: str, epoch: int) -> int | None:
        """The last position of an epoch of a log, ``None`` for one that it never had."""
        return end_of(self.epochs[service], epoch, self.last(service))

    def is_newest(self, service: str, epoch: int) -> bool:
        """Whether it is the epoch that a log is in."""
        return bool(self.epochs[service]) and self.epochs[service][-1][0] == epoch

    def heads(self, service: str) -> dict[tuple[int, int], int]:
        """(epoch, slot) → last position, as the log says; the check of the chain compares it with the events."""
        return self._heads[service]

    def _read_heads(self, service: str) -> dict[tuple[int, int], int]:
        log, known = self.logs[service], self.epochs[service]
        found: dict[tuple[int, int], int] = {}
        for (epoch, after), (_, end) in pairwise(known):
            # An epoch that has ended: what it holds changes no more.
            query = "SELECT slot, MAX(position) FROM stored_events WHERE position > ? AND position <= ? GROUP BY slot"
            found |= {(epoch, slot): at for slot, at in log.rows(query, after, end)}
        for slot, at in log.rows("SELECT slot, position FROM slot_head"):
            found[epoch_at(known, at) or 0, slot] = at
        return found

    def generations(self, service: str) -> dict[str, int]:
        """View → the generation that its pointer names."""
        return dict(self.views[service].rows("SELECT view, generation FROM view_pointer"))

    def view_marks(self, service: str, view: str, generation: int) -> dict[tuple[str, int, int], int]:
        """(source, epoch, slot) → position of one generation of a view."""
        query = "SELECT source, epoch, slot, position FROM view_mark WHERE view = ? AND generation = ?"
        return {(row[0], row[1], row[2]): row[3] for row in self.views[service].rows(query, view, generation)}

    def marks(self, service: str) -> dict[tuple[str, int, int], int]:
        """(source, epoch, slot) → position of a service's reactions."""
        rows = self.logs[service].rows("SELECT source, epoch, slot, position FROM mark")
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    def relay(self, service: str) -> int:
        """Up to which position a log is published."""
        return number(self.logs[service], "SELECT position FROM relay WHERE topic = ?", TOPIC[service])

    def busy(self) -> Busy | None:
        """What is still under way, or ``None``: idle is what the host means by it, computed from the databases.

        The snapshots are taken one after another, so a consumer may also be ahead of a source's snapshot.
        """
        stays: Busy | None = None
        for why, has, wants in self._gaps():
            if has < wants:
                return Busy(why)
            if has > wants:
                stays = stays or Busy(f"{why}: it stands at {has}, beyond {wants}", stays=True)
        untried = number(self.logs["notifications"], _UNTRIED)
        return stays or (Busy(f"{untried} notices were not tried yet", stays=True) if untried else None)

    def _gaps(self) -> Iterator[tuple[str, int, int]]:
        """What must be equal: in words, where it stands and where it should."""
        for service, log in self.logs.items():
            waiting = number(log, "SELECT COUNT(*) FROM inbox WHERE state = 'waiting'")
            yield f"{service} has {waiting} events that wait for their reaction", -waiting, 0
            if self.relayed:
                yield f"the relay of {service} has not published all", self.relay(service), self.last(service)
            marks = self.marks(service)
            for source in HEARS[service]:
                for (epoch, slot), head in self.heads(source).items():
                    mark = marks.get((source, epoch, slot), 0)
                    if not self.is_newest(source, epoch):
                        mark = min(mark, head)  # what lies beyond was lost to the source
                    yield f"{service} has not answered all of {source}", mark, head
            last, last_inbox = self.last(service), number(log, "SELECT COALESCE(MAX(seq), 0) FROM inbox")
            for view, generation in self.generations(service).items():
                scans = self.view_marks(service, view, generation)
                for name, end in ((service, last), ("inbox", last_inbox)):
                    why = f"the view {view} of {service} has not folded everything"
                    yield why, scans.get((name, 0, -1), 0), end

    def commands(self, service: str) -> dict[str, tuple[int, Mapping[str, Any]]]:
        """Command id → stored status and answer."""
        rows = self.logs[service].rows("SELECT command_id, status, body FROM command")
        return {row[0]: (row[1], json.loads(row[2])) for row in rows}


_UNTRIED = (
    "SELECT COUNT(*) FROM (SELECT originator_id FROM stored_events WHERE originator_id LIKE 'Dispatch/%' "
    "GROUP BY originator_id HAVING MAX(originator_version) = 1) AS untried"
)
_LAST = "SELECT COALESCE(MAX(position), 0) FROM stored_events"


@dataclass
class Book:
    """Everything read: events by service in the log's order, commands, and what consumers hold beyond that."""

    files: Files
    logs: dict[str, list[Event]]
    commands: dict[str, dict[str, tuple[int, Mapping[str, Any]]]]
    by_id: dict[str, Event]
    lost: dict[str, Event] = field(default_factory=dict)
    """Events that only consumers still have, by id: a restore took them from their source. Causes all the same."""
    reported: list[Reported] = field(default_factory=list)

    def of_type(self, service: str, *types: str) -> Iterator[Event]:
        """A service's events of some types."""
        return (event for event in self.logs[service] if event.type in types)

    def known(self, service: str) -> Iterator[Event]:
        """A service's events, and those of it that only its consumers still have."""
        yield from self.logs[service]
        yield from (event for event in self.lost.values() if event.service == service)

    def cause(self, event_id: str | None) -> Event | None:
        """The event of an id, wherever it still is."""
        return None if event_id is None else self.by_id.get(event_id) or self.lost.get(event_id)


Checking = Callable[[Book, Check], None]


def read_logs(files: Files, checks: list[Check]) -> dict[str, list[Event]]:
    """The events whose bytes are whole; the others are named by the check of the hashes and left out (I2, I10)."""
    hashes = Check("hashes", "I10 every stream's hash chain is whole, recomputed from its first event")
    versions = Check("versions", "I2 the versions of every stream are 1 to n")
    positions = Check("positions", "I2 positions have no gap and no repeat, slots and epochs are right")
    chain = Check("chain", "I2 each event names the position before it in its slot")
    checks += [hashes, versions, positions, chain]
    logs: dict[str, list[Event]] = {}
    for service, db in files.logs.items():
        logs[service] = []
        known = files.epochs[service]
        last_hash: dict[str, str] = {}
        last_version: Counter[str] = Counter()
        last_in_slot: Counter[int] = Counter()
        rows = db.rows(
            "SELECT position, originator_id, originator_version, topic, state, key, slot, prev, epoch, case_id "
            "FROM stored_events ORDER BY position"
        )
        for expected, row in enumerate(rows, start=1):
            position, stream, version, topic, raw, key, slot, prev, in_epoch, case_id = row
            where = f"{service} position {position} ({stream} version {version})"
            epoch, own = epoch_at(known, expected), slot_of(key)
            positions.expect(
                (position, slot, in_epoch) == (expected, own, epoch),
                f"{where} in slot {slot} of epoch {in_epoch} should be position {expected} in slot {own} of {epoch}",
            )
            versions.expect(version == last_version[stream] + 1, f"{where} follows version {last_version[stream]}")
            chain.expect(prev == last_in_slot[slot], f"{where} names {prev}, before it came {last_in_slot[slot]}")
            last_version[stream], last_in_slot[slot] = version, position
            envelope = _whole(raw, last_hash.get(stream, "0" * 64))
            named = envelope and (
                f"{envelope['aggregate']}/{envelope['aggregate_id']}",
                envelope["version"],
                f"{envelope['type']}.v{envelope['schema_version']}",
                envelope["case_id"],
                envelope["service"],
            )
            hashes.expect(named == (stream, version, topic, case_id, service), f"{where} is not as it was stored")
            if envelope is None:
                continue
            last_hash[stream] = envelope["hash"]
            logs[service].append(event_of(service, row, envelope))
        heads: dict[int, int] = dict(db.rows("SELECT slot, position FROM slot_head"))
        chain.expect(heads == dict(last_in_slot), f"the slot heads of {service} are {heads}, not {dict(last_in_slot)}")
    return logs


def slot_of(key: str) -> int:
    """The slot that a key gives."""
    return zlib.crc32(key.encode("utf-8", "surrogateescape")) % SLOTS


def event_of(service: str, row: Row, envelope: Mapping[str, Any]) -> Event:
    """An event from its columns, in the order in which they are read, and its envelope."""
    position, stream, version, _, raw, key, slot, prev, epoch, case_id = row
    return Event(
        service=service,
        epoch=epoch,
        position=position,
        slot=slot,
        prev=prev,
        key=key,
        stream=stream,
        version=version,
        case_id=case_id,
        fingerprint=hash(raw),
        id=envelope["event_id"],
        type=envelope["type"],
        at=envelope["recorded_at"],
        cause=envelope["causation_id"],
        rule=str((envelope["authority"] or {}).get("rule") or ""),
        actor=str((envelope["actor"] or {}).get("body") or ""),
        data=envelope["data"],
    )


def _whole(raw: bytes, previous: str) -> dict[str, Any] | None:
    """The envelope of stored bytes; ``None`` where its hash, or its link to the event before, does not fit.

    ``hash`` is put last, outside the bytes that it covers: ``,"hash":"<64 hex>"}`` is 75 bytes.
    """
    with suppress(ValueError, KeyError, TypeError):
        envelope: dict[str, Any] = json.loads(raw)
        computed = hashlib.sha256(raw[:-75] + b"}").hexdigest()
        if raw[-75:] == f',"hash":"{computed}"}}'.encode() and envelope["prev_hash"] == previous:
            return envelope
    return None


def name_of(event: Event) -> str:
    """An event, in words."""
    return f"{event.type} of {event.service} at {event.position}"
