"""Kafka: making the topics, a producer and a consumer; the only file that knows aiokafka.

Settings and the rules around them come from what is known of the client (reliability, section 3.2): explicit topics,
acks from all replicas, idempotence on, no consumer group, no committed offsets, metadata at most 30 s old, requests
given up after 10 s. Whatever fails is closed and made anew by the caller; closing never waits for a broker that is
not there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.codec import has_lz4, has_zstd
from aiokafka.errors import KafkaError, for_code

from shared.contracts.topics import MAX_MESSAGE_BYTES, Topic
from shared.runtime.brokers import SCRAM, Brokers

REQUEST_SECONDS = 10.0
STOP_SECONDS = 3.0
BATCH_BYTES = 512 * 1024
_EXISTS = 36
_NOT_YET = (3, 5)  # unknown topic or no leader: the broker has not told all its threads of a new topic yet

Place = tuple[str, int]
"""A topic's name and a partition."""


class OtherPartitions(Exception):
    """A topic stands there with another number of partitions: slots would not be where followers look for them."""


FAILURES: tuple[type[Exception], ...] = (KafkaError, OSError, TimeoutError, AssertionError, OtherPartitions)
"""What a call to Kafka may raise when the broker is absent, frozen, wiped or refuses: close, wait, make anew. The
client asserts that it knows a partition, and does not while a wiped broker comes back."""


class Outgoing(NamedTuple):
    """A record on its way to a topic."""

    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Heard:
    """A record as it lies in a topic; anything of it may be missing or malformed."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    fault: str | None = None
    """Why nothing but its place could be read."""


class Seldom(logging.Filter):
    """Lets a message of a logger through once in ``seconds``, with the number held back; outages bring thousands."""

    def __init__(self, seconds: float = 30.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one goes through."""
        now = time.monotonic()
        if len(self._seen) > 200:
            self._seen.clear()
        name = (record.name, str(record.msg)[:80])
        last, held = self._seen.get(name, (float("-inf"), 0))
        if now - last < self._seconds:
            self._seen[name] = (last, held + 1)
            return False
        self._seen[name] = (now, 0)
        if held:
            record.msg = f"{record.getMessage()} (and {held} more since)"
            record.args = ()
        return True


_seldom = Seldom()


