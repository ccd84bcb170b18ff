"""Where a service's log lives: SQLite (a file) or PostgreSQL (a schema), both by the eventsourcing library's recorders.

The only file that knows the library and the two drivers' ways. ``log.py`` writes its statements once, with ``?`` for
parameters; what differs stands here: connections, the write lock, bulk inserts, tables and rights.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, Protocol, Self, cast
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
from eventsourcing.persistence import PersistenceError, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteConnection, SQLiteDatastore
from psycopg import sql

SCHEMA = "2"
"""Version of the tables of a log; another one refuses to open."""
_UNSAFE = "POSTGRES_ENABLE_DB_FUNCTIONS"
CONNECT_SECONDS = 3
LOCK_SECONDS = 2.0
STATEMENT_SECONDS = 4.0
"""On PostgreSQL: longest wait for a connection, a lock, a statement. Together below the gateways' five seconds."""
WRITE_SECONDS = 5.0
"""Longest transaction of the writer, which holds the append lock; a frozen process's is ended by the server then."""
CHANNEL = "maru"
"""PostgreSQL's NOTIFY channel of a service's database: hints to its other processes, never promises."""
STORED, MOVED, WAITING = "stored", "moved", "waiting"
"""What a hint says: log or inbox have new rows; a follower has come further; somebody waits until one has."""


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


class Writer(Protocol):
    """The writer's connection: one transaction at a time, under the write lock from its beginning.

    Statements within ``together`` are sent at once, each on a ``cursor`` of its own that is read afterwards.
    """

    def begin(self, *, durable: bool) -> None: ...
    def cursor(self) -> Cursor: ...
    def together(self) -> AbstractContextManager[Any]: ...
    def commit(self) -> None: ...
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


class PostgresRecorder(PostgresApplicationRecorder):
    """The library's recorder on a view of our table; its reading methods work unchanged, its inserting is replaced."""

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
            _first_meta(connection.cursor(), service)
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
        return cursor.execute(f"{_ANSWERS} IN ({marks})", ids)

    def inbox_states(self, cursor: Cursor, places: Sequence[tuple[str, int, int]]) -> Cursor:
        """Source, epoch, position, state, key and number of these inbox rows."""
        marks = ",".join("(?, ?, ?)" for _ in places)
        return cursor.execute(
            f"{_STATES} WHERE (source, epoch, position) IN (VALUES {marks})",
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


_STATES = "SELECT source, epoch, position, state, key, seq FROM inbox"
_ANSWERS = "SELECT command_id, content_hash, status, body, etag, position FROM command WHERE command_id"


@cache
def _insert_values(table: str, conflict: str) -> str:
    columns = COLUMNS[table]
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)}) {conflict}"  # noqa: S608


class _SqliteWriter:
    def __init__(self, datastore: SQLiteDatastore) -> None:
        self._open = datastore.get_connection(commit=True)
        self._connection: SQLiteConnection = self._open.__enter__()
        self._cursor: sqlite3.Cursor | None = None
        self._durable: bool | None = None
        with self._connection.cursor() as cursor:
            # Command ids lie scattered over their index: with the default 2 MB each insert would read a page anew.
            cursor.execute("PRAGMA cache_size=-8000")

    def begin(self, *, durable: bool) -> None:
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

    def commit(self) -> None:
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


def _first_meta(cursor: Any, service: str) -> None:
    # Seconds since 1970: a later log of the same service has a greater epoch, a restored one the same.
    epoch = int(time.time())
    for name, value in (("schema", SCHEMA), ("service", service), ("epoch", str(epoch)), ("replays", "0")):
        cursor.execute(_question("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", cursor), (name, value))
    found = cursor.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0]
    cursor.execute(
        _question("INSERT INTO epochs SELECT ?, 0, ? WHERE NOT EXISTS (SELECT 1 FROM epochs)", cursor),
        (int(found), time.time()),
    )


def _question(statement: str, cursor: Any) -> str:
    return statement if isinstance(cursor, sqlite3.Cursor) else percent(statement)


# PostgreSQL


@cache
def percent(statement: str) -> str:
    """A statement of ours as psycopg wants it: ``%s`` for ``?``, and no other percent signs taken for parameters."""
    return statement.replace("%", "%%").replace("?", "%s")


