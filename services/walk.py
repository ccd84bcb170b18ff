"""The walk: golden scenario 1 over the REST gateways, every act by the office whose act it is.

A county of Gangwon asks for a wider national road; council, joint review, support group and forum pass it on; the
Minister adopts a policy, the county is told, the task is done, the case closes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from services.client import Done, Maru, Office

RAISER = "org-gangwon-hongcheon"
COUNCIL = "council-gangwon"
DEPARTMENT = "dept-road"
BUDGET = "dept-planning-coordination"


@dataclass(frozen=True)
class Step:
    """One act of the walk, as it is shown: day, office, what, the events stored, where to look."""

    day: date
    office: str
    what: str
    events: tuple[str, ...]
    position: str
    link: str


@dataclass
class Outcome:
    """What the walk left: ids, and what the county itself read back over HTTP."""

    case_id: str = ""
    policy_id: str = ""
    docket: str = ""
    meetings: dict[str, str] = field(default_factory=dict)
    policy_read: dict[str, Any] = field(default_factory=dict)
    notice_read: dict[str, Any] = field(default_factory=dict)
    itinerary: dict[str, Any] = field(default_factory=dict)
    commands: int = 0
    events: int = 0

    @property
    def told(self) -> bool:
        """Whether the county read the adopted policy and its notice with its own token."""
        return bool(self.policy_read) and bool(self.notice_read)


class Walk:
    """One walk against a running system. ``dated`` moves the business clock through the dates of the walk's page."""

    def __init__(self, maru: Maru, *, dated: bool, told: Callable[[Step], None] = lambda step: None) -> None:
        self._maru = maru
        self._dated = dated
        self._told = told
        self.outcome = Outcome()
        self._today = self._business_day()

    def _business_day(self) -> date:
        clock = self._maru.office("operations.operator").get("/v1/clock")
        return date.fromisoformat(clock["business_time"][:10])

    def _on(self, month: int, day: int, year: int = 2023) -> date:
        """Go to a day: the clock is shifted in the dated walk, else everything happens today."""
        if self._dated:
            wanted = date(year, month, day)
            if wanted > self._today:
                self._do(
                    "operations.operator",
                    f"the business clock moves to {wanted.isoformat()}",
                    "/v1/clock/shifts",
                    {"date": wanted.isoformat()},
                    link="/v1/clock",
                )
                self._maru.forget_tokens()
                self._maru.office("operations.operator").get("/v1/clock")
                self._today = wanted
        return self._today

    def _do(
        self,
        office: str,
        what: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        version: int | None = None,
        link: str | None = None,
    ) -> Done:
        done = self._maru.office(office).post(path, body, version=version)
        self.outcome.commands += 1
        self.outcome.events += len(done.events)
        events = tuple(str(event["type"]) for event in done.events)
        self._told(Step(self._today, office, what, events, done.position, link or path))
        return done

    def _case(self) -> dict[str, Any]:
        """The itinerary, read by the planning group: its token says that routing has reacted."""
        found: dict[str, Any] = self._office("planning-group.secretary").get(f"/v1/cases/{self.outcome.case_id}")
        return found

    def _office(self, office: str) -> Office:
        return self._maru.office(office)

    # The acts, in order

    def run(self) -> Outcome:
        """The whole way, from the county's letter to the closed case. Raises ``Problem`` where an act is refused."""
        self.raise_and_accept()
        self.council()
        self.review()
        self.support_group()
        self.forum()
        self.tell()
        self.carry_out()
        self.outcome.itinerary = self._case()
        return self.outcome

    def raise_and_accept(self) -> None:
        """Steps 1 and 2."""
        self._on(5, 8)
        raised = self._do(
            f"{RAISER}.officer",
            "raises the suggestion of a wider national road",
            "/v1/issues",
            {
                "title": "국도 44호선 홍천 구간 4차로 확장",
                "text": "국도의 교통량이 도로 용량을 넘어 정체와 사고가 잦으니 4차로로 넓혀 주시기를 건의합니다.",
                "regions": ["gangwon"],
                "raised_by": RAISER,
                "channel": "letter",
                "plan_item": "P3-2",
                "tags": ["road"],
                "cost_band": "above_c",
            },
        )
        self.outcome.case_id = raised.id
        issue = f"/v1/issues/{raised.id}"
        self._case()
        self._on(5, 9)
        self._do(
            f"{COUNCIL}.secretary", "accepts it at intake", f"{issue}/acceptance", version=raised.version, link=issue
        )
        self.outcome.docket = self._office(f"{RAISER}.officer").get(issue)["docket"]
        self._case()

    def council(self) -> None:
        """Steps 3 to 11: the council discusses it and takes it for review."""
        self._on(5, 10)
        meeting = self._plan(COUNCIL, (5, 24), "홍천군청", (5, 15))
        version = self._sit(COUNCIL, meeting, seats=None)
        version = self._decide(
            COUNCIL, meeting, version, "takes it for review by the departments", {"code": "take_for_review"}
        )
        self._finish(COUNCIL, meeting, version)

    def review(self) -> None:
        """Steps 13 to 20: two departments, one direction, one conclusion."""
        self._case()
        self._on(5, 25)
        review = f"/v1/issues/{self.outcome.case_id}/reviews/1"
        version = self._office("planning-group.secretary").version(review)
        consulted = self._do(
            "planning-group.secretary",
            "consults the Road Bureau, which leads",
            f"{review}/consultations",
            {"department": DEPARTMENT, "lead": True},
            version=version,
            link=review,
        )
        self._do(
            "planning-group.secretary",
            "consults the budget officer",
            f"{review}/consultations",
            {"department": BUDGET},
            version=consulted.version,
            link=review,
        )
        self._on(6, 1)
        self._do(
            f"{DEPARTMENT}.reviewer",
            "gives its opinion: support with conditions",
            f"{review}/opinions",
            {
                "department": DEPARTMENT,
                "revision": 1,
                "opinion": "support_with_conditions",
                "conditions": ["가장 좁은 구간부터 단계별로 시행"],
                "text": "교통량과 사고 자료로 보아 필요성이 인정됩니다.",
            },
            link=review,
        )
        self._on(6, 7)
        self._do(
            f"{BUDGET}.reviewer",
            "gives its opinion: support",
            f"{review}/opinions",
            {"department": BUDGET, "revision": 1, "opinion": "support", "text": "중기재정계획에 반영할 수 있습니다."},
            link=review,
        )
        self._on(6, 14)
        directed = self._do(
            f"{DEPARTMENT}.reviewer",
            "sets the direction of support",
            f"{review}/direction",
            {
                "revision": 1,
                "direction": {
                    "instruments": ["facility", "budget"],
                    "lead": DEPARTMENT,
                    "legal_basis": "도로법",
                    "cost_band": "above_c",
                    "horizon": "2028",
                    "plan_item": "P3-2",
                    "text": "국도 건설계획에 반영하여 단계별로 확장합니다.",
                },
            },
            version=self._office(f"{DEPARTMENT}.reviewer").version(review),
            link=review,
        )
        self._on(6, 15)
        self._do(
            "planning-group.chair",
            "concludes the joint review: supportable",
            f"{review}/conclusion",
            {"outcome": "supportable", "text": "지원이 타당하며 사업비 규모로 보아 지원단의 논의가 필요합니다."},
            version=directed.version,
            link=review,
        )
        self._case()

    def support_group(self) -> None:
        """Steps 21 to 23: the support group escalates it."""
        self._on(6, 20)
        meeting = self._plan("support-group", (7, 6), "국토교통부 세종청사", (6, 27))
        version = self._sit("support-group", meeting, seats=None)
        version = self._decide(
            "support-group",
            meeting,
            version,
            "escalates it to the forum: budget beyond its powers",
            {
                "code": "escalate",
                "fields": {
                    "escalation": "law_or_budget_beyond_powers",
                    "reason": {"code": "law_or_budget_beyond_powers", "text": "사업비가 지원단의 권한을 넘습니다."},
                },
            },
        )
        self._finish("support-group", meeting, version)

    def forum(self) -> None:
        """Steps 24 to 30: drafted, deliberated, adopted."""
        self._case()
        self._on(7, 13)
        drafted = self._do(
            "planning-group.secretary",
            "drafts the policy",
            "/v1/policies",
            {
                "title": "강원권 국도 확충 정책",
                "text": "강원권 국도의 병목 구간을 사고와 교통량이 많은 순서로 2028년까지 4차로로 확장한다.",
                "sources": [{"kind": "issue", "ref": self.outcome.case_id}],
                "plan_item": "P3-2",
            },
        )
        policy_id = self.outcome.policy_id = drafted.id
        policy = self._office("planning-group.secretary").get(f"/v1/policies/{policy_id}")
        self._on(8, 29)
        meeting = self._plan("forum", (9, 12), "국토교통부 세종청사", (8, 30), policy_id)
        members = self._members("forum")
        version = self._sit("forum", meeting, seats=None)
        item = f"/v1/meetings/{meeting}/items/1"
        stances = ("for", "for", "with_conditions")
        for seat, stance in zip(members[:3], stances, strict=True):
            self._do(
                "forum.secretary",
                f"records a member's statement ({seat['fields'][0]}: {stance})",
                f"{item}/statements",
                {
                    "seat": seat["seat"],
                    "field": seat["fields"][0],
                    "stance": stance,
                    "text": "지역 간 이동을 살리는 사업입니다.",
                },
                link=f"/v1/meetings/{meeting}",
            )
        concluded = self._do(
            "forum.chair",
            "concludes the deliberation",
            f"{item}/deliberation",
            {"text": "위원들은 단계별 추진을 권고하였습니다."},
            version=version + 3,
            link=f"/v1/meetings/{meeting}",
        )
        review_on = date(2024, 9, 12) if self._dated else self._today + timedelta(days=366)
        version = self._decide(
            "forum",
            meeting,
            concluded.version,
            "the Minister adopts the policy",
            {
                "code": "adopt",
                "fields": {
                    "policy_id": policy_id,
                    "policy_revision": policy["revision"],
                    "policy_hash": policy["text_hash"],
                    "owner": DEPARTMENT,
                    "review_date": review_on.isoformat(),
                    "sources": [{"kind": "issue", "ref": self.outcome.case_id}],
                },
            },
        )
        self._finish("forum", meeting, version)

    def tell(self) -> None:
        """Step 31: the county reads the policy and acknowledges its notice, with its own token."""
        # The Minister's decision travels from the meeting to the policy to the case: two hops, so each is read in turn.
        self._office("planning-group.secretary").get(f"/v1/policies/{self.outcome.policy_id}")
        self._case()
        self._on(9, 13)
        county = self._office(f"{RAISER}.officer")
        policy = county.get(f"/v1/policies/{self.outcome.policy_id}")
        if policy["state"] != "adopted":
            return
        self.outcome.policy_read = policy
        notice = self._notice_of("CaseLinkedToPolicy")
        if notice is not None:
            self._do(
                f"{RAISER}.officer",
                "reads its notice: the county was told",
                f"/v1/notices/{notice['id']}/reading",
                link="/v1/notices",
            )
            self.outcome.notice_read = notice

    def _notice_of(self, about: str) -> dict[str, Any] | None:
        for row in self._office(f"{RAISER}.officer").all("/v1/notices", unread="true"):
            if row["about_type"] == about and row["case_id"] == self.outcome.case_id:
                return row
        return None

    def carry_out(self) -> None:
        """Steps 32 and 33: the task is given, done, and the case closes."""
        policy = f"/v1/policies/{self.outcome.policy_id}"
        self._on(10, 16)
        due = date(2024, 6, 28) if self._dated else self._today + timedelta(days=200)
        task = self._do(
            "planning-group.secretary",
            "assigns the task to the Road Bureau",
            f"{policy}/tasks",
            {"title": "병목 구간 4차로 확장 설계", "owner": DEPARTMENT, "regions": ["gangwon"], "due": due.isoformat()},
            version=self._office("planning-group.secretary").version(policy),
            link=policy,
        )
        name = self._office("planning-group.secretary").get(policy)["tasks"][0]["task"]
        self._on(6, 20, 2024)
        reported = self._do(
            f"{DEPARTMENT}.reviewer",
            "reports the task done, with evidence",
            f"{policy}/tasks/{name}/progress",
            {"done": True, "text": "설계를 마치고 착공하였습니다.", "evidence": ["착공 보고 2024-0620"]},
            version=task.version,
            link=policy,
        )
        self._do(
            "planning-group.secretary",
            "completes the policy: all tasks are done",
            f"{policy}/completion",
            version=reported.version,
            link=policy,
        )
        self._case()

    # A sitting

    def _members(self, body: str) -> list[dict[str, Any]]:
        return list(self._office(f"{body}.secretary").all("/v1/reference/members", body=body))

    def _plan(
        self, body: str, on: tuple[int, int], place: str, placed_on: tuple[int, int], policy_id: str | None = None
    ) -> str:
        day = date(2023, *on) if self._dated else self._today
        meeting = self._do(
            f"{body}.secretary",
            f"plans a sitting for {day.isoformat()}",
            "/v1/meetings",
            {"body": body, "day": day.isoformat(), "place": place, "form": "on_site"},
        )
        self.outcome.meetings[body] = meeting.id
        self._case()
        self._on(*placed_on)
        placed: dict[str, Any] = {"case_id": self.outcome.case_id}
        if policy_id is not None:
            placed["policy_id"] = policy_id
        self._do(
            f"{body}.secretary",
            "places the case on the agenda",
            f"/v1/meetings/{meeting.id}/items",
            placed,
            version=meeting.version,
            link=f"/v1/meetings/{meeting.id}",
        )
        self._on(*on)
        return meeting.id

    def _sit(self, body: str, meeting: str, seats: list[str] | None) -> int:
        """Open, attend, call the item; gives the meeting's version."""
        path = f"/v1/meetings/{meeting}"
        opened = self._do(f"{body}.chair", "opens the sitting", f"{path}/opening", version=2, link=path)
        present = seats or [row["seat"] for row in self._members(body)]
        attended = self._do(
            f"{body}.secretary",
            f"records the attendance of {len(present)}",
            f"{path}/attendance",
            {"present": present},
            version=opened.version,
            link=path,
        )
        called = self._do(
            f"{body}.chair", "calls the item", f"{path}/items/1/opening", version=attended.version, link=path
        )
        return called.version

    def _decide(self, body: str, meeting: str, version: int, what: str, decision: dict[str, Any]) -> int:
        path = f"/v1/meetings/{meeting}"
        return self._do(f"{body}.chair", what, f"{path}/items/1/decision", decision, version=version, link=path).version

    def _finish(self, body: str, meeting: str, version: int) -> None:
        path = f"/v1/meetings/{meeting}"
        closed = self._do(f"{body}.chair", "closes the item", f"{path}/items/1/closing", version=version, link=path)
        self._do(f"{body}.chair", "closes the sitting", f"{path}/closing", version=closed.version, link=path)
