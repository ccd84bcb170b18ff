"""The seeded faults of the reliability page (section 1.2), each as a patch of the product's classes from outside.

The product has no switch for any of them. Where this design has no place for a fault of that list (it keeps no Kafka
offsets for effects, refuses the library's option, takes its positions under a unique key), ``instead`` says which fault
stands for it.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from services.notifications import reactions as telling
from services.routing.placement import Placement
from shared.runtime import batch, codec, folding, follow, jobs, log, rebuild
from shared.runtime.http import CommandJob, Gateways
from tests.faults.loads import Load, read_again, rebuilt, restored, reviewed, small, two_writers

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Fault:
    """A fault by its name on the page: how it is planted, under which load, and which checks may name it."""

    name: str
    plant: Callable[[Patch], None]
    load: Load
    found_by: frozenset[str]
    instead: str | None = None
    """What stands for it, where this design has no such place."""


def _deliveries(patch: Patch, change: Callable[[batch.Batch, list[jobs.Unread]], list[jobs.Unread]], to: str) -> None:
    """Change what a carrier puts into one service's inbox."""
    insert = batch.Batch.insert_inbox

    def changed(batch: batch.Batch, source: str, rows: Iterable[jobs.Unread]) -> int:
        given = list(rows)
        return insert(batch, source, change(batch, given) if batch._service == to else given)

    patch.setattr(batch.Batch, "insert_inbox", changed)


def dedupe_by_offset(patch: Patch) -> None:
    """The inbox knows a record by the number of its delivery; each batch's last record is delivered twice."""

    def by_offset(batch: batch.Batch, rows: list[jobs.Unread]) -> list[jobs.Unread]:
        delivered: list[jobs.Unread] = []
        for row in (*rows, *rows[-1:]):
            query = (
                "SELECT COALESCE(MAX(position), 0), COALESCE(MAX(CASE slot WHEN ? THEN position END), 0) FROM inbox "
            )
            offset, before = batch.cursor.execute(query + "WHERE source = ?", (row.slot, row.source)).fetchone()
            mine = [one.position for one in delivered if one.slot == row.slot]
            offset = max(offset, *[one.position for one in delivered], 0) + 1 if delivered else offset + 1
            delivered.append(replace(row, position=offset, prev=mine[-1] if mine else before))
        return delivered

    _deliveries(patch, by_offset, "notifications")


def stored_beside_the_write_path(patch: Patch) -> None:
    """Each second batch also stores a copy of its last event with a statement of its own: no command, no head."""
    flush = batch.Batch.flush
    batches = Counter[str]()

    def flush_and_store(batch: batch.Batch) -> None:
        flush(batch)
        batches[batch._service] += bool(batch.events)
        if batch.events and batches[batch._service] == 2 and batch._service == "notifications":
            position, stream, version, *rest = batch.events[-1]
            batch._database.insert(batch.cursor, "stored_events", [(position + 1, stream, version + 1, *rest)])

    patch.setattr(batch.Batch, "flush", flush_and_store)


def position_before_publish(patch: Patch) -> None:
    """The carrier takes its position forward first, and the delivery that should follow fails once."""
    submit = log.EventLog.submit
    failed: list[Any] = []

    def fail_once(self: log.EventLog, job: jobs.Job) -> Future[Any]:
        if isinstance(job, jobs.Insert) and self.service == "notifications" and not failed:
            failed.append(job)
            done: Future[Any] = Future()
            done.set_result(len(job.rows))
            return done
        return submit(self, job)

    patch.setattr(log.EventLog, "submit", fail_once)


def position_in_another_transaction(patch: Patch) -> None:
    """A reaction's mark is stored in a transaction before its effect, and the process ends between the two, once."""
    lost: list[Any] = []

    def apart(commands: tuple[jobs.Prepared, ...], mark: jobs.Mark, life: int | None) -> jobs.Job:
        if commands and commands[0].stream.startswith("Dispatch/") and not lost:
            lost.append(commands)
            return jobs.Settle((mark,), life=life)
        return jobs.Write(commands, mark, life)

    patch.setattr(follow, "Write", apart)


