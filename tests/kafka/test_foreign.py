"""Foreign and malformed records on a real topic: kept apart with their cause, and what is ours goes on."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from dataclasses import replace

from aiokafka import AIOKafkaProducer

from services.local_servers import Kafka
from shared.contracts.topics import topic_of
from shared.runtime.kafka import Outgoing, ensure_topics
from shared.runtime.records import MAX_BYTES, to_record
from tests.kafka.conftest import ONE_FORM, MakeCarrier, MakeLog
from tests.kafka.driving import append, carry, causes, heard, publish, send, stored


def test_each_is_kept_apart_with_its_cause(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox, other = make_log("issues"), make_log("routing"), make_log("meetings")
    good = [to_record(row) for row in append(log, 2, keys=1)]
    one = good[0]
    headers = dict(one.headers)
    in_a_million_seconds = str(int(time.time()) + 10**6).encode()
    bad = {
        "event is of another service than the topic": to_record(append(other, 1, keys=1)[0]),
        "epoch or positions cannot be": one._replace(
            headers=list({**headers, "ce_logepoch": in_a_million_seconds}.items())
        ),
        "value is not a sealed event": one._replace(value=pickle.dumps(["id"])),
        "value is larger than 1 MB": one._replace(value=b" " * (MAX_BYTES + 1)),
        "no key": one._replace(key=b""),
        "no value": one._replace(value=b""),
        "headers are no CloudEvent": one._replace(headers=[]),
        "a header stands there twice": one._replace(headers=[*one.headers, one.headers[0]]),
        "headers cannot be read": one._replace(headers=[("ce_specversion", b"\xff\xfe")]),
        "header ce_id does not agree with the event": one._replace(headers=list({**headers, "ce_id": b"x"}.items())),
        "key has no form of ours": one._replace(key=b"a\x00b"),
    }
    send(broker.bootstrap, [good[0], *bad.values(), good[1]])
    carry(make_carrier(inbox), reached=lambda: len(causes(inbox)) == len(bad) and len(heard(inbox)) == 2)
    assert causes(inbox) == list(bad)
    assert heard(inbox) == stored(log)


def test_a_record_in_another_partition_is_kept_apart(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier
) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    record = to_record(append(log, 1)[0])
    send(broker.bootstrap, [record._replace(partition=(record.partition + 1) % 12), record])
    carry(make_carrier(inbox), reached=lambda: causes(inbox) != [] and len(heard(inbox)) == 1)
    assert causes(inbox) == ["partition is not the slot of the key"]


def test_without_key_and_value_at_all(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    inbox = make_log("routing")

    async def sending() -> None:
        topic = topic_of("issues")
        await ensure_topics(broker.bootstrap, (topic,))
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
        await producer.start()
        try:
            await producer.send_and_wait(topic.name, value=None, key=b"key", partition=0)
            await producer.send_and_wait(topic.name, value=b"{}", key=None, partition=1)
        finally:
            await producer.stop()

    asyncio.run(sending())
    carry(make_carrier(inbox), reached=lambda: len(causes(inbox)) == 2)
    assert causes(inbox) == ["no value", "no key"]


def test_what_is_kept_tells_what_came(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    inbox = make_log("routing")
    send(broker.bootstrap, [Outgoing(5, b"\xff", b"what", [("who", b"\xfe")])])
    carry(make_carrier(inbox), reached=lambda: causes(inbox) != [])
    columns = "topic, partition, record_offset, key, headers, raw"
    topic, partition, offset, key, headers, raw = inbox.query(f"SELECT {columns} FROM rejected")[0]
    assert (topic, partition, offset, bytes(key), bytes(raw)) == ("maru.issues.v1", 5, 0, b"\xff", b"what")
    assert json.loads(headers) == [["who", "/g=="]]


def test_reading_again_keeps_them_once(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    send(broker.bootstrap, [Outgoing(5, b"key", b"what", [])])
    append(log, 5)
    publish(log, broker.bootstrap)
    first = make_carrier(inbox)
    carry(first, reached=lambda: len(heard(inbox)) == 5)
    first._leases.release()
    make_log.as_owner("routing", "UPDATE carried SET cluster = 'another'", "DELETE FROM inbox")
    carry(make_carrier(inbox), reached=lambda: len(heard(inbox)) == 5)
    assert len(causes(inbox)) == 1


def test_a_forged_position_far_ahead_stops_nothing(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    """Whoever may write to a topic can seal; what is ours still comes in."""
    log, inbox = make_log("issues"), make_log("routing")
    rows = append(log, 6, keys=1)
    forged = to_record(replace(rows[-1], position=10**15, prev=rows[-1].position))
    send(broker.bootstrap, [*map(to_record, rows), forged])
    later = append(log, 6, keys=1)
    send(broker.bootstrap, list(map(to_record, later)))
    carry(make_carrier(inbox), reached=lambda: len(heard(inbox)) == 13)
    assert heard(inbox)[:-1] == stored(log)


@ONE_FORM
def test_a_header_name_that_no_client_can_read(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    """Kafka lets any bytes be a header's name; our client reads such a batch not at all."""
    log, inbox = make_log("issues"), make_log("routing")
    rows = append(log, 3, keys=1)
    send(broker.bootstrap, [to_record(rows[0])])
    asyncio.run(_send_unreadable(broker.bootstrap, rows[0].slot, 5))
    send(broker.bootstrap, list(map(to_record, rows[1:])))
    carry(make_carrier(inbox), reached=lambda: len(heard(inbox)) == 3)
    assert set(causes(inbox)) == {"a header's name is not UTF-8"}


async def _send_unreadable(bootstrap: str, partition: int, count: int) -> None:
    from aiokafka.record._crc32c import crc as crc32c

    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        batch = producer.create_batch()
        for _ in range(count):
            batch.append(timestamp=None, key=b"key", value=b"{}", headers=[("zzzz", b"1")])
        batch.close()
        raw = bytearray(batch._build())
        raw = raw.replace(b"zzzz", b"\xff\xfe\xff\xfe")
        raw[17:21] = crc32c(raw[21:]).to_bytes(4, "big")
        batch._buffer = raw
        await (await producer.send_batch(batch, topic_of("issues").name, partition=partition))
    finally:
        await producer.stop()