def connect(url: str, schema: str, *, autocommit: bool = True, **options: str) -> psycopg.Connection[Any]:
    """A connection on a schema with bounded waits. Raises ``psycopg.OperationalError``."""
    settings = {
        "search_path": schema,
        "statement_timeout": str(int(STATEMENT_SECONDS * 1000)),
        "lock_timeout": str(int(LOCK_SECONDS * 1000)),
        "idle_in_transaction_session_timeout": "60000",
        **options,
    }
    return psycopg.connect(
        url,
        autocommit=autocommit,
        connect_timeout=CONNECT_SECONDS,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=5000,
        application_name="maru",
        options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
    )


class _PostgresCursor:
    """A psycopg cursor that takes ``?``; where its connection is lost it raises ``Unavailable``."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Self:
        if parameters:
            self._cursor.execute(cast(Any, percent(statement)), parameters)
        else:
            self._cursor.execute(cast(Any, statement))
        return self

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> Self:
        self._cursor.executemany(cast(Any, percent(statement)), rows)
        return self

    def fetchone(self) -> Any:
        return self._cursor.fetchone()

    def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()


class _PostgresReader(_PostgresCursor):
    """A reading cursor of one thread; a lost connection is made anew once, since a read can be repeated."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        super().__init__(database.read_connection().cursor())

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Self:
        try:
            return super().execute(statement, parameters)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not self._database.lost():
                raise Unavailable(str(error)) from error
        self._cursor = self._database.read_connection().cursor()
        try:
            return super().execute(statement, parameters)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._database.lost()
            raise Unavailable(str(error)) from error


