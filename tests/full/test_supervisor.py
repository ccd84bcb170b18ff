"""The supervisor: what ends is started again and said so, what is kept down stays down, all logs come together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services import supervisor as supervising
from services.full import NAMES, State, databases_of
from services.local_processes import LocalProcess, ServerFailed, is_free, lives, spawn
from services.supervisor import Logs, Supervisor
from shared.runtime.web import CannotStart


class Shell(LocalProcess):
    """A process of any kind: what the shell is told."""

    def __init__(self, name: str, command: str, folder: Path) -> None:
        super().__init__()
        self.name, self.command = name, command
        self.log = folder / f"{name}.jsonl"
        self.started = 0

    def start(self) -> None:
        with self._lock:
            if self.command == "fails":
                raise ServerFailed("as told")
            if not self.running:
                self.started += 1
                self.process = spawn(["/bin/sh", "-c", self.command], self.log, self.log.parent, os.environ)


SLEEPS = "exec sleep 600"


def until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "the state did not come"
        time.sleep(0.01)


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def supervisor(told: list[tuple[str, str]]) -> Iterator[Supervisor]:
    made = Supervisor(lambda name, what: told.append((name, what)))
    yield made
    made.stop()


def added(supervisor: Supervisor, folder: Path, name: str = "one", command: str = SLEEPS) -> supervising.Supervised:
    process = Shell(name, command, folder)
    if command != "fails":
        process.start()
    return supervisor.add(process)


def test_a_killed_process_is_started_again(supervisor: Supervisor, tmp_path: Path) -> None:
    one = added(supervisor, tmp_path)
    first = one.pid
    one.kill()
    until(lambda: one.pid not in (None, first))
    assert one.restarts == 1


def test_what_ended_and_runs_again_is_told(supervisor: Supervisor, tmp_path: Path, told: list[tuple[str, str]]) -> None:
    added(supervisor, tmp_path).kill()
    until(lambda: len(told) == 2)
    assert told == [("one", "was killed by SIGKILL; it is started again in 0.1 s"), ("one", "runs again")]


def test_a_process_that_ends_by_itself_is_told_with_its_code(
    supervisor: Supervisor, tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    added(supervisor, tmp_path, command="exit 3")
    until(lambda: bool(told))
    assert told[0] == ("one", "ended with code 3; it is started again in 0.1 s")


def test_a_process_that_ends_again_and_again_is_started_ever_more_seldom(
    supervisor: Supervisor, tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    added(supervisor, tmp_path, command="exit 1")

    def pauses() -> list[str]:
        return [what.rpartition(" in ")[2] for _, what in told if " in " in what]

    until(lambda: len(pauses()) >= 4)
    assert pauses()[:4] == ["0.1 s", "0.2 s", "0.4 s", "0.8 s"]


def test_a_process_that_has_run_steadily_is_started_again_soon(
    supervisor: Supervisor, tmp_path: Path, told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "STEADY_SECONDS", 0.0)
    one = added(supervisor, tmp_path)
    for _ in range(2):
        before = one.pid
        one.kill()
        until(lambda pid=before: one.pid not in (None, pid))  # type: ignore[misc]
        until(lambda: one.pause == supervising.PAUSES[0])
    assert [what for _, what in told if "0.2" in what] == []


def test_a_start_that_fails_is_told_and_tried_again(
    supervisor: Supervisor, tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    one = added(supervisor, tmp_path, command="fails")
    until(lambda: ("one", "did not start: as told") in told)
    assert isinstance(one.process, Shell)
    one.process.command = SLEEPS
    until(lambda: one.running)


def test_what_is_kept_down_stays_down_until_it_is_brought_up(supervisor: Supervisor, tmp_path: Path) -> None:
    one, other = added(supervisor, tmp_path), added(supervisor, tmp_path, "other")
    one.keep_down()
    other.kill()
    # The other one has been started again: the supervisor has looked at both.
    until(lambda: other.restarts == 1 and other.running)
    assert not one.running
    one.bring_up()
    assert one.running
    assert one.restarts == 0


def test_a_frozen_process_is_left_alone_and_goes_on_when_thawed(supervisor: Supervisor, tmp_path: Path) -> None:
    one, other = added(supervisor, tmp_path), added(supervisor, tmp_path, "other")
    pid = one.pid
    one.freeze()
    other.kill()
    until(lambda: other.restarts == 1 and other.running)
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    one.thaw()
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S")
    assert one.pid == pid


def test_nothing_is_left_after_a_stop(supervisor: Supervisor, tmp_path: Path) -> None:
    kinds = {
        "obeys": SLEEPS,
        "has a child": "sleep 600 & wait",
        "comes and goes": "exit 1",
        "frozen": SLEEPS,
    }
    found = {name: added(supervisor, tmp_path, name, command) for name, command in kinds.items()}
    until(lambda: len(found["has a child"].process.pids()) == 2)
    found["frozen"].freeze()
    pids = [pid for one in found.values() for pid in one.process.pids()]
    supervisor.stop()
    until(lambda: not any(lives(pid) for pid in pids))
    assert not any(one.running for one in found.values())


def test_who_does_not_obey_is_killed(supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.local_processes.STOP_SECONDS", 0.2)
    one = added(supervisor, tmp_path, command="trap '' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: one.process.log.read_text() == "ready\n")
    supervisor.stop()
    assert not one.running


def test_the_last_are_stopped_after_all_others(supervisor: Supervisor, tmp_path: Path) -> None:
    """A process that writes what still runs when it ends."""
    database = added(supervisor, tmp_path, "database")
    note = tmp_path / "note"
    command = f"trap 'kill -0 {database.pid} && echo served > {note}; exit' TERM; echo on; while :; do sleep 0.02; done"
    service = added(supervisor, tmp_path, "service", command)
    until(lambda: service.process.log.read_text() == "on\n")
    supervisor.stop(last=["database"])
    assert note.read_text() == "served\n"


def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    """A child of a process that is killed hears nothing of it but its own end."""
    program = (
        "import os, pathlib, sys, time\n"
        "from services.local_processes import spawn\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "print(spawn(['/bin/sleep', '600'], folder / 'log', folder, os.environ).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert lives(pid)
        os.kill(parent.pid, signal.SIGKILL)
    until(lambda: not lives(pid))


# Logs


def lines(logs: Logs) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logs.path.read_text().splitlines()]


def test_all_logs_come_together_with_the_names_of_the_processes(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "logs")
    for name in ("one", "two"):
        logs.add(name, tmp_path / f"{name}.jsonl")
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"event": f"from {name}"}) + "\n")
    logs.close()
    assert lines(logs) == [{"process": "one", "event": "from one"}, {"process": "two", "event": "from two"}]


def test_what_is_no_json_comes_as_a_line(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "logs")
    logs.add("server", tmp_path / "server.log")
    (tmp_path / "server.log").write_bytes(b"LOG: \xff ready\n7\n")
    logs.close()
    assert lines(logs) == [{"process": "server", "line": "LOG: \ufffd ready"}, {"process": "server", "line": "7"}]


def test_a_line_comes_whole_or_not_yet(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "logs")
    file = tmp_path / "one.jsonl"
    logs.add("one", file)
    file.write_text('{"event": "a"}\n{"eve')
    until(lambda: len(lines(logs)) == 1)
    with file.open("a") as more:
        more.write('nt": "b"}\n')
    logs.close()
    assert [line["event"] for line in lines(logs)] == ["a", "b"]


def test_what_was_there_before_is_not_told_again(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"event": "of yesterday"}\n')
    logs = Logs(tmp_path / "logs")
    logs.add("one", tmp_path / "one.jsonl")
    logs.close()
    assert lines(logs) == []


def test_what_the_supervisor_says_is_there_too(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "logs")
    logs.say("one", "was killed by SIGKILL")
    logs.close()
    (line,) = lines(logs)
    assert (line["process"], line["about"], line["event"]) == ("supervisor", "one", "was killed by SIGKILL")


def test_a_log_that_has_grown_great_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "ROTATE_BYTES", 10)
    (tmp_path / "one.jsonl").write_text("x" * 11)
    Logs(tmp_path).close()
    assert (tmp_path / "one.jsonl.1").exists()
    assert not (tmp_path / "one.jsonl").exists()


# What a folder keeps


def test_a_folder_keeps_its_ports_and_secrets(tmp_path: Path) -> None:
    first = State(tmp_path)
    first.choose_ports(None)
    first.save()
    second = State(tmp_path)
    second.choose_ports(None)
    assert (second.ports, second.passwords, second.cursor_key) == (first.ports, first.passwords, first.cursor_key)


def test_its_secrets_are_nobody_elses_to_read(tmp_path: Path) -> None:
    State(tmp_path).save()
    assert (tmp_path / "full.json").stat().st_mode & 0o777 == 0o600


def test_every_service_has_a_password_of_its_own(tmp_path: Path) -> None:
    assert len(set(State(tmp_path).passwords.values())) == 4


def test_no_two_processes_get_one_port(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.choose_ports(None)
    assert len(set(state.ports.values())) == len(NAMES)


def test_a_port_taken_meanwhile_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.choose_ports(None)
    before = dict(state.ports)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", before["issuer"]))
        holder.listen()
        state.choose_ports(None)
    assert [name for name in NAMES if state.ports[name] != before[name]] == ["issuer"]


def test_ports_from_a_number_upwards_are_those_or_none(tmp_path: Path) -> None:
    state = State(tmp_path)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        with pytest.raises(CannotStart, match=f"Port {taken} is taken") as caught:
            state.choose_ports(taken)
    assert caught.value.code == 3
    assert is_free(taken)


def test_each_service_sees_its_database_alone_through_its_own_role(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.choose_ports(None)
    found = databases_of(tmp_path, state)
    urls = {name: found.url_of(name) for name in state.passwords}
    assert all(
        url == f"postgresql://maru_{name}:{state.passwords[name]}@127.0.0.1:{state.ports['postgres']}/maru_{name}"
        for name, url in urls.items()
    )
    assert found.admin is None
