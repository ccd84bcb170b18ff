"""What the gateway looks up before a rule is asked, and what it shows to whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Connection, MetaData, create_engine

from services.meetings import api
from services.meetings.meeting import (
    OpenItemBody,
    OpenMeeting,
    OpenMeetingBody,
    PlaceAgendaItem,
    PlaceAgendaItemBody,
    PlanMeetingBody,
    RecordAttendance,
    RecordAttendanceBody,
    RecordDecision,
    RecordDecisionBody,
    RecordStatement,
    RecordStatementBody,
    Waiting,
)
from services.meetings.policy import (
    AssignTask,
    AssignTaskBody,
    DraftPolicy,
    DraftPolicyBody,
    SourceSeen,
    text_hash,
)
from services.meetings.service import SERVICE
from shared.contracts.codes import BodyKind
from shared.contracts.envelope import Actor, Authority, Label
from shared.contracts.meetings import (
    AgendaItemPlaced,
    DecisionFields,
    MeetingPlanned,
    PlanItemAdded,
    PlanPublished,
    PolicyAdopted,
    PolicyDrafted,
    PolicyTaskAssigned,
    Source,
)
from shared.contracts.reference import (
    BodyEstablished,
    CharterAdopted,
    MemberAppointed,
    MemberLeft,
    OfficeEstablished,
    RegionCodes,
    RegionRegistered,
)
from shared.contracts.routing import CaseOpened, CaseRouted
from shared.decider import Decider, fold
from shared.runtime.declare import Absent, One, Page, Request, Tables, View
from shared.runtime.directory import Directory
from shared.runtime.views import build_tables
from tests.views.routing_walk import Stream, at, held_by, raised_event

START, DAY = date(2022, 8, 1), date(2023, 9, 12)
SOURCES = (Source(kind="issue", ref="case-1"),)


def label(text: str) -> Label:
    """A name in both languages."""
    return Label(ko=text, en=text)


def body(name: str, kind: BodyKind) -> BodyEstablished:
    """A body since August 2022."""
    return BodyEstablished(body=name, kind=kind, name=label(name), valid_from=START, source="M")


DIRECTORY = Directory(
    [
        body("forum", "forum"),
        body("planning-group", "planning_group"),
        body("dept-road", "department"),
        body("org-gangwon-hongcheon", "organisation"),
        OfficeEstablished(
            office="forum.chair", body="forum", role="chair", name=label("Minister"), valid_from=START, source="V"
        ),
        CharterAdopted(
            body="forum",
            charter="forum-charter",
            version=1,
            quorum=1,
            method="chair_after_hearing",
            codes=("adopt",),
            notice_days=7,
            decision_clause="Charter art. 5",
            valid_from=START,
            source="M",
        ),
        MemberAppointed(
            body="forum", seat="seat-1", name=label("Seat 1"), fields=("land",), valid_from=START, source="V"
        ),
        RegionRegistered(
            region="gangwon", codes=RegionCodes(mois="42"), name=label("Gangwon"), valid_from=START, source="S"
        ),
    ]
)


def case() -> Stream:
    """A case that waits for the forum."""
    stream = Stream("routing", "Case", "case-1", "case-1")
    intake = held_by("intake", "council-gangwon", "secretary", date(2023, 5, 11), "completeness")
    stream.add(at(5, 8), CaseOpened(holding=intake, regions=(), raised_by="org-gangwon-hongcheon"))
    forum = held_by("at_body", "forum", "secretary", date(2023, 10, 5), "forum_placement", "R5")
    stream.add(at(7, 6), CaseRouted(from_body="support-group", holding=forum, cause="event-1"))
    return stream


def issue() -> Stream:
    """What the case is about."""
    stream = Stream("issues", "Issue", "case-1", "case-1")
    stream.add(at(5, 8), raised_event("Road", "gangwon", "42", "Gangwon", "org-gangwon-hongcheon"))
    return stream


def meeting() -> Stream:
    """A planned sitting of the forum with the case on its agenda."""
    stream = Stream("meetings", "Meeting", "meeting-f")
    stream.add(at(8, 29), MeetingPlanned(body="forum", day=DAY, place="Sejong", form="on_site"))
    stream.add(at(8, 29), AgendaItemPlaced(item=1, kind="case", case_id="case-1", policy_id="policy-p"))
    return stream


DRAFT = PolicyDrafted(title="Widening", text="Text.", text_hash=text_hash("Text."), revision=1, sources=SOURCES)


def draft() -> Stream:
    """A drafted policy."""
    stream = Stream("meetings", "Policy", "policy-p")
    stream.add(at(7, 13), DRAFT)
    return stream


def adopted() -> Stream:
    """A policy with a task."""
    stream = draft()
    stream.add(
        at(9, 12),
        PolicyAdopted(
            revision=1,
            text_hash=DRAFT.text_hash,
            meeting_id="meeting-f",
            item=1,
            decision_event="event-9",
            deliberation_event="meeting-f.1",
            emergency_clause=None,
            sources=SOURCES,
            cases=("case-1",),
            owner="dept-road",
            review_date=date(2024, 9, 12),
        ),
    )
    stream.add(
        at(9, 12),
        PolicyTaskAssigned(
            task="t1", title="Design", owner="dept-road", regions=("gangwon",), due=date(2024, 6, 28), cases=("case-1",)
        ),
    )
    return stream


def work_plan() -> Stream:
    """The plan of 2023 with one item."""
    stream = Stream("meetings", "WorkPlan", "2023")
    day = date(2023, 1, 3)
    stream.add(at(1, 4), PlanPublished(year=2023, title=label("Plan"), presented_on=day, source="V"))
    stream.add(
        at(1, 4),
        PlanItemAdded(year=2023, item="P3", parent=None, name=label("Transport"), valid_from=day, source="V"),
    )
    return stream


class Desk:
    """A request at the gateway over these streams, folded in memory, on the day of the sitting."""

    now, today, directory, limit, after = at(9, 12), DAY, DIRECTORY, 50, None

    def __init__(self, db: Connection, streams: Sequence[Stream], office: str, path: dict[str, str], body: Any) -> None:
        self.db, self.path, self.body, self.query = db, path, body, dict[str, str]()
        own = office.rsplit(".", 1)[0]
        self.actor = Actor(user="subject-1", office=office, body=own)
        self._streams = {f"{stream.aggregate}/{stream.id}": stream for stream in streams}
        self._tables: dict[str, Tables] = {}
        for view in SERVICE.views:
            self._tables[view.name], metadata = build_tables(view, 1)
            self._make(view, metadata)

    def _make(self, view: View, metadata: MetaData) -> None:
        metadata.create_all(self.db)
        for stream in self._streams.values():
            for recorded in stream.events if stream.source in view.sources else []:
                view.fold(self.db, self._tables[view.name], recorded)

    def tables(self, view: View) -> Tables:
        """The tables of a view."""
        return self._tables[view.name]

    def load(self, decider: Decider[Any], id: str) -> tuple[Any, int]:
        """State and version of a stream."""
        stream = self._streams.get(f"{decider.name}/{id}")
        events = [] if stream is None else [recorded.data for recorded in stream.events]
        return fold(decider, events), len(events)

    def new_id(self) -> str:
        """An id."""
        return "new-id"

    def envelope(self, rule: str, clause: str | None = None) -> dict[str, Any]:
        """Who, when, by what right."""
        return {"by": self.actor, "at": self.now, "authority": Authority(rule=rule, clause=clause)}


@pytest.fixture
def db() -> Iterator[Connection]:
    """An empty database in memory."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def desk(db: Connection, *streams: Stream, office: str = "forum.secretary", body: Any = None, **path: str) -> Request:
    """A request of an office over these streams."""
    return cast(Request, Desk(db, streams, office, path, body))


