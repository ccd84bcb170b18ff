"""A service's role, database, tables and rights on PostgreSQL: what ``maru migrate`` makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from shared.runtime.log_database import COLUMNS, INDEXES, KEYS, Unavailable, first_meta
from shared.runtime.settings import bad

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
    database are there already (an operator of the cluster has made them). Raises ``Unavailable``, and ``BadSetting``
    where the owner may not do so.
    """
    try:
        _provision(service, url, admin)
    except psycopg.OperationalError as error:
        raise Unavailable(_line(error)) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise bad("database_admin", f"the owner of this URL may not make tables and rights: {_line(error)}") from None


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


def _provision(service: str, url: str, admin: str) -> None:
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
        first_meta(db.cursor(), service)
