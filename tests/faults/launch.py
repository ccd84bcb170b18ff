"""``maru``, run so that it dies by SIGKILL at a named point; the product has no switch for it.

Run as ``python -m tests.faults.launch``, in the place of ``python -m services``, with ``FAULTS_FOLDER`` and
``FAULTS_NAME`` in the environment. Whoever writes ``NAME.armed`` in that folder (a point and a number, as JSON) makes
the n-th passing of that point from then on the last thing this process does; first it writes ``NAME.burnt`` there.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from services import cli
from shared.runtime import (
    batch,
    effects,
    folding,
    follow,
    jobs,
    leases,
    log,
    postgres_log,
    provision,
    rebuild,
    relay,
    views,
)
from shared.runtime.databases import Databases
from shared.runtime.kafka import Producer
from shared.runtime.kafka_carrier import KafkaCarrier

GATEWAY = (
    "gateway: command decided, before it is queued",
    "gateway: lock held, before append",
    "gateway: appended, before commit",
    "gateway: committed, before the reply",
    "gateway: replied, before others are told",
)
RELAY = (
    "relay: lease taken, before the topic is compared",
    "relay: read, before publish",
    "relay: published in part",
    "relay: published, before the position",
    "relay: position saved",
)
AT_START = RELAY[:1]
"""Points that a process passes only when it starts, or when another had its work."""
FOLLOWER = (
    "carrier: taken, before the inbox",
    "carrier: inside the inbox transaction",
    "carrier: inbox committed, before it goes on",
    "reaction: heard, before it is decided",
    "reaction: inside its transaction",
    "reaction: committed, before it goes on",
    "view: in a fold",
    "view: folded, before its commit",
    "view: committed, before it goes on",
    "lease: before it is prolonged",
)
ALWAYS, FOR_A_WHILE = "처리할 수 없는 건의", "두 번 실패하는 건의"
"""Titles of suggestions whose reaction raises, while that is asked for."""
MAIL = ("mail: before the attempt", "mail: handed over, before it is recorded", "mail: recorded, before it goes on")
REBUILD = ("rebuild: mid-way", "rebuild: in the swap", "rebuild: swapped, before the old one is dropped")
MIGRATE = ("migration: tables of a log made", "migration: before the views", "migration: between two services")
REPUBLISH = ("republish: before its commit", "republish: committed, before it is told")


class Fuse:
    """Burns down with each passing of the armed point."""

    def __init__(self, folder: Path, name: str) -> None:
        self._armed, self._burnt = folder / f"{name}.armed", folder / f"{name}.burnt"
        self._lock = threading.Lock()
        self._order: tuple[str, int] | None = None
        self._read_at = 0

    def passes(self, point: str) -> None:
        """The process is at a point; it may end here."""
        with self._lock:
            try:
                changed = self._armed.stat().st_mtime_ns
            except FileNotFoundError:
                return
            if changed != self._read_at:
                self._read_at = changed
                armed, passings = json.loads(self._armed.read_text())
                self._order = (armed, passings)
            if self._order is None or point != self._order[0]:
                return
            self._order = (point, self._order[1] - 1)
            if self._order[1] == 0:
                self._burnt.write_text(point)
                self._armed.unlink()
                os.kill(os.getpid(), signal.SIGKILL)


FUSE = Fuse(Path(os.environ.get("FAULTS_FOLDER", "/nonexistent")), os.environ.get("FAULTS_NAME", ""))


def put(owner: Any, name: str, wrapped: Any) -> None:
    """Something else in the place of what is there."""
    assert hasattr(owner, name)
    setattr(owner, name, wrapped)


def around(owner: Any, name: str, *, before: str | None = None, after: str | None = None) -> None:
    """Let a point burn the fuse before or after something; only where something is done."""
    wrapped: Callable[..., Any] = getattr(owner, name)

    def passing(*arguments: Any, **named: Any) -> Any:
        if before is not None:
            FUSE.passes(before)
        result = wrapped(*arguments, **named)
        if after is not None:
            FUSE.passes(after)
        return result

    put(owner, name, passing)


class FusedFuture(Future[Any]):
    """A future of the log: its result comes after COMMIT and before whoever waits for it."""

    def set_result(self, result: Any) -> None:
        """The commands are stored, nobody knows it yet."""
        if isinstance(result, tuple) and any(isinstance(answer, jobs.Answer) for answer in result):
            FUSE.passes("gateway: committed, before the reply")
            FUSE.passes("reaction: committed, before it goes on")
        super().set_result(result)


def _wrap_log() -> None:
    flush, apply, submit = batch.Batch.flush, jobs.Write.apply, log.EventLog.submit

    def flush_and_pass(batch: batch.Batch) -> None:
        if batch.events:
            FUSE.passes("gateway: lock held, before append")
        flush(batch)
        if batch.events:
            FUSE.passes("gateway: appended, before commit")

    def apply_and_pass(write: jobs.Write, batch: batch.Batch) -> Any:
        answers = apply(write, batch)
        if write.mark is not None and write.commands:
            FUSE.passes("reaction: inside its transaction")
        return answers

    def pass_and_submit(events: log.EventLog, job: jobs.Job) -> Any:
        if isinstance(job, jobs.Write) and job.mark is None:
            FUSE.passes("gateway: command decided, before it is queued")
        return submit(events, job)

    put(log, "Future", FusedFuture)
    put(batch.Batch, "flush", flush_and_pass)
    put(jobs.Write, "apply", apply_and_pass)
    put(log.EventLog, "submit", pass_and_submit)
    around(postgres_log._PostgresWriter, "notify", before="gateway: replied, before others are told")
    around(batch.Batch, "carry", after="carrier: inside the inbox transaction")


def _wrap_relay() -> None:
    compare, send, once = relay.Relay._compare, Producer.send, Producer._send

    async def pass_and_compare(relayed: relay.Relay, position: int) -> None:
        FUSE.passes("relay: lease taken, before the topic is compared")
        await compare(relayed, position)

    async def pass_and_send(producer: Producer, *arguments: Any, **named: Any) -> None:
        FUSE.passes("relay: read, before publish")
        await send(producer, *arguments, **named)
        FUSE.passes("relay: published, before the position")

    async def send_in_part(producer: Producer, *arguments: Any, **named: Any) -> None:
        await once(producer, *arguments, **named)
        FUSE.passes("relay: published in part")

    put(relay.Relay, "_compare", pass_and_compare)
    put(Producer, "send", pass_and_send)
    put(Producer, "_send", send_in_part)
    around(relay.Relay, "_save", after="relay: position saved")
    around(
        relay,
        "republish",
        after="republish: committed, before it is told",
    )
    run = log.EventLog.run

    def pass_and_run(events: log.EventLog, function: Callable[[Any], Any], **named: Any) -> Any:
        if function.__qualname__.startswith("republish"):

            def change(cursor: Any) -> Any:
                result = function(cursor)
                FUSE.passes("republish: before its commit")
                return result

            return run(events, change, **named)
        return run(events, function, **named)

    put(log.EventLog, "run", pass_and_run)


def _wrap_follower() -> None:
    take, fold = follow.ReactionFollower._take, folding.fold_rows

    def pass_and_take(follower: follow.ReactionFollower, row: jobs.Unread, *arguments: Any, **named: Any) -> None:
        if row.type in follower._service.reactions.by_type:
            FUSE.passes("reaction: heard, before it is decided")
        take(follower, row, *arguments, **named)

    def fold_and_pass(db: Any, store: Any, view: Any, generation: int, rows: Any, **named: Any) -> None:
        fold(db, store, view, generation, rows, **named)
        if rows:
            FUSE.passes("view: in a fold")

    put(follow.ReactionFollower, "_take", pass_and_take)
    put(folding, "fold_rows", fold_and_pass)
    around(views.ViewStore, "set_marks", after="view: folded, before its commit")
    around(folding.ViewsFollower, "step", after="view: committed, before it goes on")
    around(leases.Leases, "share", before="lease: before it is prolonged")
    around(
        KafkaCarrier,
        "_store",
        before="carrier: taken, before the inbox",
        after="carrier: inbox committed, before it goes on",
    )


def _wrap_reactions() -> None:
    """While there is a file ``failing``, the reactions to suggestions of two titles raise: always, or two times."""
    decide, tries = follow.ReactionFollower._decide, Counter[str]()
    failing = Path(os.environ.get("FAULTS_FOLDER", "/nonexistent")) / "failing"

    def fail_or_decide(follower: follow.ReactionFollower, acts: Any, recorded: Any, *more: Any) -> Any:
        title = getattr(recorded.data, "title", None)
        if title in (ALWAYS, FOR_A_WHILE) and failing.exists():
            tries[recorded.id] += 1
            if title == ALWAYS or tries[recorded.id] <= 2:
                raise RuntimeError("a planted fault")
        return decide(follower, acts, recorded, *more)

    put(follow.ReactionFollower, "_decide", fail_or_decide)


def _wrap_mail() -> None:
    attempt = effects.EffectsRunner._attempt

    async def pass_and_attempt(runner: effects.EffectsRunner, owed: Any, *more: Any) -> Any:
        FUSE.passes("mail: before the attempt")
        return await attempt(runner, owed, *more)

    put(effects.EffectsRunner, "_attempt", pass_and_attempt)
    around(
        effects.EffectsRunner,
        "_record",
        before="mail: handed over, before it is recorded",
        after="mail: recorded, before it goes on",
    )


def _wrap_commands() -> None:
    around(rebuild._Building, "_commit_page", after="rebuild: mid-way")
    around(rebuild, "checksum", before="rebuild: in the swap")
    around(views.ViewStore, "drop_generation", before="rebuild: swapped, before the old one is dropped")
    around(provision, "first_meta", before="migration: tables of a log made")
    around(views.ViewStore, "create", before="migration: before the views")
    around(Databases, "migrate", after="migration: between two services")


if __name__ == "__main__":
    for wrap in (_wrap_log, _wrap_relay, _wrap_follower, _wrap_reactions, _wrap_mail, _wrap_commands):
        wrap()
    cli.main()
