"""The running system, for tests that speak to it over HTTP.

The reference data is loaded once a session, into a folder that every system starts from as a copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.__main__ import SERVICES
from services.client import Maru
from services.start import prepare_folder
from shared.runtime import logs, settings
from shared.runtime.system import System, opened


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    logs.configure("error")


@pytest.fixture(scope="session")
def seeded_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the reference data, its clock at the start; copied, never used itself."""
    folder = tmp_path_factory.mktemp("seeded") / "data"
    with opened(SERVICES, settings.load(data=folder, port=0)) as system:
        prepare_folder(system)
        assert system.idle()
    return folder


@contextmanager
def _serving(seeded: Path, folder: Path) -> Iterator[System]:
    shutil.copytree(seeded, folder)
    with opened(SERVICES, settings.load(data=folder, port=0)) as system:
        system.serve()
        yield system


@pytest.fixture(scope="session")
def system(seeded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One running system for the whole session, on a free port; tests add to it and never count on being alone."""
    with _serving(seeded_folder, tmp_path_factory.mktemp("system") / "data") as running:
        yield running


@pytest.fixture
def fresh_system(seeded_folder: Path, tmp_path: Path) -> Iterator[System]:
    """A running system that nobody has spoken to, for this test alone."""
    with _serving(seeded_folder, tmp_path / "fresh") as running:
        yield running


@pytest.fixture
def maru(system: System) -> Iterator[Maru]:
    """A client of the session's system."""
    with Maru(system.url) as client:
        yield client
