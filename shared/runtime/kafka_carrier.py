"""The Kafka carrier: takes what other services published into this service's inbox, and does nothing else.

It belongs to no consumer group. The processes of a service share the slots by leases in the service's own database; a
slot is a partition of every topic heard. Where to go on reading is stored beside the records, in the transaction that
stores them, and is never trusted: repeats are ignored by the inbox's key, and each record names its predecessor, so
that what was skipped shows. Then the partition is read again from its beginning, once; if the topic lacks the
predecessor, an alarm says so, carrying goes on, and the followers stop that slot at the hole until it is filled.

Records that are not ours, or not unchanged, are kept apart with their cause.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Sequence

import structlog

from shared.contracts.topics import topic_of
from shared.runtime import metrics, tracing
from shared.runtime.brokers import Brokers
from shared.runtime.chains import Chain, read_chains
from shared.runtime.codec import SLOTS
from shared.runtime.jobs import Carried, Insert, Lost, Rejected, Unread
from shared.runtime.kafka import FAILURES, Consumer, Heard, OtherPartitions, Place, ensure_topics
from shared.runtime.leases import Leases
from shared.runtime.log import EventLog
from shared.runtime.loops import MOST_REST
from shared.runtime.records import Foreign, from_record

logger = structlog.get_logger("maru.carrier")
GROUP = "carrier"
BATCH = 2000
"""Records taken and stored at once, over all partitions."""
WAIT_SECONDS = 0.2
"""Longest wait for a record in one step."""
LOOK_SECONDS = 1.0
"""How often leases are prolonged and the partitions' ends looked at."""
STUCK_SECONDS = 15.0
KEPT_BYTES = 64 * 1024
"""How much of a rejected record's value is kept."""
_RETRY = (0.2, 0.5, 1.0, 2.0)


