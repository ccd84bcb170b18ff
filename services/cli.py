"""``maru``: one program, thin over the runtime. Every command has ``--json`` and the exit codes below.

0 done · 1 a promise is broken, or the walk failed · 2 wrong usage, or the system did not become idle · 3 port taken ·
4 folder not writable · 5 database of another version · 6 another maru runs on the folder · 7 a bad setting ·
8 no system answers at the URL, or a database or Kafka does not · 9 some rows or events were refused ·
70 a follower that came to a stand ended, to be started again · 130 interrupted before it was up
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.table import Table

from services import full
from services import up as showing
from services.__main__ import SERVICES
from services.client import Maru
from services.console import bar, console, say, stop
from services.importing import BadFile, import_file
from services.local_processes import ServerFailed
from services.start import Opened
from shared.runtime import logs
from shared.runtime import settings as settings_of
from shared.runtime.brokers import Brokers
from shared.runtime.databases import Databases
from shared.runtime.declare import Service, View
from shared.runtime.directory import DIRECTORY
from shared.runtime.log_database import OtherVersion, Unavailable
from shared.runtime.settings import BadSetting, Settings
from shared.runtime.system import folder_lock, opened, running_url
from shared.runtime.web import CannotStart

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)
parked_app = typer.Typer(no_args_is_help=True, help="Parked events: list, show, replay.")
app.add_typer(parked_app, name="parked")
epoch_app = typer.Typer(no_args_is_help=True, help="Epochs of a log: new.")
app.add_typer(epoch_app, name="epoch")

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of all databases (MARU_DATA).")]
PortOption = Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 takes any free one (MARU_PORT).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
UrlOption = Annotated[str | None, typer.Option("--url", help="Address of the system; unset: the one that runs here.")]
ServiceArgument = Annotated[str, typer.Argument(help="issues, routing, meetings or notifications.")]
DEFAULT_URL = "http://127.0.0.1:8700"
CLOCK_OF = "routing"
"""The service that keeps the business clock."""
FULL_FOLDER = Path("var/maru-full")
"""The data folder of ``up --full``, unless told; and of the other commands while that system runs."""


def main() -> None:
    """The console script: whatever stops a command is one clear line and a documented exit code."""
    try:
        app(standalone_mode=True)
    except CannotStart as error:
        stop(str(error), error.code)
    except OtherVersion as error:
        stop(f"Database of another version: {error}.", 5)
    except BadSetting as error:
        stop(f"Bad setting: {error}.", 7)
    except BadFile as error:
        stop(str(error), 2)
    except httpx.TransportError:
        stop("No system answers there. Start one with: maru up", 8)
    except Unavailable as error:
        stop(f"A database does not answer: {error}", 8)
    except ServerFailed as error:
        stop(str(error), 1)
    except BrokenPipeError:
        sys.exit(0)


def _settings(**options: Any) -> Settings:
    """Settings from options and environment; without a folder there, that of a full system that runs here."""
    loaded = settings_of.load(**options)
    if not _is_told(options) and full.running(FULL_FOLDER) is not None:
        loaded = loaded.model_copy(update={"data": FULL_FOLDER})
    return loaded.model_copy(update={"data": loaded.data.resolve(), "reference": loaded.reference.resolve()})


def _is_told(options: Mapping[str, Any]) -> bool:
    return options.get("data") is not None or "MARU_DATA" in os.environ or "MARU_DATABASE" in os.environ


def _databases(settings: Settings) -> Databases:
    """PostgreSQL where the settings name it or the folder holds a full system, else the files in the folder."""
    if settings.database is None and full.is_full(settings.data):
        return full.databases_of(settings.data)
    return Databases.of(settings)


def _target(url: str | None, settings: Settings) -> str | Mapping[str, str]:
    """The address told, else those of the system that runs on the folder."""
    running = full.running(settings.data)
    if url is not None or running is None:
        return url or running_url(settings.data) or DEFAULT_URL
    return running.urls


def _service(name: str) -> Service:
    for service in SERVICES:
        if service.name == name:
            return service
    stop(f"No service is called {name}. There are: {', '.join(service.name for service in SERVICES)}.", 2)


# The system


@app.command()
def up(
    once: Annotated[bool, typer.Option("--once", help="End after the walk; with --full after the audit.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the folder's databases first.")] = False,
    full_form: Annotated[
        bool, typer.Option("--full", help="With PostgreSQL, Kafka and a process for each part, started here.")
    ] = False,
    data: DataOption = None,
    port: PortOption = None,
    as_json: JsonOption = False,
) -> None:
    """The whole system on this machine, seeded, with the suggestions and one walked case."""
    settings = _settings(data=data, port=port)
    if not full_form:
        showing.up_embedded(settings, once, fresh, as_json)
        return
    if not _is_told({"data": data}):
        settings = settings.model_copy(update={"data": FULL_FOLDER.resolve()})
    first = port if port is not None else int(os.environ.get("MARU_PORT", "0"))
    showing.up_full(settings, first or None, once, fresh, as_json)


@app.command()
def tour(url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """The walk alone, against a running system: a new case on its current business day."""
    target = _target(url, _settings(data=data))
    outcome, failure = showing.walk(target, False, as_json)
    say(
        {"walk": None if outcome is None else showing.outcome_document(outcome), "failure": failure},
        as_json,
        lambda: showing.show_end(outcome, failure, target),
    )
    if failure is not None or outcome is None or not outcome.told:
        raise typer.Exit(1)


# The processes of a deployment: each runs until SIGTERM, its log on standard error


def _process_settings() -> Settings:
    settings = settings_of.load()
    logs.configure(settings.log_level)
    return settings


@app.command()
def serve(service: ServiceArgument) -> None:
    """The gateway of one service."""
    from shared.runtime import processes

    raise typer.Exit(processes.serve(_service(service), _process_settings()))


@app.command()
def relay(service: ServiceArgument) -> None:
    """The relay of one service: its log to its topic."""
    from shared.runtime import processes

    raise typer.Exit(processes.relay(_service(service), _process_settings()))


@app.command()
def follow(service: ServiceArgument) -> None:
    """A follower of one service: what it hears, its reactions, its views, its dates."""
    from shared.runtime import processes

    raise typer.Exit(processes.follow(_service(service), _process_settings()))


@app.command()
def issuer() -> None:
    """The development issuer: gives anybody a token. For one machine only."""
    from shared.runtime import processes

    raise typer.Exit(processes.issuer(_process_settings()))


@app.command()
def observe() -> None:
    """The observer: hop times, pulse, and what no service can tell of itself, from the topics alone."""
    from services.observing import watched
    from shared.runtime import observer

    observer.run(_process_settings(), watched())


# Tables, topics, reference data


@app.command(name="migrate")
def migrate_command(
    service: Annotated[str | None, typer.Argument(help="One service; all of them unless told.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make every table; safe to repeat."""
    settings = _settings(data=data)
    wanted = SERVICES if service is None else (_service(service),)
    databases = _databases(settings)
    if databases.url is None:
        with folder_lock(settings.data):
            for one in wanted:
                databases.migrate(one)
    else:
        for one in wanted:
            databases.migrate(one)
    say({"migrated": [one.name for one in wanted]}, as_json, lambda: console.print("Tables are there."))


