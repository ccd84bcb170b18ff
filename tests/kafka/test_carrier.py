"""The carrier on a real broker: everything once into the inbox, nothing foreign, and no stop that it could avoid."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from services.local_servers import Kafka
from shared.runtime.chains import read_chains
from shared.runtime.codec import SLOTS
from shared.runtime.jobs import Unread
from shared.runtime.kafka import Consumer
from shared.runtime.log import EventLog
from shared.runtime.relay import new_epoch, republish
from tests.kafka.conftest import ONE_FORM, MakeCarrier, MakeLog
from tests.kafka.driving import append, carry, causes, heard, publish, send_rows, stored


def carried(log: EventLog) -> int:
    """How many records the carrier has behind it, over all partitions."""
    return sum(offset for _, offset in log.carried().values())


def carry_all(log: EventLog, make_carrier: MakeCarrier, records: int) -> None:
    """A carrier that lives until it has so many records behind it, and then lets go."""
    carrier = make_carrier(log)
    carry(carrier, reached=lambda: carried(log) >= records)
    carrier._leases.release()


def one_slot(log: EventLog, count: int) -> list[Unread]:
    """Events that all stand in one slot."""
    return append(log, count, keys=1)


def test_the_inbox_holds_what_the_log_holds(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 60)
    publish(log, broker.bootstrap)
    carry_all(inbox, make_carrier, 60)
    assert heard(inbox) == stored(log)


def test_repeats_are_ignored(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    rows = append(log, 20)
    for _ in range(3):
        send_rows(broker.bootstrap, rows)
    carry_all(inbox, make_carrier, 60)
    assert heard(inbox) == stored(log)


def test_swapped_records_end_in_a_whole_chain(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    rows = one_slot(log, 8)
    send_rows(broker.bootstrap, [rows[0], rows[2], rows[1], rows[4], rows[3], *rows[5:]])
    carry_all(inbox, make_carrier, 8)
    assert heard(inbox) == stored(log)
    assert causes(inbox) == []


def test_it_goes_on_where_another_process_stopped(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 10)
    publish(log, broker.bootstrap)
    carry_all(inbox, make_carrier, 10)
    append(log, 10)
    publish(log, broker.bootstrap)
    carry_all(inbox, make_carrier, 20)
    assert heard(inbox) == stored(log)


def test_a_hole_is_filled_by_reading_the_partition_again(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier
) -> None:
    """The stored offset claims more than the inbox holds, as after an inbox put back without it."""
    log, inbox = make_log("issues"), make_log("routing")
    rows = one_slot(log, 10)
    publish(log, broker.bootstrap)
    carry_all(inbox, make_carrier, 10)
    make_log.as_owner("routing", "DELETE FROM inbox WHERE position > 4")
    append(log, 1, keys=1)
    publish(log, broker.bootstrap)
    carrier = make_carrier(inbox)
    carry(carrier, reached=lambda: len(heard(inbox)) == len(rows) + 1)
    assert heard(inbox) == stored(log)


def test_a_hole_that_the_topic_has_too_does_not_stop_carrying(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier
) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    rows = one_slot(log, 10)
    send_rows(broker.bootstrap, [*rows[:4], *rows[6:]])
    carry_all(inbox, make_carrier, 8)
    assert [position for _, position, _ in heard(inbox)] == [1, 2, 3, 4, 7, 8, 9, 10]


def test_a_hole_is_filled_when_the_log_is_published_again(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier
) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    rows = one_slot(log, 10)
    send_rows(broker.bootstrap, [*rows[:4], *rows[6:]])
    carrier = make_carrier(inbox)
    carry(carrier, reached=lambda: len(heard(inbox)) == 8)
    republish(log)
    publish(log, broker.bootstrap)
    carry(carrier, reached=lambda: len(heard(inbox)) == 10)
    assert heard(inbox) == stored(log)


@pytest.mark.faults
@ONE_FORM
def test_a_wiped_broker_filled_again_is_read_from_the_beginning(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier
) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 20)
    publish(log, broker.bootstrap)
    carrier = make_carrier(inbox)
    carry(carrier, reached=lambda: len(heard(inbox)) == 20)
    broker.wipe()
    append(log, 20)
    broker.start()
    republish(log)
    publish(log, broker.bootstrap)
    carry(carrier, reached=lambda: len(heard(inbox)) == 40)
    assert heard(inbox) == stored(log)


@pytest.mark.faults
@ONE_FORM
def test_a_killed_broker_only_delays(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 10)
    publish(log, broker.bootstrap)
    carrier = make_carrier(inbox)
    carry(carrier, reached=lambda: len(heard(inbox)) == 10)
    broker.kill()
    carry(carrier, reached=lambda: carrier.problem is not None)
    append(log, 10)
    broker.start()
    publish(log, broker.bootstrap)
    carry(carrier, reached=lambda: len(heard(inbox)) == 20)
    assert heard(inbox) == stored(log)


@ONE_FORM
def test_it_waits_for_a_broker_that_is_not_there(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 10)
    publish(log, broker.bootstrap)
    broker.kill()
    carrier = make_carrier(inbox)
    carry(carrier, reached=lambda: carrier.problem is not None and "started" not in carrier.problem)
    broker.start()
    carry(carrier, reached=lambda: len(heard(inbox)) == 10)


@ONE_FORM
def test_closing_does_not_wait_for_a_broker_that_is_down(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier
) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 10)
    publish(log, broker.bootstrap)
    carrier = make_carrier(inbox)
    carry(carrier, reached=lambda: len(heard(inbox)) == 10)
    broker.kill()
    started = time.monotonic()
    carrier.close()
    assert time.monotonic() - started < 8


def test_two_carriers_share_the_slots(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 60, keys=40)
    publish(log, broker.bootstrap)
    first, second = make_carrier(inbox, "a"), make_carrier(inbox, "b")
    carry(first, second, reached=lambda: len(first.slots) == len(second.slots) == SLOTS // 2)
    append(log, 60, keys=40)
    publish(log, broker.bootstrap)
    carry(first, second, reached=lambda: len(heard(inbox)) == 120)
    assert first.slots | second.slots == set(range(SLOTS))
    assert heard(inbox) == stored(log)


def test_the_other_takes_over_from_one_that_stopped_or_froze(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier
) -> None:
    """One is simply not stepped any more; when it is again, what it fetched before is a repeat."""
    log, inbox = make_log("issues"), make_log("routing")
    first, second = make_carrier(inbox, "a"), make_carrier(inbox, "b")
    carry(first, second, reached=lambda: len(first.slots) == len(second.slots) == SLOTS // 2)
    append(log, 60, keys=40)
    publish(log, broker.bootstrap)
    carry(second, reached=lambda: len(heard(inbox)) == 60, seconds=15)
    assert len(second.slots) == SLOTS
    append(log, 60, keys=40)
    publish(log, broker.bootstrap)
    carry(first, second, reached=lambda: len(heard(inbox)) == 120 and len(first.slots) == SLOTS // 2)
    assert heard(inbox) == stored(log)


def test_an_epoch_is_followed_by_the_next(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 20)
    new_epoch(log)
    append(log, 20)
    publish(log, broker.bootstrap)
    carry_all(inbox, make_carrier, 40)
    assert heard(inbox) == stored(log)
    chain = read_chains(inbox, ["issues"])[("issues", log.after(0)[0].slot)]
    assert sorted(chain.epochs) == sorted({epoch for epoch, _, _ in stored(log)})


def test_what_the_log_lost_is_rejected_once_its_new_epoch_is_heard(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier
) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    rows = one_slot(log, 10)
    make_log.as_owner(
        "issues",
        "DELETE FROM stored_events WHERE position > 6",
        "UPDATE slot_head SET position = 6",
        "DELETE FROM command",
    )
    log = make_log("issues")
    new_epoch(log)
    later = one_slot(log, 3)
    send_rows(broker.bootstrap, [*rows[:4], *later, *rows[4:]])
    carry_all(inbox, make_carrier, 13)
    assert heard(inbox) == stored(log)
    assert causes(inbox) == ["event of an older epoch that the log no longer has"] * 4


@ONE_FORM
def test_a_consumer_that_brings_nothing_is_made_anew(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 10)
    publish(log, broker.bootstrap)
    carrier = make_carrier(inbox, stuck_seconds=1.0)
    deaf: list[Consumer] = []
    original = Consumer.take

    async def take(self: Consumer, limit: int, seconds: float) -> object:
        if not deaf or self is deaf[0]:
            deaf[:] = [self]
            await original(self, limit, seconds)
            return {}
        return await original(self, limit, seconds)

    monkeypatch.setattr(Consumer, "take", take)
    carry(carrier, reached=lambda: len(heard(inbox)) == 10)


@ONE_FORM
def test_two_consumers_that_bring_nothing_end_the_process(
    broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 10)
    publish(log, broker.bootstrap)
    ended = threading.Event()
    carrier = make_carrier(inbox, on_stuck=ended.set, stuck_seconds=1.0)
    original = Consumer.take

    async def take(self: Consumer, limit: int, seconds: float) -> object:
        await original(self, limit, seconds)
        return {}

    monkeypatch.setattr(Consumer, "take", take)
    carry(carrier, reached=ended.is_set)


def test_an_offset_of_another_cluster_says_nothing(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    append(log, 20)
    publish(log, broker.bootstrap)
    carry_all(inbox, make_carrier, 20)
    make_log.as_owner("routing", "UPDATE carried SET cluster = 'another'", "DELETE FROM inbox WHERE position > 3")
    carrier = make_carrier(inbox)
    carry(carrier, reached=lambda: len(heard(inbox)) == 20)
    assert heard(inbox) == stored(log)


def test_the_trace_context_comes_along(broker: Kafka, make_log: MakeLog, make_carrier: MakeCarrier) -> None:
    log, inbox = make_log("issues"), make_log("routing")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    send_rows(broker.bootstrap, [replace(row, trace=trace) for row in append(log, 1)])
    carry_all(inbox, make_carrier, 1)
    assert inbox.query("SELECT trace FROM inbox") == [(trace,)]
