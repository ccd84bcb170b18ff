"""The relay on a real broker: what it publishes, and what it refuses."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.local_servers import Kafka
from shared.contracts.topics import TOPICS, topic_of
from shared.runtime import commands
from shared.runtime.codec import seal
from shared.runtime.kafka import OtherPartitions, Outgoing, ensure_topics
from shared.runtime.leases import Leases
from shared.runtime.log import EventLog
from shared.runtime.records import from_record
from shared.runtime.relay import Relay, TopicAhead, TopicBehind, new_epoch, republish
from tests.kafka.conftest import ONE_FORM, MakeCarrier, MakeLog, delete_topics
from tests.kafka.driving import (
    SECONDS,
    Running,
    append,
    carry,
    heard,
    publish,
    saved,
    send,
    send_rows,
    stored,
    topic_records,
    until,
)


def positions(bootstrap: str) -> list[int]:
    """The positions in the topic, repeats included, in order."""
    return sorted(int(dict(r.headers)["ce_logposition"] or 0) for r in topic_records(bootstrap))


def restored(make_log: MakeLog, position: int) -> EventLog:
    """The log of issues put back to an earlier moment, as from an old backup, and opened by another process."""
    make_log.as_owner(
        "issues",
        f"DELETE FROM stored_events WHERE position > {position}",
        "DELETE FROM slot_head",
        "INSERT INTO slot_head SELECT slot, MAX(position) FROM stored_events GROUP BY slot",
        "DELETE FROM command",
        f"UPDATE relay SET position = {position}",
    )
    return make_log("issues")


async def one_turn(log: EventLog, bootstrap: str) -> None:
    relay = Relay(log, Leases(log, "relay-1"), bootstrap)
    try:
        async with asyncio.timeout(SECONDS):
            await relay.turn()
    finally:
        await relay.close()


def test_every_byte_comes_back_as_it_was_stored(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    rows = append(log, 40)
    publish(log, broker.bootstrap)
    back = [from_record(r.topic, r.partition, r.key, r.value, r.headers) for r in topic_records(broker.bootstrap)]
    assert sorted(back, key=lambda row: row.position) == rows


@ONE_FORM
def test_nothing_confidential_is_published_and_the_relay_stops_there(
    broker: Kafka, make_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make_log("issues")
    append(log, 3)
    publish(log, broker.bootstrap)
    monkeypatch.setattr(commands, "seal", lambda document: seal({**document, "confidentiality": "confidential"}))
    append(log, 1)
    with pytest.raises(ValueError, match="confidentiality"):
        asyncio.run(one_turn(log, broker.bootstrap))
    assert positions(broker.bootstrap) == [1, 2, 3]
    assert saved(log) == 3


def test_each_partition_holds_its_slot_in_order(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    rows = append(log, 40)
    publish(log, broker.bootstrap)
    expected = sorted((row.slot, row.position) for row in rows)
    found = [(r.partition, int(dict(r.headers)["ce_logposition"] or 0)) for r in topic_records(broker.bootstrap)]
    assert found == expected


def test_topics_are_made_from_the_table_by_all_at_once(broker: Kafka) -> None:
    async def at_once() -> None:
        await asyncio.gather(*(ensure_topics(broker.bootstrap, TOPICS) for _ in range(4)))

    asyncio.run(at_once())


def test_a_topic_with_other_partitions_is_refused(broker: Kafka) -> None:
    topic = topic_of("issues")
    asyncio.run(ensure_topics(broker.bootstrap, (type(topic)(topic.service, topic.name, partitions=3),)))
    with pytest.raises(OtherPartitions, match="3 partitions, not 12"):
        asyncio.run(ensure_topics(broker.bootstrap, TOPICS))


def test_a_relay_that_dies_before_saving_only_repeats(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier
) -> None:
    """What was published and not saved is published again by the next; the inbox has each event once."""
    log, other = make_log("issues"), make_log("routing")
    rows = append(log, 20)
    send_rows(broker.bootstrap, rows[:13])
    publish(log, broker.bootstrap)
    assert len(positions(broker.bootstrap)) == 33
    carry(make_carrier(other), reached=lambda: len(heard(other)) == 20)
    assert heard(other) == stored(log)


def test_a_relay_that_lost_its_lease_saves_nothing(broker: Kafka, make_log: MakeLog) -> None:
    """The first is held up between publishing and saving; the second has taken over meanwhile."""
    log = make_log("issues")
    append(log, 10)

    async def both() -> None:
        first, second = (
            Relay(log, Leases(log, "a", seconds=0.5), broker.bootstrap),
            Relay(log, Leases(log, "b"), broker.bootstrap),
        )
        try:
            async with asyncio.timeout(SECONDS):
                await first.turn()
                append(log, 10)
                # Its lease runs out while it believes to hold it, and another publishes the rest.
                while not await second.turn():
                    pass
                assert saved(log) == 20
                append(log, 5)
                # The late one publishes from where it stood: repeats, and its save is refused.
                first._look_at = time.monotonic() + 60
                await first.turn()
                assert saved(log) == 20
                assert await first.turn() == 0
                assert await second.turn()
        finally:
            await first.close()
            await second.close()

    asyncio.run(both())
    assert saved(log) == 25
    assert sorted(set(positions(broker.bootstrap))) == list(range(1, 26))


def test_a_second_relay_waits_for_the_lease(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    assert Leases(log, "other").take("relay") is not None
    append(log, 3)
    asyncio.run(one_turn(log, broker.bootstrap))
    assert saved(log) == 0


def test_a_database_put_back_is_refused(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    append(log, 30)
    publish(log, broker.bootstrap)
    log = restored(make_log, 20)
    with pytest.raises(TopicAhead, match="same epoch ends at 20"):
        asyncio.run(one_turn(log, broker.bootstrap))


def test_a_database_put_back_is_refused_after_it_grew_again(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    append(log, 30)
    publish(log, broker.bootstrap)
    log = restored(make_log, 20)
    append(log, 30, keys=5)
    with pytest.raises(TopicAhead, match="another event"):
        asyncio.run(one_turn(log, broker.bootstrap))


def test_a_topic_of_a_newer_epoch_is_refused(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    append(log, 5)
    old = log.epoch
    new_epoch(log)
    append(log, 5)
    publish(log, broker.bootstrap)
    log.run(lambda cursor: cursor.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (str(old),)))
    with pytest.raises(TopicAhead, match="of epoch"):
        asyncio.run(one_turn(log, broker.bootstrap))


def test_foreign_records_at_the_end_hide_nothing(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    rows = append(log, 30)
    publish(log, broker.bootstrap)

    send(broker.bootstrap, [Outgoing(slot, b"k", b"nonsense", []) for slot in range(12) for _ in range(20)])
    send_rows(broker.bootstrap, rows[:3])
    log = restored(make_log, 20)
    with pytest.raises(TopicAhead):
        asyncio.run(one_turn(log, broker.bootstrap))


def test_a_topic_that_lacks_what_was_published_gets_nothing_new_before_it(broker: Kafka, make_log: MakeLog) -> None:
    """Kafka was lost while somebody wrote: the new event would come before older ones of its key."""
    log = make_log("issues")
    append(log, 20, keys=3)
    publish(log, broker.bootstrap)
    asyncio.run(delete_topics(broker.bootstrap))
    append(log, 1, keys=3)
    with pytest.raises(TopicBehind, match="maru republish issues"):
        asyncio.run(one_turn(log, broker.bootstrap))
    assert positions(broker.bootstrap) == []
    running = Running(log, broker.bootstrap)
    until(lambda: "TopicBehind" in (running.relay.problem or ""))
    assert running.relay.missing == [], "a system that lost its Kafka comes up, for the command to be given"
    republish(log)
    until(lambda: saved(log) == 21)
    running.stop()
    assert running.relay.problem is None
    found = [(r.partition, int(dict(r.headers)["ce_logposition"] or 0)) for r in topic_records(broker.bootstrap)]
    assert found == sorted((row.slot, row.position) for row in log.after(0))


def test_a_new_epoch_is_the_way_on_for_a_running_relay(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    append(log, 30)
    publish(log, broker.bootstrap)
    log = restored(make_log, 20)
    running = Running(log, broker.bootstrap)
    until(lambda: "TopicAhead" in (running.relay.problem or ""))
    new_epoch(log)
    append(log, 10)
    until(lambda: saved(log) == 30)
    running.stop()
    assert running.relay.problem is None


def test_the_first_event_of_an_epoch_names_the_last_before_it(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    before = append(log, 10, keys=1)
    epoch = new_epoch(log)
    first = append(log, 1, keys=1)[0]
    assert (first.epoch, first.prev) == (epoch, before[-1].position)


def test_an_epoch_begins_behind_the_last_position(make_log: MakeLog) -> None:
    log = make_log("issues")
    append(log, 4)
    epoch = new_epoch(log)
    assert log.query("SELECT epoch, after_position FROM epochs ORDER BY epoch")[-1] == (epoch, 4)


def test_a_running_relay_publishes_again_when_asked(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    append(log, 12)
    running = Running(log, broker.bootstrap)
    until(lambda: saved(log) == 12)
    asyncio.run(delete_topics(broker.bootstrap))
    republish(log)
    until(lambda: saved(log) == 12)
    running.stop()
    assert positions(broker.bootstrap) == list(range(1, 13))


@ONE_FORM
def test_a_killed_broker_only_delays(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    append(log, 5)
    running = Running(log, broker.bootstrap)
    until(lambda: saved(log) == 5)
    broker.kill()
    append(log, 5)
    until(lambda: running.relay._waiting_since is not None)
    broker.start()
    until(lambda: saved(log) == 10)
    running.stop()
    assert sorted(set(positions(broker.bootstrap))) == list(range(1, 11))


@ONE_FORM
def test_it_ends_at_once_while_the_broker_is_down(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    append(log, 5)
    running = Running(log, broker.bootstrap)
    until(lambda: saved(log) == 5)
    broker.kill()
    append(log, 5)
    until(lambda: running.relay._waiting_since is not None)
    assert running.stop() < 9


@ONE_FORM
def test_it_waits_for_a_broker_that_is_not_there(broker: Kafka, make_log: MakeLog) -> None:
    log = make_log("issues")
    append(log, 5)
    broker.kill()
    running = Running(log, broker.bootstrap)
    until(lambda: "Connection" in (running.relay.problem or ""))
    broker.start()
    until(lambda: saved(log) == 5)
    running.stop()
