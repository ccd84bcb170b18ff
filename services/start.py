"""What a new folder needs once: reference data, and the first setting of the business clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from services.routing.clock import CLOCK, CLOCK_ID, ShiftClock
from shared.contracts.envelope import Authority
from shared.runtime.commands import derived_id
from shared.runtime.declare import Act, by_process
from shared.runtime.system import System


def prepare_folder(system: System, told: Callable[[str, str], None] | None = None) -> int:
    """Load the reference data and set the clock to the folder's start; gives the number of new acts.

    Safe to repeat: external ids are command ids, and the first setting of the clock happens once.
    """
    new = system.seed(told)
    start_clock(system)
    return new


def start_clock(system: System) -> None:
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
