"""The audit's own folds: what the read models must show, from the logs' plain JSON (I5 of the reliability page).

A second opinion, so nothing is shared with the deciders or the views: neither ``evolve`` nor a view's fold is imported.
Each function gives, for a few tables of one view, the expected columns by primary key; the audit compares by value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
Rows = dict[tuple[Any, ...], Row]


@dataclass(frozen=True, slots=True)
class Event:
    """A stored event, as the audit reads it: columns, envelope, payload, and a fingerprint of its bytes."""

    service: str
    epoch: int
    position: int
    slot: int
    prev: int
    key: str
    stream: str
    version: int
    case_id: str | None
    fingerprint: int
    id: str
    type: str
    at: str
    cause: str | None
    rule: str
    """By what right: the rule that the envelope names."""
    actor: str
    """The body that acted."""
    data: Mapping[str, Any]

    @property
    def aggregate(self) -> str:
        """First part of the stream's name."""
        return self.stream.partition("/")[0]

    @property
    def aggregate_id(self) -> str:
        """Second part of the stream's name."""
        return self.stream.partition("/")[2]


Logs = Mapping[str, list[Event]]


@dataclass(frozen=True)
class Shown:
    """A view's table, the columns of its key, those that are compared, and the fold that gives the expected rows."""

    service: str
    view: str
    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    fold: Callable[[Logs], Rows]