class PostgresDatabase:
    """A log in the schema ``log`` of a service's PostgreSQL database."""

    dialect = "postgresql"

    def __init__(self, url: str) -> None:
        """``url`` names the service's own database and role. Raises ``Misconfigured``."""
        if (os.environ.get(_UNSAFE) or "no").lower() not in ("0", "f", "false", "n", "no", "off"):
            raise Misconfigured(
                f"{_UNSAFE} is set: that option of the eventsourcing library appends without the table lock, and "
                "readers of the log then miss events. Unset it"
            )
        self.url = url
        self.name = masked(url)
        self._local = threading.local()
        self._connections: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._datastore: PostgresDatastore | None = None

    def create(self, service: str) -> None:
        """Not with the service's own role: ``provision`` makes the tables, with the owner's."""
        raise OtherVersion(f"{self.name} has no tables: run maru migrate")

    def recorder(self) -> PostgresRecorder:
        """The library's view of the log, for reading."""
        if self._datastore is None:
            parts = urlsplit(self.url)
            self._datastore = PostgresDatastore(
                parts.path.lstrip("/"),
                parts.hostname or "localhost",
                parts.port or 5432,
                unquote(parts.username or ""),
                unquote(parts.password or ""),
                originator_id_type="text",
                schema="log",
            )
        return PostgresRecorder(self._datastore, events_table_name="notifications")

    def read_connection(self) -> psycopg.Connection[Any]:
        """This thread's own connection. Raises ``Unavailable``."""
        connection: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            try:
                # A tailing query planned on a small table may scan it for ever: the index is all that readers need.
                connection = connect(self.url, "log", enable_seqscan="off", default_transaction_read_only="on")
            except psycopg.OperationalError as error:
                raise Unavailable(str(error)) from error
            self._local.connection = connection
            with self._lock:
                self._connections = [known for known in self._connections if not known.closed]
                self._connections.append(connection)
        return connection

    def lost(self) -> bool:
        """Whether this thread's connection is gone; drops it then."""
        connection: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if connection is not None and not connection.closed and not connection.broken:
            return False
        if connection is not None:
            connection.close()
        self._local.connection = None
        return True

    def reader(self) -> Cursor:
        """A cursor of this thread's own read connection: each statement is one snapshot."""
        return _PostgresReader(self)

    def writer(self) -> Writer:
        """The one write connection of this process; opened with the first transaction, and again after it was lost."""
        return _PostgresWriter(self.url)

    def insert(self, cursor: Cursor, table: str, rows: Sequence[Sequence[Any]], conflict: str = "") -> int:
        """Insert rows that give all columns of a table in order, in one statement; gives the number of new ones."""
        return cursor.execute(_insert_arrays(table, conflict), list(map(list, zip(*rows, strict=True)))).rowcount

    def heads(self, cursor: Cursor, streams: Sequence[str]) -> Cursor:
        """Each stream and its version, ``None`` where it has none."""
        return cursor.execute(
            "SELECT s.id, (SELECT MAX(originator_version) FROM stored_events WHERE originator_id = s.id) "
            "FROM unnest(?::text[]) AS s(id)",
            (list(streams),),
        )

    def answers(self, cursor: Cursor, ids: Sequence[str]) -> Cursor:
        """Stored answers of these command ids."""
        return cursor.execute(f"{_ANSWERS} = ANY (?::text[])", (list(ids),))

    def inbox_states(self, cursor: Cursor, places: Sequence[tuple[str, int, int]]) -> Cursor:
        """Source, epoch, position, state, key and number of these inbox rows."""
        arrays = list(map(list, zip(*places, strict=True)))
        return cursor.execute(
            f"{_STATES} JOIN unnest(?::text[], ?::bigint[], ?::bigint[]) AS u(source, epoch, position) "
            "USING (source, epoch, position)",
            arrays,
        )

    def settle(self, cursor: Cursor, rows: Sequence[Sequence[Any]]) -> None:
        """Set state and error of inbox rows: (source, epoch, position, state, error)."""
        cursor.execute(
            "UPDATE inbox SET state = u.state, error = u.error FROM unnest(?::text[], ?::bigint[], ?::bigint[], "
            "?::text[], ?::text[]) AS u(source, epoch, position, state, error) WHERE inbox.source = u.source "
            "AND inbox.epoch = u.epoch AND inbox.position = u.position",
            list(map(list, zip(*rows, strict=True))),
        )

    def notify(self, word: str) -> None:
        """Give other processes a hint of what happened beside the log."""
        connection: psycopg.Connection[Any] | None = getattr(self._local, "notifier", None)
        try:
            if connection is None or connection.closed:
                connection = self._local.notifier = connect(self.url, "log", synchronous_commit="off")
                with self._lock:
                    self._connections.append(connection)
            connection.execute(f"NOTIFY {CHANNEL}, '{word}'")
        except (psycopg.OperationalError, psycopg.InterfaceError):
            self._local.notifier = None

    def listen(self, wake: Callable[[str], None]) -> Callable[[], None]:
        """Call ``wake`` with what another process says, until the function given back is called.

        Only a hint: a connection can die silently, so whoever is woken looks from time to time anyway.
        """
        ended = threading.Event()
        threading.Thread(target=self._listen, args=(wake, ended), name="listener", daemon=True).start()
        return ended.set

    def _listen(self, wake: Callable[[str], None], ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                with connect(self.url, "log") as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    while not ended.is_set():
                        for told in connection.notifies(timeout=1.0, stop_after=1):
                            wake(told.payload)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                ended.wait(1.0)

    def close(self) -> None:
        """Close every reading connection."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        if self._datastore is not None:
            self._datastore.close()


@cache
def _insert_arrays(table: str, conflict: str) -> str:
    columns = COLUMNS[table]
    kinds = [next(known for known in _SQLITE if kind.startswith(known)) for kind in columns.values()]
    arrays = ", ".join(f"?::{kind}[]" for kind in kinds)
    names = ", ".join(columns)
    # In the order given: the inbox numbers its rows as they come.
    return (
        f"INSERT INTO {table} ({names}) SELECT {names} FROM unnest({arrays}) "  # noqa: S608 - own names only
        f"WITH ORDINALITY AS rows({names}, ordinality) ORDER BY ordinality {conflict}"
    )


class _PostgresWriter:
    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    def begin(self, *, durable: bool) -> None:
        if self._connection is None or self._connection.closed:
            # A frozen process must not hold the lock for ever: the server ends its transaction.
            seconds = str(int(WRITE_SECONDS * 1000))
            self._connection = connect(
                self._url, "log", idle_in_transaction_session_timeout=seconds, transaction_timeout=seconds
            )
        # What need not reach the disk by itself: a later flushed commit carries it along, in order. And not the event
        # table's lock: this role may only insert and select there. One simple query, not a pipeline, after which the
        # server would wait without its idle timer.
        flushed = "on" if durable else "off"
        self._connection.execute(
            f"BEGIN; SET LOCAL synchronous_commit = {flushed}; LOCK TABLE append_lock IN EXCLUSIVE MODE"
        )

    def cursor(self) -> Cursor:
        assert self._connection is not None
        return _PostgresCursor(self._connection.cursor())

    def together(self) -> AbstractContextManager[Any]:
        assert self._connection is not None
        return self._connection.pipeline()

    def commit(self) -> None:
        assert self._connection is not None
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.execute("ROLLBACK")
        except (psycopg.OperationalError, psycopg.InterfaceError):
            self._connection.close()

    def notify(self, word: str) -> None:
        """Give other processes a hint: it may be lost, so it need not be flushed."""
        assert self._connection is not None
        try:
            self._connection.execute(f"BEGIN; SET LOCAL synchronous_commit = off; NOTIFY {CHANNEL}, '{word}'; COMMIT")
        except (psycopg.OperationalError, psycopg.InterfaceError):
            self._connection.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


STORE_ERRORS: tuple[type[Exception], ...] = (sqlite3.OperationalError, PersistenceError, psycopg.Error)
"""What a database raises when it is not there or not ours."""
LOST_CONNECTION: tuple[type[Exception], ...] = (psycopg.OperationalError, psycopg.InterfaceError)
"""After these nobody knows whether the transaction was stored: it is applied again, and finds its own commands."""


def masked(url: str) -> str:
    """A database URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":********@")))


