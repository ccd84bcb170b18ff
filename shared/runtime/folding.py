"""The views' follower: folds what is new into every view of a service, effect and marks in one transaction.

A slot is taken only while the chain of its previous positions is whole; what fails is parked in order of its key while
other keys go on. A rebuild folds through the same functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy import Connection, func, select

from shared.contracts.envelope import UnknownType, event_types
from shared.runtime import logs, metrics, tracing
from shared.runtime.declare import View
from shared.runtime.directory import DIRECTORY, REFERENCE_TYPES
from shared.runtime.jobs import Unread
from shared.runtime.log import EventLog, decode
from shared.runtime.loops import Progress
from shared.runtime.views import PARKED, SCAN, Marks, ViewStore, begins_epoch, gathered, store_is_down, upsert

INBOX = "inbox"
"""Name under which a view's marks note how far the inbox is read."""

logger = structlog.get_logger("maru.follow")


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
        self._lives = (0, 0)
        """On which connections of the log and of the store the marks in memory were written or read."""
        self._ahead = 0
        """Up to which ``seq`` the inbox is read while a hole holds the scan: other slots must not stop with it."""
        self._reference_moved = False
        self.on_directory: Callable[[], None] = lambda: None

    def step(self) -> bool:
        """Fold up to 500 own and 500 foreign records into every view that lacks them; says whether there were any."""
        if not self._generation or self._log.life != self._lives[0]:
            self._read_marks()
        own = self._log.after(self._low(self._service))
        since = max(self._low(INBOX), self._ahead)
        foreign = self._log.inbox("seq > ? ORDER BY seq LIMIT 500", since)
        more, self._ahead = len(foreign) == 500, 0
        if not own and not foreign:
            return False
        try:
            moved = self._fold_new(own, foreign, since)
        except BaseException:
            # Whether it was stored is unknown where the connection was lost: the database says how far it is.
            self._generation = {}
            raise
        advanced = False
        for name, marks in moved.items():
            # Those that were read anew may lack what the others have.
            advanced = advanced or marks is None or bool(marks)
            if marks is not None:
                self._progress.views[name] = {**self._progress.views[name], **marks}
        if self._reference_moved:
            self._reference_moved = False
            self.on_directory()
        self._progress.moved()
        metrics.VIEW_RECORDS.labels(self._service).inc(len(own) + len(foreign))
        self._ahead = foreign[-1].seq if more else 0
        return advanced or more

    def _read_marks(self) -> None:
        self._lives = (self._log.life, self._store.life)
        self._ahead = 0
        with self._store.read() as db:
            generations = {view.name: self._store.pointer(db, view)[0] for view in self._views}
            for view in self._views:
                self._progress.views[view.name] = self._store.marks(db, view, generations[view.name])
        self._generation = generations
        self.on_directory()

    def _fold_new(self, own: Sequence[Unread], foreign: Sequence[Unread], since: int) -> dict[str, Marks | None]:
        try:
            with self._store.write() as db, gathered(db):
                return self._fold_all(db, own, foreign, since, careful=False)
        except Exception as error:
            if store_is_down(error, self._log.database.dialect):
                raise
            logger.warning("fold failed", service=self._service, error=logs.cause(error))
        with self._store.write() as db:
            return self._fold_all(db, own, foreign, since, careful=True)

    def _low(self, source: str) -> int:
        """From where to read: the lowest scan of all views."""
        lows = [self._progress.views[view.name].get((source, 0, SCAN), 0) for view in self._views]
        return min(lows, default=0)

    def _fold_all(
        self, db: Connection, own: Sequence[Unread], foreign: Sequence[Unread], since: int, *, careful: bool
    ) -> dict[str, Marks | None]:
        stands = self._store.scans(db)
        generations = stands.generations
        parked: dict[str, set[str]] = {}
        for row in db.execute(_PARKED_KEYS) if stands.parked else ():
            parked.setdefault(row.view, set()).add(row.key)
        if self._store.life != self._lives[1]:
            # What an earlier connection wrote may be gone: the marks are read again before anything is folded on them.
            self._lives = (self._lives[0], self._store.life)
            self._generation = dict.fromkeys(self._generation, 0)
        for view in self._views:
            known = self._progress.views[view.name]
            if any(
                stands.scans.get((view.name, source), 0) != known.get((source, 0, SCAN), 0)
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
        elif row.prev == mark or begins_epoch({**marks, **new}, *slot, row.prev):
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
            started = time.time()
            if careful:
                with db.begin_nested():
                    view.fold(db, tables, decode(row))
            else:
                view.fold(db, tables, decode(row))
            if row.trace is not None:
                tracing.since(f"view {view.name}", row.trace, started)
        except Exception as error:
            if isinstance(error, UnknownType) and row.type not in event_types():
                continue
            if not careful or store_is_down(error, db.dialect.name):
                raise
            parked.add(row.key)
            metrics.PARKED.labels(view.name, "view").inc()
            told = {"view": view.name, "type": row.type, "position": row.position, "trace": row.trace}
            logger.error("parked", cause=logs.cause(error), **told)
            park_in_view(db, label, row, f"{type(error).__name__}: {error}"[:500])


def parked_records(db: Connection) -> dict[str, int]:
    """View → how many records are parked in it."""
    return {row.view: row.records for row in db.execute(_PARKED_RECORDS)}


_PARKED_RECORDS = select(PARKED.c.view, func.count().label("records")).group_by(PARKED.c.view)
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
