"""Why a case is here, why not there, and which moves were refused."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.routing.views.itinerary import VIEW as ITINERARY
from services.routing.views.why import VIEW, NotThere, WhyAnswer, why
from shared.contracts.routing import ImplementationAssigned, MoveRefused
from shared.runtime.declare import Absent, Request
from tests.views.routing_walk import (
    CASE,
    ROAD,
    Desk,
    Stream,
    at,
    folded,
    held_by,
    rows,
    traced,
    until,
    walk,
)


def asked(moment: Any, streams: Any = None) -> WhyAnswer:
    """The explanation at that moment of the walk."""
    seen = until(streams or walk(), moment)
    desk = Desk({VIEW.name: folded(VIEW, seen), ITINERARY.name: folded(ITINERARY, seen)}, moment)
    return why(cast(Request, desk), CASE)[0]


def there(answer: WhyAnswer) -> dict[str, NotThere]:
    return {place.body.id: place for place in answer.not_there if place.body is not None}


@pytest.mark.parametrize("seed", range(1, 8))
def test_rows_are_equal_for_every_order_of_the_streams(seed: int) -> None:
    assert rows(VIEW, walk(), seed) == rows(VIEW, walk(), 0)


@pytest.mark.capability("B2", "first-7")
def test_B2_the_move_that_led_here_names_rule_version_rows_inputs_and_reason() -> None:
    here = asked(at(6, 20)).here

    assert (here.event, here.stage, here.body and here.body.id) == ("EscalatedToSupportGroup", "R4", "support-group")
    assert (here.rule_set, here.version) == ("rules", 1)
    assert [(row.row, row.matched, row.condition) for row in here.rows] == [
        ("above_c", True, "cost_band == 'above_c'"),
        ("diverging", False, "divergence >= 0.5"),
    ]
    assert here.inputs["cost_band"] == "above_c"
    assert here.reason is not None
    assert here.reason.code == "above_thresholds"
    assert here.authority.rule == "T-1"


@pytest.mark.capability("first-7")
def test_T_4_from_intake_nothing_goes_on_before_acceptance() -> None:
    found = there(asked(at(5, 8)))

    assert {body: place.rule for body, place in found.items()} == {
        "council-gangwon": "T-4",
        "planning-group": "T-4",
        "support-group": "T-4",
        "forum": "T-4",
    }


@pytest.mark.capability("first-7")
def test_I_3_T_11_from_the_council_the_review_needs_its_decision_and_higher_bodies_have_no_way() -> None:
    found = there(asked(at(5, 10)))

    assert found["planning-group"].rule == "T-11"
    assert found["support-group"].rule == "I-3"
    assert found["forum"].rule == "I-3"
    assert "council-gyeonggi" not in found
    assert "10 May 2023" in found["forum"].why.en


@pytest.mark.capability("first-7", "C2")
def test_I_4_from_review_the_support_group_needs_a_concluded_round() -> None:
    found = there(asked(at(6, 1)))

    assert (found["support-group"].stage, found["support-group"].rule) == ("R4", "I-4")
    assert found["council-gangwon"].rule == "I-3"


def test_T_24_from_the_support_group_the_forum_needs_its_decision() -> None:
    found = there(asked(at(6, 20)))

    assert found["forum"].rule == "T-24"
    assert found["forum"].label is not None
    assert found["forum"].label.ko == "포럼 논의"


@pytest.mark.capability("first-7")
def test_T_17_settled_at_review_shows_the_rows_that_did_not_match() -> None:
    case = Stream("routing", "Case", CASE, CASE)
    case.events = walk()[1][:3]
    case.add(
        at(6, 15),
        ImplementationAssigned(
            from_body="planning-group",
            holding=held_by("implementing", ROAD, "reviewer", at(12, 1).date(), "decision"),
            outcome="resolved_by_department",
            cause="JointReview.x.9",
        ),
        trace=traced(resolve_or_escalate__above_c=False, resolve_or_escalate__diverging=False),
    )
    found = there(asked(at(6, 20), [case.events]))
    place = found["support-group"]

    assert found["forum"].rows == []
    assert place.rule == "T-38"
    assert [(row.row, row.condition) for row in place.rows] == [
        ("above_c", "cost_band == 'above_c'"),
        ("diverging", "divergence >= 0.5"),
    ]


def test_I_2_a_closed_case_is_nowhere() -> None:
    answer = asked(at(12, 31))

    assert answer.here.stage == "R9"
    assert {place.rule for place in answer.not_there} == {"I-2"}


@pytest.mark.capability("first-7")
def test_rule_b_refused_moves_are_told_with_their_rule() -> None:
    case = Stream("routing", "Case", CASE, CASE)
    case.events = walk()[1][:3]
    case.add(
        at(6, 15),
        MoveRefused(
            rule="T-18",
            ko="대상 기관에 담당 직위가 없습니다.",
            en="The next body has no office that could take it.",
            body="planning-group",
            cause="JointReview.x.9",
            cause_type="IssueReviewed",
        ),
    )
    answer = asked(at(6, 15), [case.events])

    assert [(move.rule, move.why.en, move.body.id) for move in answer.refused] == [
        ("T-18", "The next body has no office that could take it.", "planning-group")
    ]
    assert there(answer)["support-group"].rule == "T-18"


def test_an_unknown_case_is_absent() -> None:
    with pytest.raises(Absent):
        asked(at(4, 1))
