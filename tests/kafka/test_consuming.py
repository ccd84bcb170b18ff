"""The example of ``docs/consuming.md`` as another team runs it: its own process, nothing of ours, a real broker."""

from __future__ import annotations

import ast
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from services.local_servers import Kafka
from shared.runtime.kafka import Outgoing
from shared.runtime.records import to_record
from shared.runtime.settings import ROOT
from tests.kafka.driving import send, until
from tests.kafka.test_records import golden, row

EXAMPLE = ROOT / "docs/examples/consume.py"
PAGE = (ROOT / "docs/consuming.md").read_text("utf-8")


def raised(number: int, *, key: int = 0, kind: str = "IssueRaised", version: int = 1) -> Outgoing:
    """The record of an event of a case, as the relay publishes it."""
    document = golden("IssueRaised")
    document |= {
        "event_id": f"01857a3c-2e80-7000-8000-{number:012d}",
        "type": kind,
        "schema_version": version,
        "case_id": f"case-{key}",
        "data": {**document["data"], "title": f"건의 {number}"},
    }
    return to_record(row(document, position=number, prev=number - 1))


class Team:
    """Another team: a database, and the example's process, which may die at any time."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self._env = {**os.environ, "KAFKA": bootstrap, "DATABASE": str(folder / "team.db")}
        self._folder = folder

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """The example runs, from a folder that is not ours; killed at the end."""
        command = [sys.executable, "-I", str(EXAMPLE)]
        process = subprocess.Popen(
            command, cwd=self._folder, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def kept(self) -> list[tuple[str, str]]:
        """What it keeps: case and title, in the order of its coming."""
        return self._asked("SELECT case_id, title FROM suggestion ORDER BY rowid")

    def seen(self) -> int:
        """How many different events it has seen."""
        return len(self._asked("SELECT source, id FROM seen"))

    def _asked(self, query: str) -> list[tuple[str, str]]:
        try:
            with closing(sqlite3.connect(self._env["DATABASE"])) as db:
                return db.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []


def test_the_example_keeps_every_fact_once_from_the_beginning_through_repeats_and_a_kill(
    broker: Kafka, tmp_path: Path
) -> None:
    first = [raised(number, key=number % 5) for number in range(1, 41)]
    send(broker.bootstrap, [*first, raised(41, kind="IssueClosed"), raised(42, kind="OfALaterRelease", version=7)])
    team = Team(broker.bootstrap, tmp_path)
    with team.running():
        until(lambda: team.seen() == 42)
    # The relay repeats its last page after a crash, and everything after Kafka was lost; then something new comes.
    send(broker.bootstrap, [*first[20:], *first, *(raised(number, key=number % 5) for number in range(43, 51))])
    with team.running():
        until(lambda: team.seen() == 50)
    kept = team.kept()
    assert sorted(kept) == sorted((f"case-{n % 5}", f"건의 {n}") for n in [*range(1, 41), *range(43, 51)])
    for key in range(5):
        numbers = [int(title.removeprefix("건의 ")) for case, title in kept if case == f"case-{key}"]
        assert numbers == sorted(numbers), "order within a key"


def test_the_example_stops_before_a_version_that_it_does_not_know_and_loses_nothing(
    broker: Kafka, tmp_path: Path
) -> None:
    send(broker.bootstrap, [raised(1), raised(2, version=2), raised(3)])
    team = Team(broker.bootstrap, tmp_path)
    for _ in range(2):
        with team.running() as process:
            _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "maru.issues.IssueRaised.v2: a version that this program cannot read" in said
        assert team.kept() == [("case-0", "건의 1")]
        assert team.seen() == 1


def test_the_example_imports_nothing_of_ours() -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(EXAMPLE.read_text("utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"aiokafka"}


@pytest.mark.parametrize("file", sorted((ROOT / "docs/examples").iterdir()), ids=lambda file: file.name)
def test_the_page_shows_the_examples_as_they_are(file: Path) -> None:
    assert file.read_text("utf-8").strip() in PAGE
