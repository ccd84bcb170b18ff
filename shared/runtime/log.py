"""The event log of one service: the eventsourcing library's SQLite recorder behind one write path.

Everything that changes the log's file goes through one writer thread. What arrives while a transaction is being flushed
forms the next batch: take the write lock, read the heads, compare in arrival order, insert the winners only, positions
assigned by us. So positions have no gaps, one stale write never fails its neighbours, and a commit is shared by many.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from eventsourcing.persistence import PersistenceError, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteConnection, SQLiteDatastore

from shared.contracts.envelope import UnknownType
from shared.decider import Decider
from shared.runtime.codec import GENESIS, slot_of, unseal
from shared.runtime.declare import Recorded

SCHEMA = "1"
"""Version of the tables of ``log.db``; another one refuses to open."""
PARKED_ROWS = "state IN ('parked', 'unknown') AND state = 'parked'"
"""Which inbox rows are parked, said so that the partial index serves it: else the whole inbox is read."""
CACHED = 1000
"""Aggregates kept folded by a log, and records kept decoded by the process."""
BATCH = 256
"""Jobs in one transaction at most: bounds the wait of the last one."""


class Unavailable(Exception):
    """The log cannot be written just now (locked, disk full, closing). Nothing was stored; try again."""


class OtherVersion(Exception):
    """The database was made by another version of the software."""


class Lost(Exception):
    """A write met a stream, or a mark, that had moved on. It was not stored; decide again."""


class IdReused(Exception):
    """A command id came again with other content (I-18)."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A sealed event on its way into the log."""

    event_id: str
    type: str
    stream: str
    version: int
    topic: str
    raw: bytes
    key: str
    case_id: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an accepted command was answered, stored with it and given again to every repeat."""

    status: int
    body: bytes
    etag: str
    position: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """One command, decided at ``version`` of its stream; ``head`` is the stream's last position (0 where none)."""

    command_id: str
    content_hash: str
    stream: str
    aggregate_id: str
    key: str
    version: int
    head: int
    events: tuple[NewEvent, ...]
    reads: Mapping[str, int] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True, slots=True)
class Mark:
    """How an inbox row goes on: from ``waiting`` to ``state``; ``advance`` moves the slot's mark from ``prev``."""

    source: str
    epoch: int
    position: int
    slot: int
    prev: int
    state: str
    advance: bool
    error: str | None = None


class Job(Protocol):
    """Something for the writer: checks first, changes only when it has won.

    What is not ``durable`` by itself need not reach the disk before it is answered: a power cut takes back only what
    is done again (a record carried anew from its source, a mark set anew), never an acknowledged command.
    """

    @property
    def durable(self) -> bool: ...

    def apply(self, batch: Batch) -> Any: ...


