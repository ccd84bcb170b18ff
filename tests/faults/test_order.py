"""Two who do the same work, a rebuild that is killed, a database put back: order and epochs hold."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import httpx
import psycopg
import pytest

from services.walk import RAISER
from tests.faults.load import SUGGESTION, suggest
from tests.faults.system import BOUND, Disturbed, bound, until
from tests.kafka.driving import saved

pytestmark = pytest.mark.faults
Tell = Callable[[str], None]


# R10


def test_R10_a_zombie_relay_beside_its_successor(thin: Disturbed, tell: Tell) -> None:
    log, rounds, publications = thin.service("issues").log, 50, 0
    names = ["issues-relay", thin.full.add("issues", "relay").name]
    thin.full.wait_ready(names, seconds=BOUND)
    with thin.load("R10", 2, suggest) as load:
        for _ in range(rounds):
            holder = _holder(thin)
            other = next(name for name in names if name != holder)
            thin.full.process(holder).freeze()
            # Whatever it has under way is published when it wakes: by then another has gone on.
            before = saved(log)
            until(lambda other=other: _holder(thin) == other, f"{other} does not take over")  # type: ignore[misc]
            until(lambda before=before: saved(log) > before, "the successor publishes nothing")  # type: ignore[misc]
            thin.full.process(holder).thaw()
            publications += 1
        tally = load.stop()

    found = thin.assert_clean()
    tell(f"R10: {publications} relays frozen, succeeded and woken; {tally.text()}; {found.events} events")


def _holder(system: Disturbed) -> str:
    rows = system.service("issues").log.query("SELECT holder FROM lease WHERE name = 'relay'")
    return str(rows[0][0])


# R19


def test_R19_views_rebuilt_under_traffic_and_killed_twice(thin: Disturbed, tell: Tell) -> None:
    failed, reads, killed, rebuilt = [0], [0], 0, []
    with thin.load("R19", 3) as load, thin.load("R19", 1, _reading(reads, failed)) as reading:
        until(lambda: len(load.tally.walks) >= 3, "no walks")
        for view in ("issues/register", "routing/itinerary", "meetings/waiting_list"):
            for _ in range(2):
                killed += _killed_rebuild(thin, view)
            rebuilt += json.loads(thin.maru("rebuild", view))
        load.stop()
        reading.stop()

    found = thin.assert_clean()
    same = sum(row["checksum"] == row["old_checksum"] for row in rebuilt)
    tell(
        f"R19: {killed} rebuilds killed, {len(rebuilt)} done, {same} with the old content; {reads[0]} reads meanwhile, "
        f"{failed[0]} failed; {load.tally.text()}; {found.events} events"
    )
    assert same == len(rebuilt)
    assert failed[0] == 0
    assert killed == 2 * len(rebuilt)


def _reading(reads: list[int], failed: list[int]) -> Callable[..., None]:
    def read(client: object, tally: object) -> None:
        from tests.faults.load import Client

        assert isinstance(client, Client)
        for office, path in (
            (f"{RAISER}.officer", "/v1/issues"),
            ("planning-group.secretary", "/v1/work-queue"),
            ("council-gangwon.secretary", "/v1/waiting-list?body=council-gangwon"),
        ):
            answer = client.send(office, "GET", path)
            reads[0] += 1
            failed[0] += answer.status_code >= 400

    return read


def _killed_rebuild(system: Disturbed, view: str) -> bool:
    """A rebuild killed in its middle: held there, so that it is not over before."""
    fuses = system.on_fuses()
    return fuses.command("rebuild", "rebuild: mid-way", 1, "rebuild", view, "--data", str(system.full.folder), env={})


# R21


def test_R21_one_services_database_put_back_to_the_past(own: Disturbed, tell: Tell) -> None:
    """By the procedure of docs/operating.md: alarm, refusal, ``maru epoch new``; what was lost is lost and said so."""
    with own.load("R21", 2, once=True) as load:
        load.wait()
    assert own.opened.idle()
    parts = [f"issues-{kind}" for kind in ("gateway", "relay", "follower")]
    _without(own, parts, 'CREATE DATABASE "maru_issues_then" TEMPLATE "maru_issues"')
    with own.load("R21", 1, suggest) as load:
        until(lambda: load.tally.acknowledged >= 10, "no load")
        load.stop()
    assert own.opened.idle()
    # What the clients were told since is lost by the restore: no audit can hold it against the system.
    own.journals.clear()

    _without(
        own,
        parts,
        'DROP DATABASE "maru_issues"',
        'ALTER DATABASE "maru_issues_then" RENAME TO "maru_issues"',
        up=False,
    )
    started = time.monotonic()
    own.full.process("issues-relay").bring_up()
    until(lambda: "TopicAhead" in _readiness(own), "the relay does not refuse")
    alarm = time.monotonic() - started
    metrics = httpx.get(f"{own.full.processes['issues-relay']}/metrics", timeout=10).text
    own.reopen()
    position = saved(own.service("issues").log)
    epoch = json.loads(own.maru("epoch", "new", "issues"))["epoch"]
    own.reopen()
    for name in parts[:1] + parts[2:]:
        own.full.process(name).bring_up()
    own.full.process("issues-relay").kill()
    own.full.wait_ready(seconds=BOUND)
    with own.client("R21") as client:
        for _ in range(10):
            raised = client.office(f"{RAISER}.officer").post("/v1/issues", SUGGESTION)
            client.office("planning-group.secretary").get(f"/v1/cases/{raised.id}")

    found = own.assert_clean()
    told = ", ".join(f"{one.where}: {one.count} {one.what}" for one in found.reported)
    tell(f"R21: alarm in {alarm:.1f} s, epoch {epoch}; {told}; {found.events} events")
    assert "maru_relay_refused" in metrics
    assert position <= own.service("issues").log.last_position()
    assert alarm <= bound(10)


def _readiness(system: Disturbed) -> str:
    try:
        return httpx.get(f"{system.full.processes['issues-relay']}/readyz", timeout=5).text
    except httpx.HTTPError:
        return ""


def _without(system: Disturbed, parts: list[str], *statements: str, up: bool = True) -> None:
    """Run statements on the server while nobody is connected to the database of issues."""
    for name in parts:
        system.full.process(name).keep_down()
    with psycopg.connect(system.full.postgres.url(), autocommit=True) as db:
        for statement in statements:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'maru_issues%' "
                "AND pid <> pg_backend_pid()"
            )
            db.execute(statement.encode())
    if up:
        for name in parts:
            system.full.process(name).bring_up()
        system.full.wait_ready(parts, seconds=BOUND)
