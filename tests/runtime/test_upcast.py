"""One real upcast: rows stored in an older shape are loaded, folded and answered in today's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
from sqlalchemy import Column, Connection, Float, String, select

from shared.contracts.envelope import (
    Authority,
    Command,
    Event,
    UnknownType,
    _types,
    _upcasts,
    read_payload,
    register,
    upcast,
)
from shared.decider import Decider
from shared.runtime import log as log_module
from shared.runtime.databases import Databases
from shared.runtime.declare import Act, Facts, Gateway, Named, Reactions, Recorded, Service, Tables, View
from shared.runtime.parked import listed, replay
from shared.runtime.views import upsert
from tests.runtime.ledger import AT, BY
from tests.runtime.pair import COPY, Stepped, copying


class RoadMeasuredV1(Event):
    """As the first release stored it: the length as text, with its unit."""

    type: Literal["RoadMeasured"] = "RoadMeasured"
    length: str


class RoadMeasured(Event):
    """As today: kilometres, and how they were measured."""

    schema_version: ClassVar[int] = 3
    type: Literal["RoadMeasured"] = "RoadMeasured"
    kilometres: float
    method: str


def from_text(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 to 2: ``"3.5 km"`` becomes a number."""
    return {"kilometres": float(data["length"].removesuffix(" km"))}


def with_method(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 to 3: nobody had noted the method."""
    return {**data, "method": "unknown"}


class MeasureRoad(Command):
    """Store a measurement in whatever shape this release has."""

    fact: Any


@dataclass(frozen=True)
class Road:
    """The last length."""

    kilometres: float = 0.0


def _evolve(state: Road, event: Event) -> Road:
    return Road(event.kilometres) if isinstance(event, RoadMeasured) else state


ROAD: Decider[Road] = Decider("Road", Road(), lambda _, command: [command.fact], _evolve, (MeasureRoad,))  # type: ignore[attr-defined]


def measure(road: str, fact: Event) -> Act:
    return Act(ROAD, road, MeasureRoad(fact=fact, by=BY, at=AT, authority=Authority(rule="test")), key=road)


def _tables(named: Named) -> None:
    named.table("road", Column("id", String, primary_key=True), Column("kilometres", Float), Column("method", String))


def _fold(db: Connection, tables: Tables, recorded: Recorded) -> None:
    if isinstance(recorded.data, RoadMeasured):
        row = {"id": recorded.aggregate_id, "kilometres": recorded.data.kilometres, "method": recorded.data.method}
        upsert(db, tables["road"], row)


ROADS = View("roads", 1, ("routing",), _tables, _fold)


def _react(heard: Recorded, facts: Facts) -> Sequence[Act]:
    assert isinstance(heard.data, RoadMeasured)
    return [copying(heard, f"{heard.data.kilometres:g} km, {heard.data.method}", facts)]


def release(version: int) -> None:
    """Declare the type as a release of that schema version did."""
    _types.pop("RoadMeasured", None)
    register(RoadMeasuredV1 if version == 1 else RoadMeasured, "routing")
    log_module._decoded.clear()  # another release is another process


@pytest.fixture
def system(place: Databases) -> Iterator[Stepped]:
    """Two services of which the second hears of roads."""
    reactions = Reactions()
    reactions.on(RoadMeasured)(_react)
    first = Service("routing", (), (ROAD,), Reactions(), (ROADS,), Gateway("routing"))
    second = Service("mirror", ("routing",), (COPY,), reactions, (ROADS,), Gateway("mirror"))
    upcast("RoadMeasured", 1)(from_text)
    upcast("RoadMeasured", 2)(with_method)
    opened = Stepped(place, (first, second))
    yield opened
    opened.close()
    _types.pop("RoadMeasured", None)
    for version in (1, 2):
        del _upcasts["RoadMeasured", version]
    log_module._decoded.clear()


def roads(system: Stepped) -> list[list[tuple[Any, ...]]]:
    """The view's rows in both services."""
    found = []
    for hosted in (system.source, system.mirror):
        with hosted.store.read() as db:
            table = hosted.store.tables(ROADS, hosted.store.pointer(db, ROADS)[0])["road"]
            found.append([tuple(row) for row in db.execute(select(table).order_by(table.c.id))])
    return found


def test_rows_of_the_first_release_are_read_in_todays_shape(system: Stepped) -> None:
    release(1)
    system.source.submit(measure("r1", RoadMeasuredV1(length="3.5 km")), "m-1", "m-1")
    release(3)
    system.source.submit(measure("r2", RoadMeasured(kilometres=7, method="survey")), "m-2", "m-2")
    stored = system.source.log.query("SELECT topic FROM stored_events ORDER BY position")
    assert stored == [("RoadMeasured.v1",), ("RoadMeasured.v3",)]
    system.carry()
    system.react()
    system.fold()
    assert system.source.log.load(ROAD, "r1").state == Road(3.5)
    assert roads(system) == [[("r1", 3.5, "unknown"), ("r2", 7.0, "survey")]] * 2
    assert (system.copies("r1"), system.copies("r2")) == (("3.5 km, unknown",), ("7 km, survey",))


def test_an_aggregate_of_old_rows_takes_new_ones(system: Stepped) -> None:
    release(1)
    system.source.submit(measure("r1", RoadMeasuredV1(length="3.5 km")), "m-1", "m-1")
    release(3)
    system.source.submit(measure("r1", RoadMeasured(kilometres=4, method="survey")), "m-2", "m-2")
    loaded = system.source.log.load(ROAD, "r1")
    assert (loaded.state, loaded.version) == (Road(4), 2)


def test_a_newer_version_than_known_waits_for_the_upgrade(system: Stepped) -> None:
    """An older release beside a newer one: nothing is guessed, nothing is lost, other keys go on."""
    release(3)
    system.source.submit(measure("r1", RoadMeasured(kilometres=4, method="survey")), "m-1", "m-1")
    release(1)
    system.source.submit(measure("r2", RoadMeasuredV1(length="2 km")), "m-2", "m-2")
    with pytest.raises(UnknownType, match=r"RoadMeasured\.v3"):
        system.source.log.load(ROAD, "r1")
    system.carry()
    system.reactions.step()
    system.fold()
    assert system.states()[0] == "unknown"
    held = {(one["service"], one["where"]) for one in listed(system.place, system.services) if one["key"] == "r1"}
    assert held >= {("routing", "roads"), ("mirror", "roads"), ("mirror", "reactions")}
    release(3)
    replay(system.place, system.services)
    system.react(4)
    system.fold()
    assert system.states() == ["done", "done"]
    assert system.copies("r1") == ("4 km, survey",)
    assert roads(system)[1][0] == ("r1", 4.0, "survey")
    assert [one for one in listed(system.place, system.services) if one["key"] == "r1"] == []


def test_fields_of_an_unknown_type_are_never_guessed() -> None:
    with pytest.raises(UnknownType):
        read_payload("NeverDeclared", 1, {})
