"""The one write path: the same results as the library's recorder called serially, without its gaps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import rfc8785
from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.runtime.codec import GENESIS, canonical, is_sealed, slot_of
from shared.runtime.databases import Databases
from shared.runtime.jobs import IdReused, Lost, Write
from shared.runtime.log import EventLog, decode
from shared.runtime.log_database import OtherVersion
from tests.runtime.ledger import LEDGER, claimed, new_log, prepared


@pytest.fixture
def log(place: Databases) -> Iterator[EventLog]:
    opened = new_log(place)
    yield opened
    opened.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(1, 3)), max_size=40))
def test_one_arrival_sequence_gives_what_the_stock_recorder_gives_serially(
    arrivals: list[tuple[str, int, int]],
) -> None:
    """Each arrival claims a stream and a version read; both recorders accept and refuse the same ones."""
    stock = SQLiteApplicationRecorder(SQLiteDatastore(":memory:", originator_id_type="text"))
    stock.create_table()
    expected = []
    heads: dict[str, int] = {}
    for stream, read, count in arrivals:
        # The stock recorder knows no version read: it refuses versions that exist. A gap is what our own path adds.
        rows = [StoredEvent(f"Ledger/{stream}", read + n, "EntryMade.v1", b"{}") for n in range(1, count + 1)]
        if read > heads.get(stream, 0):
            expected.append(False)
            continue
        try:
            stock.insert_events(rows)
        except IntegrityError:
            expected.append(False)
        else:
            expected.append(True)
            heads[stream] = read + count
    with TemporaryDirectory() as folder:
        log = new_log(Path(folder))
        futures = [
            log.submit(Write((claimed(stream, read, f"c{number}", count),)))
            for number, (stream, read, count) in enumerate(arrivals)
        ]
        wait(futures)
        assert [future.exception() is None for future in futures] == expected
        stored = log.after(0, 1000)
        assert [row.position for row in stored] == list(range(1, len(stored) + 1))
        kept = [(n.originator_id, n.originator_version) for n in stock.select_notifications(1, 1000)]
        assert log.query("SELECT originator_id, originator_version FROM stored_events ORDER BY position") == kept
        log.close()


def test_64_callers_with_one_in_ten_stale_leave_no_gap_and_fail_no_neighbour(log: EventLog) -> None:
    lost: list[str] = []
    failed: list[BaseException] = []

    def caller(number: int) -> None:
        for turn in range(40):
            name = f"own-{number}"
            stale = turn % 10 == 9
            version = turn - turn // 10 - (1 if stale else 0)
            write = Write((claimed(name, version, f"{number}-{turn}", 1),))
            try:
                log.submit(write).result(30)
            except Lost:
                lost.append(f"{number}-{turn}")
            except BaseException as error:
                failed.append(error)

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(64)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert failed == []
    assert len(lost) == 64 * 4
    positions = [row[0] for row in log.query("SELECT position FROM stored_events ORDER BY position")]
    assert positions == list(range(1, 64 * 36 + 1))


def test_I_18_a_repeated_command_id_gets_the_first_answer(log: EventLog) -> None:
    command = prepared(log, "a", "one", "id-1")
    first = log.submit(Write((command,))).result(5)
    again = log.submit(Write((command,))).result(5)
    assert first == again
    assert len(log.after(0)) == 1


def test_I_18_the_same_id_with_other_content_is_refused(log: EventLog) -> None:
    log.submit(Write((prepared(log, "a", "one", "id-1"),))).result(5)
    with pytest.raises(IdReused):
        log.submit(Write((prepared(log, "a", "two", "id-1"),))).result(5)


def test_a_command_that_says_nothing_new_keeps_its_answer_too(log: EventLog) -> None:
    log.submit(Write((prepared(log, "a", "one", "id-1"),))).result(5)
    log.submit(Write((prepared(log, "a", "one", "id-2"),))).result(5)
    answer = log.answered("id-2", "hash of one")
    assert answer is not None
    assert answer.position.endswith(":1")
    assert len(log.after(0)) == 1


def test_I_18_a_stream_that_was_only_read_must_not_have_changed(log: EventLog) -> None:
    log.submit(Write((prepared(log, "read", "one", "id-1"),))).result(5)
    stale = prepared(log, "a", "one", "id-2", reads={"Ledger/read": 0})
    with pytest.raises(Lost):
        log.submit(Write((stale,))).result(5)
    fresh = prepared(log, "a", "one", "id-3", reads={"Ledger/read": 1})
    log.submit(Write((fresh,))).result(5)


def test_a_write_of_several_commands_wins_or_loses_whole(log: EventLog) -> None:
    good, stale = prepared(log, "a", "one", "id-1"), claimed("b", 7, "id-2", 1)
    with pytest.raises(Lost):
        log.submit(Write((good, stale))).result(5)
    assert log.after(0) == []
    assert log.answered("id-1", "hash of one") is None


@pytest.mark.capability("K1")
def test_I_19_every_stream_is_a_chain_from_its_first_event(log: EventLog) -> None:
    for number in range(5):
        log.submit(Write((prepared(log, "a", f"text {number}", f"id-{number}"),))).result(5)
    previous = GENESIS
    for row in log.after(0):
        assert is_sealed(row.raw)
        event = decode(row)
        assert event.envelope.prev_hash == previous
        previous = event.envelope.hash


def test_slots_form_a_chain_of_their_own(log: EventLog) -> None:
    for number in range(40):
        log.submit(Write((prepared(log, f"key-{number % 7}", f"text {number}", f"id-{number}"),))).result(5)
    last: dict[int, int] = {}
    for row in log.after(0):
        assert row.slot == slot_of(row.key)
        assert row.prev == last.get(row.slot, 0)
        last[row.slot] = row.position


def test_a_file_of_another_schema_is_not_opened(place: Databases, log: EventLog) -> None:
    log.run(lambda cursor: cursor.execute("UPDATE meta SET value = '0' WHERE name = 'schema'"))
    with pytest.raises(OtherVersion, match="schema 0"):
        place.log("ledger")


def test_docket_numbers_are_never_used_twice_by_two_processes(place: Databases, log: EventLog) -> None:
    other = place.log("ledger")
    taken: list[int] = []

    def take(source: EventLog) -> None:
        taken.extend(source.next_number("docket-2023") for _ in range(50))

    threads = [threading.Thread(target=take, args=(source,)) for source in (log, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert len(set(taken)) == 100


def test_the_state_is_folded_from_what_is_stored(place: Databases, log: EventLog) -> None:
    for number in range(3):
        log.submit(Write((prepared(log, "a", f"text {number}", f"id-{number}"),))).result(5)
    fresh = place.log("ledger")
    loaded: Any = fresh.load(LEDGER, "a")
    assert (loaded.version, loaded.state.last) == (3, "text 2")
    fresh.close()


def test_closing_refuses_what_comes_later(log: EventLog) -> None:
    command = prepared(log, "a", "one", "id-1")
    log.close()
    future: Future[Any] = log.submit(Write((command,)))
    assert future.exception() is not None


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=20,
    )
)
def test_I_19_canonical_bytes_are_those_of_rfc_8785(value: Any) -> None:
    document = {"value": value}
    try:
        expected = rfc8785.dumps(document)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        return
    assert canonical(document) == expected
