"""Every setting, its default, and where its value came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
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
    cursor_key: SecretStr | None = Field(None, description="key that signs cursors; made with the folder where unset")


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
