"""``make bench args=--full``: the full form, each figure divided by limits and peers of the same run, interleaved.

B1 command-append · B2 command-to-visible · B3 governance journeys · B4 relay · B6 rebuild · B8 footprint. PostgreSQL
flushes every commit (checked before anything is shown); counts and contents are checked before a figure is shown.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import uuid_utils

from bench import peers
from bench.load import closed_loop, open_loop
from services.client import Maru
from services.full import FullSystem
from services.issues.service import SERVICE as ISSUES
from services.local_servers import Kafka, Postgres
from services.start import prepare_folder
from services.walk import Walk
from shared.contracts.topics import topic_of
from shared.runtime.codec import seal, slot_of
from shared.runtime.databases import Databases
from shared.runtime.jobs import NewEvent, Prepared, Write
from shared.runtime.kafka import Consumer, ensure_topics
from shared.runtime.leases import Leases
from shared.runtime.log import EventLog
from shared.runtime.rebuild import checksum, rebuild
from shared.runtime.relay import Relay

EVENTS_OF_A_RAISE = 2
PATIENCE = 60.0
"""Seconds after which a relay that publishes nothing ends the run."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Lengths:
    """How long and how often: a full run, or a quick look."""

    pairs: int = 5
    seconds: float = 10
    visible: float = 60
    journeys: int = 60
    relayed: int = 100_000


def main(folder: Path, wanted: Sequence[str], quick: bool) -> None:
    """Run what was asked for."""
    lengths = Lengths(2, 4, 10, 6, 30_000) if quick else Lengths()
    packages = ("eventsourcing", "aiokafka", "faust-streaming", "fastapi", "psycopg")
    print(f"Python {sys.version.split()[0]}, Kafka 4.3.1, {', '.join(f'{name} {version(name)}' for name in packages)}")
    if "b4" in wanted:
        relayed(folder / "b4", lengths)
    if {"b1", "b2", "b3", "b6", "b8"} & set(wanted):
        started = time.perf_counter()
        with FullSystem(folder / "full") as full:
            full.wait_ready()
            print(f"\nB8  every process ready {time.perf_counter() - started:.1f} s after a start from nothing")
            print(f"    {peers.check_flushing(full.postgres)}")
            with full.opened() as opened:
                prepare_folder(opened)
            if not full.idle():
                raise SystemExit("the system did not come to rest, no figure")
            peers.prepare(full.postgres)
            if "b8" in wanted:
                footprint(full, "idle")
            if "b2" in wanted:
                visible(full, lengths)
            if "b3" in wanted:
                journeys(full, lengths)
            if "b1" in wanted:
                appended(full, lengths)
            if "b6" in wanted:
                rebuilt(full, lengths)
            if "b8" in wanted:
                footprint(full, "after the load")


def _ratio(title: str, ours: Sequence[float], theirs: Sequence[float], unit: str) -> None:
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    print(
        f"    ours / {title}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); "
        f"theirs {statistics.median(theirs):,.0f} {unit}"
    )


# B1


def appended(full: FullSystem, lengths: Lengths) -> None:
    """POST of RaiseIssue, 201 only after the flush: all that follows from it runs beside on the same cores."""
    print("\nB1  commands accepted over HTTP, 64 connections; RaiseIssue = 2 events, flushed before 201")
    ours: list[float] = []
    theirs: dict[str, list[float]] = {shape: [] for shape in peers.SHAPES}
    library: list[float] = []
    for number in range(lengths.pairs):
        before, cpu = _position(full), _cpu(full)
        rate, seen = asyncio.run(closed_loop(full.urls["issues"], 64, lengths.seconds, full.urls["issuer"]))
        spent, count = _cpu(full), len(seen.seconds)
        spent.subtract(cpu)
        if seen.wrong or _position(full) - before != EVENTS_OF_A_RAISE * count:
            raise SystemExit(f"answers and log differ, no figure: {seen.wrong[:1]}")
        started = time.perf_counter()
        if not full.idle():
            raise SystemExit("the system did not come to rest, no figure")
        drained = time.perf_counter() - started
        ours.append(rate)
        for shape, figures in theirs.items():
            figures.append(peers.pgbench(full.postgres, shape, 64, lengths.seconds / 2))
        library.append(peers.plain_library(full.postgres, EVENTS_OF_A_RAISE, 4, lengths.seconds / 2))
        print(
            f"    pair {number + 1}: {rate:6.0f}/s (p50 {seen.percentile(0.5) * 1e3:.0f} ms, p99 "
            f"{seen.percentile(0.99) * 1e3:.0f} ms), {spent.total() / count:.2f} ms of processor time each while it "
            f"ran ({_shares(spent, count)}); at rest {drained:.1f} s after"
        )
    print(f"    median {statistics.median(ours):,.0f} commands/s (goal 2,500)")
    for shape, figures in theirs.items():
        _ratio(f"pgbench, {shape}", ours, figures, "rows/s")
    _ratio("the library used plainly (4 threads, saves of 2 events)", ours, library, "saves/s")


