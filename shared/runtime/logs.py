"""Logs: one JSON line an event, to a file or to standard error. Offices and subject ids only, never a person's name.

An exception is told by its kind and place. What it says is not: messages of databases and of validation quote
the values that they complain of, and those are what people wrote. The whole cause of a parked event stands beside it,
in the database (``maru parked show``).
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

import structlog

TRACE: ContextVar[str | None] = ContextVar("trace", default=None)
"""The W3C trace context of the request that this task or thread works for."""

_file: TextIO | None = None
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: str, file: Path | None = None) -> None:
    """Send everything, uvicorn's and the libraries' lines too, through one pipe."""
    global _file  # noqa: PLW0603 - one pipe a process
    target, before = sys.stderr, _file
    _file = None
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        target = _file = file.open("a", encoding="utf-8", buffering=1)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _traced,
            _places,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    handler = _ToStructlog()
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    if before is not None:
        before.close()


def cause(error: BaseException) -> str:
    """What a log may tell of an exception: its kind, the kind of its cause, and where in this program it was raised.

    A server's own code (SQLSTATE) is told too; its words are not.
    """
    kinds, inner = [type(error).__name__], error.__cause__ or getattr(error, "orig", None)
    if isinstance(inner, BaseException):
        kinds.append(type(inner).__name__)
    code = getattr(error, "sqlstate", None) or getattr(inner, "sqlstate", None)
    place = next(reversed(_frames(error)), None)
    return " from ".join(kinds) + (f" {code}" if code else "") + (f" at {place}" if place else "")


def _frames(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def _places(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """In place of a traceback, which would show values: the kind of the exception and its frames."""
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["error"] = cause(error)
        event["frames"] = _frames(error)
    return event


def _traced(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """``trace`` (a W3C trace context) as ``trace_id``; absent where there is none."""
    trace = event.pop("trace", None) or TRACE.get()
    if trace is not None:
        event["trace_id"] = trace.split("-")[1]
    return event


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        details: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            details["exc_info"] = record.exc_info[1]
        # What follows the first line shows objects, and in them what an exception says.
        structlog.get_logger("maru").log(record.levelno, record.getMessage().partition("\n")[0], **details)
