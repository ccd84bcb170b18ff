"""``maru audit``: whether the promises held, read straight from the files of a data folder (reliability, section 1.2).

It opens the four logs and the four views' files read only, waits until the system is idle, and compares: the clients'
journal with the logs (I1), each log with itself (I2, hashes), each consumer with its sources (I4), each read model with
a fold of its own (I5, ``audit_folds``), and a running system with its files (I12). It goes through no decider, no view
and no host: what it shares with them is the name space of command ids and the format of the files.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from services.audit_folds import SHOWN, Event, Logs, Row, Shown, case_events, holdings
from shared.runtime.commands import client_command_id, derived_id

HEARS: Mapping[str, tuple[str, ...]] = {
    "issues": ("routing",),
    "routing": ("issues", "meetings"),
    "meetings": ("routing", "issues"),
    "notifications": ("issues", "routing", "meetings"),
}
"""Which service hears whom (section 2 of the domain model)."""
SELF: Mapping[str, frozenset[str]] = {"meetings": frozenset({"DecisionRecorded"})}
"""Own events that have a reaction of their own service (walk, ◆12)."""
OWNER_OF_PATH: Mapping[str, str] = {
    "issues": "issues",
    "cases": "routing",
    "clock": "routing",
    "reference": "routing",
    "meetings": "meetings",
    "policies": "meetings",
    "notices": "notifications",
}
"""Which service owns a command's resource, by the first segment of its path."""
SLOTS = 12

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
DECISIONS = frozenset({"DecisionRecorded"})
TOLD = frozenset(
    {"ReceiptIssued", "IssueReviewed", "CaseRouted", "EscalatedToSupportGroup", "EscalatedToForum", "CaseMoved"}
    | {"CaseResolvedAtReview", "CaseResolvedBySupportGroup", "CaseLinkedToPolicy", "ImplementationAssigned"}
    | {"DeadlineChanged", "CaseClosed"}
)
"""Of what the raiser is told, besides decisions (row 1 of the notification table)."""

MOVED = frozenset({"CaseRouted", "CaseUnrouted", "EscalatedToSupportGroup", "EscalatedToForum", "CaseMoved"})
"""Of what the new holder is told (row 3 of that table)."""

Told = Callable[[int, int], None]
"""Progress: checks done, checks in all."""


# What it finds


@dataclass
class Check:
    """One promise: how many things were looked at, and the first that broke it."""

    name: str
    promise: str
    count: int = 0
    failure: str | None = None

    def expect(self, holds: bool, else_: str) -> None:
        """Count one thing; remember the first that does not hold."""
        self.count += 1
        if not holds and self.failure is None:
            self.failure = else_


@dataclass
class Findings:
    """What an audit found: ``clean`` (exit 0), ``broken`` (1) or ``not idle`` (2), with every check."""

    folder: str
    outcome: str
    events: int = 0
    checks: list[Check] = field(default_factory=list)
    waiting_for: str | None = None
    """What kept the system from being idle."""

    @property
    def exit_code(self) -> int:
        """0 clean, 1 a promise is broken, 2 not idle in time."""
        return {"clean": 0, "broken": 1}.get(self.outcome, 2)

    @property
    def broken(self) -> list[Check]:
        """The broken promises, the first first."""
        return [check for check in self.checks if check.failure is not None]

    def document(self) -> dict[str, Any]:
        """The machine form, for ``--json``."""
        first = self.broken[0] if self.broken else None
        return {
            "folder": self.folder,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "events": self.events,
            "waiting_for": self.waiting_for,
            "first": None if first is None else asdict(first),
            "checks": [asdict(check) for check in self.checks],
        }

    def sentence(self) -> str:
        """The findings as a person reads them: a line a check, the first broken promise last."""
        lines = [
            f"{'ok  ' if check.failure is None else 'FAIL'} {check.name:<26} {check.count:>8}  {check.promise}"
            for check in self.checks
        ]
        if self.outcome == "not idle":
            lines.append(f"Not idle: {self.waiting_for}.")
        elif self.broken:
            lines.append(f"First broken promise: {self.broken[0].name}: {self.broken[0].failure}.")
        else:
            lines.append(f"Clean: {self.events} events, {len(self.checks)} checks.")
        return "\n".join(lines)