def drop_one(patch: Patch) -> None:
    """One event of a batch is told as stored, and is not."""
    flush = batch.Batch.flush
    dropped: list[Any] = []

    def flush_without(batch: batch.Batch) -> None:
        if not dropped and batch._service == "issues" and len(batch.events) > 1:
            dropped.append(batch.events.pop())
        flush(batch)

    patch.setattr(batch.Batch, "flush", flush_without)


def drop_one_delivery(patch: Patch) -> None:
    """One record never reaches an inbox, and the next of its slot says that it follows the one before."""
    dropped: list[jobs.Unread] = []

    def without(_: batch.Batch, rows: list[jobs.Unread]) -> list[jobs.Unread]:
        if not dropped:
            dropped.extend(row for row in rows if row.type == "ReceiptIssued")
            del dropped[1:]
        if not dropped:
            return rows
        gone = dropped[0]
        kept = [row for row in rows if row.position != gone.position or row.source != gone.source]
        return [
            replace(row, prev=gone.prev) if (row.source, row.prev) == (gone.source, gone.position) else row
            for row in kept
        ]

    _deliveries(patch, without, "notifications")


def swap_two(patch: Patch) -> None:
    """Two records of one slot change places on their way into an inbox."""

    def swapped(_: batch.Batch, rows: list[jobs.Unread]) -> list[jobs.Unread]:
        for at, (one, other) in enumerate(pairwise(rows)):
            if one.type == "IssueRaised" and other.type == "ReceiptIssued":
                first, second = (
                    replace(other, position=one.position, prev=one.prev),
                    replace(one, position=other.position, prev=other.prev),
                )
                return [*rows[:at], first, second, *rows[at + 2 :]]
        return rows

    _deliveries(patch, swapped, "notifications")


def apply_twice(patch: Patch) -> None:
    """A reaction's acts are done twice, each time under ids of their own."""
    tell = telling.REACTIONS.by_type["ReceiptIssued"]
    patch.setattr(telling, "uuid", SimpleNamespace(uuid5=lambda *_: uuid.uuid4()))
    patch.setitem(
        telling.REACTIONS.by_type, "ReceiptIssued", lambda heard, facts: [*tell(heard, facts), *tell(heard, facts)]
    )


def skip_tail_at_rebuild(patch: Patch) -> None:
    """A rebuild sets its marks at the end of what it read, and leaves out the last events."""
    select = folding.select_rows

    def without_tail(*args: Any, **named: Any) -> tuple[list[jobs.Unread], Any]:
        taken, new = select(*args, **named)
        return taken[:-2], new

    patch.setattr(rebuild, "select_rows", without_tail)


def forget_lock(patch: Patch) -> None:
    """A writer takes the slots' heads as it left them, not as they stand under the lock."""
    look_up, flush = batch.Batch._look_up, batch.Batch.flush
    known: dict[int, dict[int, int]] = {}

    def look_before(batch: batch.Batch, commands: Sequence[jobs.Prepared]) -> Callable[[], None]:
        take = look_up(batch, commands)

        def take_what_was() -> None:
            take()
            batch._slots = dict(known.setdefault(id(batch._database), batch._slots))

        return take_what_was

    def flush_and_keep(batch: batch.Batch) -> None:
        flush(batch)
        if batch._slots:
            known[id(batch._database)] = dict(batch._slots)

    patch.setattr(batch.Batch, "_look_up", look_before)
    patch.setattr(batch.Batch, "flush", flush_and_keep)


def wrong_partition_key(patch: Patch) -> None:
    """The slot is taken from something else than the event's key."""
    patch.setattr(batch, "slot_of", lambda key: codec.slot_of(key[::-1]))


def swallow_exception(patch: Patch) -> None:
    """A reaction fails, once; its exception is caught and the event counts as answered."""
    tell = telling.REACTIONS.by_type["ReceiptIssued"]
    failed: list[Any] = []

    def quietly(heard: Any, facts: Any) -> Any:
        try:
            if not failed:
                failed.append(heard)
                raise RuntimeError("the office cannot be found")
            return tell(heard, facts)
        except RuntimeError:
            return []

    patch.setitem(telling.REACTIONS.by_type, "ReceiptIssued", quietly)


