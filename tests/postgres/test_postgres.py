"""What only PostgreSQL has: rights of roles, the plan of tailing reads, tables made by many at once, a lost reply."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from services.__main__ import SERVICES
from services.local_processes import free_port
from services.local_servers import Postgres
from shared.runtime.databases import Databases
from shared.runtime.hosted import Hosted
from shared.runtime.jobs import Insert, Write
from shared.runtime.leases import Leases
from shared.runtime.log import EventLog
from shared.runtime.log_database import COLUMNS, Misconfigured, Unavailable
from shared.runtime.postgres_log import WRITE_SECONDS, PostgresDatabase, connect
from shared.runtime.settings import BadSetting
from shared.runtime.views import Readings
from tests.cli.program import maru, one_clear_line
from tests.places import on_postgresql, plan
from tests.proxy import Proxy
from tests.runtime.ledger import claimed, new_log, prepared
from tests.runtime.pair import Stepped, pair
from tests.runtime.test_follow import count, in_other_slot, take_out, waiting_for


def filled(databases: Databases, count: int = 3) -> EventLog:
    log = new_log(databases)
    for number in range(count):
        log.submit(Write((prepared(log, f"key-{number % 7}", f"text {number}", f"id-{number}"),))).result(10)
    return log


# Rights


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET key = 'other'",
        "DELETE FROM stored_events",
        "TRUNCATE stored_events",
        "DROP TABLE stored_events",
        "ALTER TABLE stored_events DISABLE TRIGGER ALL",
        "BEGIN; LOCK TABLE stored_events IN EXCLUSIVE MODE",
        "CREATE INDEX mine ON stored_events (key)",
        "UPDATE command SET content_hash = ''",
        "DELETE FROM command",
        "UPDATE epochs SET after_position = 0",
        "CREATE TABLE log.mine (a integer)",
        "CREATE TABLE public.mine (a integer)",
    ],
)
def test_a_service_may_only_insert_and_select_on_its_events(databases: Databases, statement: str) -> None:
    log = filled(databases)
    try:
        with (
            connect(str(databases.url_of("ledger")), "log") as db,
            pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName)),
        ):
            db.execute(statement.encode())
        assert len(log.after(0)) == 3
    finally:
        log.close()


def test_a_service_reaches_no_other_services_database(databases: Databases) -> None:
    new_log(databases, "ledger").close()
    new_log(databases, "other").close()
    own = urlsplit(str(databases.url_of("ledger")))
    foreign = own._replace(path=urlsplit(str(databases.url_of("other"))).path).geturl()
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        connect(foreign, "log")


# What migrate says where it cannot


def test_migrate_without_a_server_is_one_clear_line(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    env = {
        "MARU_DATABASE": f"postgresql://{{service}}:secret@{nowhere}/{{service}}",
        "MARU_DATABASE_ADMIN": f"postgresql://owner:secret@{nowhere}/postgres",
    }
    done = maru("migrate", "--data", tmp_path, env=env)
    assert done.returncode == 8
    assert one_clear_line(done.stderr, ["A database does not answer", "refused"]), done.stderr
    assert "secret" not in done.stderr


def test_an_owner_that_may_not_make_databases_is_named(databases: Databases) -> None:
    assert databases.admin is not None
    new_log(databases, "ledger").close()
    with pytest.raises(BadSetting, match=r"MARU_DATABASE_ADMIN.*permission denied"):
        replace(databases, admin=databases.url_of("ledger")).migrate(SERVICES[0])


# The library


def test_the_librarys_stored_function_refuses_to_start(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_ENABLE_DB_FUNCTIONS", "y")
    with pytest.raises(Misconfigured, match="POSTGRES_ENABLE_DB_FUNCTIONS"):
        PostgresDatabase(str(databases.url_of("ledger")))


def test_the_librarys_recorder_reads_the_log_and_appends_nothing(databases: Databases) -> None:
    log = filled(databases, 10)
    try:
        database: Any = log.database
        recorder = database.recorder()
        assert recorder.max_notification_id() == 10
        assert [one.id for one in recorder.select_notifications(4, 3)] == [4, 5, 6]
        assert [bytes(one.state) for one in recorder.select_events("Ledger/key-1")] == [
            row.raw for row in log.select("key = 'key-1' ORDER BY position")
        ]
        with pytest.raises(TypeError, match="submit"):
            recorder.insert_events([])
    finally:
        log.close()


# Plans


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("SELECT * FROM stored_events WHERE position > 5 ORDER BY position LIMIT 500", "stored_events_pkey"),
        ("SELECT * FROM inbox WHERE seq > 5 ORDER BY seq LIMIT 500", "inbox_pkey"),
        ("SELECT * FROM inbox WHERE state = 'waiting' AND seq > 5 ORDER BY seq LIMIT 200", "inbox_waiting"),
        (
            "SELECT * FROM stored_events WHERE originator_id = 'a' AND originator_version > 3 "
            "ORDER BY originator_version",
            "originator_id",
        ),
    ],
)
@pytest.mark.parametrize("count", [0, 40])
def test_tailing_reads_use_an_index_on_empty_and_on_filled_tables(
    databases: Databases, statement: str, index: str, count: int
) -> None:
    log = filled(databases, count)
    try:
        found = plan(log, statement)
        assert "Seq Scan" not in found
        assert "Index" in found
        assert index in found
    finally:
        log.close()


# Made by many at once (R24)


def _migrate(databases: Databases, gate: Any) -> None:
    gate.wait(60)
    for service in SERVICES:
        databases.migrate(service)


ROUNDS = 15


def test_R24_six_processes_that_migrate_together_make_no_error(databases: Databases) -> None:
    """Fifteen times; the first on nothing at all, every other one again without databases."""
    context = multiprocessing.get_context("fork")
    for round in range(ROUNDS):
        gate = context.Barrier(6)
        processes = [context.Process(target=_migrate, args=(databases, gate)) for _ in range(6)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * 6, f"round {round}"
        for service in SERVICES:
            databases.log(service.name).close()
        if round % 2:
            _drop(databases)
    print(f"{ROUNDS} rounds of 6 processes, {ROUNDS * 6} migrations of 4 services, no error")


def _drop(databases: Databases) -> None:
    with psycopg.connect(str(databases.admin), autocommit=True) as db:
        for service in SERVICES:
            name = urlsplit(str(databases.url_of(service.name))).path.lstrip("/")
            db.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


# A lost reply


def test_R3_a_commit_whose_reply_is_lost_is_answered_with_the_first_answer(databases: Databases) -> None:
    """The proxy cuts between COMMIT and its reply: the transaction is stored, its client never hears."""
    new_log(databases).close()
    parts = urlsplit(str(databases.url_of("ledger")))
    with Proxy((parts.hostname or "", parts.port or 0)) as proxy:
        through = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}").geturl()
        log = EventLog(PostgresDatabase(through), "ledger")
        cuts, armed = 0, [True]

        def cutting(data: bytes, from_server: bool) -> bool:
            if from_server and b"COMMIT\x00" in data and armed:
                armed.clear()
                return False
            return True

        try:
            for number in range(40):
                armed[:], proxy.watch = [True], cutting
                command = claimed("a", number, f"id-{number}", 1)
                first = log.submit(Write((command,))).result(20)
                assert not armed
                cuts += 1
                again = log.submit(Write((command,))).result(20)
                assert first == again
            assert [row.position for row in log.after(0)] == list(range(1, 41))
        finally:
            proxy.watch = lambda data, from_server: True
            log.close()
    print(f"{cuts} replies cut after the commit, {cuts} first answers given again, 0 doubled")


def test_a_write_that_fails_half_way_leaves_the_writer_able_to_write(databases: Databases) -> None:
    """The statements of a batch travel together: of those behind a failing one the server has prepared none."""
    log = new_log(databases)
    owner = urlsplit(str(databases.admin))._replace(path=urlsplit(str(databases.url_of("ledger"))).path).geturl()

    def write(number: int) -> None:
        log.submit(Write((claimed("a", number, f"id-{number}", 1),))).result(20)

    try:
        for attempt in range(8):
            with psycopg.connect(owner, autocommit=True) as db:
                db.execute("ALTER TABLE log.stored_events ADD CONSTRAINT no_room CHECK (false) NOT VALID")
            with pytest.raises(Unavailable):
                write(attempt)
            with psycopg.connect(owner, autocommit=True) as db:
                db.execute("ALTER TABLE log.stored_events DROP CONSTRAINT no_room")
            write(attempt)
        assert log.last_position() == 8
    finally:
        log.close()


def test_the_connections_of_threads_that_have_ended_are_closed(databases: Databases) -> None:
    log = new_log(databases)
    name = urlsplit(str(databases.url_of("ledger"))).path.lstrip("/")

    def read_and_hint() -> None:
        log.last_position()
        log.database.notify("stored")

    try:
        for _ in range(20):
            thread = threading.Thread(target=read_and_hint)
            thread.start()
            thread.join()
        log.last_position()
        with psycopg.connect(str(databases.admin), autocommit=True) as admin:
            counted = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = %s"
            end = time.monotonic() + 10
            # The writer's, this thread's, and what the last of the threads left. A backend ends a moment later.
            while (number := admin.execute(counted, (name,)).fetchone()) and number[0] > 4:
                assert time.monotonic() < end, number
    finally:
        log.close()


@pytest.mark.parametrize("asked", [False, True])
def test_a_snapshot_whose_server_went_ends_quietly(databases: Databases, asked: bool) -> None:
    """Whoever read in it has what was read; whoever still asks is told, and the next snapshot is a new one."""
    service = SERVICES[0]
    Hosted.migrate(service, databases)
    store = databases.views(service.name)
    try:
        readings = Readings()
        db = readings.db(store)
        with psycopg.connect(str(databases.admin), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (db.engine.url.database,)
            )
        if asked:
            with pytest.raises(OperationalError):
                store.generations(db)
        readings.close()
        assert readings.tables(store, service.views[0])
        readings.close()
    finally:
        store.close()


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[tuple[Postgres, Databases]]:
    """A server of this test's own that writes to the disk late what need not be there: a crash takes it back."""
    server = Postgres(tmp_path / "server", settings={"wal_writer_delay": "10s"})
    server.start()
    try:
        with on_postgresql(server, tmp_path) as made:
            yield server, made
    finally:
        server.stop()


