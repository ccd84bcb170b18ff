"""Limits and peers of the full form, measured beside ours in the same run, on the same PostgreSQL and broker."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

from services.local_servers import Kafka, Postgres, class_path, java

ROW = "x" * 900
"""About the size of a stored event."""
DATABASE = "bench_peers"
_TABLE = """
CREATE TABLE IF NOT EXISTS peer_events (position bigserial PRIMARY KEY, stream text NOT NULL, version bigint NOT NULL,
    topic text NOT NULL, state text NOT NULL, UNIQUE (stream, version));
CREATE TABLE IF NOT EXISTS peer_lock ();
"""
_INSERT = (
    "INSERT INTO peer_events (stream, version, topic, state) "
    f"VALUES (gen_random_uuid()::text, 1, 'IssueRaised', '{ROW}')"
)
SHAPES = {
    "one insert a commit, unordered": f"{_INSERT};\n",
    "ordered: lock, notify, insert": (
        f"BEGIN;\nLOCK TABLE peer_lock IN EXCLUSIVE MODE;\nNOTIFY peer;\n{_INSERT};\nCOMMIT;\n"
    ),
    "batched: 100 rows a commit": (
        "INSERT INTO peer_events (stream, version, topic, state) SELECT gen_random_uuid()::text, 1, 'IssueRaised', "
        f"'{ROW}' FROM generate_series(1, 100);\n"
    ),
}
"""pgbench's three shapes of an append; the last one counts a hundred rows a transaction."""


def check_flushing(server: Postgres) -> str:
    """The settings that make a commit durable. Raises ``SystemExit`` where the disk would not be flushed."""
    with psycopg.connect(server.url()) as db:
        found = {
            name: db.execute(f"SHOW {name}".encode()).fetchone()[0]  # type: ignore[index]
            for name in ("server_version", "fsync", "synchronous_commit", "full_page_writes")
        }
    if found["fsync"] != "on" or found["synchronous_commit"] != "on":
        raise SystemExit(f"the disk would not be flushed, no figure is shown: {found}")
    return ", ".join(f"{name} {value}" for name, value in found.items())


def prepare(server: Postgres) -> None:
    """A database of the peers' own."""
    with psycopg.connect(server.url(), autocommit=True) as db:
        if db.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
            db.execute(f"CREATE DATABASE {DATABASE}".encode())
    with psycopg.connect(server.url(DATABASE), autocommit=True) as db:
        db.execute(_TABLE.encode())


def pgbench(server: Postgres, shape: str, clients: int, seconds: float) -> float:
    """Rows a second of one shape of append. Raises ``SystemExit`` where rows are missing afterwards."""
    parts = urlsplit(server.url(DATABASE))
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script, psycopg.connect(server.url(DATABASE)) as db:
        script.write(SHAPES[shape])
        script.flush()
        before = _count(db)
        told = subprocess.run(
            [
                server.program("pgbench"),
                *("-n", "-M", "prepared", "-f", script.name, "-c", str(clients), "-j", "2"),
                *("-T", str(max(1, round(seconds))), "-h", parts.hostname or "", "-p", str(parts.port)),
                *("-U", parts.username or "", DATABASE),
            ],
            env={**os.environ, "PGPASSWORD": server.password},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        rows = 100 if "100" in shape else 1
        processed = int(re.search(r"transactions actually processed: (\d+)", told)[1])  # type: ignore[index]
        db.rollback()
        if _count(db) - before != processed * rows:
            raise SystemExit("pgbench's rows are not all there, no figure is shown")
        return float(re.search(r"tps = ([0-9.]+)", told)[1]) * rows  # type: ignore[index]


def _count(db: psycopg.Connection[tuple[int]]) -> int:
    row = db.execute("SELECT count(*) FROM peer_events").fetchone()
    return 0 if row is None else row[0]


def plain_library(server: Postgres, events: int, threads: int, seconds: float) -> float:
    """Saves a second of the eventsourcing library as it comes, each of ``events`` events in one transaction."""
    parts = urlsplit(server.url(DATABASE))
    datastore = PostgresDatastore(
        DATABASE,
        parts.hostname or "",
        parts.port or 0,
        parts.username or "",
        server.password,
        pool_size=threads,
        originator_id_type="text",
    )
    recorder = PostgresApplicationRecorder(datastore, events_table_name="library_events")
    recorder.create_table()
    state, end = ROW.encode(), time.perf_counter() + seconds
    saved = [0] * threads

    def save(number: int) -> None:
        name = f"{time.time_ns()}-{number}"
        while time.perf_counter() < end:
            stream = f"{name}-{saved[number]}"
            recorder.insert_events([StoredEvent(stream, version, "IssueRaised", state) for version in range(events)])
            saved[number] += 1

    before = recorder.max_notification_id() or 0
    started = time.perf_counter()
    working = [threading.Thread(target=save, args=(number,)) for number in range(threads)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    took = time.perf_counter() - started
    stored = (recorder.max_notification_id() or 0) - before
    datastore.close()
    if stored != sum(saved) * events:
        raise SystemExit("the library's events are not all there, no figure is shown")
    return sum(saved) / took


def producer_performance(broker: Kafka, topic: str, records: int, size: int) -> float:
    """Records a second of Kafka's own producer to a topic of its own, acks=all and idempotent as the relay's."""
    told = subprocess.run(
        [
            java(),
            *("-cp", class_path(broker.folder, "org.apache.kafka:kafka-tools:4.3.1")),
            "org.apache.kafka.tools.ProducerPerformance",
            *("--topic", topic, "--num-records", str(records), "--record-size", str(size), "--throughput", "-1"),
            *("--producer-props", f"bootstrap.servers={broker.bootstrap}", "acks=all", "enable.idempotence=true"),
            *("linger.ms=5", "batch.size=131072"),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(tempfile.gettempdir()),
    ).stdout
    return float(re.findall(r"([0-9.]+) records/sec", told)[-1])