class NoData(Exception):
    """The folder holds no databases of Maru, or there is no such journal."""


def audit(
    folder: Path, journal: Path | None, url: str | None, wait: float = 30, told: Told = lambda done, total: None
) -> Findings:
    """Check a data folder, stopped or in use; ``url`` where the system runs on it. Raises ``NoData``.

    Waits up to ``wait`` seconds until everything stored is carried, answered and folded; else the outcome is
    ``not idle`` and nothing is checked.
    """
    for service in HEARS:
        if not (folder / service / "log.db").is_file() or not (folder / service / "views.db").is_file():
            raise NoData(f"{folder} holds no log.db and views.db of {service}")
    if journal is not None and not journal.is_file():
        raise NoData(f"there is no journal {journal}")
    end = time.monotonic() + wait
    findings = Findings(str(folder), "clean")
    try:
        while True:
            with closing(Files(folder)) as files:
                busy = files.busy()
                if busy is None:
                    _check_everything(files, journal, findings, told)
                    break
            if time.monotonic() >= end:
                return Findings(str(folder), "not idle", waiting_for=busy)
            time.sleep(0.05)
    except sqlite3.DatabaseError as error:
        findings.checks.append(Check("files", "the databases can be read", 1, f"they cannot: {error}"))
    if url is not None:
        _check_running(folder, url, findings.checks)
    findings.outcome = "broken" if findings.broken else "clean"
    return findings


# The files


class Files:
    """One snapshot of all files, read only."""

    def __init__(self, folder: Path) -> None:
        self.logs = {service: _open(folder / service / "log.db") for service in HEARS}
        self.views = {service: _open(folder / service / "views.db") for service in HEARS}

    def close(self) -> None:
        """Let go of the snapshot."""
        for db in (*self.logs.values(), *self.views.values()):
            db.close()

    def heads(self, service: str) -> dict[tuple[int, int], int]:
        """(epoch, slot) → last position, as the log says; the check of the chain compares it with the events."""
        log = self.logs[service]
        epoch = int(log.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0])
        return {(epoch, slot): at for slot, at in log.execute("SELECT slot, position FROM slot_head")}

    def last(self, service: str) -> int:
        """Last position of a log."""
        return int(self.logs[service].execute("SELECT COALESCE(MAX(position), 0) FROM stored_events").fetchone()[0])

    def generations(self, service: str) -> dict[str, int]:
        """View → the generation that its pointer names."""
        return dict(self.views[service].execute("SELECT view, generation FROM view_pointer").fetchall())

    def view_marks(self, service: str, view: str, generation: int) -> dict[tuple[str, int, int], int]:
        """(source, epoch, slot) → position of one generation of a view."""
        rows = self.views[service].execute(
            "SELECT source, epoch, slot, position FROM view_mark WHERE view = ? AND generation = ?", (view, generation)
        )
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    def busy(self) -> str | None:
        """What is still under way, or ``None``: idle is what the host means by it, computed from the files.

        The snapshots of the files are taken one after another, so a consumer may also be ahead of a source's snapshot.
        """
        for service, log in self.logs.items():
            if log.execute("SELECT COUNT(*) FROM inbox WHERE state = 'waiting'").fetchone()[0]:
                return f"{service} has events that wait for their reaction"
            marks = {(r[0], r[1], r[2]): r[3] for r in log.execute("SELECT source, epoch, slot, position FROM mark")}
            for source in HEARS[service]:
                for (epoch, slot), head in self.heads(source).items():
                    if marks.get((source, epoch, slot), 0) != head:
                        return f"{service} has not answered all of {source}"
            last, last_inbox = self.last(service), log.execute("SELECT COALESCE(MAX(seq), 0) FROM inbox").fetchone()[0]
            for view, generation in self.generations(service).items():
                scans = self.view_marks(service, view, generation)
                if scans.get((service, 0, -1), 0) != last or scans.get(("inbox", 0, -1), 0) != last_inbox:
                    return f"the view {view} of {service} has not folded everything"
        return None

    def commands(self, service: str) -> dict[str, tuple[int, Mapping[str, Any]]]:
        """Command id → stored status and answer."""
        rows = self.logs[service].execute("SELECT command_id, status, body FROM command")
        return {row[0]: (row[1], json.loads(row[2])) for row in rows}


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10)
    db.execute("BEGIN")
    # The snapshot begins with the first read.
    db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    return db


