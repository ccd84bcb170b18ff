"""What the tests of relay and carrier do again and again: append, publish, carry, and look."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait

from shared.contracts.topics import topic_of
from shared.runtime.jobs import Unread, Write
from shared.runtime.kafka import Consumer, Heard, Outgoing, Producer, ensure_topics
from shared.runtime.kafka_carrier import KafkaCarrier
from shared.runtime.leases import Leases
from shared.runtime.log import EventLog
from shared.runtime.records import to_record
from shared.runtime.relay import Relay
from tests.runtime.ledger import prepared

SECONDS = 30.0


def append(log: EventLog, count: int, keys: int = 7) -> list[Unread]:
    """Append so many events to ledgers of so many keys, and give them."""
    before = log.last_position()
    for number in range(count):
        name, text = f"key-{number % keys}", f"의견 {before + number}"
        log.submit(Write((prepared(log, name, text, f"{log.service}-{before + number}"),))).result(10)
    return log.after(before, count + 1)


def append_many(log: EventLog, count: int, keys: int = 24) -> None:
    """Append many events fast: one event for each of the keys in each commit."""
    for start in range(0, count, keys):
        wait(
            [
                log.submit(Write((prepared(log, f"key-{number}", f"의견 {start}", f"{start}-{number}"),)))
                for number in range(min(keys, count - start))
            ]
        )


def until(reached: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for a state. Fails when it does not come."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "did not come"
        time.sleep(0.01)


def publish(log: EventLog, bootstrap: str, holder: str = "relay-1") -> None:
    """One relay that lives until everything is published and saved; then it lets go of its lease."""

    async def turns() -> None:
        leases = Leases(log, holder)
        relay = Relay(log, leases, bootstrap)
        try:
            async with asyncio.timeout(SECONDS):
                while await relay.turn() or saved(log) < log.last_position():
                    pass
        finally:
            await relay.close()
            leases.release()

    asyncio.run(turns())


def saved(log: EventLog) -> int:
    """The relay's saved position."""
    rows = log.query("SELECT position FROM relay")
    return int(rows[0][0]) if rows else 0


class Running:
    """A relay that runs in a thread of its own, as in its process."""

    def __init__(self, log: EventLog, bootstrap: str, holder: str = "relay-1") -> None:
        self._ready = threading.Event()
        self.leases = Leases(log, holder)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(log, bootstrap)))
        self._thread.start()
        self._ready.wait(10)

    async def _run(self, log: EventLog, bootstrap: str) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.relay = Relay(log, self.leases, bootstrap)
        self._ready.set()
        await self.relay.run(self._stop)

    def stop(self) -> float:
        """End it; gives the seconds that it took."""
        started = time.monotonic()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()
        return time.monotonic() - started


def stuck() -> None:
    """What a carrier that is stuck would end; here it fails the test."""
    raise AssertionError("stuck")


def carry(*carriers: KafkaCarrier, reached: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Step carriers in turn until a state is reached."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "did not come"
        for carrier in carriers:
            carrier.step()


def heard(log: EventLog) -> list[tuple[int, int, bytes]]:
    """What the inbox holds: epoch, position and bytes, by position."""
    return [(row.epoch, row.position, row.raw) for row in log.inbox("source = 'issues' ORDER BY epoch, position")]


def stored(log: EventLog) -> list[tuple[int, int, bytes]]:
    """What a log holds, in the same form."""
    return [(row.epoch, row.position, row.raw) for row in log.after(0, 100_000)]


def causes(log: EventLog) -> list[str]:
    """Why records were rejected, in the order of partition and offset."""
    return [row[0] for row in log.query("SELECT cause FROM rejected ORDER BY partition, record_offset")]


def send(bootstrap: str, records: Sequence[Outgoing], service: str = "issues") -> None:
    """Publish records as they are given, by anybody."""

    async def sending() -> None:
        await ensure_topics(bootstrap, (topic_of(service),))
        producer = Producer(bootstrap, "anybody")
        await producer.start()
        try:
            await producer.send(topic_of(service).name, records, seconds=20)
        finally:
            await producer.stop()

    asyncio.run(sending())


def send_rows(bootstrap: str, rows: Sequence[Unread]) -> None:
    """Publish events in the order given."""
    send(bootstrap, [to_record(row) for row in rows])


def topic_records(bootstrap: str, service: str = "issues") -> list[Heard]:
    """Everything in a service's topic, by partition and offset."""

    async def reading() -> list[Heard]:
        topic = topic_of(service)
        consumer = Consumer(bootstrap, "looker")
        await consumer.start()
        try:
            places = [(topic.name, number) for number in range(topic.partitions)]
            ends = await consumer.ends(places)
            consumer.assign(dict.fromkeys(places, 0))
            found: list[Heard] = []
            async with asyncio.timeout(20):
                while len(found) < sum(ends.values()):
                    for records in (await consumer.take(1000, 0.5)).values():
                        found += records
            return sorted(found, key=lambda record: (record.partition, record.offset))
        finally:
            await consumer.stop()

    return asyncio.run(reading())
