"""Loops that turn and rest, and those who wait for them: what every follower of a process shares."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import structlog

from shared.runtime import logs, metrics
from shared.runtime.views import Marks

logger = structlog.get_logger("maru.follow")


class Pressure:
    """Lets the followers of a process work in turn, and rest while commands are many.

    Only one thread runs Python at a time: several followers at once would not be faster, and every command would wait
    for each of them to give the interpreter away. While many commands are being decided and stored, a follower also
    rests five times as long as it worked: commands come first, and followers find more at once, which costs less for
    each record. Nothing is refused; views and reactions fall behind.
    """

    MANY = 24
    REST = 5.0

    def __init__(self) -> None:
        self.commands = 0
        self._turn = threading.Lock()

    def step(self, step: Callable[[], bool], ending: threading.Event, *, hurry: bool) -> bool:
        """Run a follower's step when it is its turn; at once where somebody waits for it and commands are few."""
        if hurry and self.commands <= self.MANY:
            return step()
        with self._turn:
            started = time.monotonic()
            found = step()
            if self.commands > self.MANY:
                ending.wait(self.REST * (time.monotonic() - started))
        return found


MOST_REST = 0.2
"""Longest rest after a step, in seconds."""
HURRY_SECONDS = 0.4
"""How long a word from another process that it waits is good for."""


class Loop(threading.Thread):
    """A thread that repeats a step: at once while it finds work, else when woken, else after ``idle`` seconds.

    ``step`` returns whether it found work. One that raises is logged and repeated after a while: the loop never dies.
    Steps begin at least ``pause`` seconds apart unless somebody waits (``progress``): one fact brings several commits,
    and a step costs more than a record. Where other processes want the same processors (``yields``) a loop also rests
    after each step as long as that took: the fuller the machine, the more there is to take at once.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool],
        idle: float = 1.0,
        pressure: Pressure | None = None,
        pause: float = 0.0,
        progress: Progress | None = None,
        yields: bool = False,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._pause = pause
        self._yields = yields
        self._step = step
        self._idle = idle
        self._pressure = pressure or Pressure()
        self._progress = progress or Progress()
        self._progress.loops.append(self)
        self._ending = False
        self._end = threading.Event()
        self.wake = threading.Event()
        self.hurry = threading.Event()
        self.beat = time.monotonic()
        self.turned_at = time.time()

    def run(self) -> None:
        """Until ``end``."""
        failures = 0
        while not self._ending:
            self.wake.clear()
            started = time.monotonic()
            try:
                found = self._pressure.step(self._step, self._end, hurry=self._progress.hurries)
            except Exception as error:
                if self._ending:
                    break
                logger.warning("step failed", loop=self.name, error=logs.cause(error))
                metrics.LOOP_FAILURES.labels(self.name).inc()
                found = False
                failures += 1
                self._end.wait(min(0.2 * failures, 2.0))
            else:
                failures = 0
            self.beat = time.monotonic()
            self.turned_at = time.time()
            if self._yields:
                self._end.wait(min(self.beat - started, MOST_REST))
            if not found and not self._ending:
                self.wake.wait(self._idle)
            self._rest(started + self._pause)

    def _rest(self, until: float) -> None:
        self.hurry.clear()
        if not self._progress.hurries and not self._ending and (left := until - time.monotonic()) > 0:
            self.hurry.wait(left)

    def end(self) -> None:
        """Stop after the step under way."""
        self._ending = True
        self._end.set()
        self.wake.set()
        self.hurry.set()


class Progress:
    """How far a service's views and reactions have come, for those who wait; a waiter holds no thread."""

    def __init__(self) -> None:
        self.views: dict[str, Marks] = {}
        self.loops: list[Loop] = []
        self.waiting = 0
        """How many wait just now: the loops make no pauses meanwhile."""
        self.remote = False
        """Whether followers are elsewhere: then questions are asked of a server, never in the event loop's thread."""
        self._hurry_until = 0.0
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._planned = False

    @property
    def hurries(self) -> bool:
        """Whether somebody waits, here or in another process."""
        return self.waiting > 0 or time.monotonic() < self._hurry_until

    def somebody_waits(self) -> None:
        """Another process says that it waits: hurry for a moment."""
        self._hurry_until = time.monotonic() + HURRY_SECONDS
        for loop in self.loops:
            loop.hurry.set()

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Somebody waits: the loops of this service hurry."""
        self.waiting += 1
        try:
            for loop in self.loops:
                loop.hurry.set()
            yield
        finally:
            self.waiting -= 1

    def moved(self) -> None:
        """Called from any thread after a commit; of a gateway without followers by its watcher."""
        loop = self._loop
        if self.remote:
            self._ask()
        elif loop is not None and self._waiters and not self._planned:
            self._planned = True
            loop.call_soon_threadsafe(self._plan)

    def _ask(self) -> None:
        """Ask for every waiter, in the watcher's thread."""
        with self._lock:
            waiters, self._waiters = self._waiters, []
        still, loop = [], self._loop
        for reached, future in waiters:
            if future.done():
                continue
            try:
                if reached():
                    answer = None
                else:
                    still.append((reached, future))
                    continue
            except Exception as error:
                answer = error
            assert loop is not None
            loop.call_soon_threadsafe(_tell, future, answer)
        with self._lock:
            self._waiters.extend(still)

    def _plan(self) -> None:
        # Commits come in bursts: one look for those of a moment.
        asyncio.get_running_loop().call_later(0.001, self._check)

    def _check(self) -> None:
        self._planned = False
        still = []
        for reached, future in self._waiters:
            if future.done():
                continue
            if reached():
                future.set_result(None)
            else:
                still.append((reached, future))
        self._waiters = still

    async def wait(self, reached: Callable[[], bool], seconds: float, *, hurry: bool = True) -> bool:
        """Wait until ``reached`` or the time is up; tells which. A live feed is in no ``hurry``.

        Raises what ``reached`` raised.
        """
        if not self.remote and reached():
            return True
        with self.hurried() if hurry else nullcontext():
            return await self._wait(reached, seconds)

    async def _wait(self, reached: Callable[[], bool], seconds: float) -> bool:
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = self._loop.create_future()
        with self._lock:
            self._waiters.append((reached, future))
        end = time.monotonic() + seconds
        if self.remote:
            for loop in self.loops:
                loop.wake.set()
            await asyncio.wait([future], timeout=seconds)
        # Looked at once more after the entry, for a commit just before it; then by wake-ups, and slowly besides,
        # because another process may have moved.
        while not self.remote and not future.done() and (left := end - time.monotonic()) > 0:
            if reached():
                future.set_result(None)
            else:
                await asyncio.wait([future], timeout=min(left, 0.5))
        if not future.done():
            future.cancel()
            return False
        future.result()
        return True


def _tell(future: asyncio.Future[None], answer: Exception | None) -> None:
    if future.done():
        return
    if answer is None:
        future.set_result(None)
    else:
        future.set_exception(answer)