class KafkaCarrier:
    """Carries the topics of ``sources`` into the inbox of ``log``, for the slots that this process holds.

    ``step`` is for a thread of its own (``Loop`` with no idle time and no shared pressure): it waits for records
    itself. ``on_stuck`` is called when records are there and two consumers in a row bring none: the process must end.
    """

    def __init__(
        self,
        log: EventLog,
        sources: Sequence[str],
        leases: Leases,
        bootstrap: Brokers | str,
        *,
        on_stuck: Callable[[], None],
        stuck_seconds: float = STUCK_SECONDS,
    ) -> None:
        self.problem: str | None = "not started"
        """Why nothing is carried just now, ``None`` where all is well."""
        self.slots: frozenset[int] = frozenset()
        self._log = log
        self._topics = {topic_of(source).name: source for source in sources}
        self._leases = leases
        self._bootstrap = bootstrap
        self._on_stuck = on_stuck
        self._stuck_seconds = stuck_seconds
        self._loop = asyncio.new_event_loop()
        self._consumer: Consumer | None = None
        self._cluster = ""
        self._next: dict[Place, int] = {}
        self._chains: dict[Place, Chain] = {}
        self._life = 0
        self._look_at = 0.0
        self._retry_at = 0.0
        self._failures = 0
        self._moved_at = time.monotonic()
        self._rebuilt = False

    def step(self) -> bool:
        """Take what has come; tells whether something had. A broker that is absent is waited for, never raised.

        Raises ``Unavailable`` where the own database cannot be read or written.
        """
        try:
            found = self._loop.run_until_complete(self._step())
        except FAILURES as error:
            self.problem = f"{type(error).__name__}: {str(error)[:300]}"
            told = logger.error if isinstance(error, OtherPartitions) else logger.warning
            told("nothing carried", service=self._log.service, problem=self.problem)
            self._again()
            return False
        except Exception:
            # What was taken may not be stored: begin again from what is.
            self._again()
            raise
        return found

    def close(self) -> None:
        """Close the connections, also twice; not while ``step`` runs. Leases are let go by their owner."""
        if self._loop.is_closed():
            return
        self._loop.run_until_complete(self._drop())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _again(self) -> None:
        self._loop.run_until_complete(self._drop())
        self._retry_at = time.monotonic() + _RETRY[min(self._failures, len(_RETRY) - 1)]
        self._failures += 1

    async def _step(self) -> bool:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            await self._look()
        if self._consumer is None:
            if self.slots and now >= self._retry_at:
                await self._open()
            else:
                await asyncio.sleep(WAIT_SECONDS)
            return False
        if not self.slots:
            await asyncio.sleep(WAIT_SECONDS)
            return False
        if self._log.life != self._life:
            raise Lost("the connection was made anew")
        records = await self._consumer.take(BATCH, WAIT_SECONDS)
        if not records:
            return False
        started = time.monotonic()
        self._store(records)
        # As a loop that yields: what comes meanwhile is stored together.
        await asyncio.sleep(min(time.monotonic() - started, MOST_REST))
        self._moved_at, self._rebuilt = time.monotonic(), False
        self.problem, self._failures = None, 0
        return True

    async def _look(self) -> None:
        """Prolong the leases, follow a change of slots, and see whether anything is stuck."""
        names = [f"slot-{number}" for number in range(SLOTS)]
        slots = frozenset(int(name.removeprefix("slot-")) for name in self._leases.share(GROUP, names))
        if slots != self.slots:
            logger.info("slots", service=self._log.service, slots=sorted(slots))
            self.slots = slots
            if self._consumer is not None:
                await self._assign(self._consumer)
        if self._consumer is None or not self._next:
            return
        # A broker made anew on the same address: none of our offsets says anything there.
        if await self._consumer.cluster() != self._cluster:
            raise ConnectionResetError("another cluster answers")
        ends = await self._consumer.ends(self._next)
        behind = {place: ends[place] - offset for place, offset in self._next.items()}
        for topic, source in self._topics.items():
            lag = sum(count for place, count in behind.items() if place[0] == topic and count > 0)
            metrics.CARRIER_LAG.labels(self._log.service, source).set(lag)
        if min(behind.values()) < 0:
            raise ConnectionResetError("the topic was made anew")
        now = time.monotonic()
        if not any(behind.values()):
            self._moved_at, self._rebuilt, self.problem = now, False, None
        elif now - self._moved_at > self._stuck_seconds:
            logger.error("records are there and none comes", service=self._log.service, again=self._rebuilt)
            self.problem = "records are there and none comes"
            if self._rebuilt:
                self._on_stuck()
            self._rebuilt, self._moved_at = True, now
            await self._drop()

    async def _open(self) -> None:
        metrics.CARRIER_REBUILDS.labels(self._log.service).inc()
        self._life = self._log.life
        await ensure_topics(self._bootstrap, [topic_of(source) for source in self._topics.values()])
        consumer = Consumer(self._bootstrap, f"maru-carrier-{self._log.service}")
        await consumer.start()
        try:
            self._cluster = await consumer.cluster()
            await self._assign(consumer)
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        self._moved_at = time.monotonic()

    async def _assign(self, consumer: Consumer) -> None:
        """Read the partitions of our slots: those we read already go on, new ones begin where the database says."""
        places = [(topic, slot) for topic in self._topics for slot in sorted(self.slots)]
        new = [place for place in places if place not in self._next]
        if new:
            beginnings, ends, stored = await consumer.beginnings(new), await consumer.ends(new), self._log.carried()
            chains = read_chains(self._log, list(self._topics.values()))
            for place in new:
                source = self._topics[place[0]]
                cluster, offset = stored.get((source, place[1]), ("", -1))
                known = cluster == self._cluster and beginnings[place] <= offset <= ends[place]
                self._next[place] = offset if known else beginnings[place]
                chain = chains.get((source, place[1]), Chain())
                chain.whole = self._next[place] == beginnings[place]
                self._chains[place] = chain
        self._next = {place: self._next[place] for place in places}
        self._chains = {place: self._chains[place] for place in places}
        consumer.assign(self._next)

    async def _drop(self) -> None:
        """Forget everything that the database does not say."""
        self._next.clear()
        self._chains.clear()
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer.stop()

    def _store(self, records: dict[Place, list[Heard]]) -> None:
        """One job for each source: rows, rejected records, and where to go on; then wait for all of them."""
        assert self._consumer is not None
        futures, started = [], time.time()
        traced: list[Unread] = []
        for topic, source in self._topics.items():
            rows: list[Unread] = []
            rejected: list[Rejected] = []
            carried: list[Carried] = []
            for place in [place for place in records if place[0] == topic and place in self._next]:
                good, bad, following = self._read(source, place, records[place])
                rows += good
                rejected += bad
                carried.append(Carried(source, place[1], self._cluster, following))
            if tracing.enabled():
                traced += [row for row in rows if row.trace is not None]
            if carried:
                futures.append(
                    self._log.submit(Insert(source, tuple(rows), tuple(carried), tuple(rejected), life=self._life))
                )
                metrics.CARRIER_RECORDS.labels(self._log.service, source).inc(len(rows) + len(rejected))
                if rejected:
                    metrics.CARRIER_REJECTED.labels(self._log.service, source).inc(len(rejected))
                    causes = sorted({record.cause for record in rejected})
                    logger.warning("rejected", topic=topic, records=len(rejected), causes=causes)
        for future in futures:
            future.result(30)
        for row in traced:
            tracing.since("inbox", row.trace, started, source=row.source, position=row.position)

    def _read(self, source: str, place: Place, records: list[Heard]) -> tuple[list[Unread], list[Rejected], int]:
        """What of one partition is ours, what is not, and the offset to go on at."""
        assert self._consumer is not None
        chain, rows, rejected = self._chains[place], [], []
        for record in records:
            # A jump of offsets is no fault by itself, but after one the topic may hold what we have not read.
            chain.whole &= record.offset == self._next[place]
            self._next[place] = record.offset + 1
            try:
                if record.fault is not None:
                    raise Foreign(record.fault)
                row = from_record(record.topic, record.partition, record.key, record.value, record.headers)
                chain.take(row)
            except Foreign as error:
                rejected.append(_rejected(record, self._cluster, error.cause))
            else:
                rows.append(row)
        lacking = chain.lacking()
        if lacking:
            outcome = "lacking" if chain.whole else "reread"
            metrics.CARRIER_HOLES.labels(self._log.service, source, outcome).inc(len(lacking))
            if chain.whole:
                logger.error("the topic lacks events", topic=place[0], slot=place[1], positions=lacking[:10])
            else:
                logger.warning(
                    "reading again from the beginning", topic=place[0], slot=place[1], positions=lacking[:10]
                )
                self._next[place], chain.whole = 0, True
                self._consumer.seek(place, 0)
        return rows, rejected, self._next[place]


def _rejected(record: Heard, cluster: str, cause: str) -> Rejected:
    """A record kept apart; of a large one the beginning."""
    headers = [
        [name[:200], None if content is None else base64.b64encode(content[:2000]).decode()]
        for name, content in record.headers[:50]
    ]
    return Rejected(
        record.topic,
        cluster,
        record.partition,
        record.offset,
        cause,
        None if record.key is None else record.key[:2000],
        json.dumps(headers),
        None if record.value is None else record.value[:KEPT_BYTES],
    )
