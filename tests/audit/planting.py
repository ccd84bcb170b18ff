"""Faults planted by hand into the files of a stopped system, each consistent enough that only its own check can see it.

``rewrite`` changes a stored event and chains its stream anew; ``append`` stores an event that no command of the system
made. Both carry the change into the inboxes that hold a copy, as a faulty program would have.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from services.audit_book import HEARS
from shared.runtime.codec import GENESIS, seal, slot_of

Document = dict[str, Any]


class Folder:
    """A copy of a data folder to plant faults in."""

    def __init__(self, original: Path, copy: Path) -> None:
        shutil.copytree(original, copy)
        self.path = copy

    @contextmanager
    def log(self, service: str) -> Iterator[sqlite3.Connection]:
        """A service's log, changed in one transaction."""
        with closing(sqlite3.connect(self.path / service / "log.db")) as db, db:
            yield db

    @contextmanager
    def views(self, service: str) -> Iterator[sqlite3.Connection]:
        """A service's views, changed in one transaction."""
        with closing(sqlite3.connect(self.path / service / "views.db")) as db, db:
            yield db

    def change(self, service: str, statement: str, *values: Any) -> None:
        """Change the log's file; exactly one row must be hit."""
        with self.log(service) as db:
            assert db.execute(statement, values).rowcount == 1

    def change_view(self, service: str, statement: str, *values: Any) -> None:
        """Change the views' file; exactly one row must be hit."""
        with self.views(service) as db:
            assert db.execute(statement, values).rowcount == 1

    def events(self, service: str, event_type: str) -> list[Document]:
        """The events of a type, each with its position."""
        with self.log(service) as db:
            rows = db.execute(
                "SELECT position, state FROM stored_events WHERE topic LIKE ? ORDER BY position", (f"{event_type}.v%",)
            ).fetchall()
        return [{**json.loads(raw), "position": position} for position, raw in rows]

    def rewrite(self, service: str, position: int, change: Callable[[Document], None]) -> None:
        """Change an event's payload, and chain the rest of its stream anew."""
        with self.log(service) as db:
            stream, first = db.execute(
                "SELECT originator_id, originator_version FROM stored_events WHERE position = ?", (position,)
            ).fetchone()
            rows = db.execute(
                "SELECT position, state FROM stored_events WHERE originator_id = ? AND originator_version >= ? "
                "ORDER BY originator_version",
                (stream, first),
            ).fetchall()
            previous = json.loads(rows[0][1])["prev_hash"]
            for at, raw in rows:
                document = json.loads(raw)
                del document["hash"]
                document["prev_hash"] = previous
                if at == position:
                    change(document["data"])
                sealed, previous = seal(document)
                db.execute("UPDATE stored_events SET state = ? WHERE position = ?", (sealed, at))
                self._copy_in(db, service, at, sealed)
                self._copy(service, at, sealed)

    def append(self, service: str, stream: str, event_type: str, data: Mapping[str, Any], **envelope: Any) -> str:
        """Store an event at the end of a stream, with a command of its own and heard by everybody; gives its id."""
        aggregate, _, aggregate_id = stream.partition("/")
        key = envelope.get("case_id") or aggregate_id
        command_id = str(uuid.uuid4())
        with self.log(service) as db:
            last = db.execute(
                "SELECT originator_version, state FROM stored_events WHERE originator_id = ? "
                "ORDER BY originator_version DESC LIMIT 1",
                (stream,),
            ).fetchone()
            position, epoch, model = db.execute(
                "SELECT position + 1, epoch, state FROM stored_events ORDER BY position DESC LIMIT 1"
            ).fetchone()
            slot = slot_of(key)
            prev = db.execute("SELECT COALESCE(MAX(position), 0) FROM slot_head WHERE slot = ?", (slot,)).fetchone()[0]
            document = json.loads(model)
            del document["hash"]
            document |= {
                "event_id": str(uuid.uuid4()),
                "type": event_type,
                "schema_version": 1,
                "aggregate": aggregate,
                "aggregate_id": aggregate_id,
                "version": 1 if last is None else last[0] + 1,
                "case_id": None,
                "causation_id": command_id,
                "prev_hash": GENESIS if last is None else json.loads(last[1])["hash"],
                "data": dict(data),
                **envelope,
            }
            raw, _ = seal(document)
            case_id = document["case_id"]
            topic = f"{event_type}.v1"
            db.execute(
                "INSERT INTO stored_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (position, stream, document["version"], topic, raw, key, slot, prev, epoch, case_id),
            )
            db.execute("INSERT OR REPLACE INTO slot_head VALUES (?, ?)", (slot, position))
            told = {"event_id": document["event_id"], "type": event_type, "position": position}
            answer = {"id": aggregate_id, "version": document["version"], "events": [told], "position": ""}
            db.execute("INSERT INTO command VALUES (?, '', 200, ?, '', '')", (command_id, json.dumps(answer).encode()))
        record = (service, epoch, position, slot, prev, key, event_type, case_id, raw)
        self._let_hear(record)
        return str(document["event_id"])

    def _let_hear(self, record: tuple[Any, ...]) -> None:
        service, epoch, position, slot = record[:4]
        for consumer in HEARS:
            if service in HEARS[consumer]:
                with self.log(consumer) as db:
                    db.execute(
                        "INSERT INTO inbox (source, epoch, position, slot, prev, key, type, case_id, raw, state, "
                        "first_seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'done', 0)",
                        record,
                    )
                    db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?)", (service, epoch, slot, position))
                    seq = db.execute("SELECT MAX(seq) FROM inbox").fetchone()[0]
                with self.views(consumer) as db:
                    db.execute("UPDATE view_mark SET position = ? WHERE source = 'inbox' AND slot = -1", (seq,))
                    db.execute(
                        "INSERT OR REPLACE INTO view_mark SELECT DISTINCT view, generation, source, epoch, ?, ? "
                        "FROM view_mark WHERE source = ? AND epoch = ? AND slot >= 0",
                        (slot, position, service, epoch),
                    )
        with self.views(service) as db:
            db.execute("UPDATE view_mark SET position = ? WHERE source = ? AND slot = -1", (position, service))

    def _copy(self, service: str, position: int, raw: bytes) -> None:
        for consumer in HEARS:
            if consumer != service:
                with self.log(consumer) as db:
                    self._copy_in(db, service, position, raw)

    @staticmethod
    def _copy_in(db: sqlite3.Connection, service: str, position: int, raw: bytes) -> None:
        db.execute("UPDATE inbox SET raw = ? WHERE source = ? AND position = ?", (raw, service, position))