# All checks


@dataclass
class Book:
    """Everything read: events by service in the log's order, commands, and the findings so far."""

    files: Files
    logs: dict[str, list[Event]]
    commands: dict[str, dict[str, tuple[int, Mapping[str, Any]]]]
    by_id: dict[str, Event]

    def of_type(self, service: str, *types: str) -> Iterator[Event]:
        """A service's events of some types."""
        return (event for event in self.logs[service] if event.type in types)


def _check_everything(files: Files, journal: Path | None, findings: Findings, told: Told) -> None:
    checks = findings.checks
    logs = read_logs(files, checks)
    commands = {service: files.commands(service) for service in HEARS}
    by_id = {event.id: event for log in logs.values() for event in log}
    book = Book(files, logs, commands, by_id)
    findings.events = len(by_id)
    wanted = [*_CHECKS, *((f"{one.view}/{one.table}", _promise(one), compared(one)) for one in SHOWN)]
    if journal is not None:
        wanted.insert(0, ("journal", "I1 what the clients were told is what is stored, once", _journal(journal)))
    for done, (name, promise, check) in enumerate(wanted):
        told(done, len(wanted))
        _run(checks, name, promise, check, book)
    told(len(wanted), len(wanted))


def _promise(shown: Shown) -> str:
    return f"I5 {shown.table} of the {shown.view.replace('_', ' ')} is the fold of the log"


Checking = Callable[[Book, Check], None]


def _run(checks: list[Check], name: str, promise: str, check: Checking, book: Book) -> None:
    made = Check(name, promise)
    checks.append(made)
    try:
        check(book, made)
    except (LookupError, TypeError, ValueError, AttributeError, sqlite3.Error) as error:
        made.expect(False, f"it could not be checked: {type(error).__name__}: {error}")


# I2 and the hashes: each log by itself


def read_logs(files: Files, checks: list[Check]) -> dict[str, list[Event]]:
    """The events whose bytes are whole; the others are named by the check of the hashes and left out."""
    hashes = Check("hashes", "every stream's hash chain is whole, recomputed from its first event")
    versions = Check("versions", "I2 the versions of every stream are 1 to n")
    positions = Check("positions", "I2 positions have no gap and no repeat, slots and epoch are right")
    chain = Check("chain", "I2 each event names the position before it in its slot")
    checks += [hashes, versions, positions, chain]
    logs: dict[str, list[Event]] = {}
    for service, db in files.logs.items():
        logs[service] = []
        epoch = int(db.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()[0])
        last_hash: dict[str, str] = {}
        last_version: Counter[str] = Counter()
        last_in_slot: Counter[int] = Counter()
        rows = db.execute(
            "SELECT position, originator_id, originator_version, topic, state, key, slot, prev, epoch, case_id "
            "FROM stored_events ORDER BY position"
        )
        for number, row in enumerate(rows, start=1):
            position, stream, version, topic, raw, key, slot, prev, in_epoch, case_id = row
            where = f"{service} position {position} ({stream} version {version})"
            right = (position, slot, in_epoch) == (number, zlib.crc32(key.encode()) % SLOTS, epoch)
            positions.expect(right, f"{where} should be position {number} of epoch {epoch} in the slot of its key")
            versions.expect(version == last_version[stream] + 1, f"{where} follows version {last_version[stream]}")
            chain.expect(prev == last_in_slot[slot], f"{where} names {prev}, before it came {last_in_slot[slot]}")
            last_version[stream], last_in_slot[slot] = version, position
            envelope = _whole(raw, last_hash.get(stream, "0" * 64))
            named = envelope and (
                f"{envelope['aggregate']}/{envelope['aggregate_id']}",
                envelope["version"],
                f"{envelope['type']}.v{envelope['schema_version']}",
                envelope["case_id"],
                envelope["service"],
            )
            hashes.expect(named == (stream, version, topic, case_id, service), f"{where} is not as it was stored")
            if envelope is None:
                continue
            last_hash[stream] = envelope["hash"]
            logs[service].append(_event(service, row, envelope))
        heads = dict(db.execute("SELECT slot, position FROM slot_head").fetchall())
        chain.expect(heads == dict(last_in_slot), f"the slot heads of {service} are {heads}, not {dict(last_in_slot)}")
    return logs


