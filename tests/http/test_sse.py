"""A case's events as they are stored, over server-sent events: ids that a client can go on from, and who may listen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.http.conftest import World

COUNTY = "org-gangwon-hongcheon.officer"
WALKED = [
    "CaseOpened",
    "CaseRouted",
    "CaseRouted",
    "EscalatedToSupportGroup",
    "EscalatedToForum",
    "CaseLinkedToPolicy",
    "ImplementationAssigned",
    "DeadlineChanged",
    "ImplementationCompleted",
    "CaseClosed",
]


@contextmanager
def listening(world: World, case_id: str, office: str, last: str | None = None) -> Iterator[Iterator[dict[str, Any]]]:
    """The stream of a case; each event as its fields. Ends with the block; no wait is longer than 10 s."""
    headers = {**world.headers(office), "Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = last
    with world.system.client() as http, http.stream("GET", f"/v1/cases/{case_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _events(answer)


def _events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    fields: dict[str, Any] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if line == "" and "data" in fields:
            yield {**fields, "data": json.loads(fields["data"])}
            fields = {}
        elif name in ("id", "event", "data"):
            fields[name] = value


def take(events: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [next(events) for _ in range(count)]


@pytest.mark.capability("L1")
def test_every_event_of_the_case_in_order_with_epoch_and_position(world: World) -> None:
    with listening(world, world.walk.case_id, COUNTY) as events:
        found = take(events, len(WALKED))

    assert [event["event"] for event in found] == WALKED
    assert [event["data"]["type"] for event in found] == WALKED
    routing = world.system.service("routing").log
    stored = routing.query(
        "SELECT epoch, position FROM stored_events WHERE case_id = ? ORDER BY position", world.walk.case_id
    )
    assert [event["id"] for event in found] == [f"{epoch}-{position}" for epoch, position in stored]
    assert {event["data"]["case_id"] for event in found} == {world.walk.case_id}
    assert not any("user" in event["data"] or "actor" in event["data"] for event in found)


@pytest.mark.parametrize("seen", [1, 4, 9])
def test_it_goes_on_after_the_last_event_seen(world: World, seen: int) -> None:
    with listening(world, world.walk.case_id, COUNTY) as events:
        found = take(events, len(WALKED))

    with listening(world, world.walk.case_id, COUNTY, last=found[seen - 1]["id"]) as events:
        assert take(events, len(WALKED) - seen) == found[seen:]


def test_an_event_arrives_while_somebody_listens(world: World) -> None:
    body = {"title": "국도", "text": "확장", "regions": ["gangwon"], "raised_by": "org-gangwon", "channel": "letter"}
    raised = world.maru.office("org-gangwon.officer").post("/v1/issues", body)
    world.maru.office("planning-group.secretary").get(f"/v1/cases/{raised.id}")

    with listening(world, raised.id, "org-gangwon.officer") as events:
        first = next(events)
        world.maru.office("council-gangwon.secretary").post(f"/v1/issues/{raised.id}/acceptance", version=2)
        second = next(events)

    assert (first["event"], second["event"]) == ("CaseOpened", "CaseRouted")
    assert second["data"]["data"]["holding"]["body"] == "council-gangwon"


@pytest.mark.parametrize("office", ["org-busan.officer", "org-jeju.officer"])
def test_I_9_others_may_not_listen(world: World, office: str) -> None:
    answer = world.http.get(f"/v1/cases/{world.walk.case_id}/events", headers=world.headers(office))
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"rule", "ko", "en"} <= set(answer.json())


def test_nobody_listens_without_a_token(world: World) -> None:
    assert world.http.get(f"/v1/cases/{world.walk.case_id}/events").status_code == 401


def test_there_is_nothing_to_hear_of_no_case(world: World) -> None:
    assert world.http.get("/v1/cases/none-such/events", headers=world.headers(COUNTY)).status_code == 404


@pytest.mark.parametrize("last", ["", "planted-7f3aq", "1-1", "0", "-1", "1-x", "9999999999-9999999999999999999"])
def test_an_id_that_is_none_of_ours_is_refused(world: World, last: str) -> None:
    headers = {**world.headers(COUNTY), "Last-Event-ID": last}
    answer = world.http.get(f"/v1/cases/{world.walk.case_id}/events", headers=headers)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "planted-7f3aq" not in answer.text
