"""What the observer makes of records, without a broker: orders of reading, epochs, lateness, and what it forgets."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from services.observing import watched
from shared.contracts.topics import topic_of
from shared.runtime.jobs import Unread
from shared.runtime.observed import Observed
from shared.runtime.observer import Observer, Watch
from shared.runtime.settings import Settings
from shared.runtime.watched import Limits, Seen
from tests.observer.load import Segment, changed, event_id, id_at

NOW = 4_000_000_000.0
"""Later than every event of the load: real seconds since 1970."""


class Reading:
    """An ``Observed`` and how far each partition has been read."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.observed = Observed(watched(), limits)
        self._next: Counter[tuple[str, int]] = Counter()

    def take(self, rows: Iterable[Unread], now: float = NOW) -> list[Seen]:
        """Read rows in this order; gives what is measured."""
        seen = []
        for row in rows:
            topic = topic_of(row.source).name
            found = self.observed.take((topic, row.slot, self._next[topic, row.slot]), NOW, row, now)
            self._next[topic, row.slot] += 1
            if found is not None:
                seen.append(found)
        return seen

    def found(self) -> dict[str, int]:
        """Faults by kind, once nothing more can come."""
        self.observed.settle(NOW + 1000, NOW + 1000)
        return {kind: found.count for kind, found in self.observed.faults.items() if found.count}

    def said(self, kind: Any) -> str:
        """What the only fault of a kind says."""
        (fault,) = self.observed.faults[kind].examples
        return fault.what


@pytest.fixture(scope="session")
def rows(segments: list[Segment]) -> list[Unread]:
    """The reference data and two walks."""
    return [row for segment in segments[:3] for row in segment.rows]


@pytest.mark.parametrize("seed", range(5))
def test_partitions_may_be_read_in_any_order(rows: list[Unread], seed: int) -> None:
    partitions: dict[tuple[str, int], list[Unread]] = {}
    for row in rows:
        partitions.setdefault((row.source, row.slot), []).append(row)
    chance = random.Random(seed)
    mixed = []
    while partitions:
        place = chance.choice(list(partitions))
        mixed.append(partitions[place].pop(0))
        if not partitions[place]:
            del partitions[place]
    reading = Reading()
    hops = Counter(hop for seen in reading.take(mixed) for hop, _ in seen.hops)
    in_order = Counter(hop for seen in Reading().take(rows) for hop, _ in seen.hops)
    assert (reading.found(), hops) == ({}, in_order)


def test_pulse_is_the_same_however_the_topics_are_read(rows: list[Unread]) -> None:
    by_topic = sorted(rows, key=lambda row: row.source)
    beats = Counter(seen.beat for seen in Reading().take(rows) if seen.beat)
    assert Counter(seen.beat for seen in Reading().take(by_topic) if seen.beat) == beats


def test_repeats_are_counted_and_no_fault(rows: list[Unread]) -> None:
    reading = Reading()
    reading.take([*rows, *rows])
    assert (reading.found(), reading.observed.repeats) == ({}, len(rows))


def test_swapped_pair_is_one_fault_of_order(rows: list[Unread], segments: list[Segment]) -> None:
    swapped = segments[2].swapped(segments[2].one("CaseRouted"))
    reading = Reading()
    reading.take([*segments[0].rows, *segments[1].rows, *swapped.rows])
    assert reading.found() == {"order": 1}


def test_dropped_record_that_comes_later_came_late(segments: list[Segment]) -> None:
    dropped = segments[1].one("JointReviewOpened")
    reading = Reading()
    reading.take([*segments[0].rows, *segments[1].without(dropped).rows])
    missing = reading.found()
    reading.take([dropped])
    assert (missing["hole"], missing["version"]) == (1, 1)
    assert "order" not in missing
    assert reading.found()["order"] == 1


def test_broken_hash_chain_shows(segments: list[Segment]) -> None:
    def of_others(event: dict[str, Any]) -> None:
        event["prev_hash"] = "f" * 64

    last = segments[1].one("CaseClosed")
    reading = Reading()
    reading.take([*segments[0].rows, *segments[1].changed(last, of_others).rows])
    assert reading.found() == {"chain": 1}


def test_answer_that_was_decided_too_late_shows(segments: list[Segment]) -> None:
    adopted, linked = segments[1].one("PolicyAdopted"), segments[1].one("CaseLinkedToPolicy")
    decided = (uuid.UUID(event_id(adopted)).int >> 80) / 1000

    def late(event: dict[str, Any]) -> None:
        event["event_id"] = id_at(decided + 31)

    before, after = segments[1].split(linked)
    reading = Reading()
    reading.take([*segments[0].rows, *before.rows, changed(linked, late)])
    assert reading.said("unanswered") == "CaseLinkedToPolicy came after 31.0 s, 10 s are allowed"
    assert len(after.rows) > 1


def test_move_by_the_process_because_of_a_command_has_no_cause(segments: list[Segment]) -> None:
    def commanded(event: dict[str, Any]) -> None:
        event["causation_id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, "a command"))

    move = segments[1].one("EscalatedToForum")
    before, _ = segments[1].split(move)
    reading = Reading()
    reading.take([*segments[0].rows, *before.rows, changed(move, commanded)])
    assert "because of" in reading.said("uncaused")


def test_new_epoch_goes_on_where_the_restored_log_stood(rows: list[Unread], segments: list[Segment]) -> None:
    later = [replace(row, epoch=row.epoch + 1) for row in segments[3].rows]
    reading = Reading()
    reading.take([*rows, *later])
    assert reading.found() == {}


def test_what_was_forgotten_is_not_judged(rows: list[Unread]) -> None:
    reading = Reading(Limits(ids=100, streams=50, pending=10, waiting=10))
    reading.take([*rows, *rows])
    assert reading.found() == {}
    assert reading.observed.unchecked > 0


def test_what_is_held_is_bounded(rows: list[Unread]) -> None:
    reading = Reading(Limits(ids=100, streams=50, pending=10, waiting=10))
    # Effects before their causes: everything has to wait.
    reading.take(sorted(rows, key=lambda row: row.source, reverse=True))
    assert [what for what, held, limit in reading.observed.held() if held > limit] == []


@pytest.mark.parametrize(("heard_before", "reason"), [(4, "other_cluster"), (5, "shorter_topic")])
def test_only_what_was_heard_before_the_question_makes_a_topic_shorter(heard_before: int, reason: str) -> None:
    """A record that comes while the ends are asked for lies beyond them, and nothing is wrong."""
    place = (topic_of("issues").name, 0)
    settings = Settings(kafka="127.0.0.1:9")
    observed = Observed(watched(), Limits())
    observed.next[place] = heard_before
    watch = Watch(settings, observed, "this")
    answers = iter(["this", "another"])

    class Survey:
        """A client whose answer says 4 records, and is on its way while the fifth is heard."""

        async def ends(self, places: object) -> dict[tuple[str, int], int]:
            observed.next[place] = 5
            return {place: 5 if told else 4}

        async def cluster(self) -> str:
            told.append(next(answers))
            return told[-1]

    told: list[str] = []
    observer = Observer(settings, watched(), Limits())
    survey: Any = Survey()
    assert asyncio.run(asyncio.wait_for(observer._until_it_ends(watch, survey), 20)) == reason
