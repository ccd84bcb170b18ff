"""The embedded form: all services in one process on one folder. Opens, migrates, seeds, starts, serves, stops."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import structlog
from fastapi import FastAPI

from shared.runtime import metrics
from shared.runtime.access import Issuer, PolicyTable
from shared.runtime.app import build
from shared.runtime.cursors import Cursors
from shared.runtime.databases import Databases
from shared.runtime.declare import Service
from shared.runtime.effects import opened as effects_opened
from shared.runtime.folding import INBOX, parked_records
from shared.runtime.hosted import Hosted, wait_idle
from shared.runtime.http import Gateways
from shared.runtime.jobs import PARKED_ROWS
from shared.runtime.loops import Pressure
from shared.runtime.settings import Settings
from shared.runtime.web import CannotStart, HttpServer

SILENT_SECONDS = 30.0
"""A loop that has not turned for so long is not ready."""

URL_FILE = "maru.url"
"""Where a running system notes its address, for the commands of the same folder."""

logger = structlog.get_logger("maru.system")


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Only one ``up`` a folder. Raises ``CannotStart`` (4: not writable, 6: another one runs)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file: IO[str] = (folder / "maru.lock").open("a")
    except OSError as error:
        raise CannotStart(f"The folder {folder} cannot be written: {error.strerror}.", 4) from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStart(f"Another maru is running on {folder}.", 6) from None
        yield
    finally:
        file.close()


def running_url(folder: Path) -> str | None:
    """The address of the system that runs on a folder, if one does."""
    note = folder / URL_FILE
    if not note.exists():
        return None
    try:
        with folder_lock(folder):
            # Nobody runs here: the note is what a killed process has left.
            return None
    except CannotStart:
        return note.read_text() or None


def migrate(services: Sequence[Service], place: Databases | Path) -> None:
    """Make every table. Safe to repeat."""
    for service in services:
        Databases.at(place).migrate(service)


def seed(hosted: Sequence[Hosted], settings: Settings, told: Callable[[str, str], None] | None = None) -> int:
    """Load the reference data; gives the number of new acts. ``told`` hears each row, and new, known or changed."""
    at = datetime.fromisoformat(settings.start)
    new = 0
    for one in hosted:
        for external, what in one.seed(settings.reference, at):
            new += what == "new"
            if what == "changed":
                logger.warning("reference row changed after it was loaded", row=external)
            if told is not None:
                told(external, what)
        service = one.service
        if service.load_mutable is not None:
            store = one.databases.mutable(service.name)
            with store.write() as db:
                service.load_mutable(db, settings.reference)
            store.close()
    return new


class System:
    """All services of the embedded form on one folder."""

    def __init__(self, services: Sequence[Service], settings: Settings) -> None:
        """Open what ``migrate`` has made. Raises ``OtherVersion``."""
        self.settings = settings
        self.folder = settings.data
        self.issuer = Issuer(self.folder, settings.issuer, settings.audience, settings.token_hours)
        pressure = Pressure()
        self.hosted = [
            Hosted(service, Databases.of(settings), pressure, effects_opened(service, settings)) for service in services
        ]
        secret = settings.cursor_key
        self.gateways = Gateways(
            self.hosted,
            self.issuer.verifier(),
            PolicyTable.read(settings.reference / "policy"),
            Cursors(self.issuer.cursor_key if secret is None else secret.get_secret_value()),
            development=True,
            wait_seconds=settings.wait_seconds,
        )
        self._probe = metrics.Probe(self._gauges)
        self._server: HttpServer | None = None
        self.url = ""

    def service(self, name: str) -> Hosted:
        """One of the services by name."""
        return next(hosted for hosted in self.hosted if hosted.name == name)

    def start(self) -> None:
        """Start every loop."""
        # Each statement on a database gives the interpreter away, and getting it back takes up to an interval: with the
        # default 5 ms a command would wait longer than it works while followers are busy.
        sys.setswitchinterval(0.001)
        for hosted in self.hosted:
            hosted.start(self.hosted)

    def seed(self, told: Callable[[str, str], None] | None = None) -> int:
        """Load the reference data; gives the number of new acts."""
        return seed(self.hosted, self.settings, told)

    def idle(self, seconds: float = 30) -> bool:
        """Wait until everything stored is carried, answered and folded."""
        return wait_idle(self.hosted, seconds)

    def app(self) -> FastAPI:
        """The HTTP application of every gateway."""
        return build(self.gateways, self.not_ready, self._probe, self.issuer)

    def serve(self) -> str:
        """Listen in a thread of its own; gives the URL. Raises ``CannotStart`` (3) where the port is taken."""
        self._server = HttpServer(self.app(), self.settings.host, self.settings.port)
        self._server.start()
        self.url = self._server.url
        (self.folder / URL_FILE).write_text(self.url)
        return self.url

    def stop(self) -> None:
        """Stop listening, end the loops, close the files."""
        if self._server is not None:
            self._server.stop()
            (self.folder / URL_FILE).unlink(missing_ok=True)
        self.gateways.commands.stop()
        self.gateways.reads.stop()
        for hosted in self.hosted:
            hosted.end()
        for hosted in self.hosted:
            hosted.stop()

    def not_ready(self) -> list[str]:
        """What is not in order: loops that do not turn."""
        return silent_loops(self.hosted)

    def _gauges(self) -> Iterator[metrics.Reading]:
        for hosted in self.hosted:
            yield from gauges(hosted)


def silent_loops(hosted: Sequence[Hosted]) -> list[str]:
    """The loops that have not turned for too long."""
    now = time.monotonic()
    return [
        loop.name for one in hosted for loop in one.loops if not loop.is_alive() or now - loop.beat > SILENT_SECONDS
    ]


def heartbeats(hosted: Hosted) -> Iterator[metrics.Reading]:
    """When each loop of this process last turned."""
    for loop in hosted.loops:
        yield metrics.LOOP_HEARTBEAT(loop.turned_at, loop.name)


def gauges(hosted: Hosted) -> Iterator[metrics.Reading]:
    """What a service's loops and databases say, read when Prometheus asks; the loops first, for they always answer."""
    yield from heartbeats(hosted)
    name, query = hosted.name, hosted.log.query
    rows: list[tuple[Any, ...]] = query(
        "SELECT COUNT(*), COALESCE(MIN(first_seen), 0) FROM inbox WHERE state = 'waiting'"
    )
    waiting, oldest = rows[0]
    yield metrics.INBOX_WAITING(waiting, name)
    yield metrics.INBOX_OLDEST(time.time() - oldest if waiting else 0.0, name)
    yield metrics.INBOX_PARKED(query(f"SELECT COUNT(*) FROM inbox WHERE {PARKED_ROWS}")[0][0], name)  # noqa: S608
    # How far views have come is in their database: another follower may hold the lease. It is read before the ends.
    with hosted.store.read() as db:
        scans, parked = hosted.store.scans(db).scans, parked_records(db)
    last, last_inbox = hosted.log.last_position(), query("SELECT COALESCE(MAX(seq), 0) FROM inbox")[0][0]
    yield metrics.LOG_POSITION(last, name)
    for view in hosted.views:
        yield metrics.VIEW_BEHIND(max(0, last - scans.get((view.name, name), 0)), name, view.name)
        behind = max(0, last_inbox - scans.get((view.name, INBOX), 0))
        yield metrics.VIEW_INBOX_BEHIND(behind, name, view.name)
        yield metrics.VIEW_PARKED(parked.get(view.name, 0), name, view.name)
    yield from hosted.figures.read()


@contextmanager
def opened(services: Sequence[Service], settings: Settings) -> Iterator[System]:
    """A running system on its folder, alone on it; stopped at the end."""
    with folder_lock(settings.data):
        os.umask(0o077)
        migrate(services, Databases.of(settings))
        system = System(services, settings)
        try:
            system.start()
            yield system
        finally:
            system.stop()
