"""Hearing and working: carriers fill the inbox, followers run the reactions and the views.

The same loops in both forms. Effect and mark are one transaction; a slot is taken only while the chain of its previous
positions is whole; what fails is parked in order of its key while other keys go on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection, select

from shared.contracts.envelope import event_types
from shared.decider import Refused
from shared.runtime import metrics
from shared.runtime.commands import derived_id, prepare
from shared.runtime.declare import Act, Facts, Recorded, Service, View, Wait
from shared.runtime.directory import DIRECTORY, REFERENCE_TYPES
from shared.runtime.log import (
    PARKED_ROWS,
    EventLog,
    IdReused,
    Insert,
    Lost,
    Mark,
    Settle,
    Unavailable,
    UnknownType,
    Unread,
    Write,
    decode,
)
from shared.runtime.views import PARKED, SCAN, Marks, ViewStore, gathered, upsert

WAIT_SECONDS = 60.0
"""How long a key may wait for a fact of another source before it is parked."""
TRIES = 3
"""How often a failing event is tried before its key is parked."""
INBOX = "inbox"

logger = structlog.get_logger("maru.follow")


class Pressure:
    """Lets the followers of a process work in turn, and rest while commands are many.

    Only one thread runs Python at a time: several followers at once would not be faster, and every command would wait
    for each of them to give the interpreter away. While many commands are being decided and stored, a follower also
    rests five times as long as it worked: commands come first, and followers find more at once, which costs less for
    each record. Nothing is refused; views and reactions fall behind.
    """

    MANY = 24
    REST = 5.0

    def __init__(self) -> None:
        self.commands = 0
        self._turn = threading.Lock()

    def step(self, step: Callable[[], bool], ending: threading.Event, *, hurry: bool) -> bool:
        """Run a follower's step when it is its turn; at once where somebody waits for it and commands are few."""
        if hurry and self.commands <= self.MANY:
            return step()
        with self._turn:
            started = time.monotonic()
            found = step()
            if self.commands > self.MANY:
                ending.wait(self.REST * (time.monotonic() - started))
        return found


