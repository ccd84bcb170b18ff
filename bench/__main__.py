"""``make bench``: prints every figure beside the limit of the same run.

Options: ``--quick`` for a short run, ``--full`` for the full form (``bench/full.py``), names (b1 ...) for some.

B1 accepted commands at 64 connections against the bare insert into SQLite; the highest rate kept up with; command to
visible at 50 a second; journeys (golden scenario 1 over HTTP, no short cut) and memory.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.limits import bare_insert
from bench.load import closed_loop, open_loop
from services.client import Maru
from services.walk import Walk


class Server:
    """The system in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.server", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("end\n")
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def state(self, wait_idle: float) -> dict[str, Any]:
        """Whether it became idle within the time; memory, processor seconds, events by service."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{wait_idle}\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


def accepted(folder: Path, pairs: int, seconds: float) -> None:
    """B1: interleaved pairs of ours and the limit."""
    print("\nB1  commands accepted over HTTP, 64 connections; RaiseIssue = 2 events, flushed to the disk")
    ours, single, batched = [], [], []
    with Server(folder / "b1") as server:
        for number in range(pairs):
            rate, seen = asyncio.run(closed_loop(server.url, 64, seconds))
            if seen.wrong:
                raise SystemExit(f"answers were wrong, no figure: {seen.wrong[0]}")
            ours.append(rate)
            idle = server.state(120)
            if not idle["idle"] or idle["events"]["issues"] % 2:
                raise SystemExit("the system did not come to rest, no figure")
            single.append(bare_insert(folder, seconds / 4, 1))
            batched.append(bare_insert(folder, seconds / 4, 100))
            print(
                f"    pair {number + 1}: {rate:7.0f}/s (p50 {seen.percentile(0.5) * 1e3:.0f} ms, p99 "
                f"{seen.percentile(0.99) * 1e3:.0f} ms) · bare insert {single[-1]:7.0f}/s one a commit, "
                f"{batched[-1]:7.0f}/s at 100 a commit"
            )
    _ratio("    ours / bare insert, one a commit", ours, single)
    _ratio("    ours / bare insert, 100 a commit", ours, batched)
    print(f"    median {statistics.median(ours):.0f} commands/s (goal 1,000)")


def kept_up(folder: Path, rates: tuple[int, ...], seconds: float) -> None:
    """The highest rate that reactions, views and notices keep up with: lag at the end at most 2 s."""
    print(
        f"\nB5  RaiseIssue at a fixed rate for {seconds:.0f} s, everything that follows included (goal 100/s, lag 2 s)"
    )
    best = 0
    with Server(folder / "b5") as server:
        for rate in rates:
            seen = asyncio.run(open_loop(server.url, rate, seconds, visible=False))
            started = time.perf_counter()
            state = server.state(120)
            lag = time.perf_counter() - started
            good = not seen.wrong and state["idle"] and lag <= 2 and seen.percentile(0.99) < 1
            p99, told = seen.percentile(0.99) * 1e3, "kept up" if good else "not kept up"
            print(f"    {rate:4d}/s: lag at the end {lag:5.2f} s, answer p99 {p99:5.0f} ms  {told}")
            if not good:
                break
            best = rate
    print(f"    kept up with {best}/s")


def visible(folder: Path, seconds: float) -> None:
    """B2: from the scheduled POST to the GET that shows it, 50 a second."""
    print("\nB2  command to visible at 50 a second (goal p99 50 ms)")
    with Server(folder / "b2") as server:
        asyncio.run(open_loop(server.url, 50, 3, visible=True))
        seen = asyncio.run(open_loop(server.url, 50, seconds, visible=True))
    if seen.wrong:
        raise SystemExit(f"a read did not show its write, no figure: {seen.wrong[0]}")
    p50, p99 = seen.percentile(0.5) * 1e3, seen.percentile(0.99) * 1e3
    print(f"    p50 {p50:.1f} ms, p99 {p99:.1f} ms over {len(seen.seconds)}")


def journeys(folder: Path, count: int, at_once: int) -> None:
    """B3: golden scenario 1 over HTTP, and what memory and speed become after many."""
    print(f"\nB3  journeys: golden scenario 1 over HTTP, {at_once} at once, {count} in all")
    with Server(folder / "b3") as server:
        before = server.state(60)
        seconds: list[float] = [0.0] * count
        failed: list[str] = []
        counted: dict[str, int] = {}
        local = threading.local()

        def journey(number: int) -> None:
            if not hasattr(local, "maru"):
                local.maru = Maru(server.url)
            started = time.perf_counter()
            try:
                outcome = Walk(local.maru, dated=False).run()
            except Exception as error:
                failed.append(str(error))
                return
            seconds[number] = time.perf_counter() - started
            if not outcome.told or outcome.itinerary["outcome"] != "adopted_in_policy":
                failed.append(outcome.case_id)
            counted["commands"], counted["events"] = outcome.commands, outcome.events

        started = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            for number in range(count):
                pool.submit(journey, number)
        took = time.perf_counter() - started
        state = server.state(120)
        if failed or not state["idle"]:
            raise SystemExit(f"{len(failed)} journeys failed, no figure: {failed[:1]}")
        events = sum(state["events"].values()) - sum(before["events"].values())
        print(f"    {counted['commands']} commands and {events / count:.0f} events a journey (all four logs)")
        print(f"    {count / took:.2f} journeys/s = {events / took:.0f} events/s")
        print(f"    server processor time {(state['cpu'] - before['cpu']) / count * 1e3:.0f} ms a journey")
        print(f"    memory {before['rss'] / 2**20:.0f} MB at start, {state['rss'] / 2**20:.0f} MB after (goal 250)")
        if count >= 200:
            early, late = statistics.median(seconds[50:100]), statistics.median(seconds[-50:])
            print(
                f"    median of the last 50 / of 51 to 100: {late / early:.2f} ({late:.2f} s / {early:.2f} s; goal 1.3)"
            )


def _ratio(title: str, ours: list[float], limits: list[float]) -> None:
    ratios = [mine / limit for mine, limit in zip(ours, limits, strict=True)]
    print(f"{title}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    """Run what was asked for."""
    quick = "--quick" in sys.argv
    if "--full" in sys.argv:
        from bench import full

        every = ("b1", "b2", "b3", "b4", "b6", "b8")
        with tempfile.TemporaryDirectory(prefix="maru-bench-") as name:
            full.main(Path(name), [one for one in every if one in sys.argv] or every, quick)
        return
    wanted = [name for name in ("b1", "b2", "b3", "b5") if name in sys.argv] or ["b1", "b5", "b2", "b3"]
    with tempfile.TemporaryDirectory(prefix="maru-bench-") as name:
        folder = Path(name)
        for one in ("b1", "b2", "b3", "b5"):
            (folder / one).mkdir()
        print(f"Python {sys.version.split()[0]}, SQLite WAL, synchronous=FULL, folder {folder.parent}")
        if "b1" in wanted:
            accepted(folder, 2 if quick else 5, 4 if quick else 10)
        if "b5" in wanted:
            kept_up(folder, (50, 100) if quick else (100, 150, 200, 250, 300), 10 if quick else 60)
        if "b2" in wanted:
            visible(folder, 10 if quick else 30)
        if "b3" in wanted:
            journeys(folder, 30 if quick else 1000, 4)


if __name__ == "__main__":
    main()
