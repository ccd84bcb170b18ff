"""Carrier, reactions and views over real files: in order, once, and no key holds up another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from shared.contracts.envelope import Event, _types, register
from shared.decider import Refused
from shared.runtime import follow
from shared.runtime.codec import slot_of
from shared.runtime.databases import Databases
from shared.runtime.declare import Act, Facts, Reactions, Recorded, Service, Wait
from shared.runtime.follow import NeighbourCarrier, ReactionFollower
from shared.runtime.hosted import Hosted, wait_idle
from shared.runtime.jobs import PARKED_ROWS, Insert, Unread
from shared.runtime.log_database import OtherVersion, Unavailable
from shared.runtime.parked import listed, replay, shown
from shared.runtime.relay import new_epoch
from tests.places import as_owner, plan
from tests.runtime.ledger import EntryMade, entry
from tests.runtime.pair import COPIES, Stepped, copy_all, copying, pair

Opened = Callable[..., Stepped]


@pytest.fixture
def opened(place: Databases) -> Iterator[Opened]:
    """Opens both services with a reaction."""
    made: list[Stepped] = []

    def open_(services: tuple[Service, Service] | None = None) -> Stepped:
        made.append(Stepped(place, services or pair()))
        return made[-1]

    yield open_
    for one in made:
        one.close()


def in_other_slot(name: str) -> str:
    """A ledger whose slot is another one."""
    return next(f"other-{n}" for n in range(99) if slot_of(f"other-{n}") != slot_of(name))


# The carrier


def test_the_carrier_carries_in_order_and_ignores_repeats(opened: Opened) -> None:
    system = opened()
    system.make(*((f"ledger-{n % 5}", f"text {n}") for n in range(20)))
    system.carry()
    carried = system.mirror.log.inbox("TRUE ORDER BY seq")
    assert [row.position for row in carried] == list(range(1, 21))
    stored = system.source.log.after(0)
    assert [(row.raw, row.slot, row.prev) for row in carried] == [(row.raw, row.slot, row.prev) for row in stored]
    again = NeighbourCarrier(system.mirror.log, [system.source.log])
    again._carried["routing"] = 0  # as one that has forgotten how far it came
    while again.step():
        pass
    assert [row.seq for row in system.mirror.log.inbox("TRUE ORDER BY seq")] == [row.seq for row in carried]


def test_a_new_carrier_goes_on_where_the_inbox_ends(opened: Opened) -> None:
    system = opened()
    system.make(("a", "one"))
    system.carry()
    system.make(("a", "two"))
    assert NeighbourCarrier(system.mirror.log, [system.source.log]).step()
    system.react()
    assert system.copies("a") == ("one", "two")


# The chain


def take_out(system: Stepped, position: int) -> Unread:
    """Remove one record from the inbox, as if it had never come."""
    (row,) = system.mirror.log.inbox("position = ?", position)
    as_owner(system.mirror, "DELETE FROM inbox WHERE position = ?", (position,))
    return row


def count(system: Stepped, ledger: str) -> int:
    """How many entries of a ledger the view shows."""
    store = system.mirror.store
    with store.read() as db:
        table = store.tables(COPIES, store.pointer(db, COPIES)[0])["count"]
        return db.execute(select(table.c.made).where(table.c.ledger == ledger)).scalar() or 0


def test_a_hole_in_the_chain_stops_that_slot_only_and_closes_when_the_record_comes(opened: Opened) -> None:
    system, other = opened(), in_other_slot("a")
    system.make(("a", "one"), ("a", "two"), (other, "1"), ("a", "three"), (other, "2"))
    system.carry()
    missing = take_out(system, 2)
    system.react(2)
    system.fold()
    assert system.copies("a") == ("one",)
    assert system.copies(other) == ("1", "2")
    assert (count(system, "a"), count(system, other)) == (1, 2)
    system.mirror.log.submit(Insert("routing", (missing,))).result(5)
    system.react(2)
    system.fold()
    assert system.copies("a") == ("one", "two", "three")
    assert count(system, "a") == 3
    assert system.states() == ["done"] * 5


def test_a_hole_is_closed_after_a_restart_too(opened: Opened) -> None:
    system = opened()
    system.make(("a", "one"), ("a", "two"), ("a", "three"))
    system.carry()
    missing = take_out(system, 2)
    system.react()
    system.reactions.reload()
    system.mirror.log.submit(Insert("routing", (missing,))).result(5)
    system.reactions.reload()
    system.react()
    assert system.copies("a") == ("one", "two", "three")


def test_more_than_a_page_behind_a_hole_does_not_stop_the_views_other_slots(opened: Opened) -> None:
    """The views read the inbox in pages of 500: a hole must not end the reading there."""
    system, other = opened(pair(None)), in_other_slot("a")
    system.make(("a", "one"), ("a", "two"))
    system.carry()
    missing = take_out(system, 1)
    head = system.mirror.log.inbox("position = 2")[0]
    # The same record under later positions of the other slot: the views only look at chain and fold.
    row, prev = head, 0
    made = []
    for position in range(3, 1203):
        made.append(
            Unread("routing", row.epoch, position, slot_of(other), prev, other, row.type, None, _entry(system, other))
        )
        prev = position
    system.mirror.log.submit(Insert("routing", tuple(made))).result(30)
    for _ in range(3):
        system.fold()
    assert (count(system, "a"), count(system, other)) == (0, 1200)
    system.mirror.log.submit(Insert("routing", (missing,))).result(5)
    for _ in range(3):
        system.fold()
    assert (count(system, "a"), count(system, other)) == (2, 1200)
    assert system.mirror.progress.views["copies"]["inbox", 0, -1] == 1203


_bytes: dict[str, bytes] = {}


def _entry(system: Stepped, ledger: str) -> bytes:
    if ledger not in _bytes:
        system.make((ledger, "filler"))
        _bytes[ledger] = system.source.log.select("key = ?", ledger)[0].raw
    return _bytes[ledger]


# Exactly once


def test_two_followers_on_the_same_files_answer_each_event_once(opened: Opened) -> None:
    system = opened()
    system.make(*((f"ledger-{n % 3}", f"text {n}") for n in range(60)))
    system.carry()
    second = Hosted(system.mirror.service, system.place)
    other = ReactionFollower(second.service, second.log, second.reacting)
    gate = threading.Barrier(2)
    faults: list[BaseException] = []

    def follow_on(follower: ReactionFollower) -> None:
        try:
            gate.wait(10)
            while follower.step() or "waiting" in system.states():
                pass
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=follow_on, args=(one,)) for one in (system.reactions, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.stop()
    assert faults == []
    for ledger in range(3):
        assert system.copies(f"ledger-{ledger}") == tuple(f"text {n}" for n in range(60) if n % 3 == ledger)
    assert system.states() == ["done"] * 60


def test_the_second_follower_takes_over_where_the_first_has_stopped(opened: Opened) -> None:
    """It has not seen what the first one answered: that is a hole to it until it looks at the marks again."""
    system = opened()
    second = ReactionFollower(system.mirror.service, system.mirror.log, system.mirror.reacting)
    system.make(("a", "one"), ("a", "two"))
    system.carry()
    system.react()
    system.make(("a", "three"))
    system.carry()
    for _ in range(3):
        second.step()
    assert system.copies("a") == ("one", "two", "three")


def test_a_row_behind_one_that_another_follower_has_parked_is_parked_too(place: Databases) -> None:
    """Own events have no chain of positions: order in the key is kept by looking under the lock."""
    tried: list[str] = []
    first = replace(pair(None)[0], reactions=Reactions())
    first.reactions.on(EntryMade)(failing_on({"one"}, tried))
    Hosted.migrate(first, place)
    hosted, other = Hosted(first, place), Hosted(first, place)
    try:
        followers = [ReactionFollower(one.service, one.log, one.reacting) for one in (hosted, other)]
        hosted.submit(entry("a", "one"), "id-one", "one")
        for _ in range(follow.TRIES + 1):
            followers[0].step()
        hosted.submit(entry("a", "two"), "id-two", "two")
        hosted.submit(entry("b", "three"), "id-three", "three")
        for _ in range(3):
            followers[1].step()
        states = hosted.log.query("SELECT key, state FROM inbox ORDER BY seq")
        assert states == [("a", "parked"), ("a", "parked"), ("b", "done")]
    finally:
        hosted.stop()
        other.stop()


def test_parked_rows_are_found_by_their_index(opened: Opened) -> None:
    """Else each look would read the whole inbox."""
    log = opened().mirror.log
    assert "inbox_held" in plan(log, f"SELECT key, MIN(seq) FROM inbox WHERE {PARKED_ROWS} GROUP BY key")


def test_several_acts_of_one_event_are_one_write(opened: Opened) -> None:
    def twice(heard: Recorded, facts: Facts) -> Sequence[Act]:
        assert isinstance(heard.data, EntryMade)
        return [copying(heard, heard.data.text, facts, ordinal) for ordinal in (0, 1, 2)]

    system = opened(pair(twice))
    system.make(("a", "one"))
    system.carry()
    batches: list[int] = []
    system.mirror.log.on_commit.append(lambda batch: batches.append(len(batch.events)))
    system.react()
    assert [count for count in batches if count] == [3]
    assert [system.copies(name) for name in ("a", "a.1", "a.2")] == [("one",)] * 3


def test_acts_of_which_one_is_refused_store_nothing(opened: Opened) -> None:
    def half(heard: Recorded, facts: Facts) -> Sequence[Act]:
        return [copying(heard, "fine", facts), copying(heard, "forbidden", facts, 1)]

    system = opened(pair(half))
    system.make(("a", "one"))
    system.carry()
    system.react()
    assert system.copies("a") == ()
    assert system.states() == ["refused"]


def test_an_event_without_reaction_is_done(opened: Opened) -> None:
    system = opened(pair(None))
    system.make(("a", "one"))
    system.carry()
    system.react()
    assert system.states() == ["done"]


# Refused


def test_a_refused_reaction_is_marked_and_the_key_goes_on(opened: Opened) -> None:
    system = opened()
    system.make(("a", "forbidden"), ("a", "two"))
    system.carry()
    system.react()
    assert system.states() == ["refused", "done"]
    assert system.mirror.log.query("SELECT error FROM inbox ORDER BY seq")[0][0] == "L-2: That cannot be copied."
    assert system.copies("a") == ("two",)


def test_a_refused_reaction_leaves_the_fact_that_its_service_declares(opened: Opened) -> None:
    def note(heard: Recorded, facts: Facts, refusal: Refused) -> Sequence[Act]:
        return [copying(heard, f"refused by {refusal.rule}", facts)]

    system = opened(pair(refused=note))
    system.make(("a", "forbidden"), ("a", "two"))
    system.carry()
    system.react()
    assert system.states() == ["refused", "done"]
    assert system.copies("a") == ("refused by L-2", "two")


# Waiting


def test_a_new_epoch_without_events_leaves_the_system_idle(opened: Opened) -> None:
    """After a restore: what is stored up to there is answered in the epoch that it was stored in."""
    system = opened()
    system.make(("a", "one"))

    def come_to_rest() -> None:
        system.carry()
        system.react()
        system.fold()

    come_to_rest()
    both = [system.source, system.mirror]
    assert wait_idle(both, 1)
    system.source.log.epoch = new_epoch(system.source.log)
    assert wait_idle(both, 1)
    system.make(("a", "two"))
    assert not system.mirror.is_idle(both)
    come_to_rest()
    assert wait_idle(both, 1)


def waiting_for(open_gates: set[str]) -> Any:
    """A reaction that lacks a fact until its ledger's gate is open."""

    def reaction(heard: Recorded, facts: Facts) -> Sequence[Act]:
        if heard.key not in open_gates:
            raise Wait("the gate")
        return copy_all(heard, facts)

    return reaction