def _issues(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in logs["issues"]:
        if event.aggregate != "Issue":
            continue
        row = rows.setdefault((event.aggregate_id,), {})
        row["version"] = event.version
        match event.type:
            case "IssueRaised":
                row.update(state="raised", raised_at=event.at)
                row.update((name, event.data[name]) for name in ("title", "revision", "nationwide", "raised_by"))
            case "ReceiptIssued":
                row["docket"] = event.data["docket"]
            case "IssueAccepted":
                row.update(state="accepted", accepted_at=event.at)
            case "IssueRefused":
                row.update(state="refused", outcome="refused", ended_at=event.at)
            case "IssueClosed":
                row.update(state="closed", outcome=event.data["outcome"], ended_at=event.at)
    return rows


def _regions(logs: Logs) -> Rows:
    return {
        (event.aggregate_id, ordinal): dict(region)
        for event in logs["issues"]
        if event.type == "IssueRaised"
        for ordinal, region in enumerate(event.data["regions"])
    }


def _rounds(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in logs["issues"]:
        if event.aggregate != "JointReview":
            continue
        row = rows.setdefault((event.aggregate_id,), {"case_id": event.case_id})
        row["version"] = event.version
        if event.type == "JointReviewOpened":
            row.update(state="open", round=event.data["round"], revision=event.data["revision"], opened_at=event.at)
        elif event.type == "IssueReviewed":
            row.update(state="concluded", outcome=event.data["outcome"], concluded_at=event.at)
            row.update(divergence=event.data["divergence"], lead=event.data["lead"])
        if event.type == "JointReviewOpened" or (event.type == "DepartmentConsulted" and event.data["lead"]):
            row["lead"] = event.data["lead"] if event.type == "JointReviewOpened" else event.data["department"]
    return rows


def _consultations(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in logs["issues"]:
        if event.aggregate != "JointReview" or "department" not in event.data:
            continue
        row = rows.setdefault((event.aggregate_id, event.data["department"]), {})
        match event.type:
            case "DepartmentConsulted":
                row.update(lead=event.data["lead"], due=event.data["due"], second_due=None, opinion=None)
            case "DepartmentReminded":
                row["second_due"] = event.data["due"]
            case "OpinionGiven":
                row.update(opinion=event.data["opinion"], answered_at=event.at)
            case "OpinionNotGiven":
                row.update(opinion="not_given", answered_at=event.at)
    return rows


def case_events(logs: Logs) -> Iterable[Event]:
    """Events of the Case streams."""
    return (event for event in logs["routing"] if event.aggregate == "Case")


def _cases(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in case_events(logs):
        row = rows.setdefault((event.aggregate_id,), {})
        row["version"] = event.version
        if "raised_by" in event.data and "opened_at" not in row:
            row.update(opened_at=event.at, raised_by=event.data["raised_by"])
        if "holding" in event.data:
            row.update(_position(event.data["holding"]), since=event.at)
        elif event.type == "DeadlineChanged":
            row["due"] = event.data["due"]
        elif event.type == "CaseLinkedToPolicy":
            row["policy_id"] = event.data["policy_id"]
        elif event.type == "CaseClosed":
            row.update(state="closed", body=None, office=None, due=None, since=event.at)
            row.update(closed_at=event.at, outcome=event.data["outcome"])
    return rows


def _position(holding: Mapping[str, Any]) -> Row:
    return {name: holding[name] for name in ("state", "body", "office", "due")}


def holdings(logs: Logs) -> Rows:
    """Every holding of every case: who, from when to when, until what date (I-2)."""
    rows: Rows = {}
    held: dict[str, Row] = {}
    for event in case_events(logs):
        last = held.get(event.aggregate_id)
        if "holding" in event.data:
            if last is not None:
                last["until"] = event.at
            holding = event.data["holding"]
            row = {**_position(holding), "since": event.at, "until": None, "event": event.type}
            row.update(first_due=holding["due"], clock=holding["clock"])
            rows[event.aggregate_id, event.version] = held[event.aggregate_id] = row
        elif event.type == "DeadlineChanged" and last is not None:
            last.update(due=event.data["due"], clock=event.data["clock"])
        elif event.type == "CaseClosed" and last is not None:
            last["until"] = event.at
    return rows


def _deadlines(logs: Logs) -> Rows:
    return {
        (event.aggregate_id, event.version): {**event.data, "at": event.at}
        for event in case_events(logs)
        if event.type == "DeadlineChanged"
    }


def _notices(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in logs["notifications"]:
        row = rows.setdefault((event.aggregate_id,), {"version": 0})
        row["version"] = event.version
        match event.type:
            case "NotificationRequested":
                names = ("office", "about", "about_type", "channel", "audience", "mandatory")
                row.update({name: event.data[name] for name in names}, case_id=event.case_id)
            case "NotificationDelivered":
                row["delivered_at"] = event.at
            case "NotificationRead":
                row["read_at"] = event.at
    return rows


def _policies(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in logs["meetings"]:
        if event.aggregate != "Policy":
            continue
        row = rows.setdefault((event.aggregate_id,), {})
        row["version"] = event.version
        match event.type:
            case "PolicyDrafted":
                row.update(state="drafted", drafted_at=event.at)
                row.update((name, event.data[name]) for name in ("title", "revision", "text_hash"))
            case "PolicyAdopted":
                row.update(state="adopted", adopted_at=event.at)
            case "PolicyTaskAssigned":
                row["state"] = "in_implementation"
            case "PolicyImplemented":
                row.update(state="implemented", implemented_at=event.at)
    return rows


def _tasks(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in logs["meetings"]:
        if event.type == "PolicyTaskAssigned":
            given = {name: event.data[name] for name in ("title", "owner", "due")}
            rows[event.aggregate_id, event.data["task"]] = {**given, "done": False}
        elif event.type == "ProgressReported":
            rows[event.aggregate_id, event.data["task"]]["done"] = event.data["done"]
    return rows


def _before_bodies(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in case_events(logs):
        row = rows.get((event.aggregate_id,), {})
        if "holding" in event.data:
            holding = event.data["holding"]
            row = {"state": holding["state"], "body": holding["body"], "tier": holding["tier"], "due": holding["due"]}
            row["since"] = event.at
        elif event.type == "DeadlineChanged":
            row["due"] = event.data["due"]
        elif event.type == "CaseClosed":
            row["state"] = "closed"
        else:
            continue
        rows[event.aggregate_id,] = {**row, "version": event.version}
    return rows


def _titles(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in logs["issues"]:
        if event.type == "IssueRaised":
            row = rows.setdefault((event.aggregate_id,), {})
            row.update(title=event.data["title"], raised_by=event.data["raised_by"])
        elif event.type == "ReceiptIssued":
            rows.setdefault((event.aggregate_id,), {})["docket"] = event.data["docket"]
    return rows


def _sittings(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in logs["meetings"]:
        if event.type == "MeetingPlanned":
            row = {"body": event.data["body"], "day": event.data["day"], "phase": "planned"}
            rows[event.aggregate_id,] = row
        elif event.type in ("MeetingOpened", "MeetingHeld"):
            phase = "in_session" if event.type == "MeetingOpened" else "held"
            rows.setdefault((event.aggregate_id,), {})["phase"] = phase
    return rows


def _placements(logs: Logs) -> Rows:
    rows: Rows = {}
    for event in logs["meetings"]:
        if event.type == "AgendaItemPlaced":
            rows[event.aggregate_id, event.data["item"]] = {"case_id": event.data["case_id"], "closed": None}
        elif event.type == "ItemClosed":
            rows.setdefault((event.aggregate_id, event.data["item"]), {})["closed"] = event.data["result"]
    return rows


def _columns(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SHOWN: tuple[Shown, ...] = (
    Shown(
        "issues",
        "register",
        "issue",
        ("case_id",),
        _columns("version state docket title revision nationwide raised_by raised_at accepted_at ended_at outcome"),
        _issues,
    ),
    Shown("issues", "register", "region", ("case_id", "ordinal"), _columns("region code name"), _regions),
    Shown(
        "issues",
        "register",
        "review",
        ("review_id",),
        _columns("version case_id round state revision lead outcome divergence opened_at concluded_at"),
        _rounds,
    ),
    Shown(
        "issues",
        "register",
        "consultation",
        ("review_id", "department"),
        _columns("lead due second_due opinion answered_at"),
        _consultations,
    ),
    Shown(
        "routing",
        "itinerary",
        "cases",
        ("case_id",),
        _columns("version state body office since due opened_at closed_at outcome raised_by policy_id"),
        _cases,
    ),
    Shown(
        "routing",
        "itinerary",
        "holdings",
        ("case_id", "version"),
        _columns("event state body office since until first_due due clock"),
        holdings,
    ),
    Shown("routing", "itinerary", "deadlines", ("case_id", "version"), _columns("at due clock cause"), _deadlines),
    Shown(
        "notifications",
        "inbox",
        "notice",
        ("notice_id",),
        _columns("version office case_id about about_type channel audience mandatory delivered_at read_at"),
        _notices,
    ),
    Shown(
        "meetings",
        "policy_register",
        "policies",
        ("policy_id",),
        _columns("version state title revision text_hash drafted_at adopted_at implemented_at"),
        _policies,
    ),
    Shown("meetings", "policy_register", "tasks", ("policy_id", "task"), _columns("title owner due done"), _tasks),
    Shown(
        "meetings",
        "waiting_list",
        "cases",
        ("case_id",),
        _columns("version state tier body since due"),
        _before_bodies,
    ),
    Shown("meetings", "waiting_list", "titles", ("case_id",), _columns("title raised_by docket"), _titles),
    Shown("meetings", "waiting_list", "meetings", ("meeting_id",), _columns("body day phase"), _sittings),
    Shown("meetings", "waiting_list", "placements", ("meeting_id", "item"), _columns("case_id closed"), _placements),
)
"""Register, itinerary, inbox, policy register and waiting list."""
