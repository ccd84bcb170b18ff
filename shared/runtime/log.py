"""The event log of one service: the eventsourcing library's recorders behind one write path, on SQLite or PostgreSQL.

Everything that changes the log goes through one writer thread a process. What arrives while a transaction is being
flushed forms the next batch: take the write lock, read the heads, compare in arrival order, insert the winners only,
positions assigned by us. So positions have no gaps, one stale write never fails its neighbours, and a commit is shared
by many. Several processes may append to one PostgreSQL log: the database's lock makes the order.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from shared.decider import Decider
from shared.runtime.batch import Batch, answers_of
from shared.runtime.codec import GENESIS, unseal
from shared.runtime.declare import Recorded
from shared.runtime.jobs import (
    Answer,
    IdReused,
    Job,
    Lost,
    Run,
    Unread,
)
from shared.runtime.log_database import (
    LOST_CONNECTION,
    SCHEMA,
    STORE_ERRORS,
    Cursor,
    Lock,
    LogDatabase,
    OtherVersion,
    Unavailable,
    Writer,
)
from shared.runtime.sqlite_log import SqliteDatabase

CACHED = 1000
"""Aggregates kept folded by a log, and records kept decoded by the process."""
BATCH = 256
"""Jobs in one transaction at most: bounds the wait of the last one."""


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
        self.life = 0
        """Which connection the writer is on (``Writer.life``). Whoever keeps in memory what a commit that was not
        flushed has said begins anew when this has changed, and names it in the jobs that build on that."""
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

    def run(self, function: Callable[[Cursor], Any], *, durable: bool = True, lock: Lock = "append_lock") -> Any:
        """A small change of another kind, waited for. Raises ``Unavailable``."""
        return self.submit(Run(function, durable, lock=lock)).result(timeout=30)

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
                if _apart(more[0]) != _apart(jobs[-1][0]):
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
        if batch.hint is not None:
            writer.notify(batch.hint)

    def _transact(
        self, writer: Writer, jobs: list[tuple[Job, Future[Any]]]
    ) -> tuple[Batch, list[tuple[Future[Any], Any, BaseException | None]]]:
        results: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            writer.begin(durable=any(job.durable for job, _ in jobs), lock=_apart(jobs[0][0]) or "append_lock")
            batch = Batch(writer, self.database, self.service, self.own_reactions, self.epoch, [job for job, _ in jobs])
            self.life = writer.life
            for job, future in jobs:
                try:
                    if job.life not in (None, self.life):
                        raise Lost("the connection was made anew")
                    results.append((future, job.apply(batch), None))
                except (Lost, IdReused, ValueError, LookupError) as refusal:
                    results.append((future, None, refusal))
            with writer.together():
                batch.flush()
                writer.commit(batch.hint)
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

                # Flushed: a server that crashes would give the same numbers again, to another process.
                end = self.run(reserve) + 1
                following = end - block
            self._docket[name] = (following + 1, end)
            return following


def _apart(job: Job) -> Lock | None:
    """Of a job that is in no batch with appends: the lock that it needs."""
    return job.lock if isinstance(job, Run) else None


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
