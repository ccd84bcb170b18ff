"""Each service is seeded by itself, on its own database: what a deployment's one-shot processes do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services import cli
from services.__main__ import SERVICES
from services.routing.clock import CLOCK, CLOCK_ID
from shared.runtime import logs
from shared.runtime.databases import Databases


def test_one_service_is_seeded_alone_and_routing_sets_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    places = Databases(tmp_path)
    for service in SERVICES:
        places.migrate(service)
    new: dict[str, list[int]] = {}
    for _ in range(2):
        for service in SERVICES:
            done = CliRunner().invoke(cli.app, ["seed", service.name, "--data", str(tmp_path), "--json"])
            assert done.exit_code == 0, done.output
            new.setdefault(service.name, []).append(json.loads(done.stdout)["new"])
    assert {name for name, counts in new.items() if counts[0]} == {s.name for s in SERVICES if s.seed is not None}
    assert all(counts[1] == 0 for counts in new.values())
    log = places.log("routing")
    try:
        assert log.load(CLOCK, CLOCK_ID).version == 1
    finally:
        log.close()
