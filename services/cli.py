"""``maru``: one program, thin over the runtime. Every command has ``--json`` and the exit codes below.

0 done · 1 a promise is broken, or the walk failed · 2 wrong usage, or the system did not become idle · 3 port taken ·
4 folder not writable · 5 database of another version · 6 another maru runs on the folder · 7 a bad setting ·
8 no system answers at the URL · 9 some rows or events were refused
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from services.__main__ import SERVICES
from services.client import Maru, Problem
from services.importing import BadFile, Imported, import_file
from services.start import prepare_folder
from services.walk import Outcome, Step, Walk
from shared.runtime import logs
from shared.runtime import settings as settings_of
from shared.runtime.declare import Service, View
from shared.runtime.directory import DIRECTORY
from shared.runtime.log import EventLog, OtherVersion
from shared.runtime.settings import BadSetting, Settings
from shared.runtime.system import CannotStart, System, folder_lock, migrate, opened, running_url
from shared.runtime.views import ViewStore

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)
parked_app = typer.Typer(no_args_is_help=True, help="Parked events: list, show, replay.")
app.add_typer(parked_app, name="parked")

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of all databases (MARU_DATA).")]
PortOption = Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 takes any free one (MARU_PORT).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
UrlOption = Annotated[str, typer.Option("--url", help="Address of the running system.")]
DEFAULT_URL = "http://127.0.0.1:8700"


def main() -> None:
    """The console script: whatever stops a command is one clear line and a documented exit code."""
    try:
        app(standalone_mode=True)
    except CannotStart as error:
        _stop(str(error), error.code)
    except OtherVersion as error:
        _stop(f"Database of another version: {error}.", 5)
    except BadSetting as error:
        _stop(f"Bad setting: {error}.", 7)
    except BadFile as error:
        _stop(str(error), 2)
    except httpx.TransportError:
        _stop("No system answers there. Start one with: maru up", 8)
    except BrokenPipeError:
        sys.exit(0)


def _stop(line: str, code: int) -> NoReturn:
    if "--json" in sys.argv:
        print(json.dumps({"error": line, "exit_code": code}, ensure_ascii=False))  # noqa: T201
    else:
        errors.print(line, markup=False)
    sys.exit(code)


def _say(document: Any, as_json: bool, text: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(document, ensure_ascii=False, default=str, indent=1), flush=True)  # noqa: T201
    else:
        text()


def _settings(**options: Any) -> Settings:
    loaded = settings_of.load(**options)
    return loaded.model_copy(update={"data": loaded.data.resolve(), "reference": loaded.reference.resolve()})


@contextmanager
def _bar(title: str, as_json: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on standard error; says nothing with ``--json``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=as_json or not errors.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


# The system


@app.command()
def up(
    once: Annotated[bool, typer.Option("--once", help="End after the walk.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the folder's databases first.")] = False,
    data: DataOption = None,
    port: PortOption = None,
    as_json: JsonOption = False,
) -> None:
    """The whole system in this process on SQLite, seeded, with the suggestions and one walked case."""
    settings = _settings(data=data, port=port)
    if fresh:
        _forget(settings)
    log_file = settings.data / "logs" / "maru.jsonl"
    with folder_lock(settings.data):
        logs.configure(settings.log_level, log_file)
    with opened(SERVICES, settings) as system:
        url = system.serve()
        if not as_json:
            _banner(system, url, log_file)
        _seed(system, as_json)
        imported = _import_suggestions(system, url, as_json)
        outcome, failure = _walk(url, _is_new(system), as_json)
        told = outcome is not None and outcome.told
        document = {
            "url": url,
            "data": str(settings.data),
            "suggestions": imported.accepted,
            "walk": None if outcome is None else _outcome(outcome),
            "failure": failure,
        }
        _say(document, as_json, lambda: _show_end(url, outcome, failure))
        if not once:
            _wait_for_signal(as_json)
    if once and not told:
        raise typer.Exit(1)


def _forget(settings: Settings) -> None:
    """Remove what this program keeps in a folder, and nothing else that may stand there."""
    with folder_lock(settings.data):
        for service in SERVICES:
            for file in sorted((settings.data / service.name).glob("*.db*")):
                file.unlink()
        for name in ("issuer.json", "logs/maru.jsonl"):
            (settings.data / name).unlink(missing_ok=True)


def _banner(system: System, url: str, log_file: Path) -> None:
    console.rule("마루 Maru")
    console.print(
        "DEVELOPMENT ISSUER: anybody may ask it for a token. For this machine only, never for production.",
        style="bold red",
    )
    console.print(f"API {url}/docs · metrics {url}/metrics · probes {url}/readyz · tokens {url}/dev/token/OFFICE")
    console.print(f"Data {system.folder} · logs {log_file}")


def _seed(system: System, as_json: bool) -> int:
    changed: list[str] = []
    with _bar("Reference data", as_json) as progress:
        done = 0

        def told(row: str, what: str) -> None:
            nonlocal done
            done += 1
            progress(done, None)
            if what == "changed":
                changed.append(row)

        new = prepare_folder(system, told)
    for row in changed:
        errors.print(f"{row} differs from what was loaded: facts stay; add a dated row instead.", markup=False)
    return new


def _import_suggestions(system: System, url: str, as_json: bool) -> Imported:
    with Maru(url) as maru, _bar("Suggestions of 2022", as_json) as progress:
        found = import_file(maru, system.settings.reference / "suggestions-2023.csv", told=progress)
    system.idle()
    if not as_json:
        console.print(f"{found.accepted} suggestions of {found.total} are cases, {len(found.refused)} refused.")
        for row in found.refused:
            console.print(f"  line {row.line} {row.external_id}: {row.because}", markup=False)
    return found


def _is_new(system: System) -> bool:
    """Whether no walk has moved the clock of this folder yet."""
    shifts = system.service("routing").log.query("SELECT COUNT(*) FROM stored_events WHERE originator_id = ?", _CLOCK)
    return bool(shifts[0][0] <= 1)


_CLOCK = "Clock/business"


def _walk(url: str, dated: bool, as_json: bool) -> tuple[Outcome | None, str | None]:
    def told(step: Step) -> None:
        events = ", ".join(step.events) or "nothing new"
        console.print(f"{step.day}  [bold]{step.office:<34}[/] {step.what}")
        console.print(f"            {events}  [dim]{step.position}  {url}{step.link}[/]")

    with Maru(url) as maru:
        walk = Walk(maru, dated=dated, told=(lambda step: None) if as_json else told)
        try:
            return walk.run(), None
        except Problem as problem:
            return walk.outcome, str(problem)


def _outcome(outcome: Outcome) -> dict[str, Any]:
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


def _show_end(url: str, outcome: Outcome | None, failure: str | None) -> None:
    if failure is not None or outcome is None:
        console.print(f"The walk stopped: {failure}", style="bold red", markup=False)
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
        console.print(f"{name:<12} {url}{path}", markup=False)


def _wait_for_signal(as_json: bool) -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    if not as_json:
        console.print("Running. Ctrl-C stops; maru up --fresh forgets.")
    ended.wait()


@app.command()
def tour(url: UrlOption = DEFAULT_URL, as_json: JsonOption = False) -> None:
    """The walk alone, against a running system: a new case on its current business day."""
    outcome, failure = _walk(url, False, as_json)
    _say(
        {"walk": None if outcome is None else _outcome(outcome), "failure": failure},
        as_json,
        lambda: _show_end(url, outcome, failure),
    )
    if failure is not None or outcome is None or not outcome.told:
        raise typer.Exit(1)


@app.command(name="migrate")
def migrate_command(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Make every table; safe to repeat."""
    settings = _settings(data=data)
    with folder_lock(settings.data):
        migrate(SERVICES, settings.data)
    _say({"migrated": [service.name for service in SERVICES]}, as_json, lambda: console.print("Tables are there."))