def _event(service: str, row: tuple[Any, ...], envelope: Mapping[str, Any]) -> Event:
    position, stream, version, _, raw, key, slot, prev, epoch, case_id = row
    return Event(
        service=service,
        epoch=epoch,
        position=position,
        slot=slot,
        prev=prev,
        key=key,
        stream=stream,
        version=version,
        case_id=case_id,
        fingerprint=hash(raw),
        id=envelope["event_id"],
        type=envelope["type"],
        at=envelope["recorded_at"],
        cause=envelope["causation_id"],
        data=envelope["data"],
    )


def _whole(raw: bytes, previous: str) -> dict[str, Any] | None:
    """The envelope of stored bytes; ``None`` where its hash, or its link to the event before, does not fit.

    ``hash`` is put last, outside the bytes that it covers: ``,"hash":"<64 hex>"}`` is 75 bytes.
    """
    with suppress(ValueError, KeyError, TypeError):
        envelope: dict[str, Any] = json.loads(raw)
        computed = hashlib.sha256(raw[:-75] + b"}").hexdigest()
        if raw[-75:] == f',"hash":"{computed}"}}'.encode() and envelope["prev_hash"] == previous:
            return envelope
    return None


def _answers(book: Book, check: Check) -> None:
    """Every event belongs to one command, and every command's answer names the events that it stored."""
    for service, commands in book.commands.items():
        owners: Counter[str] = Counter()
        for command_id, (_, answer) in commands.items():
            for told in answer["events"]:
                event = book.by_id.get(told["event_id"])
                stored = event and (event.service, event.type, event.position)
                check.expect(
                    stored == (service, told["type"], told["position"]),
                    f"command {command_id} of {service} was answered {told['type']} at {told['position']}, "
                    f"stored is {stored}",
                )
                owners[told["event_id"]] += 1
        for event in book.logs[service]:
            check.expect(owners[event.id] == 1, f"{_name(event)} belongs to {owners[event.id]} commands")


# I1: what the clients were told


def _journal(path: Path) -> Checking:
    def check_journal(book: Book, check: Check) -> None:
        told: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        for number, line in enumerate(lines, start=1):
            # A client that was killed leaves half a last line: it had not gone on yet.
            if not line or number == len(lines):
                continue
            entry = json.loads(line)
            service = OWNER_OF_PATH[entry["path"].split("/")[2].partition("?")[0]]
            command_id = client_command_id(service, entry["subject"], entry.get("office"), entry["key"])
            told[service, command_id].append({**entry, "line": number})
        for (service, command_id), entries in told.items():
            _told_once(book, check, service, command_id, entries)

    return check_journal


