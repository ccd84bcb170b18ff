"""A system for these tests alone: nobody else adds to its logs, so that "nothing was stored" can be seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from services.client import Maru
from services.walk import Outcome, Walk
from tests.full_form import Form, Running, Seeded


@dataclass(frozen=True)
class World:
    """A running system that has seen one walk, with what a path may name, and a plain HTTP client."""

    system: Running
    maru: Maru
    http: httpx.Client
    walk: Outcome
    ids: Mapping[str, str]
    """Path parameter → the id of something that exists."""

    def path(self, template: str, **other: str) -> str:
        """A route's path with real ids in it."""
        return template.format(**{**self.ids, **other})

    def headers(self, office: str, key: str = "key-of-a-test", version: int | None = None) -> dict[str, str]:
        """Headers of a request that whoever holds the office sends."""
        token, _ = self.maru.token(office)
        found = {"Authorization": f"Bearer {token}", "Maru-Office": office, "Idempotency-Key": key}
        return found if version is None else {**found, "If-Match": f'"{version}"'}

    def stored(self) -> dict[str, tuple[Any, ...]]:
        """What each service has stored: its last position, the number of its commands, the last docket numbers."""
        counted = "SELECT (SELECT MAX(position) FROM stored_events), (SELECT COUNT(*) FROM command)"
        return {hosted.name: tuple(hosted.log.query(counted)) for hosted in self.system.hosted}


@pytest.fixture(scope="package")
def world(form: Form, seeded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One system for all modules; audited when they are done."""
    with (
        seeded.running(form, tmp_path_factory.mktemp("http") / "data") as system,
        Maru(system.url) as maru,
        system.client() as http,
    ):
        walk = Walk(maru, dated=False).run()
        notice = maru.office("org-gangwon-hongcheon.officer").get("/v1/notices")["items"][0]["id"]
        ids = {
            "case_id": walk.case_id,
            "round": "1",
            "department": "dept-road",
            "meeting_id": walk.meetings["council-gangwon"],
            "item": "1",
            "policy_id": walk.policy_id,
            "task": "t1",
            "notice_id": notice,
            "kind": "issue",
            "id": walk.case_id,
            "year": "2023",
        }
        assert system.idle()
        yield World(system, maru, http, walk, ids)
        system.check()
