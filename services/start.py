"""What a new folder needs once: reference data, and the first setting of the business clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from services.routing.clock import CLOCK, CLOCK_ID, ShiftClock
from shared.contracts.envelope import Authority
from shared.runtime.commands import derived_id
from shared.runtime.databases import Databases
from shared.runtime.declare import Act, Service, by_process
from shared.runtime.hosted import Hosted, wait_idle
from shared.runtime.settings import Settings
from shared.runtime.system import seed


class Seedable(Protocol):
    """A system that can be seeded: one that runs in this process, or its databases."""

    @property
    def settings(self) -> Settings:
        """Its settings."""

    def service(self, name: str) -> Hosted:
        """One of the services by name."""

    def seed(self, told: Callable[[str, str], None] | None = None) -> int:
        """Load the reference data; gives the number of new acts."""

    def idle(self) -> bool:
        """Wait until everything stored is carried, answered and folded; says whether it came to that."""


class Opened:
    """Services whose databases are open in this process, while other processes run them, or nobody does."""

    def __init__(self, services: Sequence[Service], databases: Databases, settings: Settings, wait: float = 60) -> None:
        """``wait``: how long ``idle`` waits, seconds. Raises ``OtherVersion`` and ``Unavailable``."""
        self.settings = settings
        self._wait = wait
        self._hosted: list[Hosted] = []
        with ExitStack() as opening:
            for service in services:
                hosted = Hosted(service, databases)
                opening.callback(hosted.stop)
                self._hosted.append(hosted)
            self._open = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def service(self, name: str) -> Hosted:
        """One of the services by name."""
        return next(hosted for hosted in self._hosted if hosted.name == name)

    def seed(self, told: Callable[[str, str], None] | None = None) -> int:
        """Load the reference data; gives the number of new acts."""
        return seed(self._hosted, self.settings, told)

    def idle(self) -> bool:
        """Wait until everything stored is carried, answered and folded; says whether it came to that."""
        return wait_idle(self._hosted, self._wait)


def prepare_folder(system: Seedable, told: Callable[[str, str], None] | None = None, *, clock: bool = True) -> int:
    """Load the reference data and, with ``clock``, set the clock to the start; gives the number of new acts.

    Safe to repeat: external ids are command ids, and the first setting of the clock happens once.
    """
    new = system.seed(told)
    if clock:
        start_clock(system)
    return new


def start_clock(system: Seedable) -> None:
    """Set the business clock of a new folder to the configured start; later calls change nothing.

    Returns when every service has heard it.
    """
    routing = system.service("routing")
    if routing.log.load(CLOCK, CLOCK_ID).version == 0:
        to = datetime.fromisoformat(system.settings.start)
        command = ShiftClock(
            **{**by_process("operations", to, "seed"), "authority": Authority(rule="seed")},
            to=to,
            real=datetime.now(UTC),
            development=True,
        )
        name = derived_id("clock", "start")
        routing.submit(Act(CLOCK, CLOCK_ID, command, key=CLOCK_ID), name, name)
    system.idle()
