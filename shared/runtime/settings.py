"""Every setting, its default, and where its value came from."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[2]


class BadSetting(Exception):
    """A setting that cannot be: names it, its source and what is allowed."""


class Settings(BaseSettings):
    """Read from the environment (``MARU_…``) or from command-line options, which win."""

    model_config = SettingsConfigDict(env_prefix="MARU_", frozen=True, extra="ignore")

    data: Path = Field(Path("var/maru"), description="folder of all databases, keys and logs")
    reference: Path = Field(ROOT / "data", description="folder of the reference data")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8700, ge=0, le=65535, description="port to listen on; 0 takes any free one")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    issuer: str = Field("https://issuer.maru.example", description="expected issuer of tokens")
    audience: str = Field("maru", description="expected audience of tokens")
    token_hours: int = Field(12, ge=1, le=24, description="life of a development token, hours")
    wait_seconds: float = Field(5.0, gt=0, le=30, description="longest wait for a position token, seconds")
    start: str = Field("2023-01-04T09:00:00+09:00", description="business time at which a new folder begins")
    database: SecretStr | None = Field(
        None,
        description="PostgreSQL URL of the service's own database and role, {service} stands for its name; "
        "unset: SQLite in the data folder",
    )
    database_admin: SecretStr | None = Field(
        None,
        description="PostgreSQL URL of an owner, for maru migrate alone; with {service}: databases and roles exist",
    )
    kafka: str | None = Field(None, description="Kafka's bootstrap servers, as host:port,host:port")
    instance: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="name of this process; it holds leases under it",
    )
    development: bool = Field(
        False, description="the development issuer is meant: it gives anybody a token, and the clock may be shifted"
    )
    otlp: str | None = Field(None, description="OTLP/HTTP endpoint for traces, as http://host:4318; unset: no traces")
    cursor_key: SecretStr | None = Field(None, description="key that signs cursors; made with the folder where unset")
    smtp_from: str | None = Field(None, description="address that e-mail comes from; needed with smtp_url")
    smtp_seconds: float = Field(10.0, gt=0, le=15, description="longest attempt to hand over an e-mail, seconds")
    smtp_url: SecretStr | None = Field(
        None, description="mail server, smtp://user:password@host:port or smtps://...; unset: no e-mail"
    )

    @field_validator("smtp_from")
    @classmethod
    def _plain_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", value):
            raise ValueError("must be one plain address, office@domain")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _mail_server(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            if not _is_mail_server(value.get_secret_value()):
                raise ValueError("must be smtp://[user:password@]host[:port] or smtps://...")
            if "smtp_from" in info.data and info.data["smtp_from"] is None:
                raise ValueError("needs smtp_from")
        return value


def _is_mail_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Reading the port raises where it is none; its message would show a part of the URL.
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return named and parts.scheme in ("smtp", "smtps") and not parts.path.strip("/")


def load(**options: Any) -> Settings:
    """Settings from options (those that are not ``None``) and environment. Raises ``BadSetting``."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        source = "option" if name in given else f"environment MARU_{name.upper()}"
        raise BadSetting(f"{name} ({source}): {first['msg']}") from None


def explain(settings: Settings, options: dict[str, Any]) -> list[dict[str, str]]:
    """Each setting with its value (secrets masked), its source and its meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        source = "default"
        if options.get(name) is not None:
            source = "option"
        elif f"MARU_{name.upper()}" in {key.upper() for key in os.environ}:
            source = f"environment MARU_{name.upper()}"
        shown = "********" if isinstance(value, SecretStr) else str(value)
        rows.append({"name": name, "value": shown, "source": source, "meaning": field.description or ""})
    return rows
