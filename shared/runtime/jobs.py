"""What is asked of a log's writer, and what it answers: the jobs, and the rows they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from shared.runtime.declare import Recorded
from shared.runtime.log_database import Cursor, Lock

if TYPE_CHECKING:
    from shared.runtime.batch import Batch

PARKED_ROWS = "state IN ('parked', 'unknown') AND state = 'parked'"
"""Which inbox rows are parked, said so that the partial index serves it: else the whole inbox is read."""


class Lost(Exception):
    """A write met a stream, a mark or a server that had moved on. It was not stored; look and decide again."""


class IdReused(Exception):
    """A command id came again with other content (I-18)."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A sealed event on its way into the log."""

    event_id: str
    type: str
    stream: str
    version: int
    topic: str
    raw: bytes
    key: str
    case_id: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an accepted command was answered, stored with it and given again to every repeat."""

    status: int
    body: bytes
    etag: str
    position: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """One command, decided at ``version`` of its stream; ``head`` is the stream's last position (0 where none)."""

    command_id: str
    content_hash: str
    stream: str
    aggregate_id: str
    key: str
    version: int
    head: int
    events: tuple[NewEvent, ...]
    reads: Mapping[str, int] = field(default_factory=dict)
    status: int = 200
    trace: str | None = None
    """W3C trace context of whoever asked: stored beside the events, not in what is hashed."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How an inbox row goes on: from ``waiting`` to ``state``; ``advance`` moves the slot's mark from ``prev``."""

    source: str
    epoch: int
    position: int
    slot: int
    prev: int
    state: str
    advance: bool
    error: str | None = None


class Job(Protocol):
    """Something for the writer: checks first, changes only when it has won.

    What is not ``durable`` by itself need not reach the disk before it is answered: a power cut takes back only what
    is done again (a record carried anew from its source, a mark set anew), never an acknowledged command.

    ``life`` is that of the log (``EventLog.life``) in which whoever asks has learnt what the job builds on, ``None``
    where it builds on nothing of that kind. In another life the job is ``Lost``.
    """

    @property
    def durable(self) -> bool: ...

    @property
    def life(self) -> int | None: ...

    def apply(self, batch: Batch) -> Any: ...


@dataclass(frozen=True, slots=True)
class Write:
    """Commands, and the mark that they answer; all of it is stored, or nothing."""

    commands: tuple[Prepared, ...]
    mark: Mark | None = None
    life: int | None = None

    @property
    def durable(self) -> bool:
        return bool(self.commands)

    @property
    def answered(self) -> tuple[Mark, ...]:
        """The mark, if any."""
        return () if self.mark is None else (self.mark,)

    def apply(self, batch: Batch) -> tuple[Answer, ...]:
        stored = [batch.stored_answer(command) for command in self.commands]
        for command, answer in zip(self.commands, stored, strict=True):
            if answer is None:
                batch.compare(command)
        if self.mark is not None:
            batch.settle(self.mark)
        return tuple(
            batch.take(command) if answer is None else answer
            for command, answer in zip(self.commands, stored, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Settle:
    """Inbox rows that need no command."""

    answered: tuple[Mark, ...]
    durable: bool = False
    life: int | None = None

    def apply(self, batch: Batch) -> None:
        # Whole or not at all, as a write: what the first ones have changed in the batch is put back.
        with batch.undone():
            for mark in self.answered:
                batch.settle(mark)


@dataclass(frozen=True, slots=True)
class Carried:
    """Up to which offset of a topic's partition a carrier has read, on one Kafka cluster."""

    source: str
    slot: int
    cluster: str
    next_offset: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record of a topic that is none of ours, or broken: kept with its cause, never applied."""

    topic: str
    cluster: str
    partition: int
    record_offset: int
    cause: str
    key: bytes | None
    headers: str
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class Insert:
    """Foreign records for the inbox; those already there are ignored. Gives the number of new ones.

    A Kafka carrier also notes where it goes on reading, and what it could not take, in the same transaction.
    """

    source: str
    rows: tuple[Recorded | Unread, ...]
    carried: tuple[Carried, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    durable: bool = False
    life: int | None = None

    def apply(self, batch: Batch) -> int:
        batch.carry(self.carried, self.rejected)
        return batch.insert_inbox(self.source, self.rows) if self.rows else 0


@dataclass(frozen=True, slots=True)
class Run:
    """Any other change to the log's tables (counter blocks, leases, the relay's position, parked rows)."""

    function: Callable[[Cursor], Any]
    durable: bool = True
    life: int | None = None
    lock: Lock = "append_lock"

    def apply(self, batch: Batch) -> Any:
        return self.function(batch.cursor)


@dataclass(frozen=True, slots=True)
class Unread:
    """A record as a log or an inbox holds it, not yet decoded."""

    source: str
    epoch: int
    position: int
    slot: int
    prev: int
    key: str
    type: str
    case_id: str | None
    raw: bytes
    seq: int = 0
    state: str = ""
    first_seen: float = 0.0
    trace: str | None = None
