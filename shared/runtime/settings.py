"""Every setting, its default, and where its value came from."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[2]


class BadSetting(Exception):
    """A setting that cannot be: names it, its source and what is allowed."""


class Settings(BaseSettings):
    """Read from command-line options, the environment (``MARU_…``), then files of ``secrets``; the first one wins."""

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
    kafka_protocol: Literal["plaintext", "ssl", "sasl_ssl"] = Field(
        "plaintext",
        description="how Kafka is spoken to: plaintext (brokers on this machine only), ssl (TLS) or sasl_ssl "
        "(TLS with user and password)",
    )
    kafka_ca: Path | None = Field(
        None, description="PEM file of who signed the brokers' certificates; unset: those that this machine trusts"
    )
    kafka_cert: Path | None = Field(None, description="PEM file of this client's certificate; with kafka_key")
    kafka_key: Path | None = Field(None, description="PEM file of this client's key; with kafka_cert")
    kafka_user: str | None = Field(None, description="user for sasl_ssl (SCRAM-SHA-512); with kafka_password")
    kafka_password: SecretStr | None = Field(None, description="password for sasl_ssl; with kafka_user")
    instance: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="name of this process; it holds leases under it",
    )
    development: bool = Field(
        False, description="the development issuer is meant: it gives anybody a token, and the clock may be shifted"
    )
    otlp: str | None = Field(None, description="OTLP/HTTP endpoint for traces, as http://host:4318; unset: no traces")
    cursor_key: SecretStr | None = Field(None, description="key that signs cursors; made with the folder where unset")
    secrets: str | None = Field(
        None,
        description="folders, separated by ':', with a file for each secret, named as its variable (maru_database); "
        "variables win",
    )
    smtp_from: str | None = Field(None, description="address that e-mail comes from; needed with smtp_url")
    smtp_seconds: float = Field(10.0, gt=0, le=15, description="longest attempt to hand over an e-mail, seconds")
    smtp_url: SecretStr | None = Field(
        None, description="mail server, smtp://user:password@host:port or smtps://...; unset: no e-mail"
    )

    @field_validator("kafka")
    @classmethod
    def _brokers(cls, value: str | None) -> str | None:
        if value is not None and not all(_HOST_PORT.fullmatch(one.strip()) for one in value.split(",")):
            raise ValueError("must be host:port, or several of them separated by commas")
        return value

    @field_validator("database", "database_admin")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_database(value.get_secret_value()):
            raise ValueError("must be postgresql://user:password@host:port/database")
        return value

    @field_validator("otlp")
    @classmethod
    def _collector(cls, value: str | None) -> str | None:
        if value is not None and not _is_url(value, ("http", "https")):
            raise ValueError("must be http://host:port or https://...")
        return value

    @field_validator("start")
    @classmethod
    def _moment(cls, value: str) -> str:
        try:
            zoned = datetime.fromisoformat(value).tzinfo is not None
        except ValueError:
            zoned = False
        if not zoned:
            raise ValueError("must be a moment with its zone, as 2023-01-04T09:00:00+09:00")
        return value

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


_HOST_PORT = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


def _is_url(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        # Reading the port raises where it is none; its message would show a part of the URL.
        return bool(parts.hostname) and (parts.port is None or parts.port > 0) and parts.scheme in schemes
    except ValueError:
        return False


def _is_mail_server(url: str) -> bool:
    return _is_url(url, ("smtp", "smtps")) and not urlsplit(url).path.strip("/")


def _is_database(url: str) -> bool:
    return _is_url(url, ("postgresql", "postgres")) and len(urlsplit(url).path) > 1


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this very machine, as far as it can be told without asking anybody."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    inner = getattr(address, "ipv4_mapped", None) or address
    return bool(inner.is_loopback or inner.is_unspecified)


KNOWN_TO_ALL = frozenset(
    {"", "admin", "changeit", "changeme", "default", "example", "guest", "kafka", "maru", "pass", "passw0rd"}
    | {"password", "postgres", "root", "secret", "test", "user", "12345678", "123456", "1234"}
)
"""Passwords that images, examples and guides come with. Compared without case and without what joins words."""


def is_default_password(password: str, user: str | None) -> bool:
    """Whether anybody would try this password first: known to all, or the user's own name."""
    plain = re.sub(r"[-_. ]", "", password).lower()
    return plain in KNOWN_TO_ALL or password.lower() == (user or "").lower()


