"""A real load for the tests of the observer: the logs of a system after some walks, and ways to spoil them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.__main__ import SERVICES
from services.client import Maru
from services.walk import Walk
from shared.runtime import settings
from shared.runtime.codec import seal
from shared.runtime.jobs import Unread
from shared.runtime.system import System, opened


@dataclass(frozen=True)
class Segment:
    """What one walk stored in all services, in the order in which it was decided."""

    rows: tuple[Unread, ...]

    @property
    def ids(self) -> frozenset[str]:
        """The ids of its events."""
        return frozenset(event_id(row) for row in self.rows)

    def one(self, type_: str, nth: int = 0) -> Unread:
        """The nth event of a type."""
        return [row for row in self.rows if row.type == type_][nth]

    def after(self, row: Unread) -> Unread:
        """The next record of the same partition of the same topic."""
        return next(other for other in self.rows if (other.source, other.prev) == (row.source, row.position))

    def without(self, row: Unread) -> Segment:
        """The same, one record dropped."""
        return Segment(tuple(other for other in self.rows if other != row))

    def swapped(self, row: Unread) -> Segment:
        """The same, a record and the next one of its partition swapped."""
        then = self.after(row)
        exchange = {row: then, then: row}
        return Segment(tuple(exchange.get(other, other) for other in self.rows))

    def changed(self, row: Unread, change: Callable[[dict[str, Any]], None]) -> Segment:
        """The same, the envelope of one event changed, and sealed again."""
        return Segment(tuple(changed(other, change) if other == row else other for other in self.rows))

    def split(self, row: Unread) -> tuple[Segment, Segment]:
        """What comes before a record, and the rest."""
        at = self.rows.index(row)
        return Segment(self.rows[:at]), Segment(self.rows[at:])


def changed(row: Unread, change: Callable[[dict[str, Any]], None]) -> Unread:
    """The event with its envelope changed, and sealed again."""
    event = json.loads(row.raw)
    del event["hash"]
    change(event)
    raw, _ = seal(event)
    return replace(row, raw=raw, type=event["type"])


def event_id(row: Unread) -> str:
    """The event's id."""
    return str(json.loads(row.raw)["event_id"])


def id_at(seconds: float) -> str:
    """An event's id (UUIDv7) made at a moment."""
    chance = uuid.uuid4().int
    return str(uuid.UUID(int=int(seconds * 1000) << 80 | 7 << 76 | (chance & ((1 << 76) - 1)) & ~(3 << 62) | 2 << 62))


def walked(folder: Path, walks: int) -> list[Segment]:
    """Walks on a folder with the reference data: that as the first segment, then one for each walk."""
    taken: dict[str, int] = {}
    with opened(SERVICES, settings.load(data=folder, port=0)) as system:
        system.serve()
        segments = [_since(system, taken)]
        with Maru(system.url) as maru:
            for _ in range(walks):
                Walk(maru, dated=False).run()
                assert system.idle()
                segments.append(_since(system, taken))
    return segments


def _since(system: System, taken: dict[str, int]) -> Segment:
    rows: list[Unread] = []
    for hosted in system.hosted:
        while found := hosted.log.after(taken.get(hosted.name, 0), 500):
            rows += found
            taken[hosted.name] = found[-1].position
    # Each log's own order is kept: ids of one log rise with its positions but for those of one millisecond.
    times = {row: uuid.UUID(event_id(row)).int >> 80 for row in rows}
    latest: dict[str, int] = {}
    for row in rows:
        times[row] = latest[row.source] = max(times[row], latest.get(row.source, 0))
    return Segment(tuple(sorted(rows, key=lambda row: times[row])))
