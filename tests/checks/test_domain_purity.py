"""Domain files decide from what stands in the command: no clock, no randomness, no input or output."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator

import pytest

from services.__main__ import SERVICES

DOMAIN = sorted({decider.decide.__module__ for service in SERVICES for decider in service.deciders})
ALLOWED = {"__future__", "collections", "dataclasses", "datetime", "hashlib", "pydantic", "typing", "unicodedata"}
"""What a domain file may import besides ``shared.contracts`` and ``shared.decider``: pure parts of the language."""
CLOCKS = {"now", "utcnow", "today", "fromtimestamp"}
BUILTINS = {"open", "print", "input", "eval", "exec", "compile", "__import__", "globals", "vars"}


def impure(source: str) -> Iterator[str]:
    """What a domain file does that it must not, one line each."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom():
                names = [node.module or "."]
            case ast.Call(func=ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=attr)) if attr in CLOCKS:
                yield f"line {node.lineno}: reads a clock: {attr}()"
                continue
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                yield f"line {node.lineno}: {name}()"
                continue
            case ast.Global() | ast.Nonlocal():
                yield f"line {node.lineno}: keeps something outside its state"
                continue
            case _:
                continue
        for name in names:
            pure = name.partition(".")[0] in ALLOWED or name == "shared.decider" or name.startswith("shared.contracts")
            if not pure:
                yield f"line {node.lineno}: imports {name}"


@pytest.mark.parametrize("module", DOMAIN)
def test_a_domain_file_is_pure(module: str) -> None:
    __import__(module)
    assert list(impure(inspect.getsource(sys.modules[module]))) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import random",
        "import uuid",
        "from sqlalchemy import select",
        "from services.issues.views import register",
        "from datetime import datetime\nx = datetime.now()",
        "from datetime import date\nx = date.today()",
        "x = open('file')",
    ],
)
def test_what_is_impure_is_found(planted: str) -> None:
    assert len(list(impure(planted))) == 1
