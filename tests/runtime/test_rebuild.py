"""Views are built anew beside the old ones and swapped, while others read, write and fold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Integer, String, func, inspect, select

from shared.runtime import rebuild
from shared.runtime.commands import derived_id
from shared.runtime.databases import Databases
from shared.runtime.declare import Named, Recorded, Tables, View
from shared.runtime.hosted import Hosted, wait_idle
from shared.runtime.log import decode
from shared.runtime.parked import listed
from shared.runtime.rebuild import CannotRebuild, RebuildRunning, Rebuilt, build_new_versions, checksum
from shared.runtime.views import ViewStore, fold_prefix, upsert
from tests.places import as_owner
from tests.runtime.ledger import entry
from tests.runtime.pair import COPIES, ENTRIES, Stepped, pair, publish, shifted


@pytest.fixture
def system(place: Databases) -> Iterator[Stepped]:
    """Both services with 60 entries in 5 ledgers, carried, copied and folded."""
    made = Stepped(place, pair())
    made.make(*((f"ledger-{number % 5}", f"text {number}") for number in range(60)))
    made.carry()
    made.react()
    made.fold()
    yield made
    made.close()


def again(hosted: Hosted, view: View, told: Any = lambda done, total: None) -> Rebuilt:
    """A rebuild with files of its own, as another process would do it."""
    log = hosted.databases.log(hosted.name)
    store = hosted.databases.views(hosted.name)
    try:
        return rebuild.rebuild(log, store, view, told)
    finally:
        log.close()
        store.close()


def current(hosted: Hosted, view: View) -> str:
    with hosted.store.read() as db:
        return checksum(db, hosted.store.tables(view, hosted.store.pointer(db, view)[0]))


def of_all(hosted: Hosted, view: View) -> str:
    """The content that the pure fold gives over log and inbox."""
    heard = [decode(row) for row in hosted.log.inbox("source <> ? ORDER BY seq", hosted.name)]
    own = [decode(row) for row in hosted.log.after(0, 100_000)] if hosted.name in view.sources else []
    db, tables = fold_prefix(view, [*own, *heard])
    try:
        return checksum(db, tables)
    finally:
        db.close()
        db.engine.dispose()


def generations(hosted: Hosted, view: View) -> set[str]:
    with hosted.store.read() as db:
        return {name for name in inspect(db).get_table_names() if name.startswith(view.name + "_g")}


def test_a_rebuilt_view_has_the_same_content_and_the_old_tables_are_gone(system: Stepped) -> None:
    told: list[tuple[int, int]] = []
    before = current(system.mirror, COPIES)
    done = again(system.mirror, COPIES, lambda *one: told.append(one))
    assert (done.old_generation, done.generation, done.events) == (1, 2, 120)
    assert (
        done.old_checksum == done.checksum == before == current(system.mirror, COPIES) == of_all(system.mirror, COPIES)
    )
    assert generations(system.mirror, COPIES) == {"copies_g2_entry", "copies_g2_count"}
    assert told[-1] == (120, 120)


def test_the_follower_goes_on_in_the_new_generation(system: Stepped) -> None:
    again(system.mirror, COPIES)
    system.make(("ledger-0", "after the rebuild"))
    system.carry()
    system.react()
    for _ in range(3):
        system.fold()
    assert current(system.mirror, COPIES) == of_all(system.mirror, COPIES)
    assert system.mirror.progress.views["copies"]["mirror", 0, -1] == 61


def test_a_rebuild_goes_as_far_as_the_old_view_and_no_further(system: Stepped) -> None:
    """So that both can be compared; the follower goes on from there."""
    system.make(*((f"ledger-{number % 5}", f"late {number}") for number in range(30)))
    system.carry()
    before = current(system.mirror, COPIES)
    done = again(system.mirror, COPIES)
    assert done.old_checksum == done.checksum == before
    system.react()
    for _ in range(3):
        system.fold()
    assert current(system.mirror, COPIES) == of_all(system.mirror, COPIES)


def test_pages_of_500_and_an_own_log_far_ahead_of_the_old_view(
    system: Stepped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 7)
    system.make(*((f"ledger-{number % 5}", f"late {number}") for number in range(30)))
    system.carry()
    system.react()  # 30 own events that the old generation has not folded
    done = again(system.mirror, COPIES)
    assert done.old_checksum == done.checksum


class Killed(BaseException):
    """The process is gone: nothing after this line runs."""


@pytest.mark.parametrize("page", [1, 5])
def test_killed_in_the_middle_and_repeated(system: Stepped, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 10)
    before = current(system.mirror, COPIES)
    seen = []

    def told(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == page:
            raise Killed

    with monkeypatch.context() as dead:
        # A killed process does not clean up either.
        dead.setattr(ViewStore, "drop_generation", lambda *_: None)
        with pytest.raises(Killed):
            again(system.mirror, COPIES, told)
    assert {"copies_g2_entry", "copies_g1_entry"} <= generations(system.mirror, COPIES)
    assert current(system.mirror, COPIES) == before
    done = again(system.mirror, COPIES)
    assert done.generation == 3
    assert done.checksum == before
    assert generations(system.mirror, COPIES) == {"copies_g3_entry", "copies_g3_count"}


@pytest.mark.parametrize("point", ["before the commit", "after the commit"])
def test_killed_in_the_swap_and_repeated(system: Stepped, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    before = current(system.mirror, COPIES)
    with monkeypatch.context() as dead:
        dead.setattr(ViewStore, "drop_generation", lambda *_: None)
        if point == "before the commit":

            def die(*_: Any) -> str:
                raise Killed

            dead.setattr(rebuild, "checksum", die)
            with pytest.raises(Killed):
                again(system.mirror, COPIES)
        else:
            again(system.mirror, COPIES)
    assert current(system.mirror, COPIES) == before
    assert len(generations(system.mirror, COPIES)) == 4
    assert build_new_versions(system.mirror.log, system.mirror.store, system.mirror.views) == []
    assert len(generations(system.mirror, COPIES)) == 2
    assert again(system.mirror, COPIES).checksum == before


def test_two_rebuilds_of_one_view_at_once_are_refused(system: Stepped) -> None:
    refused: list[str] = []

    def told(done: int, total: int) -> None:
        if not refused:
            with pytest.raises(RebuildRunning) as second:
                again(system.mirror, COPIES)
            refused.append(str(second.value))

    again(system.mirror, COPIES, told)
    assert refused == ["The view copies is being rebuilt by another process."]


def test_a_rebuild_that_would_go_back_leaves_the_old_view(system: Stepped) -> None:
    as_owner(system.mirror, "DELETE FROM inbox WHERE position = 30")
    before = current(system.mirror, COPIES)
    with pytest.raises(CannotRebuild, match="no longer reach"):
        again(system.mirror, COPIES)
    assert current(system.mirror, COPIES) == before
    assert generations(system.mirror, COPIES) == {"copies_g1_entry", "copies_g1_count"}


def test_readers_never_fail_nor_go_back_while_traffic_and_rebuilds_run(
    place: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 50)
    services = pair()
    for service in services:
        Hosted.migrate(service, place)
    hosted = [Hosted(service, place) for service in services]
    source, mirror = hosted
    for one in hosted:
        one.start(hosted)
    ended = threading.Event()
    faults: list[BaseException] = []
    seen: list[int] = []

    def write() -> None:
        try:
            for number in range(200):
                source.submit(entry(f"ledger-{number % 9}", f"text {number}"), derived_id("made", number), "asked")
        except BaseException as error:
            faults.append(error)

    def read() -> None:
        try:
            while not ended.is_set():
                with mirror.store.read() as db:
                    table = mirror.store.tables(COPIES, mirror.store.pointer(db, COPIES)[0])["count"]
                    seen.append(db.execute(select(func.coalesce(func.sum(table.c.made), 0))).scalar_one())
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    try:
        for thread in threads:
            thread.start()
        done: list[Rebuilt] = []
        while threads[0].is_alive() or len(done) < 2:
            done.append(again(mirror, COPIES))
        threads[0].join()
        assert wait_idle(hosted, 30)
        done.append(again(mirror, COPIES))
        ended.set()
        threads[1].join()
        assert faults == []
        assert seen == sorted(seen)
        assert seen[-1] == 200
        assert all(one.old_checksum == one.checksum for one in done)
        assert done[-1].checksum == current(mirror, COPIES) == of_all(mirror, COPIES)
        assert done[-1].events == 400
    finally:
        ended.set()
        for one in hosted:
            one.stop()


def _by_length(named: Named) -> None:
    named.table("length", Column("ledger", String, primary_key=True), Column("letters", Integer))


def _fold_length(db: Connection, tables: Tables, recorded: Recorded) -> None:
    text = getattr(recorded.data, "text", None)
    if text is not None:
        upsert(db, tables["length"], {"ledger": recorded.id, "letters": len(text)})


def test_a_new_version_is_built_before_the_service_is_ready(system: Stepped, place: Databases) -> None:
    """Other tables, other sources: what a release brings. Nothing is migrated by hand."""
    system.close()
    changed = View("copies", 2, ("routing",), _by_length, _fold_length)
    service = replace(pair()[1], views=(changed,))
    Hosted.migrate(service, place)
    hosted = Hosted(service, place)
    try:
        hosted.start([hosted])
        with hosted.store.read() as db:
            generation, version = hosted.store.pointer(db, changed)
            rows = db.execute(select(func.count()).select_from(hosted.store.tables(changed, generation)["length"]))
            assert (generation, version, rows.scalar_one()) == (2, 2, 60)
        assert generations(hosted, changed) == {"copies_g2_length"}
    finally:
        hosted.stop()


def test_a_rebuild_folds_again_what_was_parked_in_the_view(place: Databases) -> None:
    broken = [True]

    def fold(db: Connection, tables: Tables, recorded: Recorded) -> None:
        if broken and getattr(recorded.data, "text", "") == "text 10":
            raise RuntimeError("a fault in the fold")
        COPIES.fold(db, tables, recorded)

    view = replace(COPIES, fold=fold)
    made = Stepped(place, pair(views=(view,)))
    try:
        made.make(*((f"ledger-{number % 5}", f"text {number}") for number in range(30)))
        made.carry()
        made.react()
        made.fold()
        held = [(one["where"], one["position"]) for one in listed(place, made.services)]
        assert ("copies", 11) in held
        # Folded once more with the fault still there: parked once more, under the view's own name.
        again(made.mirror, view)
        assert [(one["where"], one["position"]) for one in listed(place, made.services)] == held
        broken.clear()
        again(made.mirror, view)
        assert listed(place, made.services) == []
        assert current(made.mirror, view) == of_all(made.mirror, COPIES)
    finally:
        made.close()


def test_the_fold_over_a_prefix_in_memory_gives_the_rows_of_that_case(system: Stepped) -> None:
    """What ``as_of`` and ``known_at`` will answer from."""
    rows = [decode(row) for row in system.source.log.select("key = ? ORDER BY position", "ledger-3")]
    db, tables = fold_prefix(ENTRIES, rows)
    try:
        store = system.source.store
        with store.read() as views:
            stored = store.tables(ENTRIES, store.pointer(views, ENTRIES)[0])
            for name in ("entry", "count"):
                there = views.execute(select(stored[name]).where(stored[name].c.ledger == "ledger-3")).all()
                assert sorted(db.execute(select(tables[name])).all()) == sorted(there)
                assert there
    finally:
        db.close()
        db.engine.dispose()
    db, tables = fold_prefix(ENTRIES, rows[:4])
    try:
        assert db.execute(select(tables["count"].c.made)).scalar_one() == 4
    finally:
        db.close()
        db.engine.dispose()


def test_the_checksum_knows_content_only(system: Stepped) -> None:
    rows = [decode(row) for row in system.source.log.after(0)]
    turned = sorted(rows, key=lambda row: (row.stream, row.position))
    made = []
    for events in (rows, turned, rows[:-1]):
        db, tables = fold_prefix(ENTRIES, events)
        made.append(checksum(db, tables))
        db.close()
        db.engine.dispose()
    assert made[0] == made[1] != made[2]


def test_the_directory_is_rebuilt_as_any_other_view(system: Stepped) -> None:
    system.source.submit(publish("clock", shifted(3600.0)), "clock", "clock")
    system.carry()
    system.fold()
    done = again(system.mirror, system.mirror.views[0])
    assert done.old_checksum == done.checksum
    assert system.mirror.directory().clock_offset.total_seconds() == 3600
