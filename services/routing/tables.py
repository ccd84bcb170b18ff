"""Decision tables: rules as rows of data, their expressions in CEL, read by hit policy (section 10, capability B1).

A table never answers by default. No row matched is an empty answer, for the caller to act upon; an answer that the hit
policy does not allow, or a row that cannot be evaluated, is a ``TableFault``, which ends at the triage desk or as a
refused move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import cel

from services.routing.case import ARRIVALS
from shared.contracts.reference import DecisionRow, DecisionTable, RuleSetPublished
from shared.decider import Refused

Value = str | int | float | bool | tuple[str, ...]
Inputs = Mapping[str, Value]
Gives = Mapping[str, Value]

SAMPLES: dict[str, dict[str, Value]] = {
    "council_selection": {
        "nationwide": False,
        "regions": 1,
        "megaregions": 1,
        "lead_councils": 1,
        "raiser_kind": "organisation",
        "raiser_level": "basic",
        "origin": "local_government",
        "plan_item": "P3-2",
        "tags": ("road",),
    },
    "after_acceptance": {"intake_kind": "council", "nationwide": False, "regions": 1, "plan_item": "", "tags": ()},
    "lead_department": {"plan_item": "P3-2", "tags": ("road",), "cost_band": "above_c"},
    "consulted_departments": {"plan_item": "P3-2", "tags": ("law",), "cost_band": "above_b"},
    "clock_profile": {"state": "at_body", "tier": "R2", "body_kind": "council"},
    "resolve_or_escalate": {
        "outcome": "supportable",
        "divergence": 0.25,
        "cost_band": "above_c",
        "statute_needed": False,
        "megaregions": 1,
        "general_direction": False,
        "tags": ("road",),
    },
}
"""The tables that routing asks, each with its inputs; the values are samples on which a new rule set is tried."""

ANSWERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "council_selection": ("intake", ("council_of_region", "council_of_lead_region", "planning_group")),
    "after_acceptance": ("next", ("floor", "review")),
    "lead_department": ("lead", ()),
    "consulted_departments": ("department", ()),
    "clock_profile": ("clock", ()),
    "resolve_or_escalate": ("move", ("escalate", "resolve")),
}
"""What each row of a table must give, and the values allowed where the list is closed."""


class TableFault(Refused):
    """A table gives no lawful answer; ``rule`` is the table's name."""

    def __init__(self, table: str, *, ko: str, en: str) -> None:
        super().__init__(table, ko, en)


@lru_cache(maxsize=1024)
def _program(expression: str) -> cel.Program:
    # The package brings a terminal program along, which most processes need as little as the tables themselves.
    import cel

    return cel.compile(expression)


def matches(table: DecisionTable, row: DecisionRow, inputs: Inputs) -> bool:
    """Whether a row's expression holds. Raises ``TableFault`` where it gives no yes or no."""
    try:
        answer = _program(row.when).execute(dict(inputs))
    except (ValueError, RuntimeError, TypeError) as error:
        raise TableFault(
            table.table,
            en=f"Row {row.row} of table {table.table} cannot be evaluated.",
            ko=f"판단표 {table.table}의 {row.row} 행을 평가할 수 없습니다.",
        ) from error
    if not isinstance(answer, bool):
        raise TableFault(
            table.table,
            en=f"Row {row.row} of table {table.table} is no yes-or-no question.",
            ko=f"판단표 {table.table}의 {row.row} 행이 참·거짓을 답하지 않습니다.",
        )
    return answer


def looked_at(table: DecisionTable, inputs: Inputs) -> list[tuple[DecisionRow, bool]]:
    """Every row of the table with whether it matched: "why here, why not there" needs the others too (B2)."""
    return [(row, matches(table, row, inputs)) for row in table.rows]


def hit(table: DecisionTable, matched: Sequence[DecisionRow]) -> tuple[Gives, ...]:
    """What the matched rows give by the table's hit policy; empty where none matched.

    ``unique``: one row at most. ``first``: the first in order. ``priority``: the highest, which must be alone. ``any``:
    all must give the same. ``collect`` and ``rule_order``: all, in order. Raises ``TableFault`` where that fails.
    """
    if not matched:
        return ()
    match table.hit_policy:
        case "collect" | "rule_order":
            return tuple(row.gives for row in matched)
        case "first":
            return (matched[0].gives,)
        case "unique":
            return _alone(table, matched)
        case "priority":
            highest = max(row.priority for row in matched)
            return _alone(table, [row for row in matched if row.priority == highest])
        case "any":
            if any(row.gives != matched[0].gives for row in matched):
                raise _several(table, matched)
            return (matched[0].gives,)


def _alone(table: DecisionTable, matched: Sequence[DecisionRow]) -> tuple[Gives, ...]:
    if len(matched) > 1:
        raise _several(table, matched)
    return (matched[0].gives,)


def _several(table: DecisionTable, matched: Sequence[DecisionRow]) -> TableFault:
    rows = ", ".join(row.row for row in matched)
    return TableFault(
        table.table,
        en=f"Rows {rows} of table {table.table} all match, but only one answer is allowed.",
        ko=f"판단표 {table.table}에서 {rows} 행이 함께 맞아 답이 하나로 정해지지 않습니다.",
    )


def faults(rules: RuleSetPublished) -> tuple[str, ...]:
    """What is wrong with a rule set before it is published; empty where nothing is.

    Every table that routing asks is there once, every expression compiles and answers yes or no on samples, every row
    gives what is asked of it, every clock and arrival event that is named exists. Tiers, tables and rows are told by
    their place: nothing of what was sent is said again.
    """
    found: list[str] = []
    names = [table.table for table in rules.tables]
    clocks = {clock.clock for clock in rules.clocks}
    found += [f"table {name}: missing" for name in SAMPLES if name not in names]
    for place, tier in enumerate(rules.tiers, start=1):
        if tier.clock not in clocks:
            found.append(f"tier {place}: no such clock")
        if tier.arrival is not None and tier.arrival not in ARRIVALS:
            found.append(f"tier {place}: no such arrival event")
    for place, table in enumerate(rules.tables, start=1):
        if table.table not in SAMPLES:
            found.append(f"table {place}: nobody asks it")
        elif table.table in names[: place - 1]:
            found.append(f"table {table.table}: there more than once")
        else:
            for number, row in enumerate(table.rows, start=1):
                found += [f"table {table.table}, row {number}: {fault}" for fault in _row_faults(table, row, clocks)]
    return tuple(found)


def _row_faults(table: DecisionTable, row: DecisionRow, clocks: set[str]) -> list[str]:
    found = []
    try:
        matches(table, row, SAMPLES[table.table])
    except TableFault:
        found.append("the expression gives no yes or no")
    key, allowed = ANSWERS[table.table]
    value = row.gives.get(key)
    if not isinstance(value, str):
        found.append(f"gives no {key}")
    elif allowed and value not in allowed:
        found.append(f"gives an unknown {key}")
    elif key == "clock" and value not in clocks:
        found.append("gives an unknown clock")
    if value == "escalate" and not all(isinstance(row.gives.get(part), str) for part in ("reason", "text")):
        found.append("gives no reason for the escalation")
    return found