_GRANTS: Mapping[str, str] = {
    "stored_events": "SELECT, INSERT",
    "notifications": "SELECT",
    "command": "SELECT, INSERT",
    "epochs": "SELECT, INSERT",
    "slot_head": "SELECT, INSERT, UPDATE",
    "inbox": "SELECT, INSERT, UPDATE",
    "mark": "SELECT, INSERT, UPDATE",
    "counter": "SELECT, INSERT, UPDATE",
    "meta": "SELECT, INSERT, UPDATE",
    "lease": "SELECT, INSERT, UPDATE",
    "member": "SELECT, INSERT, UPDATE, DELETE",
    "relay": "SELECT, INSERT, UPDATE",
    "carried": "SELECT, INSERT, UPDATE",
    "rejected": "SELECT, INSERT, DELETE",
    "append_lock": "SELECT, UPDATE",
}
"""What a service's role may do. UPDATE on the empty ``append_lock`` is the right to lock it."""


@contextmanager
def _alone(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection whose session is the only one that makes tables in this database."""
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('maru migrate'))")
        yield connection


def provision(service: str, url: str, admin: str) -> None:
    """Make a service's role, database, schemas, tables and rights: what ``maru migrate`` does. Safe to repeat and to
    run by several processes at once.

    ``url`` is the service's own; ``admin`` an owner's. Where ``admin`` names the same database as ``url``, role and
    database are there already (an operator of the cluster has made them). Raises ``psycopg.Error``.
    """
    own = urlsplit(url)
    database, role = own.path.lstrip("/"), unquote(own.username or "")
    if urlsplit(admin).path.lstrip("/") != database:
        with _alone(admin) as db:
            found = db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
            verb = "ALTER" if found else "CREATE"
            db.execute(
                sql.SQL(f"{verb} ROLE {{}} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {{}}").format(
                    sql.Identifier(role), sql.Literal(unquote(own.password or ""))
                )
            )
            if db.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone() is None:
                db.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'").format(
                        sql.Identifier(database)
                    )
                )
        admin = urlunsplit(urlsplit(admin)._replace(path=f"/{database}"))
    with _alone(admin) as db, db.transaction():
        name = sql.Identifier(role)
        db.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
        db.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), name))
        db.execute("CREATE SCHEMA IF NOT EXISTS log")
        db.execute(sql.SQL("GRANT USAGE ON SCHEMA log TO {}").format(name))
        for schema in ("views", "mutable"):
            # Generations of views come and go while the service runs: these are the role's own.
            db.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
            db.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(sql.Identifier(schema), name))
        db.execute("SET LOCAL search_path = log")
        for table, columns in COLUMNS.items():
            body = [f"{column} {kind}" for column, kind in columns.items()]
            if table == "inbox":
                body.insert(0, "seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
            body += [KEYS[table]] if table in KEYS else []
            db.execute(cast(Any, f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(body)})"))
        for statement in INDEXES:
            db.execute(cast(Any, statement))
        db.execute("CREATE TABLE IF NOT EXISTS append_lock ()")
        db.execute(
            "CREATE OR REPLACE VIEW notifications AS SELECT originator_id, originator_version, topic, state, "
            "position AS notification_id FROM stored_events"
        )
        for table, rights in _GRANTS.items():
            db.execute(sql.SQL(f"GRANT {rights} ON {{}} TO {{}}").format(sql.Identifier(table), name))
        _first_meta(db.cursor(), service)
