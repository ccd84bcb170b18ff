"""R18: four times as many clients as the system serves at its best, for a minute; then as many as before."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.load import Tally, suggest
from tests.faults.system import Disturbed, bound

pytestmark = pytest.mark.faults
Tell = Callable[[str], None]
CLIENTS = 16
"""As many as bring the gateway to its best."""
IDLE = 4_000
"""Connections that say nothing, beside all others; each costs a descriptor here and one in the gateway."""


def test_R18_overload(own: Disturbed, tell: Tell) -> None:
    pid = own.full.process("issues-gateway").pid
    assert pid is not None
    peak, normal = _rate(own, CLIENTS, 15)
    before = _resident(pid)
    freshness: list[float] = []
    ending = threading.Event()
    watching = threading.Thread(target=_watch, args=(own, ending, freshness))
    with ExitStack() as idle:
        address = ("127.0.0.1", own.full.state.ports["issues-gateway"])
        for _ in range(IDLE):
            idle.enter_context(socket.create_connection(address, timeout=10))
        watching.start()
        goodput, over = _rate(own, 4 * CLIENTS, 60)
        ending.set()
        watching.join()
        most = _resident(pid)
    after, again = _rate(own, CLIENTS, 15)
    lag = own.lag()

    found = own.assert_clean()
    tell(
        f"R18: {CLIENTS} clients {peak:.0f}/s, {4 * CLIENTS} clients beside {IDLE} idle connections {goodput:.0f}/s, "
        f"then {after:.0f}/s; slowest try {normal.slowest:.2f} s, {over.slowest:.2f} s, {again.slowest:.2f} s; "
        f"{over.unavailable} x 503, {over.unknown} lost; gateway {before / 2**20:.0f} MB, {most / 2**20:.0f} MB under "
        f"load; read models {max(freshness, default=0.0):.1f} s behind at most, lag gone in {lag:.1f} s; "
        f"{found.events} events"
    )
    assert goodput >= 0.8 * peak
    assert over.unknown == 0
    assert over.no_retry_after == 0
    assert most - before <= 64 * 2**20 + IDLE * 16 * 1024
    assert max(freshness, default=0.0) <= bound(10)


def _rate(system: Disturbed, clients: int, seconds: float) -> tuple[float, Tally]:
    """Commands accepted in a second by so many clients, and what they were told."""
    with system.load("R18", clients, suggest, forgetful=True) as load:
        started, first = time.monotonic(), load.tally.acknowledged
        time.sleep(seconds)
        accepted, took = load.tally.acknowledged - first, time.monotonic() - started
        tally = load.stop()
    return accepted / took, tally


def _watch(system: Disturbed, ending: threading.Event, freshness: list[float]) -> None:
    """How long the own read models take to show what is stored now, again and again."""
    hosted = system.service("issues")
    while not ending.is_set():
        last, started = hosted.log.last_position(), time.monotonic()
        while not ending.is_set():
            with hosted.store.read() as db:
                scans = hosted.store.scans(db).scans
            if all(scans.get((view.name, "issues"), 0) >= last for view in hosted.views):
                break
            time.sleep(0.05)
        freshness.append(time.monotonic() - started)


def _resident(pid: int) -> int:
    """Memory of a process that is in RAM, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
