"""The system, run so that it dies by SIGKILL at a named point; the product has no switch for it.

``run`` is the target of a process of its own. It wraps what the points pass through, starts the system on a folder,
tells its URL, and then follows orders: ``("arm", point, n)`` makes the n-th passing of that point from now on the last
thing this process does; ``("rebuild", point, n)`` and ``("import", point, n)`` also begin such a piece of work here.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from services.__main__ import SERVICES
from services.client import Maru
from services.importing import import_file
from shared.runtime import batch, folding, follow, jobs, log, logs, rebuild, settings, views
from shared.runtime.system import System, opened

BEFORE_APPEND = "before append"
AFTER_APPEND = "after append, before the reply"
BETWEEN = "between inbox and reaction"
FOLD = "in a fold"
SWAP = "in a rebuild's swap"
IMPORT = "in an import"

Order = tuple[str, str, int]


class Fuse:
    """Burns down with each passing of the armed point."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._point, self._left = "", 0

    def arm(self, point: str, passings: int) -> None:
        """From now on the given passing of the point is the last."""
        with self._lock:
            self._point, self._left = point, passings

    def passes(self, point: str) -> None:
        """The process is at a point; it may end here."""
        with self._lock:
            if point != self._point:
                return
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


FUSE = Fuse()


class FusedFuture(Future[Any]):
    """A future of the log: its result comes after COMMIT and before the reply."""

    def set_result(self, result: Any) -> None:
        """The commands are stored, nobody knows it yet."""
        if isinstance(result, tuple) and any(isinstance(answer, jobs.Answer) for answer in result):
            FUSE.passes(AFTER_APPEND)
        super().set_result(result)


def wrap() -> None:
    """Let each named point burn the fuse."""
    flush, take, fold = batch.Batch.flush, follow.ReactionFollower._take, folding.fold_rows
    checksum, drop, send = rebuild.checksum, views.ViewStore.drop_generation, Maru.send

    def flush_and_pass(batch: batch.Batch) -> None:
        flush(batch)
        if batch.events:
            FUSE.passes(BEFORE_APPEND)

    def pass_and_take(follower: follow.ReactionFollower, row: jobs.Unread, *args: Any, **named: Any) -> None:
        if row.type in follower._service.reactions.by_type:
            FUSE.passes(BETWEEN)
        take(follower, row, *args, **named)

    def fold_and_pass(db: Any, store: Any, view: Any, generation: int, rows: Sequence[Any], **named: Any) -> None:
        fold(db, store, view, generation, rows, **named)
        if rows:
            FUSE.passes(FOLD)

    def pass_and_checksum(*args: Any) -> str:
        FUSE.passes(SWAP)
        return checksum(*args)

    def pass_and_drop(*args: Any) -> None:
        FUSE.passes(SWAP)
        drop(*args)

    def send_and_pass(*args: Any, **named: Any) -> Any:
        answer = send(*args, **named)
        FUSE.passes(IMPORT)
        return answer

    for owner, name, wrapped in (
        (log, "Future", FusedFuture),
        (batch.Batch, "flush", flush_and_pass),
        (follow.ReactionFollower, "_take", pass_and_take),
        (folding, "fold_rows", fold_and_pass),
        (rebuild, "checksum", pass_and_checksum),
        (views.ViewStore, "drop_generation", pass_and_drop),
        (Maru, "send", send_and_pass),
    ):
        assert hasattr(owner, name)
        setattr(owner, name, wrapped)


def run(folder: Path, journal: Path, orders: Connection) -> None:
    """The life of one process, until it is killed or its orders end."""
    logs.configure("error")
    wrap()
    with opened(SERVICES, settings.load(data=folder, port=0)) as system:
        url = system.serve()
        orders.send(url)
        while (order := _next(orders)) is not None:
            what, point, passings = order
            FUSE.arm(point, passings)
            if what == "rebuild":
                _rebuild(system, "issues", "register")
            elif what == "import":
                with Maru(url, journal) as maru:
                    import_file(maru, system.settings.reference / "suggestions-2023.csv")


def _next(orders: Connection) -> Order | None:
    try:
        order: Order | None = orders.recv()
    except EOFError:
        return None
    return order


def _rebuild(system: System, service: str, view: str) -> None:
    hosted = system.service(service)
    wanted = next(one for one in hosted.views if one.name == view)
    rebuild.rebuild(hosted.log, hosted.store, wanted)
