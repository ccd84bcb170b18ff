"""``maru audit``: whether the promises held, read straight from what is stored (reliability, section 1.2).

It opens the four logs and the four services' views read only, waits until the system is idle, and compares: the
clients' journal with the logs (I1, I11), each log with itself (I2, I10), each consumer with its sources (I4), the
topics with the logs (I3), each read model with a fold of its own (I5, ``audit_folds``), the cases with what users were
promised, and a running system with its databases (I12). It goes through no decider, no view and no host: what it shares
with them is the name space of command ids and the format of what is stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from services import audit_consumers, audit_moves
from services.audit_book import HEARS, Book, Busy, Checking, Files, read_logs
from services.audit_findings import Check, Findings, NoData
from services.audit_folds import SHOWN, Logs, Shown
from services.audit_journal import never_older, told_once
from services.audit_running import check_running
from services.audit_topics import published
from shared.runtime.brokers import Brokers
from shared.runtime.databases import Databases
from shared.runtime.reading import CannotRead

Told = Callable[[int, int], None]
"""Progress: checks done, checks in all."""
POLL_SECONDS = 0.05


def audit(
    where: Databases | Path,
    journal: Path | Sequence[Path] | None,
    url: str | Sequence[str] | None,
    wait: float = 30,
    told: Told = lambda done, total: None,
    *,
    kafka: Brokers | str | None = None,
) -> Findings:
    """Check what is stored, the system stopped or in use. Raises ``NoData``.

    ``where``: the folder of the files, or the databases. ``journal``: what clients wrote down. ``url``: the addresses
    of the system's processes, where it runs. ``kafka``: the broker, where the logs are published. Waits up to ``wait``
    seconds until everything stored is published, carried, answered and folded; else the outcome is ``not idle``, unless
    a log is broken by itself, which is then all that is said.
    """
    databases = Databases.at(where)
    journals = [journal] if isinstance(journal, Path) else list(journal or ())
    _look_for(databases, journals)
    findings = Findings(_name_of(databases), "clean")
    try:
        busy = _check_when_idle(databases, journals, kafka, findings, time.monotonic() + wait, told)
        if busy is not None:
            findings.waiting_for = busy.why
            findings.outcome = "broken" if findings.broken else "not idle"
            findings.checks = findings.broken
            return findings
    except CannotRead as error:
        findings.checks.append(Check("files", "the databases can be read", 1, str(error)))
    urls = [url] if isinstance(url, str) else list(url or ())
    if urls:
        try:
            check_running(databases, urls, findings.checks, relayed=kafka is not None)
        except CannotRead as error:
            findings.checks.append(Check("files", "the databases can be read", 1, str(error)))
    findings.outcome = "broken" if findings.broken else "clean"
    return findings


def _look_for(databases: Databases, journals: Sequence[Path]) -> None:
    if databases.url is None:
        for service in HEARS:
            for name in ("log.db", "views.db"):
                if not (databases.folder / service / name).is_file():
                    raise NoData(f"{databases.folder} holds no {name} of {service}")
    for journal in journals:
        if not journal.is_file():
            raise NoData(f"there is no journal {journal}")


def _name_of(databases: Databases) -> str:
    if databases.url is None:
        return str(databases.folder)
    scheme, _, rest = databases.url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _check_when_idle(
    databases: Databases,
    journals: Sequence[Path],
    kafka: Brokers | str | None,
    findings: Findings,
    end: float,
    told: Told,
) -> Busy | None:
    """Check everything in the first snapshot that is idle; gives what kept it from being so until the end."""
    while True:
        with closing(Files(databases, relayed=kafka is not None)) as files:
            busy = files.busy()
            if busy is None or (busy.stays and time.monotonic() >= end):
                _check_everything(files, journals, kafka, findings, told)
                return None
            if time.monotonic() >= end:
                # What no follower can pass is often a fault of the log that it reads.
                _check_logs(files, findings)
                return busy
        time.sleep(POLL_SECONDS)


# All checks


def _check_everything(
    files: Files, journals: Sequence[Path], kafka: Brokers | str | None, findings: Findings, told: Told
) -> None:
    checks = findings.checks
    book = _check_logs(files, findings)
    audit_consumers.read_lost(book)
    wanted = [*audit_consumers.CHECKS, *audit_moves.CHECKS]
    wanted += [(f"{one.view}/{one.table}", _promise(one), compared(one)) for one in SHOWN]
    if kafka is not None:
        promise = "I3 every event is in its topic as it is stored, per key in store order"
        wanted.insert(0, ("published", promise, published(kafka)))
    if journals:
        wanted.insert(0, ("reads", "I11 no read is older than the write whose token it carried", never_older(journals)))
        wanted.insert(0, ("journal", "I1 what the clients were told is what is stored, once", told_once(journals)))
    for done, (name, promise, check) in enumerate(wanted):
        told(done, len(wanted))
        _run(checks, name, promise, check, book)
    audit_consumers.held_back(book)
    told(len(wanted), len(wanted))


def _check_logs(files: Files, findings: Findings) -> Book:
    """What must hold of every log at any moment."""
    logs = read_logs(files, findings.checks)
    commands = {service: files.commands(service) for service in HEARS}
    by_id = {event.id: event for log in logs.values() for event in log}
    book = Book(files, logs, commands, by_id, reported=findings.reported)
    findings.events = len(by_id)
    for name, promise, check in audit_consumers.OF_ONE_LOG:
        _run(findings.checks, name, promise, check, book)
    return book


def _promise(shown: Shown) -> str:
    return f"I5 {shown.table} of the {shown.view.replace('_', ' ')} is the fold of the log"


def _run(checks: list[Check], name: str, promise: str, check: Checking, book: Book) -> None:
    made = Check(name, promise)
    checks.append(made)
    try:
        check(book, made)
    except (LookupError, TypeError, ValueError, AttributeError, CannotRead) as error:
        made.expect(False, f"it could not be checked: {type(error).__name__}: {error}")


# I5: read models


def compared(shown: Shown) -> Checking:
    """The check of one table: the rows it shows and those that the fold gives are the same by value."""

    def check_read_model(book: Book, check: Check) -> None:
        expected = shown.fold(_heard_by(book, shown.service))
        generation = book.files.generations(shown.service)[shown.view]
        names = (*shown.key, *shown.columns)
        listed = ", ".join(f'"{name}"' for name in names)
        query = f'SELECT {listed} FROM "{shown.view}_g{generation}_{shown.table}"'  # noqa: S608 - names of our own
        width = len(shown.key)
        for values in book.files.views[shown.service].rows(query):
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


def _heard_by(book: Book, service: str) -> Logs:
    """The logs as a service knows them: of others also what a restore took from them after it was heard."""
    if not book.lost:
        return book.logs
    return {
        source: log
        if source == service
        else sorted(book.known(source), key=lambda event: (event.epoch, event.position))
        for source, log in book.logs.items()
    }


def _plain(value: Any) -> Any:
    """A value of a row or of an event, comparable: times as instants."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str) and len(value) >= 19 and value[10] == "T":
        with suppress(ValueError):
            return datetime.fromisoformat(value).astimezone(UTC)
    return value


__all__ = ["Check", "Findings", "NoData", "audit", "compared"]
