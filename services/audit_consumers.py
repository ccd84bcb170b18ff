"""I1, I4, I9, I10 and the counts between services: what each log, inbox, mark and relay owes the others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count, pairwise
from typing import Any

from services.audit_book import HEARS, SELF, TOPIC, Book, Checking, event_of, name_of
from services.audit_findings import Check, Reported
from services.audit_folds import case_events
from shared.runtime.commands import derived_id
from shared.runtime.reading import Row


def answers(book: Book, check: Check) -> None:
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
            check.expect(owners[event.id] == 1, f"{name_of(event)} belongs to {owners[event.id]} commands")


# I10: epochs, and nobody ahead of a source


def epochs_sound(book: Book, check: Check) -> None:
    """The table of epochs is sound: from the beginning, one after the other, the newest the one that is written in."""
    for service, log in book.files.logs.items():
        rows = list(log.rows("SELECT epoch, after_position, began FROM epochs ORDER BY epoch"))
        meta: dict[str, str] = dict(log.rows("SELECT name, value FROM meta"))
        newest = meta.get("epoch")
        check.expect(
            bool(rows) and newest == str(rows[-1][0]), f"{service} writes in epoch {newest}, its table names {rows}"
        )
        check.expect(bool(rows) and rows[0][1] == 0, f"the first epoch of {service} does not begin with its log")
        for (epoch, after, began), (following, after_next, began_next) in pairwise(rows):
            sound = after <= after_next <= book.files.last(service) and began <= began_next
            check.expect(sound, f"epoch {following} of {service} begins before epoch {epoch} does, or beyond the log")


def ahead(book: Book, check: Check) -> None:
    """No mark, inbox row, view or relay is ahead of its source's log in the same epoch, or in one it never had."""
    files = book.files
    for service, log in files.logs.items():
        for epoch, slot, position, source, who in _standing(book, service):
            end = files.end_of(source, epoch)
            check.expect(end is not None, f"{who} stands in epoch {epoch} of {source}, which that log never had")
            if end is not None and files.is_newest(source, epoch):
                at = f"position {position} of {source}" + (f", slot {slot}" if slot is not None else "")
                check.expect(position <= end, f"{who} stands at {at}, but that log ends at {end}")
        for (position,) in log.rows("SELECT position FROM relay WHERE topic = ?", TOPIC[service]):
            end = files.last(service)
            check.expect(position <= end, f"the relay of {service} stands at {position}, but the log ends at {end}")
    for source, epoch, service, number in _lost_copies(book):
        what = f"events of {source} in epoch {epoch} beyond its end: a restore took them from {source}"
        book.reported.append(Reported(service, what, number))


def _standing(book: Book, service: str) -> Iterator[tuple[int, int | None, int, str, str]]:
    """Where a service stands in its sources: epoch, slot, position, source, and who stands there."""
    files = book.files
    for (source, epoch, slot), position in files.marks(service).items():
        yield epoch, slot, position, source, f"the reactions of {service}"
    query = "SELECT source, epoch, MAX(position) FROM inbox GROUP BY source, epoch"
    for source, epoch, position in files.logs[service].rows(query):
        yield epoch, None, position, source, f"the inbox of {service}"
    for view, generation in files.generations(service).items():
        for (source, epoch, slot), position in files.view_marks(service, view, generation).items():
            if slot >= 0:
                yield epoch, slot, position, source, f"the view {view} of {service}"


def read_lost(book: Book) -> None:
    """Find the events that only inboxes still hold, because a restore took them from their source."""
    for service, log in book.files.logs.items():
        for source in HEARS[service]:
            for epoch, _ in book.files.epochs[source][:-1]:
                end = book.files.end_of(source, epoch)
                rows = log.rows(
                    "SELECT position, '', 0, type, raw, key, slot, prev, epoch, case_id FROM inbox "
                    "WHERE source = ? AND epoch = ? AND position > ? ORDER BY position",
                    source,
                    epoch,
                    end,
                )
                for row in rows:
                    _keep_lost(book, source, row)


def _keep_lost(book: Book, source: str, row: Row) -> None:
    with suppress(ValueError, KeyError, TypeError):
        envelope = json.loads(row[4])
        stream = f"{envelope['aggregate']}/{envelope['aggregate_id']}"
        event = event_of(source, (row[0], stream, envelope["version"], *row[3:]), envelope)
        book.lost[event.id] = event


def _lost_copies(book: Book) -> Iterator[tuple[str, int, str, int]]:
    for service, log in book.files.logs.items():
        for source in HEARS[service]:
            for epoch, _ in book.files.epochs[source][:-1]:
                query = "SELECT COUNT(*) FROM inbox WHERE source = ? AND epoch = ? AND position > ?"
                for (number,) in log.rows(query, source, epoch, book.files.end_of(source, epoch)):
                    if number:
                        yield source, epoch, service, number


# I4: every consumer has applied every event once


