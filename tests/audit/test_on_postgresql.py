"""Audit, verify and the list of parked records read PostgreSQL as they read files: the same walk, the same findings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from services.__main__ import SERVICES
from services.audit import audit
from services.audit_findings import Findings
from services.client import Maru
from services.local_servers import Postgres
from services.start import prepare_folder
from services.walk import Walk
from shared.runtime import settings
from shared.runtime.databases import Databases
from shared.runtime.parked import listed, replay, shown
from shared.runtime.system import opened
from shared.runtime.verify import verify
from tests.places import on_postgresql, options

NAMES = tuple(service.name for service in SERVICES)


@dataclass(frozen=True)
class Walked:
    """Databases after one walk, what its clients were told, and what the audit said while it ran."""

    databases: Databases
    journal: Path
    running: Findings

    @contextmanager
    def changed(self, service: str, statement: str, back: str) -> Iterator[None]:
        """Rows changed as only the database's owner may, and put back in the end."""
        url = urlsplit(str(self.databases.url_of(service)))
        admin = urlsplit(str(self.databases.admin))._replace(path=url.path).geturl()
        with psycopg.connect(admin, autocommit=True, options="-c search_path=log,views") as db:
            assert db.execute(statement.encode()).rowcount == 1
            try:
                yield
            finally:
                db.execute(back.encode())


@pytest.fixture(scope="module")
def walked(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walked]:
    folder = tmp_path_factory.mktemp("walked")
    journal = folder / "journal.jsonl"
    with on_postgresql(postgres, folder / "data") as databases:
        with opened(SERVICES, settings.load(port=0, **options(databases))) as system:
            prepare_folder(system)
            url = system.serve()
            with Maru(url, journal) as maru:
                Walk(maru, dated=False).run()
            assert system.idle()
            running = audit(databases, journal, url)
        yield Walked(databases, journal, running)


def test_a_running_system_is_clean_after_a_walk(walked: Walked) -> None:
    assert walked.running.outcome == "clean", walked.running.sentence()
    assert "secret" not in walked.running.folder


def test_a_stopped_system_is_clean_and_sealed(walked: Walked) -> None:
    findings = audit(walked.databases, walked.journal, None, wait=0)
    assert findings.outcome == "clean", findings.sentence()
    verified = verify(walked.databases, NAMES)
    assert verified.clean, verified.sentence()
    assert verified.events == findings.events


PLANTED = [
    (
        "positions",
        "issues",
        "UPDATE stored_events SET slot = (slot + 1) % 12 WHERE position = 1",
        "UPDATE stored_events SET slot = (slot + 11) % 12 WHERE position = 1",
    ),
    (
        "hashes",
        "routing",
        "UPDATE stored_events SET state = state || ' '::bytea WHERE position = 5",
        "UPDATE stored_events SET state = substring(state FOR length(state) - 1) WHERE position = 5",
    ),
    (
        "heard",
        "notifications",
        "UPDATE inbox SET raw = raw || ' '::bytea WHERE source = 'issues' AND position = 2",
        "UPDATE inbox SET raw = substring(raw FOR length(raw) - 1) WHERE source = 'issues' AND position = 2",
    ),
    (
        "epochs",
        "meetings",
        "UPDATE epochs SET after_position = after_position + 1",
        "UPDATE epochs SET after_position = after_position - 1",
    ),
]


@pytest.mark.parametrize(("check", "service", "statement", "back"), PLANTED, ids=lambda value: value[:12])
def test_a_change_of_a_log_is_found_by_audit_and_verify(
    walked: Walked, check: str, service: str, statement: str, back: str
) -> None:
    with walked.changed(service, statement, back):
        assert check in {one.name for one in audit(walked.databases, None, None, wait=0).broken}
        first = verify(walked.databases, NAMES).first
    assert first is not None
    assert first.service == service


def test_a_change_of_a_read_model_is_found(walked: Walked) -> None:
    change = "UPDATE register_g1_issue SET title = title || '!'"
    with walked.changed("issues", change, "UPDATE register_g1_issue SET title = rtrim(title, '!')"):
        broken = audit(walked.databases, None, None, wait=0).broken
    assert [one.name for one in broken] == ["register/issue"]


def test_unfinished_work_is_not_idle(walked: Walked) -> None:
    waiting = "UPDATE inbox SET state = 'waiting' WHERE seq = (SELECT MIN(seq) FROM inbox)"
    done = "UPDATE inbox SET state = 'done' WHERE state = 'waiting'"
    with walked.changed("issues", waiting, done):
        findings = audit(walked.databases, None, None, wait=0)
    assert (findings.outcome, findings.checks) == ("not idle", [])
    assert "issues has 1 events that wait" in (findings.waiting_for or "")


def test_a_parked_record_is_listed_shown_and_given_back(walked: Walked) -> None:
    park = "UPDATE inbox SET state = 'parked', error = 'planted' WHERE seq = (SELECT MIN(seq) FROM inbox)"
    with walked.changed("issues", park, "UPDATE inbox SET state = 'done' WHERE state IN ('waiting', 'parked')"):
        (row,) = listed(walked.databases, SERVICES)
        document = shown(walked.databases, SERVICES, row["id"])
        given = replay(walked.databases, SERVICES, row["key"])
        assert listed(walked.databases, SERVICES) == []
    assert (row["where"], row["state"], row["cause"]) == ("reactions", "parked", "planted")
    assert document is not None
    assert document["event"]["type"] == row["type"]
    assert given == (1, 0)


def test_a_rejected_record_is_listed_and_shown_and_breaks_no_promise(walked: Walked) -> None:
    plant = (
        "INSERT INTO rejected VALUES ('maru.issues.v1', 'k1', 3, 17, 'no key', NULL, "
        '\'[["ce_type", "eA=="]]\', \'{"a": 1}\', 0)'
    )
    with walked.changed("routing", plant, "DELETE FROM rejected"):
        (row,) = listed(walked.databases, SERVICES)
        document = shown(walked.databases, SERVICES, row["id"])
        given = replay(walked.databases, SERVICES)
        findings = audit(walked.databases, None, None, wait=0)
    assert (row["id"], row["where"], row["cause"]) == ("routing/carrier/k1:maru.issues.v1:3:17", "carrier", "no key")
    assert document is not None
    assert (document["event"], document["headers"], document["bytes"]) == ({"a": 1}, {"ce_type": "x"}, 8)
    assert given == (0, 0)
    assert findings.outcome == "clean", findings.sentence()
    assert [(one.where, one.count) for one in findings.reported] == [("routing", 1)]


def test_a_database_that_does_not_answer_is_named(walked: Walked, tmp_path: Path) -> None:
    nowhere = Databases(tmp_path, "postgresql://maru:secret@127.0.0.1:9/maru_{service}")
    findings = audit(nowhere, None, None, wait=0)
    assert findings.exit_code == 1
    assert "cannot be read" in (findings.broken[0].failure or "")
    assert "secret" not in findings.sentence()
    assert verify(nowhere, NAMES).bad[0].where == "database"
