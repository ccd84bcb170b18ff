"""The program ``maru`` as people meet it: documents for programs, one clear line and a code for what stops it.

One folder is walked, left running, and stopped again; what needs no running system is started two at a time.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import pytest

from services import cli
from services.__main__ import SERVICES
from services.client import Maru
from shared.runtime.system import migrate
from tests.cli.program import Running, maru, one_clear_line, told
from tests.golden.play import OFFICER, SECRETARY

Done = CompletedProcess[str]


@dataclass
class Up:
    """A folder, the first walk on it, and the system that now runs on it with a second."""

    folder: Path
    first: Done
    running: Running
    document: dict[str, Any]

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.document["url"])


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """``maru up --once`` on a new folder, then ``maru up`` on the same one, left running."""
    folder = tmp_path_factory.mktemp("up") / "data"
    first = maru("up", "--once", "--port", "0", "--data", folder, "--fresh", "--json")
    running = Running("up", "--port", "0", "--data", folder, "--json")
    try:
        yield Up(folder, first, running, running.document())
    finally:
        running.end()


@pytest.fixture(scope="module")
def stopped(up: Up) -> Up:
    """The same, after Ctrl-C."""
    up.document["code"] = up.running.stop(signal.SIGINT, 10)
    return up


# While it runs


def test_up_once_walks_and_ends(up: Up) -> None:
    assert up.first.returncode == 0, up.first.stderr
    document = told(up.first)
    assert document["suggestions"] >= 40
    assert document["failure"] is None
    walk = document["walk"]
    assert walk["told"]
    assert walk["policy"]["state"] == "adopted"
    assert walk["notice"]["about_type"] == "CaseLinkedToPolicy"
    assert walk["itinerary"]["outcome"] == "adopted_in_policy"
    assert walk["itinerary"]["opened_at"].startswith("2023-05-08")


def test_up_on_the_same_folder_walks_a_new_case_on_the_business_day(up: Up) -> None:
    first, second = told(up.first)["walk"], up.document["walk"]
    assert up.document["failure"] is None
    assert second["told"]
    assert second["case_id"] != first["case_id"]
    days = {held["from"][:10] for held in second["itinerary"]["holdings"]}
    assert days == {first["itinerary"]["closed_at"][:10]}, "no clock was shifted"
    assert second["itinerary"]["regions"][0]["code"] == "51"
    with Maru(up.url) as client:
        issues = list(client.office(SECRETARY).all("/v1/issues"))
    assert len(issues) == up.document["suggestions"] + 2, "the suggestions went in once"


def test_tour_against_it(up: Up) -> None:
    done = maru("tour", "--url", up.url, "--json")
    assert done.returncode == 0, done.stderr
    document = told(done)
    assert document["walk"]["told"]
    with Maru(up.url) as client:
        case = client.office(OFFICER).get(f"/v1/cases/{document['walk']['case_id']}")
    assert case["stage"] == "R9"


def test_probes_metrics_and_docs_are_served(up: Up) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
        assert httpx.get(up.url + path).status_code == 200, path


@pytest.fixture(scope="module")
def beside(up: Up) -> dict[str, Done]:
    """Commands that are given while it runs, two at a time."""
    port, folder = up.url.rpartition(":")[2], up.folder
    bad = folder.parent / "bad.csv"
    bad.write_text("external_id,title\nX,Y\n", encoding="utf-8")
    rows = folder.parent / "rows.csv"
    row = ',"제목","본문",org-gangwon,42,letter,2022-09-01T09:00:00+09:00\n'
    rows.write_text(
        "external_id,title,text,raised_by,regions,channel,raised_at\n" + "A" + row + "B" + row.replace("42", "51"),
        encoding="utf-8",
    )
    return _all_of(
        {
            "second": lambda: maru("up", "--data", folder, "--port", "0"),
            "port": lambda: maru("up", "--data", folder.parent / "other", "--port", port, "--json"),
            "import": lambda: maru("import", rows, "--url", up.url, "--json"),
            "bad file": lambda: maru("import", bad, "--url", up.url),
            "rebuild": lambda: maru("rebuild", "routing/itinerary", "--data", folder, "--json"),
            "parked list": lambda: maru("parked", "list", "--data", folder, "--json"),
        }
    )


def _all_of(commands: dict[str, Callable[[], Done]]) -> dict[str, Done]:
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands, pool.map(lambda command: command(), commands.values()), strict=True))


def test_exit_3_the_port_is_taken(beside: dict[str, Done], up: Up) -> None:
    done = beside["port"]
    assert (done.returncode, done.stderr) == (3, "")
    port = up.url.rpartition(":")[2]
    assert told(done) == {"error": f"Port {port} on 127.0.0.1 is taken.", "exit_code": 3}


def test_exit_6_a_second_one_on_the_same_folder(beside: dict[str, Done], up: Up) -> None:
    done = beside["second"]
    assert (done.returncode, done.stdout) == (6, "")
    assert one_clear_line(done.stderr, ["Another maru is running", str(up.folder)])


def test_exit_9_refused_rows(beside: dict[str, Done]) -> None:
    assert beside["import"].returncode == 9
    document = told(beside["import"])
    assert (document["total"], document["accepted"]) == (2, 1)
    (row,) = document["refused"]
    assert (row["line"], row["external_id"], row["rule"]) == (3, "B", "I-1")
    assert Path(document["refused_file"]).is_file()


def test_exit_2_a_bad_file(beside: dict[str, Done]) -> None:
    assert beside["bad file"].returncode == 2
    assert one_clear_line(beside["bad file"].stderr, ["bad.csv", "missing column"])


def test_rebuild_and_parked_while_it_runs(beside: dict[str, Done]) -> None:
    (rebuilt,) = told(beside["rebuild"])
    assert rebuilt["view"] == "routing/itinerary"
    assert told(beside["parked list"]) == []
    assert [beside[name].returncode for name in ("rebuild", "parked list")] == [0, 0]


# After Ctrl-C


def test_ctrl_c_ends_it_and_nothing_is_left(stopped: Up) -> None:
    assert stopped.document["code"] == 0
    assert not stopped.running.anything_left()
    assert "Traceback" not in stopped.running.errors
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{stopped.url}/livez")


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    starting = Running("up", "--port", "0", "--data", tmp_path / "data")
    try:
        starting.until("Data ")
        assert starting.stop(signal.SIGINT, 10) == 130
        assert not starting.anything_left()
        assert "Traceback" not in starting.output + starting.errors
    finally:
        starting.end()


@pytest.fixture(scope="module")
def after(stopped: Up, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """Commands on the folder that is in use no more, and on none at all, two at a time."""
    folder, aside = stopped.folder, tmp_path_factory.mktemp("after")
    (aside / "file").write_text("no folder", encoding="utf-8")
    other = aside / "other-version"
    migrate(SERVICES, other)
    _execute(other / "routing" / "log.db", "UPDATE meta SET value = '99' WHERE name = 'schema'")
    flipped = aside / "flipped"
    shutil.copytree(folder, flipped)
    migrate(SERVICES, aside / "quiet")
    _flip(flipped / "meetings" / "log.db")
    secret = {"MARU_PORT": "9", "MARU_CURSOR_KEY": SECRET}
    return _all_of(
        {
            "verify": lambda: maru("verify", "--data", folder, "--json"),
            "audit": lambda: maru("audit", "--data", folder, "--json"),
            "verify flipped": lambda: maru("verify", "--data", flipped),
            "migrate": lambda: maru("migrate", "--data", aside / "new", "--json"),
            "seed": lambda: maru("seed", "--data", folder, "--json"),
            "replay": lambda: maru("parked", "replay", "--data", aside / "quiet", "--json"),
            "config": lambda: maru("config", "--data", aside, "--json", env=secret),
            "generate": lambda: maru("generate", "--check", "--json"),
            "no folder": lambda: maru("up", "--data", aside / "file", "--port", "0"),
            "other version": lambda: maru("seed", "--data", other),
            "bad setting": lambda: maru("up", "--data", aside / "x", env={"MARU_PORT": "abc"}),
            "nobody": lambda: maru("tour", "--url", f"http://127.0.0.1:{_free_port()}"),
            "unknown view": lambda: maru("rebuild", "no-such-view", "--data", flipped),
        }
    )


SECRET = "do-not-show-this"


def _execute(path: Path, statement: str, *parameters: Any) -> None:
    db = sqlite3.connect(path)
    try:
        with db:
            db.execute(statement, parameters)
    finally:
        db.close()


FLIPPED = 12
"""Position of the event of meetings whose byte is changed."""


def _flip(path: Path) -> None:
    """Change one byte in the middle of one stored event, by hand."""
    db = sqlite3.connect(path)
    try:
        (raw,) = db.execute("SELECT state FROM stored_events WHERE position = ?", (FLIPPED,)).fetchone()
        changed = bytearray(raw)
        changed[len(raw) // 2] ^= 1
        with db:
            db.execute("UPDATE stored_events SET state = ? WHERE position = ?", (bytes(changed), FLIPPED))
    finally:
        db.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_verify_and_audit_are_clean_afterwards(after: dict[str, Done]) -> None:
    assert told(after["verify"])["clean"] is True
    document = told(after["audit"])
    assert (document["outcome"], document["first"]) == ("clean", None)
    assert [after[name].returncode for name in ("verify", "audit")] == [0, 0]


@pytest.mark.capability("K2", part="no signed checkpoints kept elsewhere")
def test_a_flipped_byte_is_named(after: dict[str, Done]) -> None:
    assert after["verify flipped"].returncode == 1
    named = [line for line in after["verify flipped"].stdout.splitlines() if line.startswith("meetings log")]
    assert len(named) == 1
    assert f"position {FLIPPED}" in named[0]
    assert "version " in named[0]


@pytest.mark.parametrize("name", ["migrate", "seed", "replay", "config", "generate", "verify", "audit"])
def test_json_of_each_command_parses(after: dict[str, Done], name: str) -> None:
    assert told(after[name]) is not None
    assert "Traceback" not in after[name].stderr


def test_seed_and_migrate_are_safe_to_repeat(after: dict[str, Done]) -> None:
    assert told(after["seed"]) == {"new": 0}
    assert after["seed"].returncode == after["migrate"].returncode == 0
    assert told(after["migrate"])["migrated"] == ["issues", "routing", "meetings", "notifications"]


def test_config_shows_sources_and_masks_secrets(after: dict[str, Done]) -> None:
    rows = {row["name"]: row for row in told(after["config"])}
    assert rows["data"]["source"] == "option"
    assert (rows["port"]["value"], rows["port"]["source"]) == ("9", "environment MARU_PORT")
    assert rows["host"]["source"] == "default"
    assert rows["cursor_key"]["source"] == "environment MARU_CURSOR_KEY"
    assert all(row["meaning"] for row in rows.values())
    assert SECRET not in after["config"].stdout + after["config"].stderr
    assert set(rows["cursor_key"]["value"]) == {"*"}


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("no folder", 4, ["file", "cannot be written"]),
        ("other version", 5, ["another version", "99"]),
        ("bad setting", 7, ["port", "MARU_PORT"]),
        ("nobody", 8, ["maru up"]),
        ("unknown view", 2, ["no-such-view", "routing/itinerary"]),
    ],
)
def test_one_clear_line_and_a_documented_code(after: dict[str, Done], name: str, code: int, words: list[str]) -> None:
    done = after[name]
    assert done.returncode == code, done.stderr
    assert one_clear_line(done.stderr, words), done.stderr
    assert done.stdout == ""


def test_every_exit_code_is_documented() -> None:
    codes = {int(code) for code in re.findall(r"(?:^|· )(\d) ", " ".join((cli.__doc__ or "").splitlines()[2:]))}
    assert codes == set(range(10))
