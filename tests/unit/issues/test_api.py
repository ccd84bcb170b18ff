"""The gateway of issues with the inbox behind it, beside routing: facts looked up, offices checked, answers read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.client import Maru, Problem
from services.issues.service import SERVICE as ISSUES
from services.notifications.service import SERVICE as NOTIFICATIONS
from services.routing.service import SERVICE as ROUTING
from shared.runtime import settings
from shared.runtime.system import System, opened

COUNTY, CS, PS, PH = (
    "org-gangwon-hongcheon.officer",
    "council-gangwon.secretary",
    "planning-group.secretary",
    "planning-group.chair",
)
ROAD, BUDGET = "dept-road", "dept-planning-coordination"
SUGGESTION: dict[str, Any] = {
    "title": "국도 확장 건의",
    "text": "좁은 국도를 넓혀 주시기 바랍니다.",
    "regions": ["gangwon"],
    "channel": "letter",
    "plan_item": "P3-2",
    "cost_band": "above_c",
}
DIRECTION = {
    "instruments": ["facility", "budget"],
    "lead": ROAD,
    "legal_basis": "도로법",
    "cost_band": "above_c",
    "horizon": "2028",
    "text": "가장 좁은 구간부터 넓힌다.",
}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder: Path = tmp_path_factory.mktemp("maru")
    with opened((ROUTING, ISSUES, NOTIFICATIONS), settings.load(data=folder, port=0)) as hosted:
        hosted.seed()
        hosted.idle(20)
        hosted.serve()
        yield hosted


@pytest.fixture
def maru(system: System) -> Iterator[Maru]:
    with Maru(system.url) as client:
        yield client


def raised(maru: Maru, office: str = COUNTY, **changes: Any) -> str:
    case_id = maru.office(office).post("/v1/issues", {**SUGGESTION, **changes}).id
    # The middle service's answer carries the position that issues must reach to know where the case is.
    maru.office("operations.operator").get(f"/v1/cases/{case_id}")
    return case_id


def in_review(maru: Maru, system: System) -> str:
    """A nationwide case goes from the planning group's intake straight into joint review."""
    case_id = raised(maru, PS, raised_by="org-gangwon-hongcheon", nationwide=True)
    maru.office(PS).post(f"/v1/issues/{case_id}/acceptance", version=2)
    system.idle(10)
    return f"/v1/issues/{case_id}/reviews/1"


def refused(status: int, rule: str) -> Any:
    return pytest.raises(Problem, match=rf"^{status} {rule}: ")


@pytest.mark.capability("A1", "A5", "A6")
def test_T_1_raised_on_behalf_with_regions_of_the_day_by_code_or_name(maru: Maru) -> None:
    case_id = raised(
        maru,
        PS,
        raised_by="org-gangwon-hongcheon",
        regions=["42", "경기도"],
        effective_at="2023-05-08T10:00:00+09:00",
        channel="import",
        external_id="row-1",
    )

    issue = maru.office(COUNTY).get(f"/v1/issues/{case_id}")

    assert [(it["region"], it["as_raised"]["code"]) for it in issue["regions"]] == [
        ("gangwon", "42"),
        ("gyeonggi", "41"),
    ]
    assert (issue["regions"][0]["today"][0]["code"], issue["raised_by"]) == ("51", "org-gangwon-hongcheon")
    assert (issue["recorded_by"], issue["origin"]["code"]) == (PS, "local_government")
    assert issue["effective_at"].startswith("2023-05-08")
    assert issue["docket"][:4] == issue["raised_at"][:4]


def test_I_1_a_code_of_another_day(maru: Maru) -> None:
    with refused(409, "I-1"):
        raised(maru, regions=["42"])


@pytest.mark.capability("I1", part="no confidentiality levels")
@pytest.mark.parametrize(
    ("office", "changes", "rule"),
    [
        (COUNTY, {"raised_by": "org-gyeonggi"}, "T-1"),
        ("council-busan.secretary", {"raised_by": "org-gangwon-hongcheon"}, "T-1"),
        (ROAD + ".reviewer", {"raised_by": "org-gangwon-hongcheon"}, "T-1"),
        ("council-gangwon.chair", {"raised_by": "org-gangwon-hongcheon"}, "I-9"),
    ],
)
def test_T_1_raised_by_the_wrong_office(maru: Maru, office: str, changes: dict[str, Any], rule: str) -> None:
    with refused(403, rule):
        raised(maru, office, **changes)


@pytest.mark.capability("L1")
def test_T_4_I_18_accepted_by_the_secretary_of_the_intake_body_only(maru: Maru) -> None:
    case_id = raised(maru)
    for office, rule in (("council-busan.secretary", "T-4"), (COUNTY, "I-9")):
        with refused(403, rule):
            maru.office(office).post(f"/v1/issues/{case_id}/acceptance", version=2)
    with refused(412, "I-18"):
        maru.office(CS).post(f"/v1/issues/{case_id}/acceptance", version=1)

    done = maru.office(CS).post(f"/v1/issues/{case_id}/acceptance", version=2, key="acceptance-1")

    assert maru.office(CS).post(f"/v1/issues/{case_id}/acceptance", version=2, key="acceptance-1") == done
    assert [event["type"] for event in done.events] == ["IssueAccepted"]
    assert maru.office(CS).post(f"/v1/issues/{case_id}/acceptance", version=3).events == ()


