"""The directory: what a service has heard of regions, bodies, offices, rules and days (its local tables).

Reference facts are routing's events; every service folds them into the same two tables, and reads them as one immutable
snapshot, so that a decision rests on one state whose ``revision`` the command can name. Every question takes a day.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from sqlalchemy import Column, Connection, Integer, String, Text, select

from shared.contracts.codes import BodyKind, OfficeRole
from shared.contracts.envelope import Event, Label, read_payload
from shared.contracts.reference import (
    BodyEstablished,
    CalendarPublished,
    CharterAdopted,
    ClockProfile,
    ClockShifted,
    EdgeClosed,
    EdgeOpened,
    MemberAppointed,
    MemberLeft,
    OfficeEstablished,
    OfficeHolderAppointed,
    OfficeHolderLeft,
    RegionCodes,
    RegionGroupingPublished,
    RegionRecoded,
    RegionRegistered,
    RegionSucceeded,
    RuleSetPublished,
)
from shared.runtime.declare import Named, Recorded, Tables, View
from shared.runtime.views import ViewStore, upsert

SEOUL = ZoneInfo("Asia/Seoul")


@dataclass(frozen=True)
class Region:
    """A region as it stands on a day."""

    id: str
    codes: RegionCodes
    name: Label
    capital_area: bool


def valid(day: date, valid_from: date, valid_to: date | None) -> bool:
    """Whether ``day`` lies in the validity, whose end is exclusive."""
    return valid_from <= day and (valid_to is None or day < valid_to)


class Directory:
    """All reference facts heard so far. Unknown ids give ``None`` or an empty answer, never an error."""

    def __init__(self, events: Iterable[Event] = (), revision: int = 0) -> None:
        self.revision = revision
        """Grows with every fact heard; commands name it as the version of what was read."""
        self._regions: dict[str, list[RegionRegistered | RegionRecoded]] = {}
        self._succeeded: dict[str, RegionSucceeded] = {}
        self._groupings: list[RegionGroupingPublished] = []
        self._bodies: dict[str, BodyEstablished] = {}
        self._charters: dict[str, list[CharterAdopted]] = {}
        self._members: dict[str, list[MemberAppointed]] = {}
        self._left: dict[tuple[str, str], date] = {}
        self._edges: dict[str, list[EdgeOpened]] = {}
        self._closed_edges: dict[str, date] = {}
        self._offices: dict[str, OfficeEstablished] = {}
        self._holders: dict[str, list[OfficeHolderAppointed]] = {}
        self._former: dict[tuple[str, str], list[date]] = {}
        self._rule_sets: list[RuleSetPublished] = []
        self._days_off: dict[int, frozenset[date]] = {}
        self.clock_offset = timedelta(0)
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case RegionRegistered() | RegionRecoded():
                self._regions.setdefault(event.region, []).append(event)
                self._regions[event.region].sort(key=lambda fact: fact.valid_from)
            case RegionSucceeded():
                self._succeeded[event.region] = event
            case RegionGroupingPublished():
                self._groupings.append(event)
            case BodyEstablished():
                self._bodies[event.body] = event
            case CharterAdopted():
                self._charters.setdefault(event.body, []).append(event)
            case MemberAppointed():
                self._members.setdefault(event.body, []).append(event)
            case MemberLeft():
                self._left[event.body, event.seat] = event.valid_from
            case EdgeOpened():
                self._edges.setdefault(event.body, []).append(event)
            case EdgeClosed():
                self._closed_edges[event.edge] = event.valid_from
            case OfficeEstablished():
                self._offices[event.office] = event
            case OfficeHolderAppointed():
                self._holders.setdefault(event.office, []).append(event)
            case OfficeHolderLeft():
                self._former.setdefault((event.office, event.subject), []).append(event.valid_from)
            case RuleSetPublished():
                self._rule_sets.append(event)
            case CalendarPublished():
                self._days_off[event.year] = frozenset(off.day for off in event.days_off)
            case ClockShifted():
                self.clock_offset = timedelta(seconds=event.offset_seconds)
            case _:
                pass

    # Regions

    def region(self, region: str, day: date) -> Region | None:
        """The region as it stood on ``day``; ``None`` where it did not exist then (I-1, I-16)."""
        ended = self._succeeded.get(region)
        if ended is not None and day >= ended.valid_from:
            return None
        facts = [fact for fact in self._regions.get(region, []) if fact.valid_from <= day]
        if not facts:
            return None
        first = self._regions[region][0]
        capital = isinstance(first, RegionRegistered) and first.capital_area
        return Region(region, facts[-1].codes, facts[-1].name, capital)

    def find_region(self, text: str, day: date) -> Region | None:
        """A region by id, MOIS code, or Korean or English name valid on ``day``."""
        for region in self.regions(day):
            if text in (region.id, region.codes.mois, region.name.ko, region.name.en):
                return region
        return None

    def regions(self, day: date) -> list[Region]:
        """Every region of ``day``, in the order of their codes."""
        if day not in self._regions_cache:
            if len(self._regions_cache) > 200:
                self._regions_cache.clear()
            found = [self.region(region, day) for region in self._regions]
            self._regions_cache[day] = sorted(
                (region for region in found if region is not None), key=lambda region: region.codes.mois
            )
        return self._regions_cache[day]

    @cached_property
    def _regions_cache(self) -> dict[date, list[Region]]:
        return {}

    def successors(self, region: str, day: date) -> tuple[str, ...]:
        """The regions that ``region`` has become by ``day``; itself while it exists."""
        ended = self._succeeded.get(region)
        if ended is None or day < ended.valid_from:
            return (region,)
        return tuple(last for next_one in ended.successors for last in self.successors(next_one, day))

    def forebears(self, region: str, day: date) -> tuple[str, ...]:
        """The region, and those that have become it by ``day``: under what it may stand in older facts (I-16)."""
        return (region, *(old for old in self._succeeded if old != region and region in self.successors(old, day)))

    def megaregion(self, region: str, day: date) -> str | None:
        """The megaregion of a region by the grouping of ``day``: of those valid then the one that began last."""
        found = [grouping for grouping in self._groupings if valid(day, grouping.valid_from, grouping.valid_to)]
        newest = max(found, key=lambda grouping: grouping.valid_from, default=None)
        groups = newest.megaregions if newest is not None else ()
        return next((group.megaregion for group in groups if region in group.regions), None)

    # Bodies and offices

    def body(self, body: str, day: date) -> BodyEstablished | None:
        """The body, where it exists on ``day``."""
        found = self._bodies.get(body)
        return found if found is not None and valid(day, found.valid_from, found.valid_to) else None

    def known_body(self, body: str) -> BodyEstablished | None:
        """The body whatever the day."""
        return self._bodies.get(body)

    def bodies(self, day: date, kind: BodyKind | None = None) -> list[BodyEstablished]:
        """The bodies of ``day``, of one kind or all."""
        key = (day, kind)
        if key not in self._bodies_cache:
            if len(self._bodies_cache) > 200:
                self._bodies_cache.clear()
            self._bodies_cache[key] = [
                body
                for body in self._bodies.values()
                if valid(day, body.valid_from, body.valid_to) and (kind is None or body.kind == kind)
            ]
        return self._bodies_cache[key]

    @cached_property
    def _bodies_cache(self) -> dict[tuple[date, BodyKind | None], list[BodyEstablished]]:
        return {}

    def councils_of(self, region: str, day: date) -> list[BodyEstablished]:
        """The councils whose regions include ``region`` (rule 1)."""
        return [body for body in self.bodies(day, "council") if region in body.regions]

    def office(self, office: str, day: date) -> OfficeEstablished | None:
        """The office, where it exists on ``day``."""
        found = self._offices.get(office)
        return found if found is not None and valid(day, found.valid_from, found.valid_to) else None

    def offices(self, body: str, day: date) -> list[OfficeEstablished]:
        """The offices of a body."""
        return self._offices_by_body(day).get(body, [])

    def _offices_by_body(self, day: date) -> dict[str, list[OfficeEstablished]]:
        cached = self._by_body_cache.get(day)
        if cached is None:
            cached = {}
            for office in self._offices.values():
                if valid(day, office.valid_from, office.valid_to):
                    cached.setdefault(office.body, []).append(office)
            self._by_body_cache.clear()
            self._by_body_cache[day] = cached
        return cached

    @cached_property
    def _by_body_cache(self) -> dict[date, dict[str, list[OfficeEstablished]]]:
        return {}

    def office_of(self, body: str, role: OfficeRole, day: date) -> OfficeEstablished | None:
        """The body's office of that role, e.g. the council's secretary."""
        return next((office for office in self.offices(body, day) if office.role == role), None)

    def holders(self, office: str, day: date) -> list[str]:
        """The subjects who hold the office on ``day`` (I-9)."""
        return [fact.subject for fact in self._holders.get(office, []) if self._holds(fact, day)]

    def _holds(self, fact: OfficeHolderAppointed, day: date) -> bool:
        ends = [end for end in self._former.get((fact.office, fact.subject), []) if end > fact.valid_from]
        return valid(day, fact.valid_from, min(ends, default=None))

    @cached_property
    def _offices_by_subject(self) -> dict[str, list[OfficeHolderAppointed]]:
        found: dict[str, list[OfficeHolderAppointed]] = {}
        for facts in self._holders.values():
            for fact in facts:
                found.setdefault(fact.subject, []).append(fact)
        return found

    def offices_held(self, subject: str, day: date) -> list[OfficeEstablished]:
        """The offices that a subject holds on ``day``."""
        held = (
            self.office(fact.office, day)
            for fact in self._offices_by_subject.get(subject, [])
            if self._holds(fact, day)
        )
        return [office for office in held if office is not None]

    def ever_held(self, subject: str, office: str) -> bool:
        """Whether the subject held the office at any time: a former holder gets a clearer refusal."""
        return any(fact.office == office for fact in self._offices_by_subject.get(subject, []))

    def known_office(self, office: str) -> OfficeEstablished | None:
        """The office whatever the day."""
        return self._offices.get(office)

    def members(self, body: str, day: date) -> list[MemberAppointed]:
        """The seats of a body on ``day``, with their fields."""
        return [
            seat
            for seat in self._members.get(body, [])
            if valid(day, seat.valid_from, self._left.get((body, seat.seat), seat.valid_to))
        ]

    def fields(self, body: str, day: date) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A body's fields of expertise on ``day``: those that a seat covers, those that none covers any more (C6)."""
        covered = {field for seat in self.members(body, day) for field in seat.fields}
        begun = (seat for seat in self._members.get(body, []) if seat.valid_from <= day)
        return tuple(sorted(covered)), tuple(sorted({field for seat in begun for field in seat.fields} - covered))

    def charter(self, body: str, day: date) -> CharterAdopted | None:
        """The newest charter of a body valid on ``day`` (I-10)."""
        found = [c for c in self._charters.get(body, []) if valid(day, c.valid_from, c.valid_to)]
        return max(found, key=lambda charter: charter.version, default=None)

    def edges(self, body: str, day: date, kind: str | None = None) -> list[EdgeOpened]:
        """The edges that lead out of a body on ``day`` (I-3)."""
        return [
            edge
            for edge in self._edges.get(body, [])
            if valid(day, edge.valid_from, self._closed_edges.get(edge.edge)) and (kind is None or edge.kind == kind)
        ]

    # Rules and days

    def rule_set(self, day: date) -> RuleSetPublished | None:
        """The rule set valid on ``day``: of those already valid the newest version."""
        found = [rules for rules in self._rule_sets if rules.valid_from <= day]
        return max(found, key=lambda rules: rules.version, default=None)

    def rule_set_version(self, version: int) -> RuleSetPublished | None:
        """One version of the rules: a case keeps the one it started with (B6)."""
        return next((rules for rules in self._rule_sets if rules.version == version), None)

    def is_working_day(self, day: date) -> bool:
        """Whether work is done on that day (weekends and the calendar's days off are free)."""
        return day.weekday() < 5 and day not in self._days_off.get(day.year, frozenset())

    def working_day_on_or_after(self, day: date) -> date:
        """The day itself, or the next working day (General Act on Public Administration, art. 6)."""
        while not self.is_working_day(day):
            day += timedelta(days=1)
        return day

    def deadline(self, start: date, profile: ClockProfile) -> date:
        """The last day of a period; the day of the act is not counted (I-17, D5).

        Working days count one by one; calendar days are added and an end on a day off moves to the next working day.
        """
        if profile.unit == "calendar":
            return self.working_day_on_or_after(start + timedelta(days=profile.days))
        day, left = start, profile.days
        while left:
            day += timedelta(days=1)
            left -= self.is_working_day(day)
        return self.working_day_on_or_after(day)

    def business_time(self, real: datetime) -> datetime:
        """Business time for a real instant: shifted as last heard, in Seoul."""
        return (real + self.clock_offset).astimezone(SEOUL)