def _told_once(book: Book, check: Check, service: str, command_id: str, entries: list[Mapping[str, Any]]) -> None:
    stored = book.commands[service].get(command_id)
    accepted = [entry for entry in entries if entry["outcome"] == "accepted"]
    # 5xx and lost replies leave it open whether the command was stored.
    unknown = [entry for entry in entries if entry["outcome"] == "unknown" or (entry["status"] or 0) >= 500]
    for entry in accepted:
        what = f"line {entry['line']} of the journal: POST {entry['path']} was accepted"
        check.expect(stored is not None, f"{what}, but {service} has no such command")
        if stored is None:
            continue
        check.expect(
            stored == (entry["status"], entry["answer"]), f"{what} with another answer than the one that is stored"
        )
        for event in stored[1]["events"]:
            check.expect(event["event_id"] in book.by_id, f"{what}, but its {event['type']} is not in the log")
    if not accepted and not unknown:
        entry = entries[0]
        check.expect(
            stored is None, f"line {entry['line']} of the journal: POST {entry['path']} was refused, but it is stored"
        )
    if not accepted and unknown:
        check.expect(True, "")


# I4: every consumer has applied every event once


def _heard(book: Book, check: Check) -> None:
    """Each inbox holds every event of its sources once, byte for byte; own events with a reaction too."""
    for service, db in book.files.logs.items():
        rows: dict[tuple[str, int], tuple[Any, ...]] = {}
        for row in db.execute("SELECT source, position, epoch, slot, prev, key, type, case_id, raw, state FROM inbox"):
            rows[row[0], row[1]] = (*row[2:8], hash(row[8]))
            applied = row[9] in ("done", "refused")
            check.expect(applied, f"{service} has {row[6]} of {row[0]} at {row[1]} in the state {row[9]}")
        owed = [event for source in HEARS[service] for event in book.logs[source]]
        owed += [event for event in book.logs[service] if event.type in SELF.get(service, ())]
        for event in owed:
            row = rows.pop((event.service, event.position), None)
            check.expect(row is not None, f"{service} has never heard {_name(event)}")
            sent = (event.epoch, event.slot, event.prev, event.key, event.type, event.case_id, event.fingerprint)
            check.expect(row is None or row == sent, f"{service} heard {_name(event)} otherwise than it is stored")
        for source, position in rows:
            check.expect(False, f"the inbox of {service} has position {position} of {source}, which is not in its log")


def _marks(book: Book, check: Check) -> None:
    """The marks of the reactions and of every view stand at the ends of their sources; nothing is parked."""
    for service in HEARS:
        for source, heads in ((source, book.files.heads(source)) for source in HEARS[service]):
            query = "SELECT epoch, slot, position FROM mark WHERE source = ?"
            marks = {(row[0], row[1]): row[2] for row in book.files.logs[service].execute(query, (source,))}
            check.expect(marks == heads, f"the reactions of {service} have marks in {source} that are not its ends")
        for view, generation in book.files.generations(service).items():
            marks_of_view = book.files.view_marks(service, view, generation)
            for source in {key[0] for key in marks_of_view if key[2] >= 0}:
                mine = {key[1:]: at for key, at in marks_of_view.items() if key[0] == source and key[2] >= 0}
                heads = book.files.heads(source)
                check.expect(mine == heads, f"the view {view} of {service} has marks in {source} that are not its ends")
        for view, source, position, error in book.files.views[service].execute(
            "SELECT view, source, position, error FROM view_parked"
        ):
            # What an unfinished rebuild parked stands under the name of its generation.
            if "@" not in view:
                check.expect(False, f"the view {view} of {service} has parked {source} at {position}: {error}")


def _reactions(book: Book, check: Check) -> None:
    """What a reaction stored has the command id of its cause, and the ordinals of a cause have no hole."""
    for service, commands in book.commands.items():
        owner = {told["event_id"]: key for key, (_, answer) in commands.items() for told in answer["events"]}
        for event in book.logs[service]:
            command_id = owner.get(event.id)
            if command_id is None or event.cause is None:
                continue  # named by the check of the answers
            cause = book.by_id.get(event.cause)
            if cause is None:
                check.expect(event.cause == command_id, f"{_name(event)} has a cause that is nowhere: {event.cause}")
                continue
            fits = any(
                _ordinal(commands, command_id, cause.id, reaction) for reaction in (cause.type, f"{cause.type}/refused")
            )
            check.expect(fits, f"{_name(event)} was stored for {_name(cause)}, but not by its reaction's command id")


