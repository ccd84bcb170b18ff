"""The full form on this machine: PostgreSQL, Kafka, and a process for each gateway, relay and follower, supervised.

What ``maru up --full`` starts, and what the tests of faults and the benchmarks are built on. All under one folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from services.__main__ import SERVICES
from services.local_processes import ServerFailed, free_port, is_free
from services.local_servers import Kafka, Postgres
from services.start import Opened
from services.supervisor import Logs, Program, Supervised, Supervisor
from shared.contracts.topics import TOPICS
from shared.runtime import kafka
from shared.runtime import settings as settings_of
from shared.runtime.databases import Databases
from shared.runtime.settings import Settings
from shared.runtime.system import folder_lock
from shared.runtime.web import CannotStart

STATE_FILE = "full.json"
"""Ports, and what must not be read by others: made with the folder, 0600."""
URLS_FILE = "maru.urls.json"
"""Where a running full system notes its addresses, for the commands of the same folder."""
KINDS = {"gateway": "serve", "relay": "relay", "follower": "follow"}
"""What each service consists of, and the command that is it."""
READY_SECONDS = 90.0
NAMES = (
    "issuer",
    *(f"{service.name}-{kind}" for kind in KINDS for service in SERVICES),
    "observer",
    "kafka",
    "postgres",
)
"""Every process, in the order of their ports."""

Told = Callable[[str, str], None]
"""Hears of a process by name, and what became of it; from any thread."""


@dataclass(frozen=True)
class ServiceDatabases(Databases):
    """The databases of a full system, each with the role and password of its service."""

    urls: Mapping[str, str] = field(default_factory=dict)

    def url_of(self, service: str) -> str:
        """The PostgreSQL URL of a service's database."""
        return self.urls[service]


class State:
    """What a folder keeps between one start and the next."""

    def __init__(self, folder: Path) -> None:
        """Read it, or make it."""
        self._path = folder / STATE_FILE
        if self._path.exists():
            kept = json.loads(self._path.read_text())
        else:
            passwords = {service.name: secrets.token_urlsafe(24) for service in SERVICES}
            kept = {"ports": {}, "passwords": passwords, "cursor_key": secrets.token_hex(32)}
        self.ports: dict[str, int] = kept["ports"]
        self.passwords: dict[str, str] = kept["passwords"]
        self.cursor_key: str = kept["cursor_key"]

    def choose_ports(self, first: int | None) -> None:
        """One for each process: from ``first`` upwards, or (``None``) the same as last time, else free ones.

        Raises ``CannotStart`` (3) where one from ``first`` upwards is taken.
        """
        for number, name in enumerate(NAMES):
            if first is not None:
                self.ports[name] = first + number
                if not is_free(first + number):
                    raise CannotStart(f"Port {first + number} is taken, which {name} needs.", 3)
            elif name not in self.ports or not is_free(self.ports[name]):
                self.ports[name] = free_port(*self.ports.values())

    def save(self) -> None:
        """Write it, readable by us alone, whole or not at all."""
        new = self._path.with_suffix(".new")
        with suppress(FileNotFoundError):
            new.unlink()
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"ports": self.ports, "passwords": self.passwords, "cursor_key": self.cursor_key}, file, indent=1)
        new.replace(self._path)


