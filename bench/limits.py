"""The limit: the bare insert into SQLite, measured beside every figure of ours, in the same run, on the same disk."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

ROW = "x" * 900
"""About the size of a stored event."""


def bare_insert(folder: Path, seconds: float, rows_per_commit: int) -> float:
    """Rows a second into a table like the event table, WAL, synchronous=FULL: every commit is flushed to the disk."""
    path = folder / "limit.db"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        mode = connection.execute("PRAGMA synchronous=FULL").fetchone()
        if mode is not None or connection.execute("PRAGMA synchronous").fetchone()[0] != 2:
            raise RuntimeError("the disk would not be flushed: no figure is shown")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS events (position INTEGER PRIMARY KEY, stream TEXT, version INTEGER, "
            "state BLOB, UNIQUE (stream, version))"
        )
        number = connection.execute("SELECT COALESCE(MAX(position), 0) FROM events").fetchone()[0]
        first, end = number, time.perf_counter() + seconds
        started = time.perf_counter()
        while time.perf_counter() < end:
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(rows_per_commit):
                number += 1
                connection.execute("INSERT INTO events VALUES (?, ?, 1, ?)", (number, f"stream-{number}", ROW))
            connection.execute("COMMIT")
        return float(number - first) / (time.perf_counter() - started)
    finally:
        connection.close()
