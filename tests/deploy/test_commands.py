"""Every command line of the compose file, with the environment written there, is started for real and is well.

Around it stand a real PostgreSQL and a real Kafka with the settings of the compose file, and whatever the file says
that it waits for has been run before, by the commands written there. One of each kind runs in `make test`, the others
in the long lane.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.local_processes import free_port
from services.local_servers import Postgres
from tests.deploy.containers import Run, in_compose
from tests.deploy.manifests import Document, compose
from tests.deploy.stand_ins import AsInCompose, IssuerStandIn, rights_in_compose

PARTS: dict[str, Document] = compose()["services"]
OURS = {name: part for name, part in PARTS.items() if str(part["image"]).startswith("maru:")}
ONCE = [name for name, part in OURS.items() if part["restart"] == "no"]
STAYING = [name for name in OURS if name not in ONCE]
SHORT = {"secrets", "topics", "migrate-routing", "seed-routing", "issuer"}
SHORT |= {f"routing-{kind}" for kind in ("gateway", "relay", "follower")}
"""One of each kind, of the one service that the issuer needs too."""


class Machine:
    """The machine on which compose runs, made as far as somebody needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: set[str] = set()
        self.volumes = folder / "volumes"
        self.hosts = {"mail:1025": f"127.0.0.1:{free_port()}"}
        self.postgres: Postgres | None = None
        self.kafka: AsInCompose | None = None
        self.issuer: IssuerStandIn | None = None

    def volume(self, name: str) -> Path:
        found = self.volumes / name
        found.mkdir(parents=True, exist_ok=True)
        return found

    def run(self, name: str) -> Run:
        return Run(in_compose(name, self.volume), self.folder / "roots" / name, self.hosts)

    def before(self, name: str) -> None:
        """Whatever the file says that this one waits for."""
        for other in PARTS[name].get("depends_on", {}):
            if other not in self.done:
                self.before(other)
                self.need(other)
                self.done.add(other)

    def need(self, name: str) -> None:
        if name == "postgres":
            self.postgres = Postgres(self.folder / "postgres", settings={"fsync": "off"})
            self.postgres.start()
            self._owned(self.postgres)
        elif name == "kafka":
            self.kafka = AsInCompose(self.folder / "kafka", self.volume("secrets-kafka"))
            self.kafka.start()
            self.hosts["kafka:9092"] = f"localhost:{self.kafka.tls}"
        elif name == "issuer":
            port = free_port()
            self.hosts["issuer:8700"] = f"127.0.0.1:{port}"
            self.issuer = IssuerStandIn(self.folder / "issuer", f"http://127.0.0.1:{port}", port)
        elif name in ONCE:
            run = self.run(name)
            assert run.to_its_end() == 0, run.said
        else:
            assert name == "acls"

    def _owned(self, server: Postgres) -> None:
        """Let the secrets lead to this server: its address, and its owner's password."""
        for path in self.volumes.glob("secrets-*/maru_database*"):
            text = path.read_text().replace("@postgres:5432/", f"@127.0.0.1:{server.port}/")
            if path.name == "maru_database_admin":
                assert text.count((path.parent / "postgres_password").read_text()) == 1
                text = text.replace((path.parent / "postgres_password").read_text(), server.password)
            path.chmod(0o644)
            path.write_text(text)

    def granted(self, name: str) -> None:
        """Rights on Kafka for the one that this container's certificate names."""
        if "acls" not in self.done:
            return
        (volume,) = [v.split(":")[0] for v in PARTS[name]["volumes"] if v.split(":")[1] == "/run/secrets/maru"]
        user = volume.removeprefix("secrets-")
        if f"rights of {user}" not in self.done:
            assert self.kafka is not None
            self.kafka.grant(rights_in_compose(user), self.volume("secrets-operations"))
            self.done.add(f"rights of {user}")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Meanwhile database and broker keep their connections and answer nothing."""
        servers = [one for one in (self.kafka, self.postgres) if one is not None]
        for one in servers:
            one.freeze()
        try:
            yield
        finally:
            for one in servers:
                one.thaw()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Meanwhile there is no database."""
        assert self.postgres is not None
        self.postgres.kill()
        try:
            yield
        finally:
            self.postgres.start()

    def close(self) -> None:
        for one in (self.kafka, self.postgres):
            if one is not None:
                one.stop()
        if self.issuer is not None:
            self.issuer.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    there = Machine(tmp_path_factory.mktemp("compose"))
    try:
        yield there
    finally:
        there.close()


def lanes(names: list[str]) -> list[object]:
    return [name if name in SHORT else pytest.param(name, marks=pytest.mark.faults) for name in names]


@pytest.mark.parametrize("name", lanes(ONCE))
def test_what_runs_once_ends_well_and_may_run_again(machine: Machine, name: str) -> None:
    machine.before(name)
    for _ in range(2):
        run = machine.run(name)
        assert run.to_its_end() == 0, run.said
    machine.done.add(name)


@pytest.mark.parametrize("name", lanes(STAYING))
def test_what_stays_becomes_healthy_and_ends_when_asked(machine: Machine, name: str) -> None:
    machine.before(name)
    machine.granted(name)
    run = machine.run(name)
    check = OURS[name]["healthcheck"]
    seconds = int(check["start_period"][:-1]) + check["retries"] * int(check["interval"][:-1])
    with run.running(10) as process:
        run.until(lambda: run.status("/readyz") == 200, process, seconds)
        run.until(lambda: run.asks(check["test"]), process, seconds)
        assert run.status("/livez") == 200
        assert b"maru_" in run.read("/metrics")
        if name.rpartition("-")[2] in LOSES:
            with LOSES[name.rpartition("-")[2]](machine):
                run.until(lambda: lives(run) and run.status("/readyz") == 503, process, 30)
            run.until(lambda: run.status("/readyz") == 200, process, seconds)


LOSES = {"gateway": Machine.silent, "follower": Machine.silent, "relay": Machine.gone}
"""How a process loses its database and broker. What a relay says of a silent one takes long: see below."""


def lives(run: Run) -> bool:
    """``/livez`` does no I/O: it answers at once, also while another request waits for a database."""
    with ThreadPoolExecutor() as others:
        waiting = others.submit(run.status, "/readyz")
        assert run.status("/livez", 1) == 200
        waiting.result()
    return True


@pytest.mark.faults
def test_a_relay_whose_database_is_silent_lives_and_is_not_ready(machine: Machine) -> None:
    machine.before("issues-relay")
    machine.granted("issues-relay")
    run = machine.run("issues-relay")
    with run.running(10) as process:
        run.until(lambda: run.status("/readyz") == 200, process, 60)
        with machine.silent():
            run.until(lambda: lives(run) and run.status("/readyz") == 503, process, 60)
        run.until(lambda: run.status("/readyz") == 200, process, 60)
