"""``maru up``: the whole system on this machine, in one process or in its full form, and the walk before one's eyes."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from services.__main__ import SERVICES
from services.client import Maru, Problem, base_of
from services.console import bar, console, errors, say
from services.full import NAMES, STATE_FILE, FullSystem, is_full
from services.importing import Imported, import_file
from services.local_processes import ServerFailed
from services.start import Seedable, prepare_folder
from services.walk import Outcome, Step, Walk
from shared.runtime import logs
from shared.runtime.settings import Settings
from shared.runtime.system import System, folder_lock, opened
from shared.runtime.web import CannotStart

_CLOCK = "Clock/business"


def up_embedded(settings: Settings, once: bool, fresh: bool, as_json: bool) -> None:
    """Everything in this process on SQLite."""
    ended = _Ended()
    if fresh:
        _forget(settings)
    if is_full(settings.data):
        raise CannotStart(f"The folder {settings.data} holds a full system: use --full, or another --data.", 2)
    log_file = settings.data / "logs" / "maru.jsonl"
    with folder_lock(settings.data):
        logs.configure(settings.log_level, log_file)
    with ended.is_130(), opened(SERVICES, settings) as system:
        url = system.serve()
        if not as_json:
            _banner(system, url, log_file)
        seed(system, as_json, between=ended.refuse)
        imported = _import_suggestions(system, url, as_json, ended.refuse)
        outcome, failure = walk(url, _is_new(system), as_json, ended.refuse)
        document = {"url": url, **_document(settings, imported, outcome, failure)}
        say(document, as_json, lambda: show_end(outcome, failure, url))
        if not once:
            _wait(ended, as_json)
    if once and not (outcome is not None and outcome.told):
        raise typer.Exit(1)


def up_full(settings: Settings, port: int | None, once: bool, fresh: bool, as_json: bool) -> None:
    """PostgreSQL, Kafka and a process for each part, supervised; with ``once`` the audit at the end.

    ``port``: the first of all ports; ``None`` takes the last ones, or free ones.
    """
    if fresh:
        _forget(settings)
    if (settings.data / SERVICES[0].name / "log.db").exists():
        raise CannotStart(f"The folder {settings.data} holds an embedded system: use another --data.", 2)
    logs.configure("warning", settings.data / "logs" / "up.jsonl")
    ended = _Ended()
    full = FullSystem(settings.data, port=port, told=lambda name, what: None)
    code = 1
    with ended.is_130(), _shown(full, as_json):
        try:
            full.start()
            ended.refuse()
            with full.opened() as services:
                seed(services, as_json, between=ended.refuse)
                full.wait_ready()
                ended.refuse()
                if not as_json:
                    _show_addresses(full)
                imported, outcome, failure = None, None, None
                if refusing := full.refusing():
                    failure = _to_republish(refusing, settings.data)
                else:
                    imported = _import_suggestions(services, full.urls, as_json, ended.refuse)
                    outcome, failure = walk(full.urls, _is_new(services), as_json, ended.refuse)
                    services.idle()
            code = 0 if outcome is not None and outcome.told else 1
            document = {
                "urls": full.urls,
                "processes": full.processes,
                **_document(settings, imported, outcome, failure),
            }
            if once:
                found = _audit(full, as_json)
                document["audit"] = found.document()
                code = code or found.exit_code
            say(document, as_json, lambda: show_end(outcome, failure, full.urls))
            if once and not as_json:
                console.print(found.sentence(), markup=False)
            if not once:
                _wait(ended, as_json)
                code = 0
        except ServerFailed as error:
            raise CannotStart(str(error), 1) from None
        except OSError as error:
            raise CannotStart(
                f"{error.filename or settings.data} cannot be used: {error.strerror or error}.", 4
            ) from None
        finally:
            full.stop()
    if code:
        raise typer.Exit(code)


class _Interrupted(Exception):
    """Somebody has asked us to end before we were up."""


class _Ended:
    """Set by SIGINT and SIGTERM, from the moment it is made.

    The start looks at it between its steps: an exception out of a signal handler would come wherever the interpreter
    happens to be, and is lost where that is a callback or a finalizer.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._event.set())

    def wait(self) -> None:
        self._event.wait()

    def refuse(self) -> None:
        """Raises ``_Interrupted`` once it is set."""
        if self._event.is_set():
            raise _Interrupted

    @contextmanager
    def is_130(self) -> Iterator[None]:
        """What is interrupted in here ends the program with exit code 130."""
        try:
            yield
        except _Interrupted:
            raise typer.Exit(130) from None