def _ordinal(commands: Mapping[str, Any], command_id: str, cause: str, reaction: str) -> bool:
    """Whether the command is one of the reaction's, all those before it stored too."""
    for ordinal in count():
        name = derived_id(cause, reaction, ordinal)
        if name == command_id:
            return True
        if name not in commands:
            return False
    raise AssertionError("unreachable")


def _opened(book: Book, check: Check) -> None:
    """Every issue has one case, every case one issue."""
    opened: Counter[str] = Counter()
    for event in case_events(book.logs):
        if event.type == "CaseOpened" or (event.type == "CaseUnrouted" and event.data["next_step"] == "intake"):
            opened[event.aggregate_id] += 1
    for event in book.of_type("issues", "IssueRaised"):
        times = opened.pop(event.aggregate_id, 0)
        check.expect(times == 1, f"the issue {event.aggregate_id} was opened {times} times as a case")
    for case_id in opened:
        check.expect(False, f"the case {case_id} was opened for an issue that was never raised")


def _rounds(book: Book, check: Check) -> None:
    """Every move into joint review opens one round; every closed case ends its issue once; a draft is adopted once."""
    rounds = Counter(event.cause for event in book.of_type("issues", "JointReviewOpened"))
    ended = Counter(event.aggregate_id for event in book.of_type("issues", "IssueClosed", "IssueRefused"))
    for event in case_events(book.logs):
        if event.type == "CaseRouted" and event.data["holding"]["state"] == "in_joint_review":
            times = rounds.pop(event.id, 0)
            check.expect(times == 1, f"{_name(event)} opened {times} rounds of review")
        elif event.type == "CaseClosed":
            times = ended[event.aggregate_id]
            check.expect(times == 1, f"{_name(event)} ended its issue {times} times")
    for cause in rounds:
        check.expect(False, f"a round of review was opened for {cause}, which routed no case to it")
    adopted = Counter(event.data["decision_event"] for event in book.of_type("meetings", "PolicyAdopted"))
    for event in book.of_type("meetings", "DecisionRecorded"):
        if event.data["code"] == "adopt":
            times = adopted.pop(event.id, 0)
            check.expect(times == 1, f"{_name(event)} adopted {times} policies")
    for cause in adopted:
        check.expect(False, f"a policy was adopted for {cause}, which is no decision to adopt")


def _dispatches(book: Book, check: Check) -> None:
    """One dispatch for each event, office and channel, about an event that exists; each was delivered."""
    requested: Counter[tuple[str, str, str]] = Counter()
    delivered = {event.stream for event in book.of_type("notifications", "NotificationDelivered")}
    for event in book.of_type("notifications", "NotificationRequested"):
        told = (event.data["about"], event.data["office"], event.data["channel"])
        requested[told] += 1
        check.expect(requested[told] == 1, f"{told[1]} is told of {told[0]} over {told[2]} {requested[told]} times")
        check.expect(told[0] in book.by_id, f"{told[1]} is told of {told[0]}, which is in no log")
        check.expect(event.stream in delivered, f"the notice to {told[1]} of {told[0]} was never delivered")


# What users feel


def _moves(book: Book, check: Check) -> None:
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
            check.expect(linked, f"{_name(event)} adopted no policy that answers its case")


def _moved(check: Check, event: Event, made: list[str], what: str) -> None:
    wanted = MOVES.get(what, frozenset())
    moves = [move for move in made if move in wanted or move == "MoveRefused"]
    check.expect(len(moves) == 1, f"{_name(event)} ({what}) has {len(moves)} moves and refused moves")
    if moves and moves[0] in WITH_OWNER:
        owners = made.count("ImplementationAssigned")
        check.expect(owners == 1, f"{_name(event)} ({what}) gave the case {owners} owners")


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
                    check.expect((event.id, body) in told, f"{body} was not told of {_name(event)}")

    return check_delivered


