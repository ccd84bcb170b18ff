"""A service's log as a database: what both dialects have in common, and what ``log.py`` needs of either.

``log.py`` writes its statements once, with ``?`` for parameters. Connections, the write lock and bulk inserts differ:
``sqlite_log.py`` and ``postgres_log.py``. These three alone know the eventsourcing library.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Literal, Protocol, Self

import psycopg
from eventsourcing.persistence import PersistenceError

SCHEMA = "2"
"""Version of the tables of a log; another one refuses to open."""
STORED, CARRIED, ANSWERED, FOLDED, WAITING = "stored", "carried", "answered", "folded", "waiting"
"""What a hint says: events are stored; inbox rows have come; reactions have answered some; views have come further;
somebody waits until something has."""


class Unavailable(Exception):
    """The log cannot be read or written just now (locked, disk full, closing, no server).

    Nothing is known to be stored: repeat with the same command id.
    """


class OtherVersion(Exception):
    """The database was made by another version of the software, or by none."""


class Misconfigured(Exception):
    """The library's option that skips the table lock is set: readers would miss events."""


class Cursor(Protocol):
    """What ``log.py`` needs of a cursor; statements have ``?`` for parameters in both dialects."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, statement: str, parameters: Sequence[Any] = ...) -> Self: ...
    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> Self: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


Lock = Literal["append_lock", "lease"]
"""What a transaction has to itself from its beginning: the log, or leases and what their holders note under them.

A process that is cut off within a transaction keeps others out until the server ends it: a relay must not stop those
who append. SQLite has one lock for all of it.
"""


class Writer(Protocol):
    """The writer's connection: one transaction at a time, under a lock from its beginning.

    Statements within ``together`` are sent at once, each on a ``cursor`` of its own that is read afterwards.
    """

    life: int
    """Which connection it is on, counted: a server that crashes ends it, and takes back what was not flushed."""

    def begin(self, *, durable: bool, lock: Lock = "append_lock") -> None: ...
    def cursor(self) -> Cursor: ...
    def together(self) -> AbstractContextManager[Any]: ...
    def commit(self, hint: str | None) -> None: ...
    def rollback(self) -> None: ...
    def notify(self, word: str) -> None: ...
    def close(self) -> None: ...


class LogDatabase(Protocol):
    """One service's log, in one dialect. ``heads`` and ``answers`` look up many at once."""

    name: str
    dialect: str

    def create(self, service: str) -> None: ...
    def reader(self) -> Cursor: ...
    def writer(self) -> Writer: ...
    def insert(self, cursor: Cursor, table: str, rows: Sequence[Sequence[Any]], conflict: str = "") -> int: ...
    def heads(self, cursor: Cursor, streams: Sequence[str]) -> Cursor: ...
    def answers(self, cursor: Cursor, ids: Sequence[str]) -> Cursor: ...
    def inbox_states(self, cursor: Cursor, places: Sequence[tuple[str, int, int]]) -> Cursor: ...
    def settle(self, cursor: Cursor, rows: Sequence[Sequence[Any]]) -> None: ...
    def notify(self, word: str) -> None: ...
    def listen(self, wake: Callable[[str], None]) -> Callable[[], None]: ...
    def close(self) -> None: ...


