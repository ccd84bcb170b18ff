"""Who may not: the wrong office, the office's former holder, without quorum, on a stale version, after the end (2.3).

Every refusal names its rule and says why in both languages; nothing is stored.
"""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.client import Problem
from services.walk import Walk
from shared.runtime.declare import CommandRoute, ReadRoute
from shared.runtime.settings import load
from tests.http.conftest import World
from tests.http.samples import COMMANDS, READS, sample

REGIONS = (
    "seoul", "busan", "daegu", "incheon", "gwangju", "daejeon", "ulsan", "sejong", "gyeonggi", "gangwon", "chungbuk",
    "chungnam", "jeonbuk", "jeonnam", "gyeongbuk", "gyeongnam", "jeju",
)  # fmt: skip

KINDS = {
    ("council", "secretary"): "council-busan.secretary",
    ("council", "chair"): "council-busan.chair",
    ("council", "deputy"): "council-busan.deputy",
    ("planning_group", "secretary"): "planning-group.secretary",
    ("planning_group", "chair"): "planning-group.chair",
    ("planning_group", "deputy"): "planning-group.deputy",
    ("support_group", "secretary"): "support-group.secretary",
    ("support_group", "chair"): "support-group.chair",
    ("support_group", "deputy"): "support-group.deputy",
    ("forum", "secretary"): "forum.secretary",
    ("forum", "chair"): "forum.chair",
    ("forum", "deputy"): "forum.deputy",
    ("department", "reviewer"): "dept-rail.reviewer",
    ("organisation", "officer"): "org-busan.officer",
    ("triage", "desk"): "triage-desk.desk",
    ("operations", "operator"): "operations.operator",
}
"""One office of each kind; where the scope asks for body or region, none that the walked case belongs to."""


def assert_refused(answer: httpx.Response, status: int, rule: str | None = None) -> None:
    """A refusal with its rule and a sentence in Korean and in English."""
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem["rule"], problem
    assert rule is None or problem["rule"] == rule, problem
    assert any("가" <= letter <= "힣" for letter in problem["ko"])
    assert problem["en"].isascii()


