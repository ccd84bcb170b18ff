"""``contracts/asyncapi.json`` by the official JSON Schema of its AsyncAPI version.

The schema comes in the npm package ``@asyncapi/specs`` (Apache-2.0), installed once into ``.venv``; nothing of it is
committed. Exit code 1 where the document is not valid, 0 else; without npm, or without its registry, "not run".
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from jsonschema.validators import validator_for

from shared.runtime.settings import ROOT

PACKAGE, VERSION = "@asyncapi/specs", "6.11.1"
INSTALLED = ROOT / ".venv/npm/asyncapi"
DOCUMENT = ROOT / "contracts/asyncapi.json"
MOST = 10
"""Errors that are told."""


class NotRun(Exception):
    """The check could not be made; the text says why."""


def official(specification: str, folder: Path = INSTALLED) -> dict[str, Any]:
    """The official schema of an AsyncAPI version, its package installed where it is not. Raises ``NotRun``."""
    package = folder / "node_modules" / PACKAGE
    if not _is_there(package):
        _install(folder)
    file = package / f"schemas/{specification}-without-$id.json"
    if not file.exists():
        raise NotRun(f"{PACKAGE} {VERSION} has no schema of AsyncAPI {specification}")
    schema: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return schema


def _is_there(package: Path) -> bool:
    about = package / "package.json"
    return about.exists() and json.loads(about.read_text("utf-8"))["version"] == VERSION


def _install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotRun("npm is not on the PATH")
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    command = [npm, "install", *options, f"{PACKAGE}@{VERSION}"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise NotRun("npm did not end within two minutes") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise NotRun(f"npm could not install {PACKAGE}: {said[0] if said else done.returncode}")


def errors(document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Where a document is not what the schema says, one line each."""
    found = validator_for(schema)(schema).iter_errors(document)
    return [f"{'/'.join(map(str, error.absolute_path)) or 'document'}: {error.message[:300]}" for error in found]


def main() -> int:
    """Check the committed document; exit code 1 where it is not valid."""
    document = json.loads(DOCUMENT.read_text("utf-8"))
    name = DOCUMENT.relative_to(ROOT)
    try:
        schema = official(document["asyncapi"])
    except NotRun as error:
        print(f"{name} by the official schema: not run: {error}")
        return 0
    found = errors(document, schema)
    for line in found[:MOST]:
        print(f"{name}: {line}", file=sys.stderr)
    if not found:
        print(f"{name} is valid by the official schema of AsyncAPI {document['asyncapi']}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