def test_what_a_crash_of_the_server_takes_back_is_done_again_and_once(forgetful: tuple[Postgres, Databases]) -> None:
    """Inbox rows, marks and folds are not flushed by themselves: memory must not be ahead of the database."""
    server, databases = forgetful
    gates = {"b"}
    system = Stepped(databases, pair(waiting_for(gates)))
    mirror = system.mirror
    try:
        system.make(("a", "one"), ("b", "1"))
        system.carry()
        system.react()
        system.fold()
        system.make(("a", "two"), (other := in_other_slot("a"), "lost"))
        system.carry()
        system.react()
        system.fold()
        before = mirror.log.query("SELECT COUNT(*) FROM inbox")[0][0], mirror.log.marks()
        server.kill()
        server.start()
        after = mirror.log.query("SELECT COUNT(*) FROM inbox")[0][0], mirror.log.marks()
        assert after != before, "the crash has taken something back"
        gates |= {"a", other}
        # As the leases do each second: the writer meets its lost connection, and everybody begins anew.
        mirror.log.run(lambda cursor: None)
        system.make(("a", "three"))
        system.carry()
        system.react(3)
        system.fold()
        assert (system.copies("a"), system.copies(other)) == (("one", "two", "three"), ("lost",))
        assert system.states() == ["done"] * 5
        heads = {("routing", system.source.log.epoch, slot): at for slot, at in system.source.log.heads().items()}
        assert mirror.log.marks() == heads
        assert (count(system, "a"), count(system, other), count(system, "b")) == (3, 1, 1)
    finally:
        system.close()


