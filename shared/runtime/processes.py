"""The processes of the full form: a gateway, a relay, a follower, the development issuer. Each runs until SIGTERM.

Each listens at once: ``/livez`` says that it turns, ``/readyz`` what is still missing. A database, a broker or an
issuer that is absent, at the start or later, is waited for; meanwhile what cannot be served is answered 503.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import structlog
from starlette.requests import Request

from shared.runtime import effects, metrics, tracing
from shared.runtime import issuer as issuer_process
from shared.runtime.access import PolicyTable, Verifier
from shared.runtime.app import build, probes
from shared.runtime.brokers import Brokers
from shared.runtime.cursors import Cursors
from shared.runtime.databases import Databases
from shared.runtime.declare import Service
from shared.runtime.directory import Directory, DirectoryCache
from shared.runtime.hosted import Hosted
from shared.runtime.http import Gateways
from shared.runtime.kafka_carrier import KafkaCarrier
from shared.runtime.keys import check_issuer
from shared.runtime.leases import Leases
from shared.runtime.log_database import STORED, OtherVersion, Unavailable
from shared.runtime.problems import unavailable
from shared.runtime.relay import Relay
from shared.runtime.settings import Settings, bad
from shared.runtime.system import SILENT_SECONDS, gauges, heartbeats, silent_loops
from shared.runtime.views import STORE_DOWN, RebuildRunning
from shared.runtime.web import HttpServer

STUCK = 70
"""Exit code of a follower whose consumer brings nothing although there is something: to be started again."""
ANSWER_SECONDS = 4.5
"""Longest time in which a gateway answers a command or a read, 503 where it could not."""

NOT_YET: tuple[type[Exception], ...] = (Unavailable, RebuildRunning, OtherVersion, *STORE_DOWN)
"""What ends by itself: a server that does not answer yet, tables not made yet, a view that another one builds."""

logger = structlog.get_logger("maru.process")
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Door:
    """The ASGI application of a process: until what it serves is open, everything but the probes is answered 503."""

    def __init__(self) -> None:
        self._probes = probes(lambda: ["starting"], metrics.Probe(lambda: ()))
        self.app: Any = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Hand a request on."""
        if self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] not in ("/livez", "/readyz", "/metrics"):
            await unavailable().response()(scope, Request(scope, receive).receive, send)
        else:
            await self._probes(scope, receive, send)


class Process:
    """What every process has: a name, a door, signals that end it, and the exit code that it ends with."""

    def __init__(self, kind: str, service: str, settings: Settings) -> None:
        """Raises ``CannotStart`` (3) where the port is taken."""
        self.name = f"{service}-{kind}"
        self.code = 0
        self.ended = threading.Event()
        self.door = Door()
        self._server = HttpServer(self.door, settings.host, settings.port)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.ended.set())
        # Each statement on a database gives the interpreter away; with the default 5 ms it comes back late.
        sys.setswitchinterval(0.001)
        tracing.configure(settings.otlp, self.name)
        self._server.start()
        logger.info("listening", process=self.name, url=self._server.url)

    def end(self, code: int = 0) -> None:
        """Make ``run`` return."""
        self.code = self.code or code
        self.ended.set()

    def run(self, opening: Callable[[], Callable[[], None]]) -> int:
        """Open, again and again until it works, then wait for the end; ``opening`` gives what closes it again.

        Databases of another version are waited for too: a deployment migrates while its services start.
        """
        close: Callable[[], None] | None = None
        try:
            while close is None and not self.ended.is_set():
                try:
                    close = opening()
                except NOT_YET as error:
                    logger.warning("not open yet", process=self.name, because=str(error)[:300])
                    self.ended.wait(0.5)
            self.ended.wait()
        finally:
            self.door.app = self.door.app and Door()
            self._server.stop()
            if close is not None:
                close()
            tracing.stop()
        return self.code


def serve(service: Service, settings: Settings) -> int:
    """The gateway of one service. Gives the exit code."""
    if settings.issuer == Settings.model_fields["issuer"].default:
        raise bad("issuer", "a gateway needs the URL of the ministry's OpenID Connect issuer")
    check_issuer(settings.issuer, settings.development)
    policies = _policies(settings)
    _deployed(settings)
    process = Process("gateway", service.name, settings)
    secret = settings.cursor_key
    cursors = Cursors(os.urandom(32).hex() if secret is None else secret.get_secret_value())

    def opening() -> Callable[[], None]:
        hosted = Hosted(service, Databases.of(settings))
        verifier = Verifier.discovering(settings.issuer, settings.audience)
        gateways = Gateways(
            [hosted],
            verifier,
            policies,
            cursors,
            development=settings.development,
            wait_seconds=min(settings.wait_seconds, ANSWER_SECONDS),
            answer_seconds=ANSWER_SECONDS,
        )
        watcher = hosted.watch()

        def missing() -> list[str]:
            views = [f"view {name} is being built" for name in watcher.missing]
            keys = [] if verifier.ready else [f"keys of {settings.issuer}"]
            return [*silent_loops([hosted]), *views, *keys, *_no_answer(hosted)]

        process.door.app = build(gateways, missing, metrics.Probe(lambda: heartbeats(hosted)))

        def close() -> None:
            verifier.close()
            gateways.commands.stop()
            gateways.reads.stop()
            hosted.stop()

        return close

    return process.run(opening)


