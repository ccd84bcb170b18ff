"""Position tokens: ``service:epoch:slot:position``. Any request may carry some; it waits until they are reached."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.runtime.codec import SLOTS, slot_of
from shared.runtime.declare import View
from shared.runtime.hosted import Hosted
from shared.runtime.problems import bad_request
from shared.runtime.views import SCAN

_TOKEN = re.compile(r"^([a-z]{1,20}):([0-9]{1,12}):([0-9]{1,2}):([0-9]{1,15})$")
MAX_TOKENS = 10


@dataclass(frozen=True)
class Position:
    """A place in a service's log."""

    source: str
    epoch: int
    slot: int
    position: int

    def __str__(self) -> str:
        return f"{self.source}:{self.epoch}:{self.slot}:{self.position}"


def read_positions(header: str) -> list[Position]:
    """The tokens of a ``Maru-Position`` header, separated by commas. Raises a 400 problem."""
    found = []
    parts = header.split(",")
    for part in parts[: MAX_TOKENS + 1]:
        match = _TOKEN.match(part.strip())
        if match is None or int(match[3]) >= SLOTS or len(parts) > MAX_TOKENS:
            raise bad_request("position", "Maru-Position이 올바르지 않습니다.", "Maru-Position is no position token.")
        found.append(Position(match[1], int(match[2]), int(match[3]), int(match[4])))
    return found


def reached(hosted: Hosted, wanted: Position, views: Sequence[View]) -> Callable[[], bool]:
    """A question that becomes true once these views, and the reactions, have come to a position.

    Own: nothing of its key up to there waits for a reaction of the service itself, where it has any. Foreign: its inbox
    row exists and no longer waits (so nothing before it of its key does). Then the views have folded it, and everything
    that stood in the own log at that moment, the answers to it included.
    """
    names = [(view.name, view.sources) for view in views]
    log = hosted.log
    if wanted.source == hosted.name:
        if wanted.epoch != log.epoch or (wanted.position > log.seen and wanted.position > log.last_position()):
            raise bad_request("position", "이 기록에 없는 위치입니다.", "There is no such position in this log.")
    elif wanted.source not in hosted.service.hears or wanted.position == 0:
        return lambda: True
    known = (str(wanted), tuple(name for name, _ in names))
    if known in hosted.reached:
        return lambda: True
    slot = (wanted.source, wanted.epoch, wanted.slot)
    heads: list[int] = []

    def folded(position: int) -> bool:
        marks = hosted.progress.views
        return all(marks.get(name, {}).get((hosted.name, 0, SCAN), 0) >= position for name, _ in names)

    def heard() -> bool:
        marks = hosted.progress.views
        return all(
            marks.get(name, {}).get(slot, 0) >= wanted.position for name, sources in names if wanted.source in sources
        )

    def reached() -> bool:
        # What is in memory first: this is asked after every commit.
        if not (folded(wanted.position) if wanted.source == hosted.name else heard()):
            return False
        if wanted.source == hosted.name and not hosted.answers_itself:
            hosted.remember(known)
            return True
        if not heads:
            if _waits(hosted, wanted):
                return False
            heads.append(log.last_position())
        if not folded(heads[0]):
            return False
        hosted.remember(known)
        return True

    return reached


def _waits(hosted: Hosted, wanted: Position) -> bool:
    """Whether the service's reactions still have to answer this position (or, own, what precedes it in its key)."""
    if wanted.source == hosted.name:
        found = hosted.log.query(
            "SELECT 1 FROM inbox WHERE state = 'waiting' AND source = ? AND position <= ? "
            "AND key = (SELECT key FROM stored_events WHERE position = ?) LIMIT 1",
            wanted.source,
            wanted.position,
            wanted.position,
        )
        return bool(found)
    found = hosted.log.query(
        "SELECT state FROM inbox WHERE source = ? AND epoch = ? AND position = ?",
        wanted.source,
        wanted.epoch,
        wanted.position,
    )
    return not found or found[0][0] == "waiting"


def last_of(hosted: Hosted, key: str | None, scan: int) -> Position:
    """The last position, not beyond ``scan``, in a key's slot; of the whole log where no key is given."""
    log = hosted.log
    if key is None:
        rows = log.query("SELECT slot, position FROM stored_events WHERE position = ?", scan)
        return Position(log.service, log.epoch, *(rows[0] if rows else (0, 0)))
    slot = slot_of(key)
    head = log.heads().get(slot, 0)
    if head > scan:
        rows = log.query(
            "SELECT position FROM stored_events WHERE position <= ? AND slot = ? ORDER BY position DESC LIMIT 1",
            scan,
            slot,
        )
        head = rows[0][0] if rows else 0
    return Position(log.service, log.epoch, slot, head)
