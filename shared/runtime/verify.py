"""Whether the logs are what was written: every stored byte, column, chain and position (I-19).

Reads the files as they lie on disk, not through the log's own code: what is checked must not be what checks.

Found: any change of any column of a stored event, a deleted, inserted, swapped or renumbered event, a tail cut off, an
inbox copy that is not what its source stored. Not found: a log whose events, chains, heads and stored answers were all
recomputed together, with the copies in the other services' inboxes; and all files put back to one earlier moment. Both
need a checkpoint kept elsewhere (a later issue).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shared.runtime.codec import GENESIS, is_sealed, slot_of

Told = Callable[[int, int], None]
"""Progress: records looked at, records in all."""
_EVERY = 500
_EVENTS = (
    "SELECT position, originator_id, originator_version, topic, state, key, slot, prev, epoch, case_id "
    "FROM stored_events ORDER BY position"
)
_COPIES = (
    "SELECT source, epoch, position, slot, prev, key, type, case_id, raw FROM inbox ORDER BY source, epoch, position"
)


@dataclass(frozen=True)
class Bad:
    """The first thing that is wrong in a service: where (``log``, ``inbox``, ``file``), which event, and what."""

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

    def one(self) -> None:
        self.done += 1
        if self.done % _EVERY == 0:
            self.told(self.done, self.total)


@dataclass
class _Walk:
    """What must come next while the events of one log are walked in order."""

    service: str
    epoch: int
    last: int = 0
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    answered: int = 0
    """Sum of a digest over all events: equal to that over all stored answers, in whatever order they stand."""


def verify(folder: Path, services: Sequence[str], told: Told = lambda done, total: None) -> Findings:
    """Look at every stored event, stored answer and inbox copy of these services (by name); changes nothing.

    May run beside the running system: each file is read in one snapshot.
    """
    paths = {name: folder / name / "log.db" for name in services}
    counted = _Counted(told)
    bad: dict[str, Bad] = {}
    for check in (_count, _check_log, _check_inbox):
        for name, path in paths.items():
            if name in bad:
                continue
            where = "inbox" if check is _check_inbox else "log"
            try:
                # What is wrong in a log is said once: copies are compared with sound logs only.
                check(
                    {other: path for other, path in paths.items() if other == name or other not in bad}, name, counted
                )
            except _Broken as broken:
                bad[name] = Bad(name, where, broken.what, broken.position, broken.stream, broken.version)
            except (sqlite3.Error, OSError) as error:
                bad[name] = Bad(name, "file", f"{path} cannot be read: {error}")
    told(counted.done, counted.done)
    found = tuple(bad[name] for name in paths if name in bad)
    return Findings(counted.events, counted.copies, counted.streams, found)


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise FileNotFoundError("there is no such file")
    connection = sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True, timeout=30, isolation_level=None)
    # Text that is no UTF-8 any more must be found as a wrong value, not end the reading.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return connection


def _count(paths: Mapping[str, Path], name: str, counted: _Counted) -> None:
    with closing(_open(paths[name])) as db:
        for table in ("stored_events", "inbox"):
            counted.total += db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608 - two own names


def _check_log(paths: Mapping[str, Path], name: str, counted: _Counted) -> None:
    with closing(_open(paths[name])) as db:
        db.execute("BEGIN")
        meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
        if meta.get("service") != name:
            raise _Broken(f"the file is that of {meta.get('service')!r}")
        walk = _Walk(name, int(meta["epoch"]))
        try:
            for row in db.execute(_EVENTS):
                _check_event(walk, row)
                counted.one()
        finally:
            counted.events += walk.last
            counted.streams += len(walk.heads)
        _check_heads(db, walk)
        _check_answers(db, walk)


def _check_event(walk: _Walk, row: tuple[Any, ...]) -> None:
    position, stream, version, topic, raw, key, slot, prev, epoch, case_id = row

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
    demand(_is(slot, slot_of(key)), "the slot is not that of the key")
    demand(_is(epoch, walk.epoch), "the epoch is not the log's")
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


def _check_heads(db: sqlite3.Connection, walk: _Walk) -> None:
    heads = dict(db.execute("SELECT slot, position FROM slot_head").fetchall())
    for slot in sorted({*heads, *walk.slots}):
        found = walk.slots.get(slot, 0)
        if heads.get(slot) != found:
            lost = min(max(found, heads.get(slot) or 0), walk.last + 1)
            raise _Broken(f"slot {slot} should end at position {heads.get(slot)} but ends at {found}", lost)


def _check_answers(db: sqlite3.Connection, walk: _Walk) -> None:
    """Every event was told to whoever asked for it, and every event told is there: else one was put in or taken out."""
    if sum(_digest(*event) for event in _answered(db)) == walk.answered:
        return
    answered = set(_answered(db))
    stored = set()
    for position, raw in db.execute("SELECT position, state FROM stored_events"):
        event = json.loads(raw)
        stored.add((position, event["event_id"], event["type"]))
    for position, _, type_ in sorted(answered ^ stored):
        told = any(event[0] == position for event in answered)
        raise _Broken(
            f"{type_} was answered to a command but is not stored" if told else f"no command was answered {type_}",
            position,
        )
    raise _Broken("a stored answer was given twice")


def _answered(db: sqlite3.Connection) -> Iterator[tuple[int, str, str]]:
    for (body,) in db.execute("SELECT body FROM command"):
        try:
            for event in json.loads(body)["events"]:
                yield event["position"], event["event_id"], event["type"]
        except (ValueError, KeyError, TypeError):
            raise _Broken("a stored answer is not readable") from None


def _digest(position: int, event_id: str, type_: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{position} {event_id} {type_}".encode()).digest())


def _check_inbox(paths: Mapping[str, Path], name: str, counted: _Counted) -> None:
    with closing(_open(paths[name])) as db:
        db.execute("BEGIN")
        # Not in the snapshot: what was carried from a log after it began is in that log by now.
        sources = {source: _open(path) for source, path in paths.items() if path.exists()}
        try:
            for source, *row in db.execute(_COPIES):
                _check_copy(sources.get(source), source, row)
                counted.copies += 1
                counted.one()
        finally:
            for connection in sources.values():
                connection.close()


def _check_copy(source: sqlite3.Connection | None, name: str, row: list[Any]) -> None:
    position, raw = row[1], row[-1]
    if source is None:
        if type(raw) is not bytes or not is_sealed(raw):
            raise _Broken(f"the copy of {name}'s event is not what was sealed", position)
        return
    stored = source.execute(
        "SELECT epoch, position, slot, prev, key, topic, case_id, state FROM stored_events WHERE position = ?",
        (position,),
    ).fetchone()
    if stored is None:
        raise _Broken(f"{name} has no event at this position", position)
    expected = [*stored[:5], str(stored[5]).rpartition(".v")[0], *stored[6:]]
    if not all(_is(a, b) for a, b in zip(row, expected, strict=True)):
        raise _Broken(f"the copy of {name}'s event is not what {name} stored", position)