def ignore_epoch(patch: Patch) -> None:
    """A consumer goes on from the greatest position that it has heard, whatever the epoch it was of."""
    step = follow.NeighbourCarrier.step

    def go_on(carrier: follow.NeighbourCarrier) -> bool:
        for source in carrier._neighbours:
            query = "SELECT COALESCE(MAX(position), 0) FROM inbox WHERE source = ?"
            carrier._carried.setdefault(source.service, carrier._log.query(query, source.service)[0][0])
        return step(carrier)

    patch.setattr(follow.NeighbourCarrier, "step", go_on)


def off_by_one_tier(patch: Patch) -> None:
    """A case goes to the tier after the next."""
    edges = Placement.edges

    def beyond(placement: Placement, body: str, kind: str) -> Any:
        ways = edges(placement, body, kind)
        return (edges(placement, ways[0].to_body, kind) if ways and kind == "escalate" else ()) or ways

    patch.setattr(Placement, "edges", beyond)


def retry_as_new(patch: Patch) -> None:
    """A command that was stored, but whose commit was reported as a conflict, is tried again as a new one."""
    end = CommandJob.end
    conflicts: list[CommandJob] = []

    def end_as_conflict(job: CommandJob, stored: Any) -> Any:
        if not conflicts and job.route.operation_id == "raiseIssue":
            conflicts.append(job)
            job.command_id, job.request = str(uuid.uuid4()), None
            raise jobs.Lost("the connection ended after COMMIT")
        return end(job, stored)

    patch.setattr(CommandJob, "end", end_as_conflict)


def cached_read(patch: Patch) -> None:
    """What was answered once is answered again, without looking at the tables."""
    read = Gateways._read
    kept: dict[str, Response] = {}

    def from_cache(self: Gateways, hosted: Any, route: Any, http: Request, subject: str, readings: Any) -> Response:
        name = f"{subject} {http.url}"
        if name not in kept:
            kept[name] = read(self, hosted, route, http, subject, readings)
        return kept[name]

    patch.setattr(Gateways, "_read", from_cache)


def _found(*checks: str) -> frozenset[str]:
    return frozenset(checks)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "dedupe by offset",
        dedupe_by_offset,
        small,
        _found("heard"),
        "no offset is kept for effects: the number of the delivery stands for it",
    ),
    Fault(
        "db functions on",
        stored_beside_the_write_path,
        small,
        _found("hashes", "answers", "chain"),
        "start-up refuses the option: a statement that stores an event beside the one write path stands for it",
    ),
    Fault(
        "save position before publish",
        position_before_publish,
        small,
        _found("not idle"),
        "embedded, the carrier publishes nothing: it goes past what it has not delivered",
    ),
    Fault("commit position in another transaction", position_in_another_transaction, small, _found("raisers told")),
    Fault("drop one event", drop_one, small, _found("positions", "chain", "answers")),
    Fault("drop one event, on its way", drop_one_delivery, small, _found("heard")),
    Fault("swap two", swap_two, small, _found("heard")),
    Fault("apply twice", apply_twice, small, _found("dispatches")),
    Fault("skip tail at rebuild", skip_tail_at_rebuild, rebuilt, _found("register/issue")),
    Fault(
        "forget lock",
        forget_lock,
        two_writers,
        _found("chain", "positions"),
        "SQLite lets nobody write without its lock: heads read before the lock stand for it",
    ),
    Fault("wrong partition key", wrong_partition_key, small, _found("positions")),
    Fault("swallow handler exception", swallow_exception, small, _found("raisers told")),
    Fault("ignore epoch", ignore_epoch, restored, _found("heard", "not idle")),
    Fault("off-by-one in tier edge", off_by_one_tier, reviewed, _found("along edges")),
    Fault("retry a conflict as new", retry_as_new, small, _found("journal")),
    Fault("cache stale read", cached_read, read_again, _found("reads")),
)
