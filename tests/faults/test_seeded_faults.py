"""The checker is checked: under each seeded fault the audit finds the fault, and without one it finds nothing."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from services import client
from services.client import Problem
from tests.faults.loads import Life, Load, read_again, rebuilt, restored, reviewed, small, two_writers
from tests.faults.seeded import FAULTS, Fault

RUNS = [0, *(pytest.param(number, marks=pytest.mark.faults) for number in range(1, 11))]
"""Ten times in the long lane; once more in every run of the tests: patches reach into what changes."""


@pytest.fixture
def life(seeded_folder: Path, tmp_path: Path) -> Life:
    shutil.copytree(seeded_folder, tmp_path / "data")
    return Life(tmp_path / "data")


@pytest.mark.parametrize("load", [small, reviewed, rebuilt, two_writers, restored, read_again])
def test_without_a_fault_the_audit_finds_nothing(life: Life, load: Load) -> None:
    load(life)
    findings = life.audit()
    assert findings.outcome == "clean", findings.sentence()


@pytest.mark.parametrize("run", RUNS, ids="run{}".format)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_seeded_fault_is_found(life: Life, fault: Fault, run: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "RETRIES", 2)
        fault.plant(patch)
        # The fault may also show to the clients: what they were told is in the journal.
        with suppress(Problem):
            fault.load(life)
    findings = life.audit()
    named = {check.name for check in findings.broken} | ({"not idle"} if findings.outcome == "not idle" else set())
    assert named & fault.found_by, findings.sentence()
