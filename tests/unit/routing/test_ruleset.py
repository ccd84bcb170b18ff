"""Versions of the rules."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from services.routing.ruleset import RULE_SET, PublishRuleSet
from shared.contracts.envelope import Actor, Authority
from shared.contracts.reference import RuleSetPublished
from shared.runtime.directory import SEOUL
from shared.testing import given

OPERATOR: dict[str, Any] = {
    "by": Actor(user="u", office="operations.operator", body="operations"),
    "at": datetime(2023, 1, 4, 9, tzinfo=SEOUL),
    "authority": Authority(rule="reference"),
}
RULES: dict[str, Any] = {
    "rule_set": "maru-rules",
    "version": 1,
    "tiers": (),
    "clocks": (),
    "tables": (),
    "valid_from": date(2022, 8, 1),
    "source": "M test",
}
V1 = RuleSetPublished(**RULES)


def publish(**other: Any) -> PublishRuleSet:
    return PublishRuleSet(**OPERATOR, **(RULES | other))


@pytest.mark.capability("B6")
def test_B6_versions_go_upwards_and_forward_in_time() -> None:
    first = given(RULE_SET).when(publish()).then(V1)
    later = {"version": 2, "valid_from": date(2023, 7, 1)}
    second = first.when(publish(**later)).then(RuleSetPublished(**(RULES | later)))
    second.when(publish(version=3, valid_from=date(2023, 1, 1))).refused("B6")
    second.when(publish(version=2, source="other")).refused("B6")
    second.when(publish(source="other")).refused("B6")


def test_B1_faulty_rules_are_not_published() -> None:
    refusal = given(RULE_SET).when(publish(faults=("table t, row r: no", "another"))).refused("B1")
    assert "table t, row r: no" in refusal.en
    assert "1건" in refusal.ko
