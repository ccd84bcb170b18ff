"""One snapshot of one database, read only: what audit, verify and the list of parked records stand on, on both forms.

It opens the files or the PostgreSQL databases by itself and goes through no log, view or host: what is checked must not
be what checks. Statements have ``?`` for parameters and the names of the tables alone.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, Protocol, cast

import psycopg

from shared.runtime.databases import Databases

PAGE = 2000
"""Rows that PostgreSQL sends at a time."""
SCHEMAS = "log,views,mutable"
CONNECT_SECONDS = 5

Row = tuple[Any, ...]


class CannotRead(Exception):
    """A database is not there, does not answer, or is damaged; says which."""


class Snapshot(Protocol):
    """A database as it stood when the snapshot was opened."""

    name: str
    """What it is called in a finding: a path, or a URL without its password."""
    kind: str
    """``file`` or ``database``."""

    def rows(self, statement: str, *parameters: Any) -> Iterator[Row]:
        """The rows of a statement, one after another. Raises ``CannotRead``, also while they are read."""
        ...

    def tables(self) -> set[str]:
        """The names of all tables. Raises ``CannotRead``."""
        ...

    def close(self) -> None:
        """Let go of the snapshot."""
        ...


def one(snapshot: Snapshot, statement: str, *parameters: Any) -> Row | None:
    """The first row of a statement, ``None`` where there is none. Raises ``CannotRead``."""
    with closing(cast(Any, snapshot.rows(statement, *parameters))) as rows:
        return next(rows, None)


def number(snapshot: Snapshot, statement: str, *parameters: Any) -> int:
    """The one number that a statement gives. Raises ``CannotRead``."""
    row = one(snapshot, statement, *parameters)
    return 0 if row is None else int(row[0])


class SqliteSnapshot:
    """One file of the embedded form."""

    kind = "file"

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        if not path.is_file():
            raise CannotRead(f"{path} cannot be read: there is no such file")
        self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30)
        # Text that is no UTF-8 any more must be found as a wrong value, not end the reading.
        self._db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            self._db.execute("BEGIN")
            # The snapshot begins with the first read.
            self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            self._db.close()
            raise self._cannot(error) from error

    def _cannot(self, error: Exception) -> CannotRead:
        return CannotRead(f"{self.name} cannot be read: {error}")

    def rows(self, statement: str, *parameters: Any) -> Iterator[Row]:
        """As ``Snapshot``."""
        try:
            # Not "yield from": that would close the cursor of a reader who stopped early after its database.
            for row in self._db.execute(statement, parameters):  # noqa: UP028
                yield row
        except sqlite3.Error as error:
            raise self._cannot(error) from error

    def tables(self) -> set[str]:
        """As ``Snapshot``."""
        return {row[0] for row in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def close(self) -> None:
        """As ``Snapshot``."""
        self._db.close()


class PostgresSnapshot:
    """The database of one service: schemas ``log``, ``views`` and ``mutable`` in one transaction."""

    kind = "database"

    def __init__(self, url: str) -> None:
        self.name = re.sub(r"(//[^:/@]*):[^@]*@", r"\1@", url)
        self._cursors = count()
        settings = {"search_path": SCHEMAS, "statement_timeout": 0, "idle_in_transaction_session_timeout": 0}
        try:
            self._db = psycopg.connect(
                url,
                connect_timeout=CONNECT_SECONDS,
                application_name="maru audit",
                options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
            )
        except psycopg.Error as error:
            raise self._cannot(error) from error
        self._db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self._db.read_only = True
        try:
            # The snapshot begins with the first read.
            self._db.execute("SELECT 1")
        except psycopg.Error as error:
            self._db.close()
            raise self._cannot(error) from error

    def _cannot(self, error: Exception) -> CannotRead:
        return CannotRead(f"{self.name} cannot be read: {' '.join(str(error).split())}")

    def rows(self, statement: str, *parameters: Any) -> Iterator[Row]:
        """As ``Snapshot``; the server keeps the rows and sends a page at a time."""
        text = cast(Any, statement.replace("%", "%%").replace("?", "%s") if parameters else statement)
        try:
            with self._db.cursor(name=f"rows_{next(self._cursors)}", binary=True) as cursor:
                cursor.itersize = PAGE
                cursor.execute(text, parameters or None)
                yield from cursor
        except psycopg.Error as error:
            raise self._cannot(error) from error

    def tables(self) -> set[str]:
        """As ``Snapshot``; only those that our role may see."""
        found = self.rows("SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' AND pg_table_is_visible(c.oid)")
        return {row[0] for row in found}

    def close(self) -> None:
        """As ``Snapshot``."""
        self._db.close()


def log_of(where: Databases | Path, service: str) -> Snapshot:
    """A snapshot of a service's log, inbox and marks. Raises ``CannotRead``."""
    databases = Databases.at(where)
    url = databases.url_of(service)
    return SqliteSnapshot(databases.folder / service / "log.db") if url is None else PostgresSnapshot(url)


def views_of(where: Databases | Path, service: str) -> Snapshot:
    """A snapshot of a service's views. Raises ``CannotRead``."""
    databases = Databases.at(where)
    url = databases.url_of(service)
    return SqliteSnapshot(databases.folder / service / "views.db") if url is None else PostgresSnapshot(url)


def both_of(where: Databases | Path, service: str) -> tuple[Snapshot, Snapshot]:
    """Log and views of a service: two files, or on PostgreSQL one snapshot for both. Raises ``CannotRead``."""
    log = log_of(where, service)
    if isinstance(log, PostgresSnapshot):
        return log, log
    try:
        return log, views_of(where, service)
    except CannotRead:
        log.close()
        raise


def epochs(log: Snapshot) -> list[tuple[int, int]]:
    """The log's epochs in order: (epoch, last position before it began). Raises ``CannotRead``."""
    return [
        (row[0], row[1]) for row in log.rows("SELECT epoch, after_position FROM epochs ORDER BY after_position, epoch")
    ]


def epoch_at(known: list[tuple[int, int]], position: int) -> int | None:
    """The epoch in which a position was written: the last that began before it."""
    found = None
    for epoch, after in known:
        if after < position:
            found = epoch
    return found


def end_of(known: list[tuple[int, int]], epoch: int, last: int) -> int | None:
    """The last position of an epoch (of the newest: the log's last); ``None`` for one that the log never had."""
    for number, (name, _) in enumerate(known):
        if name == epoch:
            return known[number + 1][1] if number + 1 < len(known) else last
    return None
