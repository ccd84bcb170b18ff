"""I1 and I11: what the clients were told, compared with what is stored.

The journal has one JSON line for each request. A command: ``subject``, ``office``, ``key``, ``path``, ``outcome``
(accepted, refused, unknown), ``status``, ``answer``. A read (``method`` GET): ``path``, ``status``, ``sent`` (the
position tokens that went along), ``position`` and ``etag`` of the answer.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from services.audit_book import Book, Checking
from services.audit_findings import Check
from services.audit_folds import Event
from shared.runtime.commands import client_command_id

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

Entry = Mapping[str, Any]


class Token(NamedTuple):
    """A place in a service's log, as a position token names it."""

    service: str
    epoch: int
    slot: int
    position: int


def entries(paths: Sequence[Path]) -> Iterator[Entry]:
    """The lines of the journals, each with the number it has in its file."""
    for path in paths:
        lines = path.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, start=1):
            # A client that was killed leaves half a last line: it had not gone on yet.
            if line and number < len(lines):
                yield {**json.loads(line), "line": number}


def told_once(paths: Sequence[Path]) -> Checking:
    """I1: what the clients were told is what is stored, once."""

    def check_journal(book: Book, check: Check) -> None:
        told: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in entries(paths):
            if entry.get("key") is None:
                continue
            service = OWNER_OF_PATH[entry["path"].split("/")[2].partition("?")[0]]
            command_id = client_command_id(service, entry["subject"], entry.get("office"), entry["key"])
            told[service, command_id].append(entry)
        for (service, command_id), lines in told.items():
            _told_once(book, check, service, command_id, lines)

    return check_journal


def _told_once(book: Book, check: Check, service: str, command_id: str, lines: list[Entry]) -> None:
    stored = book.commands[service].get(command_id)
    accepted = [entry for entry in lines if entry["outcome"] == "accepted"]
    # 5xx and lost replies leave it open whether the command was stored.
    unknown = [entry for entry in lines if entry["outcome"] == "unknown" or (entry["status"] or 0) >= 500]
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
        entry = lines[0]
        check.expect(
            stored is None, f"line {entry['line']} of the journal: POST {entry['path']} was refused, but it is stored"
        )
    if not accepted and unknown:
        check.expect(True, "")


def never_older(paths: Sequence[Path]) -> Checking:
    """I11: a read that carried the token of an acknowledged write is never older than that write."""

    def check_reads(book: Book, check: Check) -> None:
        at = {(event.service, event.epoch, event.position): event for log in book.logs.values() for event in log}
        effects: dict[str, list[Event]] = defaultdict(list)
        for event in book.by_id.values():
            if event.cause is not None:
                effects[event.cause].append(event)
        written: dict[Token, tuple[str, int]] = {}
        for entry in entries(paths):
            if entry.get("key") is not None and entry["outcome"] == "accepted":
                token, answer = _token(entry["answer"]["position"]), entry["answer"]
                if token is not None:
                    resource = entry["path"].split("/")[2]
                    written[token] = (f"/v1/{resource}/{answer['id']}", answer["version"])
            if entry.get("method") == "GET" and entry.get("sent") and (entry["status"] or 999) < 400:
                _check_read(check, entry, at, effects, written)

    return check_reads


def _check_read(
    check: Check,
    entry: Entry,
    at: Mapping[tuple[str, int, int], Event],
    effects: Mapping[str, list[Event]],
    written: Mapping[Token, tuple[str, int]],
) -> None:
    answered = _token(entry.get("position") or "")
    etag = re.fullmatch(r'"(\d+)"', entry.get("etag") or "")
    for sent in filter(None, map(_token, entry["sent"].split(","))):
        what = f"line {entry['line']} of the journal: GET {entry['path']} with {':'.join(map(str, sent))}"
        event = at.get((sent.service, sent.epoch, sent.position))
        facts = [] if event is None else [event, *effects.get(event.id, ())]
        for fact in facts:
            if answered is not None and answered[:3] == (fact.service, fact.epoch, fact.slot):
                late = f"{what} was answered as of {answered.position}, before {fact.type} at {fact.position}"
                check.expect(answered.position >= fact.position, late)
        path, version = written.get(sent, ("", 0))
        if etag is not None and path == entry["path"]:
            check.expect(int(etag[1]) >= version, f"{what} was answered version {etag[1]}, written was {version}")


def _token(text: str) -> Token | None:
    parts = text.strip().split(":")
    if len(parts) != 4 or not all(part.isdecimal() for part in parts[1:]):
        return None
    return Token(parts[0], int(parts[1]), int(parts[2]), int(parts[3]))
