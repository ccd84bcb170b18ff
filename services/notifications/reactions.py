"""Who is told of what is heard: one dispatch for each event, office and channel, all of an event in one write.

What is told depends on the event and on facts that never change once heard; where such a fact is not there yet the
reaction waits, so that no lagging table can swallow a notice.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta

from services.notifications.audience import AUDIENCES, DESK_OF_KIND, ROW, Audience, wording_of
from services.notifications.channels import Channel, channels
from services.notifications.contacts import contacts_of
from services.notifications.dispatch import DISPATCH, RequestAndDeliver, RequestNotice
from services.notifications.views.case_parties import proposed_lead, raisers_of, reviewed_lead
from shared.contracts.issues import DepartmentConsulted, DepartmentReminded, IssueReviewed, ReceiptIssued
from shared.contracts.routing import (
    CaseMoved,
    CaseRouted,
    CaseUnrouted,
    EscalatedToForum,
    EscalatedToSupportGroup,
    MoveRefused,
)
from shared.runtime.declare import Act, Facts, Reactions, Recorded, Wait, by_process

REACTIONS = Reactions()

CHANNELS = channels()

NAMESPACE = uuid.UUID("5f0c6b52-8a1e-5f3c-9d7e-6e6f74696365")
"""Name space of the dispatches' ids."""


@REACTIONS.on(*AUDIENCES)
def tell(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """Tell every office of the event's audiences, over every channel; nothing for an item without a case.

    Over a channel outside only where it is configured and the office has a contact on this day.
    """
    case_id = heard.case_id or getattr(heard.data, "case_id", None)
    if case_id is None:
        return []
    offices: dict[str, Audience] = {}
    for audience in AUDIENCES[type(heard.data)]:
        for office in _offices(audience, heard, case_id, facts):
            # An office that belongs to several audiences is told once, as the first of them.
            offices.setdefault(office, audience)
    outside = [channel for channel in CHANNELS if channel.receipt is None and channel.name in facts.effects]
    contacts = contacts_of(facts, offices) if outside else {}
    return [
        _dispatch(heard, case_id, office, audience, channel, facts)
        for channel in (*(channel for channel in CHANNELS if channel.receipt is not None), *outside)
        for office, audience in offices.items()
        if channel.receipt is not None or office in contacts
    ]


def _dispatch(heard: Recorded, case_id: str, office: str, audience: Audience, channel: Channel, facts: Facts) -> Act:
    wording = wording_of(heard.data)
    words = channel.words(wording).filled(case=case_id[-8:], due=_due(heard), see=_see(heard, case_id))
    dispatch_id = str(uuid.uuid5(NAMESPACE, f"{heard.id}/{office}/{channel.name}"))
    request = RequestNotice(
        **by_process(heard.envelope.actor.body, facts.now, ROW[audience]),
        about=heard.id,
        about_type=heard.type,
        office=office,
        channel=channel.name,
        audience=audience,
        mandatory=True,
        wording=wording,
        title=words.title,
        text=words.text,
    )
    command = request
    if channel.receipt is not None:
        command = RequestAndDeliver(**dict(request), receipt=channel.receipt(dispatch_id))
    return Act(DISPATCH, dispatch_id, command, key=dispatch_id, case_id=case_id)


def _offices(audience: Audience, heard: Recorded, case_id: str, facts: Facts) -> Iterator[str]:
    match audience:
        case "raiser":
            for body in _raisers(heard, case_id, facts):
                yield _desk(facts, body)
        case "reviewer":
            assert isinstance(heard.data, DepartmentConsulted | DepartmentReminded)
            yield _desk(facts, heard.data.department)
        case "secretary":
            yield from _both_bodies(heard, facts)
        case "lead":
            lead = _lead(heard, case_id, facts)
            if lead is not None:
                yield _desk(facts, lead)


def _raisers(heard: Recorded, case_id: str, facts: Facts) -> Sequence[str]:
    if isinstance(heard.data, ReceiptIssued):
        # It comes with the issue itself, so it says by itself for whom it is: no table could know them yet.
        return (heard.data.issued_to, *heard.data.copies_to)
    raisers = raisers_of(facts, case_id)
    if raisers is None:
        raise Wait(f"who raised {case_id}")
    return raisers


def _both_bodies(heard: Recorded, facts: Facts) -> Iterator[str]:
    """The office that has the case now, and the desk of the body that had it (row 3)."""
    match heard.data:
        case MoveRefused():
            yield _desk(facts, heard.data.body)
        case CaseRouted() | CaseUnrouted() | EscalatedToSupportGroup() | EscalatedToForum() | CaseMoved():
            yield heard.data.holding.office
            if heard.data.from_body is not None:
                yield _desk(facts, heard.data.from_body)


def _lead(heard: Recorded, case_id: str, facts: Facts) -> str | None:
    match heard.data:
        case CaseRouted():
            return heard.data.lead
        case EscalatedToSupportGroup() | EscalatedToForum():
            # I-4: no case gets there without a concluded review, so its lead will be heard.
            lead = reviewed_lead(facts, case_id)
            if lead is None:
                raise Wait(f"conclusion of the review of {case_id}")
            return lead
        case _:
            # A tier that came as data may lie before any review: then what routing proposed counts, if anything.
            proposed, version = proposed_lead(facts, case_id)
            if version < heard.envelope.version - 1:
                raise Wait(f"course of {case_id}")
            return reviewed_lead(facts, case_id) or proposed


def _desk(facts: Facts, body: str) -> str:
    """The office that is told for a body; of a body that has ended, the one it had last: its inbox stays.

    Every body has one, so where it is missing it has not been heard yet.
    """
    found = facts.directory.known_body(body)
    if found is None:
        raise Wait(f"body {body}")
    day = facts.today if found.valid_to is None else min(facts.today, found.valid_to - timedelta(days=1))
    desk = facts.directory.office_of(body, DESK_OF_KIND[found.kind], day)
    if desk is None:
        raise Wait(f"office of {body}")
    return desk.office


def _due(heard: Recorded) -> str:
    """The date that the event names, where it names one."""
    due = getattr(getattr(heard.data, "holding", heard.data), "due", None)
    return due.isoformat() if due is not None else ""


def _see(heard: Recorded, case_id: str) -> str:
    """Where to look: at the round of review, at the issue with its docket number, else at the case."""
    match heard.data:
        case DepartmentConsulted() | DepartmentReminded() | IssueReviewed():
            return f"/v1/issues/{case_id}/reviews/{heard.data.round}"
        case ReceiptIssued():
            return f"/v1/issues/{case_id}"
        case _:
            return f"/v1/cases/{case_id}"
