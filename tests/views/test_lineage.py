"""Lineage in both directions, and what a reader of another region sees of it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.routing.views.lineage import VIEW, LineageAnswer, lineage, root_resource
from shared.runtime.declare import Absent, Request
from tests.views.routing_walk import (
    BUDGET,
    CASE,
    COUNCIL,
    FORUM,
    GROUP,
    OTHER,
    POLICY,
    ROAD,
    Desk,
    at,
    folded,
    rows,
    until,
    walk,
)

COUNTY = "org-gangwon-hongcheon.officer"
ROUND = f"round:{CASE}.1"


def seen(kind: str, id: str, office: str = "planning-group.secretary", moment: Any = None) -> LineageAnswer:
    """The graph around a root, as that office sees it."""
    now = moment or at(12, 31)
    desk = Desk({VIEW.name: folded(VIEW, until(walk(), now))}, now, office, path={"kind": kind, "id": id})
    request = cast(Request, desk)
    return lineage(request, (kind, id), request.regions_allowed())


def relations(answer: LineageAnswer) -> set[tuple[str, str, str]]:
    return {(edge.start, edge.relation, edge.end) for edge in answer.edges}


def names(answer: LineageAnswer) -> set[str]:
    return {f"{node.kind}:{node.id}" for node in answer.nodes}


@pytest.mark.parametrize("seed", range(1, 8))
def test_rows_are_equal_for_every_order_of_the_streams(seed: int) -> None:
    assert rows(VIEW, walk(), seed) == rows(VIEW, walk(), 0)


@pytest.mark.capability("J3")
@pytest.mark.capability("first-1", part="no alternatives, merges, splits or measured outcomes in this issue")
def test_from_the_suggestion_down_to_policy_task_and_plan_item() -> None:
    answer = seen("issue", CASE)
    found = relations(answer)
    issue, policy = f"issue:{CASE}", f"policy:{POLICY}"
    expected = {
        (issue, "registered_as", "docket:2023-000001"),
        (f"decision:{COUNCIL}.1", "taken_in", f"meeting:{COUNCIL}"),
        (issue, "reviewed_in", ROUND),
        (ROUND, "asked", f"opinion:{CASE}.1.{ROAD}"),
        (ROUND, "asked", f"opinion:{CASE}.1.{BUDGET}"),
        (ROUND, "set", f"direction:{CASE}.1"),
        (f"decision:{GROUP}.1", "taken_in", f"meeting:{GROUP}"),
        (f"deliberation:{FORUM}.1", "advised", f"decision:{FORUM}.1"),
        (f"decision:{FORUM}.1", "taken_in", f"meeting:{FORUM}"),
        (f"decision:{FORUM}.1", "adopted", policy),
        (issue, "answered_fully", policy),
        (policy, "carried_out_by", f"task:{POLICY}.t1"),
        (f"task:{POLICY}.t1", "reported", f"progress:Policy.{POLICY}.4"),
        (policy, "belongs_to", "plan_item:P3-2"),
        (issue, "asks_for", "plan_item:P3-2"),
    }
    assert expected <= found
    states = {f"{node.kind}:{node.id}": node.state for node in answer.nodes}
    assert states[issue] == "adopted_in_policy"
    assert states[policy] == "implemented"
    assert states[ROUND] == "supportable"
    assert states[f"opinion:{CASE}.1.{ROAD}"] == "support_with_conditions"
    assert answer.root == issue


def test_every_step_follows_from_the_one_before_by_its_cause() -> None:
    found = relations(seen("issue", CASE))
    moves = {version: f"move:Case.{CASE}.{version}" for version in range(1, 11)}

    assert {
        (f"issue:{CASE}", "led_to", moves[1]),
        (f"issue:{CASE}", "led_to", moves[2]),
        (moves[2], "decided_by", f"decision:{COUNCIL}.1"),
        (f"decision:{COUNCIL}.1", "led_to", moves[3]),
        (moves[3], "led_to", ROUND),
        (ROUND, "led_to", moves[4]),
        (moves[4], "decided_by", f"decision:{GROUP}.1"),
        (f"decision:{GROUP}.1", "led_to", moves[5]),
        (moves[5], "decided_by", f"decision:{FORUM}.1"),
        (f"policy:{POLICY}", "led_to", moves[7]),
        (moves[7], "led_to", moves[10]),
    } <= found


def test_other_cases_are_not_reached_through_plan_item_meeting_or_policy() -> None:
    assert not any(OTHER in name for name in names(seen("issue", CASE)))


@pytest.mark.capability("J3")
def test_from_the_policy_back_to_every_suggestion() -> None:
    found = names(seen("policy", POLICY))

    assert {f"issue:{CASE}", f"issue:{OTHER}", ROUND, f"opinion:{CASE}.1.{ROAD}", f"direction:{CASE}.1"} <= found
    assert {f"decision:{m}.1" for m in (COUNCIL, GROUP, FORUM)} <= found
    assert {f"meeting:{m}" for m in (COUNCIL, GROUP, FORUM)} <= found


def test_a_decision_shows_the_whole_way_of_its_case() -> None:
    assert names(seen("decision", f"{GROUP}.1")) == names(seen("issue", CASE))


def test_a_plan_item_shows_all_suggestions_and_policies_at_it_and_no_more() -> None:
    answer = seen("plan_item", "P3-2")

    assert names(answer) == {"plan_item:P3-2", f"issue:{CASE}", f"issue:{OTHER}", f"policy:{POLICY}"}
    assert (f"issue:{OTHER}", "source_of", f"policy:{POLICY}") in relations(answer)


def test_a_meeting_shows_what_was_dealt_with_in_it() -> None:
    answer = seen("meeting", FORUM)

    assert names(answer) == {
        f"meeting:{FORUM}",
        f"decision:{FORUM}.1",
        f"deliberation:{FORUM}.1",
        f"issue:{CASE}",
        f"policy:{POLICY}",
    }


@pytest.mark.capability("I3", part="by region only; levels of confidentiality come later")
def test_I3_steps_of_another_region_are_masked_and_never_named() -> None:
    answer = seen("policy", POLICY, COUNTY)
    masked = [node for node in answer.nodes if node.kind == "masked"]

    assert {f"issue:{CASE}", f"policy:{POLICY}", ROUND} <= names(answer)
    assert len(masked) == 3  # its suggestion, its docket number and the move that opened its case
    assert {node.label.en for node in masked} == {"This step is not visible to you."}
    assert all(node.state is None and node.at is None and node.case_id is None for node in masked)
    written = answer.model_dump_json()
    assert "비밀" not in written
    assert OTHER not in written
    assert "2023-000000" not in written


def test_I3_the_plan_item_is_open_to_all_but_not_what_others_asked_for() -> None:
    answer = seen("plan_item", "P3-2", COUNTY)

    assert {"plan_item:P3-2", f"issue:{CASE}"} <= names(answer)
    assert [node.kind for node in answer.nodes].count("masked") == 1


def test_I3_a_draft_is_not_shown_to_the_raiser() -> None:
    draft = seen("issue", CASE, COUNTY, at(7, 20))

    assert "정책" not in " ".join(node.label.ko for node in draft.nodes)
    assert [node.kind for node in draft.nodes].count("masked") == 1


def test_the_policy_table_is_asked_about_the_regions_of_the_roots_cases() -> None:
    views = {VIEW.name: folded(VIEW, walk())}

    def regions(kind: str, id: str) -> tuple[tuple[str, ...], bool]:
        resource = root_resource(cast(Request, Desk(views, at(12, 31), path={"kind": kind, "id": id})))
        return resource.regions, resource.nationwide

    assert regions("issue", OTHER) == (("gyeonggi",), False)
    assert regions("policy", POLICY) == (("gangwon", "gyeonggi"), False)
    assert regions("plan_item", "P3-2")[1]


@pytest.mark.parametrize("kind", ["issue", "policy", "decision", "meeting", "plan_item", "anything"])
def test_what_was_never_heard_of_is_absent(kind: str) -> None:
    with pytest.raises(Absent):
        seen(kind, "unknown")


def test_edges_are_written_under_their_wire_names() -> None:
    assert set(seen("issue", CASE).model_dump(mode="json")["edges"][0]) == {"from", "to", "relation"}