def heard(book: Book, check: Check) -> None:
    """Each inbox holds every event of its sources once, byte for byte; own events with a reaction too."""
    for service, db in book.files.logs.items():
        rows: dict[tuple[str, int, int], tuple[Any, ...]] = {}
        for row in db.rows("SELECT source, epoch, position, slot, prev, key, type, case_id, raw, state FROM inbox"):
            rows[row[0], row[1], row[2]] = (*row[3:8], hash(row[8]))
            applied = row[9] in ("done", "refused")
            check.expect(applied, f"{service} has {row[6]} of {row[0]} at {row[2]} in the state {row[9]}")
        owed = [event for source in HEARS[service] for event in book.logs[source]]
        owed += [event for event in book.logs[service] if event.type in SELF.get(service, ())]
        for event in owed:
            copy = rows.pop((event.service, event.epoch, event.position), None)
            check.expect(copy is not None, f"{service} has never heard {name_of(event)}")
            sent = (event.slot, event.prev, event.key, event.type, event.case_id, event.fingerprint)
            check.expect(copy is None or copy == sent, f"{service} heard {name_of(event)} otherwise than it is stored")
        for source, epoch, position in rows:
            end = book.files.end_of(source, epoch) if source in HEARS else None
            lost = end is not None and position > end and not book.files.is_newest(source, epoch)
            check.expect(lost, f"the inbox of {service} has position {position} of {source}, which is not in its log")


def marks(book: Book, check: Check) -> None:
    """The marks of the reactions and of every view stand at the ends of their sources; nothing is parked."""
    files = book.files
    for service in HEARS:
        found = files.marks(service)
        for source in HEARS[service]:
            check.expect(
                _at_ends(book, source, found),
                f"the reactions of {service} have marks in {source} that are not its ends",
            )
        for view, generation in files.generations(service).items():
            found = files.view_marks(service, view, generation)
            for source in {key[0] for key in found if key[2] >= 0}:
                check.expect(
                    _at_ends(book, source, found),
                    f"the view {view} of {service} has marks in {source} that are not its ends",
                )
        parked = files.views[service].rows("SELECT view, source, position, error FROM view_parked")
        for view, source, position, error in parked:
            # What an unfinished rebuild parked stands under the name of its generation.
            if "@" not in view:
                check.expect(False, f"the view {view} of {service} has parked {source} at {position}: {error}")


def _at_ends(book: Book, source: str, found: Mapping[tuple[str, int, int], int]) -> bool:
    """Whether marks stand at the ends of a source; in an older epoch they may lie beyond, where a restore cut it."""
    heads = book.files.heads(source)
    mine = {}
    for (of, epoch, slot), at in found.items():
        if of == source and slot >= 0:
            head = heads.get((epoch, slot), 0)
            mine[epoch, slot] = at if book.files.is_newest(source, epoch) else min(at, head)
    return {place: at for place, at in mine.items() if at} == heads


def held_back(book: Book) -> None:
    """Tell, without judging, what carriers rejected and what is parked, by cause."""
    for service, log in book.files.logs.items():
        query = "SELECT topic, cause, COUNT(*) FROM rejected GROUP BY topic, cause ORDER BY topic, cause"
        for topic, cause, number in log.rows(query):
            book.reported.append(Reported(service, f"records of {topic} rejected by its carrier: {cause}", number))
        query = (
            "SELECT state, COALESCE(error, 'unknown type or version'), COUNT(*) FROM inbox "
            "WHERE state IN ('parked', 'unknown') GROUP BY 1, 2 ORDER BY 1, 2"
        )
        for state, cause, number in log.rows(query):
            book.reported.append(Reported(service, f"{state} by its reactions: {cause}", number))
        query = "SELECT view, error, COUNT(*) FROM view_parked GROUP BY view, error ORDER BY view, error"
        for view, cause, number in book.files.views[service].rows(query):
            book.reported.append(Reported(service, f"parked by the view {view}: {cause}", number))


def reactions(book: Book, check: Check) -> None:
    """What a reaction stored has the command id of its cause, and the ordinals of a cause have no hole."""
    for service, commands in book.commands.items():
        owner = {told["event_id"]: key for key, (_, answer) in commands.items() for told in answer["events"]}
        for event in book.logs[service]:
            command_id = owner.get(event.id)
            if command_id is None or event.cause is None:
                continue  # named by the check of the answers
            cause = book.cause(event.cause)
            if cause is None:
                check.expect(event.cause == command_id, f"{name_of(event)} has a cause that is nowhere: {event.cause}")
                continue
            fits = any(
                _ordinal(commands, command_id, cause.id, reaction) for reaction in (cause.type, f"{cause.type}/refused")
            )
            check.expect(
                fits, f"{name_of(event)} was stored for {name_of(cause)}, but not by its reaction's command id"
            )


def _ordinal(commands: Mapping[str, Any], command_id: str, cause: str, reaction: str) -> bool:
    """Whether the command is one of the reaction's, all those before it stored too."""
    for ordinal in count():
        name = derived_id(cause, reaction, ordinal)
        if name == command_id:
            return True
        if name not in commands:
            return False
    raise AssertionError("unreachable")


