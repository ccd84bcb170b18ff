"""The observer (`maru observe`): one Faust application over all topics; the only file that knows Faust.

It owns nothing and decides nothing: it tells what no service can tell of itself. All of it comes from the topics, so it
begins at the first record at every start, in a consumer group of its own that nobody has used before. So no committed
offset can hide a record, no orphan of an earlier life holds partitions, and the tables need no changelog.

The application is embedded: signals, HTTP and the judging of what time alone can tell are ours (`docs/observer.md`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import operator
import os
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import faust
import structlog
import uvicorn
from faust.windows import TumblingWindow

from shared.contracts.topics import TOPICS
from shared.runtime import kafka, metrics, telling, web
from shared.runtime.brokers import SCRAM, Brokers
from shared.runtime.observed import Observed
from shared.runtime.records import Foreign, from_record
from shared.runtime.settings import Settings
from shared.runtime.watched import Limits, Seen, Watched

TICK_SECONDS = 0.5
"""How often it is looked how far the topics have been read."""
STALL_SECONDS = 60.0
"""Behind, and nothing new for so long while the broker answers: begin anew. Faust's own longest stall was 47 s."""
QUIET_SECONDS = 15.0
"""Neither caught up nor moving for so long is not ready."""
STOP_SECONDS = 6.0
"""How long Faust may take to stop. It needs 2 s; with the broker down it never ends, and the process is left hard."""
RETRY_SECONDS = 1.0
WINDOWS = {"hour": (60.0, 3600.0), "day": (900.0, 86_400.0)}
"""Seconds of one window and of all of them: the pulse of the last hour is that of sixty minutes, and so on."""

logger = structlog.get_logger("maru.observer")


class _App(faust.App):
    """Faust, without the folders that it makes for tables on disk: there are none."""

    def _create_directories(self) -> None:
        """None."""


class _Pulse(faust.Table[Any, int]):
    """Events by (tier, region) in tumbling windows, in memory.

    Without a changelog topic: it is filled from the topics at every start. A key's end is noted once and not, as Faust
    does, with every change: a busy day would be held in memory twice.
    """

    def __init__(self, app: faust.App, name: str, size: float, expires: float) -> None:
        super().__init__(app, name=name, default=int, store="memory://", window=TumblingWindow(size, expires=expires))
        self._expires = expires

    async def on_start(self) -> None:
        """Only the store: there is no changelog to declare."""
        await self.add_runtime_dependency(self.data)

    def on_key_get(self, key: Any) -> None:
        """Nothing to be told."""

    def on_key_set(self, key: Any, value: Any) -> None:
        """Note when the window ends; nothing is sent."""
        if key not in self._partition_timestamp_keys[0, key[1][1]]:
            self._maybe_set_key_ttl(key, 0)

    def on_key_del(self, key: Any) -> None:
        """Nothing to be told."""

    def count(self, key: tuple[str, str], at: float) -> None:
        """One more in the window of ``at``, unless that is over."""
        if at > time.time() - self._expires:
            self._apply_window_op(operator.add, key, 1, at)

    def totals(self) -> Counter[tuple[str, str]]:
        """By (tier, region), over the windows that are not over."""
        since, found = time.time() - self._expires, Counter[tuple[str, str]]()
        for (key, (_, end)), count in list(self.data.items()):
            if end > since:
                found[key] += count
        return found


