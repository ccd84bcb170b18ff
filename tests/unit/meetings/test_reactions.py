"""What meetings does on hearing its own decision: the Minister's adoption takes effect on the policy."""

from __future__ import annotations

from datetime import date
from typing import Any, cast

import pytest

from services.meetings.meeting import MEETING
from services.meetings.policy import POLICY, AdoptPolicy
from services.meetings.reactions import REACTIONS
from services.meetings.service import SERVICE
from shared.contracts.codes import DecisionCode
from shared.contracts.envelope import Event
from shared.contracts.meetings import (
    AgendaItemPlaced,
    DecisionFields,
    DecisionRecorded,
    DeliberationConcluded,
    MeetingPlanned,
    PolicyAdopted,
    PolicyDrafted,
    Source,
)
from shared.decider import fold
from shared.runtime.declare import Act, Facts
from tests.views.routing_walk import Stream, at

SOURCES = (Source(kind="issue", ref="case-1"),)
DRAFT = PolicyDrafted(title="Widening", text="Text.", text_hash="abc", revision=1, sources=SOURCES)
DELIBERATED = DeliberationConcluded(
    item=1, case_id="case-1", advice="for", fields_heard=("land",), fields_not_heard=(), text="Summary."
)


class Meetings:
    """Facts of a service whose log holds one meeting."""

    now = at(9, 12, 12)

    def __init__(self, events: list[Event]) -> None:
        self._meeting = fold(MEETING, events)

    def load(self, *_: object) -> tuple[Any, int]:
        """The meeting."""
        return self._meeting, 1


def decision(code: DecisionCode, fields: DecisionFields) -> DecisionRecorded:
    """A decision of the forum on item 1."""
    return DecisionRecorded(
        decision="meeting-f.1",
        body="forum",
        item=1,
        case_id="case-1",
        code=code,
        method="chair_after_hearing",
        clause="Charter art. 5",
        fields=fields,
    )


ADOPTION = DecisionFields(
    policy_id="policy-p",
    policy_revision=1,
    policy_hash="abc",
    sources=SOURCES,
    owner="dept-road",
    review_date=date(2024, 9, 12),
)


def hear(decided: DecisionRecorded, *before: Event) -> list[Act]:
    """The acts on hearing a decision that these facts precede."""
    stream = Stream("meetings", "Meeting", "meeting-f")
    planned = MeetingPlanned(body="forum", day=date(2023, 9, 12), place="Sejong", form="on_site")
    placed = AgendaItemPlaced(item=1, kind="case", case_id="case-1", policy_id="policy-p")
    for event in (planned, placed, *before, decided):
        stream.add(at(9, 12), event)
    facts = Meetings([recorded.data for recorded in stream.events])
    return list(REACTIONS.by_type["DecisionRecorded"](stream.events[-1], cast(Facts, facts)))


@pytest.mark.capability("G1")
def test_T_30_the_ministers_decision_adopts_the_policy_in_his_name() -> None:
    (act,) = hear(decision("adopt", ADOPTION), DELIBERATED)

    assert (act.stream, act.key, act.case_id) == ("Policy/policy-p", "policy-p", None)
    assert isinstance(act.command, AdoptPolicy)
    assert act.command.by.user == "u1"
    (adopted,) = POLICY.decide(fold(POLICY, [DRAFT]), act.command)
    assert isinstance(adopted, PolicyAdopted)
    assert adopted.decision_event == "Meeting.meeting-f.4"
    assert adopted.deliberation_event == "meeting-f.1"
    assert adopted.cases == ("case-1",)


def test_I_12_an_emergency_adoption_cites_its_clause_and_no_deliberation() -> None:
    fields = DecisionFields(**{**dict(ADOPTION), "emergency_clause": "Charter art. 9"})
    (act,) = hear(decision("adopt", fields))

    assert isinstance(act.command, AdoptPolicy)
    assert (act.command.deliberation_event, act.command.emergency_clause) == (None, "Charter art. 9")


def test_other_decisions_touch_no_policy() -> None:
    assert hear(decision("noted", DecisionFields(due=date(2023, 10, 4)))) == []


def test_an_adoption_stored_without_its_fields_is_an_error_not_silence() -> None:
    with pytest.raises(ValueError, match=r"meeting-f\.1"):
        hear(decision("adopt", DecisionFields()))


def test_the_service_listens_to_itself_for_decisions() -> None:
    assert "DecisionRecorded" in SERVICE.reactions.by_type