@pytest.mark.capability("A10", part="no transfer to another authority in this issue")
def test_T_5_refused_by_the_chair_and_the_raiser_is_told(maru: Maru, system: System) -> None:
    case_id = raised(maru)
    body = {"reason": {"code": "incomplete", "text": "위치를 알 수 없습니다."}, "drafted_by": CS}
    with refused(409, "T-5"):
        maru.office("council-gangwon.chair").post(
            f"/v1/issues/{case_id}/refusal", {**body, "drafted_by": "council-gangwon.chair"}, version=2
        )

    maru.office("council-gangwon.chair").post(f"/v1/issues/{case_id}/refusal", body, version=2)
    system.idle(10)

    assert maru.office(COUNTY).get(f"/v1/issues/{case_id}")["refusal"] == body["reason"]
    about = [it["about_type"] for it in maru.office(COUNTY).all("/v1/notices") if it["case_id"] == case_id]
    assert about == ["CaseClosed", "ReceiptIssued"]


def test_I_9_another_region_s_case_is_not_read_by_a_raiser(maru: Maru) -> None:
    case_id = raised(maru)

    with refused(403, "I-9"):
        maru.office("org-gyeonggi.officer").get(f"/v1/issues/{case_id}")
    assert case_id not in [row["id"] for row in maru.office("org-gyeonggi.officer").all("/v1/issues")]
    assert case_id in [row["id"] for row in maru.office(COUNTY).all("/v1/issues", region="gangwon", state="raised")]


@pytest.mark.parametrize("path", ["/v1/issues/none", "/v1/issues/none/reviews/1"])
def test_what_does_not_exist_is_not_found(maru: Maru, path: str) -> None:
    with refused(404, "absent"):
        maru.office(PS).get(path)


@pytest.mark.capability("D1", "D2", "D3")
def test_T_12_to_T_16_a_round_from_consultation_to_conclusion(maru: Maru, system: System) -> None:
    review = in_review(maru, system)
    opened_round = maru.office(PS).get(review)
    assert (opened_round["lead"], opened_round["proposed"]) == (ROAD, [BUDGET])

    maru.office(PS).post(f"{review}/consultations", {"department": ROAD, "lead": True}, version=1)
    asked = maru.office(PS).post(f"{review}/consultations", {"department": BUDGET}, version=2)
    with refused(409, "T-12"):
        maru.office(PS).post(f"{review}/consultations", {"department": "forum"}, version=asked.version)
    with refused(409, "T-12a"):
        maru.office(PS).post(f"{review}/consultations/{ROAD}/reminders", version=asked.version)
    with refused(409, "T-12b"):
        maru.office(PS).post(f"{review}/consultations/{ROAD}/not-given", version=asked.version)
    with refused(404, "absent"):
        maru.office(PS).post(f"{review}/consultations/dept-rail/reminders", version=asked.version)

    opinion = {"department": ROAD, "revision": 1, "opinion": "support_with_conditions", "text": "조건부"}
    with refused(403, "T-13"):
        maru.office(f"{BUDGET}.reviewer").post(f"{review}/opinions", opinion)
    with refused(409, "I-7"):
        maru.office(f"{ROAD}.reviewer").post(f"{review}/opinions", {**opinion, "revision": 2})
    maru.office(f"{ROAD}.reviewer").post(f"{review}/opinions", opinion)
    with refused(409, "I-5"):
        maru.office(PH).post(f"{review}/conclusion", {"outcome": "needs_coordination", "text": "조정"}, version=4)
    maru.office(f"{BUDGET}.reviewer").post(
        f"{review}/opinions", {**opinion, "department": BUDGET, "opinion": "support"}
    )

    body = {"revision": 1, "direction": DIRECTION}
    with refused(403, "T-15"):
        maru.office(f"{BUDGET}.reviewer").post(f"{review}/direction", body, version=5)
    with refused(409, "T-15"):
        unknown = {**body, "direction": {**DIRECTION, "lead": "forum"}}
        maru.office(f"{ROAD}.reviewer").post(f"{review}/direction", unknown, version=5)
    maru.office(f"{ROAD}.reviewer").post(f"{review}/direction", body, version=5)
    conclusion = {"outcome": "supportable", "text": "지원할 수 있습니다."}
    with refused(403, "I-9"):
        maru.office(PS).post(f"{review}/conclusion", conclusion, version=6)
    done = maru.office(PH).post(f"{review}/conclusion", conclusion, version=6)

    assert [event["type"] for event in done.events] == ["IssueReviewed"]
    shown = maru.office(COUNTY).get(review)
    assert (shown["outcome"]["code"], shown["divergence"], shown["direction"]["lead"]) == ("supportable", 0.25, ROAD)
    assert [(it["department"], it["opinion"]["code"]) for it in shown["consultations"]] == [
        (ROAD, "support_with_conditions"),
        (BUDGET, "support"),
    ]


@pytest.mark.capability("G7")
def test_N_read_an_office_reads_its_own_inbox(maru: Maru, system: System) -> None:
    case_id = raised(maru)
    system.idle(10)
    [notice] = [it for it in maru.office(COUNTY).all("/v1/notices", unread="true") if it["case_id"] == case_id]
    path = f"/v1/notices/{notice['id']}/reading"
    with refused(403, "N-read"):
        maru.office(CS).post(path)
    with refused(404, "absent"):
        maru.office(COUNTY).post("/v1/notices/none/reading")

    assert [event["type"] for event in maru.office(COUNTY).post(path).events] == ["NotificationRead"]
    assert maru.office(COUNTY).post(path).events == ()
    assert notice["id"] not in [it["id"] for it in maru.office(COUNTY).all("/v1/notices", unread="true")]
