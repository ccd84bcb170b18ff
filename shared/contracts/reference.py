"""Reference facts, routing's own events: which bodies, offices, regions, rules and days exist when (section 2).

Each carries a validity of its own (``valid_from``, ``valid_to`` exclusive) and the mark of its source.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import AwareDatetime, Field

from shared.contracts.codes import BodyKind, CaseState, DecisionCode, Method, OfficeRole
from shared.contracts.envelope import Event, Fact, Id, Label, Line, Text, register

Source = Line
"""Where a row comes from and how sure it is: V verified, S secondary source, M memory."""


class RegionCodes(Fact):
    """The three code systems, which collide: never a bare two digits without its system."""

    mois: Line
    kosis: Line | None = None
    iso: Line | None = None


class RegionRegistered(Event):
    """A region entered the register."""

    type: Literal["RegionRegistered"] = "RegionRegistered"
    region: Id
    codes: RegionCodes
    name: Label
    capital_area: bool = False
    valid_from: date
    source: Source


class RegionRecoded(Event):
    """The same region under a new code or name from a day on: no succession, same council."""

    type: Literal["RegionRecoded"] = "RegionRecoded"
    region: Id
    codes: RegionCodes
    name: Label
    valid_from: date
    source: Source


class RegionSucceeded(Event):
    """A region ended on a day and names its successors (I-15, I-16)."""

    type: Literal["RegionSucceeded"] = "RegionSucceeded"
    region: Id
    successors: tuple[Id, ...] = Field(min_length=1)
    valid_from: date
    source: Source


class Megaregion(Fact):
    """A grouping of regions (권역)."""

    megaregion: Id
    name: Label
    regions: tuple[Id, ...] = Field(min_length=1)


class RegionGroupingPublished(Event):
    """A scheme of megaregions, valid between two days."""

    type: Literal["RegionGroupingPublished"] = "RegionGroupingPublished"
    grouping: Id
    name: Label
    megaregions: tuple[Megaregion, ...]
    valid_from: date
    valid_to: date | None = None
    source: Source


class BodyEstablished(Event):
    """A body exists from a day on: council, group, forum, department, raising organisation, desk."""

    type: Literal["BodyEstablished"] = "BodyEstablished"
    body: Id
    kind: BodyKind
    tier: Id | None = None
    name: Label
    parent: Id | None = None
    regions: tuple[Id, ...] = ()
    level: Literal["metropolitan", "basic"] | None = None
    """Of a raising organisation: metropolitan or basic local government."""
    valid_from: date
    valid_to: date | None = None
    source: Source


class CharterAdopted(Event):
    """How a body sits and decides from a day on (I-10): all of it data."""

    type: Literal["CharterAdopted"] = "CharterAdopted"
    body: Id
    charter: Id
    version: int
    quorum: int = Field(ge=0)
    """Members that must attend; 0 where the charter asks for none."""
    method: Method
    codes: tuple[DecisionCode, ...]
    """The body's column of the table of decision codes (section 6)."""
    notice_days: int
    decision_clause: Line
    valid_from: date
    valid_to: date | None = None
    source: Source


class MemberAppointed(Event):
    """A seat of a body with its fields of expertise, from a day on (C6). A seat, never a person's name."""

    type: Literal["MemberAppointed"] = "MemberAppointed"
    body: Id
    seat: Id
    name: Label
    fields: tuple[Id, ...] = ()
    voting: bool = True
    """Else advisory: heard, without a vote."""
    role: Id = "member"
    """As what it sits: chair, expert, department_head …: a word of the data, on which no rule rests."""
    on_behalf_of: Id | None = None
    """The body that sends it, where one does."""
    valid_from: date
    valid_to: date | None = None
    source: Source


class MemberLeft(Event):
    """A seat became empty on a day."""

    type: Literal["MemberLeft"] = "MemberLeft"
    body: Id
    seat: Id
    valid_from: date
    source: Source


class EdgeOpened(Event):
    """From a day on cases may go from one body to another (I-3)."""

    type: Literal["EdgeOpened"] = "EdgeOpened"
    body: Id
    edge: Id
    to_body: Id
    kind: Literal["review", "escalate"]
    valid_from: date
    source: Source


class EdgeClosed(Event):
    """From a day on cases no longer go that way."""

    type: Literal["EdgeClosed"] = "EdgeClosed"
    body: Id
    edge: Id
    valid_from: date
    source: Source


class OfficeEstablished(Event):
    """An office of a body: authority belongs to it, not to persons (C5)."""

    type: Literal["OfficeEstablished"] = "OfficeEstablished"
    office: Id
    body: Id
    role: OfficeRole
    name: Label
    valid_from: date
    valid_to: date | None = None
    source: Source


class OfficeHolderAppointed(Event):
    """A subject holds an office from a day on (I-9)."""

    type: Literal["OfficeHolderAppointed"] = "OfficeHolderAppointed"
    office: Id
    subject: Id
    valid_from: date
    source: Source


class OfficeHolderLeft(Event):
    """A subject no longer holds an office from a day on."""

    type: Literal["OfficeHolderLeft"] = "OfficeHolderLeft"
    office: Id
    subject: Id
    valid_from: date
    source: Source


class TierRow(Fact):
    """A tier as data: code, state, label, and the name of its arrival event where it has one."""

    tier: Id
    state: CaseState
    label: Label
    arrival: Id | None = None
    clock: Id


class ClockProfile(Fact):
    """How long a holder has: working days, or calendar days moved to a working day (section 10)."""

    clock: Id
    days: int = Field(ge=0)
    unit: Literal["working", "calendar"]


class DecisionRow(Fact):
    """A row of a decision table: a CEL expression over the inputs, and what it gives."""

    row: Id
    when: Text
    gives: dict[str, str | int | float | bool | tuple[str, ...]]
    priority: int = 0
    source: Source


class DecisionTable(Fact):
    """A decision table with its hit policy (section 10)."""

    table: Id
    hit_policy: Literal["unique", "first", "priority", "collect", "rule_order", "any"]
    rows: tuple[DecisionRow, ...]


class RuleSetPublished(Event):
    """Rules valid from a day on; a case keeps the version it started with (B6)."""

    type: Literal["RuleSetPublished"] = "RuleSetPublished"
    rule_set: Id
    version: int
    tiers: tuple[TierRow, ...]
    clocks: tuple[ClockProfile, ...]
    tables: tuple[DecisionTable, ...]
    valid_from: date
    source: Source


class DayOff(Fact):
    """A day that is no working day, with its name."""

    day: date
    name: Line


class CalendarPublished(Event):
    """The working calendar of a year: Saturdays, Sundays and these days are off (D5)."""

    type: Literal["CalendarPublished"] = "CalendarPublished"
    calendar: Id
    year: int
    days_off: tuple[DayOff, ...]
    source: Source


class ClockShifted(Event):
    """The business clock stands this much from real time (development issuer only)."""

    type: Literal["ClockShifted"] = "ClockShifted"
    offset_seconds: float
    business_time: AwareDatetime


for _cls in (
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
):
    register(_cls, "routing")
