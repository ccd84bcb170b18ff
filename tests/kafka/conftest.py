"""A real broker for the tests of relay and carrier, and logs on both kinds of database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from services.local_servers import Kafka, Postgres
from shared.contracts.topics import TOPICS
from shared.runtime.kafka_carrier import KafkaCarrier
from shared.runtime.leases import Leases
from shared.runtime.log import EventLog
from shared.runtime.postgres_log import PostgresDatabase
from shared.runtime.provision import provision
from shared.runtime.sqlite_log import SqliteDatabase
from tests.kafka.driving import stuck

_number = count()


@pytest.fixture(scope="session")
def _broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    server = Kafka(tmp_path_factory.mktemp("kafka"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


async def delete_topics(bootstrap: str) -> None:
    """Delete every topic of ours, and wait until none is there."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    ours = {topic.name for topic in TOPICS}
    try:
        async with asyncio.timeout(20):
            while there := ours.intersection(await admin.list_topics()):
                await admin.delete_topics(list(there))
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


@pytest.fixture
def broker(_broker: Kafka) -> Kafka:
    """A broker that runs and has no topic of ours."""
    _broker.start()
    asyncio.run(delete_topics(_broker.bootstrap))
    return _broker


class MakeLog:
    """Makes the empty log of a service, in either kind of database.

    A second call for a service is another process's view of the same log.
    """

    def __init__(self, folder: Path, postgres: Postgres | None) -> None:
        self._folder = folder
        self._postgres = postgres
        self._number = next(_number)
        self._opened: list[EventLog] = []

    def __call__(self, service: str) -> EventLog:
        if self._postgres is None:
            database: SqliteDatabase | PostgresDatabase = SqliteDatabase(self._folder / service / "log.db")
            database.create(service)
        else:
            name = self._name(service)
            url = self._postgres.url(name, name, "secret")
            provision(service, url, self._postgres.url())
            database = PostgresDatabase(url)
        self._opened.append(EventLog(database, service))
        return self._opened[-1]

    def as_owner(self, service: str, *statements: str) -> None:
        """Change a log's tables as nobody may who only runs the service."""
        if self._postgres is None:
            with closing(sqlite3.connect(self._folder / service / "log.db")) as connection, connection:
                for statement in statements:
                    connection.execute(statement)
        else:
            options = "-c search_path=log"
            with psycopg.connect(self._postgres.url(self._name(service)), options=options) as owner:
                for statement in statements:
                    owner.execute(statement.encode())

    def close(self) -> None:
        """Close every log that was made."""
        for log in self._opened:
            log.close()

    def _name(self, service: str) -> str:
        return f"maru_{service}_{self._number}"


@pytest.fixture(params=["sqlite", "postgresql"])
def make_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeLog]:
    """Logs in either kind of database."""
    postgres = request.getfixturevalue("_postgres") if request.param == "postgresql" else None
    maker = MakeLog(tmp_path, postgres)
    yield maker
    maker.close()


MakeCarrier = Callable[..., KafkaCarrier]


@pytest.fixture
def make_carrier(broker: Kafka) -> Iterator[MakeCarrier]:
    """Makes carriers that hear ``issues``, and closes them in the end."""
    made: list[KafkaCarrier] = []

    def make(
        log: EventLog, holder: str = "follow-1", on_stuck: Callable[[], None] = stuck, stuck_seconds: float = 15.0
    ) -> KafkaCarrier:
        leases = Leases(log, holder)
        made.append(
            KafkaCarrier(log, ("issues",), leases, broker.bootstrap, on_stuck=on_stuck, stuck_seconds=stuck_seconds)
        )
        return made[-1]

    yield make
    for carrier in made:
        carrier.close()


ONE_FORM = pytest.mark.parametrize("make_log", ["sqlite"], indirect=True)
"""For what the kind of database cannot change: the broker's faults."""
