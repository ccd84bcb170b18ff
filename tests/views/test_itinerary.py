"""Where a case is, who has it, since when, what comes next, by when, and why."""

from __future__ import annotations

from datetime import date
from typing import Any, cast

import pytest

from services.routing.views.itinerary import VIEW, case_resource, itinerary
from shared.contracts.envelope import Reason
from shared.contracts.routing import CaseClosed, CaseUnrouted
from shared.runtime.declare import Absent, Request
from tests.views.routing_walk import CASE, OTHER, Desk, Stream, at, days, folded, held_by, rows, until, walk


def desk(moment: Any, streams: Any = None, **more: Any) -> Request:
    """A reader at that moment of the walk."""
    seen = until(streams or walk(), moment)
    return cast(Request, Desk({VIEW.name: folded(VIEW, seen)}, moment, **more))


@pytest.mark.parametrize("seed", range(1, 8))
def test_rows_are_equal_for_every_order_of_the_streams(seed: int) -> None:
    assert rows(VIEW, walk(), seed) == rows(VIEW, walk(), 0)


@pytest.mark.capability("C3", "G7")
def test_I_2_I_22_position_holder_and_date_at_the_support_group() -> None:
    answer, version = itinerary(desk(at(6, 20)), CASE)

    assert (answer.stage, answer.label.ko, answer.overdue) == ("R4", "지원단 논의", False)
    assert answer.holder is not None
    assert (answer.holder.body, answer.holder.office) == ("support-group", "support-group.secretary")
    assert (answer.since, answer.due) == (at(6, 15), date(2023, 7, 13))
    assert "2023년 7월 13일" in answer.next.ko
    assert "13 July 2023" in answer.next.en
    assert "forum" in answer.next.en
    assert answer.reason is not None
    assert answer.reason.code == "above_thresholds"
    assert version == 4


@pytest.mark.capability("first-15", part="clocks are not paused in this issue")
def test_I_2_holdings_are_contiguous_and_sum_to_the_age() -> None:
    answer, _ = itinerary(desk(at(12, 31)), CASE)

    bodies = [line.body.id for line in answer.ledger]
    assert bodies == ["council-gangwon", "planning-group", "support-group", "forum", "dept-road"]
    assert all(line.until == after.since for line, after in zip(answer.ledger, answer.ledger[1:], strict=False))
    assert sum(line.seconds for line in answer.ledger) == answer.age_seconds
    assert sum(holding.seconds for holding in answer.holdings) == answer.age_seconds
    assert answer.age_seconds == (at(12, 21) - at(5, 8)).total_seconds()
    assert answer.holder is None
    assert (answer.stage, answer.outcome, answer.due) == ("R9", "adopted_in_policy", None)
    assert answer.policy is not None
    assert (answer.policy.policy_id, answer.policy.link) == ("policy-p", "fully")


def test_an_open_holding_is_counted_until_now() -> None:
    answer, _ = itinerary(desk(at(5, 13)), CASE)

    assert [(holding.stage, holding.seconds) for holding in answer.holdings] == [("R1", days(1)), ("R2", days(4))]
    assert answer.holdings[-1].until is None


@pytest.mark.capability("B2")
def test_B2_each_holding_names_its_matched_rule_rows() -> None:
    answer, _ = itinerary(desk(at(6, 20)), CASE)

    rules = answer.holdings[-1].rules
    assert rules is not None
    assert (rules.rule_set, rules.version, [row.row for row in rules.rows]) == ("rules", 1, ["above_c"])
    assert answer.holdings[1].rules is None


def test_I_17_a_changed_date_stands_beside_the_first_with_its_reason() -> None:
    answer, _ = itinerary(desk(at(10, 20)), CASE)

    last = answer.holdings[-1]
    assert (last.first_due, last.due, answer.due) == (date(2024, 9, 12), date(2023, 12, 29), date(2023, 12, 29))
    assert [(change.due, change.reason and change.reason.code) for change in last.due_changes] == [
        (date(2023, 12, 29), "task")
    ]
    assert all(not holding.due_changes for holding in answer.holdings[:-1])


def test_a_date_that_has_passed_is_overdue() -> None:
    assert itinerary(desk(at(6, 9)), OTHER)[0].overdue


def test_I_16_region_as_raised_and_as_it_is_today() -> None:
    before, _ = itinerary(desk(at(6, 10)), CASE)
    after, _ = itinerary(desk(at(6, 11)), CASE)

    assert [(r.code, r.name, r.today[0].code) for r in before.regions] == [("42", "강원도", "42")]
    assert [(r.code, r.name, r.today[0].code) for r in after.regions] == [("42", "강원도", "51")]
    assert after.regions[0].today[0].name.ko == "강원특별자치도"


def test_T_5_a_refused_suggestion_is_closed_with_its_reason() -> None:
    case = Stream("routing", "Case", CASE, CASE)
    case.events = walk()[1][:1]
    case.add(
        at(5, 9),
        CaseClosed(
            from_body="council-gangwon",
            outcome="refused",
            reason=Reason(code="incomplete", text="구비되지 않았습니다."),
            cause="Issue.x.3",
        ),
    )
    answer, _ = itinerary(desk(at(5, 10), [case.events]), CASE)

    assert (answer.stage, answer.outcome, answer.reason and answer.reason.code) == ("R9", "refused", "incomplete")
    assert "반려" in answer.next.ko


@pytest.mark.capability("B4")
def test_T_8_a_case_that_begins_unrouted_waits_at_the_triage_desk() -> None:
    case = Stream("routing", "Case", CASE, CASE)
    case.add(
        at(5, 8),
        CaseUnrouted(
            from_body=None,
            holding=held_by("unrouted", "triage-desk", "desk", date(2023, 5, 9), "triage"),
            next_step="intake",
            raised_by="org-gangwon-hongcheon",
            cause="Issue.x.1",
        ),
    )
    answer, _ = itinerary(desk(at(5, 8), [case.events]), CASE)

    assert (answer.stage, answer.opened_at, answer.due) == ("R0", at(5, 8), date(2023, 5, 9))
    assert answer.holder is not None
    assert answer.holder.body == "triage-desk"


def test_answers_are_written_under_their_wire_names() -> None:
    written = itinerary(desk(at(6, 20)), CASE)[0].model_dump(mode="json")

    assert written["holdings"][0]["from"] == "2023-05-08T10:00:00+09:00"
    assert written["ledger"][0]["to"] == "2023-05-24T11:00:00+09:00"


def test_the_policy_table_is_asked_about_the_regions_of_the_case() -> None:
    resource = case_resource(desk(at(6, 20), path={"case_id": CASE}))

    assert (resource.regions, resource.organisation, resource.body, resource.stage) == (
        ("gangwon",),
        "org-gangwon-hongcheon",
        "support-group",
        "R4",
    )


def test_an_unknown_case_is_absent() -> None:
    with pytest.raises(Absent):
        itinerary(desk(at(6, 20)), "0187f8a0-0000-7000-8000-00000000ffff")
