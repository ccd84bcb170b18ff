"""I3 on a real broker: what the relay published is what is stored, and each fault seeded into it is found."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from services.audit import audit
from services.audit_book import HEARS, TOPIC
from services.audit_findings import Findings
from services.local_servers import Kafka
from shared.contracts.topics import topic_of
from shared.runtime import relay as relays
from shared.runtime.jobs import Unread
from shared.runtime.kafka import Outgoing, Producer, ensure_topics
from shared.runtime.leases import Leases
from shared.runtime.log import EventLog
from shared.runtime.records import to_record
from shared.runtime.relay import Relay
from tests.faults.loads import Life, small

pytestmark = pytest.mark.faults
"""In the long lane: servers and whole systems are started again and again here."""

Patch = pytest.MonkeyPatch
SECONDS = 60.0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker for this module alone: what the faults leave in the topics nobody else must read."""
    server = Kafka(tmp_path_factory.mktemp("kafka"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def published(kafka: Kafka, seeded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after a small load, its logs in their topics."""
    folder = tmp_path_factory.mktemp("published") / "data"
    shutil.copytree(seeded_folder, folder)
    small(Life(folder))
    for service in HEARS:
        publish(folder, service, kafka.bootstrap)
    return folder


def publish(folder: Path, service: str, bootstrap: str, page: int = relays.PAGE) -> None:
    """A relay that lives until its log is published and its position saved."""
    log = EventLog(folder / service / "log.db", service)

    async def turns() -> None:
        leases = Leases(log, "relay-1")
        relay = Relay(log, leases, bootstrap, page=page)
        try:
            async with asyncio.timeout(SECONDS):
                while await relay.turn() or relay._saved() < log.last_position():
                    pass
        finally:
            await relay.close()
            leases.release()

    try:
        asyncio.run(turns())
    finally:
        log.close()


def found(folder: Path, kafka: Kafka) -> Findings:
    return audit(folder, None, None, wait=0, kafka=kafka.bootstrap)


def named(findings: Findings) -> str:
    """The failure of the check of the topics, which is the only one that fails."""
    assert [check.name for check in findings.broken] == ["published"], findings.sentence()
    return findings.broken[0].failure or ""


def test_what_is_published_is_what_is_stored(published: Path, kafka: Kafka) -> None:
    findings = found(published, kafka)
    assert findings.outcome == "clean", findings.sentence()
    (check,) = [check for check in findings.checks if check.name == "published"]
    assert check.count >= 2 * findings.events


def test_a_log_that_is_not_published_to_its_end_is_not_idle(published: Path, kafka: Kafka, tmp_path: Path) -> None:
    folder = shutil.copytree(published, tmp_path / "data")
    log = EventLog(folder / "issues" / "log.db", "issues")
    log.run(lambda cursor: cursor.execute("UPDATE relay SET position = position - 1"))
    log.close()
    findings = found(folder, kafka)
    assert findings.outcome == "not idle"
    assert "the relay of issues has not published all" in (findings.waiting_for or "")


def test_I10_a_topic_ahead_of_its_log_is_named(
    published: Path, kafka: Kafka, seeded_folder: Path, tmp_path: Path
) -> None:
    """The databases were put back to an earlier moment, and nobody began a new epoch."""
    folder = shutil.copytree(seeded_folder, tmp_path / "data")
    for service in HEARS:
        log = EventLog(folder / service / "log.db", service)
        place = (TOPIC[service], log.last_position())
        log.run(lambda cursor, place=place: cursor.execute("INSERT INTO relay VALUES (?, ?)", place))  # type: ignore[misc]
        log.close()
    assert "whose log ends at 0" in named(found(folder, kafka))


def test_repeats_are_told_and_break_no_promise(published: Path, kafka: Kafka, tmp_path: Path) -> None:
    folder = shutil.copytree(published, tmp_path / "data")
    from_the_first(folder, "meetings")
    publish(folder, "meetings", kafka.bootstrap)
    findings = found(folder, kafka)
    assert findings.outcome == "clean", findings.sentence()


# Seeded faults of the relay


def save_before_publish(patch: Patch) -> None:
    """The position is saved, then the page is published; the relay ends between the two, once."""
    killed: list[int] = []

    async def turn(relay: Relay) -> bool:
        if not await relay._hold():
            return False
        rows = await relay._store(lambda: relay._log.after(relay._position, relay._page))
        if not rows:
            return False
        await relay._store(lambda: relay._save(rows[-1].position))
        relay._position = rows[-1].position
        if not killed:
            killed.append(rows[-1].position)
            return True
        if relay._producer is None:
            relay._producer = await relay._made()
        await relay._producer.send(relay.topic.name, map(to_record, rows), seconds=SECONDS)
        return True

    patch.setattr(Relay, "turn", turn)


def _sent(patch: Patch, change: Callable[[list[Outgoing]], list[Outgoing]]) -> None:
    """Change what the relay sends."""
    send = Producer.send

    async def changed(producer: Producer, topic: str, records: Iterable[Outgoing], **named: Any) -> None:
        await send(producer, topic, change(list(records)), **named)

    patch.setattr(Producer, "send", changed)


def drop_one(patch: Patch) -> None:
    """One record of a page is not sent."""
    _sent(patch, lambda records: [*records[:1], *records[2:]])


def swap_two(patch: Patch) -> None:
    """Two records of one key are sent in the other order."""
    _sent(patch, lambda records: [records[1], records[0], *records[2:]])


def other_bytes(patch: Patch) -> None:
    """A record is sent with other bytes than are stored."""
    _sent(patch, lambda records: [records[0]._replace(value=records[0].value + b" "), *records[1:]])


def wrong_partition(patch: Patch) -> None:
    """The partition is taken from something else than the slot."""

    def beside(row: Unread) -> Outgoing:
        record = to_record(row)
        return record._replace(partition=(record.partition + 1) % 12)

    patch.setattr(relays, "to_record", beside)


SEEDED = [
    (save_before_publish, "is not in maru.issues.v1"),
    (drop_one, "is not in maru.issues.v1"),
    (swap_two, "behind a later event of the same key"),
    (other_bytes, "is not in maru.issues.v1"),
    (wrong_partition, "is not in maru.issues.v1"),
]


@pytest.mark.faults
@pytest.mark.parametrize("run", range(1, 11), ids="run{}".format)
@pytest.mark.parametrize(("fault", "says"), SEEDED, ids=[fault.__name__ for fault, _ in SEEDED])
def test_a_fault_of_the_relay_is_found(
    published: Path, kafka: Kafka, tmp_path: Path, fault: Callable[[Patch], None], says: str, run: int
) -> None:
    folder = shutil.copytree(published, tmp_path / "data")
    asyncio.run(make_anew(kafka.bootstrap, "issues"))
    from_the_first(folder, "issues")
    try:
        with pytest.MonkeyPatch.context() as patch:
            fault(patch)
            publish(folder, "issues", kafka.bootstrap, page=2)
        assert says in named(found(folder, kafka))
    finally:
        asyncio.run(make_anew(kafka.bootstrap, "issues"))
        from_the_first(folder, "issues")
        publish(folder, "issues", kafka.bootstrap)


def from_the_first(folder: Path, service: str) -> None:
    """As ``maru republish`` does it."""
    log = EventLog(folder / service / "log.db", service)
    relays.republish(log)
    log.close()


async def make_anew(bootstrap: str, service: str) -> None:
    """Delete a topic and make it again, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(20):
            while TOPIC[service] in await admin.list_topics():
                await admin.delete_topics([TOPIC[service]])
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await ensure_topics(bootstrap, (topic_of(service),))