def test_a_fold_whose_commit_was_stored_and_not_answered_is_not_done_twice(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a hole the scan stands still, so that only the slots' marks say what was folded."""
    system, other = Stepped(databases, pair(None)), in_other_slot("a")
    try:
        system.make(("a", "one"), ("a", "two"), (other, "1"), (other, "2"))
        system.carry()
        missing = take_out(system, 1)
        store = system.mirror.store
        write = store.write

        @contextmanager
        def cut() -> Iterator[Connection]:
            with write() as db:
                yield db
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

        with monkeypatch.context() as broken:
            broken.setattr(store, "write", cut)
            with pytest.raises(OperationalError):
                system.mirror.views_follower.step()
        system.fold()
        assert count(system, other) == 2
        system.mirror.log.submit(Insert("routing", (missing,))).result(5)
        system.fold()
        assert (count(system, "a"), count(system, other)) == (2, 2)
    finally:
        system.close()


def test_whoever_freezes_with_the_append_lock_does_not_stop_the_others(databases: Databases) -> None:
    """The server ends a transaction that does nothing, also right after its first statements."""
    new_log(databases).close()
    frozen, log = PostgresDatabase(str(databases.url_of("ledger"))).writer(), databases.log("ledger")
    try:
        frozen.begin(durable=True)
        end = time.monotonic() + 3 * WRITE_SECONDS
        while True:
            try:
                log.submit(Write((claimed("a", 0, "id", 1),))).result(20)
                break
            except Unavailable:
                assert time.monotonic() < end
    finally:
        frozen.close()
        log.close()


def test_a_lock_that_somebody_holds_takes_nothing_back(databases: Databases, postgres: Postgres) -> None:
    """Jobs that build on memory are refused in another life: under a lock held for long nothing would come forward."""
    log = new_log(databases)
    try:
        log.submit(Write((claimed("a", 0, "id-1", 1),))).result(20)
        life, name = log.life, urlsplit(str(databases.url_of("ledger"))).path.lstrip("/")
        with psycopg.connect(postgres.url(name)) as holder:
            holder.execute("LOCK TABLE log.stored_events IN EXCLUSIVE MODE")
            with pytest.raises(Unavailable, match="lock timeout"):
                log.submit(Write((claimed("b", 0, "id-2", 1),), None, life)).result(20)
            assert log.submit(Insert("routing", (), life=life)).result(20) == 0
        log.submit(Write((claimed("b", 0, "id-2", 1),), None, life)).result(20)
    finally:
        log.close()


def test_whoever_is_cut_off_with_the_lock_of_leases_does_not_stop_those_who_append(databases: Databases) -> None:
    """A relay is cut off from its database while it prolongs its lease or notes its position."""
    new_log(databases).close()
    cut_off, log = PostgresDatabase(str(databases.url_of("ledger"))).writer(), databases.log("ledger")
    try:
        cut_off.begin(durable=False, lock="lease")
        log.submit(Write((claimed("a", 0, "id", 1),))).result(20)
        with pytest.raises(Unavailable):
            Leases(log, "other").take("relay")
    finally:
        cut_off.close()
        log.close()


def test_several_processes_may_append_and_the_lock_makes_the_order(databases: Databases) -> None:
    logs = [new_log(databases), databases.log("ledger"), databases.log("ledger")]
    try:
        futures = [
            log.submit(Write((claimed(f"{place}-{number}", 0, f"id-{place}-{number}", 2),)))
            for number in range(50)
            for place, log in enumerate(logs)
        ]
        for future in futures:
            future.result(20)
        assert [row.position for row in logs[0].after(0, 1000)] == list(range(1, 301))
        last: dict[int, int] = {}
        for row in logs[0].after(0, 1000):
            assert row.prev == last.get(row.slot, 0)
            last[row.slot] = row.position
    finally:
        for log in logs:
            log.close()


def test_every_column_of_a_log_is_there_in_both_dialects(databases: Databases) -> None:
    log = new_log(databases)
    try:
        for table, columns in COLUMNS.items():
            assert log.query(f"SELECT {', '.join(columns)} FROM {table}") == [] or table in ("meta", "epochs")
    finally:
        log.close()