def _turn(book: Book, check: Check) -> None:
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
            check.expect((event.id, body) in told, f"{body} was not told of {_name(event)}")


def _told_bodies(book: Book) -> set[tuple[str, str | None]]:
    """(event id, body): an office of the body has it in its inbox."""
    body_of = {event.data["office"]: event.data["body"] for event in book.of_type("routing", "OfficeEstablished")}
    return {
        (event.data["about"], body_of.get(event.data["office"]))
        for event in book.of_type("notifications", "NotificationDelivered")
    }


def _responsible(book: Book, check: Check) -> None:
    """I-22: every open case has an office and a date."""
    last: dict[str, Row] = {}
    for (case_id, _), row in holdings(book.logs).items():
        last[case_id] = row
    for case_id, row in last.items():
        if row["until"] is None:
            whole = all(row[name] for name in ("body", "office", "due", "clock"))
            check.expect(whole, f"the open case {case_id} lacks a body, an office or a date")


def _contiguous(book: Book, check: Check) -> None:
    """I-2: each event that gives the case away comes from its holder, and no time runs backwards."""
    holder: dict[str, str | None] = {}
    since: dict[str, datetime] = {}
    for event in case_events(book.logs):
        case_id, at = event.aggregate_id, datetime.fromisoformat(event.at)
        check.expect(at >= since.get(case_id, at), f"{_name(event)} is earlier than what came before it")
        since[case_id] = at
        if "from_body" in event.data:
            given, held = event.data["from_body"], holder.get(case_id)
            check.expect(given == held, f"{_name(event)} takes the case from {given}, but {held} has it")
        if "holding" in event.data:
            holder[case_id] = event.data["holding"]["body"]
        elif event.type == "CaseClosed":
            holder[case_id] = None


_CHECKS: tuple[tuple[str, str, Checking], ...] = (
    ("answers", "I1 every event belongs to one command, which was answered with it", _answers),
    ("heard", "I4 every inbox has every event of its sources once, applied", _heard),
    ("marks", "I4 reactions and views stand at the ends of their sources, nothing is parked", _marks),
    ("reactions", "I4 what a reaction stored bears its cause's command id", _reactions),
    ("opened", "I4 one case for each issue", _opened),
    ("rounds", "I4 one round a referral, one end an issue, one policy an adoption", _rounds),
    ("dispatches", "I4 one delivered dispatch for each event, office and channel", _dispatches),
    ("moves", "every decision and review has its move, or its MoveRefused", _moves),
    (
        "decisions told",
        "every decision on a case was delivered to its raisers",
        _delivered(DECISIONS),
    ),
    ("raisers told", "every change of a case was delivered to its raisers", _delivered(TOLD)),
    ("turns told", "whoever has the next turn was told", _turn),
    ("responsible", "I-22 every open case has an office and a date", _responsible),
    ("holdings", "I-2 holdings are contiguous", _contiguous),
)


# I5: read models


def compared(shown: Shown) -> Checking:
    """The check of one table: the rows it shows and those that the fold gives are the same by value."""

    def check_read_model(book: Book, check: Check) -> None:
        expected = shown.fold(book.logs)
        generation = book.files.generations(shown.service)[shown.view]
        names = (*shown.key, *shown.columns)
        listed = ", ".join(f'"{name}"' for name in names)
        query = f'SELECT {listed} FROM "{shown.view}_g{generation}_{shown.table}"'  # noqa: S608 - names of our own
        width = len(shown.key)
        for values in book.files.views[shown.service].execute(query):
            key = values[:width]
            row = expected.pop(key, None)
            what = f"{shown.view}/{shown.table} {'/'.join(map(str, key))}"
            check.expect(row is not None, f"{what} is shown, but nothing in the log says so")
            for name, value in zip(shown.columns, values[width:], strict=True):
                if row is not None and _plain(value) != _plain(row.get(name)):
                    check.expect(False, f"{what} shows another {name} than the log tells")
        for key in expected:
            check.expect(False, f"{shown.view}/{shown.table} {'/'.join(map(str, key))} is missing")

    return check_read_model


