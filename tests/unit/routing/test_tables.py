"""Decision tables: hit policies, expressions, and what is found faulty before it is published."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.routing.tables import TableFault, faults, hit, looked_at, matches
from shared.contracts.reference import DecisionRow, DecisionTable, RuleSetPublished
from tests.unit.routing.world import DATA


def row(name: str, when: str = "true", priority: int = 0, **gives: str) -> DecisionRow:
    return DecisionRow(row=name, when=when, gives=dict(gives), priority=priority, source="M test")


def table(policy: str, *rows: DecisionRow) -> DecisionTable:
    return DecisionTable(table="t", hit_policy=policy, rows=rows)


def ask(policy: str, *rows: DecisionRow, **inputs: Any) -> list[str]:
    """What the table gives, by the ``out`` of each row."""
    asked = table(policy, *rows)
    return [str(gives["out"]) for gives in hit(asked, [r for r, matched in looked_at(asked, inputs) if matched])]


A = row("a", "n > 1", out="a")
B = row("b", "n > 2", out="b")
A_TOO = row("a2", "n > 2", out="a")
HIGH = row("h", "n > 2", 9, out="h")
HIGH_TOO = row("h2", "n > 3", 9, out="h2")

POLICIES = ["unique", "first", "priority", "collect", "rule_order", "any"]


@pytest.mark.parametrize("policy", POLICIES)
def test_no_row_matched_gives_nothing_never_a_default(policy: str) -> None:
    assert ask(policy, A, B, n=0) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_one_row_matched(policy: str) -> None:
    assert ask(policy, A, B, n=2) == ["a"]


@pytest.mark.capability("B1", part="no expert field, kind or urgency as input yet")
@pytest.mark.parametrize(
    ("policy", "rows", "gives"),
    [
        ("first", (A, B), ["a"]),
        ("first", (B, A), ["b"]),
        ("collect", (A, B), ["a", "b"]),
        ("rule_order", (B, A), ["b", "a"]),
        ("priority", (A, HIGH), ["h"]),
        ("any", (A, A_TOO), ["a"]),
    ],
)
def test_several_rows_matched(policy: str, rows: tuple[DecisionRow, ...], gives: list[str]) -> None:
    assert ask(policy, *rows, n=3) == gives


@pytest.mark.parametrize(
    ("policy", "rows"), [("unique", (A, B)), ("priority", (A, HIGH, HIGH_TOO)), ("any", (A, B)), ("priority", (A, B))]
)
def test_several_answers_where_one_is_allowed_are_a_fault(policy: str, rows: tuple[DecisionRow, ...]) -> None:
    with pytest.raises(TableFault) as fault:
        ask(policy, *rows, n=4)
    assert fault.value.rule == "t"
    assert "t" in fault.value.ko


@pytest.mark.capability("B2")
def test_every_row_is_looked_at_matched_or_not() -> None:
    found = looked_at(table("first", A, B, A_TOO), {"n": 2})
    assert [(r.row, matched) for r, matched in found] == [("a", True), ("b", False), ("a2", False)]


@pytest.mark.parametrize("when", ["n +", "missing == 1", "n == 1 ? 1 : 2", "n > 'x'", "n.startsWith('P')"])
def test_a_row_that_gives_no_yes_or_no_is_a_fault(when: str) -> None:
    with pytest.raises(TableFault):
        matches(table("first"), row("r", when), {"n": 1})


# Before publishing


def shipped() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DATA / "rules-2023.json").read_text(encoding="utf-8"))
    return content


def found(content: dict[str, Any]) -> tuple[str, ...]:
    return faults(RuleSetPublished.model_validate(content))


def test_the_shipped_rules_are_sound() -> None:
    assert found(shipped()) == ()


def rows_of(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = next(t["rows"] for t in content["tables"] if t["table"] == name)
    return rows


@pytest.mark.parametrize("when", ["nationwide &&", "nosuch == 1", "regions", "origin > 1"])
def test_B1_an_expression_that_does_not_compile_or_answer_is_found(when: str) -> None:
    content = shipped()
    rows_of(content, "council_selection")[0]["when"] = when
    assert found(content) == ("table council_selection, row 1: the expression gives no yes or no",)


@pytest.mark.parametrize(
    ("name", "gives"),
    [
        ("council_selection", {"intake": "nowhere"}),
        ("after_acceptance", {}),
        ("lead_department", {"lead": 1}),
        ("clock_profile", {"clock": "sundial"}),
        ("resolve_or_escalate", {"move": "escalate"}),
    ],
)
def test_B1_a_row_that_does_not_give_what_is_asked_is_found(name: str, gives: dict[str, Any]) -> None:
    content = shipped()
    rows_of(content, name)[0]["gives"] = gives
    assert len(found(content)) == 1


def test_B1_missing_doubled_and_unknown_tables_and_names_are_found() -> None:
    content = shipped()
    content["tables"] = [*content["tables"][1:], content["tables"][1], content["tables"][1] | {"table": "other"}]
    content["tiers"][1] |= {"arrival": "CaseTeleported", "clock": "sundial"}
    assert set(found(content)) == {
        "table council_selection: missing",
        "table after_acceptance: there more than once",
        "table 7: nobody asks it",
        "tier 2: no such arrival event",
        "tier 2: no such clock",
    }