def test_a_new_meeting_is_about_the_body_it_names(db: Connection) -> None:
    said = PlanMeetingBody(body="forum", day=DAY, place="Sejong")
    request = desk(db, body=said)
    assert api._of_new_meeting(request).body == "forum"
    act = api.plan(request, said)
    assert (act.stream, act.key, act.location) == ("Meeting/new-id", "new-id", "/v1/meetings/new-id")


def test_a_meeting_tells_body_and_stage_and_is_absent_where_it_was_never_planned(db: Connection) -> None:
    resource = api._of_meeting(desk(db, meeting(), meeting_id="meeting-f"))
    assert (resource.body, resource.stage) == ("forum", "planned")
    with pytest.raises(Absent):
        api._of_meeting(desk(db, meeting(), meeting_id="meeting-x"))


def test_placing_rests_on_the_waiting_list_and_on_the_policy_stream(db: Connection) -> None:
    request = desk(db, case(), meeting(), draft(), meeting_id="meeting-f")
    act = api.place(request, PlaceAgendaItemBody(case_id="case-1", policy_id="policy-p"))
    assert isinstance(act.command, PlaceAgendaItem)
    assert act.command.waiting == Waiting(body="forum", case_version=2)
    assert act.command.policy is not None
    assert (act.case_id, act.reads) == ("case-1", {"Policy/policy-p": 1})


