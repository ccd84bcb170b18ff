"""What users feel: every fact has moved its case once, by right and along an edge, and whoever it concerns was told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from services.audit_book import Book, Checking, name_of
from services.audit_findings import Check
from services.audit_folds import Event, Row, case_events, holdings

MOVES: Mapping[str, frozenset[str]] = {
    "IssueAccepted": frozenset({"CaseRouted", "CaseUnrouted"}),
    "IssueRefused": frozenset({"CaseClosed"}),
    "IssueReviewed": frozenset({"EscalatedToSupportGroup", "EscalatedToForum", "CaseMoved", "CaseResolvedAtReview"}),
    "PolicyAdopted": frozenset({"CaseLinkedToPolicy"}),
    "take_for_review": frozenset({"CaseRouted"}),
    "resolved_on_site": frozenset({"CaseClosed", "ImplementationAssigned"}),
    "resolved": frozenset({"CaseResolvedBySupportGroup"}),
    "escalate": frozenset({"EscalatedToSupportGroup", "EscalatedToForum", "CaseMoved"}),
    "noted": frozenset({"DeadlineChanged"}),
    "postpone_next": frozenset({"DeadlineChanged"}),
}
"""What a fact, or a decision's code, makes of the case (rows marked SYS in section 5); else it is ``MoveRefused``."""
WITH_OWNER = frozenset({"CaseResolvedAtReview", "CaseResolvedBySupportGroup", "CaseLinkedToPolicy"})
"""Moves that come with an ``ImplementationAssigned`` of the same cause."""
ARRIVALS = frozenset({"EscalatedToSupportGroup", "EscalatedToForum", "CaseMoved"})
DECISIONS = frozenset({"DecisionRecorded"})
TOLD = frozenset(
    {"ReceiptIssued", "IssueReviewed", "CaseRouted", "EscalatedToSupportGroup", "EscalatedToForum", "CaseMoved"}
    | {"CaseResolvedAtReview", "CaseResolvedBySupportGroup", "CaseLinkedToPolicy", "ImplementationAssigned"}
    | {"DeadlineChanged", "CaseClosed"}
)
"""Of what the raiser is told, besides decisions (row 1 of the notification table)."""
MOVED = frozenset({"CaseRouted", "CaseUnrouted"}) | ARRIVALS
"""Of what the new holder is told (row 3 of that table)."""
SEOUL = timezone(timedelta(hours=9))
EVERYWHERE = "all regions"
NATIONWIDE = "nation-wide"


def moves(book: Book, check: Check) -> None:
    """Each decision, review, acceptance and refusal on a case has made its move once, or left its ``MoveRefused``."""
    made: dict[tuple[str, str], list[str]] = defaultdict(list)
    completed: set[str] = set()
    for event in case_events(book.logs):
        # A case that its owner completes (row 38a) closes under the cause of its assignment: no second move of that.
        by_owner = event.type == "CaseClosed" and event.aggregate_id in completed
        if event.type == "ImplementationCompleted":
            completed.add(event.aggregate_id)
        if event.data.get("cause") and not event.data.get("override") and not by_owner:
            made[event.aggregate_id, event.data["cause"]].append(event.type)
    for event in book.of_type("issues", "IssueAccepted", "IssueRefused", "IssueReviewed"):
        _moved(check, event, made[event.case_id or "", event.id], event.type)
    for event in book.of_type("meetings", "DecisionRecorded"):
        case_id, code = event.data["case_id"], event.data["code"]
        if case_id is not None and code != "adopt":
            _moved(check, event, made[case_id, event.id], code)
    answered: dict[str, tuple[str, ...]] = {}
    for event in book.of_type("meetings", "PolicyAdopted"):
        answered[event.data["decision_event"]] = event.data["cases"]
        for case_id in event.data["cases"]:
            _moved(check, event, made[case_id, event.id], event.type)
    for event in book.of_type("meetings", "DecisionRecorded"):
        if event.data["code"] == "adopt" and event.data["case_id"] is not None:
            linked = event.data["case_id"] in answered.get(event.id, ())
            check.expect(linked, f"{name_of(event)} adopted no policy that answers its case")


def _moved(check: Check, event: Event, made: list[str], what: str) -> None:
    wanted = MOVES.get(what, frozenset())
    found = [move for move in made if move in wanted or move == "MoveRefused"]
    check.expect(len(found) == 1, f"{name_of(event)} ({what}) has {len(found)} moves and refused moves")
    if found and found[0] in WITH_OWNER:
        owners = made.count("ImplementationAssigned")
        check.expect(owners == 1, f"{name_of(event)} ({what}) gave the case {owners} owners")