@dataclass(frozen=True, slots=True)
class Write:
    """Commands, and the mark that they answer; all of it is stored, or nothing."""

    commands: tuple[Prepared, ...]
    mark: Mark | None = None

    @property
    def durable(self) -> bool:
        return bool(self.commands)

    def apply(self, batch: Batch) -> tuple[Answer, ...]:
        stored = [batch.stored_answer(command) for command in self.commands]
        for command, answer in zip(self.commands, stored, strict=True):
            if answer is None:
                batch.compare(command)
        if self.mark is not None:
            batch.settle(self.mark)
        return tuple(
            batch.take(command) if answer is None else answer
            for command, answer in zip(self.commands, stored, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Settle:
    """Inbox rows that need no command."""

    marks: tuple[Mark, ...]
    durable: bool = False

    def apply(self, batch: Batch) -> None:
        for mark in self.marks:
            batch.settle(mark)


@dataclass(frozen=True, slots=True)
class Insert:
    """Foreign records for the inbox; those already there are ignored. Gives the number of new ones."""

    source: str
    rows: tuple[Recorded | Unread, ...]
    durable: bool = False

    def apply(self, batch: Batch) -> int:
        return batch.insert_inbox(self.source, self.rows)


@dataclass(frozen=True, slots=True)
class Run:
    """Any other change to the log's file (counter blocks, contact addresses, parked rows)."""

    function: Callable[[sqlite3.Cursor], Any]
    durable: bool = True

    def apply(self, batch: Batch) -> Any:
        return self.function(batch.cursor)


@dataclass(frozen=True, slots=True)
class Unread:
    """A record as a log or an inbox holds it, not yet decoded."""

    source: str
    epoch: int
    position: int
    slot: int
    prev: int
    key: str
    type: str
    case_id: str | None
    raw: bytes
    seq: int = 0
    state: str = ""
    first_seen: float = 0.0


class MaruRecorder(SQLiteApplicationRecorder):
    """The library's recorder with our columns; its reading methods work unchanged, its inserting is replaced."""

    def construct_create_table_statements(self) -> list[str]:
        """Tables of ``log.db``; ``position`` is the library's notification id."""
        return [
            "CREATE TABLE IF NOT EXISTS stored_events (position INTEGER PRIMARY KEY, originator_id TEXT NOT NULL, "
            "originator_version INTEGER NOT NULL, topic TEXT NOT NULL, state BLOB NOT NULL, key TEXT NOT NULL, "
            "slot INTEGER NOT NULL, prev INTEGER NOT NULL, epoch INTEGER NOT NULL, case_id TEXT, "
            "UNIQUE (originator_id, originator_version))",
            "CREATE INDEX IF NOT EXISTS stored_events_case ON stored_events (case_id, position)",
            "CREATE TABLE IF NOT EXISTS slot_head (slot INTEGER PRIMARY KEY, position INTEGER NOT NULL)",
            "CREATE TABLE IF NOT EXISTS command (command_id TEXT PRIMARY KEY, content_hash TEXT NOT NULL, "
            "status INTEGER NOT NULL, body BLOB NOT NULL, etag TEXT NOT NULL, position TEXT NOT NULL) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS inbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, "
            "epoch INTEGER NOT NULL, position INTEGER NOT NULL, slot INTEGER NOT NULL, prev INTEGER NOT NULL, "
            "key TEXT NOT NULL, type TEXT NOT NULL, case_id TEXT, state TEXT NOT NULL, error TEXT, "
            "first_seen REAL NOT NULL, raw BLOB NOT NULL, UNIQUE (source, epoch, position))",
            "CREATE INDEX IF NOT EXISTS inbox_waiting ON inbox (seq) WHERE state = 'waiting'",
            "CREATE INDEX IF NOT EXISTS inbox_owed ON inbox (source, key) WHERE state = 'waiting'",
            "CREATE INDEX IF NOT EXISTS inbox_held ON inbox (state, key) WHERE state IN ('parked', 'unknown')",
            "CREATE INDEX IF NOT EXISTS inbox_case ON inbox (case_id, seq)",
            "CREATE TABLE IF NOT EXISTS mark (source TEXT, epoch INTEGER, slot INTEGER, position INTEGER NOT NULL, "
            "PRIMARY KEY (source, epoch, slot)) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        ]

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Not this way: the one write path assigns positions under the lock."""
        raise TypeError("events are appended through EventLog.submit only")


class Batch:
    """One transaction of the writer: what it has read so far and what it will insert."""

    def __init__(self, cursor: sqlite3.Cursor, log: EventLog) -> None:
        self.cursor = cursor
        self._log = log
        self._heads: dict[str, int] = {}
        self._answers: dict[str, tuple[str, Answer]] = {}
        self._slots = dict(cursor.execute("SELECT slot, position FROM slot_head").fetchall())
        self._last = max(self._slots.values(), default=0)
        self.events: list[tuple[Any, ...]] = []
        self._commands: list[tuple[Any, ...]] = []
        self._inbox: list[tuple[Any, ...]] = []
        self.inbox_rows = 0

    def head(self, stream: str) -> int:
        """Version of a stream, this batch's winners included."""
        if stream not in self._heads:
            row = self.cursor.execute(
                "SELECT MAX(originator_version) FROM stored_events WHERE originator_id = ?", (stream,)
            ).fetchone()
            self._heads[stream] = row[0] or 0
        return self._heads[stream]

    def compare(self, command: Prepared) -> None:
        """Raise ``Lost`` where the command's stream, or one that it only read, is no longer at the version read."""
        for stream, version in ((command.stream, command.version), *command.reads.items()):
            if self.head(stream) != version:
                raise Lost(stream)

    def stored_answer(self, command: Prepared) -> Answer | None:
        """What this command id was answered before. Raises ``IdReused`` for other content."""
        found = self._answers.get(command.command_id) or self._log.read_answer(self.cursor, command.command_id)
        if found is None:
            return None
        if found[0] != command.content_hash:
            raise IdReused(command.command_id)
        return found[1]

    def settle(self, mark: Mark) -> None:
        """Compare and set an inbox row and its slot's mark. Raises ``Lost`` when either has moved."""
        moved = self.cursor.execute(
            "UPDATE inbox SET state = ?1, error = ?2 WHERE source = ?3 AND epoch = ?4 AND position = ?5 "  # noqa: S608
            # Another process may have parked an earlier row of this key that we have never seen.
            f"AND state = 'waiting' AND (?1 = 'parked' OR NOT EXISTS (SELECT 1 FROM inbox AS held WHERE {PARKED_ROWS} "
            "AND held.key = inbox.key AND held.seq < inbox.seq))",
            (mark.state, mark.error, mark.source, mark.epoch, mark.position),
        ).rowcount
        if moved != 1:
            raise Lost("inbox")
        if mark.advance:
            moved = self.cursor.execute(
                "INSERT INTO mark VALUES (?, ?, ?, ?) ON CONFLICT (source, epoch, slot) DO UPDATE "
                "SET position = excluded.position WHERE position = ?",
                (mark.source, mark.epoch, mark.slot, mark.position, mark.prev),
            ).rowcount
            if moved != 1:
                # The row above is ours alone to change in this transaction, so it can be put back.
                self.cursor.execute(
                    "UPDATE inbox SET state = 'waiting' WHERE source = ? AND epoch = ? AND position = ?",
                    (mark.source, mark.epoch, mark.position),
                )
                raise Lost("mark")

    def take(self, command: Prepared) -> Answer:
        """Give a winner its positions and compose its answer."""
        epoch, service = self._log.epoch, self._log.service
        slot = slot_of(command.key)
        told = []
        for event in command.events:
            self._last += 1
            previous = self._slots.get(slot, 0)
            self._slots[slot] = self._last
            self._heads[event.stream] = event.version
            self.events.append(
                (
                    self._last,
                    event.stream,
                    event.version,
                    event.topic,
                    event.raw,
                    event.key,
                    slot,
                    previous,
                    epoch,
                    event.case_id,
                )
            )
            told.append({"event_id": event.event_id, "type": event.type, "position": self._last})
            if event.type in self._log.own_reactions:
                self._inbox.append(
                    (service, epoch, self._last, slot, previous, event.key, event.type, event.case_id, event.raw)
                )
        version = command.version + len(command.events)
        position = f"{service}:{epoch}:{slot}:{self._last if told else command.head}"
        body = {"id": command.aggregate_id, "version": version, "events": told, "position": position}
        answer = Answer(command.status, json.dumps(body, ensure_ascii=False).encode(), f'"{version}"', position)
        self._answers[command.command_id] = (command.content_hash, answer)
        self._commands.append(
            (command.command_id, command.content_hash, answer.status, answer.body, answer.etag, answer.position)
        )
        return answer

    def insert_inbox(self, source: str, rows: Iterable[Recorded | Unread]) -> int:
        """Put foreign records into the inbox, unchanged; repeats are ignored."""
        now = time.time()
        before = self.cursor.connection.total_changes
        self.cursor.executemany(
            "INSERT OR IGNORE INTO inbox (source, epoch, position, slot, prev, key, type, case_id, state, first_seen, "
            "raw) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?)",
            [(source, r.epoch, r.position, r.slot, r.prev, r.key, r.type, r.case_id, now, r.raw) for r in rows],
        )
        new = self.cursor.connection.total_changes - before
        self.inbox_rows += new
        return new

    def flush(self) -> None:
        """Insert what has won."""
        if self.events:
            self.cursor.executemany("INSERT INTO stored_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self.events)
            self.cursor.executemany("INSERT OR REPLACE INTO slot_head VALUES (?, ?)", list(self._slots.items()))
        if self._commands:
            self.cursor.executemany("INSERT INTO command VALUES (?, ?, ?, ?, ?, ?)", self._commands)
        if self._inbox:
            now = time.time()
            self.cursor.executemany(
                "INSERT INTO inbox (source, epoch, position, slot, prev, key, type, case_id, state, first_seen, raw) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?, ?)",
                [(*row[:8], now, row[8]) for row in self._inbox],
            )
            self.inbox_rows += len(self._inbox)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An aggregate as the log has it."""

    state: Any
    version: int
    last_hash: str
    last_at: datetime | None
    head: int


class EventLog:
    """One service's log, inbox, command ids and marks, in one SQLite file."""

    def __init__(self, path: Path, service: str, own_reactions: frozenset[str] = frozenset()) -> None:
        """Open ``path``, which ``create`` has made. Raises ``OtherVersion`` for a file of another schema."""
        self.path = path
        self.service = service
        self.own_reactions = own_reactions
        self._datastore = SQLiteDatastore(
            path.as_uri() + "?mode=rw",
            lock_timeout=10,
            pool_size=20,
            max_overflow=60,
            originator_id_type="text",
        )
        self.recorder = MaruRecorder(self._datastore)
        try:
            with self._datastore.transaction(commit=False) as cursor:
                cursor.execute("SELECT name, value FROM meta")
                meta = {row["name"]: row["value"] for row in cursor.fetchall()}
        except (sqlite3.OperationalError, PersistenceError) as error:
            raise OtherVersion(f"{path} is not there or has no tables: run maru migrate") from error
        if meta.get("schema") != SCHEMA or meta.get("service") != service:
            raise OtherVersion(
                f"{path} is schema {meta.get('schema')} of {meta.get('service')}, this is schema {SCHEMA} of {service}"
            )
        self.epoch = int(meta["epoch"])
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Any]] | None] = queue.SimpleQueue()
        self._cache: OrderedDict[str, Loaded] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._docket: dict[str, tuple[int, int]] = {}
        self._docket_lock = threading.Lock()
        self._closing = False
        self._durable: bool | None = None
        self.on_commit: list[Callable[[Batch], None]] = []
        self._writer = threading.Thread(target=self._write_loop, name=f"{service}-writer", daemon=True)
        self._writer.start()

    @staticmethod
    def create(path: Path, service: str) -> None:
        """Make the tables, and the epoch where there is none: what ``maru migrate`` does. Safe to repeat."""
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in MaruRecorder(SQLiteDatastore(":memory:")).create_table_statements:
                connection.execute(statement)
            # Seconds since 1970: a later log of the same service has a greater epoch, a restored one the same.
            for name, value in (("schema", SCHEMA), ("service", service), ("epoch", str(int(time.time())))):
                connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
            connection.execute("COMMIT")
        finally:
            connection.close()

    def close(self) -> None:
        """Finish what is queued and close the file."""
        self._closing = True
        self._jobs.put(None)
        self._writer.join(timeout=10)
        # The writer's connection last: only it can put the write-ahead log back into the file.
        for connection in self._readers:
            connection.close()
        self._datastore.close()

    # Writing

    def submit(self, job: Job) -> Future[Any]:
        """Queue a job. Its future gives the job's result, or raises ``Lost``, ``IdReused`` or ``Unavailable``."""
        future: Future[Any] = Future()
        if self._closing:
            future.set_exception(Unavailable("closing"))
        else:
            self._jobs.put((job, future))
        return future

    def run(self, function: Callable[[sqlite3.Cursor], Any]) -> Any:
        """A small change of another kind, waited for."""
        return self.submit(Run(function)).result(timeout=30)

    def _write_loop(self) -> None:
        with self._datastore.get_connection(commit=True) as connection:
            with connection.cursor() as cursor:
                # Command ids lie scattered over their index: with the default 2 MB each insert would read a page anew.
                cursor.execute("PRAGMA cache_size=-8000")
            while True:
                first = self._jobs.get()
                if first is None:
                    return
                jobs, last = [first], False
                while len(jobs) < BATCH:
                    try:
                        more = self._jobs.get_nowait()
                    except queue.Empty:
                        break
                    if more is None:
                        last = True
                        break
                    jobs.append(more)
                self._write(connection, jobs)
                if last:
                    return

    def _write(self, connection: SQLiteConnection, jobs: list[tuple[Job, Future[Any]]]) -> None:
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        with connection.cursor() as cursor:
            try:
                if (durable := any(job.durable for job, _ in jobs)) != self._durable:
                    # Write-ahead log: a later flushed commit carries all before it to the disk, in order.
                    cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                    self._durable = durable
                cursor.execute("BEGIN IMMEDIATE")
                batch = Batch(cursor, self)
                for job, future in jobs:
                    try:
                        results.append((future, job.apply(batch), None))
                    except (Lost, IdReused, ValueError, LookupError) as refusal:
                        results.append((future, None, refusal))
                batch.flush()
                cursor.execute("COMMIT")
            except BaseException as error:
                if cursor.connection.in_transaction:
                    cursor.execute("ROLLBACK")
                for _, future in jobs:
                    future.set_exception(Unavailable(str(error)))
                return
        for future, result, problem in results:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)
        for listener in self.on_commit:
            listener(batch)

    # Reading

    def _reader(self) -> sqlite3.Cursor:
        """A cursor of this thread's own read connection: one statement is one snapshot, without begin and rollback."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path.as_uri() + "?mode=ro", uri=True, timeout=10, check_same_thread=False)
            connection.isolation_level = None
            # A connection for each thread: the default cache of 2 MB would be most of the process's memory.
            connection.execute("PRAGMA cache_size=-256")
            self._local.connection = connection
            with self._cache_lock:
                self._readers.append(connection)
        return connection.cursor()

    def read_answer(self, cursor: Any, command_id: str) -> tuple[str, Answer] | None:
        """Content hash and stored answer of a command id."""
        cursor.execute(
            "SELECT content_hash, status, body, etag, position FROM command WHERE command_id = ?", (command_id,)
        )
        row = cursor.fetchone()
        return None if row is None else (row[0], Answer(row[1], row[2], row[3], row[4]))

    def answered(self, command_id: str, content_hash: str) -> Answer | None:
        """The stored answer of a command, if it was accepted before. Raises ``IdReused`` for other content."""
        found = self.read_answer(self._reader(), command_id)
        if found is None:
            return None
        if found[0] != content_hash:
            raise IdReused(command_id)
        return found[1]

    def load(self, decider: Decider[Any], aggregate_id: str) -> Loaded:
        """The aggregate as stored now: folded from the events since it was last read."""
        stream = f"{decider.name}/{aggregate_id}"
        with self._cache_lock:
            known = self._cache.get(stream)
        if known is None:
            known = Loaded(decider.initial, 0, GENESIS, None, 0)
        rows = self.select(
            "originator_id = ? AND originator_version > ? ORDER BY originator_version", stream, known.version
        )
        if not rows:
            return known
        state, at, last_hash = known.state, known.last_at, known.last_hash
        for row in rows:
            recorded = decode(row)
            state = decider.evolve(state, recorded.data)
            at, last_hash = recorded.envelope.recorded_at, recorded.envelope.hash
        loaded = Loaded(state, known.version + len(rows), last_hash, at, rows[-1].position)
        with self._cache_lock:
            self._cache[stream] = loaded
            self._cache.move_to_end(stream)
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return loaded

    def select(self, where: str, *parameters: Any) -> list[Unread]:
        """Stored events by a condition on the table's columns."""
        rows = self._reader().execute(
            "SELECT epoch, position, slot, prev, key, topic, case_id, state "  # noqa: S608 - own conditions only
            f"FROM stored_events WHERE {where}",
            parameters,
        )
        return [
            Unread(self.service, r[0], r[1], r[2], r[3], r[4], r[5].rpartition(".v")[0], r[6], r[7])
            for r in rows.fetchall()
        ]

    def after(self, position: int, limit: int = 500) -> list[Unread]:
        """Events in the log's order after a position."""
        return self.select("position > ? ORDER BY position LIMIT ?", position, limit)

    def inbox(self, where: str, *parameters: Any) -> list[Unread]:
        """Inbox rows by a condition on the table's columns."""
        rows = self._reader().execute(
            "SELECT source, epoch, position, slot, prev, key, type, case_id, raw, seq, state, first_seen "  # noqa: S608
            f"FROM inbox WHERE {where}",
            parameters,
        )
        return [Unread(*row) for row in rows.fetchall()]

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of any read-only statement on the log's file."""
        return [tuple(row) for row in self._reader().execute(statement, parameters).fetchall()]

    def last_position(self) -> int:
        """The last position of the log, 0 where it is empty."""
        return int(self.query("SELECT COALESCE(MAX(position), 0) FROM stored_events")[0][0])

    def heads(self) -> dict[int, int]:
        """The last position in each slot."""
        return dict(self.query("SELECT slot, position FROM slot_head"))

    def marks(self) -> dict[tuple[str, int, int], int]:
        """How far the reactions have come: (source, epoch, slot) → position."""
        return {(r[0], r[1], r[2]): r[3] for r in self.query("SELECT source, epoch, slot, position FROM mark")}

    def replays(self) -> int:
        """How often parked rows were given back: a follower that sees it grow looks at the inbox anew."""
        return int((self.query("SELECT value FROM meta WHERE name = 'replays'") or [(0,)])[0][0])

    def next_number(self, name: str, block: int = 20) -> int:
        """The next number of a counter, taken in blocks: gaps are allowed, repeats are not."""
        with self._docket_lock:
            following, end = self._docket.get(name, (0, 0))
            if following >= end:

                def reserve(cursor: sqlite3.Cursor) -> int:
                    cursor.execute("INSERT OR IGNORE INTO counter VALUES (?, 0)", (name,))
                    row = cursor.execute(
                        "UPDATE counter SET value = value + ? WHERE name = ? RETURNING value", (block, name)
                    ).fetchone()
                    return int(row[0])

                end = self.run(reserve) + 1
                following = end - block
            self._docket[name] = (following + 1, end)
            return following


_decoded: OrderedDict[tuple[str, int, int], Recorded] = OrderedDict()
_decoded_lock = threading.Lock()


def decode(row: Unread) -> Recorded:
    """A stored record, read; kept a while, because many followers of one process read the same records.

    Raises ``UnknownType`` and ``ValueError`` as ``unseal``.
    """
    name = (row.source, row.epoch, row.position)
    known = _decoded.get(name)
    if known is not None and known.raw == row.raw:
        return known
    envelope, data = unseal(row.raw)
    recorded = Recorded(row.source, row.epoch, row.position, row.slot, row.prev, row.key, envelope, data, row.raw)
    with _decoded_lock:
        _decoded[name] = recorded
        while len(_decoded) > CACHED:
            _decoded.popitem(last=False)
    return recorded


__all__ = ["Answer", "EventLog", "IdReused", "Insert", "Lost", "Mark", "NewEvent", "Prepared", "Settle", "Unavailable"]
__all__ += ["OtherVersion", "Run", "UnknownType", "Unread", "Write", "decode"]
