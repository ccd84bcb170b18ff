"""One broker, one load and one observer for the session; each test that spoils something takes a walk of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.local_processes import free_port
from services.local_servers import Kafka
from shared.contracts.topics import TOPICS, topic_of
from shared.runtime import kafka
from shared.runtime.kafka import Outgoing
from shared.runtime.records import to_record
from shared.runtime.settings import ROOT
from tests.observer.load import Segment, walked

WALKS = 7
Told = dict[str, Any]


class Observing:
    """The observer's process, spoken to over HTTP."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "observer.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.observer.program"],
                cwd=ROOT,
                env={**os.environ, "MARU_KAFKA": bootstrap, "MARU_PORT": str(port), "MARU_DATA": str(folder)},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def get(self, path: str) -> httpx.Response:
        """Raises ``httpx.HTTPError`` as long as it does not listen."""
        return httpx.get(self.url + path, timeout=5)

    def told(self) -> Told:
        """`/pulse`, or nothing yet."""
        try:
            found: Told = self.get("/pulse").json()
        except httpx.HTTPError:
            return {}
        return found

    def until(self, reached: Callable[[Told], bool], seconds: float, what: str) -> Told:
        """Ask until it says so; gives its answer. Fails after ``seconds``."""
        end = time.monotonic() + seconds
        told: Told = {}
        while time.monotonic() < end:
            told = self.told()
            if told and reached(told):
                return told
            time.sleep(0.1)
        told.pop("positions", None)
        raise AssertionError(f"{what} not within {seconds:.0f} s: {told}\n{self.log.read_text()[-2000:]}")

    def end(self) -> float:
        """SIGTERM; gives the seconds until it has ended, by itself and with exit code 0."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=20) == 0
        return time.monotonic() - began

    def close(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.wait()


def examples(told: Told, kind: str) -> list[Told]:
    """The faults of a kind that are shown."""
    found: list[Told] = told["faults"][kind]["examples"] if told.get("faults") else []
    return found


def on(told: Told, kind: str, event: str) -> str | None:
    """What is said of a fault of that kind on that event; ``None`` where nothing is."""
    return next((found["what"] for found in examples(told, kind) if found["where"]["event"] == event), None)


def faults_on(told: Told, ids: frozenset[str]) -> list[Told]:
    """All faults on any of these events, and on records in which no event could be read."""
    return [
        {"kind": kind, **found}
        for kind in told["faults"]
        for found in examples(told, kind)
        if found["where"]["event"] in ids or not found["where"]["event"]
    ]


class Load:
    """The session's load on its way to the broker: segments in order, each published once."""

    def __init__(self, broker: Kafka, segments: list[Segment]) -> None:
        self.broker = broker
        self.segments = segments
        self.used = 0
        self.records = 0
        """Records in the topics."""

    def next(self) -> Segment:
        """The next walk, not published yet."""
        self.used += 1
        return self.segments[self.used - 1]

    def publish(self, *segments: Segment) -> None:
        """Send as the relay does."""
        asyncio.run(self._publish([row for segment in segments for row in segment.rows]))

    async def _publish(self, rows: list[Any]) -> None:
        await kafka.ensure_topics(self.broker.bootstrap, TOPICS, seconds=30)
        producer = kafka.Producer(self.broker.bootstrap, "tests")
        await producer.start()
        topics: dict[str, list[Outgoing]] = {}
        for row in rows:
            topics.setdefault(topic_of(row.source).name, []).append(to_record(row))
        for topic, records in topics.items():
            await producer.send(topic, records, seconds=30)
        self.records += len(rows)
        await producer.stop()

    def read(self, told: Told) -> bool:
        """Whether the observer has read everything that was published."""
        return bool(told.get("records") == self.records and told["behind"] == 0)


@pytest.fixture(scope="session")
def segments(seeded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Segment]:
    """The reference data, then one walk after the other."""
    folder = tmp_path_factory.mktemp("walked") / "data"
    shutil.copytree(seeded_folder, folder)
    return walked(folder, WALKS)


@pytest.fixture(scope="session")
def load(segments: list[Segment], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """A broker with the reference data and one walk in its topics, and more walks to come."""
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        made = Load(broker, segments)
        made.publish(made.next(), made.next())
        yield made
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def observing(load: Load, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observing]:
    """The session's observer, which has read what was published first."""
    made = Observing(load.broker.bootstrap, tmp_path_factory.mktemp("observer"))
    try:
        made.until(load.read, 90, "everything read")
        yield made
    finally:
        made.close()
