"""The chain of one slot as an inbox has it: which events of which epochs, so that a hole or a stranger shows.

Every event names the previous position in its slot; the first of an epoch names the last of the epoch before that the
log still had. What an older epoch stored behind that position was lost when the database was put back: it is accepted
no more once the new epoch is heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.runtime.codec import SLOTS
from shared.runtime.jobs import Unread
from shared.runtime.log import EventLog
from shared.runtime.records import Foreign


@dataclass
class Heard:
    """What is known of one epoch in a slot: its first event's position and predecessor, and its last position."""

    first: int
    first_prev: int
    last: int


@dataclass
class Chain:
    """One slot of one source. ``whole``: everything from the topic's beginning to here was read by this consumer."""

    epochs: dict[int, Heard] = field(default_factory=dict)
    whole: bool = False
    _missing: set[int] = field(default_factory=set)

    def take(self, row: Unread) -> None:
        """Enter an event that was read. Raises ``Foreign`` for one that the log of its epoch has lost."""
        newer = [heard.first_prev for epoch, heard in self.epochs.items() if epoch > row.epoch]
        if newer and row.position > min(newer):
            raise Foreign("event of an older epoch that the log no longer has")
        self._missing.discard(row.position)
        heard = self.epochs.get(row.epoch)
        before = max((heard.last for epoch, heard in self.epochs.items() if epoch < row.epoch), default=0)
        if heard is None:
            if row.prev > before and not newer:
                self._missing.add(row.prev)
            self.epochs[row.epoch] = Heard(row.position, row.prev, row.position)
            return
        if row.position > heard.last:
            if row.prev > heard.last:
                self._missing.add(row.prev)
            heard.last = row.position
        if row.position < heard.first:
            heard.first, heard.first_prev = row.position, row.prev

    def lacking(self) -> list[int]:
        """Positions that were named as predecessors and not read since; told once."""
        missing = sorted(self._missing)
        self._missing.clear()
        return missing


def read_chains(log: EventLog, sources: Sequence[str]) -> dict[tuple[str, int], Chain]:
    """The chains of all slots as the inbox has them. Looks up ends by the inbox's key and never reads it through."""
    slots = ", ".join(f"({slot})" for slot in range(SLOTS))
    names = ", ".join("?" for _ in sources)
    row = "FROM inbox WHERE source = e.source AND epoch = e.epoch AND slot = s.slot ORDER BY position"
    found = log.query(
        f"WITH s(slot) AS (VALUES {slots}), "  # noqa: S608 - own names only
        f"e AS (SELECT DISTINCT source, epoch FROM inbox WHERE source IN ({names})) "
        f"SELECT e.source, s.slot, e.epoch, (SELECT position {row} LIMIT 1), (SELECT prev {row} LIMIT 1), "
        f"(SELECT position {row} DESC LIMIT 1) FROM e, s",
        *sources,
    )
    chains: dict[tuple[str, int], Chain] = {}
    for source, slot, epoch, first, prev, last in found:
        if first is not None:
            chains.setdefault((source, slot), Chain()).epochs[epoch] = Heard(first, prev, last)
    return chains
