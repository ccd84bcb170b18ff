"""Routing's reads of reference facts, as of a day, and what the gateway declares."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, cast

import pytest

from services.routing import reads
from shared.decider import Refused
from shared.runtime.declare import Gateway, Request
from tests.views.routing_walk import Desk, at

OPERATOR, SECRETARY = "operations.operator", "planning-group.secretary"


def desk(office: str = SECRETARY, moment: Any = None, **more: Any) -> Request:
    return cast(Request, Desk({}, moment or at(5, 10), office, **more))


def listed(kind: str, request: Request) -> list[Any]:
    """What the route of that kind of reference answers."""
    gateway = Gateway("routing")
    reads.add_reads(gateway)
    route = next(route for route in gateway.reads if route.path == f"/v1/reference/{kind}")
    return list(route.handler(request).rows)


def test_every_read_has_its_rows_in_the_policy_table() -> None:
    gateway = Gateway("routing")
    reads.add_reads(gateway)
    path = Path(__file__).parents[2] / "data" / "policy" / "routing-reads.csv"
    with path.open(encoding="utf-8", newline="") as file:
        actions = {row["action"] for row in csv.DictReader(file)}

    assert {route.action for route in gateway.reads} == actions
    assert len({route.operation_id for route in gateway.reads}) == len(gateway.reads)


def test_the_clock_tells_business_time_and_offset() -> None:
    gateway = Gateway("routing")
    reads.add_reads(gateway)
    clock = next(route for route in gateway.reads if route.path == "/v1/clock")

    assert clock.handler(desk()).value.model_dump() == {"business_time": at(5, 10), "offset_seconds": 0.0}


def test_I_16_regions_as_of_a_day() -> None:
    today, later = listed("regions", desk()), listed("regions", desk(query={"on": "2023-06-11"}))

    assert [(row.region, row.mois) for row in today] == [("gangwon", "42"), ("gyeonggi", "41")]
    assert [(row.region, row.mois) for row in later] == [("gangwon", "51"), ("gyeonggi", "41")]


def test_bodies_edges_rule_sets_as_of_a_day() -> None:
    before = desk(query={"on": "2022-07-31"})

    assert "forum" in [row.body for row in listed("bodies", desk())]
    assert ("council-gangwon", "planning-group") in [(row.start, row.end) for row in listed("edges", desk())]
    assert [(row.version, row.in_force) for row in listed("rule-sets", desk())] == [(1, True)]
    assert [listed(kind, before) for kind in ("bodies", "edges", "rule-sets", "members", "charters")] == [[]] * 5


def test_who_holds_an_office_is_shown_to_the_operator_only() -> None:
    hidden = next(row for row in listed("offices", desk()) if row.office == SECRETARY)
    shown = next(row for row in listed("offices", desk(OPERATOR)) if row.office == SECRETARY)

    assert (hidden.held_by, hidden.holders) == (1, None)
    assert (shown.held_by, shown.holders) == (1, ["s-planning-group"])


def test_lists_are_paged_by_id() -> None:
    request = desk(limit=3)
    first = reads.paged(request, reads.bodies_of(request, request.today), lambda row: row.body)
    second = reads.paged(desk(limit=3, after=tuple(first.after or ())), reads.bodies_of(request, request.today), _body)

    assert [row.body for row in first.rows] == sorted(_body(row) for row in reads.bodies_of(request, request.today))[:3]
    assert second.rows[0].body > first.rows[-1].body


def _body(row: reads.BodyRow) -> str:
    return row.body


@pytest.mark.parametrize("on", ["2023-02-30", "20230104", "today", "", "2023-1-4", "2023-W01-3"])
def test_what_is_no_date_is_refused(on: str) -> None:
    with pytest.raises(Refused) as refusal:
        listed("regions", desk(query={"on": on}))

    assert refusal.value.kind == "input"
    assert on == "" or on not in refusal.value.en
