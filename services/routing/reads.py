"""Routing's reads: its views, the business clock, and the reference facts as of a day.

Reference facts come from the directory, the same snapshot that the rules read. Which subject holds an office is shown
to operators only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Literal, TypeVar

from pydantic import Field

from services.routing.views import itinerary, lineage, why, work_queue
from services.routing.views.answers import Answer, Words, words
from shared.contracts.codes import BodyKind, DecisionCode, Method, OfficeRole
from shared.contracts.reference import ClockProfile, DecisionTable, TierRow
from shared.decider import Refused
from shared.runtime.declare import Gateway, One, Page, Request, View
from shared.runtime.directory import DIRECTORY

VIEWS: tuple[View, ...] = (itinerary.VIEW, work_queue.VIEW, lineage.VIEW, why.VIEW)


class ClockAnswer(Answer):
    """The business clock: its time now, and how far it stands from real time."""

    business_time: datetime
    offset_seconds: float


class RegionRow(Answer):
    """A region as it stands on the day, with the three code systems."""

    region: str
    mois: str
    kosis: str | None
    iso: str | None
    name: Words
    capital_area: bool
    megaregion: str | None


class BodyRow(Answer):
    """A body that exists on the day."""

    body: str
    kind: BodyKind
    tier: str | None
    name: Words
    parent: str | None
    regions: list[str]
    level: Literal["metropolitan", "basic"] | None
    valid_from: date
    valid_to: date | None
    source: str


class OfficeRow(Answer):
    """An office of a body; ``holders`` (subject ids) only for the operator, else how many hold it."""

    office: str
    body: str
    role: OfficeRole
    name: Words
    held_by: int
    holders: list[str] | None
    valid_from: date
    valid_to: date | None
    source: str


class MemberRow(Answer):
    """A seat of a body: as what and on whose behalf it sits, with its fields of expertise."""

    seat: str
    body: str
    name: Words
    fields: list[str]
    voting: bool
    role: str
    on_behalf_of: str | None
    valid_from: date
    valid_to: date | None
    source: str


class CharterRow(Answer):
    """The charter that applies to a body on the day."""

    body: str
    charter: str
    version: int
    quorum: int
    method: Method
    codes: list[DecisionCode]
    notice_days: int
    decision_clause: str
    valid_from: date
    valid_to: date | None
    source: str


class EdgeRow(Answer):
    """A way from one body to another that is open on the day."""

    edge: str
    start: str = Field(alias="from")
    end: str = Field(alias="to")
    kind: Literal["review", "escalate"]
    valid_from: date
    source: str


class RuleSetRow(Answer):
    """A version of the rules that is valid on the day; new cases go by the one ``in_force``."""

    rule_set: str
    version: int
    in_force: bool
    tiers: list[TierRow]
    clocks: list[ClockProfile]
    tables: list[DecisionTable]
    valid_from: date
    source: str


def day_asked(request: Request) -> date:
    """The day of ``?on=``, today where none is asked; refuses what is no date."""
    asked = request.query.get("on")
    if asked is None:
        return request.today
    try:
        day = date.fromisoformat(asked)
    except ValueError:
        day = None
    if day is None or day.isoformat() != asked:
        raise Refused("input", "날짜는 2023-01-04와 같이 적어야 합니다.", "Write a date as 2023-01-04.", kind="input")
    return day


def regions_of(request: Request, day: date) -> list[RegionRow]:
    """The regions of a day."""
    return [
        RegionRow(
            region=region.id,
            mois=region.codes.mois,
            kosis=region.codes.kosis,
            iso=region.codes.iso,
            name=words(region.name),
            capital_area=region.capital_area,
            megaregion=request.directory.megaregion(region.id, day),
        )
        for region in request.directory.regions(day)
    ]


def bodies_of(request: Request, day: date) -> list[BodyRow]:
    """The bodies of a day."""
    return [
        BodyRow(
            body=body.body,
            kind=body.kind,
            tier=body.tier,
            name=words(body.name),
            parent=body.parent,
            regions=list(body.regions),
            level=body.level,
            valid_from=body.valid_from,
            valid_to=body.valid_to,
            source=body.source,
        )
        for body in request.directory.bodies(day)
    ]


def offices_of(request: Request, day: date) -> list[OfficeRow]:
    """The offices of a day, with their holders where an operator asks."""
    directory = request.directory
    own = directory.body(request.actor.body, request.today)
    for_operator = own is not None and own.kind == "operations"
    rows = []
    for body in directory.bodies(day):
        for office in directory.offices(body.body, day):
            holders = directory.holders(office.office, day)
            rows.append(
                OfficeRow(
                    office=office.office,
                    body=office.body,
                    role=office.role,
                    name=words(office.name),
                    held_by=len(holders),
                    holders=holders if for_operator else None,
                    valid_from=office.valid_from,
                    valid_to=office.valid_to,
                    source=office.source,
                )
            )
    return rows


def members_of(request: Request, day: date) -> list[MemberRow]:
    """The seats of a day, of all bodies or of the one asked for."""
    asked = request.query.get("body")
    return [
        MemberRow(
            seat=seat.seat,
            body=seat.body,
            name=words(seat.name),
            fields=list(seat.fields),
            voting=seat.voting,
            role=seat.role,
            on_behalf_of=seat.on_behalf_of,
            valid_from=seat.valid_from,
            valid_to=seat.valid_to,
            source=seat.source,
        )
        for body in request.directory.bodies(day)
        if asked in (None, body.body)
        for seat in request.directory.members(body.body, day)
    ]


def charters_of(request: Request, day: date) -> list[CharterRow]:
    """The charter of each body on a day."""
    charters = (request.directory.charter(body.body, day) for body in request.directory.bodies(day))
    return [
        CharterRow(
            body=charter.body,
            charter=charter.charter,
            version=charter.version,
            quorum=charter.quorum,
            method=charter.method,
            codes=list(charter.codes),
            notice_days=charter.notice_days,
            decision_clause=charter.decision_clause,
            valid_from=charter.valid_from,
            valid_to=charter.valid_to,
            source=charter.source,
        )
        for charter in charters
        if charter is not None
    ]


def edges_of(request: Request, day: date) -> list[EdgeRow]:
    """The edges open on a day."""
    return [
        EdgeRow(
            edge=edge.edge,
            start=edge.body,
            end=edge.to_body,
            kind=edge.kind,
            valid_from=edge.valid_from,
            source=edge.source,
        )
        for body in request.directory.bodies(day)
        for edge in request.directory.edges(body.body, day)
    ]


def rule_sets_of(request: Request, day: date) -> list[RuleSetRow]:
    """The versions of the rules up to the one in force on a day: open cases keep theirs (B6)."""
    newest = request.directory.rule_set(day)
    versions = range(1, newest.version + 1) if newest is not None else range(0)
    found = (request.directory.rule_set_version(version) for version in versions)
    return [
        RuleSetRow(
            rule_set=rules.rule_set,
            version=rules.version,
            in_force=rules is newest,
            tiers=list(rules.tiers),
            clocks=list(rules.clocks),
            tables=list(rules.tables),
            valid_from=rules.valid_from,
            source=rules.source,
        )
        for rules in found
        if rules is not None and rules.valid_from <= day
    ]


Row = TypeVar("Row", bound=Answer)


def paged(request: Request, rows: Sequence[Row], key: Callable[[Row], str]) -> Page:
    """One page of a list that stands in memory, in the order of its ids."""
    after = str(request.after[0]) if request.after is not None else ""
    left = [row for row in sorted(rows, key=key) if key(row) > after]
    shown = left[: request.limit]
    return Page(shown, (key(shown[-1]),) if len(left) > len(shown) else None)


def _reference(
    gateway: Gateway,
    kind: str,
    answer: type[Row],
    listing: Callable[[Request, date], list[Row]],
    key: Callable[[Row], str],
    query: tuple[str, ...] = ("on",),
) -> None:
    def handler(request: Request) -> Page:
        return paged(request, listing(request, day_asked(request)), key)

    handler.__doc__ = f"Reference facts as of a day: {kind}."
    gateway.read(
        f"/v1/reference/{kind}",
        action="read_reference",
        operation_id=f"list_{kind.replace('-', '_')}",
        views=(DIRECTORY,),
        answer=answer,
        query=query,
    )(handler)


def add_reads(gateway: Gateway) -> None:
    """Declare all reads of routing."""
    itinerary.routes(gateway)
    why.routes(gateway)
    work_queue.routes(gateway)
    lineage.routes(gateway)

    @gateway.read("/v1/clock", action="read_clock", operation_id="get_clock", views=(DIRECTORY,), answer=ClockAnswer)
    def get_clock(request: Request) -> One:
        """The business clock."""
        directory = request.directory
        answer = ClockAnswer(business_time=request.now, offset_seconds=directory.clock_offset.total_seconds())
        return One(answer, directory.revision)

    _reference(gateway, "regions", RegionRow, regions_of, lambda row: row.region)
    _reference(gateway, "bodies", BodyRow, bodies_of, lambda row: row.body)
    _reference(gateway, "offices", OfficeRow, offices_of, lambda row: row.office)
    _reference(gateway, "members", MemberRow, members_of, lambda row: row.seat, ("on", "body"))
    _reference(gateway, "charters", CharterRow, charters_of, lambda row: row.body)
    _reference(gateway, "edges", EdgeRow, edges_of, lambda row: row.edge)
    _reference(gateway, "rule-sets", RuleSetRow, rule_sets_of, lambda row: f"{row.version:06d}")
