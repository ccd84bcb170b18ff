"""A running system for the golden scenarios, in each form; modules with a clock or rules of their own start another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.full_form import Form, Seeded
from tests.golden.play import Play, playing


@pytest.fixture(scope="package")
def play(form: Form, seeded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A system with the reference data alone, its clock at the start, and the acts of its offices."""
    with seeded.running(form, tmp_path_factory.mktemp("golden") / "data") as system, playing(system) as acts:
        yield acts