class Loop(threading.Thread):
    """A thread that repeats a step: at once while it finds work, else when woken, else after ``idle`` seconds.

    ``step`` returns whether it found work. One that raises is logged and repeated after a while: the loop never dies.
    Steps begin at least ``pause`` seconds apart unless somebody waits (``progress``): one fact brings several commits,
    and a step costs more than a record.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool],
        idle: float = 1.0,
        pressure: Pressure | None = None,
        pause: float = 0.0,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._pause = pause
        self._step = step
        self._idle = idle
        self._pressure = pressure or Pressure()
        self._progress = progress or Progress()
        self._progress.loops.append(self)
        self._ending = False
        self._end = threading.Event()
        self.wake = threading.Event()
        self.hurry = threading.Event()
        self.beat = time.monotonic()
        self.turned_at = time.time()

    def run(self) -> None:
        """Until ``end``."""
        while not self._ending:
            self.wake.clear()
            started = time.monotonic()
            try:
                found = self._pressure.step(self._step, self._end, hurry=self._progress.waiting > 0)
            except Exception as error:
                if self._ending:
                    break
                logger.warning("step failed", loop=self.name, error=type(error).__name__, detail=str(error)[:500])
                metrics.LOOP_FAILURES.labels(self.name).inc()
                found = False
                self.wake.wait(0.2)
            self.beat = time.monotonic()
            self.turned_at = time.time()
            if not found and not self._ending:
                self.wake.wait(self._idle)
            self._rest(started + self._pause)

    def _rest(self, until: float) -> None:
        self.hurry.clear()
        if not self._progress.waiting and not self._ending and (left := until - time.monotonic()) > 0:
            self.hurry.wait(left)

    def end(self) -> None:
        """Stop after the step under way."""
        self._ending = True
        self._end.set()
        self.wake.set()
        self.hurry.set()


class Progress:
    """How far a service's views and reactions have come, for those who wait; a waiter holds no thread."""

    def __init__(self) -> None:
        self.views: dict[str, Marks] = {}
        self.loops: list[Loop] = []
        self.waiting = 0
        """How many wait just now: the loops make no pauses meanwhile."""
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._planned = False

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Somebody waits: the loops of this service hurry."""
        self.waiting += 1
        try:
            for loop in self.loops:
                loop.hurry.set()
            yield
        finally:
            self.waiting -= 1

    def moved(self) -> None:
        """Called from any thread after a commit."""
        loop = self._loop
        if loop is not None and self._waiters and not self._planned:
            self._planned = True
            loop.call_soon_threadsafe(self._plan)

    def _plan(self) -> None:
        # Commits come in bursts: one look for those of a moment.
        asyncio.get_running_loop().call_later(0.001, self._check)

    def _check(self) -> None:
        self._planned = False
        still = []
        for reached, future in self._waiters:
            if future.done():
                continue
            if reached():
                future.set_result(None)
            else:
                still.append((reached, future))
        self._waiters = still

    async def wait(self, reached: Callable[[], bool], seconds: float, *, hurry: bool = True) -> bool:
        """Wait until ``reached`` or the time is up; tells which. A live feed is in no ``hurry``."""
        if reached():
            return True
        with self.hurried() if hurry else nullcontext():
            return await self._wait(reached, seconds)

    async def _wait(self, reached: Callable[[], bool], seconds: float) -> bool:
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((reached, future))
        end = time.monotonic() + seconds
        # Looked at once more after the entry, for a commit just before it; then by wake-ups, and slowly besides,
        # because another process may have moved.
        while not future.done() and (left := end - time.monotonic()) > 0:
            if reached():
                future.set_result(None)
            else:
                await asyncio.wait([future], timeout=min(left, 0.5))
        if not future.done():
            future.cancel()
            return False
        return True


class NeighbourCarrier:
    """Carrier of the embedded form: reads the log next door into the inbox, in batches, unchanged."""

    def __init__(self, log: EventLog, neighbours: Sequence[EventLog]) -> None:
        self._log = log
        self._neighbours = neighbours
        self._carried: dict[str, int] = {}

    def step(self) -> bool:
        """Carry up to 500 records of each neighbour; says whether there were any."""
        found = False
        for source in self._neighbours:
            carried = self._carried.get(source.service)
            if carried is None:
                carried = self._log.query(
                    "SELECT COALESCE(MAX(position), 0) FROM inbox WHERE source = ? AND epoch = ?",
                    source.service,
                    source.epoch,
                )[0][0]
            rows = source.after(carried)
            if rows:
                self._log.submit(Insert(source.service, tuple(rows))).result()
                carried = rows[-1].position
                found = True
            self._carried[source.service] = carried
        return found


@dataclass
class _Flight:
    """Writes under way in one pass of the reactions."""

    futures: list[tuple[Unread, Future[Any]]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


class ReactionFollower:
    """Runs a service's reactions over its inbox, each event's acts and mark in one write."""

    def __init__(self, service: Service, log: EventLog, facts: Callable[[Recorded], Any]) -> None:
        self._service = service
        self._log = log
        self._facts = facts
        self._since: dict[str, float] = {}
        self._fails: dict[tuple[str, int, int], int] = {}
        self.reload()

    def reload(self) -> None:
        """Forget what is in memory; the database says what is waiting, parked and marked."""
        self._marks = self._log.marks()
        self._scanned = 0
        self._held: dict[str, list[Unread]] = {}
        self._gaps: dict[tuple[str, int, int], dict[int, Unread]] = {}
        parked = self._log.query(f"SELECT key, MIN(seq) FROM inbox WHERE {PARKED_ROWS} GROUP BY key")  # noqa: S608
        self._parked: dict[str, int] = {row[0]: row[1] for row in parked}
        self._replays = self._log.replays()

    def step(self) -> bool:
        """Work through up to 200 waiting records; says whether there were any."""
        if self._log.replays() != self._replays:
            # Before anything else: a row behind a key that was given back must not be parked behind it.
            self.reload()
        rows = self._log.inbox("state = 'waiting' AND seq > ? ORDER BY seq LIMIT 200", self._scanned)
        held = [row for waiting in self._held.values() for row in waiting]
        if not rows and self._gaps and self._log.marks() != self._marks:
            # Another process has filled the hole.
            self.reload()
            return True
        if not rows and not held:
            return False
        self._held = {}
        flight = _Flight()
        try:
            for row in held:
                self._take(row, flight, advance=False)
            for row in rows:
                self._scanned = row.seq
                self._arrive(row, flight)
            self._land(flight)
        except (Lost, IdReused) as error:
            # A stream or a mark moved meanwhile, or a parked row was given back: look again at what is waiting.
            logger.debug("reactions look again", service=self._service.name, cause=str(error))
            self._drain(flight)
            self.reload()
            return True
        except BaseException:
            self._drain(flight)
            self.reload()
            raise
        return bool(rows)

    def _arrive(self, row: Unread, flight: _Flight) -> None:
        slot = (row.source, row.epoch, row.slot)
        if row.source == self._service.name:
            # Own events with a reaction got their row in the append's transaction: nothing can be missing.
            self._take(row, flight, advance=False)
            return
        mark = self._marks.get(slot, 0)
        if row.position <= mark:
            self._take(row, flight, advance=False)
        elif row.prev != mark:
            self._gaps.setdefault(slot, {})[row.prev] = row
            metrics.CHAIN_HOLES.labels(self._service.name, row.source).inc()
        else:
            following: Unread | None = row
            while following is not None:
                self._marks[slot] = following.position
                self._take(following, flight, advance=True)
                following = self._gaps.get(slot, {}).pop(following.position, None)

    def _take(self, row: Unread, flight: _Flight, *, advance: bool) -> None:
        if row.seq > self._parked.get(row.key, row.seq):
            self._mark(row, flight, "parked", advance, "behind a parked event of the same key")
            return
        if row.key in self._held:
            self._hold(row, flight, advance)
            return
        reaction = self._service.reactions.by_type.get(row.type)
        if reaction is None:
            self._mark(row, flight, "done" if row.type in event_types() else "unknown", advance)
            return
        if row.key in flight.keys:
            self._land(flight)
        try:
            recorded = decode(row)
            with self._facts(recorded) as facts:
                acts = reaction(recorded, facts)
                state, why = "done", None
                try:
                    commands = self._decide(acts, recorded, row.type)
                except Refused as refusal:
                    after = self._service.reactions.after_refusal.get(row.type)
                    metrics.REACTIONS_REFUSED.labels(self._service.name, row.type, refusal.rule).inc()
                    logger.info("reaction refused", service=self._service.name, type=row.type, rule=refusal.rule)
                    state, why = "refused", f"{refusal.rule}: {refusal.en}"
                    acts = after(recorded, facts, refusal) if after is not None else []
                    commands = self._decide(acts, recorded, row.type + "/refused")
        except UnknownType:
            self._mark(row, flight, "unknown", advance)
        except Wait as waiting:
            self._wait(row, flight, advance, str(waiting))
        except Exception as error:
            self._fail(row, flight, advance, error)
        else:
            self._since.pop(row.key, None)
            self._settle_marks(flight)
            mark = Mark(row.source, row.epoch, row.position, row.slot, row.prev, state, advance, why)
            flight.futures.append((row, self._log.submit(Write(commands, mark))))
            flight.keys.add(row.key)

    def _decide(self, acts: Sequence[Act], recorded: Recorded, reaction: str) -> tuple[Any, ...]:
        return tuple(
            prepare(self._log, act, derived_id(recorded.id, reaction, ordinal), recorded.id, cause=recorded)
            for ordinal, act in enumerate(acts)
        )

    def _wait(self, row: Unread, flight: _Flight, advance: bool, why: str) -> None:
        since = self._since.setdefault(row.key, time.monotonic())
        if time.monotonic() - since > WAIT_SECONDS:
            self._park(row, flight, advance, f"waited {WAIT_SECONDS:.0f} s: {why}")
        else:
            self._hold(row, flight, advance)

    def _hold(self, row: Unread, flight: _Flight, advance: bool) -> None:
        self._held.setdefault(row.key, []).append(row)
        if advance:
            self._mark(row, flight, "waiting", advance)

    def _fail(self, row: Unread, flight: _Flight, advance: bool, error: Exception) -> None:
        name = (row.source, row.epoch, row.position)
        self._fails[name] = self._fails.get(name, 0) + 1
        detail = f"{type(error).__name__}: {error}"[:500]
        logger.warning("reaction failed", service=self._service.name, type=row.type, error=detail)
        if self._fails[name] < TRIES and not isinstance(error, ValueError):
            self._hold(row, flight, advance)
        else:
            self._fails.pop(name, None)
            self._park(row, flight, advance, detail)

    def _park(self, row: Unread, flight: _Flight, advance: bool, why: str) -> None:
        self._parked[row.key] = min(row.seq, self._parked.get(row.key, row.seq))
        self._since.pop(row.key, None)
        metrics.PARKED.labels(self._service.name, "reactions").inc()
        logger.error("parked", service=self._service.name, type=row.type, position=row.position, cause=why)
        self._mark(row, flight, "parked", advance, why)

    def _mark(self, row: Unread, flight: _Flight, state: str, advance: bool, error: str | None = None) -> None:
        flight.marks.append(
            Mark(row.source, row.epoch, row.position, row.slot, row.prev, state, advance, error),
        )

    def _settle_marks(self, flight: _Flight) -> None:
        if flight.marks:
            future = self._log.submit(Settle(tuple(flight.marks)))
            flight.marks = []
            flight.futures.append((_NOTHING, future))

    def _land(self, flight: _Flight) -> None:
        """Wait for the writes under way; raises what the first failing one raised."""
        self._settle_marks(flight)
        while flight.futures:
            row, future = flight.futures.pop(0)
            future.result(timeout=60)
            if row is not _NOTHING:
                metrics.REACTIONS_DONE.labels(self._service.name, row.type).inc()
        flight.keys.clear()

    def _drain(self, flight: _Flight) -> None:
        for _, future in flight.futures:
            future.exception(timeout=60)


_NOTHING = Unread("", 0, 0, 0, 0, "", "", None, b"")


class ViewsFollower:
    """Folds a service's views, each with marks of its own, all that is new in one transaction."""

    def __init__(
        self, service: str, views: Sequence[View], log: EventLog, store: ViewStore, progress: Progress
    ) -> None:
        self._service = service
        self._views = tuple(views)
        self._log = log
        self._store = store
        self._progress = progress
        self._generation: dict[str, int] = {}
        self._ahead = 0
        """Up to which ``seq`` the inbox is read while a hole holds the scan: other slots must not stop with it."""
        self._reference_moved = False
        self.on_directory: Callable[[], None] = lambda: None

    def step(self) -> bool:
        """Fold up to 500 own and 500 foreign records into every view that lacks them; says whether there were any."""
        if not self._generation:
            self._read_marks()
        own = self._log.after(self._low(self._service))
        since = max(self._low(INBOX), self._ahead)
        foreign = self._log.inbox("seq > ? ORDER BY seq LIMIT 500", since)
        more, self._ahead = len(foreign) == 500, 0
        if not own and not foreign:
            return False
        try:
            with self._store.write() as db, gathered(db):
                moved = self._fold_all(db, own, foreign, since, careful=False)
        except Exception as error:
            logger.warning("fold failed", service=self._service, error=f"{type(error).__name__}: {error}"[:500])
            with self._store.write() as db:
                moved = self._fold_all(db, own, foreign, since, careful=True)
        advanced = False
        for name, marks in moved.items():
            if marks is not None:
                advanced = advanced or bool(marks)
                self._progress.views[name] = {**self._progress.views[name], **marks}
        if self._reference_moved:
            self._reference_moved = False
            self.on_directory()
        self._progress.moved()
        metrics.VIEW_RECORDS.labels(self._service).inc(len(own) + len(foreign))
        self._ahead = foreign[-1].seq if more else 0
        return advanced or more

    def _read_marks(self) -> None:
        with self._store.read() as db:
            for view in self._views:
                generation = self._store.pointer(db, view)[0]
                self._progress.views[view.name] = self._store.marks(db, view, generation)
                self._generation[view.name] = generation
        self.on_directory()

    def _low(self, source: str) -> int:
        """From where to read: the lowest scan of all views."""
        lows = [self._progress.views[view.name].get((source, 0, SCAN), 0) for view in self._views]
        return min(lows, default=0)

    def _fold_all(
        self, db: Connection, own: Sequence[Unread], foreign: Sequence[Unread], since: int, *, careful: bool
    ) -> dict[str, Marks | None]:
        generations = self._store.generations(db)
        scans = self._store.scans(db)
        parked: dict[str, set[str]] = {}
        for row in db.execute(_PARKED_KEYS):
            parked.setdefault(row.view, set()).add(row.key)
        for view in self._views:
            known = self._progress.views[view.name]
            if any(
                scans.get((view.name, generations[view.name], source), 0) != known.get((source, 0, SCAN), 0)
                for source in (self._service, INBOX)
            ):
                # Another follower, or a swap, has moved the marks: compare and set, never fold twice.
                self._generation[view.name] = 0
        return {
            view.name: self._fold(
                db, view, generations[view.name], own, foreign, since, parked.get(view.name, set()), careful=careful
            )
            for view in self._views
        }

    def _fold(
        self,
        db: Connection,
        view: View,
        generation: int,
        own: Sequence[Unread],
        foreign: Sequence[Unread],
        since: int,
        parked: set[str],
        *,
        careful: bool,
    ) -> Marks | None:
        if generation != self._generation[view.name]:
            # Rebuilt and swapped, or moved by another follower: go on from the marks that stand there.
            self._generation[view.name] = generation
            self._progress.views[view.name] = self._store.marks(db, view, generation)
            self._reference_moved = self._reference_moved or view.name == DIRECTORY.name
            return None
        marks = self._progress.views[view.name]
        taken, new = select_rows(view, self._service, marks, own, foreign, since=since)
        fold_rows(db, self._store, view, generation, taken, careful=careful, parked=parked)
        if view.name == DIRECTORY.name and any(row.type in REFERENCE_TYPES for row in taken):
            self._reference_moved = True
        if new:
            self._store.set_marks(db, view, generation, new)
        return new


