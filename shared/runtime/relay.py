"""The relay: publishes one service's log to its topic, in the log's order, from a saved position.

It polls; whatever wakes it early only saves time. One relay of a service holds the lease; the saved position moves by
compare-and-set under that lease's fence, so what a relay publishes after it lost the lease is a mere repeat. Batches
are unconfirmed until the position is saved: a relay that dies in between publishes them again.

A topic that holds what the log of the same epoch does not have, or an epoch newer than the log's, says that the
database was put back to an earlier moment. The relay then publishes nothing, raises an alarm and is not ready; it
stays up and looks again every few seconds, because ``maru epoch new`` is done while it runs, and a process that ends
would only be started again (decision 0011).

A topic that lacks what was published says that Kafka has lost it. What is new would then come before what is older of
the same key, so nothing is published until ``maru republish`` has it begin at the first event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import structlog

from shared.contracts.topics import topic_of
from shared.runtime import metrics, tracing
from shared.runtime.brokers import Brokers
from shared.runtime.jobs import Unread
from shared.runtime.kafka import Consumer, OtherPartitions, Producer, ensure_topics
from shared.runtime.leases import Leases
from shared.runtime.log import EventLog
from shared.runtime.log_database import Cursor
from shared.runtime.loops import MOST_REST
from shared.runtime.records import to_record
from shared.runtime.topic_end import newest, too_little, too_much

logger = structlog.get_logger("maru.relay")
LEASE = "relay"
PAGE = 2000
"""Events read, published and confirmed at once."""
POLL_SECONDS = 0.25
PAUSE = 0.03
"""Least seconds between two looks."""
LOOK_SECONDS = 1.0
"""How often the lease is prolonged and the saved position looked at, where nothing else does so."""
STOP_SECONDS = 2.0
SEEN_SECONDS = 0.25
"""A page that is not confirmed after so long: the broker is asked who it is. Shorter than a broker needs to start."""
SEND_SECONDS = 20.0
"""Longest wait for a page to be on the topic; then its state is unknown and it is published again."""
REFUSED_SECONDS = 5.0
TAIL = 2 * PAGE
"""Records at each partition's end that are compared with the log: a relay that lost its lease repeats one page."""
_RETRY = (0.2, 0.5, 1.0, 2.0)

T = TypeVar("T")


class TopicAhead(Exception):
    """The topic holds an event that the log does not have: the database was put back to an earlier moment."""


class TopicBehind(Exception):
    """The topic lacks an event that was published: Kafka has lost something, or is another one."""


def republish(log: EventLog) -> None:
    """Have the whole log published again: the running relay, or the next, begins at the first event.

    Followers ignore what they have, and find what their broker lost. Raises ``Unavailable``.
    """
    topic = topic_of(log.service).name

    def change(cursor: Cursor) -> None:
        cursor.execute(
            "INSERT INTO relay VALUES (?, 0) ON CONFLICT (topic) DO UPDATE SET position = 0",
            (topic,),
        )

    log.run(change)


def new_epoch(log: EventLog) -> int:
    """Begin a new epoch after a database was put back: what is stored from now on is told from what was lost.

    Gives the epoch: the seconds since 1970, or one more than the epoch before. Raises ``Unavailable``.
    """

    def change(cursor: Cursor) -> int:
        old = int(cursor.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0])
        epoch = max(int(time.time()), old + 1)
        after = cursor.execute("SELECT COALESCE(MAX(position), 0) FROM slot_head").fetchone()[0]
        cursor.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (str(epoch),))
        cursor.execute("INSERT INTO epochs VALUES (?, ?, ?)", (epoch, after, time.time()))
        return epoch

    return int(log.run(change))


