"""PostgreSQL or Kafka frozen, cut off, locked, full: what is answered meanwhile, and that it ends by itself."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from services.full import FullSystem
from services.walk import RAISER
from tests.faults.links import Link, kafka_links
from tests.faults.load import SUGGESTION, suggest
from tests.faults.probe import Probing
from tests.faults.system import BOUND, READY, Disturbed, bound, copied, until
from tests.full_form import Seeded, copy_owned
from tests.kafka.driving import saved

pytestmark = pytest.mark.faults
Tell = Callable[[str], None]
ANSWER = 5.0
"""Within so many seconds every request is answered, 503 where it cannot be done."""
HANG = 10.0


def _resumed(system: Disturbed) -> float:
    """Seconds until a command to each of two services is accepted again."""
    started = time.monotonic()
    with system.client("resumed") as client:
        client.office(f"{RAISER}.officer").post("/v1/issues", SUGGESTION)
    return time.monotonic() - started


def _pause(seconds: float) -> None:
    """Let a fault last."""
    time.sleep(seconds)


# R5


def test_R5_postgresql_frozen_for_30_s(thin: Disturbed, tell: Tell) -> None:
    server = thin.full.process("postgres")
    with thin.load("R5", 2) as load:
        until(lambda: load.tally.acknowledged >= 10, "no load")
        with Probing(thin) as during:
            server.freeze()
            try:
                _pause(30)
            finally:
                server.thaw()
        resumed = _resumed(thin)
        lag = thin.lag()
        tally = load.stop()

    found = thin.assert_clean()
    tell(
        f"R5 frozen: 30 s, {during.seen.text()}; writes resumed {resumed:.1f} s and lag gone {lag:.1f} s after; "
        f"{tally.text()}; {found.events} events"
    )
    assert during.seen.no_retry_after == 0
    assert during.seen.total(500, 502, 504) == 0
    assert during.seen.total(503) > 0
    assert during.seen.dead == 0
    assert during.seen.slowest <= max(HANG, bound(ANSWER))
    assert resumed <= bound(READY)


@pytest.mark.parametrize("how", ["refused", "silent", "one way"])
def test_R5_the_gateway_is_cut_off_from_postgresql(thin: Disturbed, tell: Tell, how: str) -> None:
    with Link(("127.0.0.1", thin.full.postgres.port)) as link, thin.load("R5", 2) as load:
        thin.reroute("issues-gateway", thin.through("issues", link))
        until(lambda: load.tally.acknowledged >= 10, "no load")
        with Probing(thin, "issues") as during:
            if how == "refused":
                link.down()
            elif how == "silent":
                link.swallow(True)
            else:
                link.deaf = True
            _pause(20)
            link.up()
        resumed = _resumed(thin)
        tally = load.stop()
        thin.reroute("issues-gateway", None)

    found = thin.assert_clean()
    tell(
        f"R5 cut off ({how}): 20 s, {during.seen.text()}; writes resumed {resumed:.1f} s after; {tally.text()}; "
        f"{found.events} events"
    )
    assert during.seen.no_retry_after == 0
    assert during.seen.total(500, 502, 504) == 0
    assert during.seen.total(503) > 0
    assert during.seen.dead == 0
    assert during.seen.slowest <= max(HANG, bound(ANSWER))
    assert resumed <= bound(READY)


def test_R5_a_black_hole_for_LISTEN_costs_at_most_2_s(thin: Disturbed, tell: Tell) -> None:
    longest = {}
    with Link(("127.0.0.1", thin.full.postgres.port)) as link:
        for name in ("issues-relay", "routing-follower"):
            thin.reroute(name, thin.through(name.partition("-")[0], link))
        for holed in (False, True):
            link.swallow_listen = holed
            link.cut()
            thin.full.wait_ready(seconds=BOUND)
            with thin.client("R5") as client:
                took = []
                for _ in range(20):
                    started = time.monotonic()
                    raised = client.office(f"{RAISER}.officer").post("/v1/issues", SUGGESTION)
                    client.office("planning-group.secretary").get(f"/v1/cases/{raised.id}")
                    took.append(time.monotonic() - started)
                longest[holed] = max(took[1:])
        for name in ("issues-relay", "routing-follower"):
            thin.reroute(name, None)

    found = thin.assert_clean()
    tell(
        f"R5 LISTEN black-holed: raised and shown elsewhere in {longest[True]:.2f} s at most, "
        f"{longest[False]:.2f} s with it; {found.events} events"
    )
    assert longest[True] - longest[False] <= bound(2)


# R8


@pytest.mark.parametrize("pair", ["relay-kafka", "follower-kafka", "relay-postgres", "follower-postgres"])
def test_R8_partitions(thin: Disturbed, tell: Tell, pair: str) -> None:
    chance, lags = random.Random(pair), []
    names = {"relay": "issues-relay", "follower": "routing-follower"}
    who, _, what = pair.partition("-")
    with thin.load("R8", 2, suggest) as load:
        for link, ends in _links(thin, names, who, what):
            for round in range(5):
                way = ("down", "silent", "deaf", "mute", "flapping")[round]
                _cut(link, way)
                _pause(chance.uniform(2, 12))
                link.up()
                lags.append(thin.lag())
            ends()
        tally = load.stop()

    found = thin.assert_clean()
    tell(
        f"R8 {pair}: {len(lags)} partitions, lag gone in {max(lags):.1f} s at most; {tally.text()}; "
        f"{found.events} events"
    )
    assert tally.unknown + tally.unavailable == 0, "the gateways were never cut off"
    assert max(lags) <= bound(30)


def _links(system: Disturbed, names: dict[str, str], who: str, what: str) -> Iterator[tuple[Link, Callable[[], None]]]:
    if what == "kafka":
        with kafka_links(system, names["relay"], names["follower"]) as links:
            yield (links.relay if who == "relay" else links.follower), lambda: None
    else:
        name = names[who]
        with Link(("127.0.0.1", system.full.postgres.port)) as link:
            system.reroute(name, system.through(name.partition("-")[0], link))
            yield link, lambda: None
            system.reroute(name, None)


def _cut(link: Link, way: str) -> None:
    match way:
        case "down":
            link.down()
        case "silent":
            link.swallow(True)
        case "deaf":
            link.deaf = True
        case "mute":
            link.mute = True
        case _:
            for _ in range(10):
                link.cut()
                _pause(0.2)


# R13


@pytest.fixture(params=["data alone", "data and write-ahead log"])
def small(request: pytest.FixtureRequest, seeded: Seeded, tmp_path: Path) -> Iterator[tuple[Disturbed, Path]]:
    """A full system whose PostgreSQL lies on a file system of its own of 320 MB; and that file system.

    Its server log is elsewhere, so that it tells what happened; its write-ahead log too where ``data alone``.
    """
    data = copied(seeded, tmp_path)
    disk, kept, wal = data / "postgres", tmp_path / "kept", data / "wal"
    disk.rename(kept)
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320m,mode=755", "tmpfs", str(disk)], check=False)
    assert mounted.returncode == 0, "this test needs the right to mount a tmpfs (root)"
    try:
        copy_owned(kept / "cluster", disk / "cluster")
        shutil.copy2(kept / "password", disk / "password")
        (disk / "postgres.log").symlink_to(tmp_path / "postgres.log")
        if request.param == "data alone":
            shutil.rmtree(disk / "cluster" / "pg_wal")
            _open_to_others(tmp_path, data)
            copy_owned(kept / "cluster" / "pg_wal", wal)
            shutil.copystat(kept / "cluster" / "pg_wal", wal)
            os.chown(wal, (kept / "cluster").stat().st_uid, (kept / "cluster").stat().st_gid)
            (disk / "cluster" / "pg_wal").symlink_to(wal)
        with FullSystem(data) as full:
            full.wait_ready(seconds=BOUND)
            system = Disturbed(full, tmp_path, full.opened())
            try:
                yield system, disk
            finally:
                system.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def _open_to_others(folder: Path, data: Path) -> None:
    """Let the user that PostgreSQL runs as pass through to a folder of ours."""
    for path in (data, folder, folder.parent, folder.parent.parent):
        path.chmod(path.stat().st_mode | 0o011)


def _fill(ballast: Path) -> None:
    """Take what is left of a file system that others write to as well."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(64 * 1024)):
            pass