def allowed() -> set[tuple[str, str, str]]:
    """(action, body kind, role) of every row of the policy table, read here once more from the data."""
    found = set()
    for path in sorted((load().reference / "policy").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found |= {
                    (row["action"], kind, role)
                    for kind, role in KINDS
                    if row["body_kind"] in ("*", kind) and row["role"] in ("*", role)
                }
    return found


def ask(world: World, route: CommandRoute | ReadRoute, office: str) -> httpx.Response:
    headers = world.headers(office, key=uuid.uuid4().hex, version=1)
    if isinstance(route, ReadRoute):
        return world.http.get(world.path(route.path), headers=headers)
    return world.http.post(world.path(route.path), json=sample(route), headers=headers)


# The policy table


@pytest.mark.capability("I1")
@pytest.mark.parametrize("route", [*COMMANDS, *READS], ids=lambda route: route.operation_id)
def test_I_9_every_kind_of_office_without_a_row_is_refused(world: World, route: CommandRoute | ReadRoute) -> None:
    rows = allowed()
    before = world.stored()
    for (kind, role), office in KINDS.items():
        if (route.action, kind, role) not in rows:
            assert_refused(ask(world, route, office), 403, "I-9")
    assert world.stored() == before


@pytest.mark.capability("C1")
@pytest.mark.parametrize("body", ["council-gangwon", "planning-group", "support-group", "forum"])
def test_I_9_a_deputy_has_no_power_of_its_own(world: World, body: str) -> None:
    """It stands in for the head by delegation only, and there is none: it reads, and every other act is refused."""
    acts = [route for route in COMMANDS if route.action != "mark_read"]
    before = world.stored()
    for route in acts:
        assert_refused(ask(world, route, f"{body}.deputy"), 403, "I-9")
    assert world.stored() == before
    assert world.http.get("/v1/issues", headers=world.headers(f"{body}.deputy")).status_code == 200


def test_the_table_refuses_more_than_it_allows() -> None:
    routes: list[CommandRoute | ReadRoute] = [*COMMANDS, *READS]
    pairs = [(route.action, kind, role) for route in routes for kind, role in KINDS]
    rows = allowed()
    refused = [pair for pair in pairs if pair not in rows]
    assert len(refused) > 300
    assert {pair[0] for pair in refused} >= {route.action for route in COMMANDS if route.action != "mark_read"}


@pytest.mark.parametrize(
    ("path", "office", "body", "rule"),
    [
        ("/v1/issues/{case_id}/acceptance", "council-busan.secretary", {}, "T-4"),
        (
            "/v1/issues/{case_id}/refusal",
            "council-busan.chair",
            {"reason": {"code": "incomplete", "text": "-"}, "drafted_by": "council-busan.secretary"},
            "T-5",
        ),
        (
            "/v1/issues/{case_id}/reviews/{round}/opinions",
            "dept-rail.reviewer",
            {"department": "dept-road", "revision": 1, "opinion": "support", "text": "-"},
            "T-13",
        ),
        ("/v1/meetings/{meeting_id}/opening", "council-busan.chair", {}, "I-9"),
        (
            "/v1/meetings",
            "council-busan.secretary",
            {"body": "council-gangwon", "day": "2023-01-04", "place": "-"},
            "I-9",
        ),
        ("/v1/meetings/{meeting_id}/items/{item}/decision", "forum.chair", {"code": "noted"}, "I-9"),
        (
            "/v1/cases/{case_id}/completion",
            "council-busan.secretary",
            {"text": "-", "evidence": ["-"]},
            "T-38a",
        ),
        (
            "/v1/policies/{policy_id}/tasks/{task}/progress",
            "dept-rail.reviewer",
            {"done": True, "text": "-", "evidence": ["-"]},
            "I-9",
        ),
        ("/v1/notices/{notice_id}/reading", "org-busan.officer", {}, "N-read"),
        (
            "/v1/issues",
            "org-busan.officer",
            {"title": "-", "text": "-", "regions": ["busan"], "raised_by": "org-seoul", "channel": "letter"},
            "T-1",
        ),
        (
            "/v1/issues",
            "council-busan.secretary",
            {"title": "-", "text": "-", "regions": ["seoul"], "raised_by": "org-seoul", "channel": "letter"},
            "T-1",
        ),
    ],
)
def test_an_office_of_the_right_kind_of_another_body_is_refused(
    world: World, path: str, office: str, body: dict[str, Any], rule: str
) -> None:
    before = world.stored()
    if path == "/v1/cases/{case_id}/completion":
        path = f"/v1/cases/{_open_case(world, 'gangwon')}/completion"
        before = world.stored()

    answer = world.http.post(world.path(path), json=body, headers=world.headers(office, uuid.uuid4().hex, version=1))

    assert_refused(answer, 403, rule)
    assert world.stored() == before


def _open_case(world: World, region: str) -> str:
    """A case that waits at its council's intake, heard by everybody."""
    body = {"title": f"{region} 국도", "text": "확장", "regions": [region], "channel": "letter"}
    raised = world.maru.office(f"org-{region}.officer").post("/v1/issues", body)
    assert world.system.idle()
    return raised.id


# Quorum, versions, ends


@pytest.fixture
def case_at_council(world: World) -> str:
    """A case on the floor of the council of Gangwon."""
    case_id = _open_case(world, "gangwon")
    world.maru.office("council-gangwon.secretary").post(f"/v1/issues/{case_id}/acceptance", version=2)
    assert world.system.idle()
    return case_id


@pytest.fixture
def sitting(world: World, case_at_council: str) -> tuple[str, int]:
    """A sitting that has called the case's item with one member present; its path and version."""
    secretary, chair = world.maru.office("council-gangwon.secretary"), world.maru.office("council-gangwon.chair")
    today = secretary.get("/v1/clock")["business_time"][:10]
    meeting = secretary.post("/v1/meetings", {"body": "council-gangwon", "day": today, "place": "홍천"})
    path = f"/v1/meetings/{meeting.id}"
    secretary.post(f"{path}/items", {"case_id": case_at_council}, version=1)
    chair.post(f"{path}/opening", version=2)
    secretary.post(f"{path}/attendance", {"present": ["council-gangwon-seat-chair"]}, version=3)
    called = chair.post(f"{path}/items/1/opening", version=4)
    assert world.system.idle()
    return path, called.version


def test_I_10_a_decision_without_quorum_is_refused(world: World, sitting: tuple[str, int]) -> None:
    path, version = sitting
    before = world.stored()
    headers = world.headers("council-gangwon.chair", uuid.uuid4().hex, version)

    answer = world.http.post(f"{path}/items/1/decision", json={"code": "take_for_review"}, headers=headers)

    assert_refused(answer, 409, "I-10")
    assert world.stored() == before


def test_I_18_a_stale_version_is_refused(world: World, sitting: tuple[str, int]) -> None:
    path, version = sitting
    before = world.stored()
    for stale in (version - 1, 1, version + 1):
        headers = world.headers("council-gangwon.chair", uuid.uuid4().hex, stale)
        answer = world.http.post(f"{path}/items/1/closing", json={}, headers=headers)
        assert_refused(answer, 412, "I-18")
        assert answer.headers["etag"] == f'"{version}"'
    assert world.stored() == before


def test_I_18_no_version_at_all_is_refused(world: World, sitting: tuple[str, int]) -> None:
    path, _ = sitting
    headers = world.headers("council-gangwon.chair", uuid.uuid4().hex)
    assert_refused(world.http.post(f"{path}/items/1/closing", json={}, headers=headers), 428, "I-18")


AFTER_THE_END: list[tuple[str, str, dict[str, Any]]] = [
    ("/v1/issues/{case_id}/acceptance", "council-gangwon.secretary", {}),
    (
        "/v1/issues/{case_id}/refusal",
        "council-gangwon.chair",
        {"reason": {"code": "incomplete", "text": "-"}, "drafted_by": "council-gangwon.secretary"},
    ),
    (
        "/v1/issues/{case_id}/reviews/{round}/consultations",
        "planning-group.secretary",
        {"department": "dept-rail"},
    ),
    (
        "/v1/issues/{case_id}/reviews/{round}/opinions",
        "dept-road.reviewer",
        {"department": "dept-road", "revision": 1, "opinion": "not_supportable", "text": "늦은 의견"},
    ),
    (
        "/v1/issues/{case_id}/reviews/{round}/conclusion",
        "planning-group.chair",
        {"outcome": "needs_coordination", "text": "다시"},
    ),
    (
        "/v1/cases/{case_id}/assignment",
        "triage-desk.desk",
        {"body": "council-gangwon", "reason": {"code": "x", "text": "-"}},
    ),
    ("/v1/cases/{case_id}/implementation-reports", "dept-road.reviewer", {"text": "-", "evidence": ["-"]}),
    ("/v1/cases/{case_id}/completion", "dept-road.reviewer", {"text": "-", "evidence": ["-"]}),
    ("/v1/meetings/{meeting_id}/opening", "council-gangwon.chair", {}),
    ("/v1/meetings/{meeting_id}/items/1/opening", "council-gangwon.chair", {}),
    (
        "/v1/meetings/{meeting_id}/items/1/decision",
        "council-gangwon.chair",
        {"code": "noted", "fields": {"due": "2023-12-01"}},
    ),
    ("/v1/meetings/{meeting_id}/attendance", "council-gangwon.secretary", {"present": []}),
    (
        "/v1/policies/{policy_id}/tasks",
        "planning-group.secretary",
        {"title": "더", "owner": "dept-road", "regions": ["gangwon"], "due": "2030-01-01"},
    ),
    (
        "/v1/policies/{policy_id}/tasks/t1/progress",
        "dept-road.reviewer",
        {"done": False, "text": "-", "evidence": ["-"]},
    ),
]


@pytest.mark.parametrize(("path", "office", "body"), AFTER_THE_END, ids=[one[0] for one in AFTER_THE_END])
def test_an_act_after_the_end_is_refused(world: World, path: str, office: str, body: dict[str, Any]) -> None:
    """The issue is closed, the round concluded, the sitting held, the policy implemented."""
    assert world.system.idle()
    before = world.stored()
    path = world.path(path)
    headers = world.headers(office, uuid.uuid4().hex, version=1)
    answer = world.http.post(path, json=body, headers=headers)
    if answer.status_code == 412:
        headers["If-Match"] = answer.headers["etag"]
        answer = world.http.post(path, json=body, headers=headers)

    assert_refused(answer, 403 if answer.status_code == 403 else 409)
    assert world.stored() == before


# Reads of another region


OF_A_CASE = [
    "/v1/issues/{case_id}",
    "/v1/issues/{case_id}/reviews/{round}",
    "/v1/cases/{case_id}",
    "/v1/cases/{case_id}/why",
    "/v1/cases/{case_id}/events",
    "/v1/lineage/issue/{case_id}",
]


def test_every_read_of_one_case_is_among_those_tried() -> None:
    of_a_case = {route.path for route in READS if "{case_id}" in route.path}
    assert of_a_case <= set(OF_A_CASE)


@pytest.mark.parametrize("path", OF_A_CASE)
def test_a_raiser_may_not_read_another_regions_case(world: World, path: str) -> None:
    for office in ("org-busan.officer", "org-jeju.officer"):
        assert_refused(world.http.get(world.path(path), headers=world.headers(office)), 403)


@pytest.mark.parametrize("path", [path for path in OF_A_CASE if not path.endswith("/events")])
def test_a_raiser_reads_its_own_regions_case(world: World, path: str) -> None:
    for office in ("org-gangwon-hongcheon.officer", "org-gangwon.officer"):
        assert world.http.get(world.path(path), headers=world.headers(office)).status_code == 200


@pytest.fixture(scope="module")
def planted(world: World) -> dict[str, str]:
    """One case in each region whose title is that region's marker; region → case id."""
    found = {}
    for region in REGIONS:
        body = {"title": marker(region), "text": marker(region), "regions": [region], "channel": "letter"}
        found[region] = world.maru.office(f"org-{region}.officer").post("/v1/issues", body).id
        if region != "gangwon":
            # Its holder has work: the queue and the waiting list have a row of every region.
            world.maru.office("planning-group.secretary").get(f"/v1/cases/{found[region]}")
            world.maru.office(f"council-{region}.secretary").post(f"/v1/issues/{found[region]}/acceptance", version=2)
    assert world.system.idle()
    return found


def marker(region: str) -> str:
    return f"marker-of-{region}-9q"


LISTS = [route for route in READS if "{" not in route.path]


@pytest.mark.parametrize("region", REGIONS)
def test_I_9_no_list_shows_a_row_of_another_region(world: World, planted: dict[str, str], region: str) -> None:
    foreign = [text for other in REGIONS if other != region for text in (marker(other), planted[other])]
    office = f"org-{region}.officer"
    for route in LISTS:
        for text in pages(world, route.path, office):
            assert not [leak for leak in foreign if leak in text], route.path


@pytest.mark.parametrize("region", REGIONS)
def test_a_raiser_finds_its_own_row(world: World, planted: dict[str, str], region: str) -> None:
    assert any(marker(region) in text for text in pages(world, "/v1/issues", f"org-{region}.officer"))
    assert any(planted[region] in text for text in pages(world, "/v1/notices", f"org-{region}.officer"))


def test_an_office_of_the_ministry_finds_every_row(world: World, planted: dict[str, str]) -> None:
    texts = "".join(pages(world, "/v1/issues", "planning-group.secretary"))
    assert all(marker(region) in texts for region in REGIONS)


def test_filters_do_not_lead_around_the_policy(world: World, planted: dict[str, str]) -> None:
    headers = world.headers("org-busan.officer")
    for query in ("region=seoul", "region=11", "raised_by=org-seoul", "state=raised", "plan_item=P3-2"):
        answer = world.http.get(f"/v1/issues?{query}", headers=headers)
        assert answer.status_code == 200
        assert marker("seoul") not in answer.text
    for query in ("body=council-seoul", "office=council-seoul.secretary", "department=dept-road"):
        assert planted["seoul"] not in world.http.get(f"/v1/work-queue?{query}", headers=headers).text


def pages(world: World, path: str, office: str) -> Iterator[str]:
    """Every page of a list as text; nothing where the office may not read it at all."""
    following: str | None = path
    while following is not None:
        answer = world.http.get(following, headers=world.headers(office))
        if answer.status_code == 403:
            assert_refused(answer, 403)
            return
        assert answer.status_code == 200, answer.text
        yield answer.text
        following = json.loads(answer.text).get("next")


# One act at a time


def test_a_walk_still_goes_through(world: World) -> None:
    """After all these refusals the system does its work."""
    assert Walk(world.maru, dated=False).run().told


def test_a_refused_act_tells_its_client_the_rule(world: World) -> None:
    with pytest.raises(Problem) as refused:
        world.maru.office("dept-rail.reviewer").get("/v1/notices", limit=0)
    assert refused.value.status == 400
    with pytest.raises(Problem) as denied:
        world.maru.office("org-busan.officer").get(f"/v1/cases/{world.ids['case_id']}")
    assert denied.value.rule == "I-9"
