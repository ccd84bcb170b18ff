"""``/readyz`` of a process whose store is silent: it says so, in time, and asks once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from shared.runtime import app as application
from shared.runtime import metrics
from shared.runtime.web import HttpServer


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    monkeypatch.setattr(application, "READY_SECONDS", 0.2)
    over = threading.Event()
    yield over
    over.set()


def test_a_silent_store_is_not_ready_is_asked_once_and_may_come_back(silence: threading.Event) -> None:
    asked = []

    def ready() -> list[str]:
        asked.append(time.monotonic())
        silence.wait(30)
        return []

    server = HttpServer(application.probes(ready, metrics.Probe(lambda: ())), "127.0.0.1", 0)
    server.start()
    try:
        for _ in range(3):
            answer = httpx.get(f"{server.url}/readyz", timeout=5)
            assert (answer.status_code, answer.json()["missing"]) == (503, ["a store does not answer"])
            assert httpx.get(f"{server.url}/livez", timeout=5).status_code == 200
        assert len(asked) == 1
        silence.set()
        assert httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200
    finally:
        server.stop()


def test_a_silent_store_does_not_hold_up_the_end(silence: threading.Event) -> None:
    server = HttpServer(application.probes(lambda: [str(silence.wait(30))], metrics.Probe(lambda: ())), "127.0.0.1", 0)
    server.start()
    assert httpx.get(f"{server.url}/readyz", timeout=5).status_code == 503
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 5