@app.command()
def seed(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Load the reference data as events; what is there already changes nothing."""
    settings = _settings(data=data)
    logs.configure("warning")
    with opened(SERVICES, settings) as system:
        new = _seed(system, as_json)
    _say({"new": new}, as_json, lambda: console.print(f"{new} new reference facts."))


@app.command(name="import")
def import_command(
    file: Annotated[Path, typer.Argument(help="CSV with the columns of docs/data.md.")],
    source: Annotated[str, typer.Option("--source", help="Names the source; with external_id it makes the id.")] = (
        "import"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide every row, store nothing.")] = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Suggestions from a CSV file into a running system; repeat it freely, no row becomes two cases."""
    with Maru(url) as maru, _bar("Rows", as_json) as progress:
        found = import_file(maru, file, source=source, dry_run=dry_run, told=progress)
    document = {
        "total": found.total,
        "accepted": found.accepted,
        "refused": [row.__dict__ for row in found.refused],
        "refused_file": found.refused_file,
        "dry_run": dry_run,
    }

    def text() -> None:
        for row in found.refused:
            console.print(f"line {row.line} {row.external_id}: {row.because}", markup=False)
        done = "would go in" if dry_run else "are in"
        console.print(f"{found.accepted} of {found.total} rows {done}, {len(found.refused)} refused.")
        if found.refused_file is not None:
            console.print(f"Refused rows, to correct and give again: {found.refused_file}", markup=False)

    _say(document, as_json, text)
    if found.refused:
        raise typer.Exit(9)


# What operators need


def _views() -> list[tuple[Service, View]]:
    return [(service, view) for service in SERVICES for view in (DIRECTORY, *service.views)]


@app.command()
def rebuild(
    view: Annotated[str, typer.Argument(help="Name of a view, SERVICE/VIEW, or all.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """A view from zero beside the old one, swapped when it has caught up; the system may run meanwhile."""
    from shared.runtime.rebuild import CannotRebuild, RebuildRunning
    from shared.runtime.rebuild import rebuild as run

    settings = _settings(data=data)
    logs.configure("warning")
    wanted = [(s, v) for s, v in _views() if view in ("all", v.name, f"{s.name}/{v.name}")]
    if not wanted:
        names = ", ".join(f"{s.name}/{v.name}" for s, v in _views())
        _stop(f"No view is called {view}. There are: {names}.", 2)
    done = []
    for service, one in wanted:
        log = EventLog(settings.data / service.name / "log.db", service.name)
        store = ViewStore(settings.data / service.name / "views.db")
        try:
            with _bar(f"{service.name}/{one.name}", as_json) as progress:
                result = run(log, store, one, progress)
        except RebuildRunning as error:
            _stop(str(error), 6)
        except CannotRebuild as error:
            _stop(str(error), 1)
        finally:
            log.close()
            store.close()
        done.append({**result.__dict__, "view": f"{service.name}/{one.name}"})

    def text() -> None:
        table = Table("view", "events", "seconds", "generation", "content")
        for row in done:
            same = {row["checksum"]: "as before", None: "new version"}.get(row["old_checksum"], "CHANGED")
            generation = f"{row['old_generation']} → {row['generation']}"
            table.add_row(str(row["view"]), str(row["events"]), f"{row['seconds']:.2f}", generation, same)
        console.print(table)

    _say(done, as_json, text)


@app.command()
def verify(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Hash chains, positions and slots of every log; names the first bad event."""
    from shared.runtime.verify import verify as run

    settings = _settings(data=data)
    with _bar("Events", as_json) as progress:
        found = run(settings.data, [service.name for service in SERVICES], progress)
    _say(found.document(), as_json, lambda: console.print(found.sentence(), markup=False))
    if not found.clean:
        raise typer.Exit(1)


@app.command()
def audit(
    journal: Annotated[Path | None, typer.Option("--journal", help="What clients were told, as they wrote it.")] = None,
    data: DataOption = None,
    url: Annotated[str | None, typer.Option("--url", help="Address of the system, where it runs.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Every promise, checked on the databases; exit code 1 and the first broken one, named."""
    from services.audit import NoData
    from services.audit import audit as run

    settings = _settings(data=data)
    with _bar("Promises", as_json) as progress:
        try:
            found = run(settings.data, journal, url or running_url(settings.data), told=progress)
        except NoData as error:
            _stop(str(error), 2)
    _say(found.document(), as_json, lambda: console.print(found.sentence(), markup=False))
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@app.command()
def config(data: DataOption = None, port: PortOption = None, as_json: JsonOption = False) -> None:
    """Every setting, its value, where it came from; secrets masked."""
    options = {"data": data, "port": port}
    rows = settings_of.explain(_settings(**options), options)

    def text() -> None:
        table = Table("setting", "value", "source", "meaning")
        for row in rows:
            table.add_row(row["name"], row["value"], row["source"], row["meaning"])
        console.print(table)

    _say(rows, as_json, text)


@app.command()
def generate(
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit code 1 where they differ.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write contracts/ and the generated pages of docs/ anew."""
    from services.generate import generate as run

    differing = run(check=check)
    _say({"differing": differing}, as_json, lambda: console.print("\n".join(differing) or "Up to date.", markup=False))
    if check and differing:
        raise typer.Exit(1)


# Parked events


@parked_app.command("list")
def parked_list(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Every event that waits for somebody to mend its cause."""
    from shared.runtime.parked import listed

    rows = listed(_settings(data=data).data, SERVICES)

    def text() -> None:
        table = Table("id", "where", "state", "type", "key", "cause")
        for row in rows:
            table.add_row(row["id"], row["where"], row["state"], row["type"], row["key"], row["cause"] or "")
        console.print(table if rows else "Nothing is parked.")

    _say(rows, as_json, text)


@parked_app.command("show")
def parked_show(
    id: Annotated[str, typer.Argument(help="Id from the list.")], data: DataOption = None, as_json: JsonOption = False
) -> None:
    """One parked event, whole."""
    from shared.runtime.parked import shown

    row = shown(_settings(data=data).data, SERVICES, id)
    if row is None:
        _stop("Nothing is parked under that id.", 2)
    _say(row, as_json, lambda: console.print_json(data=row))


@parked_app.command("replay")
def parked_replay(
    key: Annotated[str | None, typer.Argument(help="Key to give back; all of them unless told.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give parked events back to their reactions and views, in order."""
    from shared.runtime.parked import replay

    started = time.monotonic()
    given_back, still = replay(_settings(data=data).data, SERVICES, key)
    document = {"given_back": given_back, "still_parked": still, "seconds": time.monotonic() - started}
    _say(document, as_json, lambda: console.print(f"{given_back} given back, {still} still parked.", markup=False))
    if still:
        raise typer.Exit(9)