def test_a_case_at_intake_and_an_unknown_policy_are_no_facts(db: Connection) -> None:
    at_intake = case()
    del at_intake.events[1:]
    request = desk(db, at_intake, meeting(), meeting_id="meeting-f")
    act = api.place(request, PlaceAgendaItemBody(case_id="case-1", policy_id="policy-x"))
    assert isinstance(act.command, PlaceAgendaItem)
    assert (act.command.waiting, act.command.policy, act.reads) == (None, None, {})


def test_I_10_charter_and_members_are_those_of_the_day_of_the_sitting(db: Connection) -> None:
    request = desk(db, meeting(), meeting_id="meeting-f")
    opening = api.open_meeting(request, OpenMeetingBody())
    assert isinstance(opening.command, OpenMeeting)
    assert opening.command.charter is not None
    attendance = api.attendance(request, RecordAttendanceBody(present=("seat-1",)))
    assert isinstance(attendance.command, RecordAttendance)
    assert attendance.command.members == ("seat-1",)


@pytest.mark.parametrize(("seat", "fields"), [("seat-1", ("land",)), ("seat-9", None)])
def test_I_11_a_seat_has_the_fields_of_that_day(db: Connection, seat: str, fields: tuple[str, ...] | None) -> None:
    request = desk(db, meeting(), meeting_id="meeting-f", item="1")
    said = RecordStatementBody(seat=seat, field="land", stance="for", text="A view.")
    act = api.record_statement(request, said)
    assert isinstance(act.command, RecordStatement)
    assert (act.command.seat_fields, act.case_id) == (fields, "case-1")


@pytest.mark.parametrize("item", ["2", "0", "x", "²", "99999999999"])
def test_an_item_that_is_not_on_the_agenda_is_absent(db: Connection, item: str) -> None:
    with pytest.raises(Absent):
        api.open_item(desk(db, meeting(), meeting_id="meeting-f", item=item), OpenItemBody())


def test_T_30_a_decision_knows_chair_charter_owner_and_policy(db: Connection) -> None:
    request = desk(db, meeting(), draft(), office="forum.chair", meeting_id="meeting-f", item="1")
    fields = DecisionFields(policy_id="policy-p", owner="dept-road")
    act = api.record_decision(request, RecordDecisionBody(code="adopt", fields=fields))
    command = act.command
    assert isinstance(command, RecordDecision)
    assert (command.chair, command.owner_kind, command.meeting_id) == ("forum.chair", "department", "meeting-f")
    assert command.charter is not None
    assert command.policy is not None
    assert command.authority == Authority(rule="T-30", clause="Charter art. 5")
    assert act.reads == {"Policy/policy-p": 1}


def test_T_29a_a_draft_knows_where_its_sources_are_and_whether_the_plan_has_its_item(db: Connection) -> None:
    request = desk(db, case(), work_plan(), office="planning-group.secretary")
    said = DraftPolicyBody(title="Widening", text="Text.", sources=SOURCES, plan_item="P3")
    act = api.draft_policy(request, said)
    assert isinstance(act.command, DraftPolicy)
    assert act.command.sources_seen == (SourceSeen(case_id="case-1", held_by="forum"),)
    assert act.command.plan_item_known


