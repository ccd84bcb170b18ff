"""Parked events: list, show, and give back, on the files of a system that may be running.

A reaction's parked (or unknown) record is an inbox row that waits again once it is given back; a view's is folded again
here. In both, what stood behind it in its key follows in order.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import and_, delete, select

from shared.runtime.declare import Service, View
from shared.runtime.directory import DIRECTORY
from shared.runtime.follow import fold_rows
from shared.runtime.log import EventLog, Unread
from shared.runtime.views import PARKED, ViewStore

REACTIONS = "reactions"


@dataclass(frozen=True)
class Parked:
    """A record that waits for an operator. ``where`` is ``reactions`` or a view's name, ``state`` parked or unknown."""

    service: str
    where: str
    state: str
    source: str
    epoch: int
    position: int
    key: str
    type: str
    cause: str


@dataclass(frozen=True)
class Replayed:
    """What was given back: records that wait for their reaction, records folded, and those parked again at once."""

    reactions: int
    folded: int
    parked_again: int


def parked(folder: Path, services: Sequence[Service]) -> list[Parked]:
    """Every parked or unknown record of these services, in the order in which they will be given back."""
    found = []
    for service in services:
        with closing(_open(folder, service)) as db:
            found += [
                Parked(service.name, REACTIONS, *row)
                for row in db.execute(
                    "SELECT state, source, epoch, position, key, type, COALESCE(error, 'unknown type or version') "
                    "FROM inbox WHERE state IN ('parked', 'unknown') ORDER BY seq"
                )
            ]
        with _files(folder, service) as (log, store), store.read() as views:
            for row in views.execute(select(PARKED).order_by(PARKED.c.view, *_ORDER)):
                record = _record(log, row.source, row.epoch, row.position)
                kind = "?" if record is None else record.type
                found.append(
                    Parked(
                        service.name, row.view, "parked", row.source, row.epoch, row.position, row.key, kind, row.error
                    )
                )
    return found


def shown(folder: Path, service: Service, source: str, epoch: int, position: int) -> dict[str, Any] | None:
    """One record with its cause and its document, without the parts that may be about a person.

    Those are the encrypted part and the acting subject. ``None`` where nothing is parked under that position.
    """
    mine = [
        one for one in parked(folder, [service]) if (one.source, one.epoch, one.position) == (source, epoch, position)
    ]
    if not mine:
        return None
    with _files(folder, service) as (log, _):
        record = _record(log, source, epoch, position)
    try:
        document = None if record is None else json.loads(record.raw)
    except ValueError:
        document = None
    if isinstance(document, dict):
        document.pop("personal", None)
        if isinstance(document.get("actor"), dict):
            document["actor"].pop("user", None)
    return {
        "service": service.name,
        "source": source,
        "epoch": epoch,
        "position": position,
        "key": mine[0].key,
        "type": mine[0].type,
        "parked": [{"where": one.where, "state": one.state, "cause": one.cause} for one in mine],
        "event": document,
    }


def replay(folder: Path, services: Sequence[Service], key: str | None = None) -> Replayed:
    """Give parked and unknown records back, those of one key or all, in order.

    Reactions: the rows wait again, and the follower (of this or another process) takes them. Views: folded here, key by
    key in one transaction a view; what still fails is parked again with all that stands behind it.
    """
    reactions = folded = again = 0
    for service in services:
        reactions += _give_back(folder, service, key)
        with _files(folder, service) as (log, store):
            for view in (DIRECTORY, *service.views):
                taken, left = _fold_again(log, store, view, key)
                folded, again = folded + taken - left, again + left
    return Replayed(reactions, folded, again)


_ORDER = (PARKED.c.source, PARKED.c.epoch, PARKED.c.position)


def _give_back(folder: Path, service: Service, key: str | None) -> int:
    with closing(_open(folder, service)) as db:
        db.execute("BEGIN IMMEDIATE")
        given = db.execute(
            "UPDATE inbox SET state = 'waiting', error = NULL "
            "WHERE state IN ('parked', 'unknown') AND (?1 IS NULL OR key = ?1)",
            (key,),
        ).rowcount
        if given:
            db.execute(
                "INSERT INTO meta VALUES ('replays', '1') "
                "ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
            )
        db.execute("COMMIT")
        return given


def _fold_again(log: EventLog, store: ViewStore, view: View, key: str | None) -> tuple[int, int]:
    mine = PARKED.c.view == view.name if key is None else and_(PARKED.c.view == view.name, PARKED.c.key == key)
    with store.write() as db:
        rows = db.execute(select(PARKED).where(mine).order_by(*_ORDER)).all()
        if not rows:
            return 0, 0
        records = [_record(log, row.source, row.epoch, row.position) for row in rows]
        db.execute(delete(PARKED).where(mine))
        there = [record for record in records if record is not None]
        fold_rows(db, store, view, store.pointer(db, view)[0], there, careful=True)
        return len(there), len(db.execute(select(PARKED).where(mine)).all())


def _record(log: EventLog, source: str, epoch: int, position: int) -> Unread | None:
    if source == log.service:
        found = log.select("position = ?", position)
    else:
        found = log.inbox("source = ? AND epoch = ? AND position = ?", source, epoch, position)
    return found[0] if found else None


def _open(folder: Path, service: Service) -> sqlite3.Connection:
    path = folder / service.name / "log.db"
    return sqlite3.connect(path.resolve().as_uri() + "?mode=rw", uri=True, timeout=30, isolation_level=None)


@contextmanager
def _files(folder: Path, service: Service) -> Iterator[tuple[EventLog, ViewStore]]:
    log = EventLog(folder / service.name / "log.db", service.name)
    try:
        store = ViewStore(folder / service.name / "views.db")
        try:
            yield log, store
        finally:
            store.close()
    finally:
        log.close()
