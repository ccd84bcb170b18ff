"""``maru import``: suggestions from a CSV file, one command a row, restart-safe.

Each row's command id comes from (source, external id), so that a row given twice, in whatever file, is one case. Good
rows go in; each refused one gets a clear line, and all refused ones a file that can be corrected and given again.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from services.client import Maru, Problem
from shared.runtime.commands import IMPORT_KEY, derived_id

COLUMNS = ("external_id", "title", "text", "raised_by", "regions", "channel", "raised_at")
OPTIONAL = ("plan_item", "tags", "cost_band")
OFFICE = "planning-group.secretary"
"""Imports are sent by the planning group's secretary on behalf of the raising organisation (row 1)."""
WORKERS = 16


class BadFile(Exception):
    """The file cannot be read as a whole: no such file, no header, a column missing."""


@dataclass(frozen=True)
class RefusedRow:
    """A row that did not go in: where it stands, and why."""

    line: int
    external_id: str
    because: str
    rule: str | None


@dataclass
class Imported:
    """What became of a file."""

    accepted: int = 0
    refused: list[RefusedRow] = field(default_factory=list)
    refused_file: Path | None = None
    total: int = 0


def read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of a file with their line numbers. Raises ``BadFile``."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                raise BadFile(f"{path.name}: missing column {', '.join(missing)}")
            unknown = [name for name in reader.fieldnames or [] if name not in COLUMNS + OPTIONAL]
            if unknown:
                raise BadFile(f"{path.name}: unknown column {', '.join(unknown)}")
            return [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{path.name}: not a UTF-8 CSV file ({error})") from None


def body_of(row: dict[str, str]) -> dict[str, Any]:
    """The command's body for a row. Raises ``ValueError`` with a sentence where a cell cannot be."""
    if None in row or any(value is None for value in row.values()):
        raise ValueError("the row has more or fewer cells than the header")
    if not row["external_id"].strip():
        raise ValueError("external_id is empty")
    try:
        raised_at = datetime.fromisoformat(row["raised_at"].strip())
    except ValueError:
        raise ValueError("raised_at is no ISO 8601 date and time") from None
    if raised_at.tzinfo is None:
        raise ValueError("raised_at has no time zone")
    body: dict[str, Any] = {
        "external_id": row["external_id"].strip(),
        "title": row["title"].strip(),
        "text": row["text"].strip(),
        "raised_by": row["raised_by"].strip(),
        "regions": _cells(row["regions"]),
        "channel": row["channel"].strip(),
        "effective_at": raised_at.isoformat(),
        "tags": _cells(row.get("tags") or ""),
    }
    for name in ("plan_item", "cost_band"):
        if (row.get(name) or "").strip():
            body[name] = row[name].strip()
    return body


def _cells(text: str) -> list[str]:
    return [cell.strip() for cell in text.split(";") if cell.strip()]


def import_file(
    maru: Maru,
    path: Path,
    *,
    source: str = "import",
    dry_run: bool = False,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Send every row; ``told`` hears how many are done. With ``dry_run`` the gateway decides each and stores nothing.

    Raises ``BadFile``; a row's own trouble is in the result.
    """
    rows = read_rows(path)
    result = Imported(total=len(rows))
    refused_rows: list[dict[str, str]] = []
    seen: dict[str, int] = {}

    def send(row: dict[str, str]) -> None:
        body = body_of(row)
        key = IMPORT_KEY + derived_id(source, body["external_id"])
        if dry_run:
            maru.office(OFFICE).try_out("/v1/issues", body, key=key)
        else:
            maru.office(OFFICE).post("/v1/issues", body, key=key)

    for done, (line, row, outcome) in enumerate(_in_order(rows, send, seen), start=1):
        try:
            outcome.result()
            result.accepted += 1
        except ValueError as error:
            result.refused.append(RefusedRow(line, row.get("external_id") or "", str(error), None))
            refused_rows.append(row)
        except Problem as problem:
            result.refused.append(RefusedRow(line, row.get("external_id") or "", sentence(problem), problem.rule))
            refused_rows.append(row)
        told(done, len(rows))
    if refused_rows and not dry_run:
        result.refused_file = path.with_name(path.stem + ".refused.csv")
        with result.refused_file.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*COLUMNS, *OPTIONAL], extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(refused_rows)
    return result


def _in_order(
    rows: list[tuple[int, dict[str, str]]], send: Callable[[dict[str, str]], None], seen: dict[str, int]
) -> Iterator[tuple[int, dict[str, str], Future[None]]]:
    """Rows sent by a few workers, told in the file's order; a second row with one external id is refused here."""
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: list[tuple[int, dict[str, str], Future[None]]] = []
        for line, row in rows:
            name = (row.get("external_id") or "").strip()
            if name and name in seen:
                future: Future[None] = Future()
                future.set_exception(ValueError(f"external_id stands already in line {seen[name]}"))
            else:
                seen[name] = line
                future = pool.submit(send, row)
            waiting.append((line, row, future))
            if len(waiting) >= WORKERS * 4:
                yield waiting.pop(0)
        yield from waiting


def sentence(problem: Problem) -> str:
    """A refusal in one line: both languages, and which fields do not fit."""
    fields = ", ".join(f"{error['at']} ({error['because']})" for error in problem.body.get("errors") or [])
    return f"{problem.body.get('ko', '')} / {problem.body.get('en', '')}" + (f": {fields}" if fields else "")
