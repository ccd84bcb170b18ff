"""What meetings tells Prometheus of the procedure: policies by state, adoptions, tasks past their date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import func, select

from services.meetings.views.policy_register import POLICY_REGISTER, STATES
from shared.runtime import metrics
from shared.runtime.declare import Facts


def figures(facts: Facts, _: Mapping[str, int]) -> Iterator[metrics.Reading]:
    """Policies by state, all that were ever adopted, and the tasks that are late."""
    made = facts.tables(POLICY_REGISTER)
    policies, tasks = made["policies"], made["tasks"]
    states = select(policies.c.state, func.count(), func.count(policies.c.adopted_at)).group_by(policies.c.state)
    found = {state: (count, adopted) for state, count, adopted in facts.db.execute(states)}
    for state in STATES:
        yield metrics.POLICIES(found.get(state, (0, 0))[0], state)
    yield metrics.ADOPTIONS(sum(adopted for _, adopted in found.values()))
    late = select(func.count()).where(tasks.c.done.is_not(True), tasks.c.due < facts.today.isoformat())
    yield metrics.TASKS_OVERDUE(facts.db.execute(late).scalar_one())
