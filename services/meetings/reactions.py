"""What meetings does when it hears a fact: the Minister's decision to adopt takes effect on the policy (◆12)."""

from __future__ import annotations

from services.meetings.meeting import MEETING
from services.meetings.policy import POLICY, AdoptPolicy
from shared.contracts.meetings import DecisionRecorded
from shared.runtime.declare import Act, Facts, Reactions, Recorded

REACTIONS = Reactions()


@REACTIONS.on(DecisionRecorded)
def take_effect(heard: Recorded, facts: Facts) -> list[Act]:
    """T-30: an ``adopt`` of our own meeting adopts the policy it names; the actor stays the Minister."""
    decision = heard.data
    if not isinstance(decision, DecisionRecorded) or decision.code != "adopt":
        return []
    fields = decision.fields
    if (
        fields.policy_id is None
        or fields.policy_revision is None
        or fields.policy_hash is None
        or fields.owner is None
        or fields.review_date is None
    ):
        raise ValueError(f"decision {decision.decision} was stored without the fields of adopt")
    # Nothing is deliberated on an item once it is decided, so the state of today tells what the decision rests on.
    meeting, _ = facts.load(MEETING, heard.aggregate_id)
    item = meeting.items.get(decision.item)
    deliberated = item is not None and item.deliberation is not None
    command = AdoptPolicy(
        by=heard.envelope.actor,
        at=facts.now,
        authority=heard.envelope.authority,
        revision=fields.policy_revision,
        text_hash=fields.policy_hash,
        meeting_id=heard.aggregate_id,
        item=decision.item,
        decision_event=heard.id,
        deliberation_event=decision.decision if deliberated else None,
        emergency_clause=fields.emergency_clause,
        sources=fields.sources,
        owner=fields.owner,
        review_date=fields.review_date,
        departure_reason=fields.departure_reason,
    )
    return [Act(POLICY, fields.policy_id, command, key=fields.policy_id)]