def _position(full: FullSystem) -> int:
    log = full.databases.log("issues")
    try:
        return log.last_position()
    finally:
        log.close()


def _cpu(full: FullSystem) -> Counter[str]:
    """Milliseconds of processor time so far, by kind of process."""
    spent: Counter[str] = Counter()
    for name in full.supervisor.names:
        for pid in full.process(name).process.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            spent[name.rpartition("-")[2]] += (int(fields[11]) + int(fields[12])) * 1000 // TICKS
    return spent


def _shares(spent: Counter[str], count: int) -> str:
    """Milliseconds of each, by kind, the largest first."""
    return ", ".join(f"{kind} {milliseconds / count:.1f}" for kind, milliseconds in spent.most_common())


# B2


def visible(full: FullSystem, lengths: Lengths) -> None:
    """From the scheduled POST to the GET that shows it, over three processes, 200 a second."""
    print("\nB2  command to visible, open loop at 200 a second (goal p99 100 ms)")
    for rate, seconds in ((50, 5.0), (200, lengths.visible)):
        seen = asyncio.run(
            open_loop(full.urls["issues"], rate, seconds, visible=True, connections=64, issuer=full.urls["issuer"])
        )
        if seen.wrong:
            print(
                f"    {rate}/s: not kept up with, no figure: {len(seen.wrong)} of {len(seen.seconds)} {seen.wrong[0]}"
            )
        else:
            p50, p99 = seen.percentile(0.5) * 1e3, seen.percentile(0.99) * 1e3
            print(f"    {rate}/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms over {len(seen.seconds)}")
        full.idle()


# B3


def journeys(full: FullSystem, lengths: Lengths) -> None:
    """Golden scenario 1 over HTTP, no short cut, final state by GET."""
    print(f"\nB3  governance journeys: golden scenario 1 over HTTP, {lengths.journeys} in all")
    for at_once in (1, 4, 16):
        failed: list[str] = []
        counted: dict[str, int] = {}
        seconds: list[float] = []

        def journey(
            _: int,
            failed: list[str] = failed,
            counted: dict[str, int] = counted,
            seconds: list[float] = seconds,
        ) -> None:
            started = time.perf_counter()
            try:
                with Maru(full.urls) as maru:
                    outcome = Walk(maru, dated=False).run()
            except Exception as error:
                failed.append(str(error))
                return
            seconds.append(time.perf_counter() - started)
            if not outcome.told or outcome.itinerary["outcome"] != "adopted_in_policy":
                failed.append(outcome.case_id)
            counted["commands"] = outcome.commands

        before, cpu, started = _stored(full), _cpu(full), time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(journey, range(lengths.journeys)))
        took, spent = time.perf_counter() - started, _cpu(full)
        spent.subtract(cpu)
        if failed or not full.idle():
            raise SystemExit(f"{len(failed)} journeys failed, no figure: {failed[:1]}")
        events = (_stored(full) - before) / lengths.journeys
        library = peers.plain_library(full.postgres, 1, 4, lengths.seconds / 2)
        print(
            f"    {at_once:2d} at once: {lengths.journeys / took:.2f} journeys/s = "
            f"{events * lengths.journeys / took:.0f} events/s; median {statistics.median(seconds):.2f} s; "
            f"{counted['commands']} commands, {events:.0f} events and "
            f"{spent.total() / lengths.journeys:.0f} ms of processor time each "
            f"({_shares(spent, lengths.journeys)}); the library alone would save {library / events:.1f} such journeys/s"
        )


