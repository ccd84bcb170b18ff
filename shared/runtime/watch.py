"""How far the followers of other processes have come, for a gateway that has none of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import func, select

from shared.runtime.declare import View
from shared.runtime.directory import DIRECTORY
from shared.runtime.loops import Progress
from shared.runtime.views import MARK, POINTER, Marks, ViewStore


class Watcher:
    """Reads the marks of all views from the database, and tells when the reference facts have moved."""

    def __init__(
        self, views: Sequence[View], store: ViewStore, progress: Progress, on_directory: Callable[[], None]
    ) -> None:
        self._views = tuple(views)
        self._store = store
        self._progress = progress
        self._on_directory = on_directory
        self._directory: Any = None
        self.missing: list[str] = [view.name for view in views]
        """Views of another version than this release reads: a follower is still building them."""

    def step(self) -> bool:
        """Look once; says whether anything had moved. Those who wait are asked then."""
        with self._store.read() as db:
            rows = db.execute(_MARKS).all()
            versions = {row.view: (row.version, row.generation) for row in db.execute(select(POINTER))}
            facts = self._store.tables(DIRECTORY, versions[DIRECTORY.name][1])["fact"]
            directory = db.execute(select(func.count(), func.max(facts.c.position))).one()
        marks: dict[str, Marks] = {view.name: {} for view in self._views}
        for row in rows:
            if row.view in marks:
                marks[row.view][row.source, row.epoch, row.slot] = row.position
        self.missing = [view.name for view in self._views if versions[view.name][0] != view.version]
        if (directory, versions[DIRECTORY.name]) != self._directory:
            # Before the marks: whoever has waited for one finds a directory that is no older.
            self._directory = (directory, versions[DIRECTORY.name])
            self._on_directory()
        moved = marks != self._progress.views
        self._progress.views = marks
        # Even where no mark moved: some wait for the inbox or for the log itself.
        self._progress.moved()
        return moved


_MARKS = select(MARK).join(POINTER, (POINTER.c.view == MARK.c.view) & (POINTER.c.generation == MARK.c.generation))
