"""What the observer knows and how it judges: from records to faults. Pure: no Kafka, no Faust, no clock of its own.

It is fed with each partition's records in order, any number of times, and told now and then up to which moment the
topics have been read. What it holds is bounded by ``Limits``; what it had to forget it counts as unchecked, and does
not judge.

Seconds between facts are real. An event's id is a UUIDv7, made when the event was decided: it holds that moment to
the millisecond. Business time (``recorded_at``) is shifted in a demonstration, and a record's Kafka time is that of its
last publication, which ``maru republish`` makes new.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

from shared.contracts.envelope import SYSTEM_OFFICE, event_types
from shared.runtime.codec import GENESIS
from shared.runtime.jobs import Unread
from shared.runtime.watched import KINDS, Answer, Beat, Fault, Found, Kind, Limits, Seen, Watched, Where

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Early(Generic[T]):
    """Came before what precedes it: what it is, where, and when it was read."""

    item: T
    where: Where
    read: float


@dataclass(slots=True)
class _Chain:
    """One epoch of one partition: the last position, and the positions that came early, by the one before them."""

    last: int
    early: dict[int, _Early[int]] = field(default_factory=dict)

    def go_on(self, position: int) -> None:
        """Take ``position``, and whatever waited for it."""
        self.last = position
        while (follower := self.early.pop(self.last, None)) is not None:
            self.last = follower.item


@dataclass(slots=True)
class _Stream:
    """Last version and hash; (previous hash, own hash) of versions that came early; tier and regions of a case."""

    version: int = 0
    hash: str = GENESIS
    early: dict[int, _Early[tuple[str, str]]] = field(default_factory=dict)
    tier: str = "unknown"
    regions: tuple[str, ...] = ("unknown",)


@dataclass(frozen=True, slots=True)
class _Effect:
    """An event that names a cause: its case, its real time, and when it was read."""

    where: Where
    case: str
    at: float
    read: float


@dataclass(slots=True)
class _Owed:
    """An answer that has not been read yet; ``late`` once its time was over, with the example that says so."""

    answer: Answer
    where: Where
    at: float
    read: float
    due: float
    late: bool = False
    fault: Fault | None = None


class Observed:
    """Everything read so far, and what was found wrong. ``now`` is always real seconds since 1970."""

    def __init__(self, watched: Watched, limits: Limits | None = None) -> None:
        self.watched = watched
        self.limits = limits or Limits()
        self.records = self.repeats = self.unchecked = 0
        self.next: dict[tuple[str, int], int] = {}
        """The offset after the last record read, by topic and partition."""
        self.faults: dict[Kind, Found] = {kind: Found() for kind in KINDS}
        self._known = {name: (cls.owning_service, cls.schema_version) for name, cls in event_types().items()}
        self._hops = {
            (cause, effect): hop.name for hop in watched.hops for cause in hop.causes for effect in hop.effects
        }
        self._answers: dict[str, list[Answer]] = {}
        for answer in watched.answers:
            self._answers.setdefault(answer.fact, []).append(answer)
        self._ids: dict[int, str] = {}
        self._forgotten = 0.0
        """Real time of the newest event whose id is no longer held."""
        self._chains: dict[tuple[str, int], dict[int, _Chain]] = {}
        self._streams: dict[str, _Stream] = {}
        self._streams_forgotten = False
        self._early: set[str] = set()
        """Streams with versions that came early."""
        self._effects: dict[int, list[_Effect]] = {}
        self._effects_held = 0
        self._owed: dict[tuple[int, int, str], _Owed] = {}
        """By the fact's id, which of its type's answers, and the case."""

    # A record

    def take(self, place: tuple[str, int, int], at: float, row: Unread, now: float) -> Seen | None:
        """An event at (topic, partition, offset), published at ``at``; gives what is to be measured.

        ``None`` for a repeat. ``row`` has been found whole: sealed, in its slot, headers as its content says.
        """
        self._passed(place)
        event = json.loads(row.raw)
        id_ = UUID(event["event_id"]).int
        at = id_time(id_) or at
        partition = place[0], place[1]
        if id_ in self._ids or self._is_old_repeat(partition, row, at):
            self.repeats += 1
            return None
        where = Where(*place, event["event_id"], row.type)
        self._remember(id_, row.type)
        owner, newest = self._known.get(row.type, ("", 0))
        if owner != row.source or event["schema_version"] > newest:
            self._fault("unknown_type", where, f"{row.source}.{row.type}.v{event['schema_version']}", now)
        self._follow(partition, row, where, now)
        held = self._chained(event, where, now)
        data = event["data"]
        effect = _Effect(where, row.case_id or data.get("case_id") or "", at, now)
        hops = [*self._caused(event, data, effect), *self._causing(id_, data, effect)]
        return Seen(
            row.source, tuple(hops), _beat(held, data, at) if event["aggregate"] == self.watched.pulse else None
        )

    def foreign(self, place: tuple[str, int, int], cause: str, now: float) -> None:
        """A record that is not, or not unchanged, one of ours."""
        self._passed(place)
        self._fault("foreign", Where(*place), cause, now)

    def failed(self, place: tuple[str, int, int], error: Exception, now: float) -> None:
        """The observer itself failed on a record: said, never hidden."""
        self._fault("handler", Where(*place), f"{type(error).__name__}: {str(error)[:200]}", now)

    def _passed(self, place: tuple[str, int, int]) -> None:
        self.records += 1
        partition = place[0], place[1]
        self.next[partition] = max(place[2] + 1, self.next.get(partition, 0))

    def _is_old_repeat(self, partition: tuple[str, int], row: Unread, at: float) -> bool:
        """A repeat of an event whose id is no longer held: its position has been passed."""
        chain = self._chains.get(partition, {}).get(row.epoch)
        return at <= self._forgotten and chain is not None and row.position <= chain.last

    def _remember(self, id_: int, type_: str) -> None:
        self._ids[id_] = type_
        if len(self._ids) > self.limits.ids:
            oldest = next(iter(self._ids))
            del self._ids[oldest]
            self._forgotten = max(self._forgotten, id_time(oldest) or 0.0)

    # Order and chain

    def _follow(self, partition: tuple[str, int], row: Unread, where: Where, now: float) -> None:
        """The chain of previous positions of one partition (slot), within an epoch."""
        epoch, position, previous = row.epoch, row.position, row.prev
        epochs = self._chains.setdefault(partition, {})
        chain = epochs.get(epoch)
        if chain is None:
            # The first epoch begins with the log; a later one goes on from where the restored log stood.
            chain = epochs[epoch] = _Chain(previous if epochs else 0)
            if len(epochs) > self.limits.epochs:
                del epochs[next(iter(epochs))]
        if previous == chain.last:
            if chain.early:
                after = chain.early[min(chain.early)].item
                self._fault("order", where, f"position {position} came after {after}", now)
            chain.go_on(position)
        elif position <= chain.last:
            self._fault("order", where, f"position {position} came after {chain.last}", now)
        else:
            chain.early[previous] = _Early(position, where, now)
            if len(chain.early) > self.limits.waiting:
                self._skip(chain, now)

    def _skip(self, chain: _Chain, now: float) -> None:
        """Give up on what is missing before the first record that waits, and go on from there."""
        previous = min(chain.early)
        first = chain.early.pop(previous)
        what = f"position {first.item} names {previous} before it, but {chain.last} is the last one there"
        self._fault("hole", first.where, what, now)
        chain.go_on(first.item)

    def _chained(self, event: dict[str, Any], where: Where, now: float) -> _Stream:
        """Versions 1 to n of a stream, each with the hash of the one before it (I-19)."""
        stream, version = f"{event['aggregate']}/{event['aggregate_id']}", event["version"]
        hashes = event["prev_hash"], event["hash"]
        held = self._streams.pop(stream, None) or _Stream()
        self._streams[stream] = held
        if len(self._streams) > self.limits.streams:
            gone = next(iter(self._streams))
            del self._streams[gone]
            self._early.discard(gone)
            self._streams_forgotten = True
        if not held.version and version > 1 and self._streams_forgotten:
            self.unchecked += 1
            held.version, held.hash = version, hashes[1]
        elif version == held.version + 1:
            self._link(held, stream, hashes, where, now)
        elif version <= held.version:
            self._fault("version", where, f"version {version} of {stream} came after {held.version}", now)
        else:
            held.early[version] = _Early(hashes, where, now)
            self._early.add(stream)
            if len(held.early) > self.limits.waiting:
                self._skip_versions(held, stream, now)
        return held

    def _link(self, held: _Stream, stream: str, hashes: tuple[str, str], where: Where, now: float) -> None:
        """The next version, and those that waited for it."""
        follower: _Early[tuple[str, str]] | None = _Early(hashes, where, now)
        while follower is not None:
            held.version += 1
            if follower.item[0] != held.hash:
                what = f"version {held.version} of {stream} does not name the hash before it"
                self._fault("chain", follower.where, what, now)
            held.hash = follower.item[1]
            follower = held.early.pop(held.version + 1, None)
        if not held.early:
            self._early.discard(stream)

    def _skip_versions(self, held: _Stream, stream: str, now: float) -> None:
        """Give up on the versions that are missing before the first one that waits, and go on from there."""
        version = min(held.early)
        first = held.early.pop(version)
        self._fault("version", first.where, f"{stream} goes from version {held.version} to {version}", now)
        held.version, held.hash = version - 1, first.item[0]
        self._link(held, stream, first.item, first.where, now)

    # Causes and answers

    def _caused(self, event: dict[str, Any], data: dict[str, Any], effect: _Effect) -> Iterator[tuple[str, float]]:
        """What this event came of; a cause that has not been read yet is waited for."""
        named = event.get("causation_id")
        cause = _event_id(named)
        if effect.where.type in self.watched.moves:
            office = (event.get("actor") or {}).get("office")
            if not named or (cause is None and office == SYSTEM_OFFICE):
                what = f"{office} moved the case, because of {named or 'nothing'}"
                self._fault("uncaused", effect.where, what, effect.read)
            told = _event_id(data.get("cause"))
            if told is not None and told != cause and told not in self._ids:
                self._expect(told, effect)
        if cause is None:
            return
        type_ = self._ids.get(cause)
        if type_ is None:
            self._expect(cause, effect)
        else:
            yield from self._joined(cause, type_, effect)

    def _causing(self, id_: int, data: dict[str, Any], fact: _Effect) -> Iterator[tuple[str, float]]:
        """What this event is owed, and what was read before it that names it."""
        type_ = fact.where.type
        for number, answer in enumerate(self._answers.get(type_, ())):
            if answer.only is not None and data.get(answer.only[0]) not in answer.only[1]:
                continue
            cases = {"case": (fact.case,) if fact.case else (), "cases": data.get("cases", ()), "fact": ("",)}
            for case in cases[answer.each]:
                due = max(fact.at + answer.within, fact.read + self.limits.grace)
                self._owed[id_, number, case] = _Owed(answer, fact.where, fact.at, fact.read, due)
        while len(self._owed) > self.limits.pending:
            del self._owed[next(iter(self._owed))]
            self.unchecked += 1
        effects = self._effects.pop(id_, ())
        self._effects_held -= len(effects)
        for effect in effects:
            yield from self._joined(id_, type_, effect)

    def _joined(self, cause: int, cause_type: str, effect: _Effect) -> Iterator[tuple[str, float]]:
        """Cause and effect are both there: the answer if it was owed, and the hop."""
        for number, answer in enumerate(self._answers.get(cause_type, ())):
            if effect.where.type in answer.by:
                owed = self._owed.pop((cause, number, "" if answer.each == "fact" else effect.case), None)
                if owed is not None:
                    self._answered(owed, effect)
        hop, began = self._hops.get((cause_type, effect.where.type)), id_time(cause)
        if hop is not None and began is not None:
            yield hop, max(0.0, effect.at - began)

    def _answered(self, owed: _Owed, effect: _Effect) -> None:
        seconds, type_ = effect.at - owed.at, effect.where.type
        if owed.fault is not None:
            owed.fault.what += f"; {type_} came after {seconds:.1f} s, read {effect.read - owed.read:.1f} s later"
        elif not owed.late and seconds > owed.answer.within:
            what = f"{type_} came after {seconds:.1f} s, {owed.answer.within:g} s are allowed"
            self._fault("unanswered", owed.where, what, effect.read)

    def _expect(self, cause: int, effect: _Effect) -> None:
        """Wait until the cause is read; one older than what is remembered cannot be checked."""
        if (id_time(cause) or 0.0) <= self._forgotten:
            self.unchecked += 1
            return
        self._effects.setdefault(cause, []).append(effect)
        self._effects_held += 1
        if self._effects_held > self.limits.pending:
            gone = self._effects.pop(next(iter(self._effects)))
            self._effects_held -= len(gone)
            self.unchecked += len(gone)

    # What time alone can tell

    def settle(self, complete: float, now: float) -> None:
        """All that was in the topics at the moment ``complete`` has been read: judge what should have come by then."""
        limit = complete - self.limits.grace
        for cause in [cause for cause, effects in self._effects.items() if effects[0].read <= limit]:
            effects = self._effects.pop(cause)
            self._effects_held -= len(effects)
            for effect in effects:
                self._fault("uncaused", effect.where, f"names {UUID(int=cause)}, which is in no topic", now)
        for chain in [chain for epochs in self._chains.values() for chain in epochs.values()]:
            while chain.early and chain.early[min(chain.early)].read <= limit:
                self._skip(chain, now)
        for stream in list(self._early):
            held = self._streams[stream]
            while held.early and held.early[min(held.early)].read <= limit:
                self._skip_versions(held, stream, now)
        for (_, _, case), owed in self._owed.items():
            if not owed.late and owed.due <= complete:
                owed.late = True
                what = f"no answer{case and ' on ' + case} within {owed.answer.within:g} s"
                owed.fault = self._fault("unanswered", owed.where, what, now)

    @property
    def unanswered(self) -> int:
        """Facts that are past their time and still have no answer."""
        return sum(owed.late for owed in self._owed.values())

    def held(self) -> Iterator[tuple[str, int, int]]:
        """What is held of each kind that is bounded, and the bound."""
        yield "ids", len(self._ids), self.limits.ids
        yield "streams", len(self._streams), self.limits.streams
        yield "effects", self._effects_held, self.limits.pending
        yield "answers", len(self._owed), self.limits.pending

    def _fault(self, kind: Kind, where: Where, what: str, now: float) -> Fault | None:
        """Count it, and keep it where it is one of the first."""
        found = self.faults[kind]
        found.count += 1
        if len(found.examples) >= self.limits.examples:
            return None
        found.examples.append(Fault(where, what, now))
        return found.examples[-1]


def _beat(held: _Stream, data: dict[str, Any], at: float) -> Beat:
    """Where a case is after this event. Its stream is read in order: every reading gives the same."""
    if data.get("regions") or data.get("nationwide"):
        held.regions = tuple(str(region["region"]) for region in data.get("regions", ())) or ("nationwide",)
    holding = data.get("holding")
    if holding:
        held.tier = str(holding.get("tier") or holding["state"])
    return Beat(at, held.tier, held.regions)


def id_time(id_: int) -> float | None:
    """The moment in a UUIDv7, real seconds since 1970; ``None`` for another kind of id."""
    return (id_ >> 80) / 1000 if (id_ >> 76) & 15 == 7 else None


def _event_id(name: object) -> int | None:
    """The id of an event (UUIDv7); ``None`` for that of a command (UUIDv5), and for what is no id."""
    if not isinstance(name, str):
        return None
    try:
        id_ = UUID(name).int
    except ValueError:
        return None
    return id_ if id_time(id_) is not None else None
