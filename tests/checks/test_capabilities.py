"""The capability table: markers name rows that exist, and what this release promises is proven."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from services.capabilities import read_proofs, read_rows, state, states
from shared.runtime.settings import ROOT

PROVEN = [
    *("A1", "A5", "A6", "A12", "B2", "B4", "C1", "C3", "C6", "D1"),
    *("D2", "D3", "D9", "E8", "G1", "G7", "J3", "K1", "L1"),
]
IN_PART = ["A4", "A10", "B1", "C2", "C5", "E6", "E10", "G2", "G3", "J2", "K2", "L6"]


def test_the_table_has_its_92_rows_and_15_firsts() -> None:
    groups = Counter(row.group for row in read_rows(ROOT))
    assert groups["first"] == 15
    assert groups.total() - groups["first"] == 92
    assert len({row.id for row in read_rows(ROOT)}) == groups.total()


def test_every_marker_names_a_row() -> None:
    rows = {row.id for row in read_rows(ROOT)}
    assert [proof for proof in read_proofs(ROOT) if proof.id not in rows] == []


@pytest.fixture(scope="module")
def today() -> dict[str, str]:
    """The state of every row."""
    return states(ROOT)


@pytest.mark.parametrize("id", PROVEN)
def test_a_row_that_this_release_promises_is_proven(today: dict[str, str], id: str) -> None:
    assert today[id] == "proven"


@pytest.mark.parametrize("id", IN_PART)
def test_a_row_that_this_release_promises_in_part_is_so_at_least(today: dict[str, str], id: str) -> None:
    assert today[id] != "not yet"


def test_a_row_is_proven_only_where_no_test_calls_it_partial(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_some.py").write_text(
        "@pytest.mark.capability('A1', 'A2')\ndef test_one(): ...\n"
        "@pytest.mark.capability('A2', part='no sitting')\ndef test_two(): ...\n"
        "pytestmark = [pytest.mark.capability('A3')]\n"
        "A5 = pytest.mark.capability('A5')\n@A5\ndef test_three(): ...\n"
    )
    proofs = read_proofs(tmp_path)
    by_row = {id: state([proof for proof in proofs if proof.id == id]) for id in ("A1", "A2", "A3", "A4", "A5")}
    assert by_row == {
        "A1": "proven",
        "A2": "in part: no sitting",
        "A3": "proven",
        "A4": "not yet",
        "A5": "proven",
    }


@pytest.mark.parametrize("marker", ["capability(ROW)", "capability('A1', part=WHY)", "capability('A1', parts='x')"])
def test_a_marker_is_written_out_in_plain_strings(tmp_path: Path, marker: str) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_some.py").write_text(f"@pytest.mark.{marker}\ndef test_one(): ...\n")
    with pytest.raises(ValueError, match="capability marker"):
        read_proofs(tmp_path)
