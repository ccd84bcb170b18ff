"""A log in the schema ``log`` of a service's PostgreSQL database: the full form."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cache
from typing import Any, Self, cast
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.pq import TransactionStatus

from shared.runtime.log_database import (
    ANSWERS,
    COLUMNS,
    KINDS,
    STATES,
    Cursor,
    Lock,
    Misconfigured,
    OtherVersion,
    Unavailable,
    Writer,
    percent,
)

_UNSAFE = "POSTGRES_ENABLE_DB_FUNCTIONS"
CONNECT_SECONDS = 3
LOCK_SECONDS = 2.0
STATEMENT_SECONDS = 4.0
"""On PostgreSQL: longest wait for a connection, a lock, a statement. Together below the gateways' five seconds."""
WRITE_SECONDS = 5.0
"""Longest transaction of the writer, which holds the append lock; a frozen process's is ended by the server then."""
CHANNEL = "maru"
"""PostgreSQL's NOTIFY channel of a service's database: hints to its other processes, never promises."""


class PostgresRecorder(PostgresApplicationRecorder):
    """The library's recorder on a view of our table; its reading methods work unchanged, its inserting is replaced."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Not this way: the one write path assigns positions under the lock."""
        raise TypeError("events are appended through EventLog.submit only")


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
        self._connections: list[tuple[threading.Thread, psycopg.Connection[Any]]] = []
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
            self._keep(connection)
        return connection

    def _keep(self, connection: psycopg.Connection[Any]) -> None:
        """Note this thread's new connection for ``close``; those of threads that have ended are closed now."""
        with self._lock:
            for thread, known in self._connections:
                if not thread.is_alive():
                    known.close()
            self._connections = [(thread, known) for thread, known in self._connections if not known.closed]
            self._connections.append((threading.current_thread(), connection))

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
        return cursor.execute(f"{ANSWERS} = ANY (?::text[])", (list(ids),))

    def inbox_states(self, cursor: Cursor, places: Sequence[tuple[str, int, int]]) -> Cursor:
        """Source, epoch, position, state, key and number of these inbox rows."""
        arrays = list(map(list, zip(*places, strict=True)))
        return cursor.execute(
            f"{STATES} JOIN unnest(?::text[], ?::bigint[], ?::bigint[]) AS u(source, epoch, position) "
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
                self._keep(connection)
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
            for _, connection in self._connections:
                connection.close()
            self._connections.clear()
        if self._datastore is not None:
            self._datastore.close()


@cache
def _insert_arrays(table: str, conflict: str) -> str:
    columns = COLUMNS[table]
    kinds = [next(known for known in KINDS if kind.startswith(known)) for kind in columns.values()]
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
        self.life = 0
        self._durable = False
        self._connection: psycopg.Connection[Any] | None = None

    def begin(self, *, durable: bool, lock: Lock = "append_lock") -> None:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
            self.life += 1
        # What need not reach the disk by itself: a later flushed commit carries it along, in order. And not the event
        # table's lock: this role may only insert and select there. One simple query, not a pipeline, after which the
        # server would wait without its idle timer.
        self._durable = durable
        flushed = "on" if durable else "off"
        self._connection.execute(
            f"BEGIN; SET LOCAL synchronous_commit = {flushed}; LOCK TABLE {lock} IN EXCLUSIVE MODE"
        )

    def cursor(self) -> Cursor:
        assert self._connection is not None
        return _PostgresCursor(self._connection.cursor())

    def together(self) -> AbstractContextManager[Any]:
        assert self._connection is not None
        return self._connection.pipeline()

    def commit(self, hint: str | None) -> None:
        """End the transaction, with a ``hint`` to other processes.

        Whoever notifies holds a lock of the whole server until the commit's end: not while it waits for the disk.
        """
        assert self._connection is not None
        if hint is not None and not self._durable:
            self._connection.execute(f"NOTIFY {CHANNEL}, '{hint}'")
        self._connection.execute("COMMIT")

    def _connect(self) -> psycopg.Connection[Any]:
        # A frozen process must not hold the lock for ever: the server ends its transaction.
        seconds = str(int(WRITE_SECONDS * 1000))
        return connect(self._url, "log", idle_in_transaction_session_timeout=seconds, transaction_timeout=seconds)

    def rollback(self) -> None:
        """Go on with a new connection: of statements sent together the driver no longer knows which ones are prepared.

        In the same life where the server has only refused something, and answers on the old connection while the new
        one stands already: no crash lies between them. Else whoever builds on memory would begin anew at each lock
        that somebody holds.
        """
        old, self._connection = self._connection, None
        if old is None:
            return
        if old.info.transaction_status == TransactionStatus.INERROR:
            with suppress(psycopg.OperationalError, psycopg.InterfaceError):
                new = self._connect()
                try:
                    old.execute("ROLLBACK", prepare=False)
                    self._connection = new
                finally:
                    if self._connection is None:
                        new.close()
        old.close()

    def notify(self, word: str) -> None:
        """Give other processes the hint of a flushed commit, unless that went with it. It may be lost."""
        assert self._connection is not None
        if not self._durable:
            return
        try:
            self._connection.execute(f"BEGIN; SET LOCAL synchronous_commit = off; NOTIFY {CHANNEL}, '{word}'; COMMIT")
        except (psycopg.OperationalError, psycopg.InterfaceError):
            self._connection.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def masked(url: str) -> str:
    """A database URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":********@")))
