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

LOOK_SECONDS = 0.25
"""How often the marks are read where nobody says that they have moved."""


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
        self._looked_at = 0.0
        self._stale = True
        self._directory: Any = None
        self._rows: Sequence[Any] = ()
        self._directory_rows: list[Any] = []
        self.missing: list[str] = [view.name for view in views]
        """Views of another version than this release reads: a follower is still building them."""

    def look(self) -> None:
        """Views have come further: the next step reads their marks."""
        self._stale = True

    def step(self) -> bool:
        """Look, ask those who wait, and tell the followers of them. Says that there is no more to do at once.

        The marks are many: they are read when views are said to have moved, and slowly besides: a hint may be lost.
        """
        if self._progress.waiting and time.monotonic() - self._told_at > HURRY_SECONDS / 2:
            self._told_at = time.monotonic()
            self._database.notify(WAITING)
        if self._stale or time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._stale, self._looked_at = False, time.monotonic()
            with self._store.glance() as db:
                rows = db.execute(_MARKS).all()
                if rows != self._rows:
                    self._take(db, rows)
        # Even where no mark moved: some wait for the inbox or for the log itself.
        self._progress.moved()
        return False

    def _take(self, db: Connection, rows: Sequence[Any]) -> None:
        versions = {row.name: (row.version, row.current) for row in rows}
        of_directory = [row for row in rows if row.name == DIRECTORY.name]
        directory = self._directory
        if of_directory != self._directory_rows:
            facts = self._store.tables(DIRECTORY, versions[DIRECTORY.name][1])["fact"]
            found = db.execute(select(func.count(), func.max(facts.c.position))).one()
            directory = found, versions[DIRECTORY.name]
        marks: dict[str, Marks] = {view.name: {} for view in self._views}
        for row in rows:
            if row.name in marks and row.source is not None:
                marks[row.name][row.source, row.epoch, row.slot] = row.position
        self.missing = [view.name for view in self._views if versions[view.name][0] != view.version]
        if directory != self._directory:
            # Before the marks: whoever has waited for one finds a directory that is no older.
            self._directory = directory
            self._on_directory()
        self._directory_rows = of_directory
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
