"""Where a test's databases are: SQLite files, or PostgreSQL databases of its own on the session's server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from services.local_servers import Postgres
from shared.runtime.databases import Databases
from shared.runtime.hosted import Hosted
from shared.runtime.log import EventLog

_numbers = count(1)


@contextmanager
def on_postgresql(server: Postgres, folder: Path) -> Iterator[Databases]:
    """Databases that nobody else uses; dropped afterwards."""
    number, where = next(_numbers), urlsplit(server.url()).netloc.rpartition("@")[2]
    url = f"postgresql://test_{{service}}:secret@{where}/t{number}_{{service}}"
    try:
        yield Databases(folder, url, server.url())
    finally:
        with psycopg.connect(server.url(), autocommit=True) as db:
            names = db.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"t{number}_",))
            for (name,) in names.fetchall():
                db.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def options(place: Databases) -> dict[str, Any]:
    """What ``settings.load`` must be told for a system on these databases."""
    return {"data": place.folder, "database": place.url, "database_admin": place.admin}


def plan(log: EventLog, statement: str) -> str:
    """How the database would run a statement on a reader's connection."""
    explain = "EXPLAIN " if log.database.dialect == "postgresql" else "EXPLAIN QUERY PLAN "
    return "\n".join(str(row) for row in log.query(explain + statement))


def as_owner(hosted: Hosted, statement: str, parameters: Sequence[Any] = ()) -> None:
    """Change a log behind the service's back, which its own role must not be able to."""
    url = hosted.databases.url_of(hosted.name)
    if url is None:
        hosted.log.run(lambda cursor: cursor.execute(statement, parameters))
        return
    admin = urlsplit(str(hosted.databases.admin))._replace(path=urlsplit(url).path).geturl()
    with psycopg.connect(admin, autocommit=True, options="-c search_path=log") as db:
        db.execute(statement.replace("?", "%s").encode(), tuple(parameters) or None)
