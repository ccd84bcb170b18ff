"""A log in one SQLite file: the embedded form."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteConnection, SQLiteDatastore

from shared.runtime.log_database import (
    ANSWERS,
    COLUMNS,
    INDEXES,
    KEYS,
    STATES,
    Cursor,
    Lock,
    OtherVersion,
    Writer,
    first_meta,
)

_SQLITE = {"bigint": "INTEGER", "integer": "INTEGER", "bytea": "BLOB", "text": "TEXT", "double precision": "REAL"}
_TEXT_KEYED = frozenset({"command", "mark", "counter", "meta"})
"""Tables that SQLite keeps by their key alone."""


def _sqlite_tables() -> list[str]:
    statements = []
    for table, columns in COLUMNS.items():
        body = []
        if table == "inbox":
            body.append("seq INTEGER PRIMARY KEY AUTOINCREMENT")
        for name, kind in columns.items():
            plain = next(known for known in _SQLITE if kind.startswith(known))
            body.append(f"{name} {_SQLITE[plain]}{kind[len(plain) :]}")
        body += [KEYS[table]] if table in KEYS else []
        without = " WITHOUT ROWID" if table in _TEXT_KEYED else ""
        statements.append(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(body)}){without}")
    return [*statements, *INDEXES]


class SqliteRecorder(SQLiteApplicationRecorder):
    """The library's recorder with our columns; its reading methods work unchanged, its inserting is replaced."""

    def construct_create_table_statements(self) -> list[str]:
        """The tables of ``log.db``; ``position`` is the library's notification id."""
        return _sqlite_tables()

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Not this way: the one write path assigns positions under the lock."""
        raise TypeError("events are appended through EventLog.submit only")


class SqliteDatabase:
    """A log in one SQLite file."""

    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._datastore: SQLiteDatastore | None = None

    def create(self, service: str) -> None:
        """Make the tables, and the epoch where there is none. Safe to repeat."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in _sqlite_tables():
                connection.execute(statement)
            first_meta(connection.cursor(), service)
            connection.execute("COMMIT")
        finally:
            connection.close()

    def _store(self) -> SQLiteDatastore:
        with self._lock:
            if self._datastore is None:
                self._datastore = SQLiteDatastore(
                    self.path.as_uri() + "?mode=rw",
                    lock_timeout=10,
                    pool_size=20,
                    max_overflow=60,
                    originator_id_type="text",
                )
            return self._datastore

    def recorder(self) -> SqliteRecorder:
        """The library's view of the log."""
        return SqliteRecorder(self._store())

    def reader(self) -> Cursor:
        """A cursor of this thread's own read connection: one statement is one snapshot, without begin and rollback."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                connection = sqlite3.connect(
                    self.path.as_uri() + "?mode=ro", uri=True, timeout=10, check_same_thread=False
                )
            except sqlite3.OperationalError as error:
                raise OtherVersion(f"{self.path} is not there: run maru migrate") from error
            connection.isolation_level = None
            # A connection for each thread: the default cache of 2 MB would be most of the process's memory.
            connection.execute("PRAGMA cache_size=-256")
            self._local.connection = connection
            with self._lock:
                self._readers.append(connection)
        return connection.cursor()

    def writer(self) -> Writer:
        """The one write connection."""
        return _SqliteWriter(self._store())

    def insert(self, cursor: Cursor, table: str, rows: Sequence[Sequence[Any]], conflict: str = "") -> int:
        """Insert rows that give all columns of a table in order; gives the number of new ones."""
        return cursor.executemany(_insert_values(table, conflict), rows).rowcount

    def heads(self, cursor: Cursor, streams: Sequence[str]) -> Cursor:
        """Each stream and its version, ``None`` where it has none."""
        marks = ",".join("(?)" for _ in streams)
        return cursor.execute(
            f"WITH s(id) AS (VALUES {marks}) SELECT id, (SELECT MAX(originator_version) FROM stored_events "  # noqa: S608
            "WHERE originator_id = id) FROM s",
            streams,
        )

    def answers(self, cursor: Cursor, ids: Sequence[str]) -> Cursor:
        """Stored answers of these command ids."""
        marks = ",".join("?" for _ in ids)
        return cursor.execute(f"{ANSWERS} IN ({marks})", ids)

    def inbox_states(self, cursor: Cursor, places: Sequence[tuple[str, int, int]]) -> Cursor:
        """Source, epoch, position, state, key and number of these inbox rows."""
        marks = ",".join("(?, ?, ?)" for _ in places)
        return cursor.execute(
            f"{STATES} WHERE (source, epoch, position) IN (VALUES {marks})",
            [part for place in places for part in place],
        )

    def settle(self, cursor: Cursor, rows: Sequence[Sequence[Any]]) -> None:
        """Set state and error of inbox rows: (source, epoch, position, state, error)."""
        cursor.executemany(
            "UPDATE inbox SET state = ?, error = ? WHERE source = ? AND epoch = ? AND position = ?",
            [(state, error, *place) for *place, state, error in rows],
        )

    def notify(self, word: str) -> None:
        """Nobody listens: followers are in this process."""

    def listen(self, wake: Callable[[str], None]) -> Callable[[], None]:
        """Nothing to listen to; gives what ends it."""
        return lambda: None

    def close(self) -> None:
        """Close every connection; the writer's is closed before."""
        for connection in self._readers:
            connection.close()
        self._readers.clear()
        if self._datastore is not None:
            self._datastore.close()


@cache
def _insert_values(table: str, conflict: str) -> str:
    columns = COLUMNS[table]
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)}) {conflict}"  # noqa: S608


class _SqliteWriter:
    life = 0
    """Always the same: the file cannot go back while this process lives."""

    def __init__(self, datastore: SQLiteDatastore) -> None:
        self._open = datastore.get_connection(commit=True)
        self._connection: SQLiteConnection = self._open.__enter__()
        self._cursor: sqlite3.Cursor | None = None
        self._durable: bool | None = None
        with self._connection.cursor() as cursor:
            # Command ids lie scattered over their index: with the default 2 MB each insert would read a page anew.
            cursor.execute("PRAGMA cache_size=-8000")

    def begin(self, *, durable: bool, lock: Lock = "append_lock") -> None:
        self._cursor = cursor = self._connection.cursor().__enter__()
        if durable != self._durable:
            # Write-ahead log: a later flushed commit carries all before it to the disk, in order.
            cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        cursor.execute("BEGIN IMMEDIATE")

    def cursor(self) -> Cursor:
        assert self._cursor is not None
        return self._cursor.connection.cursor()

    def together(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def commit(self, hint: str | None) -> None:
        assert self._cursor is not None
        self._cursor.execute("COMMIT")
        self._cursor.close()

    def rollback(self) -> None:
        if self._cursor is not None:
            if self._cursor.connection.in_transaction:
                self._cursor.execute("ROLLBACK")
            self._cursor.close()

    def notify(self, word: str) -> None:
        """Nobody listens: followers are in this process, and others look by themselves."""

    def close(self) -> None:
        self._open.__exit__(None, None, None)
