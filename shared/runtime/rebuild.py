"""A view from zero beside the old one, and the swap, while readers read and the follower goes on.

Works from another process than the follower's: the pointer to the current generation is a row of the views' file, which
everybody reads in the transaction of what he does.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, delete, select, update

from shared.runtime import logs
from shared.runtime.declare import Tables, View
from shared.runtime.folding import INBOX, fold_rows, select_rows
from shared.runtime.jobs import Unread
from shared.runtime.log import EventLog
from shared.runtime.views import MARK, PARKED, POINTER, SCAN, Marks, RebuildRunning, ViewStore, gathered

__all__ = ["CannotRebuild", "RebuildRunning", "Rebuilt", "build_new_versions", "checksum", "rebuild"]

PAGE = 1000
"""Events in one commit at most: the follower waits no longer than that."""
PAUSE = 0.01
"""Between commits, in seconds: SQLite's write lock is not fair, this lets the follower in."""

logger = structlog.get_logger("maru.rebuild")

Told = Callable[[int, int], None]
"""Progress: events folded, events in all."""


class CannotRebuild(Exception):
    """Log and inbox no longer hold what the view was made from: the old one stays."""


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild did. The checksums are of one moment; ``old_checksum`` is ``None`` where the version changed."""

    view: str
    events: int
    seconds: float
    old_generation: int
    generation: int
    old_checksum: str | None
    checksum: str


def rebuild(log: EventLog, store: ViewStore, view: View, told: Told = lambda done, total: None) -> Rebuilt:
    """Fold a view anew from own log and inbox, swap it in, and drop the old one.

    What was parked in the view is folded again too. Killed at any point it leaves the old view as it was; the next
    rebuild removes the rest. Raises ``RebuildRunning`` and ``CannotRebuild``.
    """
    with store.alone_with(view):
        started = time.monotonic()
        drop_orphans(store, view)
        building = _Building(log, store, view, store.new_generation(view), told)
        try:
            building.catch_up()
            old_generation, old_checksum, new_checksum = building.swap()
        except BaseException:
            with suppress(Exception):
                store.drop_generation(view, building.generation)
            raise
        store.drop_generation(view, old_generation)
    logger.info("rebuilt", view=view.name, generation=building.generation, events=building.folded)
    return Rebuilt(
        view.name,
        building.folded,
        time.monotonic() - started,
        old_generation,
        building.generation,
        old_checksum,
        new_checksum,
    )


def build_new_versions(
    log: EventLog, store: ViewStore, views: Sequence[View], told: Told = lambda done, total: None
) -> list[Rebuilt]:
    """Build anew each view whose tables or fold have changed; called at start, before anybody reads.

    Also removes what an interrupted rebuild has left. Raises as ``rebuild``.
    """
    made = []
    for view in views:
        with store.read() as db:
            changed = store.pointer(db, view)[1] != view.version
        if changed:
            made.append(rebuild(log, store, view, told))
        elif orphans(store, view):
            with suppress(RebuildRunning), store.alone_with(view):
                drop_orphans(store, view)
    return made


def checksum(db: Connection, tables: Tables) -> str:
    """A digest of a view's content, whatever its generation and the order in which rows were written."""
    digest = hashlib.sha256()
    for name, table in sorted(tables.items()):
        digest.update(f"{name}\n".encode())
        columns = sorted(table.columns, key=lambda column: column.name)
        order = list(table.primary_key.columns) or columns
        for row in db.execute(select(*columns).order_by(*order)):
            digest.update(json.dumps(list(row), ensure_ascii=False, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def orphans(store: ViewStore, view: View) -> list[int]:
    """The generations that nobody points to: left by an interrupted rebuild, or those of one under way."""
    with store.read() as db:
        current = store.pointer(db, view)[0]
        ours = [re.match(rf"{re.escape(view.name)}_g(\d+)_", name) for name in store.table_names(db)]
        found = {int(match[1]) for match in ours if match is not None}
        found.update(db.execute(select(MARK.c.generation).where(MARK.c.view == view.name).distinct()).scalars())
    return sorted(found - {current})


def drop_orphans(store: ViewStore, view: View) -> None:
    """Remove every generation that nobody points to; only for whoever is alone with the view."""
    for generation in orphans(store, view):
        store.drop_generation(view, generation)


class _Building:
    """One generation on its way from zero to where the old one stands."""

    def __init__(self, log: EventLog, store: ViewStore, view: View, generation: int, told: Told) -> None:
        self._log, self._store, self._view, self._told = log, store, view, told
        self.generation = generation
        self.folded = 0
        self._label = f"{view.name}@{generation}"
        self._marks: Marks = {}
        self._inbox_at = 0
        own = log.query("SELECT COUNT(*) FROM stored_events")[0][0] if log.service in view.sources else 0
        heard = log.query("SELECT source, COUNT(*) FROM inbox WHERE source <> ? GROUP BY source", log.service)
        self._total: int = own + sum(count for source, count in heard if source in view.sources)

    def catch_up(self) -> None:
        """Fold page by page, each in a commit of its own, until there is nothing more."""
        before = -1
        while before != self.folded:
            before = self.folded
            self._inbox_at = self._marks.get((INBOX, 0, SCAN), 0)
            while self._commit_page():
                self._told(self.folded, max(self._total, self.folded))
                time.sleep(PAUSE)

    def _commit_page(self) -> bool:
        try:
            with self._store.write() as db, gathered(db):
                page = self._fold_page(db, careful=False)
        except Exception as error:
            logger.warning("fold failed", view=self._view.name, error=logs.cause(error))
            with self._store.write() as db:
                page = self._fold_page(db, careful=True)
        return self._keep(page)

    def _fold_page(self, db: Connection, *, careful: bool) -> tuple[int, Marks, int, int]:
        """Fold the next page; gives the number of records read, new marks, records folded and the last ``seq`` read."""
        old = self._bound(db)
        service = self._log.service
        own = self._log.after(self._marks.get((service, 0, SCAN), 0), PAGE)
        if old is not None:
            own = [row for row in own if row.position <= old.get((service, 0, SCAN), 0)]
        foreign = self._log.inbox("seq > ? ORDER BY seq LIMIT ?", self._inbox_at, PAGE - len(own))
        read = len(own) + len(foreign)
        last_seq = foreign[-1].seq if foreign else self._inbox_at
        if old is not None:
            foreign = [row for row in foreign if self._is_in(row, old)]
        taken, new = select_rows(self._view, service, self._marks, own, foreign, since=self._inbox_at)
        if old is not None and (INBOX, 0, SCAN) in new:
            new[INBOX, 0, SCAN] = min(new[INBOX, 0, SCAN], old.get((INBOX, 0, SCAN), 0))
        fold_rows(db, self._store, self._view, self.generation, taken, careful=careful, label=self._label)
        if new:
            self._store.set_marks(db, self._view, self.generation, new)
        moved = bool(new) or last_seq > self._inbox_at
        return (read if moved else 0), new, len(taken), last_seq

    def _keep(self, page: tuple[int, Marks, int, int]) -> bool:
        read, new, folded, self._inbox_at = page
        self._marks.update(new)
        self.folded += folded
        return read > 0

    def _bound(self, db: Connection) -> Marks | None:
        """How far to go: not beyond the old generation, so that both can be compared; no bound for a new version."""
        generation, version = self._store.pointer(db, self._view)
        return self._store.marks(db, self._view, generation) if version == self._view.version else None

    def _is_in(self, row: Unread, old: Marks) -> bool:
        return row.seq <= old.get((INBOX, 0, SCAN), 0) or row.position <= old.get((row.source, row.epoch, row.slot), 0)

    def swap(self) -> tuple[int, str | None, str]:
        """Fold what is still missing and flip the pointer, in one write transaction: nobody folds meanwhile.

        Gives the old generation and both checksums.
        """
        view, store = self._view, self._store
        with store.write() as db:
            old_generation, version = store.pointer(db, view)
            old = store.marks(db, view, old_generation)
            before = -1
            while before != self.folded:
                before = self.folded
                self._inbox_at = self._marks.get((INBOX, 0, SCAN), 0)
                while self._keep(self._fold_page(db, careful=True)):
                    pass
            for (source, epoch, slot), position in old.items():
                heard = slot == SCAN or source in view.sources
                if heard and self._marks.get((source, epoch, slot), 0) < position:
                    raise CannotRebuild(
                        f"The view {view.name} stands at {source}:{epoch}:{slot}:{position}, which log and inbox no "
                        f"longer reach: the old one stays. Run maru verify."
                    )
            old_checksum = None
            if version == view.version:
                old_checksum = checksum(db, store.tables(view, old_generation))
            new_checksum = checksum(db, store.tables(view, self.generation))
            db.execute(delete(PARKED).where(PARKED.c.view == view.name))
            db.execute(update(PARKED).where(PARKED.c.view == self._label).values(view=view.name))
            db.execute(
                update(POINTER)
                .where(POINTER.c.view == view.name)
                .values(generation=self.generation, version=view.version)
            )
        self._told(self.folded, self.folded)
        return old_generation, old_checksum, new_checksum
