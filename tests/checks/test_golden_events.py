"""Golden events: every document that was ever stored in a released shape is still read, and written the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.generate import CHANGED, file_name, generate, golden_problem, goldens, own_events
from shared.runtime.codec import seal
from shared.runtime.settings import ROOT

FILES = sorted((ROOT / "contracts/golden").glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_golden_event_is_read_and_written_as_it_stands(file: Path) -> None:
    problem = golden_problem(file.read_text(encoding="utf-8"))
    assert problem is None, f"{file.name}: {problem}"


def test_every_event_has_its_golden_file_and_its_schema() -> None:
    expected = {file_name(cls) for cls in own_events()}
    assert expected <= {file.name for file in FILES}
    assert expected <= {file.name for file in (ROOT / "contracts/schemas").glob("*.json")}


def sealed(document: dict[str, object]) -> str:
    raw, _ = seal(document)
    return raw.decode()


def test_a_changed_shape_is_found_and_the_message_says_what_to_do() -> None:
    document = json.loads(goldens()["contracts/golden/IssueClosed.v1.json"])
    del document["hash"]
    for data in ({}, {**document["data"], "left_over": 1}, {"outcome": "no such outcome"}):
        assert str(golden_problem(sealed({**document, "data": data}))).startswith(CHANGED)
    assert str(golden_problem(sealed({**document, "type": "NoSuchEvent"}))).startswith(CHANGED)
    assert golden_problem(sealed(document)) is None


def test_a_field_added_with_a_default_changes_the_shape_too() -> None:
    document = json.loads(goldens()["contracts/golden/IssueRaised.v1.json"])
    del document["hash"]
    del document["data"]["nationwide"]
    assert golden_problem(sealed(document)) == CHANGED


def test_a_golden_file_that_was_edited_is_found() -> None:
    text = goldens()["contracts/golden/IssueClosed.v1.json"]
    assert "edited by hand" in str(golden_problem(text.replace("outcome", "outcame")))


def test_generating_writes_what_lacks_or_differs_and_never_a_golden_file_again(tmp_path: Path) -> None:
    assert generate(check=False, root=tmp_path) == []
    golden, schema, page = (
        tmp_path / name
        for name in ("contracts/golden/IssueClosed.v1.json", "contracts/schemas/IssueClosed.v1.json", "docs/events.md")
    )
    document = json.loads(golden.read_text(encoding="utf-8"))
    del document["hash"]
    older = sealed({**document, "data": {}})
    golden.write_text(older, encoding="utf-8")
    schema.unlink()
    page.write_text("other", encoding="utf-8")
    assert {line.partition(":")[0] for line in generate(check=True, root=tmp_path)} == {
        "contracts/golden/IssueClosed.v1.json",
        "contracts/schemas/IssueClosed.v1.json",
        "docs/events.md",
    }
    (problem,) = generate(check=False, root=tmp_path)
    assert CHANGED in problem
    assert golden.read_text(encoding="utf-8") == older


def test_the_samples_are_the_same_each_time() -> None:
    assert goldens() == goldens()