COLUMNS: Mapping[str, Mapping[str, str]] = {
    "stored_events": {
        "position": "bigint PRIMARY KEY",
        "originator_id": "text NOT NULL",
        "originator_version": "bigint NOT NULL",
        "topic": "text NOT NULL",
        "state": "bytea NOT NULL",
        "key": "text NOT NULL",
        "slot": "integer NOT NULL",
        "prev": "bigint NOT NULL",
        "epoch": "bigint NOT NULL",
        "case_id": "text",
        "trace": "text",
    },
    "slot_head": {"slot": "integer PRIMARY KEY", "position": "bigint NOT NULL"},
    "command": {
        "command_id": "text PRIMARY KEY",
        "content_hash": "text NOT NULL",
        "status": "integer NOT NULL",
        "body": "bytea NOT NULL",
        "etag": "text NOT NULL",
        "position": "text NOT NULL",
    },
    "inbox": {
        "source": "text NOT NULL",
        "epoch": "bigint NOT NULL",
        "position": "bigint NOT NULL",
        "slot": "integer NOT NULL",
        "prev": "bigint NOT NULL",
        "key": "text NOT NULL",
        "type": "text NOT NULL",
        "case_id": "text",
        "state": "text NOT NULL",
        "first_seen": "double precision NOT NULL",
        "raw": "bytea NOT NULL",
        "trace": "text",
        "error": "text",
    },
    "mark": {"source": "text", "epoch": "bigint", "slot": "integer", "position": "bigint NOT NULL"},
    "counter": {"name": "text PRIMARY KEY", "value": "bigint NOT NULL"},
    "meta": {"name": "text PRIMARY KEY", "value": "text NOT NULL"},
    "epochs": {
        "epoch": "bigint PRIMARY KEY",
        "after_position": "bigint NOT NULL",
        "began": "double precision NOT NULL",
    },
    "lease": {
        "name": "text PRIMARY KEY",
        "holder": "text NOT NULL",
        "fence": "bigint NOT NULL",
        "until": "double precision NOT NULL",
    },
    "member": {"grp": "text NOT NULL", "holder": "text NOT NULL", "until": "double precision NOT NULL"},
    "relay": {"topic": "text PRIMARY KEY", "position": "bigint NOT NULL"},
    "carried": {
        "source": "text NOT NULL",
        "slot": "integer NOT NULL",
        "cluster": "text NOT NULL",
        "next_offset": "bigint NOT NULL",
    },
    "rejected": {
        "topic": "text NOT NULL",
        "cluster": "text NOT NULL",
        "partition": "integer NOT NULL",
        "record_offset": "bigint NOT NULL",
        "cause": "text NOT NULL",
        "key": "bytea",
        "headers": "text NOT NULL",
        "raw": "bytea",
        "seen": "double precision NOT NULL",
    },
}
"""Tables of a log and their columns as PostgreSQL types them; SQLite's affinities follow from the same names."""
KINDS = ("bigint", "integer", "bytea", "text", "double precision")
"""What the columns hold."""
KEYS: Mapping[str, str] = {
    "stored_events": "UNIQUE (originator_id, originator_version)",
    "inbox": "UNIQUE (source, epoch, position)",
    "mark": "PRIMARY KEY (source, epoch, slot)",
    "member": "PRIMARY KEY (grp, holder)",
    "carried": "PRIMARY KEY (source, slot)",
    "rejected": "PRIMARY KEY (cluster, topic, partition, record_offset)",
}
INDEXES = (
    "CREATE INDEX IF NOT EXISTS stored_events_case ON stored_events (case_id, position)",
    "CREATE INDEX IF NOT EXISTS stored_events_slot ON stored_events (slot, position)",
    "CREATE INDEX IF NOT EXISTS inbox_waiting ON inbox (seq) WHERE state = 'waiting'",
    "CREATE INDEX IF NOT EXISTS inbox_owed ON inbox (source, key) WHERE state = 'waiting'",
    "CREATE INDEX IF NOT EXISTS inbox_held ON inbox (state, key) WHERE state IN ('parked', 'unknown')",
    "CREATE INDEX IF NOT EXISTS inbox_case ON inbox (case_id, seq)",
)
STATES = "SELECT source, epoch, position, state, key, seq FROM inbox"
ANSWERS = "SELECT command_id, content_hash, status, body, etag, position FROM command WHERE command_id"
"""The statements that both dialects give a condition of their own."""


STORE_ERRORS: tuple[type[Exception], ...] = (sqlite3.OperationalError, PersistenceError, psycopg.Error)
"""What a database raises when it is not there or not ours."""
LOST_CONNECTION: tuple[type[Exception], ...] = (psycopg.OperationalError, psycopg.InterfaceError)
"""After these nobody knows whether the transaction was stored: it is applied again, and finds its own commands."""


def first_meta(cursor: Any, service: str) -> None:
    # Seconds since 1970: a later log of the same service has a greater epoch, a restored one the same.
    epoch = int(time.time())
    for name, value in (("schema", SCHEMA), ("service", service), ("epoch", str(epoch)), ("replays", "0")):
        cursor.execute(question("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", cursor), (name, value))
    found = cursor.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0]
    cursor.execute(
        question("INSERT INTO epochs SELECT ?, 0, ? WHERE NOT EXISTS (SELECT 1 FROM epochs)", cursor),
        (int(found), time.time()),
    )


def question(statement: str, cursor: Any) -> str:
    return statement if isinstance(cursor, sqlite3.Cursor) else percent(statement)


@cache
def percent(statement: str) -> str:
    """A statement of ours as psycopg wants it: ``%s`` for ``?``, and no other percent signs taken for parameters."""
    return statement.replace("%", "%%").replace("?", "%s")