class Watch:
    """One reading of the topics of one cluster, from the first record on."""

    def __init__(self, settings: Settings, observed: Observed, cluster: str) -> None:
        self.cluster = cluster
        self.observed = observed
        self.began = time.time()
        self.ends: dict[kafka.Place, int] = {}
        self.complete: float | None = None
        """All that was in the topics at this moment has been read."""
        self.moved = time.monotonic()
        """When the last record came, or when everything had been read."""
        self._sampled: tuple[float, dict[kafka.Place, int]] | None = None
        self.app = _app(settings, cluster)
        self.pulse = {name: _Pulse(self.app, f"pulse_{name}", *times) for name, times in WINDOWS.items()}
        topic = self.app.topic(
            *observed.watched.topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        self.app.agent(topic, name="observe", concurrency=1)(self._read)

    async def _read(self, stream: Any) -> None:
        """The agent. Raises nothing: Faust would skip the record and say so nowhere."""
        async for events in stream.take_events(100, within=0.05):
            now = time.time()
            for event in events:
                self._take(event.message, now)
            self.moved = time.monotonic()

    def _take(self, message: Any, now: float) -> None:
        place = message.topic, message.partition, message.offset
        try:
            row = from_record(message.topic, message.partition, message.key, message.value, _headers(message.headers))
            seen = self.observed.take(place, message.timestamp, row, now)
            if seen is not None:
                self._measure(seen)
        except Foreign as foreign:
            self.observed.foreign(place, foreign.cause, now)
        except Exception as error:
            self.observed.failed(place, error, now)

    def _measure(self, seen: Seen) -> None:
        metrics.OBSERVER_EVENTS.labels(seen.service).inc()
        for hop, seconds in seen.hops:
            metrics.OBSERVER_HOPS.labels(hop).observe(seconds)
        if seen.beat is not None:
            for region in seen.beat.regions:
                for window in self.pulse.values():
                    window.count((seen.beat.tier, region), seen.beat.at)

    def behind(self) -> dict[kafka.Place, int]:
        """Records of each partition that are there and have not been read."""
        return {place: max(0, end - self.observed.next.get(place, 0)) for place, end in self.ends.items()}

    def look(self, ends: Mapping[kafka.Place, int], asked: float) -> None:
        """The partitions' ends as they were at ``asked``: what has been read since then, and what follows from it."""
        self.ends = dict(ends)
        sampled, wanted = self._sampled or (asked, self.ends)
        if all(self.observed.next.get(place, 0) >= end for place, end in wanted.items()):
            self.complete, self._sampled = sampled, None
            self.moved = time.monotonic()
            self.observed.settle(sampled, time.time())
        else:
            self._sampled = sampled, wanted

    def ready(self) -> bool:
        """Caught up, or moving."""
        return time.monotonic() - self.moved < QUIET_SECONDS

    async def start(self) -> None:
        """Join the group and begin. Raises where the broker does not answer."""
        await self.app.start()
        for table in self.pulse.values():
            await table.start()

    async def stop(self) -> None:
        """Within ``STOP_SECONDS``; what Faust leaves running then ends with the process."""
        stopping = [asyncio.ensure_future(service.stop()) for service in (*self.pulse.values(), self.app)]
        await asyncio.wait(stopping, timeout=STOP_SECONDS)


def credentials(brokers: Brokers) -> faust.SSLCredentials | faust.SASLCredentials | None:
    """What Faust shows the brokers; ``None`` over plaintext. Raises ``OSError`` where a file cannot be read."""
    tls = brokers.tls()
    if tls is None:
        return None
    if brokers.user is None:
        return faust.SSLCredentials(tls)
    return faust.SASLCredentials(username=brokers.user, password=brokers.password, mechanism=SCRAM, ssl_context=tls)


def _app(settings: Settings, cluster: str) -> faust.App:
    """The application. Its id names the cluster and this very start: see the top of this file."""
    brokers = Brokers.of(settings)
    return _App(
        f"maru-observe-{cluster}-{uuid.uuid4().hex[:12]}",
        broker=[f"kafka://{server.strip()}" for server in brokers.bootstrap.split(",")],
        broker_credentials=credentials(brokers),
        autodiscover=False,
        store="memory://",
        consumer_auto_offset_reset="earliest",
        key_serializer="raw",
        value_serializer="raw",
        broker_request_timeout=30.0,
        # Not above the request time-out, or Faust refuses to start.
        broker_session_timeout=20.0,
        broker_heartbeat_interval=2.0,
        broker_max_poll_interval=300.0,
        stream_wait_empty=False,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )


def _headers(headers: Any) -> list[tuple[str, bytes | None]]:
    """As a list of pairs: Faust gives whatever its transport gave."""
    return list(headers.items()) if isinstance(headers, Mapping) else list(headers or ())


class Observer:
    """Watches for as long as the process lives: begins anew with another cluster, after a crash, and when it stalls."""

    def __init__(self, settings: Settings, watched: Watched, limits: Limits) -> None:
        self._settings = settings
        self._watched = watched
        self._limits = limits
        self._places = [(topic.name, number) for topic in TOPICS for number in range(topic.partitions)]
        self.watch: Watch | None = None
        self.trouble: str | None = None
        """Why the topics cannot be read just now."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with self._survey() as survey:
                    reason = await self._follow(survey)
                metrics.OBSERVER_REBUILDS.labels(reason).inc()
                logger.warning("the observer begins anew", reason=reason)
            except Exception as error:
                self.trouble = f"{type(error).__name__}: {str(error)[:200]}"
                logger.warning("the topics cannot be read", error=self.trouble)
            await asyncio.sleep(RETRY_SECONDS)

    @contextlib.asynccontextmanager
    async def _survey(self) -> AsyncIterator[kafka.Consumer]:
        """A client beside Faust's own, which asks how far the topics go: a stalled one says that it has caught up."""
        brokers = Brokers.of(self._settings)
        await kafka.ensure_topics(brokers, TOPICS)
        survey = kafka.Consumer(brokers, "maru-observe-survey")
        await survey.start()
        try:
            yield survey
        finally:
            await survey.stop()

    async def _follow(self, survey: kafka.Consumer) -> str:
        """Read one cluster's topics until something ends that; gives what."""
        watch = Watch(self._settings, Observed(self._watched, self._limits), await survey.cluster())
        watch.ends = await survey.ends(self._places)
        metrics.OBSERVER_HOPS.clear()
        metrics.OBSERVER_EVENTS.clear()
        try:
            async with asyncio.timeout(60):
                await watch.start()
            self.watch, self.trouble = watch, None
            return await self._until_it_ends(watch, survey)
        finally:
            await watch.stop()

    async def _until_it_ends(self, watch: Watch, survey: kafka.Consumer) -> str:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if watch.app.should_stop or watch.app.crashed:
                return "crash"
            # As it was when the ends are asked for: what is heard meanwhile may lie beyond them.
            asked, heard = time.time(), dict(watch.observed.next)
            try:
                ends = await survey.ends(self._places)
                if await survey.cluster() != watch.cluster:
                    return "other_cluster"
                self.trouble = None
            except kafka.FAILURES as error:
                self.trouble = f"{type(error).__name__}: {str(error)[:200]}"
                # Nobody could read now: an outage is no stall, and when it ends Faust gets half the time to go on.
                watch.moved = max(watch.moved, time.monotonic() - STALL_SECONDS / 2)
                continue
            if any(end < heard.get(place, 0) for place, end in ends.items()):
                return "shorter_topic"
            watch.look(ends, asked)
            if time.monotonic() - watch.moved > STALL_SECONDS:
                return "stall"

    def ready(self) -> bool:
        """By progress: the topics are read, or have been to their end just now."""
        return self.watch is not None and self.watch.ready()


class _Server(uvicorn.Server):
    """Without signal handlers: they are the program's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: Settings, watched: Watched, limits: Limits | None = None) -> None:
    """Watch until SIGTERM or SIGINT, then end the process: exit code 0, 7 s later at most. Never returns.

    Raises ``BadSetting`` without Kafka in the settings, ``CannotStart`` (3) where the port is taken.
    """
    Brokers.of(settings, wanted_by="the observer")
    listening = web.listening(settings.host, settings.port)
    for name in ("faust", "mode", "aiokafka"):
        # The libraries say an outage thousands of times; what matters of it is told in our own words.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # What is remembered stays: looking through all of it for garbage again and again would cost more than reading.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    asyncio.run(_program(settings, watched, limits or Limits(), listening))


async def _program(settings: Settings, watched: Watched, limits: Limits, listening: socket.socket) -> None:
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    observer = Observer(settings, watched, limits)
    config = uvicorn.Config(
        telling.http(observer), log_config=None, access_log=False, server_header=False, lifespan="off"
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    observing = asyncio.create_task(observer.run())
    logger.info("observing", url=f"http://{settings.host}:{listening.getsockname()[1]}", kafka=settings.kafka)
    await asyncio.wait({asyncio.create_task(end.wait()), serving, observing}, return_when=asyncio.FIRST_COMPLETED)
    # Faust does not always let itself be stopped, nor its threads be joined: whatever happens, the process ends.
    last = threading.Timer(STOP_SECONDS + 1, os._exit, [0])
    last.daemon = True
    last.start()
    server.should_exit = True
    observing.cancel()
    await asyncio.wait({observing, serving}, timeout=STOP_SECONDS)
    os._exit(0 if end.is_set() else 1)
