"""Parked events: list, show, and give back, on the files of a system that may be running.

A reaction's parked (or unknown) record is an inbox row that waits again once it is given back; a view's is folded again
here. In both, what stood behind it in its key follows in order.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import and_, delete, select

from shared.runtime.declare import Service, View
from shared.runtime.directory import DIRECTORY
from shared.runtime.folding import fold_rows
from shared.runtime.log import EventLog, OtherVersion, Unread
from shared.runtime.views import PARKED, ViewStore

REACTIONS = "reactions"


class Replayed(NamedTuple):
    """How many records were given back, and how many of a view's are parked again at once.

    What becomes of a reaction's shows when its follower has taken it.
    """

    given_back: int
    still_parked: int


def listed(folder: Path, services: Sequence[Service]) -> list[dict[str, Any]]:
    """Every parked or unknown record of these services, in the order in which they will be given back.

    ``where`` is ``reactions`` or a view's name, ``state`` parked or unknown; ``id`` is what ``shown`` goes by. Raises
    ``OtherVersion`` where there are no files of ours.
    """
    found = []
    for service in services:
        with closing(_open(folder, service)) as db:
            found += [
                _row(service, REACTIONS, *row)
                for row in db.execute(
                    "SELECT source, epoch, position, state, key, type, COALESCE(error, 'unknown type or version') "
                    "FROM inbox WHERE state IN ('parked', 'unknown') ORDER BY seq"
                )
            ]
        with _files(folder, service) as (log, store), store.read() as views:
            for row in views.execute(select(PARKED).order_by(PARKED.c.view, *_ORDER)):
                record = _record(log, row.source, row.epoch, row.position)
                kind = None if record is None else record.type
                place = (row.source, row.epoch, row.position)
                found.append(_row(service, row.view, *place, "parked", row.key, kind, row.error))
    return found


def _row(
    service: Service, where: str, source: str, epoch: int, position: int, state: str, key: str, kind: Any, cause: str
) -> dict[str, Any]:
    return {
        "id": f"{service.name}/{where}/{source}:{epoch}:{position}",
        "service": service.name,
        "where": where,
        "state": state,
        "source": source,
        "epoch": epoch,
        "position": position,
        "key": key,
        "type": kind or "?",
        "cause": cause,
    }


def shown(folder: Path, services: Sequence[Service], id: str) -> dict[str, Any] | None:
    """One row of ``listed`` with its event's document, ``None`` where nothing is parked under that id.

    Without the parts that may be about a person: the encrypted one, and the acting subject.
    """
    for service in services:
        for row in listed(folder, [service]) if id.startswith(f"{service.name}/") else []:
            if row["id"] == id:
                with _files(folder, service) as (log, _):
                    return {**row, "event": _document(_record(log, row["source"], row["epoch"], row["position"]))}
    return None


def _document(record: Unread | None) -> Any:
    try:
        document = None if record is None else json.loads(record.raw)
    except ValueError:
        return None
    if isinstance(document, dict):
        document.pop("personal", None)
        if isinstance(document.get("actor"), dict):
            document["actor"].pop("user", None)
    return document


def replay(folder: Path, services: Sequence[Service], key: str | None = None) -> Replayed:
    """Give parked and unknown records back, those of one key or all, in order.

    Reactions: the rows wait again, and the follower (of this or another process) takes them. Views: folded here, key by
    key in one transaction a view; what still fails is parked again with all that stands behind it.
    """
    given_back = still_parked = 0
    for service in services:
        given_back += _give_back(folder, service, key)
        with _files(folder, service) as (log, store):
            for view in (DIRECTORY, *service.views):
                taken, left = _fold_again(log, store, view, key)
                given_back, still_parked = given_back + taken, still_parked + left
    return Replayed(given_back, still_parked)


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
    if not path.exists():
        raise OtherVersion(f"{path} is not there: run maru migrate")
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
