"""The event log of one service: the eventsourcing library's recorders behind one write path, on SQLite or PostgreSQL.

Everything that changes the log goes through one writer thread a process. What arrives while a transaction is being
flushed forms the next batch: take the write lock, read the heads, compare in arrival order, insert the winners only,
positions assigned by us. So positions have no gaps, one stale write never fails its neighbours, and a commit is shared
by many. Several processes may append to one PostgreSQL log: the database's lock makes the order.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from shared.contracts.envelope import UnknownType
from shared.decider import Decider
from shared.runtime.codec import GENESIS, slot_of, unseal
from shared.runtime.declare import Recorded
from shared.runtime.log_database import (
    LOST_CONNECTION,
    MOVED,
    SCHEMA,
    STORE_ERRORS,
    STORED,
    Cursor,
    LogDatabase,
    OtherVersion,
    Unavailable,
    Writer,
)
from shared.runtime.sqlite_log import SqliteDatabase

PARKED_ROWS = "state IN ('parked', 'unknown') AND state = 'parked'"
"""Which inbox rows are parked, said so that the partial index serves it: else the whole inbox is read."""
CACHED = 1000
"""Aggregates kept folded by a log, and records kept decoded by the process."""
BATCH = 256
"""Jobs in one transaction at most: bounds the wait of the last one."""


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
    trace: str | None = None
    """W3C trace context of whoever asked: stored beside the events, not in what is hashed."""


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

    @property
    def answered(self) -> tuple[Mark, ...]:
        """The mark, if any."""
        return () if self.mark is None else (self.mark,)

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

    answered: tuple[Mark, ...]
    durable: bool = False

    def apply(self, batch: Batch) -> None:
        # Whole or not at all, as a write: what the first ones have changed in the batch is put back.
        with batch.undone():
            for mark in self.answered:
                batch.settle(mark)


@dataclass(frozen=True, slots=True)
class Carried:
    """Up to which offset of a topic's partition a carrier has read, on one Kafka cluster."""

    source: str
    slot: int
    cluster: str
    next_offset: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record of a topic that is none of ours, or broken: kept with its cause, never applied."""

    topic: str
    cluster: str
    partition: int
    record_offset: int
    cause: str
    key: bytes | None
    headers: str
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class Insert:
    """Foreign records for the inbox; those already there are ignored. Gives the number of new ones.

    A Kafka carrier also notes where it goes on reading, and what it could not take, in the same transaction.
    """

    source: str
    rows: tuple[Recorded | Unread, ...]
    carried: tuple[Carried, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    durable: bool = False

    def apply(self, batch: Batch) -> int:
        batch.carry(self.carried, self.rejected)
        return batch.insert_inbox(self.source, self.rows) if self.rows else 0


@dataclass(frozen=True, slots=True)
class Run:
    """Any other change to the log's tables (counter blocks, leases, the relay's position, parked rows)."""

    function: Callable[[Cursor], Any]
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
    trace: str | None = None


class Batch:
    """One transaction of the writer: what it has read so far and what it will insert."""

    def __init__(self, writer: Writer, log: EventLog, jobs: Iterable[Job]) -> None:
        self._writer = writer
        self.cursor = writer.cursor()
        self._log = log
        self._database = log.database
        self._heads: dict[str, int] = {}
        self._answers: dict[str, tuple[str, Answer] | None] = {}
        self._slots: dict[int, int] = {}
        self._last = 0
        self.epoch = log.epoch
        self.events: list[tuple[Any, ...]] = []
        self._commands: list[tuple[Any, ...]] = []
        self._inbox: list[tuple[Any, ...]] = []
        self.inbox_rows = 0
        self._rows: dict[tuple[str, int, int], tuple[str, str, int]] = {}
        self._marks: dict[tuple[str, int, int], int] = {}
        self._moved: dict[tuple[str, int, int], int] = {}
        self._parked: dict[str, int] = {}
        self._settled: dict[tuple[str, int, int], tuple[Any, ...]] = {}
        commands = [command for job in jobs if isinstance(job, Write) for command in job.commands]
        marks = [mark for job in jobs if isinstance(job, Write | Settle) for mark in job.answered]
        takers: list[Callable[[], None]] = []
        with writer.together():
            if commands:
                takers.append(self._look_up(commands))
            if marks:
                takers.append(self._look_up_marks(marks))
        for take in takers:
            take()

    def _look_up(self, commands: Sequence[Prepared]) -> Callable[[], None]:
        """Ask what the batch's commands are compared with; gives what takes the answers."""
        cursor = self._writer.cursor
        epoch = cursor().execute("SELECT value FROM meta WHERE name = 'epoch'")
        slots = cursor().execute("SELECT slot, position FROM slot_head")
        streams = {stream for command in commands for stream in (command.stream, *command.reads)}
        heads = self._database.heads(cursor(), sorted(streams))
        ids = {command.command_id for command in commands}
        answers = self._database.answers(cursor(), sorted(ids))

        def take() -> None:
            self.epoch = int(epoch.fetchone()[0])
            self._slots = dict(slots.fetchall())
            self._last = max(self._slots.values(), default=0)
            self._heads = {row[0]: row[1] or 0 for row in heads.fetchall()}
            self._answers = {**dict.fromkeys(ids), **answers_of(answers)}

        return take

    def _look_up_marks(self, marks: Sequence[Mark]) -> Callable[[], None]:
        """The same for inbox rows: nobody else changes them while the lock is held."""
        cursor = self._writer.cursor
        places = sorted({(mark.source, mark.epoch, mark.position) for mark in marks})
        states = self._database.inbox_states(cursor(), places)
        moved = cursor().execute("SELECT source, epoch, slot, position FROM mark")
        parked = cursor().execute(
            f"SELECT key, MIN(seq) FROM inbox WHERE {PARKED_ROWS} GROUP BY key"  # noqa: S608
        )

        def take() -> None:
            self._rows = {(row[0], row[1], row[2]): (row[3], row[4], row[5]) for row in states.fetchall()}
            self._marks = {(row[0], row[1], row[2]): row[3] for row in moved.fetchall()}
            self._parked = dict(parked.fetchall())

        return take

    def compare(self, command: Prepared) -> None:
        """Raise ``Lost`` where the command's stream, or one that it only read, is no longer at the version read."""
        for stream, version in ((command.stream, command.version), *command.reads.items()):
            if self._heads.get(stream, 0) != version:
                raise Lost(stream)

    def stored_answer(self, command: Prepared) -> Answer | None:
        """What this command id was answered before. Raises ``IdReused`` for other content."""
        found = self._answers.get(command.command_id)
        if found is None:
            return None
        if found[0] != command.content_hash:
            raise IdReused(command.command_id)
        return found[1]

    def settle(self, mark: Mark) -> None:
        """Compare and set an inbox row and its slot's mark. Raises ``Lost`` when either has moved."""
        place = (mark.source, mark.epoch, mark.position)
        state, key, seq = self._rows.get(place, ("missing", "", 0))
        # Another process may have parked an earlier row of this key that the follower has never seen.
        if state != "waiting" or (mark.state != "parked" and self._parked.get(key, seq) < seq):
            raise Lost("inbox")
        if mark.advance:
            slot = (mark.source, mark.epoch, mark.slot)
            if self._marks.get(slot, mark.prev) != mark.prev:
                raise Lost("mark")
            self._marks[slot] = self._moved[slot] = mark.position
        if mark.state == "parked":
            self._parked[key] = min(seq, self._parked.get(key, seq))
        self._rows[place] = (mark.state, key, seq)
        self._settled[place] = (*place, mark.state, mark.error)

    @property
    def settled(self) -> bool:
        """Whether inbox rows were answered."""
        return bool(self._settled)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Put back what was settled within, where it ends in ``Lost``."""
        rows, marks, moved = dict(self._rows), dict(self._marks), dict(self._moved)
        parked, settled = dict(self._parked), dict(self._settled)
        try:
            yield
        except Lost:
            self._rows, self._marks, self._moved = rows, marks, moved
            self._parked, self._settled = parked, settled
            raise

    def take(self, command: Prepared) -> Answer:
        """Give a winner its positions and compose its answer."""
        epoch, service = self.epoch, self._log.service
        slot = slot_of(command.key)
        told = []
        now = time.time()
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
                    command.trace,
                )
            )
            told.append({"event_id": event.event_id, "type": event.type, "position": self._last})
            if event.type in self._log.own_reactions:
                place = (service, epoch, self._last, slot, previous, event.key, event.type, event.case_id)
                self._inbox.append((*place, "waiting", now, event.raw, command.trace, None))
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
        new = self._database.insert(
            self.cursor,
            "inbox",
            [
                (
                    source,
                    r.epoch,
                    r.position,
                    r.slot,
                    r.prev,
                    r.key,
                    r.type,
                    r.case_id,
                    "waiting",
                    now,
                    r.raw,
                    r.trace,
                    None,
                )
                for r in rows
            ],
            "ON CONFLICT DO NOTHING",
        )
        self.inbox_rows += new
        return new

    def carry(self, carried: Sequence[Carried], rejected: Sequence[Rejected]) -> None:
        """Note how far a Kafka carrier has read, and what it could not take."""
        if carried:
            self._database.insert(
                self.cursor,
                "carried",
                [(place.source, place.slot, place.cluster, place.next_offset) for place in carried],
                "ON CONFLICT (source, slot) DO UPDATE SET cluster = excluded.cluster, "
                "next_offset = excluded.next_offset",
            )
        if rejected:
            now = time.time()
            self._database.insert(
                self.cursor,
                "rejected",
                [
                    (r.topic, r.cluster, r.partition, r.record_offset, r.cause, r.key, r.headers, r.raw, now)
                    for r in rejected
                ],
                "ON CONFLICT DO NOTHING",
            )

    def flush(self) -> None:
        """Insert what has won."""
        insert = self._database.insert
        if self.events:
            insert(self.cursor, "stored_events", self.events)
            moved = sorted({row[6] for row in self.events})
            insert(
                self.cursor,
                "slot_head",
                [(slot, self._slots[slot]) for slot in moved],
                "ON CONFLICT (slot) DO UPDATE SET position = excluded.position",
            )
        if self._commands:
            insert(self.cursor, "command", self._commands)
        if self._inbox:
            insert(self.cursor, "inbox", self._inbox)
            self.inbox_rows += len(self._inbox)
        if self._settled:
            self._database.settle(self.cursor, list(self._settled.values()))
        if self._moved:
            insert(
                self.cursor,
                "mark",
                [(*slot, position) for slot, position in self._moved.items()],
                "ON CONFLICT (source, epoch, slot) DO UPDATE SET position = excluded.position",
            )


@dataclass(frozen=True, slots=True)
class Loaded:
    """An aggregate as the log has it."""

    state: Any
    version: int
    last_hash: str
    last_at: datetime | None
    head: int

    @classmethod
    def nothing(cls, decider: Decider[Any]) -> Loaded:
        """An aggregate of which nothing is stored."""
        return cls(decider.initial, 0, GENESIS, None, 0)


class EventLog:
    """One service's log, inbox, command ids and marks, in one SQLite file."""

    def __init__(self, place: LogDatabase | Path, service: str, own_reactions: frozenset[str] = frozenset()) -> None:
        """Open what ``maru migrate`` has made: a database, or the SQLite file at a path.

        Raises ``OtherVersion`` for one of another schema or none, ``Unavailable`` where the server does not answer.
        """
        self.database: LogDatabase = SqliteDatabase(place) if isinstance(place, Path) else place
        self.service = service
        self.own_reactions = own_reactions
        name = self.database.name
        try:
            meta = dict(self.database.reader().execute("SELECT name, value FROM meta").fetchall())
        except STORE_ERRORS as error:
            self.database.close()
            raise OtherVersion(f"{name} is not there or has no tables: run maru migrate") from error
        except (Unavailable, OtherVersion):
            self.database.close()
            raise
        if meta.get("schema") != SCHEMA or meta.get("service") != service:
            self.database.close()
            raise OtherVersion(
                f"{name} is schema {meta.get('schema')} of {meta.get('service')}, this is schema {SCHEMA} of {service}"
            )
        self.epoch = int(meta["epoch"])
        self.seen = 0
        """A position that the log has surely reached."""
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Any]] | None] = queue.SimpleQueue()
        self._cache: OrderedDict[str, Loaded] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._docket: dict[str, tuple[int, int]] = {}
        self._docket_lock = threading.Lock()
        self._closing = False
        self.on_commit: list[Callable[[Batch], None]] = []
        self._writer = threading.Thread(target=self._write_loop, name=f"{service}-writer", daemon=True)
        self._writer.start()

    @staticmethod
    def create(path: Path, service: str) -> None:
        """Make the tables in a SQLite file, and the epoch where there is none. Safe to repeat."""
        SqliteDatabase(path).create(service)

    def close(self) -> None:
        """Finish what is queued and close the database."""
        self._closing = True
        self._jobs.put(None)
        self._writer.join(timeout=10)
        self.database.close()

    # Writing

    def submit(self, job: Job) -> Future[Any]:
        """Queue a job. Its future gives the job's result, or raises ``Lost``, ``IdReused`` or ``Unavailable``."""
        future: Future[Any] = Future()
        if self._closing:
            future.set_exception(Unavailable("closing"))
        else:
            self._jobs.put((job, future))
        return future

    def run(self, function: Callable[[Cursor], Any], *, durable: bool = True) -> Any:
        """A small change of another kind, waited for. Raises ``Unavailable``."""
        return self.submit(Run(function, durable)).result(timeout=30)

    def _write_loop(self) -> None:
        writer = self.database.writer()
        last = False
        while not last:
            first = self._jobs.get()
            if first is None:
                break
            jobs: list[tuple[Job, Future[Any]]] = [first]
            while len(jobs) < BATCH:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                if isinstance(more[0], Run) != isinstance(jobs[-1][0], Run):
                    # What a batch has looked up would not know of other changes made within it.
                    self._write(writer, jobs)
                    jobs = []
                jobs.append(more)
            self._write(writer, jobs)
        writer.close()

    def _write(self, writer: Writer, jobs: list[tuple[Job, Future[Any]]]) -> None:
        try:
            batch, results = self._transact(writer, jobs)
        except LOST_CONNECTION:
            # Whether it was stored is unknown. Once more: a command that was is found by its id and answered the same.
            try:
                batch, results = self._transact(writer, jobs)
            except BaseException as error:
                _fail(jobs, error)
                return
        except BaseException as error:
            _fail(jobs, error)
            return
        for listener in self.on_commit:
            listener(batch)
        for future, result, problem in results:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)
        if batch.events or batch.inbox_rows:
            writer.notify(STORED)
        elif batch.settled:
            writer.notify(MOVED)

    def _transact(
        self, writer: Writer, jobs: list[tuple[Job, Future[Any]]]
    ) -> tuple[Batch, list[tuple[Future[Any], Any, BaseException | None]]]:
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            writer.begin(durable=any(job.durable for job, _ in jobs))
            batch = Batch(writer, self, [job for job, _ in jobs])
            for job, future in jobs:
                try:
                    results.append((future, job.apply(batch), None))
                except (Lost, IdReused, ValueError, LookupError) as refusal:
                    results.append((future, None, refusal))
            with writer.together():
                batch.flush()
                writer.commit()
        except BaseException:
            writer.rollback()
            raise
        self.epoch = batch.epoch
        if batch.events:
            self.seen = batch.events[-1][0]
        return batch, results

    # Reading

    def _reader(self) -> Cursor:
        return self.database.reader()

    def answered(self, command_id: str, content_hash: str) -> Answer | None:
        """The stored answer of a command, if it was accepted before. Raises ``IdReused`` for other content."""
        found = self.answers((command_id,)).get(command_id)
        if found is None:
            return None
        if found[0] != content_hash:
            raise IdReused(command_id)
        return found[1]

    def answers(self, command_ids: Sequence[str]) -> dict[str, tuple[str, Answer]]:
        """Of the commands that were accepted before: id → content hash and answer."""
        return answers_of(self.database.answers(self._reader(), command_ids))

    def load(self, decider: Decider[Any], aggregate_id: str) -> Loaded:
        """The aggregate as stored now: folded from the events since it was last read."""
        stream = f"{decider.name}/{aggregate_id}"
        with self._cache_lock:
            known = self._cache.get(stream)
        if known is None:
            known = Loaded.nothing(decider)
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
            "SELECT epoch, position, slot, prev, key, topic, case_id, state, trace "  # noqa: S608 - own conditions only
            f"FROM stored_events WHERE {where}",
            parameters,
        )
        return [
            Unread(self.service, r[0], r[1], r[2], r[3], r[4], r[5].rpartition(".v")[0], r[6], r[7], trace=r[8])
            for r in rows.fetchall()
        ]

    def after(self, position: int, limit: int = 500) -> list[Unread]:
        """Events in the log's order after a position."""
        return self.select("position > ? ORDER BY position LIMIT ?", position, limit)

    def inbox(self, where: str, *parameters: Any) -> list[Unread]:
        """Inbox rows by a condition on the table's columns."""
        rows = self._reader().execute(
            "SELECT source, epoch, position, slot, prev, key, type, case_id, raw, seq, state, first_seen, "  # noqa: S608
            f"trace FROM inbox WHERE {where}",
            parameters,
        )
        return [Unread(*row) for row in rows.fetchall()]

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of any read-only statement on the log's file."""
        return [tuple(row) for row in self._reader().execute(statement, parameters).fetchall()]

    def last_position(self) -> int:
        """The last position of the log, 0 where it is empty."""
        last = int(self.query("SELECT COALESCE(MAX(position), 0) FROM stored_events")[0][0])
        self.seen = max(self.seen, last)
        return last

    def heads(self) -> dict[int, int]:
        """The last position in each slot."""
        return dict(self.query("SELECT slot, position FROM slot_head"))

    def marks(self) -> dict[tuple[str, int, int], int]:
        """How far the reactions have come: (source, epoch, slot) → position."""
        return {(r[0], r[1], r[2]): r[3] for r in self.query("SELECT source, epoch, slot, position FROM mark")}

    def carried(self) -> dict[tuple[str, int], tuple[str, int]]:
        """Where a Kafka carrier goes on reading: (source, slot) → (cluster, offset)."""
        return {
            (r[0], r[1]): (r[2], r[3]) for r in self.query("SELECT source, slot, cluster, next_offset FROM carried")
        }

    def replays(self) -> int:
        """How often parked rows were given back: a follower that sees it grow looks at the inbox anew."""
        return int((self.query("SELECT value FROM meta WHERE name = 'replays'") or [(0,)])[0][0])

    def next_number(self, name: str, block: int = 20) -> int:
        """The next number of a counter, taken in blocks: gaps are allowed, repeats are not."""
        with self._docket_lock:
            following, end = self._docket.get(name, (0, 0))
            if following >= end:

                def reserve(cursor: Cursor) -> int:
                    cursor.execute("INSERT INTO counter VALUES (?, 0) ON CONFLICT DO NOTHING", (name,))
                    row = cursor.execute(
                        "UPDATE counter SET value = value + ? WHERE name = ? RETURNING value", (block, name)
                    ).fetchone()
                    return int(row[0])

                # A later flushed commit carries it to the disk: no number that was given away is given again.
                end = self.run(reserve, durable=False) + 1
                following = end - block
            self._docket[name] = (following + 1, end)
            return following


def answers_of(found: Cursor) -> dict[str, tuple[str, Answer]]:
    """Stored answers as the database gives them: id → content hash and answer."""
    return {row[0]: (row[1], Answer(row[2], bytes(row[3]), row[4], row[5])) for row in found.fetchall()}


def _fail(jobs: list[tuple[Job, Future[Any]]], error: BaseException) -> None:
    for _, future in jobs:
        future.set_exception(Unavailable(str(error)))


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
    recorded = Recorded(
        row.source, row.epoch, row.position, row.slot, row.prev, row.key, envelope, data, row.raw, row.trace
    )
    with _decoded_lock:
        _decoded[name] = recorded
        while len(_decoded) > CACHED:
            _decoded.popitem(last=False)
    return recorded


__all__ = ["Answer", "EventLog", "IdReused", "Insert", "Lost", "Mark", "NewEvent", "Prepared", "Settle", "Unavailable"]
__all__ += ["Carried", "OtherVersion", "Rejected", "Run", "UnknownType", "Unread", "Write", "decode"]