def _stored(full: FullSystem) -> int:
    with full.opened() as opened:
        return sum(opened.service(name).log.last_position() for name in full.databases.urls)


# B4


def relayed(folder: Path, lengths: Lengths) -> None:
    """A log of many events to a topic, in one relay process's thread; the topic is read back and compared."""
    print(f"\nB4  relay: catch-up over {lengths.relayed:,} events of about 1 kB")
    postgres, kafka = Postgres(folder / "postgres"), Kafka(folder / "kafka")
    try:
        postgres.start()
        kafka.start()
        where = postgres.url().rpartition("@")[2].partition("/")[0]
        databases = Databases(
            folder, f"postgresql://bench_{{service}}:secret@{where}/bench_{{service}}", postgres.url()
        )
        databases.migrate(ISSUES)
        log = databases.log("issues")
        try:
            size = _fill(log, lengths.relayed)
            ours, theirs = [], []
            for number in range(1 if lengths.pairs < 3 else 3):
                asyncio.run(_made_anew(kafka))
                rate = asyncio.run(_catch_up(log, kafka))
                performance = peers.producer_performance(kafka, "peer", lengths.relayed, size)
                ours.append(rate)
                theirs.append(performance)
                print(f"    pair {number + 1}: {rate:,.0f} events/s")
        finally:
            log.close()
        print(f"    median {statistics.median(ours):,.0f} events/s (goal 20,000)")
        _ratio(f"ProducerPerformance, records of {size} bytes", ours, theirs, "records/s")
        asyncio.run(_paging(databases, ours))
    finally:
        kafka.stop()
        postgres.stop()


def _fill(log: EventLog, count: int) -> int:
    """Events that look like those of issues; gives their mean size."""
    futures, size, text = [], 0, "산길 구간을 넓혀 주시기를 건의합니다. " * 8
    for number in range(count):
        case = str(uuid_utils.uuid7())
        event_id = str(uuid_utils.uuid7())
        document = {
            "event_id": event_id,
            "type": "IssueRaised",
            "schema_version": 1,
            "service": "issues",
            "aggregate": "Issue",
            "aggregate_id": case,
            "version": 1,
            "case_id": case,
            "effective_at": "2023-01-04T09:00:00+09:00",
            "recorded_at": "2023-01-04T09:00:00+09:00",
            "correlation_id": case,
            "causation_id": f"command-{number}",
            "confidentiality": "internal",
            "prev_hash": "0" * 64,
            "data": {"title": "국도 확장", "text": text},
        }
        raw, _ = seal(document)
        size += len(raw)
        event = NewEvent(event_id, "IssueRaised", f"Issue/{case}", 1, "IssueRaised.v1", raw, case, case)
        futures.append(
            log.submit(Write((Prepared(f"command-{number}", "asked", f"Issue/{case}", case, case, 0, 0, (event,)),)))
        )
        if len(futures) >= 2000:
            for future in futures:
                future.result(60)
            futures.clear()
    for future in futures:
        future.result(60)
    return size // count


async def _made_anew(kafka: Kafka) -> None:
    kafka.wipe()
    kafka.start()
    topic = topic_of("issues")
    await ensure_topics(kafka.bootstrap, [topic, replace(topic, name="peer")], seconds=30)


async def _catch_up(log: EventLog, kafka: Kafka) -> float:
    log.run(lambda cursor: cursor.execute("UPDATE relay SET position = 0"))
    leases = Leases(log, "bench")
    relay, stop = Relay(log, leases, kafka.bootstrap), asyncio.Event()
    last = log.last_position()
    started = time.perf_counter()
    running = asyncio.create_task(relay.run(stop))
    while (saved := await asyncio.to_thread(_saved, log)) < last:
        if running.done():
            running.result()
        if relay.problem and time.perf_counter() - started > PATIENCE:
            raise SystemExit(f"the relay publishes nothing: {relay.problem}, no figure")
        await asyncio.sleep(0.02)
    took = time.perf_counter() - started
    stop.set()
    await running
    await asyncio.to_thread(leases.release)
    await _compare(log, kafka, saved)
    return last / took


