"""Logs: one JSON line an event, the trace's id in it where there is one, and nothing that a person wrote or is."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import IntegrityError

from services.client import Maru
from shared.runtime import logs
from shared.runtime.declare import Facts, Recorded
from tests.full_form import Running, Seeded

MARKER = "표지-9f3a"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Lines:
    """What is logged from now on."""

    def __init__(self, file: Path) -> None:
        self._file, self._from = file, file.stat().st_size

    def text(self) -> str:
        """As it was written."""
        return self._file.read_bytes()[self._from :].decode()

    def read(self) -> list[dict[str, Any]]:
        """Each line is a JSON object with its level, time and event."""
        found = [json.loads(line) for line in self.text().splitlines()]
        assert all({"event", "level", "timestamp"} <= set(line) for line in found)
        return found


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Everything that is logged, down to debug."""
    file = tmp_path_factory.mktemp("logs") / "log.jsonl"
    logs.configure("debug", file)
    yield file
    logs.configure("error")


@pytest.fixture(scope="module")
def running(log_file: Path, seeded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with seeded.running("embedded", tmp_path_factory.mktemp("logged") / "data") as system:
        yield system


@pytest.fixture
def lines(log_file: Path) -> Lines:
    return Lines(log_file)


def test_nothing_that_a_person_wrote_or_carries_is_logged_and_the_trace_is(
    running: Running, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Maru(running.url) as maru, running.client() as http:
        token, _ = maru.token("org-gangwon.officer")
        headers = {
            "Authorization": f"Bearer {token}",
            "Maru-Office": "org-gangwon.officer",
            "Idempotency-Key": "key-marker-9f3a",
            "User-Agent": "marker-9f3a",
            "traceparent": PARENT,
        }
        body = {"title": f"{MARKER} 제목", "text": f"{MARKER} 글", "regions": ["gangwon"], "channel": "letter"}
        made = http.post("/v1/issues", json=body, headers=headers)
        assert made.status_code == 201
        assert running.idle()
        # Refused, malformed, forged, denied.
        assert http.post("/v1/issues", json={**body, "surplus": MARKER}, headers=headers).status_code == 422
        assert http.post("/v1/issues", content=f'{{"{MARKER}"'.encode(), headers=headers).status_code in (400, 415)
        forged = {**headers, "Authorization": "Bearer marker-9f3a.marker-9f3a.x"}
        assert http.post("/v1/issues", json=body, headers=forged).status_code == 401
        assert http.get("/v1/undelivered", params={"channel": "marker-9f3a"}, headers=headers).status_code == 400
        assert http.get("/v1/undelivered", headers=headers).status_code == 403
        assert http.get("/v1/marker-9f3a", headers=headers).status_code == 404
        # Faults of ours, that quote what was sent: in a reaction, then at the gateway.
        monkeypatch.setitem(running.service("routing").service.reactions.by_type, "IssueRaised", unable)
        again = {**headers, "Idempotency-Key": "key-marker-9f3a-3"}
        assert http.post("/v1/issues", json=body, headers=again).status_code == 201
        assert running.idle()
        monkeypatch.setattr(running.service("issues").log, "submit", broken)
        again = {**headers, "Idempotency-Key": "key-marker-9f3a-2"}
        assert http.post("/v1/issues", json=body, headers=again).status_code == 500
    told = lines.read()
    text = lines.text()
    for planted in (MARKER, "marker-9f3a", token, token.rpartition(".")[2]):
        assert planted not in text
    (fault,) = [line for line in told if line["event"] == "unexpected"]
    assert fault["error"].startswith("RuntimeError")
    assert fault["trace_id"] == TRACE
    parked = [line for line in told if line["event"] == "parked"]
    assert [(line["type"], line["cause"], line["trace_id"]) for line in parked] == [
        ("IssueRaised", "ValueError", TRACE)
    ]
    (denied,) = [line for line in told if line["event"] == "denied"]
    assert (denied["action"], denied["trace_id"]) == ("read_undelivered", TRACE)
    allowed = [line for line in told if line["event"] == "allowed" and line["action"] == "raise_issue"]
    assert allowed[0]["trace_id"] == TRACE


def unable(heard: Recorded, facts: Facts) -> Any:
    """In place of a reaction: an error that quotes the event."""
    raise ValueError(f"cannot work off {heard.raw.decode()}")


def broken(write: Any) -> Any:
    """In place of storing: an error that quotes the request."""
    raise RuntimeError(f"cannot store {write.commands[0].events[0].raw.decode()}")


class Person(BaseModel):
    """Something that validation complains of."""

    age: int


def test_an_exception_is_told_by_kind_and_place_alone(lines: Lines) -> None:
    logger = structlog.get_logger("maru.test")
    local = MARKER
    with pytest.raises(ValidationError) as invalid:
        Person.model_validate({"age": local})
    logger.error("failed", exc_info=invalid.value)
    try:
        raise IntegrityError("INSERT", {"name": local}, ValueError(f"Key (name)=({local}) exists"))
    except IntegrityError:
        logger.exception("failed")
        logging.getLogger("asyncio").exception("Task exception was never retrieved\nfuture: <Task %r>", local)
    told = [line for line in lines.read() if line["event"] == "failed" or line.get("logger") == "asyncio"]
    assert MARKER not in lines.text()
    assert told[0]["error"].startswith("ValidationError")
    assert told[1]["error"].startswith("IntegrityError from ValueError at test_logs.py:")
    assert told[1]["frames"]
    assert (told[2]["event"], told[2]["logger"]) == ("Task exception was never retrieved", "asyncio")


def test_a_line_names_the_trace_that_it_is_given_and_none_where_there_is_none(lines: Lines) -> None:
    logger = structlog.get_logger("maru.test")
    logger.warning("with", trace=PARENT)
    logger.warning("without", trace=None)
    first, second = (line for line in lines.read() if line["event"] in ("with", "without"))
    assert first["trace_id"] == TRACE
    assert "trace" not in first
    assert not {"trace", "trace_id"} & set(second)


def test_livez_asks_no_database_and_readyz_goes_by_the_loops(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def unasked(*_: Any) -> Any:
        raise AssertionError("a database was asked")

    with running.client() as http:
        assert http.get("/readyz").status_code == 200
        with monkeypatch.context() as patch:
            for hosted in running.hosted:
                patch.setattr(hosted.log, "query", unasked)
                patch.setattr(hosted.store, "read", unasked)
                patch.setattr(hosted.store, "connect", unasked)
            assert http.get("/livez").status_code == 200
        loop = running.service("routing").loops[0]
        monkeypatch.setattr("shared.runtime.system.SILENT_SECONDS", -1.0)
        stalled = http.get("/readyz")
        assert stalled.status_code == 503
        assert loop.name in stalled.json()["missing"]
        assert http.get("/livez").status_code == 200
