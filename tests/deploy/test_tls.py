"""Kafka as the compose file sets it: TLS, certificates of the demonstration, rights from its one-shot service.

A real broker; the long lane. What differs: addresses and folders of this machine, and one listener more in plain text,
by which the broker is known to be up.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from aiokafka.errors import KafkaError

from services.demonstration import make
from services.local_processes import free_port
from services.local_servers import Kafka, class_path, java
from shared.contracts.topics import TOPICS
from shared.runtime import kafka
from shared.runtime.brokers import Brokers
from shared.runtime.settings import load
from tests.cli.program import MARU, environment
from tests.deploy.manifests import compose

pytestmark = pytest.mark.faults
SERVICES = ["issues", "routing", "meetings", "notifications"]


class AsInCompose(Kafka):
    """The broker with the settings of the compose file."""

    def __init__(self, folder: Path, secrets: Path) -> None:
        super().__init__(folder)
        self.tls = free_port()
        self._secrets = secrets

    def _configure(self, data: Path) -> Path:
        path = super()._configure(data)
        given: Mapping[str, object] = compose()["services"]["kafka"]["environment"]
        settings = {name.removeprefix("KAFKA_").lower().replace("_", "."): str(value) for name, value in given.items()}
        here = {"/run/secrets/maru": str(self._secrets), "/var/lib/kafka/data": str(data)}
        here |= {"TLS://0.0.0.0:9092": f"TLS://127.0.0.1:{self.tls}", "TLS://kafka:9092": f"TLS://localhost:{self.tls}"}
        here |= {"localhost:9093": f"127.0.0.1:{self._controller}", "localhost:9094": f"127.0.0.1:{self.port}"}
        lines = []
        for name, value in settings.items():
            for there, instead in here.items():
                value = value.replace(there, instead)
            lines.append(f"{name}={value}\n")
        path.write_text("".join(lines))
        return path


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets") / "all"
    make(folder, SERVICES)
    return folder


@pytest.fixture(scope="module")
def broker(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsInCompose]:
    server = AsInCompose(tmp_path_factory.mktemp("kafka"), secrets / "kafka")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def as_user(name: str, secrets: Path, broker: AsInCompose) -> Brokers:
    own = secrets / name
    names = {"kafka_ca": "ca.pem", "kafka_cert": "client.pem", "kafka_key": "client.key"}
    files = {setting: own / file for setting, file in names.items()}
    return Brokers.of(load(kafka=f"localhost:{broker.tls}", kafka_protocol="ssl", **files))


@pytest.fixture(scope="module")
def granted(secrets: Path, broker: AsInCompose) -> AsInCompose:
    """Topics and rights, by the commands of the compose file."""
    asyncio.run(kafka.ensure_topics(as_user("operations", secrets, broker), TOPICS, seconds=30))
    own, client = secrets / "operations", broker.folder / "client.properties"
    store = broker.folder / "store.pem"
    store.write_text((own / "client.key").read_text() + (own / "client.pem").read_text())
    client.write_text(
        f"security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location={own}/ca.pem\n"
        f"ssl.keystore.type=PEM\nssl.keystore.location={store}\n"
    )
    jars = class_path(broker.folder, "org.apache.kafka:kafka-tools:4.3.1")
    (script,) = compose()["services"]["acls"]["command"]
    for line in re.findall(r"^\s*grant (--.*)$", script, re.MULTILINE):
        argv = [java(), "-cp", jars, "org.apache.kafka.tools.AclCommand"]
        argv += ["--bootstrap-server", f"localhost:{broker.tls}", "--command-config", str(client), "--add"]
        done = subprocess.run([*argv, *line.split()], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return broker


def send(brokers: Brokers, topic: str) -> None:
    async def sent() -> None:
        producer = kafka.Producer(brokers, "tests")
        try:
            await producer.start()
            await producer.send(topic, [kafka.Outgoing(3, b"key", os.urandom(4), [])], seconds=10)
        finally:
            await producer.stop()

    asyncio.run(sent())


def read(brokers: Brokers, topic: str) -> int:
    async def taken() -> int:
        consumer = kafka.Consumer(brokers, "tests")
        await consumer.start()
        try:
            consumer.assign({(topic, 3): 0})
            return sum(map(len, (await consumer.take(10, 5)).values()))
        finally:
            await consumer.stop()

    return asyncio.run(taken())


def test_a_service_writes_its_own_topic_and_reads_what_it_hears(secrets: Path, granted: AsInCompose) -> None:
    send(as_user("issues", secrets, granted), "maru.issues.v1")
    assert read(as_user("routing", secrets, granted), "maru.issues.v1") == 1
    assert read(as_user("observer", secrets, granted), "maru.issues.v1") == 1


@pytest.mark.parametrize(("who", "topic"), [("issues", "maru.routing.v1"), ("observer", "maru.issues.v1")])
def test_nobody_writes_another_topic(secrets: Path, granted: AsInCompose, who: str, topic: str) -> None:
    with pytest.raises((KafkaError, TimeoutError)):
        send(as_user(who, secrets, granted), topic)


def test_without_a_certificate_of_the_authority_nobody_comes_in(
    secrets: Path, granted: AsInCompose, tmp_path: Path
) -> None:
    stranger = tmp_path / "all"
    make(stranger, SERVICES)
    own, other = secrets / "issues", stranger / "issues"
    with_other = Brokers(f"localhost:{granted.tls}", "ssl", own / "ca.pem", other / "client.pem", other / "client.key")
    without = Brokers(f"localhost:{granted.tls}", "ssl", own / "ca.pem")
    distrusting = Brokers(f"localhost:{granted.tls}", "ssl", other / "ca.pem", own / "client.pem", own / "client.key")
    for brokers in (with_other, without, distrusting):
        with pytest.raises(kafka.FAILURES):
            send(brokers, "maru.issues.v1")


def test_the_observer_as_compose_starts_it_becomes_ready(secrets: Path, granted: AsInCompose, tmp_path: Path) -> None:
    part = compose()["services"]["observer"]
    port = free_port()
    given = {name: str(value) for name, value in part["environment"].items()}
    given = {name: value.replace("/run/secrets/maru", str(secrets / "observer")) for name, value in given.items()}
    given |= {"MARU_KAFKA": f"localhost:{granted.tls}", "MARU_PORT": str(port), "MARU_DATA": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([MARU, *part["command"]], env=environment(**given), stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while not _answers(f"http://127.0.0.1:{port}/readyz"):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.2)
    finally:
        process.terminate()
        assert process.wait(timeout=15) == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
