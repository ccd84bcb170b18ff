"""Full systems for the fault tests: real PostgreSQL, real Kafka, a process for each part; and what they counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.system import Disturbed, disturbed
from tests.full_form import Seeded

_TOLD = pytest.StashKey[list[str]]()


@pytest.fixture(scope="package")
def shared_system(seeded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disturbed]:
    """One full system for the tests that disturb it one after the other and leave it whole."""
    with disturbed(seeded, tmp_path_factory.mktemp("faults")) as system:
        yield system


@pytest.fixture
def thin(shared_system: Disturbed) -> Disturbed:
    """The shared system, every process of it ready."""
    shared_system.restore()
    return shared_system


@pytest.fixture
def own(seeded: Seeded, tmp_path: Path) -> Iterator[Disturbed]:
    """A full system for this test alone."""
    with disturbed(seeded, tmp_path) as system:
        yield system


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says what a test counted, in one line: at once, and again at the end of the session."""

    def telling(line: str) -> None:
        print(line)
        request.config.stash.setdefault(_TOLD, []).append(line)

    return telling


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What the fault tests counted."""
    lines = config.stash.get(_TOLD, [])
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)
