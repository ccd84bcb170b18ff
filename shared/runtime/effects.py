"""What a service does outside of itself: attempts that are due, made and recorded, apart from reactions and folds.

An attempt is made at least once. Before it its command id is looked up, so that what is recorded is not done again by
a view that lags, a rebuilt view, or a second process; after it the same id makes it count once. Only a crash, or the
end of the process, between the receiver's answer and the commit repeats it, under the same key (``Owed.id``).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from shared.decider import Refused
from shared.runtime import metrics
from shared.runtime.commands import derived_id
from shared.runtime.declare import Attempt, Effect, Outcome, Owed, Service
from shared.runtime.settings import Settings

if TYPE_CHECKING:
    from shared.runtime.hosted import Hosted

AT_ONCE = 8
"""Attempts under way at once: what a receiver that hangs can hold back."""
RECORDED_AT_ONCE = 2
BATCH = 64
"""Due attempts read in one step."""
GUARD_SECONDS = 20.0
"""An attempt ends by its own time-out, which is shorter; one that does not is ended from here."""
STEP_SECONDS = 5.0
"""A step begins no other attempt after so long: with the guard it stays below what counts as a loop that hangs."""
GRACE_SECONDS = 3.0
"""When the process ends, attempts under way have so long to come to their answer."""
LOOK_SECONDS = 0.2
LEASE_SECONDS = 1.0
"""While attempts are under way, ``mine`` is asked so often."""

logger = structlog.get_logger("maru.effects")


def opened(service: Service, settings: Settings) -> dict[str, Attempt]:
    """How to make an attempt, for each effect of the service that the settings provide for."""
    found = {effect.name: effect.opened(settings) for effect in service.effects}
    return {name: attempt for name, attempt in found.items() if attempt is not None}


@dataclass(frozen=True)
class _Made:
    """An attempt that was made and is to be recorded."""

    effect: Effect
    owed: Owed
    outcome: Outcome
    at: datetime


class EffectsRunner:
    """Makes the attempts that are due; a ``Loop`` gives it its steps."""

    def __init__(
        self,
        hosted: Hosted,
        attempts: Mapping[str, Attempt],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        mine: Callable[[], bool] = lambda: True,
    ) -> None:
        """``clock`` is real time. ``mine`` says, and keeps up, whether this process is the one that makes them (a
        lease); it is asked before each step and while attempts are under way.
        """
        self._hosted = hosted
        self._attempts = attempts
        self._clock = clock
        self._mine = mine
        self._made: dict[str, _Made] = {}
        # Not the event loop's own threads: those end with each step, and each would connect to the database anew.
        self._recording = ThreadPoolExecutor(RECORDED_AT_ONCE, thread_name_prefix="record")
        self._ending = threading.Event()

    def end(self) -> None:
        """Begin no other attempt; those under way get a moment."""
        self._ending.set()

    def step(self) -> bool:
        """Make and record what is due; says whether there was any. Raises where the log cannot be read or written."""
        if self._ending.is_set() or not self._mine():
            return False
        # What was done and could not be recorded comes first, and nothing else is done before: else a full disk would
        # send the same thing again and again.
        for command_id in list(self._made):
            self._record(command_id)
        due = self._due()
        if not due:
            return False
        asyncio.run(self._make(due))
        return True

    def _due(self) -> list[tuple[Effect, Owed]]:
        now = self._clock()
        with self._hosted.facts() as facts:
            return [
                (effect, owed)
                for effect in self._hosted.service.effects
                if effect.name in self._attempts
                for owed in effect.owed(facts, now, BATCH)
                if not self._known(effect, owed)
            ]

    def _known(self, effect: Effect, owed: Owed) -> bool:
        command_id = _command_id(effect, owed)
        return self._hosted.log.answered(command_id, command_id) is not None

    async def _make(self, due: Sequence[tuple[Effect, Owed]]) -> None:
        free = asyncio.Semaphore(AT_ONCE)
        going_on = True

        async def one(effect: Effect, owed: Owed) -> None:
            async with free:
                if not going_on or self._known(effect, owed):
                    return
                outcome = await self._attempt(effect, owed)
                command_id = _command_id(effect, owed)
                self._made[command_id] = _Made(effect, owed, outcome, self._clock())
                await asyncio.get_running_loop().run_in_executor(self._recording, self._record, command_id)

        tasks = {asyncio.create_task(one(effect, owed)) for effect, owed in due}
        faults: list[BaseException] = []
        started = asked = time.monotonic()
        grace = GRACE_SECONDS
        while tasks:
            done, tasks = await asyncio.wait(tasks, timeout=LOOK_SECONDS)
            faults += [fault for task in done if not task.cancelled() and (fault := task.exception()) is not None]
            # Where the log does not take what was done, nothing else is begun.
            going_on = going_on and not faults and not self._ending.is_set()
            going_on = going_on and time.monotonic() - started < STEP_SECONDS
            if time.monotonic() - asked > LEASE_SECONDS:
                asked = time.monotonic()
                going_on = self._mine() and going_on
            if self._ending.is_set():
                grace -= LOOK_SECONDS
                if grace <= 0:
                    for task in tasks:
                        task.cancel()
        if faults:
            raise faults[0]

    async def _attempt(self, effect: Effect, owed: Owed) -> Outcome:
        try:
            async with asyncio.timeout(GUARD_SECONDS):
                return await self._attempts[effect.name](owed)
        except TimeoutError:
            return Outcome("failed", "timeout")
        except Exception as error:
            # Its message may hold an address: the type must do.
            logger.error("attempt raised", effect=effect.name, id=owed.id, error=type(error).__name__)
            return Outcome("failed", "error")

    def _record(self, command_id: str) -> None:
        made = self._made[command_id]
        try:
            with self._hosted.facts() as facts:
                act = made.effect.recorded(facts, made.owed, made.outcome, made.at)
            self._hosted.submit(act, command_id, command_id)
        except Refused as refusal:
            # Another process was faster.
            logger.info("attempt not recorded", effect=made.effect.name, id=made.owed.id, rule=refusal.rule)
        else:
            outcome = _outcome(made)
            metrics.NOTIFICATIONS.labels(made.effect.name, outcome).inc()
            logger.info(
                "attempt",
                effect=made.effect.name,
                id=made.owed.id,
                attempt=made.owed.attempt,
                outcome=outcome,
                detail=made.outcome.detail,
            )
        del self._made[command_id]


def _command_id(effect: Effect, owed: Owed) -> str:
    return derived_id("effect", effect.name, owed.id, owed.attempt)


def _outcome(made: _Made) -> str:
    if made.outcome.result == "done":
        return "delivered"
    return "given_up" if made.outcome.result == "refused" or made.owed.last else "failed"
