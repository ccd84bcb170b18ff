"""How the program speaks: text for people on standard output, one JSON document for programs, trouble on the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def stop(line: str, code: int) -> NoReturn:
    """End the command with one clear line and an exit code."""
    if "--json" in sys.argv:
        print(json.dumps({"error": line, "exit_code": code}, ensure_ascii=False))  # noqa: T201
    else:
        errors.print(line, markup=False)
    sys.exit(code)


def say(document: Any, as_json: bool, text: Callable[[], None]) -> None:
    """The document, or the text, as asked."""
    if as_json:
        print(json.dumps(document, ensure_ascii=False, default=str, indent=1), flush=True)  # noqa: T201
    else:
        text()


@contextmanager
def bar(title: str, as_json: bool, total: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on standard error; says nothing with ``--json``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=as_json or not errors.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done, total: progress.update(task, completed=done, total=total)