def test_a_task_is_numbered_and_names_its_regions_by_code(db: Connection) -> None:
    request = desk(db, adopted(), office="planning-group.secretary", policy_id="policy-p")
    said = AssignTaskBody(title="Works", owner="dept-road", regions=("42", "99"), due=date(2025, 6, 30))
    act = api.assign_task(request, said)
    assert isinstance(act.command, AssignTask)
    assert (act.command.task, act.command.owner_kind) == ("t2", "department")
    assert (act.command.regions, act.command.regions_known) == (("gangwon", "99"), ("gangwon",))


def test_a_task_is_the_matter_of_its_owner(db: Connection) -> None:
    assert api._of_task(desk(db, adopted(), policy_id="policy-p", task="t1")).body == "dept-road"
    with pytest.raises(Absent):
        api._of_task(desk(db, adopted(), policy_id="policy-p", task="t2"))


def test_a_policy_is_the_matter_of_its_owner_once_adopted(db: Connection) -> None:
    assert api._of_policy(desk(db, draft(), policy_id="policy-p")).body is None
    with pytest.raises(Absent):
        api._of_policy(desk(db, draft(), policy_id="policy-x"))


@pytest.mark.capability("I1", part="drafts, lists and acts of this service; confidentiality levels come later")
def test_a_draft_is_not_for_raising_organisations(db: Connection) -> None:
    county = desk(db, draft(), office="org-gangwon-hongcheon.officer", policy_id="policy-p")
    assert api.list_policies(county) == Page([], None)
    with pytest.raises(Absent):
        api.get_policy(county)


def test_a_draft_is_for_the_ministry(db: Connection) -> None:
    group = desk(db, draft(), office="planning-group.secretary", policy_id="policy-p")
    assert len(api.list_policies(group).rows) == 1
    assert isinstance(api.get_policy(group), One)


@pytest.mark.capability("G7")
def test_an_adopted_policy_is_for_the_county(db: Connection) -> None:
    county = desk(db, adopted(), office="org-gangwon-hongcheon.officer", policy_id="policy-p")
    assert len(api.list_policies(county).rows) == 1
    assert api.get_policy(county).version == 3


def test_a_meeting_file_has_the_titles_of_its_cases(db: Connection) -> None:
    found = api.get_meeting(desk(db, meeting(), issue(), meeting_id="meeting-f"))
    assert (found.version, found.key, found.value.agenda[0].title) == (2, "meeting-f", "Road")
    with pytest.raises(Absent):
        api.get_meeting(desk(db, meeting_id="meeting-x"))


@pytest.mark.capability("C6")
def test_C6_a_meeting_file_shows_a_field_that_nobody_holds_any_more(db: Connection) -> None:
    seats = [
        MemberAppointed(
            body="forum", seat=f"seat-{field}", name=label(field), fields=(field,), valid_from=START, source="V"
        )
        for field in ("land", "city")
    ]
    request = desk(db, meeting(), meeting_id="meeting-f")
    for left, not_covered in ((DAY, ("city",)), (DAY + timedelta(days=1), ())):
        empty = MemberLeft(body="forum", seat="seat-city", valid_from=left, source="V")
        cast(Any, request).directory = Directory([*seats, empty])
        file = api.get_meeting(request).value
        assert file.fields_not_covered == not_covered
        assert set(file.fields_covered) | set(not_covered) == {"land", "city"}


def test_the_waiting_list_is_the_own_bodys_unless_another_is_named(db: Connection) -> None:
    (row,) = api.waiting_list(desk(db, case())).rows
    assert row.case_id == "case-1"


def test_a_year_that_is_no_year_has_no_plan(db: Connection) -> None:
    assert api.get_work_plan(desk(db, work_plan(), year="2023")).version == 2
    for year in ("2022", "20233", "year", "²²²²"):
        with pytest.raises(Absent):
            api.get_work_plan(desk(db, work_plan(), year=year))


def test_every_route_has_its_row_in_the_policy_table() -> None:
    import csv
    from pathlib import Path

    table = Path(__file__).parents[3] / "data" / "policy" / "meetings.csv"
    with table.open(encoding="utf-8", newline="") as file:
        granted = {row["action"] for row in csv.DictReader(file)}
    asked = {route.action for route in api.GATEWAY.commands} | {route.action for route in api.GATEWAY.reads}
    assert asked == granted