def by_right(book: Book, check: Check) -> None:
    """Every event of a case names the body that acted and its rule; every move names the event that caused it."""
    for event in case_events(book.logs):
        check.expect(bool(event.rule and event.actor), f"{name_of(event)} names no authority")
        if "cause" in event.data and event.data["cause"] is not None:
            cause = book.cause(event.data["cause"])
            check.expect(cause is not None, f"{name_of(event)} was caused by {event.data['cause']}, which is in no log")
        elif "from_body" in event.data and event.type != "CaseUnrouted":
            check.expect(False, f"{name_of(event)} has no cause")


def along_edges(book: Book, check: Check) -> None:
    """I6: a case is at one tier, that of its body, and comes there over an edge that is open on that day."""
    opened: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    closed: dict[str, str] = {}
    tiers: dict[str, str | None] = {}
    for event in book.of_type("routing", "EdgeOpened", "EdgeClosed", "BodyEstablished"):
        if event.type == "EdgeOpened":
            way = (event.data["body"], event.data["to_body"], event.data["kind"])
            opened[way].append((event.data["edge"], event.data["valid_from"]))
        elif event.type == "EdgeClosed":
            closed[event.data["edge"]] = event.data["valid_from"]
        else:
            tiers[event.data["body"]] = event.data["tier"]
    for event in case_events(book.logs):
        holding = event.data.get("holding")
        if holding is None:
            continue
        tier = tiers.get(holding["body"])
        at_its_tier = holding["tier"] == (tier if holding["state"] == "at_body" else holding["tier"])
        check.expect(at_its_tier, f"{name_of(event)} puts the case at {holding['tier']}, its body is at {tier}")
        cause = book.cause(event.data.get("cause"))
        kind = "escalate" if event.type in ARRIVALS else None
        if event.type == "CaseRouted" and cause is not None and cause.type == "DecisionRecorded":
            kind = None if event.data["override"] else "review"
        if kind is not None:
            day = datetime.fromisoformat(event.at).astimezone(SEOUL).date().isoformat()
            ways = opened[event.data["from_body"], holding["body"], kind]
            valid = any(since <= day < closed.get(edge, "9999") for edge, since in ways)
            check.expect(valid, f"{name_of(event)} goes from {event.data['from_body']} to {holding['body']}: no edge")


def escalations(book: Book, check: Check) -> None:
    """Each escalation's cause exists, and the case waits or is placed at the new body, unless it has moved on."""
    shown = _waiting_list(book, "cases", "case_id", "state", "body")
    waiting = {case_id: body for case_id, state, body in shown if state == "at_body"}
    body_of = dict(_waiting_list(book, "meetings", "meeting_id", "body"))
    placed = {
        (case, body_of.get(meeting)) for meeting, case in _waiting_list(book, "placements", "meeting_id", "case_id")
    }
    last: dict[str, Event] = {}
    for event in case_events(book.logs):
        if event.type in ARRIVALS:
            cause = book.cause(event.data["cause"])
            right = cause is not None and cause.type in ("DecisionRecorded", "IssueReviewed")
            check.expect(right, f"{name_of(event)} was caused by no decision and no review")
        if "holding" in event.data or event.type == "CaseClosed":
            last[event.aggregate_id] = event
    for case_id, event in last.items():
        if event.type in ARRIVALS:
            body = event.data["holding"]["body"]
            there = waiting.get(case_id) == body or (case_id, body) in placed
            check.expect(there, f"{name_of(event)} brought the case to {body}, where it neither waits nor is placed")


def _waiting_list(book: Book, table: str, *columns: str) -> Iterable[tuple[Any, ...]]:
    generation = book.files.generations("meetings")["waiting_list"]
    names = ", ".join(columns)
    query = f"SELECT {names} FROM waiting_list_g{generation}_{table}"  # noqa: S608 - names of our own
    return book.files.views["meetings"].rows(query)


def conserved(book: Book, check: Check) -> None:
    """I7: raised = open by state + closed by outcome, over all and by region; issues and routing count alike."""
    raised: Counter[str] = Counter()
    ended: Counter[tuple[str, str]] = Counter()
    where: dict[str, tuple[str, ...]] = {}
    for event in book.known("issues"):
        if event.type == "IssueRaised":
            where[event.aggregate_id] = _regions(event)
            raised.update(_regions(event))
        elif event.type in ("IssueClosed", "IssueRefused"):
            outcome = event.data.get("outcome", "refused")
            ended.update((region, outcome) for region in where.get(event.aggregate_id, ()))
    regions: dict[str, tuple[str, ...]] = {}
    stands: dict[str, str] = {}
    for event in case_events(book.logs):
        if event.aggregate_id not in regions and "regions" in event.data:
            regions[event.aggregate_id] = _regions(event)
        if "holding" in event.data:
            stands[event.aggregate_id] = f"open: {event.data['holding']['state']}"
        elif event.type == "CaseClosed":
            stands[event.aggregate_id] = event.data["outcome"]
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for case_id, stand in stands.items():
        for region in regions.get(case_id, ()):
            counted[region][stand] += 1
    for region in sorted({*raised, *counted}):
        found = counted[region]
        told = ", ".join(f"{number} {stand}" for stand, number in sorted(found.items()))
        check.expect(raised[region] == found.total(), f"{region}: {raised[region]} raised, but there are {told}")
        closed = {stand: number for stand, number in found.items() if not stand.startswith("open: ")}
        by_issues = {outcome: number for (of, outcome), number in ended.items() if of == region}
        check.expect(closed == by_issues, f"{region}: routing closed {closed}, issues ended {by_issues}")


