"""Databases on the session's PostgreSQL for tests of what only that form has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local_servers import Postgres
from shared.runtime.databases import Databases
from tests.places import on_postgresql


@pytest.fixture
def databases(postgres: Postgres, tmp_path: Path) -> Iterator[Databases]:
    """Databases of this test alone."""
    with on_postgresql(postgres, tmp_path) as made:
        yield made