def _contradictions(settings: Settings) -> Iterator[tuple[str, str]]:
    """What each setting allows and all of them together do not, or must not outside one machine: name and sentence."""
    protocol, tls = settings.kafka_protocol, settings.kafka_protocol != "plaintext"
    for name in ("kafka_ca", "kafka_cert", "kafka_key", "kafka_user", "kafka_password"):
        if getattr(settings, name) is not None and not tls:
            yield name, "says nothing over plaintext; set MARU_KAFKA_PROTOCOL to ssl or sasl_ssl"
    for one, other in (("kafka_cert", "kafka_key"), ("kafka_user", "kafka_password")):
        for has, lacks in ((one, other), (other, one)):
            if getattr(settings, has) is not None and getattr(settings, lacks) is None:
                yield lacks, f"is needed with {has}"
    if protocol == "sasl_ssl" and settings.kafka_user is None:
        yield "kafka_user", "is needed, with kafka_password, where kafka_protocol is sasl_ssl"
    if protocol == "ssl" and settings.kafka_user is not None:
        yield "kafka_user", "is for sasl_ssl; set MARU_KAFKA_PROTOCOL to that, or use kafka_cert and kafka_key"
    yield from _bad_files(settings)
    for server in (settings.kafka or "").split(","):
        host = server.strip().rpartition(":")[0]
        if settings.kafka is not None and not tls and not is_loopback(host):
            yield (
                "kafka",
                f"{host} is another machine, and plaintext shows everything to whoever listens; give the broker a TLS "
                "listener, and set MARU_KAFKA_PROTOCOL to ssl or sasl_ssl and MARU_KAFKA_CA",
            )
    for name in ("database", "database_admin"):
        secret = getattr(settings, name)
        parts = urlsplit("" if secret is None else secret.get_secret_value())
        if parts.password is None or is_loopback(parts.hostname or ""):
            continue
        if is_default_password(unquote(parts.password), unquote(parts.username or "")):
            yield name, "has a password that anybody would try first; give the role a random one, of 24 letters or more"
    password = settings.kafka_password
    if password is not None and is_default_password(password.get_secret_value(), settings.kafka_user):
        yield "kafka_password", "is one that anybody would try first; give the user a random one, of 24 letters or more"


def _bad_files(settings: Settings) -> Iterator[tuple[str, str]]:
    """Files that are named and cannot be used. They are read again whenever a client connects."""
    for name in ("kafka_ca", "kafka_cert", "kafka_key"):
        path = getattr(settings, name)
        try:
            text = "" if path is None else path.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "is no PEM file"
            yield name, f"{path} cannot be read: {why}"
            return
        if path is not None and "-----BEGIN " not in text:
            yield name, f"{path} is no PEM file"
            return
    context = ssl.create_default_context()
    if settings.kafka_ca is not None:
        try:
            context.load_verify_locations(settings.kafka_ca)
        except OSError:
            yield "kafka_ca", f"{settings.kafka_ca} holds no certificate that can be read"
    if settings.kafka_cert is not None and settings.kafka_key is not None:
        try:
            # An empty password: without one a locked key would ask at the terminal.
            context.load_cert_chain(settings.kafka_cert, settings.kafka_key, password="")
        except OSError:
            yield "kafka_key", f"{settings.kafka_key} is not the key of {settings.kafka_cert}, or is locked"


def load(**options: Any) -> Settings:
    """Settings from options (those that are not ``None``), environment and files. Raises ``BadSetting``."""
    given = {name: value for name, value in options.items() if value is not None}
    folders = _folders(given)
    try:
        settings = Settings(_secrets_dir=folders or None, **given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise bad(str(first["loc"][0]), str(first["msg"]).removeprefix("Value error, "), given) from None
    except (OSError, UnicodeDecodeError) as error:
        raise bad("secrets", f"a file cannot be read: {error}", given) from None
    for name, sentence in _contradictions(settings):
        raise bad(name, sentence, given)
    return settings


def _folders(options: Mapping[str, Any]) -> list[str]:
    found = str(options.get("secrets") or os.environ.get("MARU_SECRETS") or "")
    folders = [folder for folder in found.split(":") if folder]
    for folder in folders:
        if not Path(folder).is_dir():
            raise bad("secrets", f"{folder} is no folder", options)
    return folders


def bad(name: str, sentence: str, options: Mapping[str, Any] | None = None) -> BadSetting:
    """The one line about a setting: its name, where its value came from, what is wrong, and what it is for."""
    source = _source(name, options or {})
    where = f"not set, MARU_{name.upper()}" if source == "default" else source
    return BadSetting(f"{name} ({where}): {sentence} [{Settings.model_fields[name].description}]")


def _source(name: str, options: Mapping[str, Any]) -> str:
    variable = f"MARU_{name.upper()}"
    if options.get(name) is not None:
        return "option"
    if variable in {key.upper() for key in os.environ}:
        return f"environment {variable}"
    for folder in reversed(_folders(options)):
        for path in Path(folder).iterdir():
            if path.name.upper() == variable:
                return f"file {path}"
    return "default"


def explain(settings: Settings, options: Mapping[str, Any]) -> list[dict[str, str]]:
    """Each setting with its value (secrets masked), its source and its meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = "********" if isinstance(value, SecretStr) else str(value)
        source = _source(name, options)
        rows.append({"name": name, "value": shown, "source": source, "meaning": field.description or ""})
    return rows
