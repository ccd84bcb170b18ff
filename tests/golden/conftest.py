"""A running system for each golden module: its clock, its rules and its cases are its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.__main__ import SERVICES
from services.audit import audit
from shared.runtime import settings
from shared.runtime.system import opened
from shared.runtime.verify import verify
from tests.golden.play import Play


@pytest.fixture(scope="module")
def play(seeded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A system with the reference data alone, served on a free port, and the acts of its offices.

    When the module is done the folder is audited: whatever the scenarios did, every promise was kept.
    """
    folder = tmp_path_factory.mktemp("golden") / "data"
    shutil.copytree(seeded_folder, folder)
    with opened(SERVICES, settings.load(data=folder, port=0)) as system:
        system.serve()
        with Play(system) as acts:
            yield acts
            acts.settle()
    promises, bytes_ = audit(folder, None, None), verify(folder, [service.name for service in SERVICES], quiet)
    assert promises.exit_code == 0, promises.sentence()
    assert bytes_.clean, bytes_.sentence()


def quiet(done: int, total: int) -> None:
    """Nobody watches the progress."""