@contextmanager
def _shown(full: FullSystem, as_json: bool) -> Iterator[None]:
    """What becomes of the processes, on the console: a bar while they start, then a line for each trouble."""
    ready: set[str] = set()
    with bar("Starting", as_json, len(NAMES)) as progress:

        def told(name: str, what: str) -> None:
            if what in ("is ready", "answers"):
                ready.add(name)
                progress(len(ready), len(NAMES))
            elif not what.startswith("has its"):
                errors.print(f"{name} {what}", style="yellow", markup=False)

        full.told = told
        yield


def _to_republish(services: Sequence[str], data: Path) -> str:
    """What is wrong where relays refuse, and what to do. They are ready all the same (``Relay.missing``)."""
    commands = "".join(f"\n  maru republish {service} --data {data}" for service in services)
    return f"Kafka lacks what was published, and nothing is published until this is done:{commands}"


def _audit(full: FullSystem, as_json: bool) -> Any:
    from services.audit import audit

    with bar("Promises", as_json) as progress:
        return audit(full.databases, None, list(full.processes.values()), told=progress, kafka=full.kafka.bootstrap)


def _document(
    settings: Settings, imported: Imported | None, outcome: Outcome | None, failure: str | None
) -> dict[str, Any]:
    return {
        "data": str(settings.data),
        "suggestions": None if imported is None else imported.accepted,
        "walk": None if outcome is None else outcome_document(outcome),
        "failure": failure,
    }


def _forget(settings: Settings) -> None:
    """Remove what this program keeps in a folder, and nothing else that may stand there."""
    with folder_lock(settings.data):
        for service in SERVICES:
            for file in sorted((settings.data / service.name).glob("*.db*")):
                file.unlink()
        if is_full(settings.data):
            for name in ("postgres", "kafka"):
                shutil.rmtree(settings.data / name, ignore_errors=True)
            for file in (settings.data / "logs").glob("*.jsonl*"):
                file.unlink()
        for name in ("issuer.json", STATE_FILE, "logs/maru.jsonl"):
            (settings.data / name).unlink(missing_ok=True)


def _banner(system: System, url: str, log_file: Path) -> None:
    console.rule("마루 Maru")
    console.print(
        "DEVELOPMENT ISSUER: anybody may ask it for a token. For this machine only, never for production.",
        style="bold red",
    )
    console.print(f"API {url}/docs · metrics {url}/metrics · probes {url}/readyz · tokens {url}/dev/token/OFFICE")
    console.print(f"Data {system.folder} · logs {log_file}")


def _show_addresses(full: FullSystem) -> None:
    console.rule("마루 Maru")
    console.print(
        "DEVELOPMENT ISSUER: anybody may ask it for a token. For this machine only, never for production.",
        style="bold red",
    )
    table = Table("process", "pid", "address", title=f"Data {full.folder} · all logs {full.logs.path}")
    for name in NAMES:
        address = full.processes.get(name, f"127.0.0.1:{full.state.ports[name]}")
        table.add_row(name, str(full.process(name).pid), address + ("/docs" if name.endswith("gateway") else ""))
    console.print(table)


def nothing() -> None:
    """What is done between two steps that nobody interrupts."""


def seed(system: Seedable, as_json: bool, *, clock: bool = True, between: Callable[[], None] = nothing) -> int:
    """Load the reference data, told in a bar, and start the ``clock``; gives the number of new acts.

    ``between`` is called at each row, and may end it by what it raises.
    """
    changed: list[str] = []
    with bar("Reference data", as_json) as progress:
        done = 0

        def told(row: str, what: str) -> None:
            nonlocal done
            between()
            done += 1
            progress(done, None)
            if what == "changed":
                changed.append(row)

        new = prepare_folder(system, told, clock=clock)
    for row in changed:
        errors.print(f"{row} differs from what was loaded: facts stay; add a dated row instead.", markup=False)
    return new