@app.command()
def topics(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Make the topics on Kafka (MARU_KAFKA) as the table says; safe to repeat."""
    from shared.contracts.topics import TOPICS
    from shared.runtime import kafka

    settings = _settings(data=data)
    brokers = _kafka(settings) or Brokers.of(settings)
    try:
        asyncio.run(kafka.ensure_topics(brokers, TOPICS))
    except kafka.OtherPartitions as error:
        stop(str(error), 1)
    except kafka.FAILURES as error:
        stop(f"Kafka does not answer at {brokers}: {error or type(error).__name__}", 8)
    rows = [{"topic": one.name, "partitions": one.partitions, "key": one.key} for one in TOPICS]

    def text() -> None:
        table = Table("topic", "partitions", "key")
        for row in rows:
            table.add_row(str(row["topic"]), str(row["partitions"]), str(row["key"]))
        console.print(table)

    say(rows, as_json, text)


def _kafka(settings: Settings) -> Brokers | None:
    if settings.kafka is not None:
        return Brokers.of(settings)
    running = full.running(settings.data)
    return None if running is None else Brokers(running.kafka)


@app.command(name="secrets")
def secrets_command(
    folder: Annotated[Path, typer.Argument(help="Where each reader gets a folder of its own.")],
    postgres: Annotated[str, typer.Option("--postgres", help="The database server's host and port.")] = "postgres:5432",
    as_json: JsonOption = False,
) -> None:
    """Passwords and certificates for a demonstration on one machine; what is there stays."""
    from services import demonstration

    if not demonstration.is_writable(folder):
        stop(f"{folder} cannot be written.", 4)
    made = demonstration.make(folder, [service.name for service in SERVICES], postgres=postgres)
    say(
        {"passwords": made.passwords, "certificates": made.certificates},
        as_json,
        lambda: console.print(
            f"{len(made.passwords)} secrets and {len(made.certificates)} files of certificates made."
        ),
    )


@app.command()
def seed(
    service: Annotated[
        str | None, typer.Argument(help="One service, on its own database; all of them unless told.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load the reference data as events; what is there already changes nothing."""
    settings = _settings(data=data)
    logs.configure("warning")
    databases = _databases(settings)
    if service is not None:
        one = _service(service)
        # Nobody is waited for: where its followers are up already or come later, they hear it.
        lock = folder_lock(settings.data) if databases.url is None else nullcontext()
        with lock, Opened((one,), databases, settings, wait=0) as alone:
            new = showing.seed(alone, as_json, clock=one.name == CLOCK_OF)
    elif databases.url is None:
        with opened(SERVICES, settings) as system:
            new = showing.seed(system, as_json)
    else:
        with Opened(SERVICES, databases, settings) as services:
            new = showing.seed(services, as_json)
    say({"new": new}, as_json, lambda: console.print(f"{new} new reference facts."))


@app.command(name="import")
def import_command(
    file: Annotated[Path, typer.Argument(help="CSV with the columns of docs/data.md.")],
    source: Annotated[str, typer.Option("--source", help="Names the source; with external_id it makes the id.")] = (
        "import"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide every row, store nothing.")] = False,
    url: UrlOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suggestions from a CSV file into a running system; repeat it freely, no row becomes two cases."""
    with Maru(_target(url, _settings(data=data))) as maru, bar("Rows", as_json) as progress:
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

    say(document, as_json, text)
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
        stop(f"No view is called {view}. There are: {names}.", 2)
    databases = _databases(settings)
    done = []
    for service, one in wanted:
        log, store = databases.log(service.name), databases.views(service.name)
        try:
            with bar(f"{service.name}/{one.name}", as_json) as progress:
                result = run(log, store, one, progress)
        except RebuildRunning as error:
            stop(str(error), 6)
        except CannotRebuild as error:
            stop(str(error), 1)
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

    say(done, as_json, text)


@app.command()
def verify(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Hash chains, positions and slots of every log; names the first bad event."""
    from shared.runtime.verify import verify as run

    settings = _settings(data=data)
    with bar("Events", as_json) as progress:
        found = run(_databases(settings), [service.name for service in SERVICES], progress)
    say(found.document(), as_json, lambda: console.print(found.sentence(), markup=False))
    if not found.clean:
        raise typer.Exit(1)


@app.command()
def audit(
    journal: Annotated[Path | None, typer.Option("--journal", help="What clients were told, as they wrote it.")] = None,
    data: DataOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every promise, checked on the databases; exit code 1 and the first broken one, named."""
    from services.audit import NoData
    from services.audit import audit as run

    settings = _settings(data=data)
    running = full.running(settings.data)
    urls = url or (running_url(settings.data) if running is None else list(running.processes.values()))
    with bar("Promises", as_json) as progress:
        try:
            found = run(_databases(settings), journal, urls, told=progress, kafka=_kafka(settings))
        except NoData as error:
            stop(str(error), 2)
    say(found.document(), as_json, lambda: console.print(found.sentence(), markup=False))
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@app.command()
def config(data: DataOption = None, port: PortOption = None, as_json: JsonOption = False) -> None:
    """Every setting, its value, where it came from; secrets masked."""
    options = {"data": data, "port": port}
    settings = _settings(**options)
    rows = settings_of.explain(settings, options)
    if not _is_told(options) and settings.data == FULL_FOLDER.resolve():
        rows[0]["source"] = "the full system that runs there"

    def text() -> None:
        table = Table("setting", "value", "source", "meaning")
        for row in rows:
            table.add_row(row["name"], row["value"], row["source"], row["meaning"])
        console.print(table)

    say(rows, as_json, text)


@app.command()
def generate(
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit code 1 where they differ.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write contracts/ and the generated pages of docs/ anew."""
    from services.generate import generate as run

    differing = run(check=check)
    say({"differing": differing}, as_json, lambda: console.print("\n".join(differing) or "Up to date.", markup=False))
    if check and differing:
        raise typer.Exit(1)


# The log and the topic


@app.command()
def republish(service: ServiceArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """The whole log to Kafka again: after Kafka was lost. Who has an event ignores it."""
    from shared.runtime.relay import republish as run

    log = _databases(_settings(data=data)).log(_service(service).name)
    try:
        run(log)
        events = log.last_position()
    finally:
        log.close()
    say(
        {"service": service, "events": events},
        as_json,
        lambda: console.print(f"{service}: its relay publishes {events} events again."),
    )


@epoch_app.command("new")
def epoch_new(service: ServiceArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """A new epoch of a log: after its database was put back to an earlier moment."""
    from shared.runtime.relay import new_epoch

    log = _databases(_settings(data=data)).log(_service(service).name)
    try:
        epoch = new_epoch(log)
    finally:
        log.close()
    say(
        {"service": service, "epoch": epoch},
        as_json,
        lambda: console.print(f"{service}: epoch {epoch}. Start its gateways, its relay and its followers again."),
    )


# Parked events


@parked_app.command("list")
def parked_list(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Every event that waits for somebody to mend its cause."""
    from shared.runtime.parked import listed

    rows = listed(_databases(_settings(data=data)), SERVICES)

    def text() -> None:
        table = Table("id", "where", "state", "type", "key", "cause")
        for row in rows:
            table.add_row(row["id"], row["where"], row["state"], row["type"], row["key"], row["cause"] or "")
        console.print(table if rows else "Nothing is parked.")

    say(rows, as_json, text)


@parked_app.command("show")
def parked_show(
    id: Annotated[str, typer.Argument(help="Id from the list.")], data: DataOption = None, as_json: JsonOption = False
) -> None:
    """One parked event, whole."""
    from shared.runtime.parked import shown

    row = shown(_databases(_settings(data=data)), SERVICES, id)
    if row is None:
        stop("Nothing is parked under that id.", 2)
    say(row, as_json, lambda: console.print_json(data=row))


@parked_app.command("replay")
def parked_replay(
    key: Annotated[str | None, typer.Argument(help="Key to give back; all of them unless told.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give parked events back to their reactions and views, in order."""
    from shared.runtime.parked import replay

    started = time.monotonic()
    given_back, still = replay(_databases(_settings(data=data)), SERVICES, key)
    document = {"given_back": given_back, "still_parked": still, "seconds": time.monotonic() - started}
    say(document, as_json, lambda: console.print(f"{given_back} given back, {still} still parked.", markup=False))
    if still:
        raise typer.Exit(9)