def limit_logs() -> None:
    """Limit every logger of the client: a filter on a parent does not see what its children log."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "aiokafka":
            logging.getLogger(name).addFilter(_seldom)


async def _closed(closing: Awaitable[object], *, sweep: bool) -> None:
    """Wait for a client to close, ``STOP_SECONDS`` at most; then ``sweep`` away what it leaves running.

    With the broker down a client waits for answers that never come, or lets a ``CancelledError`` of its own out. The
    sweep takes every task of the library in this event loop: a producer or consumer of ours has its loop to itself.
    """
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await closing
            return
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
    except FAILURES as error:
        logging.getLogger("maru.kafka").debug("closing failed: %r", error)
    left = [task for task in asyncio.all_tasks() if sweep and "aiokafka" in _file_of(task)]
    for task in left:
        task.cancel()
    await asyncio.wait(left, timeout=1.0) if left else None


def _file_of(task: asyncio.Task[Any]) -> str:
    code = getattr(task.get_coro(), "cr_code", None)
    return str(getattr(code, "co_filename", ""))


def client_settings(place: Brokers | str, client: str) -> dict[str, Any]:
    """What every client of ours is made with. Raises ``OSError`` where a file of the credentials cannot be read."""
    brokers = Brokers.at(place)
    credentials: dict[str, Any] = {}
    if brokers.protocol != "plaintext":
        credentials = {"security_protocol": brokers.protocol.upper(), "ssl_context": brokers.tls()}
    if brokers.protocol == "sasl_ssl":
        credentials |= {
            "sasl_mechanism": SCRAM,
            "sasl_plain_username": brokers.user,
            "sasl_plain_password": brokers.password,
        }
    return {
        **credentials,
        "bootstrap_servers": brokers.bootstrap,
        "client_id": client,
        "request_timeout_ms": int(REQUEST_SECONDS * 1000),
        "metadata_max_age_ms": 30_000,
        "retry_backoff_ms": 100,
    }


class _Admin:
    """A connection for questions about the cluster."""

    def __init__(self, bootstrap: Brokers | str, client: str) -> None:
        self._client = AIOKafkaAdminClient(**client_settings(bootstrap, client))

    async def __aenter__(self) -> AIOKafkaAdminClient:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._client.start()
        except BaseException:
            await _closed(self._client.close(), sweep=False)
            raise
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await _closed(self._client.close(), sweep=False)


async def ensure_topics(bootstrap: Brokers | str, topics: Iterable[Topic], *, seconds: float = REQUEST_SECONDS) -> None:
    """Make the topics that are not there, as the table says, and wait until each partition has a leader.

    Raises ``OtherPartitions`` for a topic with another number of partitions, one of ``FAILURES`` without a broker.
    """
    wanted = {topic.name: topic for topic in topics}
    async with asyncio.timeout(seconds), _Admin(bootstrap, "maru-topics") as admin:
        made = [
            NewTopic(
                topic.name,
                topic.partitions,
                -1,  # the broker's own default
                replica_assignments={},
                topic_configs={
                    "cleanup.policy": "delete",
                    "retention.ms": str(topic.retention_ms),
                    "max.message.bytes": str(MAX_MESSAGE_BYTES),
                },
            )
            for topic in wanted.values()
        ]
        missing = {topic["topic"] for topic in await admin.describe_topics(list(wanted)) if topic["error_code"]}
        if missing:
            try:
                answer = await admin.create_topics([topic for topic in made if topic.name in missing])
            except AttributeError:
                raise ConnectionError("the cluster has no controller yet") from None
            for name, code, *_ in answer.topic_errors:
                if code not in (0, _EXISTS):
                    raise for_code(code)(name)
        waiting = set(wanted)
        while waiting:
            for topic in await admin.describe_topics(list(waiting)):
                if topic["error_code"] in _NOT_YET:
                    continue
                if topic["error_code"]:
                    raise for_code(topic["error_code"])(topic["topic"])
                has, should = len(topic["partitions"]), wanted[topic["topic"]].partitions
                if has != should:
                    raise OtherPartitions(f"{topic['topic']} has {has} partitions, not {should}")
                if all(partition["leader"] >= 0 for partition in topic["partitions"]):
                    waiting.discard(topic["topic"])
            if waiting:
                await asyncio.sleep(0.05)


def _compression() -> str | None:
    """The best codec whose library is installed; none is as good where the broker is near."""
    return "lz4" if has_lz4() else "zstd" if has_zstd() else None


class Producer:
    """Publishes batches to explicit partitions; after any error, ``stop`` it and make another."""

    def __init__(self, bootstrap: Brokers | str, client: str) -> None:
        limit_logs()
        self._producer = AIOKafkaProducer(
            **client_settings(bootstrap, client),
            acks="all",
            enable_idempotence=True,
            compression_type=_compression(),
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
        )
        self._admin = AIOKafkaAdminClient(**client_settings(bootstrap, client))

    async def start(self) -> None:
        """Connect. Raises one of ``FAILURES``; the producer is then closed."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._producer.start()
                await self._admin.start()
        except BaseException:
            await self.stop()
            raise

    async def cluster(self) -> str:
        """The cluster's id: another one has nothing of what was published. Raises one of ``FAILURES``."""
        return await _cluster(self._admin)

    async def send(self, topic: str, records: Iterable[Outgoing], *, seconds: float) -> None:
        """Publish, each partition's records in order, and wait until all of them are on all replicas.

        Raises one of ``FAILURES``, ``TimeoutError`` among them: what was stored is then unknown.
        """
        partitions: dict[int, list[Outgoing]] = {}
        for record in records:
            partitions.setdefault(record.partition, []).append(record)
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(self._send(topic, number, part) for number, part in partitions.items()))

    async def _send(self, topic: str, partition: int, records: list[Outgoing]) -> None:
        stored = []
        batch = self._producer.create_batch()
        for record in records:
            # A batch takes its first record whatever its size.
            while batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers) is None:
                stored.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
        stored.append(await self._producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*stored)

    async def stop(self) -> None:
        """Close, whatever the state of the broker; what is still unsent is dropped."""
        await _closed(self._producer.stop(), sweep=True)
        # Where closing gave up, these are still open; where it did not, both are done at once.
        await _closed(self._producer.client.close(), sweep=True)
        await _closed(self._admin.close(), sweep=True)


