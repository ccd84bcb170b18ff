"""I3: every stored event is in its topic, byte for byte, in its partition, and per key in store order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

from services.audit_book import HEARS, SLOTS, TOPIC, Book, Checking, name_of
from services.audit_findings import Check, Reported
from services.audit_folds import Event
from shared.runtime.brokers import Brokers
from shared.runtime.kafka import FAILURES, Consumer, Heard, Place
from shared.runtime.reading import CannotRead, log_of, number
from shared.runtime.records import Foreign, from_record

PAGE = 2000
SILENT_SECONDS = 20.0
"""A topic that gives nothing for so long before its end is not readable."""


class Published(NamedTuple):
    """A record of a topic: where it lies, which event it is, and a fingerprint of its bytes."""

    partition: int
    offset: int
    epoch: int
    position: int
    prev: int
    key: str
    fingerprint: int


class Topics(NamedTuple):
    """What lies in the topics: our records by service in the order of each partition, the others by topic and cause."""

    records: dict[str, list[Published]]
    foreign: Counter[tuple[str, str]]


def read_topics(bootstrap: Brokers | str) -> Topics:
    """Read every topic from its beginning to where it ends now. Raises ``CannotRead``."""
    try:
        return asyncio.run(_read(bootstrap))
    except FAILURES as error:
        raise CannotRead(f"Kafka at {bootstrap} cannot be read: {type(error).__name__}: {error}") from error


async def _read(bootstrap: Brokers | str) -> Topics:
    service_of = {topic: service for service, topic in TOPIC.items()}
    topics = Topics({service: [] for service in HEARS}, Counter())
    places = [(topic, partition) for topic in TOPIC.values() for partition in range(SLOTS)]
    consumer = Consumer(bootstrap, "maru-audit")
    await consumer.start()
    try:
        begins, left = await consumer.beginnings(places), await consumer.ends(places)
        left = {place: end for place, end in left.items() if end > begins[place]}
        consumer.assign({place: begins[place] for place in left})
        heard_at = time.monotonic()
        while left:
            for place, records in (await consumer.take(PAGE, 1.0)).items():
                heard_at = time.monotonic()
                _take(topics, service_of[place[0]], place, records, left)
            if time.monotonic() - heard_at > SILENT_SECONDS:
                raise TimeoutError(f"{len(left)} partitions give nothing")
    finally:
        await consumer.stop()
    return topics


def _take(topics: Topics, service: str, place: Place, records: Iterable[Heard], left: dict[Place, int]) -> None:
    for heard in records:
        if heard.offset + 1 >= left.get(place, 0):
            left.pop(place, None)
        try:
            row = from_record(heard.topic, heard.partition, heard.key, heard.value, heard.headers)
        except Foreign as foreign:
            topics.foreign[heard.topic, foreign.cause] += 1
            continue
        topics.records[service].append(
            Published(heard.partition, heard.offset, row.epoch, row.position, row.prev, row.key, hash(row.raw))
        )


def published(bootstrap: Brokers | str) -> Checking:
    """The check of I3; the topics are read after the logs, so they may hold what was stored since."""

    def check_published(book: Book, check: Check) -> None:
        topics = read_topics(bootstrap)
        for service in HEARS:
            _check_topic(book, check, service, topics.records[service])
        for (topic, cause), found in sorted(topics.foreign.items()):
            book.reported.append(Reported(topic, f"records that are none of ours: {cause}", found))

    return check_published


def _check_topic(book: Book, check: Check, service: str, records: list[Published]) -> None:
    stored = {(event.epoch, event.position): event for event in book.logs[service]}
    seen: set[tuple[int, int]] = set()
    last: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    repeats = lost = 0
    newer: list[Published] = []
    for record in records:
        name = (record.epoch, record.position)
        where = f"{TOPIC[service]} partition {record.partition} offset {record.offset}"
        event = stored.get(name)
        if event is None:
            if book.files.is_newest(service, record.epoch) and record.position > book.files.last(service):
                newer.append(record)
                continue
            gone = _is_lost(book, service, record)
            lost += gone
            check.expect(gone, f"{where} has position {record.position} of epoch {record.epoch}, which is in no log")
            continue
        same = (event.slot, event.prev, event.key, event.fingerprint)
        check.expect(
            same == (record.partition, record.prev, record.key, record.fingerprint),
            f"{where} has {name_of(event)} otherwise than it is stored",
        )
        if name in seen:
            repeats += 1
            continue
        seen.add(name)
        check.expect(last[record.key] < name, f"{where} has {name_of(event)} behind a later event of the same key")
        last[record.key] = max(last[record.key], name)
    _check_missing(check, service, book.logs[service], seen)
    _check_newer(book, check, service, newer)
    for what, found in (("records published more than once", repeats), ("records that a restore took", lost)):
        if found:
            book.reported.append(Reported(TOPIC[service], what, found))


def _check_missing(check: Check, service: str, events: list[Event], seen: set[tuple[int, int]]) -> None:
    for event in events:
        check.expect((event.epoch, event.position) in seen, f"{name_of(event)} is not in {TOPIC[service]}")


def _check_newer(book: Book, check: Check, service: str, records: list[Published]) -> None:
    """What lies beyond the snapshot of the log is in the log by now, or the topic is ahead of it (I10)."""
    if not records:
        return
    with closing(log_of(book.files.where, service)) as log:
        end = number(log, "SELECT COALESCE(MAX(position), 0) FROM stored_events")
    for record in records:
        where = f"{TOPIC[service]} partition {record.partition} offset {record.offset}"
        check.expect(
            record.position <= end, f"{where} has position {record.position} of {service}, whose log ends at {end}"
        )


def _is_lost(book: Book, service: str, record: Published) -> bool:
    """Whether the record is of an older epoch, beyond its end: its event was lost to the log by a restore."""
    end = book.files.end_of(service, record.epoch)
    return end is not None and record.position > end and not book.files.is_newest(service, record.epoch)
