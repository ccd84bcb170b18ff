"""How far the followers of other processes have come, for a gateway that has none of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from shared.runtime.declare import View
from shared.runtime.directory import DIRECTORY
from shared.runtime.log_database import WAITING, LogDatabase
from shared.runtime.loops import HURRY_SECONDS, Progress
from shared.runtime.views import MARK, POINTER, Marks, ViewStore


class Watcher:
    """Reads the marks of all views from the database, and tells when the reference facts have moved."""

    def __init__(
        self,
        views: Sequence[View],
        store: ViewStore,
        progress: Progress,
        on_directory: Callable[[], None],
        database: LogDatabase,
    ) -> None:
        self._views = tuple(views)
        self._store = store
        self._progress = progress
        self._on_directory = on_directory
        self._database = database
        self._told_at = 0.0
        self._directory: Any = None
        self._rows: Sequence[Any] = ()
        self.missing: list[str] = [view.name for view in views]
        """Views of another version than this release reads: a follower is still building them."""

    def step(self) -> bool:
        """Look once, ask those who wait, and tell the followers of them. Says that there is no more to do at once."""
        if self._progress.waiting and time.monotonic() - self._told_at > HURRY_SECONDS / 2:
            self._told_at = time.monotonic()
            self._database.notify(WAITING)
        with self._store.glance() as db:
            rows = db.execute(_MARKS).all()
            if rows != self._rows:
                self._take(db, rows)
        # Even where no mark moved: some wait for the inbox or for the log itself.
        self._progress.moved()
        return False

    def _take(self, db: Connection, rows: Sequence[Any]) -> None:
        versions = {row.name: (row.version, row.current) for row in rows}
        facts = self._store.tables(DIRECTORY, versions[DIRECTORY.name][1])["fact"]
        directory = db.execute(select(func.count(), func.max(facts.c.position))).one()
        marks: dict[str, Marks] = {view.name: {} for view in self._views}
        for row in rows:
            if row.name in marks and row.source is not None:
                marks[row.name][row.source, row.epoch, row.slot] = row.position
        self.missing = [view.name for view in self._views if versions[view.name][0] != view.version]
        if (directory, versions[DIRECTORY.name]) != self._directory:
            # Before the marks: whoever has waited for one finds a directory that is no older.
            self._directory = (directory, versions[DIRECTORY.name])
            self._on_directory()
        self._rows, self._progress.views = rows, marks


_MARKS = select(
    POINTER.c.view.label("name"),
    POINTER.c.version,
    POINTER.c.generation.label("current"),
    MARK.c.source,
    MARK.c.epoch,
    MARK.c.slot,
    MARK.c.position,
).join_from(POINTER, MARK, (POINTER.c.view == MARK.c.view) & (POINTER.c.generation == MARK.c.generation), isouter=True)
"""Every view with its version and marks; one without marks once."""
