"""Whether the logs are what was written: every stored byte, column, chain and position (I-19).

Reads the files, or the PostgreSQL databases, as they are, not through the log's own code: what is checked must not be
what checks.

Found: any change of any column of a stored event, a deleted, inserted, swapped or renumbered event, a tail cut off, an
inbox copy that is not what its source stored. A copy beyond the end of an older epoch was lost to its source by a
restore: it is counted, not bad. Not found: a log whose events, chains, heads and stored answers were all recomputed
together, with the copies in the other services' inboxes; and all files put back to one earlier moment. Both need a
checkpoint kept elsewhere (a later issue). The trace context is not sealed: it is compared with the copies of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shared.runtime.codec import GENESIS, is_sealed, slot_of
from shared.runtime.databases import Databases
from shared.runtime.reading import CannotRead, Row, Snapshot, end_of, epoch_at, epochs, log_of, number

Told = Callable[[int, int], None]
"""Progress: records looked at, records in all."""
_EVERY = 500
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_EVENTS = (
    "SELECT position, originator_id, originator_version, topic, state, key, slot, prev, epoch, case_id, "
    "trace FROM stored_events ORDER BY position"
)
_SOURCE = (
    "SELECT epoch, position, slot, prev, key, topic, case_id, trace, state FROM stored_events WHERE epoch = ? "
    "ORDER BY position"
)
_COPIES = (
    "SELECT source, epoch, position, slot, prev, key, type, case_id, trace, raw FROM inbox "
    "ORDER BY source, epoch, position"
)


@dataclass(frozen=True)
class Bad:
    """The first thing wrong in a service: where (``log``, ``inbox``, ``file``, ``database``), which event, and what."""

    service: str
    where: str
    what: str
    position: int | None = None
    stream: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        named = [f"{self.service} {self.where}"]
        if self.position is not None:
            named.append(f"position {self.position}")
        if self.stream is not None:
            named.append(f"{self.stream} version {self.version}")
        return f"{', '.join(named)}: {self.what}"


@dataclass(frozen=True)
class Findings:
    """What was looked at, and the first bad event of each service that has one; ``first`` is the first of all."""

    events: int
    copies: int
    streams: int
    bad: tuple[Bad, ...]
    lost: int = 0
    """Copies of older epochs, beyond the end of theirs: what a restore took from their source."""

    @property
    def first(self) -> Bad | None:
        """The first bad event in the order of the services, or ``None`` where all is well."""
        return self.bad[0] if self.bad else None

    @property
    def clean(self) -> bool:
        """Whether all is well."""
        return not self.bad

    def sentence(self) -> str:
        """For people: what was looked at, and what is wrong."""
        looked = f"{self.events} events of {self.streams} streams, {self.copies} copies in inboxes"
        if self.lost:
            looked += f" ({self.lost} of them of events that a restore took from their source)"
        return "\n".join(
            [
                f"{looked}: "
                + ("all sealed, nothing missing." if self.clean else "NOT as written. First of each service:"),
                *map(str, self.bad),
            ]
        )

    def document(self) -> dict[str, Any]:
        """For programs: the same."""
        return {"clean": self.clean, **asdict(self)}


class _Broken(Exception):
    def __init__(self, what: str, position: int | None = None, stream: Any = None, version: Any = None) -> None:
        super().__init__(what)
        self.what, self.position = what, position
        self.stream = stream if isinstance(stream, str) else None
        self.version = version if isinstance(version, int) else None


@dataclass
class _Counted:
    told: Told
    total: int = 0
    done: int = 0
    events: int = 0
    copies: int = 0
    streams: int = 0
    lost: int = 0

    def one(self) -> None:
        self.done += 1
        if self.done % _EVERY == 0:
            self.told(self.done, self.total)


@dataclass
class _Walk:
    """What must come next while the events of one log are walked in order."""

    service: str
    epochs: list[tuple[int, int]]
    last: int = 0
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    answered: int = 0
    """Sum of a digest over all events: equal to that over all stored answers, in whatever order they stand."""


def verify(where: Databases | Path, services: Sequence[str], told: Told = lambda done, total: None) -> Findings:
    """Look at every stored event, stored answer and inbox copy of these services (by name); changes nothing.

    ``where`` is the folder of the files, or names the databases. May run beside the running system: each is read in
    one snapshot.
    """
    counted = _Counted(told)
    bad: dict[str, Bad] = {}
    for check in (_count, _check_log, _check_inbox):
        for name in services:
            if name in bad:
                continue
            place = "inbox" if check is _check_inbox else "log"
            try:
                # What is wrong in a log is said once: copies are compared with sound logs only.
                sound = [other for other in services if other == name or other not in bad]
                check(where, sound, name, counted)
            except _Broken as broken:
                bad[name] = Bad(name, place, broken.what, broken.position, broken.stream, broken.version)
            except CannotRead as error:
                bad[name] = Bad(name, "file" if Databases.at(where).url is None else "database", str(error))
    told(counted.done, counted.done)
    found = tuple(bad[name] for name in services if name in bad)
    return Findings(counted.events, counted.copies, counted.streams, found, counted.lost)


def _count(where: Databases | Path, _: Sequence[str], name: str, counted: _Counted) -> None:
    with closing(log_of(where, name)) as db:
        for table in ("stored_events", "inbox"):
            counted.total += number(db, f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - two own names


def _check_log(where: Databases | Path, _: Sequence[str], name: str, counted: _Counted) -> None:
    with closing(log_of(where, name)) as db:
        walk = _Walk(name, _check_meta(db, name))
        try:
            for row in db.rows(_EVENTS):
                _check_event(walk, row)
                counted.one()
        finally:
            counted.events += walk.last
            counted.streams += len(walk.heads)
        _check_heads(db, walk)
        _check_answers(db, walk)


def _check_meta(db: Snapshot, name: str) -> list[tuple[int, int]]:
    """Whose log it is, and its epochs: the first from the beginning, each later than the one before."""
    meta: dict[str, str] = dict(db.rows("SELECT name, value FROM meta"))
    if meta.get("service") != name:
        raise _Broken(f"the {db.kind} is that of {meta.get('service')!r}")
    known = epochs(db)
    newest = str(known[-1][0]) if known else None
    if meta.get("epoch") != newest or known[0][1] != 0 or known != sorted(set(known)):
        raise _Broken(f"the epochs are {known}, and the newest is said to be {meta.get('epoch')}")
    return known


def _check_event(walk: _Walk, row: Row) -> None:
    position, stream, version, topic, raw, key, slot, prev, epoch, case_id, trace = row

    def demand(holds: bool, what: str) -> None:
        if not holds:
            raise _Broken(what, position, stream, version)

    if position != walk.last + 1:
        raise _Broken(f"after position {walk.last} comes {position}: an event is missing or moved", walk.last + 1)
    demand(type(raw) is bytes and is_sealed(raw), "the bytes are not those that were sealed: they do not give the hash")
    event = json.loads(raw)
    aggregate, aggregate_id = event["aggregate"], event["aggregate_id"]
    demand(event["service"] == walk.service, "the event is another service's")
    demand(_is(stream, f"{aggregate}/{aggregate_id}"), "the stream's name is not that of the sealed event")
    demand(_is(version, event["version"]), "the version is not that of the sealed event")
    demand(_is(topic, f"{event['type']}.v{event['schema_version']}"), "the topic is not that of the sealed event")
    demand(_is(case_id, event["case_id"]), "the case is not that of the sealed event")
    demand(_is(key, event["case_id"]) or _is(key, aggregate_id), "the key is neither the case nor the aggregate")
    demand(trace is None or _TRACE.fullmatch(str(trace)) is not None, "the trace context is none")
    demand(_is(slot, slot_of(key)), "the slot is not that of the key")
    demand(_is(epoch, epoch_at(walk.epochs, position)), "the epoch is not that of its position")
    expected, last_hash = walk.heads.get(stream, (0, GENESIS))
    demand(version == expected + 1, f"version {expected + 1} of the stream is missing or out of order")
    demand(event["prev_hash"] == last_hash, "it does not follow the event before it in its stream")
    demand(_is(prev, walk.slots.get(slot, 0)), "it does not follow the event before it in its slot")
    walk.last = position
    walk.heads[stream] = (version, event["hash"])
    walk.slots[slot] = position
    walk.answered += _digest(position, event["event_id"], event["type"])


def _is(stored: Any, expected: Any) -> bool:
    """Equal, and of one kind: SQLite keeps 1, 1.0 and '1' apart, so must we."""
    return type(stored) is type(expected) and stored == expected


def _check_heads(db: Snapshot, walk: _Walk) -> None:
    heads: dict[int, int] = dict(db.rows("SELECT slot, position FROM slot_head"))
    for slot in sorted({*heads, *walk.slots}):
        found = walk.slots.get(slot, 0)
        if heads.get(slot) != found:
            lost = min(max(found, heads.get(slot) or 0), walk.last + 1)
            raise _Broken(f"slot {slot} should end at position {heads.get(slot)} but ends at {found}", lost)


def _check_answers(db: Snapshot, walk: _Walk) -> None:
    """Every event was told to whoever asked for it, and every event told is there: else one was put in or taken out."""
    if sum(_digest(*event) for event in _answered(db)) == walk.answered:
        return
    answered = set(_answered(db))
    stored = set()
    for position, raw in db.rows("SELECT position, state FROM stored_events"):
        event = json.loads(raw)
        stored.add((position, event["event_id"], event["type"]))
    for position, _, type_ in sorted(answered ^ stored):
        told = any(event[0] == position for event in answered)
        raise _Broken(
            f"{type_} was answered to a command but is not stored" if told else f"no command was answered {type_}",
            position,
        )
    raise _Broken("a stored answer was given twice")


def _answered(db: Snapshot) -> Iterator[tuple[int, str, str]]:
    for (body,) in db.rows("SELECT body FROM command"):
        try:
            for event in json.loads(body)["events"]:
                yield event["position"], event["event_id"], event["type"]
        except (ValueError, KeyError, TypeError):
            raise _Broken("a stored answer is not readable") from None


def _digest(position: int, event_id: str, type_: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{position} {event_id} {type_}".encode()).digest())


def _check_inbox(where: Databases | Path, sound: Sequence[str], name: str, counted: _Counted) -> None:
    with closing(log_of(where, name)) as db, ExitStack() as opened:
        # Opened after this one: what was carried from a log before that moment is in it.
        sources = {one: _Source(opened.enter_context(closing(log_of(where, one)))) for one in sound}
        for source, *row in db.rows(_COPIES):
            counted.lost += _check_copy(sources.get(source), source, row)
            counted.copies += 1
            counted.one()


class _Source:
    """A log, read along with the copies of it: both in the order of epoch and position."""

    def __init__(self, log: Snapshot) -> None:
        self._log = log
        self._epochs = epochs(log)
        self._last = number(log, "SELECT COALESCE(MAX(position), 0) FROM stored_events")
        self._epoch = 0
        self._rows: Iterator[Row] = iter(())
        self._row: Row | None = None

    def end_of(self, epoch: int) -> int | None:
        """The last position of an epoch, ``None`` for one that the log never had."""
        return end_of(self._epochs, epoch, self._last)

    def is_newest(self, epoch: int) -> bool:
        """Whether it is the epoch that the log is in."""
        return bool(self._epochs) and self._epochs[-1][0] == epoch

    def at(self, epoch: int, position: int) -> Row | None:
        """What is stored there; asked for in rising order."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._rows = self._log.rows(_SOURCE, epoch)
            self._row = next(self._rows, None)
        while self._row is not None and self._row[1] < position:
            self._row = next(self._rows, None)
        return self._row if self._row is not None and self._row[1] == position else None


def _check_copy(source: _Source | None, name: str, row: list[Any]) -> bool:
    """Whether the copy is of an event that a restore took from its source. Raises ``_Broken``."""
    epoch, position, raw = row[0], row[1], row[-1]
    if source is None:
        if type(raw) is not bytes or not is_sealed(raw):
            raise _Broken(f"the copy of {name}'s event is not what was sealed", position)
        return False
    end = source.end_of(epoch)
    if end is None:
        raise _Broken(f"the copy is of epoch {epoch}, which {name} never had", position)
    if position > end and not source.is_newest(epoch):
        if type(raw) is not bytes or not is_sealed(raw):
            raise _Broken(f"the copy of an event that {name} has lost is not what was sealed", position)
        return True
    stored = source.at(epoch, position)
    if stored is None:
        raise _Broken(f"{name} has no event at this position", position)
    expected = [*stored[:5], str(stored[5]).rpartition(".v")[0], *stored[6:]]
    if not all(_is(a, b) for a, b in zip(row, expected, strict=True)):
        raise _Broken(f"the copy of {name}'s event is not what {name} stored", position)
    return False
