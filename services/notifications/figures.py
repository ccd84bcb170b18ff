"""What notifications tells Prometheus of the procedure: what has not reached those whom it concerns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from sqlalchemy import func, select

from services.notifications.channels import channels
from services.notifications.views.outbox import OUTBOX
from shared.runtime import metrics
from shared.runtime.declare import Facts

DECISION = "DecisionRecorded"


def figures(facts: Facts, unanswered: Mapping[str, int]) -> Iterator[metrics.Reading]:
    """Decisions and notices undelivered. A decision is delivered when it stands in the raiser's inbox (I-8)."""
    outbox = facts.tables(OUTBOX)["outbox"]
    parts = (outbox.c.channel, outbox.c.reason.is_not(None), outbox.c.about_type)
    # From 0 on, so that a first one is seen as a change.
    outside = [channel.name for channel in channels() if channel.opened is not None]
    notices = Counter({(channel, state): 0 for channel in outside for state in ("waiting", "given_up")})
    decisions = Counter[str]()
    for channel, given_up, about, count in facts.db.execute(select(*parts, func.count()).group_by(*parts)):
        notices[channel, "given_up" if given_up else "waiting"] += count
        if about == DECISION:
            decisions[channel] += count
    yield metrics.DECISIONS_UNDELIVERED(unanswered.get(DECISION, 0), "inbox")
    for where, count in sorted(decisions.items()):
        yield metrics.DECISIONS_UNDELIVERED(count, where)
    for (channel, state), count in sorted(notices.items()):
        yield metrics.NOTICES_UNDELIVERED(count, channel, state)
