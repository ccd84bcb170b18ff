"""The few threads in which gateways touch the stores; what arrives together is worked off together.

With a thread for each request they would mostly wait for the interpreter and hand it to each other. A worker takes all
that waits (up to ``MOST``), decides each, waits once for the commit that they share, and tells the event loop once.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from shared.runtime.jobs import Lost
from shared.runtime.log_database import Unavailable
from shared.runtime.views import Readings

logger = structlog.get_logger("maru.workers")

MOST = 64
TRIES = 5
"""How often a command that lost its race is decided again."""


class Job(Protocol):
    """Work in two halves: ``begin`` gives the end's result, or a future for which ``end`` gives it.

    What begins together may share ``readings``: all of it was asked for before the first of them was opened.

    ``end`` may raise ``Lost``: then the job begins again, five times at most.
    """

    def begin(self, readings: Readings) -> Any: ...

    def end(self, stored: Any) -> Any: ...


@dataclass(frozen=True)
class Call:
    """A job that is done when it has begun: a read."""

    function: Callable[[Readings], Any]

    def begin(self, readings: Readings) -> Any:
        return self.function(readings)

    def end(self, stored: Any) -> Any:
        return stored


@dataclass
class _Entry:
    job: Job
    told: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Workers:
    """Threads that work for one event loop; they end with the process."""

    def __init__(
        self,
        name: str,
        threads: int,
        seconds: float = 30.0,
        ahead: Callable[[Sequence[Any]], None] = lambda _: None,
    ) -> None:
        """``seconds`` is the longest a caller waits: a database that does not answer must not hold him for ever.

        ``ahead`` is given the jobs that begin together: what they all ask of a store is asked at once.
        """
        self._name, self._threads, self._seconds = name, threads, seconds
        self._ahead = ahead
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, job: Job) -> Any:
        """The job's result, or what it raised; holds no thread while it waits.

        Raises ``Unavailable`` when the time is up; a job that has not begun by then never does.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for number in range(self._threads):
                threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()
        entry = _Entry(job, self._loop.create_future())
        self._queue.put(entry)
        try:
            return await asyncio.wait_for(entry.told, self._seconds)
        except TimeoutError:
            raise Unavailable("no answer in time") from None

    def stop(self) -> None:
        """End the threads after what is under way."""
        for _ in range(self._threads):
            self._queue.put(None)

    def _work(self) -> None:
        ending = False
        while not ending:
            first = self._queue.get()
            if first is None:
                return
            entries = [first]
            while len(entries) < MOST:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ending = True
                    break
                entries.append(more)
            try:
                self._work_off(entries)
            except Exception as error:
                # Never the end of the thread: all later requests would wait for it in vain.
                logger.exception("work failed", worker=self._name)
                for entry in entries:
                    entry.error = entry.error or error
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(_tell, entries)
            except RuntimeError:
                return

    def _work_off(self, entries: list[_Entry]) -> None:
        left = entries
        for _ in range(TRIES):
            begun: list[tuple[_Entry, Future[Any]]] = []
            readings = Readings()
            left = [entry for entry in left if not entry.told.cancelled()]
            try:
                self._ahead([entry.job for entry in left])
            except BaseException as error:
                for entry in left:
                    entry.error = error
                return
            for entry in left:
                try:
                    entry.result = entry.job.begin(readings)
                except BaseException as error:
                    entry.error = error
                    if isinstance(error, SQLAlchemyError):
                        # A transaction in which a statement failed takes no more.
                        readings.close()
                else:
                    if isinstance(entry.result, Future):
                        begun.append((entry, entry.result))
            readings.close()
            left = []
            for entry, future in begun:
                try:
                    entry.result = entry.job.end(future.result(timeout=30))
                except Lost:
                    left.append(entry)
                except BaseException as error:
                    entry.error = error
            if not left:
                return
        for entry in left:
            entry.error = Unavailable("lost every race")


def _tell(entries: list[_Entry]) -> None:
    for entry in entries:
        if entry.told.done():
            continue
        if entry.error is not None:
            entry.told.set_exception(entry.error)
        else:
            entry.told.set_result(entry.result)
