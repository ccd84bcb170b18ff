"""`maru observe` on a real broker: silent on a clean load, loud on each planted fault, and it comes back by itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.observer.conftest import Load, Observing, Told, faults_on, on
from tests.observer.load import Segment, event_id, id_at

SHOWN_SECONDS = 10.0
START_SECONDS = 90.0
"""A new process on a machine that is busy with other tests; it needs 5 s alone."""
SETTLED_SECONDS = 6.0
"""Causes, predecessors and answers to facts of long ago are waited for 5 s; then all that can be found has been."""


def settled(told: Told, since: float) -> bool:
    """Whether everything has been judged that was published until ``since``."""
    return bool(told["complete"] and told["complete"] > since + SETTLED_SECONDS)


def test_clean_load_shows_no_fault(load: Load, observing: Observing) -> None:
    read = time.time()
    told = observing.until(lambda told: load.read(told) and settled(told, read), 30, "settled")
    assert faults_on(told, load.segments[0].ids | load.segments[1].ids) == []


def test_pulse_counts_cases_by_tier_and_region(load: Load, observing: Observing) -> None:
    told = observing.until(load.read, 30, "everything read")
    places = {(row["tier"], row["region"]) for row in told["pulse"]["hour"]}
    assert {("intake", "gangwon"), ("R2", "gangwon"), ("R5", "gangwon"), ("implementing", "gangwon")} <= places
    assert told["pulse"]["day"] == told["pulse"]["hour"]


def test_hops_are_measured_in_real_seconds(observing: Observing) -> None:
    samples = dict(
        line.rsplit(" ", 1) for line in observing.get("/metrics").text.splitlines() if not line.startswith("#")
    )
    count = float(samples['maru_observer_hop_seconds_count{hop="decided_moved"}'])
    total = float(samples['maru_observer_hop_seconds_sum{hop="decided_moved"}'])
    assert count >= 2
    # The walk's business days lie months apart; the decisions were followed at once.
    assert 0 < total / count < 5


def test_republished_topics_add_no_fault(load: Load, observing: Observing) -> None:
    again, repeats = load.segments[:2], observing.told()["repeats"]
    load.publish(*again)
    published = time.time()
    told = observing.until(lambda told: load.read(told) and settled(told, published), 30, "settled")
    assert told["repeats"] - repeats == sum(len(segment.rows) for segment in again)
    assert faults_on(told, again[0].ids | again[1].ids) == []


def test_swapped_pair_shows(load: Load, observing: Observing) -> None:
    segment = load.next()
    late = segment.one("CaseRouted")
    load.publish(segment.swapped(late))
    observing.until(lambda told: on(told, "order", event_id(late)) is not None, SHOWN_SECONDS, "the swapped pair")


def test_dropped_record_shows(load: Load, observing: Observing) -> None:
    segment = load.next()
    dropped = segment.one("CaseRouted")
    load.publish(segment.without(dropped))
    after = event_id(segment.after(dropped))
    observing.until(lambda told: on(told, "hole", after) is not None, SHOWN_SECONDS, "the dropped record")


def test_move_without_cause_shows(load: Load, observing: Observing) -> None:
    segment = load.next()
    move = segment.one("EscalatedToForum")

    def of_nothing(event: dict[str, Any]) -> None:
        event["causation_id"] = id_at(time.time())

    load.publish(segment.changed(move, of_nothing))
    told = observing.until(
        lambda told: on(told, "uncaused", event_id(move)) is not None, SHOWN_SECONDS, "the move without cause"
    )
    assert "is in no topic" in str(on(told, "uncaused", event_id(move)))


def test_late_answer_shows(load: Load, observing: Observing) -> None:
    segment = load.next()
    decided = event_id(segment.one("DecisionRecorded"))
    first, late = segment.split(segment.one("CaseRouted", 1))
    load.publish(first)
    observing.until(lambda told: on(told, "unanswered", decided) is not None, SHOWN_SECONDS, "the missing answer")
    load.publish(late)
    observing.until(
        lambda told: "CaseRouted came" in str(on(told, "unanswered", decided)), SHOWN_SECONDS, "that it came late"
    )


def test_unknown_type_shows(load: Load, observing: Observing) -> None:
    segment = load.next()
    row = segment.one("CaseClosed")

    def of_tomorrow(event: dict[str, Any]) -> None:
        event["type"] = "CaseCelebrated"

    load.publish(segment.changed(row, of_tomorrow))
    observing.until(lambda told: on(told, "unknown_type", event_id(row)) is not None, SHOWN_SECONDS, "the type")


@pytest.mark.faults
def test_killed_broker_stops_it_for_a_while_only(load: Load, observing: Observing) -> None:
    load.broker.kill()
    observing.until(lambda told: told["trouble"] is not None, 30, "that the topics cannot be read")
    assert observing.get("/livez").status_code == 200
    load.broker.start()
    clean = load.next()
    load.publish(clean)
    told = observing.until(load.read, 90, "everything read")
    assert faults_on(told, clean.ids) == []


@pytest.mark.faults
def test_wiped_broker_is_read_anew(load: Load, observing: Observing) -> None:
    before = observing.told()["cluster"]
    load.broker.kill()
    load.broker.wipe()
    load.broker.start()
    load.records = 0
    # All of it from the logs again, as `maru republish` does: what the topics once had is gone with its faults.
    load.publish(Segment(tuple(row for segment in load.segments for row in segment.rows)))
    load.used = len(load.segments)
    published = time.time()
    told = observing.until(
        lambda told: told["cluster"] != before and load.read(told) and settled(told, published), 90, "read anew"
    )
    assert {kind: found["count"] for kind, found in told["faults"].items() if found["count"]} == {}
    assert told["repeats"] == 0


@pytest.mark.faults
def test_sigterm_ends_it(load: Load, tmp_path: Path) -> None:
    observer = Observing(load.broker.bootstrap, tmp_path)
    try:
        observer.until(lambda told: bool(told.get("complete")), START_SECONDS, "caught up")
        assert observer.end() < 12
    finally:
        observer.close()


@pytest.mark.faults
def test_sigterm_ends_it_while_the_broker_is_down(load: Load, tmp_path: Path) -> None:
    observer = Observing(load.broker.bootstrap, tmp_path)
    try:
        observer.until(lambda told: bool(told.get("complete")), START_SECONDS, "caught up")
        load.broker.kill()
        observer.until(lambda told: told["trouble"] is not None, 30, "that the topics cannot be read")
        assert observer.end() < 12
    finally:
        observer.close()
        load.broker.start()


@pytest.mark.faults
def test_starts_without_a_broker_and_says_so(tmp_path: Path) -> None:
    observer = Observing("127.0.0.1:9", tmp_path)
    try:
        observer.until(lambda told: told["trouble"] is not None, START_SECONDS, "that there is no broker")
        ready: httpx.Response = observer.get("/readyz")
        assert (ready.status_code, observer.get("/livez").status_code) == (503, 200)
        assert observer.end() < 12
    finally:
        observer.close()