class FullSystem:
    """Start, look at, disturb and stop a full system. Alone on its folder."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        told: Told = lambda name, what: None,
        env: Mapping[str, str] = {},
        observer: bool = True,
    ) -> None:
        """``port``: the first of all ports; ``None`` takes the last ones or free ones. ``env``: more settings.

        ``observer``: whether it runs too; the services do not need it.
        """
        self.folder = folder.absolute()
        self._first_port = port
        self._env = dict(env or {})
        self._observer = observer
        self.told = told
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # Starting

    def start(self) -> None:
        """Start everything; returns when PostgreSQL and Kafka answer and every process is started.

        ``wait_ready`` waits for the processes. Raises ``CannotStart`` (3, 4, 6) and ``ServerFailed``; then nothing of
        it is left running.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._open.enter_context(folder_lock(self.folder))
        self.state = State(self.folder)
        self.state.choose_ports(self._first_port)
        self.state.save()
        self.logs = Logs(self.folder / "logs")
        self._open.callback(self.logs.close)
        self.supervisor = Supervisor(self._told)
        self._open.callback(self._stop_processes)
        ports = self.state.ports
        self.postgres = Postgres(self.folder / "postgres", ports["postgres"])
        self.kafka = Kafka(self.folder / "kafka", ports["kafka"])
        with ThreadPoolExecutor(thread_name_prefix="full") as starts:
            broker = starts.submit(self._start_kafka)
            self._start_postgres()
            self._launch("issuer", ["issuer"], self._database("routing"))
            for kind in ("gateway", "follower"):
                for service in SERVICES:
                    self.add(service.name, kind)
            broker.result()
        for service in SERVICES:
            self.add(service.name, "relay")
        if self._observer:
            self._launch("observer", ["observe"], {})
        new = self.folder / f"{URLS_FILE}.new"
        new.write_text(json.dumps(asdict(Running(self.urls, self.processes, self.kafka.bootstrap)), indent=1))
        new.replace(self.folder / URLS_FILE)
        self._open.callback((self.folder / URLS_FILE).unlink, missing_ok=True)

    def _start_postgres(self) -> None:
        self.logs.add("postgres", self.postgres.log)
        self.postgres.start()
        self.supervisor.add(self.postgres)
        self._told("postgres", "answers")
        for service in SERVICES:
            self.databases.migrate(service)
        self._told("postgres", "has its tables")

    def _start_kafka(self) -> None:
        self.logs.add("kafka", self.kafka.log)
        self.kafka.start()
        self.supervisor.add(self.kafka)
        self._told("kafka", "answers")
        asyncio.run(kafka.ensure_topics(self.kafka.bootstrap, TOPICS, seconds=30))
        self._told("kafka", "has its topics")

    def add(self, service: str, kind: str) -> Supervised:
        """One more process of a service: ``gateway``, ``relay`` or ``follower``; the second is called NAME-2."""
        name = f"{service}-{kind}"
        same = [known for known in self.supervisor.names if known.startswith(name)]
        name = name if not same else f"{name}-{len(same) + 1}"
        return self._launch(name, [KINDS[kind], service], self._database(service))

    def _launch(self, name: str, arguments: list[str], more: Mapping[str, str]) -> Supervised:
        port = self.state.ports.get(name) or free_port(*self.state.ports.values())
        self.state.ports[name] = port
        env = {
            "MARU_DATA": str(self.folder),
            "MARU_KAFKA": self.kafka.bootstrap,
            "MARU_ISSUER": self.url("issuer"),
            "MARU_DEVELOPMENT": "true",
            "MARU_CURSOR_KEY": self.state.cursor_key,
        }
        program = Program(name, arguments, env | dict(more) | self._env, port, self.folder / "logs")
        self.logs.add(name, program.log)
        program.start()
        return self.supervisor.add(program)

    def _database(self, service: str) -> dict[str, str]:
        return {"MARU_DATABASE": self.databases.url_of(service)}

    def wait_ready(self, names: Iterable[str] | None = None, seconds: float = READY_SECONDS) -> None:
        """Wait until these processes (all of them unless told) say that they are ready. Raises ``ServerFailed``."""
        waiting = [name for name in names or self.supervisor.names if isinstance(self._process(name), Program)]
        end = time.monotonic() + seconds
        while waiting:
            for name in list(waiting):
                process = self._process(name)
                if isinstance(process, Program) and process.ready():
                    waiting.remove(name)
                    self._told(name, "is ready")
            if waiting and time.monotonic() > end:
                last = self._process(waiting[0]).log.read_text(errors="replace")[-1000:]
                raise ServerFailed(
                    f"Not ready within {seconds:.0f} s: {', '.join(waiting)}. {waiting[0]} says:\n{last}"
                )
            time.sleep(0.05 if waiting else 0)

    def _process(self, name: str) -> Any:
        return self.supervisor[name].process

    # Looking

    def refusing(self) -> list[str]:
        """The services whose relay publishes nothing (``maru_relay_refused``). Raises ``httpx.HTTPError``."""
        found = []
        for service in SERVICES:
            page = httpx.get(f"{self.url(f'{service.name}-relay')}/metrics", timeout=10).raise_for_status().text
            if f'maru_relay_refused{{service="{service.name}"}} 1.0' in page:
                found.append(service.name)
        return found

    def _told(self, name: str, what: str) -> None:
        self.logs.say(name, what)
        self.told(name, what)

    def process(self, name: str) -> Supervised:
        """A process by name (``NAMES``): to kill, freeze, keep down and bring up again. Raises ``KeyError``."""
        return self.supervisor[name]

    def url(self, name: str) -> str:
        """The address of a process: what it serves, its probes, its metrics."""
        return f"http://127.0.0.1:{self.state.ports[name]}"

    @property
    def urls(self) -> dict[str, str]:
        """What a client needs: the gateway of each service, and the issuer."""
        return {service.name: self.url(f"{service.name}-gateway") for service in SERVICES} | {
            "issuer": self.url("issuer")
        }

    @property
    def processes(self) -> dict[str, str]:
        """The address of every process that has one."""
        return {name: self.url(name) for name in self.supervisor.names if name not in ("kafka", "postgres")}

    @property
    def databases(self) -> ServiceDatabases:
        """The services' databases, as the services themselves see them."""
        return databases_of(self.folder, self.state)

    @property
    def settings(self) -> Settings:
        """The settings of the folder; the database's come from ``databases``."""
        loaded = settings_of.load(data=self.folder)
        return loaded.model_copy(update={"reference": loaded.reference.resolve(), "kafka": self.kafka.bootstrap})

    def opened(self) -> Opened:
        """Every service with its databases open in this process, to seed it and to wait until it is idle."""
        return Opened(SERVICES, self.databases, self.settings)

    def idle(self) -> bool:
        """Wait until everything stored is published, carried, answered and folded; says whether it came to that."""
        with self.opened() as opened:
            return opened.idle()

    # Ending

    def stop(self) -> None:
        """End everything, the services first, then Kafka and PostgreSQL; nothing is left running."""
        self._open.close()

    def _stop_processes(self) -> None:
        self.supervisor.stop(last=("kafka", "postgres"))
        # Where one of them had not been handed to the supervisor yet.
        for server in (getattr(self, "kafka", None), getattr(self, "postgres", None)):
            if server is not None:
                server.stop()


def databases_of(folder: Path, state: State | None = None) -> ServiceDatabases:
    """The databases of the full system on a folder, as its services see them, and their owner's for ``migrate``."""
    state = state or State(folder)
    server = Postgres(folder / "postgres", state.ports["postgres"])
    urls = {name: server.url(f"maru_{name}", f"maru_{name}", password) for name, password in state.passwords.items()}
    owner = server.url() if server.is_made else None
    return ServiceDatabases(folder, f"postgresql://127.0.0.1:{server.port}/maru_{{service}}", owner, urls)


def is_full(folder: Path) -> bool:
    """Whether a folder holds a full system."""
    return (folder / STATE_FILE).exists()


@dataclass(frozen=True)
class Running:
    """What a full system notes of itself: what clients need, every process with its probes, and the broker."""

    urls: Mapping[str, str]
    processes: Mapping[str, str]
    kafka: str


def running(folder: Path) -> Running | None:
    """The full system that runs on a folder, if one does."""
    note = folder / URLS_FILE
    if not note.exists():
        return None
    try:
        with folder_lock(folder):
            # Nobody runs here: the note is what a killed process has left.
            return None
    except CannotStart:
        return Running(**json.loads(note.read_text()))