class Relay:
    """Publishes ``log``; ``run`` it in an event loop of its own process or thread."""

    def __init__(
        self, log: EventLog, leases: Leases, bootstrap: Brokers | str, *, page: int = PAGE, poll: float = POLL_SECONDS
    ) -> None:
        self.topic = topic_of(log.service)
        self.wake = asyncio.Event()
        """Set (in the relay's event loop) by whoever knows of something to publish."""
        self.problem: str | None = "not started"
        """Why nothing is published just now, ``None`` where all is well (waiting for the lease is well)."""
        self.turned_at = time.time()
        """When it last looked at the log, Unix time."""
        self._log = log
        self._leases = leases
        self._bootstrap = bootstrap
        self._page = page
        self._poll = poll
        # One thread, so one connection; its waits stop nobody but the relay.
        self._database = ThreadPoolExecutor(1, thread_name_prefix=f"{log.service}-relay")
        self._producer: Producer | None = None
        self._behind_topic = False
        self._fence: int | None = None
        self._cluster = ""
        """The cluster whose topic was compared with the log."""
        self._position = 0
        self._look_at = 0.0
        self._ending = False
        self._waiting_since: float | None = None

    @property
    def missing(self) -> list[str]:
        """What keeps it from being ready.

        Not a topic that has lost something: the system must come up for the operator's command to reach it.
        """
        return [] if self.problem is None or self._behind_topic else [self.problem]

    async def run(self, stop: asyncio.Event) -> None:
        """Turn until ``stop`` is set. Only what is wrong with the program itself ends it earlier."""
        turning = asyncio.ensure_future(self._turns())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({turning, stopping}, return_when=asyncio.FIRST_COMPLETED)
            # The page under way may be waiting for a broker that is not there; unconfirmed, it is published again.
            self._ending = True
            self.wake.set()
            await asyncio.wait({turning}, timeout=STOP_SECONDS)
        finally:
            stopping.cancel()
            turning.cancel()
            await asyncio.wait({turning})
            await self.close()
        if not turning.cancelled():
            turning.result()

    async def _turns(self) -> None:
        failures = 0
        while not self._ending:
            self.wake.clear()
            self.turned_at = time.time()
            started = time.monotonic()
            try:
                published = await self.turn()
                pause = 0.0 if published else self._poll
                self.problem, failures = None, 0
                if published < self._page:
                    # One fact brings several commits, and a turn costs more than an event.
                    took = time.monotonic() - started
                    await asyncio.sleep(min(max(took, PAUSE - took), MOST_REST))
            except (TopicAhead, TopicBehind) as error:
                await self._wait_for(error)
                pause = REFUSED_SECONDS
            except Exception as error:
                await self._wait_for(error)
                await self._drop()
                # The broker may be another one by now, or have lost something: compare before anything is sent.
                self._fence, self._look_at = None, 0.0
                pause = _RETRY[min(failures, len(_RETRY) - 1)]
                failures += 1
            if pause and not self._ending:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), pause)

    async def turn(self) -> int:
        """Publish and confirm one page; gives the number of its events.

        Raises ``TopicAhead``, ``TopicBehind``, one of ``FAILURES``, ``Unavailable``: nothing is confirmed then.
        """
        if not await self._hold():
            return 0
        rows = await self._store(lambda: self._log.after(self._position, self._page))
        await self._measure(rows)
        if not rows:
            return 0
        if self._producer is None:
            self._producer = await self._made()
        started = time.time()
        await self._send(self._producer, rows)
        if tracing.enabled():
            for row in rows:
                tracing.since("relay", row.trace, started, position=row.position)
        last = rows[-1].position
        if await self._store(lambda: self._save(last)):
            self._position = last
            self._waiting_since = None
            metrics.RELAY_PUBLISHED.labels(self._log.service).inc(len(rows))
        else:
            # Another holds the lease, or the log is to be published again: look before anything else.
            self._fence, self._look_at = None, 0.0
        return len(rows)

    async def _send(self, producer: Producer, rows: Sequence[Unread]) -> None:
        """Publish a page, as long as it is the same cluster that answers.

        The client tries again by itself while a broker is down, and would deliver to an empty one that takes its place.
        """
        sending = asyncio.ensure_future(producer.send(self.topic.name, map(to_record, rows), seconds=SEND_SECONDS))
        try:
            while not (await asyncio.wait({sending}, timeout=SEEN_SECONDS))[0]:
                if await producer.cluster() != self._cluster:
                    raise ConnectionResetError("another cluster answers")
            sending.result()
        finally:
            sending.cancel()

    async def close(self) -> None:
        """Close the connections; the lease ends by itself, or by ``Leases.release``."""
        await self._drop()
        self._database.shutdown(wait=True)

    async def _store(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, function)

    async def _hold(self) -> bool:
        """Prolong the lease and look at the saved position; compare topic and log where either is new."""
        now = time.monotonic()
        if now < self._look_at:
            return self._fence is not None
        known, self._fence = self._fence, None
        fence = await self._store(lambda: self._leases.take(LEASE))
        if fence is not None:
            position = await self._store(self._saved)
            moved = fence != known or position != self._position
            self._position = position
            if moved:
                # A broker made anew gives producer ids out again: never one of an earlier life.
                await self._drop()
                await self._compare(position)
                logger.info("publishing", service=self._log.service, after=position, fence=fence)
            elif self._producer is not None and await self._producer.cluster() != self._cluster:
                raise ConnectionResetError("another cluster answers")
        self._fence, self._look_at = fence, now + LOOK_SECONDS
        return fence is not None

    def _saved(self) -> int:
        rows = self._log.query("SELECT position FROM relay WHERE topic = ?", self.topic.name)
        return int(rows[0][0]) if rows else 0

    def _save(self, position: int) -> bool:
        """Move the saved position, where this relay still holds the lease and nobody else has moved it."""
        name, old, holder, fence = self.topic.name, self._position, self._leases.holder, self._fence

        def change(cursor: Cursor) -> bool:
            if old == 0:
                cursor.execute("INSERT INTO relay VALUES (?, 0) ON CONFLICT DO NOTHING", (name,))
            moved = cursor.execute(
                "UPDATE relay SET position = ? WHERE topic = ? AND position = ? "
                "AND EXISTS (SELECT 1 FROM lease WHERE name = ? AND holder = ? AND fence = ?)",
                (position, name, old, LEASE, holder, fence),
            )
            return moved.rowcount == 1

        return bool(self._log.run(change, durable=False, lock="lease"))

    async def _compare(self, position: int) -> None:
        """Make the topic where it is missing.

        Raises ``TopicAhead`` where it holds what the log does not have, ``TopicBehind`` where it lacks what was
        published up to ``position``: what is new would come before what is older.
        """
        await ensure_topics(self._bootstrap, (self.topic,))
        consumer = Consumer(self._bootstrap, f"maru-relay-{self._log.service}-look")
        await consumer.start()
        try:
            self._cluster = await consumer.cluster()
            last = await newest(consumer, self.topic, TAIL)
        finally:
            await consumer.stop()
        ahead = await self._store(lambda: too_much(self._log, last))
        behind = await self._store(lambda: too_little(self._log, last, position))
        metrics.RELAY_REFUSED.labels(self._log.service).set(ahead is not None or behind is not None)
        if ahead is not None:
            raise TopicAhead(ahead)
        if behind is not None:
            raise TopicBehind(behind)

    async def _made(self) -> Producer:
        await ensure_topics(self._bootstrap, (self.topic,))
        producer = Producer(self._bootstrap, f"maru-relay-{self._log.service}")
        await producer.start()
        if await producer.cluster() != self._cluster:
            await producer.stop()
            raise ConnectionResetError("another cluster answers")
        return producer

    async def _drop(self) -> None:
        """After any error the producer is made anew: one that met an error may never send again."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            metrics.RELAY_REBUILDS.labels(self._log.service).inc()
            await producer.stop()

    async def _measure(self, rows: Sequence[Unread]) -> None:
        now = time.monotonic()
        lag = 0
        if rows:
            full = len(rows) == self._page
            lag = await self._store(self._log.last_position) - self._position if full else len(rows)
            self._waiting_since = self._waiting_since or now
        else:
            self._waiting_since = None
        metrics.RELAY_LAG.labels(self._log.service).set(lag)
        metrics.RELAY_AGE.labels(self._log.service).set(now - (self._waiting_since or now))

    async def _wait_for(self, error: Exception) -> None:
        """Tell what is wrong, and what waits for it to be mended."""
        with suppress(Exception):
            await self._measure(await self._store(lambda: self._log.after(self._position, self._page)))
        self._tell(error)

    def _tell(self, error: BaseException) -> None:
        self.problem = f"{type(error).__name__}: {str(error)[:300]}"
        self._behind_topic = isinstance(error, TopicBehind)
        if self._waiting_since is not None:
            metrics.RELAY_AGE.labels(self._log.service).set(time.monotonic() - self._waiting_since)
        told = logger.error if isinstance(error, TopicAhead | TopicBehind | OtherPartitions) else logger.warning
        told("nothing published", service=self._log.service, problem=self.problem)