REFERENCE = (
    RegionRegistered,
    RegionRecoded,
    RegionSucceeded,
    RegionGroupingPublished,
    BodyEstablished,
    CharterAdopted,
    MemberAppointed,
    MemberLeft,
    EdgeOpened,
    EdgeClosed,
    OfficeEstablished,
    OfficeHolderAppointed,
    OfficeHolderLeft,
    RuleSetPublished,
    CalendarPublished,
    ClockShifted,
)

REFERENCE_TYPES = frozenset(str(cls.model_fields["type"].default) for cls in REFERENCE)


def _tables(named: Named) -> None:
    named.table(
        "fact",
        Column("event_id", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("type", String, nullable=False),
        Column("schema_version", Integer, nullable=False),
        Column("data", Text, nullable=False),
    )
    # Lists of other views join these inwards: what is not yet heard is not shown.
    named.table("region", Column("id", String, primary_key=True))
    named.table("body", Column("id", String, primary_key=True), Column("kind", String))
    named.table("office", Column("id", String, primary_key=True), Column("body", String))


def _fold(db: Connection, tables: Tables, recorded: Recorded) -> None:
    event = recorded.data
    if not isinstance(event, REFERENCE):
        return
    row = {
        "event_id": recorded.id,
        "position": recorded.position,
        "type": event.type,
        "schema_version": event.schema_version,
        "data": event.model_dump_json(exclude={"type"}),
    }
    upsert(db, tables["fact"], row)
    match event:
        case RegionRegistered():
            upsert(db, tables["region"], {"id": event.region})
        case BodyEstablished():
            upsert(db, tables["body"], {"id": event.body, "kind": event.kind})
        case OfficeEstablished():
            upsert(db, tables["office"], {"id": event.office, "body": event.body})
        case _:
            pass


DIRECTORY = View(name="directory", version=1, sources=("routing",), tables=_tables, fold=_fold)
"""The local tables of reference facts, the same in every service."""


class DirectoryCache:
    """The directory as one immutable snapshot, read anew after its view has moved."""

    def __init__(self, store: ViewStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: Directory | None = None
        self._stale = 0

    def moved(self) -> None:
        """The view has folded a reference fact: the next reader builds the snapshot anew."""
        self._stale += 1

    def get(self) -> Directory:
        """The newest snapshot."""
        known = self._known
        if known is not None and known.revision == self._stale:
            return known
        with self._lock:
            revision = self._stale
            with self._store.read() as db:
                fact = self._store.tables(DIRECTORY, self._store.pointer(db, DIRECTORY)[0])["fact"]
                rows = db.execute(
                    select(fact.c.type, fact.c.schema_version, fact.c.data).order_by(fact.c.position)
                ).all()
            events = (read_payload(row.type, row.schema_version, json.loads(row.data)) for row in rows)
            self._known = Directory(events, revision)
            return self._known