def _import_suggestions(
    system: Seedable, url: str | Mapping[str, str], as_json: bool, between: Callable[[], None]
) -> Imported:
    with Maru(url) as maru, bar("Suggestions of 2022", as_json) as progress:

        def told(done: int, total: int) -> None:
            between()
            progress(done, total)

        found = import_file(maru, system.settings.reference / "suggestions-2023.csv", told=told)
    system.idle()
    if not as_json:
        console.print(f"{found.accepted} suggestions of {found.total} are cases, {len(found.refused)} refused.")
        for row in found.refused:
            console.print(f"  line {row.line} {row.external_id}: {row.because}", markup=False)
    return found


def _is_new(system: Seedable) -> bool:
    """Whether no walk has moved the clock of this folder yet."""
    shifts = system.service("routing").log.query("SELECT COUNT(*) FROM stored_events WHERE originator_id = ?", _CLOCK)
    return bool(shifts[0][0] <= 1)


def walk(
    url: str | Mapping[str, str], dated: bool, as_json: bool, between: Callable[[], None] = nothing
) -> tuple[Outcome | None, str | None]:
    """The walk against a running system, each step told; gives its outcome, and why it stopped where it did.

    ``between`` is called after each step, and may end it by what it raises.
    """

    def told(step: Step) -> None:
        between()
        if as_json:
            return
        events = ", ".join(step.events) or "nothing new"
        console.print(f"{step.day}  [bold]{step.office:<34}[/] {step.what}")
        console.print(f"            {events}  [dim]{step.position}  {base_of(url, step.link)}{step.link}[/]")

    with Maru(url) as maru:
        walk = Walk(maru, dated=dated, told=told)
        try:
            return walk.run(), None
        except Problem as problem:
            return walk.outcome, str(problem)


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """The outcome for programs."""
    return {
        "case_id": outcome.case_id,
        "docket": outcome.docket,
        "policy_id": outcome.policy_id,
        "meetings": outcome.meetings,
        "commands": outcome.commands,
        "events": outcome.events,
        "told": outcome.told,
        "policy": outcome.policy_read,
        "notice": outcome.notice_read,
        "itinerary": outcome.itinerary,
    }


def show_end(outcome: Outcome | None, failure: str | None, url: str | Mapping[str, str]) -> None:
    """The outcome for people."""
    if failure is not None or outcome is None:
        console.print(
            f"{'No walk' if outcome is None else 'The walk stopped'}: {failure}", style="bold red", markup=False
        )
        return
    table = Table("held by", "from", "to", "due", "why", title=f"{outcome.docket} · where it has been")
    for holding in outcome.itinerary["holdings"]:
        table.add_row(
            f"{holding['stage']} {holding['body']['name']['ko']} ({holding['body']['id']})",
            holding["from"][:10],
            (holding["to"] or "")[:10],
            holding["due"],
            holding["because"]["ko"],
        )
    console.print(table)
    if outcome.told:
        console.print(
            f"Adopted: {outcome.policy_read['title']} · the county was told: {outcome.notice_read['title']['ko']} / "
            f"{outcome.notice_read['title']['en']}",
            style="bold green",
            markup=False,
        )
    for name, path in (
        ("where it is", f"/v1/cases/{outcome.case_id}"),
        ("why there", f"/v1/cases/{outcome.case_id}/why"),
        ("lineage", f"/v1/lineage/issue/{outcome.case_id}"),
        ("policy", f"/v1/policies/{outcome.policy_id}"),
    ):
        console.print(f"{name:<12} {base_of(url, path)}{path}", markup=False)


def _wait(ended: _Ended, as_json: bool) -> None:
    """Return when somebody asks us to end."""
    if not as_json:
        console.print("Running. Ctrl-C stops; maru up --fresh forgets.")
    ended.wait()
