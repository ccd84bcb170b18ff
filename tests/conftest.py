"""What tests of several folders start from: databases, and running systems in both forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local_servers import Postgres
from shared.runtime import logs
from shared.runtime.databases import Databases
from tests.full_form import FORMS, Form, Seeded
from tests.places import on_postgresql

TOGETHER = frozenset({"deploy", "golden", "http", "faults", "kafka", "observer", "full", "email", "cli", "kill"})
"""Folders whose files share a system or a broker: one worker runs all of each, one after the other."""
LONG_ON_FULL = frozenset(
    {"test_02_solved_on_site", "test_03_divergence", "test_beside_the_path", "test_tier_and_rule_by_data"}
    | {"test_bad_input", "test_stored_text"}
)
"""Files whose run on the full form belongs to the long lane, ``make faults``: the ordinary one must end in time."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what stays together when two workers share the suite, and what is left to the long lane."""
    for item in items:
        folder = item.path.parent.name
        item.add_marker(pytest.mark.xdist_group(folder if folder in TOGETHER else str(item.path)))
        called = getattr(item, "callspec", None)
        if called is not None and called.params.get("form") == "full" and item.path.stem in LONG_ON_FULL:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    logs.configure("error")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A real PostgreSQL for the session. What a crash would lose is no matter here; the fault tests start their own."""
    server = Postgres(tmp_path_factory.mktemp("postgres"), settings={"fsync": "off"})
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Databases]:
    """Databases of this test alone: the same expectations hold on both."""
    if request.param == "sqlite":
        yield Databases(tmp_path)
    else:
        with on_postgresql(request.getfixturevalue("postgres"), tmp_path) as databases:
            yield databases


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    """Data folders with the reference data, their clock at the start; what systems start from."""
    return Seeded(tmp_path_factory.mktemp("seeded"))


@pytest.fixture(scope="session")
def seeded_folder(seeded: Seeded) -> Path:
    """A data folder of the embedded form; copied, never used itself."""
    return seeded.embedded


@pytest.fixture(scope="session", params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    """Both forms, one after the other: the same expectations hold on both."""
    found: Form = request.param
    return found
