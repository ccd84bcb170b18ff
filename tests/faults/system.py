"""A full system under disturbance: what is done to it, how long it takes to recover, and whether it kept its word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg

from services.__main__ import SERVICES
from services.audit import audit
from services.audit_findings import Findings
from services.cli import app
from services.full import FullSystem, State
from services.local_processes import spawn
from services.start import Opened
from services.supervisor import Program
from shared.runtime.hosted import Hosted
from shared.runtime.settings import ROOT
from tests.faults.load import Client, Load, Tally, Work, walk
from tests.full_form import Seeded, copy_owned
from tests.proxy import Proxy

NAMES = [service.name for service in SERVICES]
LAUNCH = "tests.faults.launch"
BOUND = 300.0
"""No wait of these tests is longer, seconds."""
READY, LAG = 5.0, 15.0
"""A killed process is ready again, and its lag is gone; seconds on a quiet machine."""


def bound(seconds: float) -> float:
    """A bound of the design as it is asserted here.

    It is meant for a quiet machine, and this one runs clients, servers and fifteen processes besides, perhaps other
    people's work too: twice the time, and as many times more as there are runnable processes to a core. What was
    measured is printed.
    """
    return seconds * 2 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def until(what: Callable[[], bool], why: str, seconds: float = BOUND) -> float:
    """Wait for a state; gives the seconds that it took. Fails, saying ``why``, where it does not come."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() < started + seconds, f"{why}: not within {seconds:.0f} s"
        time.sleep(0.02)
    return time.monotonic() - started


def _start_under_launch(program: Program) -> None:
    """Start a process of the system by the command line that patches it first."""
    with program._lock:
        if not program.running:
            argv = [sys.executable, "-m", LAUNCH, *program._arguments]
            program.process = spawn(argv, program.log, ROOT, program._env)


@dataclass(frozen=True)
class Fuses:
    """Orders to processes that run under ``launch``: die at a point."""

    folder: Path

    def settings(self, name: str) -> dict[str, str]:
        """The environment of a process under that name."""
        return {"FAULTS_FOLDER": str(self.folder), "FAULTS_NAME": name}

    def arm(self, name: str, point: str, passings: int) -> None:
        """From now on the given passing of the point is the last of this process."""
        (self.folder / f"{name}.burnt").unlink(missing_ok=True)
        new = self.folder / f"{name}.new"
        new.write_text(json.dumps([point, passings]))
        new.replace(self.folder / f"{name}.armed")

    def burnt(self, name: str) -> bool:
        """Whether it has died there."""
        return (self.folder / f"{name}.burnt").exists()

    def command(self, name: str, point: str, passings: int, *arguments: str, env: Mapping[str, str]) -> bool:
        """Run a command of ``maru`` that is to die at a point; says whether it did. Fails where it failed otherwise."""
        self.arm(name, point, passings)
        argv = [sys.executable, "-m", LAUNCH, *arguments]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MARU_")}
        ran = subprocess.run(
            argv, cwd=ROOT, env={**inherited, **self.settings(name), **env}, capture_output=True, timeout=BOUND
        )
        (self.folder / f"{name}.armed").unlink(missing_ok=True)
        assert ran.returncode in (0, -signal.SIGKILL), ran.stderr.decode()
        return ran.returncode != 0