def test_a_missing_fact_holds_its_key_in_order_while_other_keys_go_on(opened: Opened) -> None:
    gates = {"b"}
    system = opened(pair(waiting_for(gates)))
    system.make(("a", "one"), ("b", "1"), ("a", "two"), ("b", "2"))
    system.carry()
    system.react(3)
    assert system.states() == ["waiting", "done", "waiting", "done"]
    gates.add("a")
    system.react(2)
    assert system.copies("a") == ("one", "two")
    assert system.states() == ["done"] * 4


def test_a_database_that_goes_while_a_key_waits_leaves_nothing_behind(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark was not stored and nothing could be read: what was in memory must not be believed afterwards."""
    gates: set[str] = set()
    system = opened(pair(waiting_for(gates)))
    system.make(("a", "one"), ("a", "two"))
    system.carry()
    log = system.mirror.log

    def gone(*_: Any) -> Any:
        raise Unavailable("the server is down")

    with monkeypatch.context() as down:
        down.setattr(log, "submit", gone)
        down.setattr(log, "marks", gone)
        for _ in range(2):
            with pytest.raises(Unavailable):
                system.reactions.step()
    gates.add("a")
    system.make(("a", "three"))
    system.carry()
    system.react(2)
    assert system.copies("a") == ("one", "two", "three")
    assert system.states() == ["done"] * 3
    assert log.marks() == {
        ("routing", system.source.log.epoch, slot): p for slot, p in system.source.log.heads().items()
    }


def test_what_waits_is_found_again_after_a_restart(opened: Opened) -> None:
    gates: set[str] = set()
    system = opened(pair(waiting_for(gates)))
    system.make(("a", "one"), ("a", "two"))
    system.carry()
    system.react(2)
    gates.add("a")
    system.reactions = ReactionFollower(system.mirror.service, system.mirror.log, system.mirror.reacting)
    system.react()
    assert system.copies("a") == ("one", "two")


def test_a_key_that_waited_too_long_is_parked_in_order(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = {"b"}
    system = opened(pair(waiting_for(gates)))
    system.make(("a", "one"), ("b", "1"), ("a", "two"))
    system.carry()
    system.react(2)
    monkeypatch.setattr(follow, "WAIT_SECONDS", -1.0)
    system.react()
    assert system.states() == ["parked", "done", "parked"]
    system.make(("a", "three"), ("b", "2"))
    system.carry()
    system.react()
    assert system.states() == ["parked", "done", "parked", "parked", "done"]
    causes = [one["cause"] for one in listed(system.place, system.services)]
    assert causes[0].endswith("the gate")
    assert causes[1:] == ["behind a parked event of the same key"] * 2


# Failing, parked, given back


def failing_on(texts: set[str], tried: list[str]) -> Any:
    """A reaction with a fault for some texts."""

    def reaction(heard: Recorded, facts: Facts) -> Sequence[Act]:
        assert isinstance(heard.data, EntryMade)
        tried.append(heard.data.text)
        if heard.data.text in texts:
            raise RuntimeError("a fault")
        return copy_all(heard, facts)

    return reaction


def test_a_failing_event_is_tried_and_then_its_key_is_parked_in_order(opened: Opened) -> None:
    tried: list[str] = []
    system = opened(pair(failing_on({"two"}, tried)))
    system.make(("a", "one"), ("a", "two"), ("b", "1"), ("a", "three"), ("b", "2"))
    system.carry()
    system.react(follow.TRIES + 2)
    assert tried.count("two") == follow.TRIES
    assert "three" not in tried
    assert system.states() == ["done", "parked", "done", "parked", "done"]
    assert system.copies("b") == ("1", "2")


def test_parked_events_are_listed_and_shown_without_the_acting_subject(opened: Opened) -> None:
    system = opened(pair(failing_on({"one"}, [])))
    system.make(("a", "one"), ("a", "two"))
    system.carry()
    system.react(4)
    first, second = listed(system.place, system.services)
    assert [first[name] for name in ("where", "state", "key", "type")] == ["reactions", "parked", "a", "EntryMade"]
    assert first["cause"] == "RuntimeError: a fault"
    assert second["cause"] == "behind a parked event of the same key"
    told = shown(system.place, system.services, first["id"])
    assert told is not None
    assert told["event"]["data"] == {"text": "one"}
    assert told["event"]["actor"]["office"] == "test.desk"
    assert "u-test" not in str(told)
    assert shown(system.place, system.services, "mirror/reactions/routing:1:99") is None


def test_parked_events_given_back_make_it_whole(opened: Opened) -> None:
    faults = {"one", "1"}
    system = opened(pair(failing_on(faults, [])))
    system.make(("a", "one"), ("b", "1"), ("a", "two"), ("b", "2"))
    system.carry()
    system.react(4)
    assert system.states() == ["parked"] * 4
    faults.clear()
    assert replay(system.place, system.services, "a").given_back == 2
    system.react(2)
    assert system.states() == ["done", "parked", "done", "parked"]
    assert replay(system.place, system.services).given_back == 2
    system.react(2)
    assert (system.copies("a"), system.copies("b")) == (("one", "two"), ("1", "2"))
    assert listed(system.place, system.services) == []


def test_given_back_while_the_fault_lasts_they_are_parked_again(opened: Opened) -> None:
    system = opened(pair(failing_on({"one"}, [])))
    system.make(("a", "one"), ("a", "two"))
    system.carry()
    system.react(4)
    replay(system.place, system.services)
    system.react(5)
    assert system.states() == ["parked", "parked"]


def test_what_comes_between_giving_back_and_looking_again_does_not_park_the_key_anew(opened: Opened) -> None:
    faults = {"one"}
    system = opened(pair(failing_on(faults, [])))
    system.make(("a", "one"))
    system.carry()
    system.react(4)
    faults.clear()
    replay(system.place, system.services)
    system.make(("a", "two"))
    system.carry()
    system.react(2)
    assert system.copies("a") == ("one", "two")


def test_a_view_parks_a_failing_event_in_order_and_folds_it_when_given_back(opened: Opened) -> None:
    broken = [True]

    def fold(db: Any, tables: Any, recorded: Recorded) -> None:
        if broken and getattr(recorded.data, "text", "") == "two":
            raise RuntimeError("a fault in the fold")
        COPIES.fold(db, tables, recorded)

    system = opened(pair(None, views=(replace(COPIES, fold=fold),)))
    system.make(("a", "one"), ("a", "two"), ("b", "1"), ("a", "three"), ("b", "2"))
    system.carry()
    system.fold()
    assert (count(system, "a"), count(system, "b")) == (1, 2)
    assert [(one["where"], one["position"]) for one in listed(system.place, system.services)] == [
        ("copies", 2),
        ("copies", 4),
    ]
    still = replay(system.place, system.services)
    assert still == (2, 2)
    broken.clear()
    done = replay(system.place, system.services)
    assert done == (2, 0)
    assert count(system, "a") == 3
    assert listed(system.place, system.services) == []


def test_a_folder_without_our_files_is_named(place: Databases) -> None:
    with pytest.raises(OtherVersion, match="mirror"):
        listed(place, pair()[1:])
    with pytest.raises((OtherVersion, Unavailable), match="mirror"):
        place.log("mirror")


# A type of a later release


class LaterFact(Event):
    """What a later release stores."""

    type: Any = "LaterFact"
    text: str


def as_later(system: Stepped, position: int) -> None:
    """The inbox row as a later release's event would come."""

    def change(cursor: Any) -> None:
        (raw,) = cursor.execute("SELECT raw FROM inbox WHERE position = ?", (position,)).fetchone()
        later = raw.replace(b'"type":"EntryMade"', b'"type":"LaterFact"')
        cursor.execute("UPDATE inbox SET type = 'LaterFact', raw = ? WHERE position = ?", (later, position))

    system.mirror.log.run(change)


def test_an_unknown_type_is_kept_and_read_again_after_an_upgrade(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = pair()
    system = opened(services)
    system.make(("a", "one"), ("a", "two"))
    system.carry()
    as_later(system, 1)
    system.react()
    system.fold()
    assert system.states() == ["unknown", "done"]
    assert [one["state"] for one in listed(system.place, system.services)] == ["unknown"]
    # The upgrade: the type is declared, and there is a reaction to it.
    monkeypatch.delitem(_types, "LaterFact", raising=False)
    register(LaterFact, "routing")
    try:
        services[1].reactions.by_type["LaterFact"] = lambda heard, facts: [copying(heard, "later", facts)]
        assert replay(system.place, system.services).given_back == 1
        system.react(2)
        assert system.states() == ["done", "done"]
        assert system.copies("a") == ("two", "later")
    finally:
        del _types["LaterFact"]


# All of it running


def test_running_all_is_carried_answered_and_folded_once(place: Databases) -> None:
    services = pair()
    for service in services:
        Hosted.migrate(service, place)
    hosted = [Hosted(service, place) for service in services]
    for one in hosted:
        one.start(hosted)
    try:
        system = Stepped.__new__(Stepped)
        system.source, system.mirror, system._made = hosted[0], hosted[1], 0
        system.make(*((f"ledger-{n % 4}", f"text {n}") for n in range(80)))
        assert wait_idle(hosted, 30)
        for ledger in range(4):
            assert system.copies(f"ledger-{ledger}") == tuple(f"text {n}" for n in range(80) if n % 4 == ledger)
            assert count(system, f"ledger-{ledger}") == 20
    finally:
        for one in hosted:
            one.stop()