def follow(service: Service, settings: Settings) -> int:
    """A follower of one service: carrier, reactions, views and due rows, sharing the work with others by leases."""
    brokers = Brokers.of(settings, wanted_by="a follower")
    _deployed(settings)
    process = Process("follower", service.name, settings)

    def opening() -> Callable[[], None]:
        hosted = Hosted(service, Databases.of(settings), attempts=effects.opened(service, settings))
        leases = Leases(hosted.log, settings.instance)
        carrier = KafkaCarrier(hosted.log, service.hears, leases, brokers, on_stuck=lambda: process.end(STUCK))
        try:
            hosted.follow(carrier.step, leases)
        except BaseException:
            carrier.close()
            hosted.stop()
            raise
        process.door.app = probes(
            lambda: [*silent_loops([hosted]), *_no_answer(hosted), *_problem(carrier.problem)],
            metrics.Probe(lambda: gauges(hosted)),
        )

        def close() -> None:
            hosted.end()
            carrier.close()
            with suppress(Unavailable):
                leases.release()
            hosted.stop()

        return close

    return process.run(opening)


def relay(service: Service, settings: Settings) -> int:
    """The relay of one service: its log to its topic."""
    brokers = Brokers.of(settings, wanted_by="a relay")
    _deployed(settings)
    process = Process("relay", service.name, settings)

    def opening() -> Callable[[], None]:
        log = Databases.of(settings).log(service.name)
        leases = Leases(log, settings.instance)
        publishing = Relay(log, leases, brokers)
        stop = asyncio.Event()
        loop = asyncio.new_event_loop()

        def turn() -> None:
            try:
                loop.run_until_complete(publishing.run(stop))
            except Exception as error:
                logger.error("relay ended", process=process.name, exc_info=error)
                process.end(1)
            finally:
                loop.close()

        thread = threading.Thread(target=turn, name=f"{service.name}-relay")

        def wake(word: str) -> None:
            if word != STORED:
                return
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(publishing.wake.set)

        unlisten = log.database.listen(wake)
        thread.start()
        beat = f"{service.name}-relay"
        process.door.app = probes(
            lambda: [*publishing.missing, *_silent(beat, publishing.turned_at)],
            metrics.Probe(lambda: [metrics.LOOP_HEARTBEAT(publishing.turned_at, beat)]),
        )

        def close() -> None:
            unlisten()
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)
            thread.join(timeout=8)
            with suppress(Unavailable):
                leases.release()
            log.close()

        return close

    return process.run(opening)


def issuer(settings: Settings) -> int:
    """The development issuer, which looks up who holds an office in routing's reference facts."""
    if not settings.development:
        raise bad(
            "development",
            "the development issuer gives a token to anybody, and starts only in a demonstration, where this is true; "
            "a deployment names the ministry's own issuer in MARU_ISSUER",
        )
    _deployed(settings)
    store = Databases.of(settings).views("routing")
    cache = DirectoryCache(store)

    def directory() -> Directory:
        # Read anew for each token: tokens are few, and a new holder must get one at once.
        cache.moved()
        return cache.get()

    try:
        return issuer_process.run(settings, directory)
    finally:
        store.close()


def _deployed(settings: Settings) -> None:
    """Processes of a service share its database, which a file in one of them cannot be. Raises ``BadSetting``."""
    if settings.database is None:
        raise bad("database", "a process of a service needs the URL of the service's PostgreSQL database")


def _policies(settings: Settings) -> PolicyTable:
    folder = settings.reference / "policy"
    if not folder.is_dir():
        raise bad("reference", f"{settings.reference} is not the reference data: it has no folder policy")
    return PolicyTable.read(folder)


def _no_answer(hosted: Hosted) -> list[str]:
    try:
        hosted.log.last_position()
    except Unavailable:
        return [f"database {hosted.log.database.name} does not answer"]
    return []


def _silent(name: str, turned_at: float) -> list[str]:
    return [name] if time.time() - turned_at > SILENT_SECONDS else []


def _problem(problem: str | None) -> list[str]:
    return [] if problem is None else [problem]
