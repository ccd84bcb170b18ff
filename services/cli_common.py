"""What the commands of ``maru`` share: their options, and how they find settings, databases and the running system."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from services import full
from services.__main__ import SERVICES
from services.console import stop
from shared.runtime import settings as settings_of
from shared.runtime.brokers import Brokers
from shared.runtime.databases import Databases
from shared.runtime.declare import Service
from shared.runtime.settings import Settings
from shared.runtime.system import running_url

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of all databases (MARU_DATA).")]
PortOption = Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 takes any free one (MARU_PORT).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
UrlOption = Annotated[str | None, typer.Option("--url", help="Address of the system; unset: the one that runs here.")]
ServiceArgument = Annotated[str, typer.Argument(help="issues, routing, meetings or notifications.")]
DEFAULT_URL = "http://127.0.0.1:8700"
FULL_FOLDER = Path("var/maru-full")
"""The data folder of ``up --full``, unless told; and of the other commands while that system runs."""


def settings_from(**options: Any) -> Settings:
    """Settings from options and environment; without a folder there, that of a full system that runs here."""
    loaded = settings_of.load(**options)
    if not is_told(options) and full.running(FULL_FOLDER) is not None:
        loaded = loaded.model_copy(update={"data": FULL_FOLDER})
    return loaded.model_copy(update={"data": loaded.data.resolve(), "reference": loaded.reference.resolve()})


def is_told(options: Mapping[str, Any]) -> bool:
    """Whether options or environment name the data; else it is that of whatever runs here."""
    return options.get("data") is not None or "MARU_DATA" in os.environ or "MARU_DATABASE" in os.environ


def databases_of(settings: Settings) -> Databases:
    """PostgreSQL where the settings name it or the folder holds a full system, else the files in the folder."""
    if settings.database is None and full.is_full(settings.data):
        return full.databases_of(settings.data)
    return Databases.of(settings)


def target_of(url: str | None, settings: Settings) -> str | Mapping[str, str]:
    """The address told, else those of the system that runs on the folder."""
    running = full.running(settings.data)
    if url is not None or running is None:
        return url or running_url(settings.data) or DEFAULT_URL
    return running.urls


def service_named(name: str) -> Service:
    """The service of a command line; ends the program (2) where there is none of that name."""
    for service in SERVICES:
        if service.name == name:
            return service
    stop(f"No service is called {name}. There are: {', '.join(service.name for service in SERVICES)}.", 2)


def brokers_of(settings: Settings) -> Brokers | None:
    """Kafka as the settings name it, else that of the system that runs on the folder."""
    if settings.kafka is not None:
        return Brokers.of(settings)
    running = full.running(settings.data)
    return None if running is None else Brokers(running.kafka)
