"""The end of a topic beside the log that it was published from: what is too much there, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest

from shared.contracts.topics import Topic, topic_of
from shared.runtime.codec import SLOTS
from shared.runtime.jobs import Unread
from shared.runtime.kafka import Consumer, Heard, Place
from shared.runtime.log import EventLog
from shared.runtime.records import Foreign, from_record, place_of

PAGE = 2000
"""Records taken at once."""
CLAIMS = 50
"""Records of a partition that are tried for one of ours: what others write there may claim any position."""


async def newest(consumer: Consumer, topic: Topic, tail: int) -> list[Unread]:
    """The newest event of ours at the end of each partition, among its last ``tail`` records or else further back.

    Raises ``TimeoutError`` where nothing comes.
    """
    places = [(topic.name, number) for number in range(topic.partitions)]
    beginnings, ends = await consumer.beginnings(places), await consumer.ends(places)
    reach, left = tail, {place for place in places if ends[place] > beginnings[place]}
    found = []
    while left:
        begin = {place: max(beginnings[place], ends[place] - reach) for place in left}
        for place, records in (await _read(consumer, begin, {place: ends[place] for place in left})).items():
            latest = _newest(records)
            if latest is not None:
                found.append(latest)
            # Nothing of ours among the last: further back, to the beginning if need be.
            if latest is not None or begin[place] == beginnings[place]:
                left.discard(place)
        reach *= 8
    return found


def too_much(log: EventLog, last: Sequence[Unread]) -> str | None:
    """What the topic holds and the log does not have, in words; older epochs may, the restored log lost them."""
    topic = topic_of(log.service).name
    epoch = int(log.query("SELECT value FROM meta WHERE name = 'epoch'")[0][0])
    for event in last:
        where = f"partition {event.slot} of {topic} holds position {event.position}"
        if event.epoch > epoch:
            return f"{where} of epoch {event.epoch}, the log is of epoch {epoch}"
        if event.epoch == epoch:
            stored = log.select("position = ?", event.position)
            if not stored:
                return f"{where}, the log of the same epoch ends at {log.last_position()}"
            if (stored[0].epoch, stored[0].raw) != (epoch, event.raw):
                return f"{where}, where the log has another event"
    return None


def too_little(log: EventLog, last: Sequence[Unread], position: int) -> str | None:
    """What was published up to a position and is not in the topic, in words."""
    topic = topic_of(log.service).name
    there = {event.slot: (event.epoch, event.position) for event in last}
    for slot in range(SLOTS):
        published = log.query(
            "SELECT epoch, position FROM stored_events WHERE slot = ? AND position <= ? ORDER BY position DESC LIMIT 1",
            slot,
            position,
        )
        if published and there.get(slot, (0, 0)) < published[0]:
            where = f"partition {slot} of {topic} lacks position {published[0][1]}, which was published"
            return f"{where}: Kafka has lost something; maru republish {log.service} publishes all of it again"
    return None


async def _read(consumer: Consumer, begin: dict[Place, int], ends: dict[Place, int]) -> dict[Place, list[Heard]]:
    """Of partitions from an offset to an end, the records that claim the greatest positions, the greatest first.

    Raises ``TimeoutError`` where nothing comes.
    """
    found: dict[Place, list[Heard]] = {place: [] for place in begin}
    consumer.assign(begin)
    reading = dict(begin)
    silent = 0
    while any(reading[place] < ends[place] for place in begin):
        records = await consumer.take(PAGE, 1.0)
        silent = 0 if records else silent + 1
        if silent > 10:
            raise TimeoutError("the end of the topic cannot be read")
        for place, more in records.items():
            claims = [record for record in more if place_of(record.headers) is not None]
            found[place] = nlargest(CLAIMS, found[place] + claims, key=_claim)
            reading[place] = more[-1].offset + 1
    return found


def _claim(record: Heard) -> tuple[int, int]:
    return place_of(record.headers) or (0, 0)


def _newest(records: Sequence[Heard]) -> Unread | None:
    """The first that is one of ours: forged claims are passed over."""
    for record in records:
        try:
            return from_record(record.topic, record.partition, record.key, record.value, record.headers)
        except Foreign:
            continue
    return None
