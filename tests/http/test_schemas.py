"""The schema of every event is served where its records say, to whoever asks, by every gateway."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from jsonschema import Draft202012Validator

from services.generate import file_name, own_events
from shared.contracts.issues import IssueRaised
from shared.contracts.schemas import schema_path
from shared.runtime.published import schemas
from shared.runtime.settings import ROOT
from tests.http.conftest import World


def test_every_gateway_serves_every_schema_without_a_token(world: World) -> None:
    for gateway in world.system.gateways:
        with httpx.Client(base_url=gateway) as anybody:
            for cls in own_events():
                answer = anybody.get(schema_path(cls))
                assert answer.status_code == 200, (gateway, schema_path(cls))
                assert answer.headers["content-type"] == "application/schema+json"
                committed = (ROOT / "contracts/schemas" / file_name(cls)).read_text("utf-8")
                assert answer.json() == json.loads(committed)


def test_what_a_service_has_stored_fits_the_schema_that_its_record_names(world: World) -> None:
    checked: dict[str, Draft202012Validator] = {}
    types = {cls.model_fields["type"].default: cls for cls in own_events()}
    for hosted in world.system.hosted:
        for row in hosted.log.after(0, 2_000):
            if row.type not in checked:
                checked[row.type] = Draft202012Validator(world.http.get(schema_path(types[row.type])).json())
            checked[row.type].validate(json.loads(row.raw))
    assert {"IssueRaised", "CaseOpened", "DecisionRecorded", "NotificationDelivered"} <= set(checked)


@pytest.mark.parametrize(
    "path",
    [
        "/schemas/maru.issues.NoSuchEvent/v1",
        "/schemas/maru.routing.IssueRaised/v1",
        "/schemas/IssueRaised/v1",
        "/schemas/maru.issues.IssueRaised/v2",
        "/schemas/maru.issues.IssueRaised/v0",
        "/schemas/maru.issues.IssueRaised/1",
        "/schemas/maru.issues.IssueRaised/v01",
        "/schemas/maru.issues.IssueRaised/..%2F..%2F..%2Fpyproject.toml",
        "/schemas/maru.issues.IssueRaised/%00",
        f"/schemas/{'x' * 5000}/v1",
    ],
)
def test_an_unknown_type_or_version_is_a_problem(world: World, path: str) -> None:
    answer = world.http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "x" * 100 not in answer.text


def test_an_unknown_schema_says_where_the_known_ones_stand(world: World) -> None:
    problem = world.http.get("/schemas/maru.issues.NoSuchEvent/v1").json()
    assert problem["type"] == "/problems/unknown_schema"
    assert "contracts/asyncapi.json" in problem["en"]
    assert "contracts/asyncapi.json" in problem["ko"]
    assert "NoSuchEvent" not in json.dumps(problem)


def test_the_schema_of_an_earlier_version_is_its_committed_file_and_may_not_be_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(IssueRaised, "schema_version", 2)
    with pytest.raises(ValueError, match=r"earlier version is missing: .*IssueRaised\.v1\.json"):
        schemas(tmp_path)
    file = tmp_path / "IssueRaised.v1.json"
    file.write_text("{}")
    known = schemas(tmp_path)
    assert known["maru.issues.IssueRaised", "v1"] == file
    assert known["maru.issues.IssueRaised", "v2"] is IssueRaised
