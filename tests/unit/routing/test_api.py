"""What the command routes put into commands, and a smoke test of them over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.routing import api
from services.routing.body import EstablishBodyBody, OpenEdgeBody
from services.routing.case import AssignManuallyBody, CompleteImplementationBody, ReportImplementationBody
from services.routing.clock import CLOCK, CLOCK_ID, ShiftClockBody
from services.routing.office import EstablishOfficeBody
from services.routing.service import SERVICE
from shared.contracts.envelope import Actor, Authority, Label, Reason
from shared.contracts.reference import ClockShifted
from shared.contracts.routing import CaseClosed, CaseRouted, ImplementationReported
from shared.decider import Refused
from shared.runtime import settings
from shared.runtime.declare import Absent
from shared.runtime.directory import SEOUL
from shared.runtime.system import opened
from tests.unit.routing.test_reactions import publish, unaccepted_step
from tests.unit.routing.world import CASE_ID, World, at_council, decided, raised, under_policy


class Desk:
    """A request of one office to the gateway, over a world."""

    def __init__(self, world: World, office: str, **path: str) -> None:
        self._world = world
        self.actor = Actor(user="u-test", office=office, body=office.rpartition(".")[0])
        self.path = path
        self.query: dict[str, str] = {}
        self.limit, self.after, self.body = 50, None, None
        self.development = True
        self.now, self.today = world.now, world.today
        self.directory, self.load, self.tables = world.directory, world.load, world.tables

    @property
    def db(self) -> Any:
        return self._world.db

    @property
    def mutable(self) -> Any:
        return self._world.mutable

    @property
    def effects(self) -> frozenset[str]:
        return self._world.effects

    def envelope(self, rule: str, clause: str | None = None) -> dict[str, Any]:
        return {"by": self.actor, "at": self.now, "authority": Authority(rule=rule, clause=clause)}

    def new_id(self) -> str:
        return "new"

    def docket(self, year: int) -> str:
        raise LookupError("routing gives no docket numbers")

    def regions_allowed(self) -> None:
        return None


REASON = Reason(code="no_rule", text="규칙 없음")


def triage(world: World, body: str) -> tuple[Any, ...]:
    desk = Desk(world, "triage-desk.desk", case_id=CASE_ID)
    return world.put(api.assign_case(desk, AssignManuallyBody(body=body, reason=REASON)))


@pytest.mark.capability("B3", part="overrides are not yet counted as a metric")
def test_T_9_assignment_before_acceptance_goes_to_intake() -> None:
    world = publish(World().on(2023, 5, 8), "council_selection", lambda _: ())
    world.hear(raised())
    (event,) = triage(world.on(2023, 5, 9), "council-gangwon")
    assert isinstance(event, CaseRouted)
    assert (event.holding.state, event.holding.clock, event.holding.due) == (
        "intake",
        "completeness",
        date(2023, 5, 12),
    )


@pytest.mark.parametrize(
    ("body", "state", "lead"),
    [("council-gangwon", "at_body", None), ("planning-group", "in_joint_review", "dept-road")],
)
def test_T_9_assignment_after_acceptance(body: str, state: str, lead: str | None) -> None:
    (event,) = triage(unaccepted_step(), body)
    assert isinstance(event, CaseRouted)
    assert (event.holding.state, event.lead, event.override) == (state, lead, True)


@pytest.mark.parametrize("body", ["dept-road", "nowhere", "support-group"])
def test_T_9_assignment_to_a_body_that_cannot_take_it(body: str) -> None:
    with pytest.raises(Refused, match="T-9"):
        triage(unaccepted_step(), body)


def test_T_9_a_lead_that_the_rules_cannot_name_does_not_bar_the_triage_desk() -> None:
    world = unaccepted_step()
    rules = world.streams["RuleSet/maru-rules"][-1]
    tables = tuple(
        table.model_copy(update={"rows": tuple(row.model_copy(update={"when": "true"}) for row in table.rows)})
        if table.table == "lead_department"
        else table
        for table in rules.tables  # type: ignore[attr-defined]
    )
    world.streams["RuleSet/maru-rules"][-1] = rules.model_copy(update={"tables": tables})
    world.forget()
    (event,) = triage(world, "planning-group")
    assert isinstance(event, CaseRouted)
    assert event.lead is None


def resolved_with_owner() -> World:
    world = at_council()
    fields: dict[str, Any] = {"reason": REASON, "owner": "org-gangwon", "due": date(2023, 6, 30)}
    world.hear(decided("council-gangwon", "resolved_on_site", **fields))
    return world


def test_T_38_and_T_38a_the_owner_reports_and_completes() -> None:
    world = resolved_with_owner()
    desk = Desk(world, "org-gangwon.officer", case_id=CASE_ID)
    assert api.the_case(desk).body == "org-gangwon"
    assert api.the_case(desk).stage == "implementing"
    body = ReportImplementationBody(text="착공함", evidence=("사진",))
    assert world.put(api.report_implementation(desk, body)) == (
        ImplementationReported(text="착공함", evidence=("사진",)),
    )
    done = world.put(api.complete_implementation(desk, CompleteImplementationBody(text="준공함", evidence=("사진",))))
    assert done[-1] == CaseClosed(from_body="org-gangwon", outcome="resolved_on_site", cause="e3")


def test_T_38_after_closure_the_rule_refuses_not_the_policy_table() -> None:
    world = resolved_with_owner()
    desk = Desk(world, "org-gangwon.officer", case_id=CASE_ID)
    body = CompleteImplementationBody(text="준공함", evidence=("사진",))
    world.put(api.complete_implementation(desk, body))
    assert (api.the_case(desk).body, api.the_case(desk).stage) == ("org-gangwon", "closed")
    with pytest.raises(Refused, match="T-38a"):
        world.put(api.complete_implementation(desk, body))


def test_T_38a_not_where_a_policy_is_linked() -> None:
    world = under_policy()
    desk = Desk(world, "dept-road.reviewer", case_id=CASE_ID)
    with pytest.raises(Refused, match="T-38a"):
        world.put(api.complete_implementation(desk, CompleteImplementationBody(text="준공함", evidence=("사진",))))


def test_an_unknown_case_is_absent() -> None:
    with pytest.raises(Absent):
        api.the_case(Desk(World(), "triage-desk.desk", case_id="nothing"))
    with pytest.raises(Absent):
        triage(World(), "council-gangwon")


def test_T_clock_to_a_day_is_its_ninth_hour_and_today_is_satisfied() -> None:
    world = World().on(2023, 5, 8)
    offset = timedelta(days=-1296)
    world.streams["Clock/business"] = [ClockShifted(offset_seconds=offset.total_seconds(), business_time=world.now)]
    world.forget()
    desk = Desk(world, "operations.operator")
    assert world.put(api.shift_clock(desk, ShiftClockBody(date=date(2023, 5, 8)))) == ()
    assert world.put(api.shift_clock(desk, ShiftClockBody(to=world.now))) == ()
    (shifted,) = world.put(api.shift_clock(desk, ShiftClockBody(date=date(2023, 5, 9))))
    assert isinstance(shifted, ClockShifted)
    assert shifted.business_time == datetime(2023, 5, 9, 9, tzinfo=SEOUL)
    assert shifted.offset_seconds == (offset + timedelta(hours=23)).total_seconds()
    assert world.load(CLOCK, CLOCK_ID)[1] == 2
    desk.development = False
    with pytest.raises(Refused, match="T-clock"):
        world.put(api.shift_clock(desk, ShiftClockBody(date=date(2023, 5, 10))))


BOARD: dict[str, Any] = {
    "body": "coordination-board",
    "kind": "support_group",
    "tier": "R4b",
    "name": Label(ko="조정위원회", en="Board"),
    "parent": "support-group",
    "valid_from": date(2023, 6, 1),
    "source": "M test",
}


def test_I_15_a_new_body_carries_the_chain_above_it_as_a_fact() -> None:
    desk = Desk(World(), "operations.operator")
    act = api.establish_body(desk, EstablishBodyBody(**BOARD))
    assert act.command.ancestors == ("support-group", "forum")  # type: ignore[attr-defined]
    unknown = api.establish_body(desk, EstablishBodyBody(**(BOARD | {"parent": "nowhere"})))
    with pytest.raises(Refused, match="I-15"):
        World().put(unknown)


def test_offices_and_edges_know_whether_their_body_stands_on_that_day() -> None:
    world = World()
    desk = Desk(world, "operations.operator")
    office = {
        "office": "nowhere.chair",
        "body": "nowhere",
        "role": "chair",
        "name": Label(ko="의장", en="Chair"),
        "valid_from": date(2023, 6, 1),
        "source": "M test",
    }
    with pytest.raises(Refused, match="I-15"):
        world.put(api.establish_office(desk, EstablishOfficeBody(**office)))
    edge = {
        "body": "planning-group",
        "edge": "planning-group.too-early",
        "to_body": "forum",
        "kind": "escalate",
        "valid_from": date(2022, 9, 1),
        "source": "M test",
    }
    with pytest.raises(Refused, match="I-3"):
        world.put(api.open_edge(desk, OpenEdgeBody(**edge)))


# Over HTTP


class Client:
    """One office over HTTP."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url)

    def post(self, path: str, office: str, content: Any) -> httpx.Response:
        token = self._http.get(f"/dev/token/{office}").json()["token"]
        headers = {
            "Authorization": f"Bearer {token}",
            "Maru-Office": office,
            "Idempotency-Key": uuid.uuid4().hex,
            "If-Match": '"1"',
        }
        return self._http.post(path, json=content, headers=headers)

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Routing alone, seeded, over HTTP."""
    with opened((SERVICE,), settings.load(data=tmp_path, port=0)) as system:
        system.seed()
        assert system.idle()
        client = Client(system.serve())
        yield client
        client.close()


@pytest.mark.capability("L1")
def test_reference_facts_and_the_clock_over_http(client: Client) -> None:
    operator = "operations.operator"
    body = BOARD | {"name": {"ko": "조정위원회", "en": "Board"}, "valid_from": "2023-06-01"}
    made = client.post("/v1/reference/bodies", operator, body)
    assert made.status_code == 200, made.text
    assert [event["type"] for event in made.json()["events"]] == ["BodyEstablished"]
    again = client.post("/v1/reference/bodies", operator, body)
    assert (again.status_code, again.json()["events"]) == (200, [])
    other = client.post("/v1/reference/bodies", operator, body | {"tier": "R5"})
    assert (other.status_code, other.json()["rule"]) == (409, "I-16")

    stranger = client.post("/v1/reference/bodies", "council-gangwon.secretary", body)
    assert stranger.status_code == 403

    day = {"date": "2100-01-04"}
    assert client.post("/v1/clock/shifts", "council-gangwon.secretary", day).status_code == 403
    assert client.post("/v1/clock/shifts", operator, day).status_code == 200
    back = client.post("/v1/clock/shifts", operator, {"to": "2023-01-04T09:00:00+09:00"})
    assert (back.status_code, back.json()["rule"]) == (409, "T-clock")
    assert client.post("/v1/clock/shifts", operator, {}).status_code == 422

    nobody = client.post(
        f"/v1/cases/{CASE_ID}/assignment", "triage-desk.desk", {"body": "x", "reason": REASON.model_dump()}
    )
    assert nobody.status_code == 404
