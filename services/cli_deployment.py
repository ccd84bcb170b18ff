"""The commands of a deployment: its processes, its tables, its topics, secrets for a demonstration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from services.__main__ import SERVICES
from services.cli_common import (
    DataOption,
    JsonOption,
    ServiceArgument,
    brokers_of,
    databases_of,
    service_named,
    settings_from,
)
from services.console import console, say, stop
from shared.runtime import logs
from shared.runtime import settings as settings_of
from shared.runtime.brokers import Brokers
from shared.runtime.settings import Settings
from shared.runtime.system import folder_lock

app: typer.Typer = typer.Typer()

# The processes of a deployment: each runs until SIGTERM, its log on standard error


def _process_settings() -> Settings:
    settings = settings_of.load()
    logs.configure(settings.log_level)
    return settings


@app.command()
def serve(service: ServiceArgument) -> None:
    """The gateway of one service."""
    from shared.runtime import processes

    raise typer.Exit(processes.serve(service_named(service), _process_settings()))


@app.command()
def relay(service: ServiceArgument) -> None:
    """The relay of one service: its log to its topic."""
    from shared.runtime import processes

    raise typer.Exit(processes.relay(service_named(service), _process_settings()))


@app.command()
def follow(service: ServiceArgument) -> None:
    """A follower of one service: what it hears, its reactions, its views, its dates."""
    from shared.runtime import processes

    raise typer.Exit(processes.follow(service_named(service), _process_settings()))


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
    settings = settings_from(data=data)
    wanted = SERVICES if service is None else (service_named(service),)
    databases = databases_of(settings)
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

    settings = settings_from(data=data)
    brokers = brokers_of(settings) or Brokers.of(settings)
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
