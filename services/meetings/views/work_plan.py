"""Work plan of a year: the tree of directions and items, with validity and source of each (section 8, G4)."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import Any

from sqlalchemy import Column, Connection, Integer, String, or_, select

from shared.contracts.envelope import Fact, Label
from shared.contracts.meetings import PlanItemAdded, PlanPublished
from shared.runtime.declare import Named, Recorded, Tables, View
from shared.runtime.views import upsert


def tables(named: Named) -> None:
    """Plans and their items."""
    named.table(
        "plans",
        Column("year", Integer, primary_key=True),
        Column("ko", String),
        Column("en", String),
        Column("presented_on", String),
        Column("source", String),
        Column("version", Integer),
    )
    named.table(
        "items",
        Column("year", Integer, primary_key=True),
        Column("item", String, primary_key=True),
        Column("number", Integer),
        Column("parent", String),
        Column("ko", String),
        Column("en", String),
        Column("note", String),
        Column("valid_from", String),
        Column("valid_to", String),
        Column("source", String),
    )


def fold(db: Connection, made: Tables, heard: Recorded) -> None:
    """One fact more."""
    event, plan = heard.data, {}
    match event:
        case PlanPublished():
            plan = {
                "ko": event.title.ko,
                "en": event.title.en,
                "presented_on": event.presented_on.isoformat(),
                "source": event.source,
            }
        case PlanItemAdded():
            item = {
                "year": event.year,
                "item": event.item,
                "number": heard.envelope.version,
                "parent": event.parent,
                "ko": event.name.ko,
                "en": event.name.en,
                "note": event.note,
                "valid_from": event.valid_from.isoformat(),
                "valid_to": None if event.valid_to is None else event.valid_to.isoformat(),
                "source": event.source,
            }
            upsert(db, made["items"], item)
        case _:
            return
    upsert(db, made["plans"], {"year": event.year, "version": heard.envelope.version, **plan})


WORK_PLAN_TREE = View(name="work_plan", version=1, sources=("meetings",), tables=tables, fold=fold)


# Queries


class WorkPlanItem(Fact):
    """An item of the plan with those under it."""

    item: str
    name: Label
    note: str | None
    valid_from: date
    valid_to: date | None
    source: str
    items: tuple[WorkPlanItem, ...]


class WorkPlanTree(Fact):
    """A year's plan as a tree."""

    year: int
    title: Label
    presented_on: date
    source: str
    items: tuple[WorkPlanItem, ...]


def plan_tree(db: Connection, made: Tables, year: int) -> tuple[WorkPlanTree, int] | None:
    """The plan of a year and its version; ``None`` where there is none."""
    plans, items = made["plans"], made["items"]
    row = db.execute(select(plans).where(plans.c.year == year)).one_or_none()
    if row is None or row.presented_on is None:
        return None
    under: dict[str | None, list[Any]] = defaultdict(list)
    for item in db.execute(select(items).where(items.c.year == year).order_by(items.c.number)):
        under[item.parent].append(item)
    plan = WorkPlanTree(
        year=row.year,
        title=Label(ko=row.ko, en=row.en),
        presented_on=row.presented_on,
        source=row.source,
        items=_branch(under, None),
    )
    return plan, row.version


def _branch(under: dict[str | None, list[Any]], parent: str | None) -> tuple[WorkPlanItem, ...]:
    return tuple(
        WorkPlanItem(
            item=row.item,
            name=Label(ko=row.ko, en=row.en),
            note=row.note,
            valid_from=row.valid_from,
            valid_to=row.valid_to,
            source=row.source,
            items=_branch(under, row.item),
        )
        for row in under.get(parent, [])
    )


def has_item(db: Connection, made: Tables, item: str, day: date) -> bool:
    """Whether a plan has that item on that day."""
    items = made["items"]
    query = select(items.c.item).where(
        items.c.item == item,
        items.c.valid_from <= day.isoformat(),
        or_(items.c.valid_to.is_(None), items.c.valid_to > day.isoformat()),
    )
    return db.execute(query).first() is not None
