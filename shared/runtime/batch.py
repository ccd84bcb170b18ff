"""One transaction of the writer: what several jobs add up to, looked up together and written together."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from shared.runtime.codec import slot_of
from shared.runtime.declare import Recorded
from shared.runtime.jobs import (
    PARKED_ROWS,
    Answer,
    Carried,
    IdReused,
    Job,
    Lost,
    Mark,
    Prepared,
    Rejected,
    Settle,
    Unread,
    Write,
)
from shared.runtime.log_database import ANSWERED, CARRIED, STORED, Cursor, LogDatabase, Writer


class Batch:
    """One transaction of the writer: what it has read so far and what it will insert."""

    def __init__(
        self,
        writer: Writer,
        database: LogDatabase,
        service: str,
        own_reactions: frozenset[str],
        epoch: int,
        jobs: Iterable[Job],
    ) -> None:
        """Looks up what the jobs are compared with. ``own_reactions``: types of own events that come into the inbox."""
        self._writer = writer
        self.cursor = writer.cursor()
        self._database = database
        self._service = service
        self._own_reactions = own_reactions
        self._heads: dict[str, int] = {}
        self._answers: dict[str, tuple[str, Answer] | None] = {}
        self._slots: dict[int, int] = {}
        self._last = 0
        self.epoch = epoch
        self.events: list[tuple[Any, ...]] = []
        self._commands: list[tuple[Any, ...]] = []
        self._inbox: list[tuple[Any, ...]] = []
        self.inbox_rows = 0
        self._rows: dict[tuple[str, int, int], tuple[str, str, int]] = {}
        self._marks: dict[tuple[str, int, int], int] = {}
        self._moved: dict[tuple[str, int, int], int] = {}
        self._parked: dict[str, int] = {}
        self._settled: dict[tuple[str, int, int], tuple[Any, ...]] = {}
        commands = [command for job in jobs if isinstance(job, Write) for command in job.commands]
        marks = [mark for job in jobs if isinstance(job, Write | Settle) for mark in job.answered]
        takers: list[Callable[[], None]] = []
        with writer.together():
            if commands:
                takers.append(self._look_up(commands))
            if marks:
                takers.append(self._look_up_marks(marks))
        for take in takers:
            take()

    def _look_up(self, commands: Sequence[Prepared]) -> Callable[[], None]:
        """Ask what the batch's commands are compared with; gives what takes the answers."""
        cursor = self._writer.cursor
        epoch = cursor().execute("SELECT value FROM meta WHERE name = 'epoch'")
        slots = cursor().execute("SELECT slot, position FROM slot_head")
        streams = {stream for command in commands for stream in (command.stream, *command.reads)}
        heads = self._database.heads(cursor(), sorted(streams))
        ids = {command.command_id for command in commands}
        answers = self._database.answers(cursor(), sorted(ids))

        def take() -> None:
            self.epoch = int(epoch.fetchone()[0])
            self._slots = dict(slots.fetchall())
            self._last = max(self._slots.values(), default=0)
            self._heads = {row[0]: row[1] or 0 for row in heads.fetchall()}
            self._answers = {**dict.fromkeys(ids), **answers_of(answers)}

        return take

    def _look_up_marks(self, marks: Sequence[Mark]) -> Callable[[], None]:
        """The same for inbox rows: nobody else changes them while the lock is held."""
        cursor = self._writer.cursor
        places = sorted({(mark.source, mark.epoch, mark.position) for mark in marks})
        states = self._database.inbox_states(cursor(), places)
        moved = cursor().execute("SELECT source, epoch, slot, position FROM mark")
        parked = cursor().execute(
            f"SELECT key, MIN(seq) FROM inbox WHERE {PARKED_ROWS} GROUP BY key"  # noqa: S608
        )

        def take() -> None:
            self._rows = {(row[0], row[1], row[2]): (row[3], row[4], row[5]) for row in states.fetchall()}
            self._marks = {(row[0], row[1], row[2]): row[3] for row in moved.fetchall()}
            self._parked = dict(parked.fetchall())

        return take

    def compare(self, command: Prepared) -> None:
        """Raise ``Lost`` where the command's stream, or one that it only read, is no longer at the version read."""
        for stream, version in ((command.stream, command.version), *command.reads.items()):
            if self._heads.get(stream, 0) != version:
                raise Lost(stream)

    def stored_answer(self, command: Prepared) -> Answer | None:
        """What this command id was answered before. Raises ``IdReused`` for other content."""
        found = self._answers.get(command.command_id)
        if found is None:
            return None
        if found[0] != command.content_hash:
            raise IdReused(command.command_id)
        return found[1]

    def settle(self, mark: Mark) -> None:
        """Compare and set an inbox row and its slot's mark. Raises ``Lost`` when either has moved."""
        place = (mark.source, mark.epoch, mark.position)
        state, key, seq = self._rows.get(place, ("missing", "", 0))
        # Another process may have parked an earlier row of this key that the follower has never seen.
        if state != "waiting" or (mark.state != "parked" and self._parked.get(key, seq) < seq):
            raise Lost("inbox")
        if mark.advance:
            slot = (mark.source, mark.epoch, mark.slot)
            if self._marks.get(slot, mark.prev) != mark.prev:
                raise Lost("mark")
            self._marks[slot] = self._moved[slot] = mark.position
        if mark.state == "parked":
            self._parked[key] = min(seq, self._parked.get(key, seq))
        self._rows[place] = (mark.state, key, seq)
        self._settled[place] = (*place, mark.state, mark.error)

    @property
    def hint(self) -> str | None:
        """What others should hear of it, once it is flushed."""
        if self.events:
            return STORED
        return CARRIED if self.inbox_rows else ANSWERED if self._settled else None

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Put back what was settled within, where it ends in ``Lost``."""
        rows, marks, moved = dict(self._rows), dict(self._marks), dict(self._moved)
        parked, settled = dict(self._parked), dict(self._settled)
        try:
            yield
        except Lost:
            self._rows, self._marks, self._moved = rows, marks, moved
            self._parked, self._settled = parked, settled
            raise

    def take(self, command: Prepared) -> Answer:
        """Give a winner its positions and compose its answer."""
        epoch, service = self.epoch, self._service
        slot = slot_of(command.key)
        told = []
        now = time.time()
        for event in command.events:
            self._last += 1
            previous = self._slots.get(slot, 0)
            self._slots[slot] = self._last
            self._heads[event.stream] = event.version
            self.events.append(
                (
                    self._last,
                    event.stream,
                    event.version,
                    event.topic,
                    event.raw,
                    event.key,
                    slot,
                    previous,
                    epoch,
                    event.case_id,
                    command.trace,
                )
            )
            told.append({"event_id": event.event_id, "type": event.type, "position": self._last})
            if event.type in self._own_reactions:
                place = (service, epoch, self._last, slot, previous, event.key, event.type, event.case_id)
                self._inbox.append((*place, "waiting", now, event.raw, command.trace, None))
        version = command.version + len(command.events)
        position = f"{service}:{epoch}:{slot}:{self._last if told else command.head}"
        body = {"id": command.aggregate_id, "version": version, "events": told, "position": position}
        answer = Answer(command.status, json.dumps(body, ensure_ascii=False).encode(), f'"{version}"', position)
        self._answers[command.command_id] = (command.content_hash, answer)
        self._commands.append(
            (command.command_id, command.content_hash, answer.status, answer.body, answer.etag, answer.position)
        )
        return answer

    def insert_inbox(self, source: str, rows: Iterable[Recorded | Unread]) -> int:
        """Put foreign records into the inbox, unchanged; repeats are ignored."""
        now = time.time()
        new = self._database.insert(
            self.cursor,
            "inbox",
            [
                (
                    source,
                    r.epoch,
                    r.position,
                    r.slot,
                    r.prev,
                    r.key,
                    r.type,
                    r.case_id,
                    "waiting",
                    now,
                    r.raw,
                    r.trace,
                    None,
                )
                for r in rows
            ],
            "ON CONFLICT DO NOTHING",
        )
        self.inbox_rows += new
        return new

    def carry(self, carried: Sequence[Carried], rejected: Sequence[Rejected]) -> None:
        """Note how far a Kafka carrier has read, and what it could not take."""
        if carried:
            self._database.insert(
                self.cursor,
                "carried",
                [(place.source, place.slot, place.cluster, place.next_offset) for place in carried],
                "ON CONFLICT (source, slot) DO UPDATE SET cluster = excluded.cluster, "
                "next_offset = excluded.next_offset",
            )
        if rejected:
            now = time.time()
            self._database.insert(
                self.cursor,
                "rejected",
                [
                    (r.topic, r.cluster, r.partition, r.record_offset, r.cause, r.key, r.headers, r.raw, now)
                    for r in rejected
                ],
                "ON CONFLICT DO NOTHING",
            )

    def flush(self) -> None:
        """Insert what has won."""
        insert = self._database.insert
        if self.events:
            insert(self.cursor, "stored_events", self.events)
            moved = sorted({row[6] for row in self.events})
            insert(
                self.cursor,
                "slot_head",
                [(slot, self._slots[slot]) for slot in moved],
                "ON CONFLICT (slot) DO UPDATE SET position = excluded.position",
            )
        if self._commands:
            insert(self.cursor, "command", self._commands)
        if self._inbox:
            insert(self.cursor, "inbox", self._inbox)
            self.inbox_rows += len(self._inbox)
        if self._settled:
            self._database.settle(self.cursor, list(self._settled.values()))
        if self._moved:
            insert(
                self.cursor,
                "mark",
                [(*slot, position) for slot, position in self._moved.items()],
                "ON CONFLICT (source, epoch, slot) DO UPDATE SET position = excluded.position",
            )


def answers_of(found: Cursor) -> dict[str, tuple[str, Answer]]:
    """Stored answers as the database gives them: id → content hash and answer."""
    return {row[0]: (row[1], Answer(row[2], bytes(row[3]), row[4], row[5])) for row in found.fetchall()}
