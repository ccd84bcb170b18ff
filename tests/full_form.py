"""A running system in either form, as tests see it, so that one source of tests speaks to both.

``embedded``: all services in this process, on SQLite. ``full``: PostgreSQL, Kafka and a process for each gateway, relay
and follower, as ``maru up --full`` starts them. A fresh system starts on a copy of a folder that was seeded once.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import httpx

from services.__main__ import SERVICES
from services.audit import audit
from services.client import base_of, routes, segment
from services.full import FullSystem, State
from services.start import Opened, Seedable, prepare_folder
from shared.runtime import settings
from shared.runtime.databases import Databases
from shared.runtime.hosted import Hosted
from shared.runtime.leases import Leases
from shared.runtime.settings import Settings
from shared.runtime.system import System, opened
from shared.runtime.verify import verify

Form = Literal["embedded", "full"]
FORMS: tuple[Form, ...] = ("embedded", "full")
READY_SECONDS = 180.0
"""How long all processes may take to start together, on a machine that does other work as well."""


@dataclass(frozen=True)
class Running:
    """A system that runs, in whatever form: where it is asked, and what it has stored."""

    form: Form
    url: str | Mapping[str, str]
    """Where clients find it, as ``Maru`` takes it: one address, or one for each service and the issuer."""
    processes: Sequence[str]
    """The address of every process of ours."""
    system: Seedable
    """Its services, their databases open in this process."""
    databases: Databases
    kafka: str | None
    stop_due: Callable[[str], None]
    """From now on the scheduler of a service fires nothing. Returns when that is so."""

    def service(self, name: str) -> Hosted:
        """One of the services by name, to read what it has stored."""
        return self.system.service(name)

    @property
    def hosted(self) -> Sequence[Hosted]:
        """All services, to read what they have stored."""
        return [self.service(service.name) for service in SERVICES]

    def idle(self) -> bool:
        """Wait until everything stored is carried, answered and folded; says whether it came to that."""
        return self.system.idle()

    @property
    def gateways(self) -> Sequence[str]:
        """The address of every gateway: one where all are in one process."""
        return [self.url] if isinstance(self.url, str) else [self.url[service.name] for service in SERVICES]

    def client(self, timeout: float = 10) -> httpx.Client:
        """A plain HTTP client that takes paths; to be closed."""
        if isinstance(self.url, str):
            return httpx.Client(base_url=self.url, timeout=timeout)
        return httpx.Client(base_url="http://maru.example", timeout=timeout, transport=Ingress(self.url))

    def metrics(self) -> str:
        """What Prometheus would read from all processes."""
        return "".join(httpx.get(f"{url}/metrics", timeout=10).raise_for_status().text for url in self.processes)

    def check(self) -> None:
        """Every promise was kept, every byte is as it was sealed, every process is well."""
        assert self.idle()
        promises = audit(self.databases, None, self.processes, kafka=self.kafka)
        assert promises.outcome == "clean", promises.sentence()
        sealed = verify(self.databases, [service.name for service in SERVICES], lambda done, total: None)
        assert sealed.clean, sealed.sentence()


class Ingress(httpx.HTTPTransport):
    """One address in front of several: a request goes to the service that owns the first segment of its path.

    What no service owns goes to the gateway of the first of them.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        """``urls``: the address of each service by name."""
        super().__init__()
        self._urls = urls

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it to whom it belongs."""
        path = request.url.path
        known = path.startswith("/v1/") and segment(path) in routes()
        to = httpx.URL(base_of(self._urls, path) if known else self._urls[SERVICES[0].name])
        request.url = request.url.copy_with(host=to.host, port=to.port)
        request.headers["Host"] = to.netloc.decode()
        return super().handle_request(request)


# Starting


@contextmanager
def run(form: Form, folder: Path, reference: Path | None = None) -> Iterator[Running]:
    """A system on a folder, new or used. ``reference``: other reference data than the project's, to be seeded from."""
    loaded = settings.load(data=folder, port=0, reference=reference)
    with (_run_embedded if form == "embedded" else _run_full)(loaded) as running:
        yield running


@contextmanager
def _run_embedded(loaded: Settings) -> Iterator[Running]:
    with opened(SERVICES, loaded) as system:
        url = system.serve()
        stop_due = partial(_end_due_loop, system)
        yield Running("embedded", url, [url], system, Databases.of(loaded), None, stop_due)


@contextmanager
def _run_full(loaded: Settings) -> Iterator[Running]:
    env = {"MARU_REFERENCE": str(loaded.reference)}
    with FullSystem(loaded.data, observer=False, env=env) as full:
        full.wait_ready(seconds=READY_SECONDS)
        with Opened(SERVICES, full.databases, loaded) as services:
            stop_due = partial(_take_due_lease, full, services)
            processes = list(full.processes.values())
            yield Running("full", full.urls, processes, services, full.databases, full.kafka.bootstrap, stop_due)


def _end_due_loop(system: System, service: str) -> None:
    hosted = system.service(service)
    (loop,) = (loop for loop in hosted.loops if loop.name == f"{service}-due")
    hosted.loops.remove(loop)
    loop.end()
    loop.join()


def _take_due_lease(full: FullSystem, services: Opened, service: str) -> None:
    """Hold the scheduler's lease ourselves: the follower that starts then finds it taken."""
    follower = full.process(f"{service}-follower")
    follower.keep_down()
    leases = Leases(services.service(service).log, "test", seconds=3600)
    end = time.monotonic() + 30
    while leases.take("due") is None:
        assert time.monotonic() < end, "the lease of a follower that was killed does not run out"
        time.sleep(0.05)
    follower.bring_up()
    full.wait_ready([follower.name], READY_SECONDS)


class Seeded:
    """Folders with the reference data and the clock at its start, one of each form, made when first asked for.

    Systems start on copies of them.
    """

    def __init__(self, folder: Path) -> None:
        """``folder``: where they are made."""
        self._folder = folder

    @cached_property
    def embedded(self) -> Path:
        """The SQLite files."""
        return self._made("embedded")

    @cached_property
    def full(self) -> Path:
        """The data of PostgreSQL and Kafka, ports and passwords."""
        return self._made("full")

    def _made(self, form: Form) -> Path:
        with run(form, self._folder / form) as running:
            prepare_folder(running.system)
            assert running.idle()
        return self._folder / form

    @contextmanager
    def running(self, form: Form, folder: Path) -> Iterator[Running]:
        """A system that nobody has spoken to, on a new folder, which is removed where all went well."""
        copy_owned(self.full if form == "full" else self.embedded, folder)
        if form == "full":
            # Another copy may be running on the ports of last time.
            state = State(folder)
            state.ports.clear()
            state.save()
        with run(form, folder) as running:
            yield running
        shutil.rmtree(folder)


def copy_owned(source: Path, target: Path) -> None:
    """Copy a folder; where we are root, what belongs to another user (PostgreSQL's data) still does."""
    shutil.copytree(source, target)
    if os.geteuid() == 0:
        for path in (source, *source.rglob("*")):
            owner = path.stat()
            if owner.st_uid:
                os.chown(target / path.relative_to(source), owner.st_uid, owner.st_gid)
