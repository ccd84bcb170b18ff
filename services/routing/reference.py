"""Reference data: ``data/*.csv``, the rules and the Korean calendar as commands for routing's own aggregates.

Each act has a stable external id, so that loading twice, or loading half and then again, stores everything once. The
order is that of dependency: what a fact names has been entered before it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import holidays
from pydantic import ValidationError

from services.routing.body import BODY, AdoptCharter, AppointMember, CloseEdge, EstablishBody, OpenEdge
from services.routing.calendar import WORKING_CALENDAR, PublishCalendar
from services.routing.office import OFFICE, AppointHolder, EstablishOffice, RemoveHolder
from services.routing.region import (
    REGION_REGISTER,
    REGISTER,
    PublishGrouping,
    RecodeRegion,
    RegisterRegion,
    SucceedRegion,
)
from services.routing.ruleset import RULE_SET, PublishRuleSet
from services.routing.tables import faults
from shared.contracts.envelope import Actor, Authority, Command
from shared.contracts.reference import RuleSetPublished
from shared.decider import Decider
from shared.runtime.declare import Act

CALENDAR = "korea"
CALENDAR_YEARS = range(2022, 2028)

C = TypeVar("C", bound=Command)


@dataclass(frozen=True)
class Line:
    """A line of a CSV file, and where it stands."""

    file: Path
    number: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def many(self, column: str) -> tuple[str, ...]:
        """The parts of a cell, separated by semicolons."""
        return tuple(part.strip() for part in self.cells[column].split(";") if part.strip())

    def bad(self, why: str) -> ValueError:
        """An error that names file and line."""
        return ValueError(f"{self.file.name}, line {self.number}: {why}")


@dataclass(frozen=True)
class Loader:
    """Makes commands in the name of the operator, recorded at one instant."""

    at: datetime

    def command(self, line: Line, kind: type[C], /, **fields: Any) -> C:
        """A command from a line. Raises ``ValueError`` naming file and line of a bad one."""
        try:
            return kind(**self.envelope(), **fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise line.bad(f"{where}: {first['msg']}") from error

    def envelope(self) -> dict[str, Any]:
        """``by``, ``at`` and ``authority``."""
        return {
            "by": Actor(user="seed", office="operations.operator", body="operations"),
            "at": self.at,
            "authority": Authority(rule="seed"),
        }


def load(data: Path, at: datetime) -> Iterator[tuple[str, Act]]:
    """Every reference fact of the folder ``data`` as (external id, act), recorded at ``at``.

    Raises ``ValueError`` naming file and line of a bad row.
    """
    loader = Loader(at)
    yield from _regions(loader, data)
    yield from _megaregions(loader, data)
    bodies = _rows(data / "bodies.csv")
    yield from _bodies(loader, bodies)
    known = {line["body"] for line in bodies}
    offices = _rows(data / "offices.csv")
    yield from _offices(loader, offices, known)
    yield from _holders(loader, data, {line["office"] for line in offices})
    yield from _members(loader, data, known)
    yield from _charters(loader, data, known)
    yield from _edges(loader, data, known)
    yield from _rules(loader, data)
    yield from _calendars(loader)


def _rows(path: Path) -> list[Line]:
    """The lines of a CSV file. Raises ``ValueError`` for one with too few or too many cells."""
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        for cells in reader:
            line = Line(path, reader.line_num, cells)
            if None in cells or None in cells.values():
                raise line.bad("as many cells as the header has columns are needed")
            found.append(line)
    return found


def _regions(loader: Loader, data: Path) -> Iterator[tuple[str, Act]]:
    order = {"registered": 0, "recoded": 1, "succeeded": 2}
    lines = _rows(data / "regions.csv")
    for line in lines:
        if line["change"] not in order:
            raise line.bad(f"unknown change {line['change']!r}")
    for line in sorted(lines, key=lambda line: (order[line["change"]], line["valid_from"])):
        common = {"region": line["region"], "valid_from": line["valid_from"], "source": line["source"]}
        named = {
            "codes": {"mois": line["mois"], "kosis": line["kosis"] or None, "iso": line["iso"] or None},
            "name": {"ko": line["ko"], "en": line["en"]},
        }
        command: Command
        match line["change"]:
            case "registered":
                capital = _flag(line, "capital_area")
                command = loader.command(line, RegisterRegion, **common, **named, capital_area=capital)
            case "recoded":
                command = loader.command(line, RecodeRegion, **common, **named)
            case _:
                command = loader.command(line, SucceedRegion, **common, successors=line.many("successors"))
        yield f"region:{line['region']}:{line['change']}:{line['valid_from']}", _act(REGION_REGISTER, REGISTER, command)


def _megaregions(loader: Loader, data: Path) -> Iterator[tuple[str, Act]]:
    for grouping, group in groupby(_rows(data / "megaregions.csv"), key=lambda line: line["grouping"]):
        lines = list(group)
        first = lines[0]
        command = loader.command(
            first,
            PublishGrouping,
            grouping=grouping,
            name={"ko": first["grouping_ko"], "en": first["grouping_en"]},
            megaregions=[
                {
                    "megaregion": line["megaregion"],
                    "name": {"ko": line["ko"], "en": line["en"]},
                    "regions": line.many("regions"),
                }
                for line in lines
            ],
            valid_from=first["valid_from"],
            valid_to=first["valid_to"] or None,
            source=first["source"],
        )
        yield f"grouping:{grouping}", _act(REGION_REGISTER, REGISTER, command)


def _bodies(loader: Loader, lines: Iterable[Line]) -> Iterator[tuple[str, Act]]:
    """Parents before their children."""
    by_id = {line["body"]: line for line in lines}
    parents = {body: line["parent"] or None for body, line in by_id.items()}
    ancestors = {body: _ancestors(parents, line) for body, line in by_id.items()}
    for body in sorted(by_id, key=lambda body: len(ancestors[body])):
        line = by_id[body]
        command = loader.command(
            line,
            EstablishBody,
            body=body,
            kind=line["kind"],
            tier=line["tier"] or None,
            name={"ko": line["ko"], "en": line["en"]},
            parent=parents[body],
            regions=line.many("regions"),
            level=line["level"] or None,
            valid_from=line["valid_from"],
            valid_to=line["valid_to"] or None,
            source=line["source"],
            ancestors=ancestors[body],
        )
        yield f"body:{body}", _act(BODY, body, command)


def _ancestors(parents: dict[str, str | None], line: Line) -> tuple[str, ...]:
    """I-15: every parent stands in the file, and none above itself."""
    found: list[str] = []
    parent = parents[line["body"]]
    while parent is not None:
        if parent not in parents:
            raise line.bad(f"unknown parent {parent!r}")
        if parent == line["body"] or parent in found:
            raise line.bad(f"{parent!r} stands above itself")
        found.append(parent)
        parent = parents[parent]
    return tuple(found)


def _offices(loader: Loader, lines: Iterable[Line], bodies: set[str]) -> Iterator[tuple[str, Act]]:
    for line in lines:
        office = line["office"]
        command = loader.command(
            line,
            EstablishOffice,
            office=office,
            body=_known(line, "body", bodies),
            role=line["role"],
            name={"ko": line["ko"], "en": line["en"]},
            valid_from=line["valid_from"],
            valid_to=line["valid_to"] or None,
            source=line["source"],
            body_known=True,
        )
        yield f"office:{office}", _act(OFFICE, office, command)


def _holders(loader: Loader, data: Path, offices: set[str]) -> Iterator[tuple[str, Act]]:
    for line in sorted(_rows(data / "holders.csv"), key=lambda line: line["valid_from"]):
        office = _known(line, "office", offices)
        common = {"office": office, "subject": line["subject"], "source": line["source"]}
        name = f"{office}:{line['subject']}:{line['valid_from']}"
        appointed = loader.command(line, AppointHolder, **common, valid_from=line["valid_from"])
        yield f"holder:{name}", _act(OFFICE, office, appointed)
        if line["valid_to"]:
            left = loader.command(line, RemoveHolder, **common, valid_from=line["valid_to"])
            yield f"holder-left:{name}", _act(OFFICE, office, left)


def _members(loader: Loader, data: Path, bodies: set[str]) -> Iterator[tuple[str, Act]]:
    for line in _rows(data / "members.csv"):
        body = _known(line, "body", bodies)
        sender = _known(line, "on_behalf_of", bodies) if line["on_behalf_of"] else None
        command = loader.command(
            line,
            AppointMember,
            body=body,
            seat=line["seat"],
            name={"ko": line["ko"], "en": line["en"]},
            fields=line.many("fields"),
            voting=_flag(line, "voting"),
            role=line["role"],
            on_behalf_of=sender,
            sender_known=sender is not None,
            valid_from=line["valid_from"],
            valid_to=line["valid_to"] or None,
            source=line["source"],
        )
        yield f"member:{body}:{line['seat']}", _act(BODY, body, command)


def _charters(loader: Loader, data: Path, bodies: set[str]) -> Iterator[tuple[str, Act]]:
    for line in _rows(data / "charters.csv"):
        body = _known(line, "body", bodies)
        command = loader.command(
            line,
            AdoptCharter,
            body=body,
            charter=line["charter"],
            version=line["version"],
            quorum=line["quorum"],
            method=line["method"],
            codes=line.many("codes"),
            notice_days=line["notice_days"],
            decision_clause=line["decision_clause"],
            valid_from=line["valid_from"],
            valid_to=line["valid_to"] or None,
            source=line["source"],
        )
        yield f"charter:{body}:{line['version']}", _act(BODY, body, command)


def _edges(loader: Loader, data: Path, bodies: set[str]) -> Iterator[tuple[str, Act]]:
    for line in _rows(data / "edges.csv"):
        body = _known(line, "body", bodies)
        common = {"body": body, "edge": line["edge"], "source": line["source"]}
        opened = loader.command(
            line,
            OpenEdge,
            **common,
            to_body=_known(line, "to_body", bodies),
            kind=line["kind"],
            valid_from=line["valid_from"],
            to_body_known=True,
        )
        yield f"edge:{line['edge']}", _act(BODY, body, opened)
        if line["valid_to"]:
            closed = loader.command(line, CloseEdge, **common, valid_from=line["valid_to"])
            yield f"edge-closed:{line['edge']}", _act(BODY, body, closed)


def _rules(loader: Loader, data: Path) -> Iterator[tuple[str, Act]]:
    """Every ``rules-*.json``, a version each, the lowest first."""
    found = []
    for path in data.glob("rules-*.json"):
        try:
            found.append(RuleSetPublished.model_validate(json.loads(path.read_text(encoding="utf-8"))))
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    for rules in sorted(found, key=lambda rules: rules.version):
        content = {name: value for name, value in rules if name != "type"}
        command = PublishRuleSet(**loader.envelope(), **content, faults=faults(rules))
        yield f"rules:{rules.rule_set}:{rules.version}", _act(RULE_SET, rules.rule_set, command)


def _calendars(loader: Loader) -> Iterator[tuple[str, Act]]:
    """Public holidays with their substitutes, as the package ``holidays`` computes them."""
    for year in CALENDAR_YEARS:
        days = holidays.country_holidays("KR", years=year, language="ko")
        command = PublishCalendar(
            **loader.envelope(),
            calendar=CALENDAR,
            year=year,
            days_off=[{"day": day, "name": days[day]} for day in sorted(days) if day.year == year],
            source=f"python holidays {version('holidays')}",
        )
        yield f"calendar:{CALENDAR}:{year}", _act(WORKING_CALENDAR, CALENDAR, command)


def _act(decider: Decider[Any], id: str, command: Command) -> Act:
    return Act(decider, id, command, key=id)


def _known(line: Line, column: str, ids: set[str]) -> str:
    if line[column] not in ids:
        raise line.bad(f"unknown {column} {line[column]!r}")
    return line[column]


def _flag(line: Line, column: str) -> bool:
    if line[column] not in ("true", "false"):
        raise line.bad(f"{column}: true or false, not {line[column]!r}")
    return line[column] == "true"
