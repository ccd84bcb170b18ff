"""The acts that the golden scenarios share, each over HTTP by the office whose act it is.

Every act ends when the whole system has heard of it, so that a test reads what followed and never waits for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from types import TracebackType
from typing import Any, Self

import pytest

from services.client import Done, Maru, Office, Problem
from shared.runtime.declare import Recorded
from shared.runtime.log import decode
from tests.full_form import Running

COUNTY = "org-gangwon-hongcheon"
OFFICER = f"{COUNTY}.officer"
COUNCIL = "council-gangwon"
SECRETARY = "planning-group.secretary"
HEAD = "planning-group.chair"
ROAD = "dept-road"
BUDGET = "dept-planning-coordination"

DIRECTION = {
    "instruments": ["facility", "budget"],
    "lead": ROAD,
    "legal_basis": "도로법",
    "cost_band": "not_above_b",
    "horizon": "2028",
    "plan_item": "P3-2",
    "text": "가장 좁은 구간부터 단계별로 확장합니다.",
}
REASON = {"code": "heard", "text": "현장에서 확인하고 의견을 들었습니다."}


class Play:
    """A running system and whoever acts in it."""

    def __init__(self, system: Running) -> None:
        self.system = system
        self.maru = Maru(system.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.maru.close()

    # Looking

    def office(self, name: str) -> Office:
        """An office at the gateways."""
        return self.maru.office(name)

    def settle(self) -> None:
        """Wait until every service has heard, answered and folded everything."""
        assert self.system.idle()

    def until(self, holds: Callable[[], bool], seconds: float = 15) -> None:
        """Wait for what the clock does by itself: probe again each time that something was stored."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it did not come to that"
            self.settle()
        self.settle()

    def today(self) -> date:
        """The business day."""
        clock = self.office("operations.operator").get("/v1/clock")
        return date.fromisoformat(clock["business_time"][:10])

    def case(self, case_id: str, office: str = SECRETARY) -> dict[str, Any]:
        """The itinerary as an office reads it."""
        found: dict[str, Any] = self.office(office).get(f"/v1/cases/{case_id}")
        return found

    def stage(self, case_id: str) -> tuple[str, str | None]:
        """Stage and holder of a case."""
        case = self.case(case_id)
        return case["stage"], case["holder"] and case["holder"]["body"]

    def events(self, case_id: str, *services: str) -> list[Recorded]:
        """A case's events, notices apart, in the order in which each service stored them."""
        found: list[Recorded] = []
        for name in services or ("issues", "routing", "meetings"):
            log = self.system.service(name).log
            found += [decode(row) for row in log.select("case_id = ? ORDER BY position", case_id)]
        return found

    def types(self, case_id: str, *services: str) -> list[str]:
        """Types of a case's events."""
        return [event.type for event in self.events(case_id, *services)]

    def stream(self, service: str, stream: str) -> list[Recorded]:
        """One stream, straight from its log."""
        log = self.system.service(service).log
        return [decode(row) for row in log.select("originator_id = ? ORDER BY position", stream)]

    def told(self, case_id: str, about: str | None = None) -> dict[str, set[str]]:
        """Which offices were told of a case's events, by the type of the event."""
        found: dict[str, set[str]] = {}
        for event in self.events(case_id, "notifications"):
            if event.type == "NotificationRequested" and about in (None, event.data.about_type):  # type: ignore[attr-defined]
                found.setdefault(event.data.about_type, set()).add(event.data.office)  # type: ignore[attr-defined]
        return found

    def notices(self, office: str, case_id: str) -> list[dict[str, Any]]:
        """What an office was told of a case, the oldest first, as it reads it itself."""
        return [row for row in self.office(office).all("/v1/notices") if row["case_id"] == case_id][::-1]

    def work(self, case_id: str, **query: str) -> list[dict[str, Any]]:
        """The case's rows in a work queue."""
        return [row for row in self.office(SECRETARY).all("/v1/work-queue", **query) if row["case_id"] == case_id]

    def waiting(self, body: str, case_id: str) -> list[dict[str, Any]]:
        """The case's rows in a body's waiting list."""
        rows = self.office(f"{body}.secretary").all("/v1/waiting-list", body=body)
        return [row for row in rows if row["case_id"] == case_id]

    # The clock

    def go_to(self, day: date) -> None:
        """Move the business clock to a day."""
        if day > self.today():
            self.office("operations.operator").post("/v1/clock/shifts", {"date": day.isoformat()})
            self.maru.forget_tokens()
        self.settle()

    # Intake

    def raise_issue(self, office: str = OFFICER, **more: Any) -> str:
        """Raise a suggestion of a road; gives the case's id."""
        body = {
            "title": "국도 확장 건의",
            "text": "정체와 사고가 잦으니 국도를 넓혀 주시기를 건의합니다.",
            "regions": ["gangwon"],
            "raised_by": COUNTY,
            "channel": "letter",
            "plan_item": "P3-2",
            "tags": ["road"],
        } | more
        case_id = self.office(office).post("/v1/issues", body).id
        self.settle()
        return case_id

    def accept(self, case_id: str, body: str = COUNCIL) -> None:
        """Accept at intake."""
        path = f"/v1/issues/{case_id}"
        secretary = self.office(f"{body}.secretary")
        secretary.post(f"{path}/acceptance", version=secretary.version(path))
        self.settle()

    def raised_and_accepted(self, **more: Any) -> str:
        """On the council's floor, or in review where the planning group is the intake body."""
        case_id = self.raise_issue(**more)
        self.accept(case_id, self.case(case_id)["holder"]["body"])
        return case_id

    def in_review(self, **more: Any) -> str:
        """In joint review, by the council's decision."""
        case_id = self.raised_and_accepted(**more)
        body = self.case(case_id)["holder"]["body"]
        if body != "planning-group":
            self.decide(body, case_id, "take_for_review")
        return case_id

    # Review

    def review_path(self, case_id: str) -> str:
        """The round of review."""
        return f"/v1/issues/{case_id}/reviews/1"

    def consult(self, case_id: str, department: str, *, lead: bool = False) -> None:
        """Ask a department."""
        path = self.review_path(case_id)
        body = {"department": department, "lead": lead}
        self.office(SECRETARY).post(f"{path}/consultations", body, version=self.office(SECRETARY).version(path))

    def opine(self, case_id: str, department: str, opinion: str) -> None:
        """A department's opinion."""
        body = {"department": department, "revision": 1, "opinion": opinion, "text": "검토한 의견입니다."}
        self.office(f"{department}.reviewer").post(f"{self.review_path(case_id)}/opinions", body)

    def direct(self, case_id: str, **more: Any) -> None:
        """The lead sets the direction of support."""
        path, lead = self.review_path(case_id), self.office(f"{ROAD}.reviewer")
        lead.post(f"{path}/direction", {"revision": 1, "direction": DIRECTION | more}, version=lead.version(path))

    def conclude(self, case_id: str, outcome: str) -> None:
        """The head of the planning group concludes the round."""
        path, head = self.review_path(case_id), self.office(HEAD)
        body = {"outcome": outcome, "text": "소관부서의 의견을 모아 결론지었습니다."}
        head.post(f"{path}/conclusion", body, version=head.version(path))
        self.settle()

    def review(self, case_id: str, opinions: Mapping[str, str], outcome: str = "supportable", **direction: Any) -> None:
        """A whole round; the Road Bureau leads."""
        for department in opinions:
            self.consult(case_id, department, lead=department == ROAD)
        for department, opinion in opinions.items():
            self.opine(case_id, department, opinion)
        if outcome == "supportable":
            self.direct(case_id, **direction)
        self.conclude(case_id, outcome)

    def at_support_group(self, **more: Any) -> str:
        """Before the support group: supportable, but too dear for the planning group."""
        case_id = self.in_review(**more)
        self.review(case_id, {ROAD: "support"}, cost_band="above_c")
        return case_id

    def at_forum(self, **more: Any) -> str:
        """Before the forum."""
        case_id = self.at_support_group(**more)
        self.decide("support-group", case_id, "escalate", escalation="law_or_budget_beyond_powers")
        return case_id

    # Sittings

    def seats(self, body: str) -> list[dict[str, Any]]:
        """The seats of a body today."""
        return list(self.office(f"{body}.secretary").all("/v1/reference/members", body=body))

    def sitting(
        self, body: str, *cases: str, policy_id: str | None = None, present: Sequence[str] | None = None
    ) -> Sitting:
        """A sitting of today with these cases on its agenda, in session; quorate unless told who attends."""
        secretary = self.office(f"{body}.secretary")
        plan = {"body": body, "day": self.today().isoformat(), "place": "회의실"}
        sitting = Sitting(self, body, secretary.post("/v1/meetings", plan))
        for case_id in cases:
            item = {"case_id": case_id} | ({"policy_id": policy_id} if policy_id is not None else {})
            sitting.act("secretary", "/items", item)
        sitting.act("chair", "/opening")
        seats = [row["seat"] for row in self.seats(body)]
        sitting.act("secretary", "/attendance", {"present": list(seats if present is None else present)})
        return sitting

    def decide(self, body: str, case_id: str, code: str, **fields: Any) -> Done:
        """A whole sitting that decides one case; gives the decision's answer."""
        sitting = self.sitting(body, case_id)
        sitting.act("chair", "/items/1/opening")
        decided = sitting.act("chair", "/items/1/decision", {"code": code, "fields": fields})
        sitting.act("chair", "/items/1/closing")
        sitting.act("chair", "/closing")
        self.settle()
        return decided

    def draft(self, *cases: str) -> dict[str, Any]:
        """A policy draft on these cases, as it is read back."""
        body = {
            "title": "국도 확충 정책",
            "text": "병목 구간을 사고와 교통량이 많은 순서로 확장한다.",
            "sources": [{"kind": "issue", "ref": case_id} for case_id in cases],
            "plan_item": "P3-2",
        }
        drafted = self.office(SECRETARY).post("/v1/policies", body)
        found: dict[str, Any] = self.office(SECRETARY).get(f"/v1/policies/{drafted.id}")
        return found


