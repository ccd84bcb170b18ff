"""The commands of an operator: rebuild, verify, audit, publish again, begin an epoch, look after what is parked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services import full
from services.__main__ import SERVICES
from services.cli_common import (
    DataOption,
    JsonOption,
    ServiceArgument,
    UrlOption,
    brokers_of,
    databases_of,
    service_named,
    settings_from,
)
from services.console import bar, console, say, stop
from shared.runtime import logs
from shared.runtime.declare import Service, View
from shared.runtime.directory import DIRECTORY
from shared.runtime.system import running_url

app: typer.Typer = typer.Typer()
parked_app = typer.Typer(no_args_is_help=True, help="Parked events: list, show, replay.")
app.add_typer(parked_app, name="parked")
epoch_app = typer.Typer(no_args_is_help=True, help="Epochs of a log: new.")
app.add_typer(epoch_app, name="epoch")


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

    settings = settings_from(data=data)
    logs.configure("warning")
    wanted = [(s, v) for s, v in _views() if view in ("all", v.name, f"{s.name}/{v.name}")]
    if not wanted:
        names = ", ".join(f"{s.name}/{v.name}" for s, v in _views())
        stop(f"No view is called {view}. There are: {names}.", 2)
    databases = databases_of(settings)
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

    settings = settings_from(data=data)
    with bar("Events", as_json) as progress:
        found = run(databases_of(settings), [service.name for service in SERVICES], progress)
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

    settings = settings_from(data=data)
    running = full.running(settings.data)
    urls = url or (running_url(settings.data) if running is None else list(running.processes.values()))
    with bar("Promises", as_json) as progress:
        try:
            found = run(databases_of(settings), journal, urls, told=progress, kafka=brokers_of(settings))
        except NoData as error:
            stop(str(error), 2)
    say(found.document(), as_json, lambda: console.print(found.sentence(), markup=False))
    if found.exit_code:
        raise typer.Exit(found.exit_code)


# The log and the topic


@app.command()
def republish(service: ServiceArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """The whole log to Kafka again: after Kafka was lost. Who has an event ignores it."""
    from shared.runtime.relay import republish as run

    log = databases_of(settings_from(data=data)).log(service_named(service).name)
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

    log = databases_of(settings_from(data=data)).log(service_named(service).name)
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

    rows = listed(databases_of(settings_from(data=data)), SERVICES)

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

    row = shown(databases_of(settings_from(data=data)), SERVICES, id)
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
    given_back, still = replay(databases_of(settings_from(data=data)), SERVICES, key)
    document = {"given_back": given_back, "still_parked": still, "seconds": time.monotonic() - started}
    say(document, as_json, lambda: console.print(f"{given_back} given back, {still} still parked.", markup=False))
    if still:
        raise typer.Exit(9)