def _saved(log: EventLog) -> int:
    rows = log.query("SELECT position FROM relay")
    return rows[0][0] if rows else 0


async def _compare(log: EventLog, kafka: Kafka, count: int) -> None:
    """Every record is in its partition with the bytes that are stored, in order."""
    consumer, topic = Consumer(kafka.bootstrap, "bench"), topic_of("issues")
    await consumer.start()
    places = [(topic.name, partition) for partition in range(topic.partitions)]
    consumer.assign(dict.fromkeys(places, 0))
    found: dict[int, list[bytes]] = {partition: [] for _, partition in places}
    while sum(map(len, found.values())) < count:
        for (_, partition), records in (await consumer.take(5000, 5)).items():
            found[partition] += [record.value or b"" for record in records]
    await consumer.stop()
    position = 0
    while rows := log.after(position, 5000):
        position = rows[-1].position
        for row in rows:
            if found[slot_of(row.key)].pop(0) != row.raw:
                raise SystemExit(f"position {row.position} differs in the topic, no figure")


async def _paging(databases: Databases, ours: Sequence[float]) -> None:
    """How fast the log alone is read, page by page."""
    log = databases.log("issues")
    started, position, count = time.perf_counter(), 0, 0
    while rows := log.after(position, 2000):
        position, count = rows[-1].position, count + len(rows)
    rate = count / (time.perf_counter() - started)
    log.close()
    print(f"    ours / reading the log by pages of 2,000: {statistics.median(ours) / rate:.3f}; {rate:,.0f} events/s")


# B6


def rebuilt(full: FullSystem, lengths: Lengths) -> None:
    """A view from zero beside the old one, through the same fold as live; both contents must be equal."""
    print("\nB6  rebuild of issues/register, through the same fold as live")
    view = next(view for view in ISSUES.views if view.name == "register")
    log, store = full.databases.log("issues"), full.databases.views("issues")
    try:
        ours = []
        for _ in range(lengths.pairs):
            done = rebuild(log, store, view)
            if done.checksum != done.old_checksum:
                raise SystemExit("old and new content differ, no figure")
            ours.append(done.events / done.seconds)
            print(f"    {done.events:,} events in {done.seconds:.2f} s: {ours[-1]:,.0f} events/s")
        with store.read() as db:
            started = time.perf_counter()
            checksum(db, store.tables(view, store.pointer(db, view)[0]))
            print(f"    of each, {time.perf_counter() - started:.2f} s a checksum (two are made)")
        print(f"    median {statistics.median(ours):,.0f} events/s (goal 20,000)")
        started, position, count = time.perf_counter(), 0, 0
        while rows := log.after(position, 500):
            position, count = rows[-1].position, count + len(rows)
        rate = count / (time.perf_counter() - started)
        print(f"    ours / reading the log by pages of 500: {statistics.median(ours) / rate:.3f}; {rate:,.0f} events/s")
    finally:
        log.close()
        store.close()


# B8


def footprint(full: FullSystem, when: str) -> None:
    """Memory of each process, and of all."""
    sizes = {name: sum(map(_rss, full.process(name).process.pids())) for name in full.supervisor.names}
    own = {name: size for name, size in sizes.items() if name not in ("kafka", "postgres")}
    print(f"\nB8  memory {when}, MB")
    for kind in ("gateway", "relay", "follower"):
        print(f"    {kind:<9} " + ", ".join(f"{size / 2**20:.0f}" for name, size in own.items() if kind in name))
    print("    others    " + ", ".join(f"{n} {s / 2**20:.0f}" for n, s in sizes.items() if "-" not in n))
    print(f"    all of ours {sum(own.values()) / 2**20:.0f}")


def _rss(pid: int) -> int:
    try:
        line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) * 1024