def test_R13_the_disk_of_postgresql_is_full(
    small: tuple[Disturbed, Path], tell: Tell, request: pytest.FixtureRequest
) -> None:
    """Where the write-ahead log has room, reads go on.

    Where it has none, PostgreSQL may end itself (PANIC), and takes no new connection until there is room: then
    everything is 503, and nothing that was acknowledged is lost.
    """
    system, disk = small
    log = system.folder / "postgres.log"
    with system.load("R13", 2, suggest) as load:
        until(lambda: load.tally.acknowledged >= 20, "no load")
        before = load.tally.acknowledged
        _fill(disk / "ballast")
        until(lambda: load.tally.unavailable > 3, "writes are not refused")
        with Probing(system) as during:
            _pause(15)
        acknowledged = load.tally.acknowledged - before
        (disk / "ballast").unlink()
        resumed = _resumed(system)
        lag = system.lag()
        tally = load.stop()

    found = system.assert_clean()
    ended = log.read_text(errors="replace").count("PANIC")
    tell(
        f"R13 {request.node.callspec.id}: full for 15 s, PostgreSQL ended {ended} times, {acknowledged} commands "
        f"acknowledged between, {during.seen.text()}; writes resumed {resumed:.1f} s, lag gone {lag:.1f} s after; "
        f"{tally.text()}; {found.events} events"
    )
    if ended == 0:
        assert during.seen.total(200, method="GET") > 0
        assert during.seen.total(0, 500, 502, 503, 504, method="GET") == 0, "reads keep 200"
    assert request.node.callspec.id != "data alone" or ended == 0
    assert during.seen.total(0, 500, 502, 504) == 0
    assert during.seen.no_retry_after == 0
    assert during.seen.dead == 0
    assert resumed <= bound(READY)


