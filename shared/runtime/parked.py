"""What waits for somebody to mend its cause: list, show, and give back, on a system that may be running.

A reaction's parked (or unknown) record is an inbox row that waits again once it is given back; a view's is folded again
here. In both, what stood behind it in its key follows in order. What a Kafka carrier rejected stands there too: it goes
into the inbox only where it is, to this release, a record of ours.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import and_, delete, select

from shared.runtime.databases import Databases
from shared.runtime.declare import Service, View
from shared.runtime.directory import DIRECTORY
from shared.runtime.folding import fold_rows
from shared.runtime.jobs import Insert, Unread
from shared.runtime.log import EventLog
from shared.runtime.log_database import Cursor, OtherVersion
from shared.runtime.reading import CannotRead, Row, Snapshot, both_of, one
from shared.runtime.records import Foreign, from_record
from shared.runtime.views import PARKED, ViewStore

REACTIONS = "reactions"
CARRIER = "carrier"


class Replayed(NamedTuple):
    """How many records were given back, and how many of a view's are parked again at once.

    What becomes of a reaction's shows when its follower has taken it.
    """

    given_back: int
    still_parked: int


def listed(where: Databases | Path, services: Sequence[Service]) -> list[dict[str, Any]]:
    """Every parked, unknown or rejected record of these services, in the order in which they will be given back.

    ``where`` of a row is ``reactions``, ``carrier`` or a view's name, ``state`` parked, unknown or rejected; ``id`` is
    what ``shown`` goes by. A rejected record's ``source`` is its topic, its ``epoch`` 0, its ``position`` the offset.
    Raises ``OtherVersion`` where there are no databases of ours.
    """
    found = []
    for service in services:
        with _snapshots(where, service) as (log, views):
            for row in log.rows(_REJECTED):
                found.append(_rejected(service, row))
            for row in log.rows(_PARKED):
                found.append(_row(service, REACTIONS, *row))
            for view, source, epoch, position, key, error in views.rows(_PARKED_IN_VIEWS):
                kind = _stored(log, service, source, epoch, position)[0]
                found.append(_row(service, view, source, epoch, position, "parked", key, kind, error))
    return found


_PARKED = (
    "SELECT source, epoch, position, state, key, type, COALESCE(error, 'unknown type or version') "
    "FROM inbox WHERE state IN ('parked', 'unknown') ORDER BY seq"
)
_PARKED_IN_VIEWS = (
    "SELECT view, source, epoch, position, key, error FROM view_parked ORDER BY view, source, epoch, position"
)
_REJECTED = (
    "SELECT cluster, topic, partition, record_offset, cause, key, headers, raw FROM rejected "
    "ORDER BY topic, partition, cluster, record_offset"
)


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


def _rejected(service: Service, row: Row) -> dict[str, Any]:
    cluster, topic, partition, offset, cause, key, headers, _ = row
    said = dict(_headers(headers)).get("ce_type") or b"?"
    name = (key or b"").decode("utf-8", "replace")
    told = _row(service, CARRIER, topic, 0, offset, "rejected", name, said.decode("utf-8", "replace")[:200], cause)
    return {**told, "id": f"{service.name}/{CARRIER}/{cluster}:{topic}:{partition}:{offset}", "partition": partition}


def _headers(text: str) -> list[tuple[str, bytes | None]]:
    """Headers as the carrier keeps them: name, and content in base64."""
    return [(name, None if content is None else base64.b64decode(content)) for name, content in json.loads(text)]


def shown(where: Databases | Path, services: Sequence[Service], id: str) -> dict[str, Any] | None:
    """One row of ``listed`` with its event's document, ``None`` where nothing is parked under that id.

    Without the parts that may be about a person: the encrypted one, and the acting subject. Of a rejected record also
    its headers, and how many bytes of it were kept.
    """
    for service in services:
        for row in listed(where, [service]) if id.startswith(f"{service.name}/") else []:
            if row["id"] != id:
                continue
            with _snapshots(where, service) as (log, _):
                if row["where"] == CARRIER:
                    return {**row, **_shown_rejected(log, id)}
                raw = _stored(log, service, row["source"], row["epoch"], row["position"])[1]
                return {**row, "event": _document(raw)}
    return None


def _shown_rejected(log: Snapshot, id: str) -> dict[str, Any]:
    for row in log.rows(_REJECTED):
        cluster, topic, partition, offset, _, _, headers, raw = row
        if id.endswith(f"/{cluster}:{topic}:{partition}:{offset}"):
            said = {name: None if raw is None else raw.decode("utf-8", "replace") for name, raw in _headers(headers)}
            return {"headers": said, "bytes": len(raw or b""), "event": _document(raw)}
    return {"headers": {}, "bytes": 0, "event": None}


def _document(raw: bytes | None) -> Any:
    try:
        document = None if raw is None else json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict):
        document.pop("personal", None)
        if isinstance(document.get("actor"), dict):
            document["actor"].pop("user", None)
    return document


def replay(where: Databases | Path, services: Sequence[Service], key: str | None = None) -> Replayed:
    """Give parked, unknown and rejected records back, those of one key or all, in order.

    Reactions: the rows wait again, and the follower (of this or another process) takes them. Rejected records that are
    ours to this release go into the inbox. Views: folded here, key by key in one transaction a view; what still fails
    is parked again with all that stands behind it. Raises ``OtherVersion``, ``Unavailable``.
    """
    databases = Databases.at(where)
    given_back = still_parked = 0
    for service in services:
        with _stores(databases, service) as (log, store):
            given_back += _carry_again(databases, log, service, key)
            given_back += _give_back(log, key)
            for view in (DIRECTORY, *service.views):
                taken, left = _fold_again(log, store, view, key)
                given_back, still_parked = given_back + taken, still_parked + left
    return Replayed(given_back, still_parked)


_ORDER = (PARKED.c.source, PARKED.c.epoch, PARKED.c.position)


def _carry_again(databases: Databases, log: EventLog, service: Service, key: str | None) -> int:
    """Put the rejected records that are ours to this release into the inbox, and only then forget them."""
    ours: list[tuple[Row, Unread]] = []
    with _snapshots(databases, service) as (snapshot, _):
        for place in snapshot.rows(_REJECTED):
            _, topic, partition, _, _, name, headers, raw = place
            with suppress(Foreign):
                row = from_record(topic, partition, name, raw, _headers(headers))
                if row.source in service.hears and key in (None, row.key):
                    ours.append((place, row))
    for place, row in ours:
        log.submit(Insert(row.source, (row,), durable=True)).result(timeout=30)
        log.run(partial(_forget, place=place))
    return len(ours)


def _forget(cursor: Cursor, place: Row) -> None:
    cursor.execute(
        "DELETE FROM rejected WHERE cluster = ? AND topic = ? AND partition = ? AND record_offset = ?", place[:4]
    )


def _give_back(log: EventLog, key: str | None) -> int:
    def change(cursor: Cursor) -> int:
        mine, parameters = ("", ()) if key is None else (" AND key = ?", (key,))
        given = cursor.execute(
            f"UPDATE inbox SET state = 'waiting', error = NULL WHERE state IN ('parked', 'unknown'){mine}",  # noqa: S608
            parameters,
        ).rowcount
        if given:
            cursor.execute(
                "INSERT INTO meta (name, value) VALUES ('replays', '1') "
                "ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(meta.value AS INTEGER) + 1 AS TEXT)"
            )
        return given

    return int(log.run(change))


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


def _stored(log: Snapshot, service: Service, source: str, epoch: int, position: int) -> tuple[str | None, bytes | None]:
    """Type and bytes of a record, as own log or inbox hold it."""
    if source == service.name:
        row = one(log, "SELECT topic, state FROM stored_events WHERE position = ?", position)
        return (None, None) if row is None else (row[0].rpartition(".v")[0], row[1])
    query = "SELECT type, raw FROM inbox WHERE source = ? AND epoch = ? AND position = ?"
    row = one(log, query, source, epoch, position)
    return (None, None) if row is None else (row[0], row[1])


@contextmanager
def _snapshots(where: Databases | Path, service: Service) -> Iterator[tuple[Snapshot, Snapshot]]:
    """Log and views of a service, to read. Raises ``OtherVersion`` where they are not there."""
    try:
        log, views = both_of(where, service.name)
        with closing(views), closing(log):
            yield log, views
    except CannotRead as error:
        raise OtherVersion(f"{error}: run maru migrate") from error


@contextmanager
def _stores(databases: Databases, service: Service) -> Iterator[tuple[EventLog, ViewStore]]:
    log = databases.log(service.name)
    try:
        store = databases.views(service.name)
        try:
            yield log, store
        finally:
            store.close()
    finally:
        log.close()
