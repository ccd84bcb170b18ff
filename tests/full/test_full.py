"""The full form whole: started, killed in parts, stopped, started again; by the class for tests, and by ``maru``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from services.client import Maru
from services.full import NAMES, FullSystem, is_full, running
from services.local_processes import family, lives
from services.start import prepare_folder
from tests.cli import program
from tests.cli.program import Running, maru, told

pytestmark = pytest.mark.faults
"""In the long lane: servers and whole systems are started again and again here."""

SERVICES = ("issues", "routing", "meetings", "notifications")
BODY = {
    "title": "국도 56호선 선형 개량",
    "text": "급커브 구간의 개량을 건의합니다.",
    "regions": ["gangwon"],
    "raised_by": "org-gangwon-hongcheon",
    "channel": "letter",
    "tags": ["road"],
}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullSystem]:
    """A seeded full system on a folder of its own; the tests of this module kill parts of it and wait for them."""
    with FullSystem(tmp_path_factory.mktemp("full")) as system:
        with system.opened() as services:
            prepare_folder(services)
        system.wait_ready()
        yield system


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cold start, a walk and an audit in one command: on a busy machine longer than other commands may take."""
    monkeypatch.setattr(program, "SECONDS", 300)


def until(what: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "the state did not come"
        time.sleep(0.05)


def raise_issue(urls: dict[str, str]) -> str:
    """An issue raised at one service and read back as a case at another."""
    with Maru(urls, patience=30) as client:
        office = client.office("org-gangwon-hongcheon.officer")
        case = office.post("/v1/issues", BODY).id
        assert office.get(f"/v1/cases/{case}")["case_id"] == case
    return case


def test_every_process_says_that_it_is_ready(full: FullSystem) -> None:
    assert set(full.supervisor.names) == set(NAMES)
    assert {name: httpx.get(f"{url}/readyz").status_code for name, url in full.processes.items()} == dict.fromkeys(
        full.processes, 200
    )


def test_a_case_goes_from_service_to_service(full: FullSystem) -> None:
    raise_issue(full.urls)


def test_it_notes_where_it_runs(full: FullSystem) -> None:
    found = running(full.folder)
    assert found is not None
    assert (dict(found.urls), found.kafka) == (full.urls, full.kafka.bootstrap)


def test_no_password_stands_where_others_may_read(full: FullSystem) -> None:
    secrets = {*full.state.passwords.values(), full.postgres.password, full.state.cursor_key}
    files = [file for file in full.folder.rglob("*") if file.is_file() and file.stat().st_mode & 0o044]
    found = [file for file in files if any(secret in file.read_text(errors="replace") for secret in secrets)]
    assert found == []


def test_a_service_reaches_its_own_database_alone(full: FullSystem) -> None:
    own = full.databases.url_of("issues")
    with psycopg.connect(own) as connection:
        connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(own.rpartition("/")[0] + "/maru_routing")


@pytest.mark.parametrize("name", ["issuer", "issues-gateway", "issues-relay", "routing-follower", "observer"])
def test_a_killed_process_is_ready_again(full: FullSystem, name: str) -> None:
    before = full.process(name).pid
    full.process(name).kill()
    until(lambda: full.process(name).pid not in (None, before))
    full.wait_ready([name])
    raise_issue(full.urls)


@pytest.mark.parametrize("name", ["kafka", "postgres"])
def test_after_a_kill_of_a_server_cases_go_on(full: FullSystem, name: str) -> None:
    before = full.process(name).pid
    full.process(name).kill()
    until(lambda: full.process(name).pid not in (None, before))
    raise_issue(full.urls)
    assert full.idle()


def test_a_second_follower_shares_the_work(full: FullSystem) -> None:
    second = full.add("routing", "follower")
    assert second.name == "routing-follower-2"
    full.wait_ready([second.name])
    full.process("routing-follower").keep_down()
    raise_issue(full.urls)
    full.process("routing-follower").bring_up()


def test_a_second_system_on_the_folder_is_refused(full: FullSystem) -> None:
    done = maru("up", "--full", "--once", "--data", full.folder, "--json")
    assert (done.returncode, told(done)["exit_code"]) == (6, 6)


def test_the_commands_find_the_databases_of_the_folder(full: FullSystem) -> None:
    found = maru("verify", "--data", full.folder, "--json")
    assert found.returncode == 0, found.stdout + found.stderr


def test_topics_can_be_made_again(full: FullSystem) -> None:
    done = maru("topics", "--data", full.folder, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["topic"] for row in told(done)] == [f"maru.{service}.v1" for service in SERVICES]


def test_a_log_can_be_published_again(full: FullSystem) -> None:
    done = maru("republish", "issues", "--data", full.folder, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert full.idle()
    raise_issue(full.urls)


def test_a_service_nobody_knows_is_wrong_usage(full: FullSystem) -> None:
    done = maru("republish", "elsewhere", "--data", full.folder, "--json")
    assert done.returncode == 2


# The program


def test_up_full_walks_audits_stops_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = maru("up", "--full", "--once", "--data", folder, "--json")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr
    assert told(first)["audit"]["exit_code"] == 0
    assert told(first)["walk"]["told"]

    running_again = Running("up", "--full", "--data", folder, "--json")
    try:
        document = running_again.document()
        assert document["suggestions"] == told(first)["suggestions"]
        with Maru(document["urls"]) as client:
            case = client.office("org-gangwon-hongcheon.officer").get(f"/v1/cases/{told(first)['walk']['case_id']}")
        assert case["case_id"] == told(first)["walk"]["case_id"]
        # Ours are forked by a process of their own.
        pids = {pid for child in family(running_again.process.pid) for pid in family(child)}
        assert len(pids) >= len(NAMES) - 2
        assert running_again.stop(signal.SIGINT, seconds=10) == 0
        assert not any(lives(pid) for pid in pids)
    finally:
        running_again.end()


def test_up_full_after_kafka_was_lost_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = maru("up", "--full", "--once", "--data", folder, "--json")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr
    shutil.rmtree(folder / "kafka")

    again = Running("up", "--full", "--data", folder, "--json")
    try:
        document = again.document()
        commands = [line.split() for line in document["failure"].splitlines()[1:]]
        assert commands == [["maru", "republish", service, "--data", str(folder)] for service in SERVICES]
        assert document["walk"] is None
        for command in commands:
            done = maru(*command[1:], "--json")
            assert done.returncode == 0, done.stdout + done.stderr
        # A relay looks again every few seconds.
        until(lambda: maru("audit", "--data", folder, "--json").returncode == 0, seconds=60)
        raise_issue(document["urls"])
        assert again.stop(signal.SIGINT, seconds=10) == 0
    finally:
        again.end()


def _writes_into(process: Path, folder: Path) -> bool:
    """Whether a process has a log of the system on a folder open."""
    try:
        return any(str(entry.readlink()).startswith(str(folder)) for entry in (process / "fd").iterdir())
    except OSError:
        return False


def test_both_forms_do_not_share_a_folder(full: FullSystem, tmp_path: Path) -> None:
    done = maru("up", "--once", "--data", full.folder, "--port", "0", "--json")
    assert done.returncode != 0
    (tmp_path / "issues").mkdir()
    (tmp_path / "issues" / "log.db").touch()
    other = maru("up", "--full", "--once", "--data", tmp_path, "--json")
    assert "embedded" in json.loads(other.stdout)["error"]
    assert not is_full(tmp_path)


def test_nothing_is_left_of_a_start_that_fails(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "kafka").write_text("in the way")
    done = maru("up", "--full", "--once", "--data", folder, "--json")
    assert done.returncode != 0
    assert not [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _writes_into(entry, folder)]
    assert os.path.exists(folder / "logs")
