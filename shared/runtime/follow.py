"""Hearing and reacting: the carrier fills the inbox, a follower runs the reactions.

The same loops in both forms. Effect and mark are one transaction; a slot is taken only while the chain of its previous
positions is whole; what fails is parked in order of its key while other keys go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import structlog

from shared.contracts.envelope import UnknownType, event_types
from shared.decider import Refused
from shared.runtime import logs, metrics, tracing
from shared.runtime.codec import SLOTS
from shared.runtime.commands import derived_id, prepare
from shared.runtime.declare import Act, Recorded, Service, Wait
from shared.runtime.jobs import PARKED_ROWS, IdReused, Insert, Lost, Mark, Settle, Unread, Write
from shared.runtime.log import EventLog, decode
from shared.runtime.log_database import Unavailable
from shared.runtime.views import begins_epoch, store_is_down

ALL_SLOTS = frozenset(range(SLOTS))
WAIT_SECONDS = 60.0
"""How long a key may wait for a fact of another source before it is parked."""
TRIES = 3
"""How often a failing event is tried before its key is parked."""

logger = structlog.get_logger("maru.follow")


class NeighbourCarrier:
    """Carrier of the embedded form: reads the log next door into the inbox, in batches, unchanged."""

    def __init__(self, log: EventLog, neighbours: Sequence[EventLog]) -> None:
        self._log = log
        self._neighbours = neighbours
        self._carried: dict[str, int] = {}
        self._life = log.life

    def step(self) -> bool:
        """Carry up to 500 records of each neighbour; says whether there were any."""
        found = False
        if self._log.life != self._life:
            self._life = self._log.life
            self._carried = {}
        for source in self._neighbours:
            carried = self._carried.get(source.service)
            if carried is None:
                carried = self._log.query(
                    "SELECT COALESCE(MAX(position), 0) FROM inbox WHERE source = ? AND epoch = ?",
                    source.service,
                    source.epoch,
                )[0][0]
            rows = source.after(carried)
            if rows:
                try:
                    self._log.submit(Insert(source.service, tuple(rows), life=self._life)).result()
                except Lost:
                    return True
                carried = rows[-1].position
                found = True
            self._carried[source.service] = carried
        return found


@dataclass
class _Flight:
    """Writes under way in one pass of the reactions."""

    futures: list[tuple[Unread, Future[Any]]] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


class ReactionFollower:
    """Runs a service's reactions over its inbox, each event's acts and mark in one write."""

    def __init__(
        self,
        service: Service,
        log: EventLog,
        facts: Callable[[Recorded], Any],
        slots: Callable[[], frozenset[int]] = lambda: ALL_SLOTS,
    ) -> None:
        """``slots`` tells which ones are this process's just now: others leave them alone, to save work."""
        self._service = service
        self._log = log
        self._facts = facts
        self._slots = slots
        self._mine = slots()
        self._since: dict[str, float] = {}
        self._fails: dict[tuple[str, int, int], int] = {}
        self.reload()

    def reload(self) -> None:
        """Forget what is in memory; the database says what is waiting, parked and marked. Raises ``Unavailable``."""
        # Until the database has said all of it nothing is taken: a mark that was never stored would be believed.
        self._stale = True
        self._life = self._log.life
        self._marks = self._log.marks()
        self._scanned = 0
        self._held: dict[str, list[Unread]] = {}
        self._gaps: dict[tuple[str, int, int], dict[int, Unread]] = {}
        parked = self._log.query(f"SELECT key, MIN(seq) FROM inbox WHERE {PARKED_ROWS} GROUP BY key")  # noqa: S608
        self._parked: dict[str, int] = {row[0]: row[1] for row in parked}
        self._replays = self._log.replays()
        self._stale = False

    def step(self) -> bool:
        """Work through up to 200 waiting records; says whether there were any."""
        replays = self._log.replays()
        if self._stale or self._log.life != self._life or replays != self._replays or self._slots() != self._mine:
            # Before anything else: a row behind a key that was given back must not be parked behind it.
            self._mine = self._slots()
            self.reload()
        if not self._mine:
            return False
        chosen = "" if self._mine == ALL_SLOTS else f" AND slot IN ({', '.join(map(str, sorted(self._mine)))})"
        rows = self._log.inbox(f"state = 'waiting' AND seq > ?{chosen} ORDER BY seq LIMIT 200", self._scanned)
        held = [row for waiting in self._held.values() for row in waiting]
        if not rows and self._gaps and self._log.marks() != self._marks:
            # Another process has filled the hole.
            self.reload()
            return True
        if not rows and not held:
            return False
        self._held = {}
        flight = _Flight()
        try:
            for row in held:
                self._take(row, flight, advance=False)
            for row in rows:
                self._scanned = row.seq
                self._arrive(row, flight)
            self._land(flight)
        except (Lost, IdReused) as error:
            # A stream or a mark moved meanwhile, or a parked row was given back: look again at what is waiting.
            logger.debug("reactions look again", service=self._service.name, cause=type(error).__name__)
            self._drain(flight)
            self.reload()
            return True
        except BaseException:
            self._drain(flight)
            self.reload()
            raise
        return bool(rows)

    def _arrive(self, row: Unread, flight: _Flight) -> None:
        slot = (row.source, row.epoch, row.slot)
        if row.source == self._service.name:
            # Own events with a reaction got their row in the append's transaction: nothing can be missing.
            self._take(row, flight, advance=False)
            return
        mark = self._marks.get(slot, 0)
        if row.position <= mark:
            self._take(row, flight, advance=False)
        elif row.prev != mark and not begins_epoch(self._marks, *slot, row.prev):
            self._gaps.setdefault(slot, {})[row.prev] = row
            metrics.CHAIN_HOLES.labels(self._service.name, row.source).inc()
        else:
            following: Unread | None = row
            while following is not None:
                self._marks[slot] = following.position
                self._take(following, flight, advance=True)
                following = self._gaps.get(slot, {}).pop(following.position, None)

    def _take(self, row: Unread, flight: _Flight, *, advance: bool) -> None:
        if row.seq > self._parked.get(row.key, row.seq):
            self._mark(row, flight, "parked", advance, "behind a parked event of the same key")
            return
        if row.key in self._held:
            self._hold(row, flight, advance)
            return
        reaction = self._service.reactions.by_type.get(row.type)
        if reaction is None:
            self._mark(row, flight, "done" if row.type in event_types() else "unknown", advance)
            return
        if row.key in flight.keys:
            self._land(flight)
        try:
            recorded = decode(row)
            with tracing.span(f"reaction {row.type}", row.trace) as trace, self._facts(recorded) as facts:
                acts = reaction(recorded, facts)
                state, why = "done", None
                try:
                    commands = self._decide(acts, recorded, row.type, trace)
                except Refused as refusal:
                    after = self._service.reactions.after_refusal.get(row.type)
                    metrics.REACTIONS_REFUSED.labels(self._service.name, row.type, refusal.rule).inc()
                    told = {"service": self._service.name, "type": row.type, "trace": row.trace}
                    logger.info("reaction refused", rule=refusal.rule, **told)
                    state, why = "refused", f"{refusal.rule}: {refusal.en}"
                    acts = after(recorded, facts, refusal) if after is not None else []
                    commands = self._decide(acts, recorded, row.type + "/refused", trace)
        except UnknownType:
            self._mark(row, flight, "unknown", advance)
        except Wait as waiting:
            self._wait(row, flight, advance, str(waiting))
        except Unavailable:
            raise
        except Exception as error:
            if store_is_down(error, self._log.database.dialect):
                raise
            self._fail(row, flight, advance, error)
        else:
            self._since.pop(row.key, None)
            self._settle_marks(flight)
            mark = Mark(row.source, row.epoch, row.position, row.slot, row.prev, state, advance, why)
            flight.futures.append((row, self._log.submit(Write(commands, mark, self._life))))
            flight.keys.add(row.key)

    def _decide(self, acts: Sequence[Act], recorded: Recorded, reaction: str, trace: str | None) -> tuple[Any, ...]:
        return tuple(
            prepare(
                self._log, act, derived_id(recorded.id, reaction, ordinal), recorded.id, cause=recorded, trace=trace
            )
            for ordinal, act in enumerate(acts)
        )

    def _wait(self, row: Unread, flight: _Flight, advance: bool, why: str) -> None:
        since = self._since.setdefault(row.key, time.monotonic())
        if time.monotonic() - since > WAIT_SECONDS:
            self._park(row, flight, advance, f"waited {WAIT_SECONDS:.0f} s: {why}")
        else:
            self._hold(row, flight, advance)

    def _hold(self, row: Unread, flight: _Flight, advance: bool) -> None:
        self._held.setdefault(row.key, []).append(row)
        if advance:
            self._mark(row, flight, "waiting", advance)

    def _fail(self, row: Unread, flight: _Flight, advance: bool, error: Exception) -> None:
        name = (row.source, row.epoch, row.position)
        self._fails[name] = self._fails.get(name, 0) + 1
        detail = f"{type(error).__name__}: {error}"[:500]
        told = {"service": self._service.name, "type": row.type, "trace": row.trace}
        logger.warning("reaction failed", error=logs.cause(error), **told)
        if self._fails[name] < TRIES and not isinstance(error, ValueError):
            self._hold(row, flight, advance)
        else:
            self._fails.pop(name, None)
            self._park(row, flight, advance, detail)

    def _park(self, row: Unread, flight: _Flight, advance: bool, why: str) -> None:
        self._parked[row.key] = min(row.seq, self._parked.get(row.key, row.seq))
        self._since.pop(row.key, None)
        metrics.PARKED.labels(self._service.name, "reactions").inc()
        told = {"service": self._service.name, "type": row.type, "position": row.position, "trace": row.trace}
        logger.error("parked", cause=why.partition(":")[0], **told)
        self._mark(row, flight, "parked", advance, why)

    def _mark(self, row: Unread, flight: _Flight, state: str, advance: bool, error: str | None = None) -> None:
        flight.marks.append(
            Mark(row.source, row.epoch, row.position, row.slot, row.prev, state, advance, error),
        )

    def _settle_marks(self, flight: _Flight) -> None:
        if flight.marks:
            future = self._log.submit(Settle(tuple(flight.marks), life=self._life))
            flight.marks = []
            flight.futures.append((_NOTHING, future))

    def _land(self, flight: _Flight) -> None:
        """Wait for the writes under way; raises what the first failing one raised."""
        self._settle_marks(flight)
        while flight.futures:
            row, future = flight.futures.pop(0)
            future.result(timeout=60)
            if row is not _NOTHING:
                metrics.REACTIONS_DONE.labels(self._service.name, row.type).inc()
        flight.keys.clear()

    def _drain(self, flight: _Flight) -> None:
        for _, future in flight.futures:
            future.exception(timeout=60)


_NOTHING = Unread("", 0, 0, 0, 0, "", "", None, b"")
