"""``maru``: one program, thin over the runtime. Every command has ``--json`` and the exit codes below.

0 done · 1 a promise is broken, or the walk failed · 2 wrong usage, or the system did not become idle · 3 port taken ·
4 folder not writable · 5 database of another version · 6 another maru runs on the folder · 7 a bad setting ·
8 no system answers at the URL, or a database or Kafka does not · 9 some rows or events were refused ·
70 a follower that came to a stand ended, to be started again · 130 interrupted before it was up
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.table import Table

from services import cli_deployment, cli_operators
from services import up as showing
from services.__main__ import SERVICES
from services.cli_common import (
    FULL_FOLDER,
    DataOption,
    JsonOption,
    PortOption,
    UrlOption,
    databases_of,
    is_told,
    service_named,
    settings_from,
    target_of,
)
from services.client import Maru
from services.console import bar, console, say, stop
from services.importing import BadFile, import_file
from services.local_processes import ServerFailed
from services.start import Opened
from shared.runtime import logs
from shared.runtime import settings as settings_of
from shared.runtime.log_database import OtherVersion, Unavailable
from shared.runtime.settings import BadSetting
from shared.runtime.system import folder_lock, opened
from shared.runtime.views import STORE_DOWN
from shared.runtime.web import CannotStart

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)
CLOCK_OF = "routing"
"""The service that keeps the business clock."""


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
    except STORE_DOWN as error:
        stop(f"A database does not answer: {' '.join(str(error).split())}", 8)
    except ServerFailed as error:
        stop(str(error), 1)
    except BrokenPipeError:
        sys.exit(0)


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
    settings = settings_from(data=data, port=port)
    if not full_form:
        showing.up_embedded(settings, once, fresh, as_json)
        return
    if not is_told({"data": data}):
        settings = settings.model_copy(update={"data": FULL_FOLDER.resolve()})
    first = port if port is not None else int(os.environ.get("MARU_PORT", "0"))
    showing.up_full(settings, first or None, once, fresh, as_json)


@app.command()
def tour(url: UrlOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """The walk alone, against a running system: a new case on its current business day."""
    target = target_of(url, settings_from(data=data))
    outcome, failure = showing.walk(target, False, as_json)
    say(
        {"walk": None if outcome is None else showing.outcome_document(outcome), "failure": failure},
        as_json,
        lambda: showing.show_end(outcome, failure, target),
    )
    if failure is not None or outcome is None or not outcome.told:
        raise typer.Exit(1)


@app.command()
def seed(
    service: Annotated[
        str | None, typer.Argument(help="One service, on its own database; all of them unless told.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load the reference data as events; what is there already changes nothing."""
    settings = settings_from(data=data)
    logs.configure("warning")
    databases = databases_of(settings)
    if service is not None:
        one = service_named(service)
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
    with Maru(target_of(url, settings_from(data=data))) as maru, bar("Rows", as_json) as progress:
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


@app.command()
def config(data: DataOption = None, port: PortOption = None, as_json: JsonOption = False) -> None:
    """Every setting, its value, where it came from; secrets masked."""
    options = {"data": data, "port": port}
    settings = settings_from(**options)
    rows = settings_of.explain(settings, options)
    if not is_told(options) and settings.data == FULL_FOLDER.resolve():
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


app.add_typer(cli_deployment.app)
app.add_typer(cli_operators.app)