def opened(book: Book, check: Check) -> None:
    """Every issue has one case, every case one issue."""
    found: Counter[str] = Counter()
    for event in case_events(book.logs):
        if event.type == "CaseOpened" or (event.type == "CaseUnrouted" and event.data["next_step"] == "intake"):
            found[event.aggregate_id] += 1
    for event in book.known("issues"):
        if event.type == "IssueRaised":
            times = found.pop(event.aggregate_id, 0)
            check.expect(
                times == 1 or event.id in book.lost,
                f"the issue {event.aggregate_id} was opened {times} times as a case",
            )
    for case_id in found:
        check.expect(False, f"the case {case_id} was opened for an issue that was never raised")


def rounds(book: Book, check: Check) -> None:
    """Every move into joint review opens one round; every closed case ends its issue once; a draft is adopted once."""
    found = Counter(event.cause for event in book.of_type("issues", "JointReviewOpened"))
    ended = Counter(event.aggregate_id for event in book.of_type("issues", "IssueClosed", "IssueRefused"))
    for event in case_events(book.logs):
        if event.type == "CaseRouted" and event.data["holding"]["state"] == "in_joint_review":
            times = found.pop(event.id, 0)
            check.expect(times == 1, f"{name_of(event)} opened {times} rounds of review")
        elif event.type == "CaseClosed":
            times = ended[event.aggregate_id]
            check.expect(times == 1, f"{name_of(event)} ended its issue {times} times")
    for cause in found:
        check.expect(cause in book.lost, f"a round of review was opened for {cause}, which routed no case to it")
    adopted = Counter(event.data["decision_event"] for event in book.of_type("meetings", "PolicyAdopted"))
    for event in book.of_type("meetings", "DecisionRecorded"):
        if event.data["code"] == "adopt":
            times = adopted.pop(event.id, 0)
            check.expect(times == 1, f"{name_of(event)} adopted {times} policies")
    for cause in adopted:
        check.expect(cause in book.lost, f"a policy was adopted for {cause}, which is no decision to adopt")


def dispatches(book: Book, check: Check) -> None:
    """One dispatch for each event, office and channel, about an event that exists (I4)."""
    requested: Counter[tuple[str, str, str]] = Counter()
    for event in book.of_type("notifications", "NotificationRequested"):
        told = (event.data["about"], event.data["office"], event.data["channel"])
        requested[told] += 1
        check.expect(requested[told] == 1, f"{told[1]} is told of {told[0]} over {told[2]} {requested[told]} times")
        check.expect(book.cause(told[0]) is not None, f"{told[1]} is told of {told[0]}, which is in no log")


def attempted(book: Book, check: Check) -> None:
    """I9: every notice that is owed was delivered once, or given up with a reason, or has its next attempt."""
    delivered = Counter(event.stream for event in book.of_type("notifications", "NotificationDelivered"))
    given_up = {event.stream: event.data for event in book.of_type("notifications", "NotificationGivenUp")}
    attempts: Counter[str] = Counter()
    again: dict[str, object] = {}
    for event in book.of_type("notifications", "NotificationFailed"):
        attempts[event.stream] += 1
        again[event.stream] = event.data["next_attempt_at"]
        right = event.data["attempt"] == attempts[event.stream]
        check.expect(right, f"{name_of(event)} is attempt {attempts[event.stream]}, not {event.data['attempt']}")
    retried = 0
    for event in book.of_type("notifications", "NotificationRequested"):
        what = f"the {event.data['channel']} notice to {event.data['office']} of {event.data['about']}"
        ended = delivered[event.stream] or bool(given_up.get(event.stream, {}).get("reason"))
        retried += bool(not ended and again.get(event.stream))
        owed = ended or again.get(event.stream)
        check.expect(bool(owed), f"{what} was never delivered, nor given up with a reason")
        once = delivered[event.stream] + (event.stream in given_up) <= 1
        check.expect(once, f"{what} was delivered {delivered[event.stream]} times, or given up too")
    if retried:
        book.reported.append(Reported("notifications", "notices that did not arrive yet and are tried again", retried))


OF_ONE_LOG: tuple[tuple[str, str, Checking], ...] = (
    ("answers", "I1 every event belongs to one command, which was answered with it", answers),
    ("epochs", "I10 the epochs of every log follow one another", epochs_sound),
)
CHECKS: tuple[tuple[str, str, Checking], ...] = (
    ("ahead", "I10 nobody is ahead of a source in the same epoch", ahead),
    ("heard", "I4 every inbox has every event of its sources once, applied", heard),
    ("marks", "I4 reactions and views stand at the ends of their sources, nothing is parked", marks),
    ("reactions", "I4 what a reaction stored bears its cause's command id", reactions),
    ("opened", "I4 one case for each issue", opened),
    ("rounds", "I4 one round a referral, one end an issue, one policy an adoption", rounds),
    ("dispatches", "I4 one dispatch for each event, office and channel", dispatches),
    ("attempted", "I9 every notice owed was delivered, or given up with a reason", attempted),
)
