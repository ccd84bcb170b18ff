"""The local Kafka and PostgreSQL: what they keep, what they survive, and that they leave nothing running."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from services.local_processes import family, free_port, lives
from services.local_servers import Kafka, Postgres, Server, ServerFailed

pytestmark = pytest.mark.faults
"""In the long lane: servers and whole systems are started again and again here."""

KINDS = [pytest.param(Kafka, id="kafka"), pytest.param(Postgres, id="postgres")]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    made: Server = request.param(tmp_path / "server")
    yield made
    made.kill()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    made = Postgres(tmp_path / "postgres")
    yield made
    made.kill()


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[Kafka]:
    made = Kafka(tmp_path / "kafka")
    yield made
    made.kill()


def until(what: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for a state; fail where it does not come."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "the state did not come"
        time.sleep(0.02)


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def asked(kafka: Kafka, question: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> Any:
    """What an administrator is answered."""

    async def ask() -> Any:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        try:
            return await question(admin)
        finally:
            await admin.close()

    return asyncio.run(ask())


def say(kafka: Kafka, topic: str, value: bytes) -> None:
    async def send() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap, enable_idempotence=True, max_request_size=2_000_000
        ) as producer:
            await producer.send_and_wait(topic, value)

    asyncio.run(send())


def said(kafka: Kafka, topic: str, count: int) -> list[bytes]:
    async def read() -> list[bytes]:
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, 0)])
            return [(await consumer.getone()).value or b"" for _ in range(count)]
        finally:
            await consumer.stop()

    return asyncio.run(asyncio.wait_for(read(), 15))


# Both


def test_a_stopped_server_leaves_no_process(server: Server) -> None:
    server.start()
    pids = server.pids()
    server.stop()
    assert pids
    assert not any(lives(pid) for pid in pids)


def test_a_killed_server_leaves_no_process(server: Server) -> None:
    server.start()
    pids = server.pids()
    server.kill()
    assert pids
    assert not any(lives(pid) for pid in pids)


def test_a_killed_server_starts_again_within_five_seconds(server: Server) -> None:
    server.start()
    server.kill()
    began = time.monotonic()
    server.start()
    assert time.monotonic() - began < 5


def test_the_port_stays_over_a_restart(server: Server) -> None:
    server.start()
    port = server.port
    server.kill()
    server.start()
    assert server.port == port
    assert accepts(port)


def test_a_frozen_server_is_silent_and_answers_when_thawed(server: Server) -> None:
    server.start()
    server.freeze()
    assert not server._answers()
    server.thaw()
    until(server._answers)


def test_a_frozen_server_can_be_stopped(server: Server) -> None:
    server.start()
    pids = server.pids()
    server.freeze()
    server.stop()
    assert not any(lives(pid) for pid in pids)


@pytest.mark.parametrize("kind", KINDS)
def test_two_at_once_have_ports_of_their_own(kind: type[Server], tmp_path: Path) -> None:
    first, second = kind(tmp_path / "1"), kind(tmp_path / "2")
    try:
        first.start()
        second.start()
        assert first.port != second.port
        first.kill()
        assert second._answers()
    finally:
        first.kill()
        second.kill()


def test_a_taken_port_is_told_with_the_log(server: Server) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        held = type(server)(server.folder, holder.getsockname()[1])
        with pytest.raises(ServerFailed, match="in use"):
            held.start()
        assert not held.running


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    server.start()
    wanted = f"{server.port:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    heard = [row[1].split(":")[0] for row in rows if row[3] == "0A" and row[1].endswith(f":{wanted}")]
    # Java opens the same as an address of IPv6: ::ffff:127.0.0.1.
    rows = [row.split() for row in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    heard += [row[1].split(":")[0] for row in rows if row[3] == "0A" and row[1].endswith(f":{wanted}")]
    assert heard
    assert set(heard) <= {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_the_process_that_started_it(kind: type[Server], tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        f"from services.local_servers import {kind.__name__} as Kind\n"
        "server = Kind(pathlib.Path(sys.argv[1]))\n"
        "server.start()\n"
        "print(*server.pids(), flush=True)\n"
        "time.sleep(600)\n"
    )
    started = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "server")], stdout=subprocess.PIPE)
    assert started.stdout is not None
    with started, started.stdout as out:
        pids = [int(pid) for pid in out.readline().split()]
        os.kill(started.pid, signal.SIGKILL)
    assert pids
    until(lambda: not any(lives(pid) for pid in pids))


# PostgreSQL


def test_postgres_keeps_its_data_over_a_kill(postgres: Postgres) -> None:
    postgres.start()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    postgres.kill()
    postgres.start()
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SELECT value FROM kept").fetchall() == [(7,)]


def test_postgres_keeps_its_data_for_the_next_program(postgres: Postgres) -> None:
    postgres.start()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    postgres.stop()
    later = Postgres(postgres.folder)
    try:
        later.start()
        with psycopg.connect(later.url()) as connection:
            assert connection.execute("SELECT value FROM kept").fetchall() == [(7,)]
    finally:
        later.kill()


def test_postgres_is_new_after_a_wipe(postgres: Postgres) -> None:
    postgres.start()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
        before = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    postgres.wipe()
    postgres.start()
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchone() == (None,)
        assert connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone() != before


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("password_encryption", "scram-sha-256"),
        ("max_connections", "200"),
        ("shared_buffers", "128MB"),
    ],
)
def test_postgres_is_set_up_as_promised(shared_postgres: Postgres, setting: str, value: str) -> None:
    with psycopg.connect(shared_postgres.url()) as connection:
        if setting == "lc_collate":
            found = connection.execute("SELECT datcollate FROM pg_database WHERE datname = 'postgres'").fetchone()
        else:
            found = connection.execute(f"SHOW {setting}").fetchone()
    assert found == (value,)


@pytest.fixture(scope="module")
def shared_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    made = Postgres(tmp_path_factory.mktemp("postgres"))
    made.start()
    yield made
    made.kill()


def test_postgres_refuses_a_wrong_password(shared_postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(shared_postgres.url(password="wrong"))


def test_the_password_can_be_read_by_us_alone(shared_postgres: Postgres) -> None:
    kept = shared_postgres.folder / "password"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_uid == os.geteuid()


def test_postgres_does_not_run_as_root(shared_postgres: Postgres) -> None:
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in shared_postgres.pids()} & {0} == set()


def test_a_half_made_cluster_is_made_again(postgres: Postgres) -> None:
    half = postgres.folder / "cluster.new" / "cluster"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    postgres.start()
    assert postgres._answers()


# Kafka


def test_kafka_keeps_its_records_over_a_kill(kafka: Kafka) -> None:
    kafka.start()
    asked(kafka, lambda admin: admin.create_topics([NewTopic("kept", 1, 1)]))
    say(kafka, "kept", b"7")
    kafka.kill()
    kafka.start()
    say(kafka, "kept", b"8")
    assert said(kafka, "kept", 2) == [b"7", b"8"]


def test_kafka_is_another_and_empty_cluster_after_a_wipe(kafka: Kafka) -> None:
    def identity() -> str:
        return (kafka.folder / "data" / "meta.properties").read_text().partition("cluster.id=")[2].split()[0]

    kafka.start()
    asked(kafka, lambda admin: admin.create_topics([NewTopic("kept", 1, 1)]))
    before = identity()
    kafka.wipe()
    kafka.start()
    assert identity() != before
    assert asked(kafka, lambda admin: admin.list_topics()) == []


def test_no_topic_comes_into_being_by_being_asked_for(kafka: Kafka) -> None:
    kafka.start()
    found = asked(kafka, lambda admin: admin.describe_topics(["never-made"]))
    assert found[0]["error_code"] == 3


def test_kafka_takes_records_of_more_than_one_megabyte(kafka: Kafka) -> None:
    kafka.start()
    asked(kafka, lambda admin: admin.create_topics([NewTopic("large", 1, 1)]))
    say(kafka, "large", b"x" * 1_500_000)
    assert [len(value) for value in said(kafka, "large", 1)] == [1_500_000]


# Ports and families


def test_a_free_port_is_below_those_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < lowest for _ in range(20))


def test_a_family_is_a_process_and_its_children() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 600 & wait"]) as parent:
        until(lambda: len(family(parent.pid)) == 2)
        pids = family(parent.pid)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    assert pids[0] == parent.pid