async def _cluster(admin: AIOKafkaAdminClient) -> str:
    async with asyncio.timeout(REQUEST_SECONDS):
        return str((await admin.describe_cluster())["cluster_id"])


class Consumer:
    """Reads partitions that it is given, from offsets that it is given; belongs to no group and commits nothing."""

    def __init__(self, bootstrap: Brokers | str, client: str) -> None:
        limit_logs()
        self._consumer = AIOKafkaConsumer(
            **client_settings(bootstrap, client),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=250,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        )
        self._admin = AIOKafkaAdminClient(**client_settings(bootstrap, client))
        self._next: dict[Place, int] = {}

    async def start(self) -> None:
        """Connect. Raises one of ``FAILURES``; the consumer is then closed."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._consumer.start()
                await self._admin.start()
        except BaseException:
            await self.stop()
            raise

    async def cluster(self) -> str:
        """The cluster's id: another one means that every offset known so far says nothing."""
        return await _cluster(self._admin)

    def assign(self, offsets: Mapping[Place, int]) -> None:
        """Read these partitions and no others, each from its offset; what was fetched before is dropped."""
        self._next = dict(offsets)
        self._consumer.assign([TopicPartition(*place) for place in offsets])
        for place, offset in offsets.items():
            self.seek(place, offset)

    def seek(self, place: Place, offset: int) -> None:
        """Go on reading an assigned partition from another offset."""
        self._next[place] = offset
        self._consumer.seek(TopicPartition(*place), offset)

    async def beginnings(self, places: Iterable[Place]) -> dict[Place, int]:
        """The first offset of each partition."""
        wanted = [TopicPartition(*place) for place in places]
        async with asyncio.timeout(REQUEST_SECONDS):
            return {tuple(place): int(at) for place, at in (await self._consumer.beginning_offsets(wanted)).items()}

    async def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """The offset that the next record of each partition will have."""
        wanted = [TopicPartition(*place) for place in places]
        async with asyncio.timeout(REQUEST_SECONDS):
            return {tuple(place): int(at) for place, at in (await self._consumer.end_offsets(wanted)).items()}

    async def take(self, limit: int, seconds: float) -> dict[Place, list[Heard]]:
        """Up to ``limit`` records, in order for each partition; waits ``seconds`` at most for the first."""
        try:
            return self._heard(await self._consumer.getmany(timeout_ms=int(seconds * 1000), max_records=limit))
        except UnicodeDecodeError:
            return await self._around(limit)

    async def _around(self, limit: int) -> dict[Place, list[Heard]]:
        """Read past a batch that the client cannot: Kafka lets any bytes be a header's name, the client wants UTF-8.

        One record at a time; of what cannot be read, the places. Slow, and never stuck.
        """
        # Whatever else the failed call had taken is dropped by it: from the beginning of that call again.
        self.assign(self._next)
        ends = await self.ends(self._next)
        found: dict[Place, list[Heard]] = {}
        enough = time.monotonic() + 1.0
        for place in [place for place, end in ends.items() if self._next[place] < end]:
            records = found.setdefault(place, [])
            while self._next[place] < ends[place] and len(records) < limit and time.monotonic() < enough:
                try:
                    more = await self._consumer.getmany(TopicPartition(*place), timeout_ms=1000, max_records=1)
                except UnicodeDecodeError:
                    at = self._next[place]
                    records.append(Heard(*place, at, None, None, (), "a header's name is not UTF-8"))
                    self.seek(place, at + 1)
                else:
                    records += self._heard(more).get(place, [])
        return {place: records for place, records in found.items() if records}

    def _heard(self, found: Mapping[Any, Any]) -> dict[Place, list[Heard]]:
        for place, records in found.items():
            self._next[tuple(place)] = records[-1].offset + 1
        return {
            tuple(place): [Heard(r.topic, r.partition, r.offset, r.key, r.value, r.headers) for r in records]
            for place, records in found.items()
        }

    async def stop(self) -> None:
        """Close, whatever the state of the broker."""
        await _closed(self._consumer.stop(), sweep=True)
        await _closed(self._admin.close(), sweep=True)
