"""What routing tells Prometheus of the procedure: where cases are, how long, what is late, what was sent up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import get_args

from sqlalchemy import Integer, func, select

from services.routing.views import itinerary, work_queue
from shared.runtime import metrics
from shared.runtime.declare import Facts

NATIONWIDE = "nationwide"
SENT_UP = ("EscalatedToSupportGroup", "EscalatedToForum", "CaseMoved")
"""The events that give a case to a higher body; a tier that names no event of its own is reached by ``CaseMoved``."""


def figures(facts: Facts, _: Mapping[str, int]) -> Iterator[metrics.Reading]:
    """Cases by stage and region, the oldest of a stage, what is to be done and overdue, and how often cases went up."""
    made = facts.tables(itinerary.VIEW)
    cases, holdings = made["cases"], made["holdings"]
    is_open = cases.c.closed_at.is_(None) & cases.c.stage.is_not(None)
    places = (cases.c.stage, cases.c.nationwide, cases.c.regions)
    grouped = select(*places, func.count(), func.min(cases.c.since)).where(is_open).group_by(*places)
    counts, oldest = Counter[tuple[str, str]](), dict[str, str]()
    for stage, nationwide, regions, count, since in facts.db.execute(grouped):
        named = [str(region["region"]) for region in json.loads(regions or "[]")]
        for region in [NATIONWIDE] if nationwide or not named else named:
            counts[stage, region] += count
        oldest[stage] = min(since, oldest.get(stage, since))
    for (stage, region), count in sorted(counts.items()):
        yield metrics.CASES_OPEN(count, stage, region)
    for stage, since in sorted(oldest.items()):
        age = (facts.now - datetime.fromisoformat(since)).total_seconds()
        yield metrics.CASES_OLDEST(max(0.0, age), stage)

    work = facts.tables(work_queue.VIEW)["work"]
    # Dates are text of fixed width: they compare as dates do.
    late = func.sum((work.c.due < facts.today.isoformat()).cast(Integer))
    waiting, overdue = Counter[str](), Counter[str]()
    for kind, stage, count, past in facts.db.execute(
        select(work.c.kind, work.c.stage, func.count(), late).group_by(work.c.kind, work.c.stage)
    ):
        waiting[kind] += count
        overdue[kind] += past or 0
        if kind in ("holding", "triage"):
            yield metrics.CASES_OVERDUE(past or 0, stage)
    for kind in get_args(work_queue.Kind):
        yield metrics.WORK_WAITING(waiting[kind], kind)
        yield metrics.WORK_OVERDUE(overdue[kind], kind)

    sent = select(holdings.c.stage, func.count()).where(holdings.c.event.in_(SENT_UP)).group_by(holdings.c.stage)
    for stage, count in facts.db.execute(sent):
        yield metrics.ESCALATIONS(count, stage)