# R17


def test_R17_another_session_holds_the_append_lock(thin: Disturbed, tell: Tell) -> None:
    with closing(psycopg.connect(thin.full.postgres.url("maru_issues"))) as holder:
        holder.execute("LOCK TABLE log.append_lock IN EXCLUSIVE MODE")
        with Probing(thin, "issues") as during:
            _pause(15)
        started = thin.kill("issues-gateway")
        holder.rollback()
    resumed = _resumed(thin)

    found = thin.assert_clean()
    tell(
        f"R17: 15 s held, {during.seen.text()}; a gateway started meanwhile in {started:.1f} s; writes resumed "
        f"{resumed:.1f} s after; {found.events} events"
    )
    assert during.seen.total(503, method="POST") > 0
    assert during.seen.total(200, 201, method="POST") == 0
    assert during.seen.total(0, 500, 502, 503, 504, method="GET") == 0
    assert during.seen.no_retry_after == 0
    assert during.seen.slowest <= bound(ANSWER)
    assert started <= bound(READY)


def test_R8_the_relay_publishes_from_where_it_stood(thin: Disturbed) -> None:
    """After a partition nothing waits for a person: the saved position reaches the end of the log."""
    log = thin.service("issues").log
    with Link(("127.0.0.1", thin.full.postgres.port)) as link:
        thin.reroute("issues-relay", thin.through("issues", link))
        link.down()
        with thin.client("R8") as client:
            client.office(f"{RAISER}.officer").post("/v1/issues", SUGGESTION)
        link.up()
        until(lambda: saved(log) == log.last_position(), "the relay does not go on")
        thin.reroute("issues-relay", None)
    thin.assert_clean()
