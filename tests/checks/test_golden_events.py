"""Golden events: every document that was ever stored in a released shape is still read, and nothing of it is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from services.generate import CHANGED, file_name, generate, golden_problem, goldens, own_events
from shared.runtime.codec import seal
from shared.runtime.settings import ROOT

FILES = sorted((ROOT / "contracts/golden").glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_golden_event_is_read_and_written_without_loss(file: Path) -> None:
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


def planted(event: str) -> dict[str, Any]:
    """The golden document of an event, to be changed: as if it had been stored while its class was another."""
    document = json.loads(goldens()[f"contracts/golden/{event}.v1.json"])
    del document["hash"]
    return cast(dict[str, Any], document)


def test_a_field_added_with_a_default_is_allowed_within_a_version() -> None:
    seat = planted("MemberAppointed")
    del seat["data"]["role"], seat["data"]["on_behalf_of"]
    assert golden_problem(sealed(seat)) is None
    rules = planted("RuleSetPublished")
    del rules["data"]["tables"][0]["rows"][0]["priority"]
    assert golden_problem(sealed(rules)) is None, "deep inside too"


def test_a_field_added_without_a_default_is_found() -> None:
    seat = planted("MemberAppointed")
    del seat["data"]["seat"]
    assert str(golden_problem(sealed(seat))).startswith(CHANGED)
    rules = planted("RuleSetPublished")
    del rules["data"]["tables"][0]["rows"][0]["when"]
    assert str(golden_problem(sealed(rules))).startswith(CHANGED)


def test_a_field_removed_or_renamed_is_found_with_a_default_or_without() -> None:
    removed, renamed = planted("MemberAppointed"), planted("MemberAppointed")
    removed["data"]["former_field"] = None
    renamed["data"]["rank"] = renamed["data"].pop("role")
    for document in (removed, renamed):
        assert str(golden_problem(sealed(document))).startswith(CHANGED)


@pytest.mark.parametrize(
    ("event", "field", "stored"),
    [
        ("MemberAppointed", "voting", "true"),
        ("MemberAppointed", "voting", 1),
        ("CharterAdopted", "version", "1"),
        ("CharterAdopted", "version", True),
        ("MemberAppointed", "fields", "land"),
        ("MemberAppointed", "fields", None),
        ("MemberAppointed", "name", {"ko": " 자리 ", "en": "Seat"}),
    ],
)
def test_a_field_of_another_type_is_found_even_where_today_s_code_reads_it(
    event: str, field: str, stored: object
) -> None:
    document = planted(event)
    document["data"][field] = stored
    assert str(golden_problem(sealed(document))).startswith(CHANGED)


def test_a_golden_file_that_was_edited_is_found() -> None:
    text = goldens()["contracts/golden/IssueClosed.v1.json"]
    assert "edited by hand" in str(golden_problem(text.replace("outcome", "outcame")))


def test_generating_writes_what_lacks_or_differs_and_never_a_golden_file_again(tmp_path: Path) -> None:
    """Nor a schema whose readers could not read what it would then say."""
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
    needed = tmp_path / "contracts/schemas/MemberAppointed.v1.json"
    with_former = needed.read_text("utf-8").replace('"seat": {', '"former": {"type": "string"}, "seat": {', 1)
    needed.write_text(with_former, encoding="utf-8")
    assert {line.partition(":")[0] for line in generate(check=True, root=tmp_path)} == {
        "contracts/golden/IssueClosed.v1.json",
        "contracts/schemas/IssueClosed.v1.json",
        "contracts/schemas/MemberAppointed.v1.json",
        "docs/events.md",
    }
    broken, problem = generate(check=False, root=tmp_path)
    assert CHANGED in problem
    assert "data.former: the field is gone. Instead: " in broken
    assert needed.read_text("utf-8") == with_former
    assert golden.read_text(encoding="utf-8") == older


def test_the_samples_are_the_same_each_time() -> None:
    assert goldens() == goldens()