class Sitting:
    """A meeting in session; remembers its version."""

    def __init__(self, play: Play, body: str, planned: Done) -> None:
        self._play, self.body, self.id, self.version = play, body, planned.id, planned.version

    @property
    def path(self) -> str:
        """Where it is read."""
        return f"/v1/meetings/{self.id}"

    def act(self, role: str, at: str, body: Mapping[str, Any] | None = None) -> Done:
        """An act of the body's secretary or chair."""
        office = self._play.office(f"{self.body}.{role}")
        done = office.post(f"{self.path}{at}", body, version=self.version)
        self.version = done.version
        return done

    def decide(self, code: str, item: int = 1, **fields: Any) -> Done:
        """The chair records a decision on the open item."""
        return self.act("chair", f"/items/{item}/decision", {"code": code, "fields": fields})

    def state(self, seat: str, field: str, stance: str) -> None:
        """The secretary records a member's statement on the first item."""
        body = {"seat": seat, "field": field, "stance": stance, "text": "위원의 의견입니다."}
        self.act("secretary", "/items/1/statements", body)


def adoption(policy: Mapping[str, Any], today: date, *cases: str, **more: Any) -> dict[str, Any]:
    """The fields of a decision that adopts a policy as it stands."""
    return {
        "policy_id": policy["policy_id"],
        "policy_revision": policy["revision"],
        "policy_hash": policy["text_hash"],
        "owner": ROAD,
        "review_date": today.replace(year=today.year + 1).isoformat(),
        "sources": [{"kind": "issue", "ref": case_id} for case_id in cases],
    } | more


@contextmanager
def playing(system: Running) -> Iterator[Play]:
    """The acts of a system's offices. At the end it is audited: whatever they did, every promise was kept."""
    with Play(system) as acts:
        yield acts
        system.check()


@contextmanager
def refused(rule: str, status: int | None = None) -> Iterator[None]:
    """The act is refused by this rule, with a sentence in both languages."""
    with pytest.raises(Problem) as caught:
        yield
    told = caught.value
    assert told.rule == rule, told
    assert status in (None, told.status), told
    assert told.body["ko"]
    assert told.body["en"]