def _plain(value: Any) -> Any:
    """A value of a row or of an event, comparable: times as instants."""
    if isinstance(value, str) and len(value) >= 19 and value[10] == "T":
        with suppress(ValueError):
            return datetime.fromisoformat(value).astimezone(UTC)
    return value


# I12: the running system


_SAMPLE = re.compile(r"^(maru_[a-z_]+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
HEARTBEAT = "maru_loop_heartbeat_seconds"
BEAT_SECONDS = 30.0

Sample = tuple[str, frozenset[tuple[str, str]]]


def _check_running(folder: Path, url: str, checks: list[Check]) -> None:
    ready = Check("ready", "I12 the system says that it is ready")
    beats = Check("heartbeats", "I12 every loop has turned within 30 s")
    lag = Check("lag", "I12 the lag gauges agree with the databases")
    checks += [ready, beats, lag]
    try:
        with httpx.Client(base_url=url, timeout=10) as http:
            status = http.get("/readyz").status_code
            ready.expect(status == 200, f"/readyz answers {status}")
            _check_beats(http, beats)
            _check_lag(http, folder, lag)
    except httpx.HTTPError as error:
        ready.expect(False, f"{url} does not answer: {type(error).__name__}")


def _check_beats(http: httpx.Client, check: Check) -> None:
    loops = {f"{service}-{loop}" for service in HEARS for loop in ("carrier", "reactions", "views")}
    first = _beats(http)
    loops |= set(first)
    still = set(loops)
    end = time.monotonic() + BEAT_SECONDS
    while still and time.monotonic() < end:
        now = _beats(http)
        still = {loop for loop in still if loop not in now or now[loop] <= first.get(loop, 0.0)}
        if still:
            time.sleep(0.1)
    for loop in sorted(loops):
        check.expect(loop not in still, f"the loop {loop} has not turned for {BEAT_SECONDS:.0f} s")


def _beats(http: httpx.Client) -> dict[str, float]:
    return {dict(labels)["loop"]: value for (name, labels), value in _samples(http).items() if name == HEARTBEAT}


def _samples(http: httpx.Client) -> dict[Sample, float]:
    found = {}
    for line in http.get("/metrics").text.splitlines():
        match = _SAMPLE.match(line)
        if match is not None:
            found[match[1], frozenset(_LABEL.findall(match[2] or ""))] = float(match[3])
    return found


def _check_lag(http: httpx.Client, folder: Path, check: Check) -> None:
    for _ in range(10):
        before = _lag_in_files(folder)
        samples = _samples(http)
        if before == _lag_in_files(folder):
            break  # nothing moved between: the two can be compared
    for (name, labels), value in before.items():
        what = f"{name} of {', '.join(sorted(label[1] for label in labels))}"
        told = samples.get((name, labels))
        check.expect(told == value, f"{what} says {told}, the databases say {value}")


def _lag_in_files(folder: Path) -> dict[Sample, float]:
    found: dict[Sample, float] = {}
    with closing(Files(folder)) as files:
        for service in HEARS:
            own = frozenset({("service", service)})
            for state in ("waiting", "parked"):
                query = "SELECT COUNT(*) FROM inbox WHERE state = ?"
                found[f"maru_inbox_{state}", own] = files.logs[service].execute(query, (state,)).fetchone()[0]
            last = files.last(service)
            found["maru_log_position", own] = last
            for view, generation in files.generations(service).items():
                scan = files.view_marks(service, view, generation).get((service, 0, -1), 0)
                found["maru_view_behind_events", own | {("view", view)}] = last - scan
    return found


def _name(event: Event) -> str:
    return f"{event.type} of {event.service} at {event.position}"


__all__ = ["Check", "Findings", "Logs", "NoData", "audit"]