@dataclass
class Disturbed:
    """A full system, the folder of its clients' journals, and its databases open to look at."""

    full: FullSystem
    folder: Path
    opened: Opened
    journals: list[Path] = field(default_factory=list)
    routes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Settings of processes as they were before ``reroute``."""

    # Load

    def load(self, name: str, clients: int, work: Work = walk, **options: bool | float) -> Load:
        """Clients of this system; their journals count for every audit from now on."""
        made = Load(self.full.urls, self.folder, f"{len(self.journals)}-{name}", clients, work, **options)  # type: ignore[arg-type]
        self.journals += made.journals
        return made

    def client(self, name: str, tally: Tally | None = None, urls: Mapping[str, str] | None = None) -> Client:
        """One client; its journal counts for every audit from now on."""
        self.journals.append(self.folder / f"{len(self.journals)}-{name}.jsonl")
        return Client(urls or self.full.urls, self.journals[-1], tally or Tally())

    def service(self, name: str) -> Hosted:
        """A service's databases, open in this process."""
        return self.opened.service(name)

    def close(self) -> None:
        """Close the databases that are open here."""
        self.opened.__exit__(None, None, None)

    def reopen(self) -> None:
        """Open the databases again, as every process must where one was put back: what is in memory is of the past."""
        self.close()
        self.opened = self.full.opened()

    # Recovery

    def ready(self, name: str) -> bool:
        """Whether a process says that it is ready."""
        process = self.full.process(name).process
        assert isinstance(process, Program)
        return process.ready()

    def kill(self, name: str) -> float:
        """``kill -9``; gives the seconds until the process, started again, is ready."""
        started = time.monotonic()
        self.full.process(name).kill()
        until(lambda: self.ready(name), f"{name} is not ready again")
        return time.monotonic() - started

    def lag(self) -> float:
        """Seconds until everything that is stored now has been heard, answered and shown everywhere."""
        started = time.monotonic()
        heads = {name: self.service(name).log.heads() for name in NAMES}
        until(lambda: self._reached(heads), "the lag does not go")
        return time.monotonic() - started

    def _reached(self, heads: Mapping[str, Mapping[int, int]]) -> bool:
        for name in NAMES:
            hosted = self.service(name)
            marks = hosted.log.marks()
            for other in hosted.service.hears:
                epoch = self.service(other).log.epoch
                if any(marks.get((other, epoch, slot), 0) < head for slot, head in heads[other].items()):
                    return False
            last = max(heads[name].values(), default=0)
            with hosted.store.read() as db:
                scans = hosted.store.scans(db).scans
            if any(scans.get((view.name, name), 0) < last for view in hosted.views):
                return False
        return True

    def restore(self) -> None:
        """Bring everything up that a test may have left down or rerouted, and wait until it is ready."""
        for name in list(self.routes):
            self.reroute(name, None)
        for name in self.full.supervisor.names:
            process = self.full.process(name)
            process.thaw()
            if not process.wanted:
                process.bring_up()
        self.full.wait_ready(seconds=BOUND)

    def assert_clean(self, *, topics: bool = True) -> Findings:
        """Every promise holds, over databases, topics and all journals. ``topics=False`` leaves out I3 alone."""
        kafka = self.full.kafka.bootstrap if topics else None
        assert self.opened.idle(), "it does not become idle"
        found = audit(self.full.databases, self.journals, list(self.full.processes.values()), BOUND, kafka=kafka)
        assert found.outcome == "clean", found.sentence()
        return found

    # Faults

    def reroute(self, name: str, settings: Mapping[str, str] | None) -> float:
        """Start a process again with other settings, ``None``: its own; gives the seconds until it is ready."""
        supervised = self.full.process(name)
        program = supervised.process
        assert isinstance(program, Program)
        supervised.keep_down()
        own = self.routes.setdefault(name, program._env)
        program._env = own | dict(settings or {})
        if settings is None:
            del self.routes[name]
        started = time.monotonic()
        supervised.bring_up()
        until(lambda: self.ready(name), f"{name} is not ready with other settings")
        return time.monotonic() - started

    def on_fuses(self, *names: str, settings: Mapping[str, str] | None = None) -> Fuses:
        """Start these processes again so that they can be made to die at a named point (``launch``)."""
        fuses = Fuses(self.folder / "fuses")
        fuses.folder.mkdir(exist_ok=True)
        for name in names:
            program = self.full.process(name).process
            assert isinstance(program, Program)
            program.start = partial(_start_under_launch, program)  # type: ignore[method-assign]
            self.reroute(name, {**fuses.settings(name), **(settings or {})})
        return fuses

    @contextmanager
    def postgres_proxy(self) -> Iterator[Proxy]:
        """A proxy in front of PostgreSQL; ``through`` says how it is named."""
        with Proxy(("127.0.0.1", self.full.postgres.port)) as proxy:
            yield proxy

    def through(self, service: str, proxy: Proxy) -> dict[str, str]:
        """The settings of a process that reaches its database through the proxy."""
        url = self.full.databases.url_of(service)
        parts = urlsplit(url)
        return {"MARU_DATABASE": parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}").geturl()}

    def wipe_and_republish(self) -> float:
        """The broker's data are gone, it starts as a new cluster, the logs are published again by command.

        Gives the seconds from the commands until everything is heard.
        """
        broker = self.full.process("kafka")
        broker.keep_down()
        self.full.kafka.wipe()
        broker.bring_up()
        started = time.monotonic()
        for name in NAMES:
            self.maru("republish", name)
        until(self.opened.idle, "it does not become idle after the republication")
        return time.monotonic() - started

    def maru(self, *arguments: str, code: int = 0) -> str:
        """A command of the operator on this system's folder; gives what it printed."""
        from typer.testing import CliRunner

        ran = CliRunner().invoke(app, [*arguments, "--data", str(self.full.folder), "--json"])
        assert ran.exit_code == code, (ran.output, ran.exception)
        return ran.stdout

    def postgres_answers(self) -> bool:
        """Whether PostgreSQL takes a connection."""
        with suppress(psycopg.OperationalError), psycopg.connect(self.full.postgres.url(), connect_timeout=2):
            return True
        return False


def copied(seeded: Seeded, folder: Path) -> Path:
    """A copy of the seeded folder, with ports of its own: another copy may run at the same time."""
    data = folder / "data"
    copy_owned(seeded.full, data)
    state = State(data)
    state.ports.clear()
    state.save()
    return data


@contextmanager
def disturbed(seeded: Seeded, folder: Path, *, env: Mapping[str, str] | None = None) -> Iterator[Disturbed]:
    """A full system on a copy of the seeded folder, its processes ready, its databases open."""
    with FullSystem(copied(seeded, folder), env=env or {}) as full:
        full.wait_ready(seconds=BOUND)
        system = Disturbed(full, folder, full.opened())
        try:
            yield system
        finally:
            system.close()


def livez(url: str) -> int:
    """The status of a process's liveness probe; 0 where it does not answer within 5 s."""
    try:
        return httpx.get(f"{url}/livez", timeout=5).status_code
    except httpx.HTTPError:
        return 0