def select_rows(
    view: View, service: str, marks: Marks, own: Sequence[Unread], foreign: Sequence[Unread], *, since: int = 0
) -> tuple[list[Unread], Marks]:
    """The records that a view takes next, and its marks after them; a slot with a hole in its chain stands still.

    ``since`` is the ``seq`` after which ``foreign`` was read, where that lies beyond the view's scan.
    """
    taken: list[Unread] = []
    new: Marks = {}
    scan = marks.get((service, 0, SCAN), 0)
    mine = [row for row in own if row.position > scan]
    if mine:
        new[service, 0, SCAN] = mine[-1].position
        if service in view.sources:
            taken.extend(mine)
    scan = marks.get((INBOX, 0, SCAN), 0)
    stopped = since > scan
    for row in foreign:
        if row.seq <= scan:
            continue
        slot = (row.source, row.epoch, row.slot)
        mark = new.get(slot, marks.get(slot, 0))
        if row.source == service or row.source not in view.sources or row.position <= mark:
            pass
        elif row.prev == mark:
            taken.append(row)
            new[slot] = row.position
        else:
            # The records behind the hole are read again once it is filled: the scan must not pass them.
            stopped = True
        if not stopped:
            new[INBOX, 0, SCAN] = row.seq
    return taken, new


def fold_rows(
    db: Connection,
    store: ViewStore,
    view: View,
    generation: int,
    rows: Sequence[Unread],
    *,
    careful: bool,
    label: str | None = None,
    parked: set[str] | None = None,
) -> None:
    """Fold records into one generation; ``careful`` parks what fails, in order of its key, instead of raising.

    A type that this release does not know concerns no view of it; a newer version of a known one is parked until an
    upgrade. ``label`` is the name under which parked records stand (a rebuild's own until it is swapped in);
    ``parked`` the keys that stand so already, where the caller has read them.
    """
    tables = store.tables(view, generation)
    label = label or view.name
    if parked is None:
        parked = {row.key for row in db.execute(_PARKED_KEYS) if row.view == label}
    for row in rows:
        if row.key in parked:
            park_in_view(db, label, row, "behind a parked event of the same key")
            continue
        try:
            if careful:
                with db.begin_nested():
                    view.fold(db, tables, decode(row))
            else:
                view.fold(db, tables, decode(row))
        except Exception as error:
            if isinstance(error, UnknownType) and row.type not in event_types():
                continue
            if not careful:
                raise
            parked.add(row.key)
            metrics.PARKED.labels(view.name, "view").inc()
            logger.error("parked", view=view.name, type=row.type, position=row.position, cause=str(error)[:500])
            park_in_view(db, label, row, f"{type(error).__name__}: {error}"[:500])


_PARKED_KEYS = select(PARKED.c.view, PARKED.c.key)


def park_in_view(db: Connection, label: str, row: Unread, why: str) -> None:
    """Note a record that a view could not fold."""
    upsert(
        db,
        PARKED,
        {
            "view": label,
            "source": row.source,
            "epoch": row.epoch,
            "position": row.position,
            "key": row.key,
            "error": why,
        },
    )


__all__ = ["Facts", "Loop", "NeighbourCarrier", "Progress", "ReactionFollower", "Unavailable", "ViewsFollower"]
