"""Kafka as the compose file sets it: TLS, certificates of the demonstration, rights from its one-shot service.

A real broker; the long lane.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from services.demonstration import make
from shared.contracts.topics import TOPICS
from shared.runtime import kafka
from shared.runtime.brokers import Brokers
from shared.runtime.settings import load
from tests.deploy.stand_ins import AsInCompose, rights_in_compose

pytestmark = pytest.mark.faults
SERVICES = ["issues", "routing", "meetings", "notifications"]


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
    broker.grant(rights_in_compose(), secrets / "operations")
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
