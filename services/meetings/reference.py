"""The work plan as data (``data/work-plan.csv``), turned into commands for the seed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

from services.meetings.work_plan import WORK_PLAN, AddPlanItem, PublishPlan
from shared.contracts.envelope import Label
from shared.runtime.declare import Act, by_process

OWNER = "planning-group"
"""The body that answers for the data: it keeps the work plan."""


def load(data: Path, at: datetime) -> Iterator[tuple[str, Act]]:
    """Each row of the file as an act, with an id that stays the same when the file is loaded again.

    A row without item is the plan itself: its validity begins on the day it was presented.
    """
    envelope = by_process(OWNER, at, "G4")
    with (data / "work-plan.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            year, item = row["year"], row["item"]
            name = Label(ko=row["ko"], en=row["en"])
            valid_from = date.fromisoformat(row["valid_from"])
            command: PublishPlan | AddPlanItem
            if item:
                command = AddPlanItem(
                    **envelope,
                    year=int(year),
                    item=item,
                    parent=row["parent"] or None,
                    name=name,
                    note=row["note"] or None,
                    valid_from=valid_from,
                    valid_to=date.fromisoformat(row["valid_to"]) if row["valid_to"] else None,
                    source=row["source"],
                )
            else:
                command = PublishPlan(
                    **envelope, year=int(year), title=name, presented_on=valid_from, source=row["source"]
                )
            yield f"work-plan/{year}/{item or 'plan'}", Act(WORK_PLAN, year, command, key=year)