def _regions(event: Event) -> tuple[str, ...]:
    named = {region["region"] for region in event.data["regions"]}
    if event.data.get("nationwide") or not named:
        named.add(NATIONWIDE)
    return (EVERYWHERE, *sorted(named))


def _delivered(types: frozenset[str]) -> Checking:
    def check_delivered(book: Book, check: Check) -> None:
        told = _told_bodies(book)
        raisers = {
            event.aggregate_id: (event.data["raised_by"], *event.data["co_raisers"])
            for event in book.of_type("issues", "IssueRaised")
        }
        for service in ("issues", "routing", "meetings"):
            for event in book.of_type(service, *types):
                case_id = event.case_id or event.data.get("case_id")
                for body in raisers.get(case_id or "", ()):
                    check.expect((event.id, body) in told, f"{body} was not told of {name_of(event)}")

    return check_delivered


def turn(book: Book, check: Check) -> None:
    """Whose turn it is was told: the new holder of a case, a department asked, the body whose move was refused."""
    told = _told_bodies(book)
    for event in (*book.logs["issues"], *book.logs["routing"]):
        body = None
        if event.type in MOVED:
            body = event.data["holding"]["body"]
        elif event.type in ("DepartmentConsulted", "DepartmentReminded"):
            body = event.data["department"]
        elif event.type == "MoveRefused":
            body = event.data["body"]
        if body is not None:
            check.expect((event.id, body) in told, f"{body} was not told of {name_of(event)}")


def _told_bodies(book: Book) -> set[tuple[str, str | None]]:
    """(event id, body): an office of the body has it in its inbox; e-mail comes on top (I-8)."""
    body_of = {event.data["office"]: event.data["body"] for event in book.of_type("routing", "OfficeEstablished")}
    return {
        (event.data["about"], body_of.get(event.data["office"]))
        for event in book.of_type("notifications", "NotificationDelivered")
        if event.data["channel"] == "inbox"
    }


def responsible(book: Book, check: Check) -> None:
    """I-22: every open case has an office and a date."""
    last: dict[str, Row] = {}
    for (case_id, _), row in holdings(book.logs).items():
        last[case_id] = row
    for case_id, row in last.items():
        if row["until"] is None:
            whole = all(row[name] for name in ("body", "office", "due", "clock"))
            check.expect(whole, f"the open case {case_id} lacks a body, an office or a date")


def contiguous(book: Book, check: Check) -> None:
    """I-2: each event that gives the case away comes from its holder, and no time runs backwards."""
    holder: dict[str, str | None] = {}
    since: dict[str, datetime] = {}
    for event in case_events(book.logs):
        case_id, at = event.aggregate_id, datetime.fromisoformat(event.at)
        check.expect(at >= since.get(case_id, at), f"{name_of(event)} is earlier than what came before it")
        since[case_id] = at
        if "from_body" in event.data:
            given, held = event.data["from_body"], holder.get(case_id)
            check.expect(given == held, f"{name_of(event)} takes the case from {given}, but {held} has it")
        if "holding" in event.data:
            holder[case_id] = event.data["holding"]["body"]
        elif event.type == "CaseClosed":
            holder[case_id] = None


CHECKS: tuple[tuple[str, str, Checking], ...] = (
    ("moves", "every decision, review and adopted policy has its move, or its MoveRefused", moves),
    ("by right", "every move has a causing event and an authority", by_right),
    ("along edges", "I6 a case is at its body's tier and came over an open edge", along_edges),
    ("escalations", "an escalated case waits or is placed at the new body", escalations),
    ("conserved", "I7 raised = open by state + closed by outcome, over all and by region", conserved),
    ("decisions told", "every decision on a case was delivered to its raisers", _delivered(DECISIONS)),
    ("raisers told", "every change of a case was delivered to its raisers", _delivered(TOLD)),
    ("turns told", "whoever has the next turn was told", turn),
    ("responsible", "I-22 every open case has an office and a date", responsible),
    ("holdings", "I-2 holdings are contiguous", contiguous),
)
