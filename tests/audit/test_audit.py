"""The audit finds nothing after a walk, and each of its checks finds the fault planted for it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from services import audit as audit_module
from services import audit_running
from services.__main__ import SERVICES
from services.audit import Check, Findings, NoData, audit, compared
from services.audit_book import Book, Files, read_logs
from services.audit_folds import SHOWN, Event, Shown
from services.client import Maru, Problem
from services.walk import Walk
from shared.runtime import settings
from shared.runtime.system import opened
from shared.runtime.verify import verify
from tests.audit.planting import Folder


@dataclass(frozen=True)
class Walked:
    """A folder after one walk, an open case and a refusal; what its clients were told; what ``/metrics`` said."""

    folder: Path
    journal: Path
    case_id: str
    open_case: str
    running: Findings
    metrics: str


@pytest.fixture(scope="module")
def walked(seeded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    folder = tmp_path_factory.mktemp("walked") / "data"
    journal = folder.with_name("journal.jsonl")
    shutil.copytree(seeded_folder, folder)
    with opened(SERVICES, settings.load(data=folder, port=0)) as system:
        url = system.serve()
        with Maru(url, journal) as maru:
            walk = Walk(maru, dated=False)
            walk.run()
            county = maru.office("org-gangwon-wonju.officer")
            raised = county.post(
                "/v1/issues", {"title": "횡성-원주 국도", "text": "확장", "regions": ["gangwon"], "channel": "letter"}
            )
            with pytest.raises(Problem):
                county.post(f"/v1/issues/{raised.id}/acceptance", version=raised.version)
            assert system.idle()
            running = audit(folder, journal, url)
            metrics = httpx.get(f"{url}/metrics").text
    return Walked(folder, journal, walk.outcome.case_id, raised.id, running, metrics)


@pytest.fixture
def folder(walked: Walked, tmp_path: Path) -> Folder:
    return Folder(walked.folder, tmp_path / "copy")


def found(folder: Folder, journal: Path | None = None) -> Findings:
    return audit(folder.path, journal, None, wait=0.2)


def broken(folder: Folder, journal: Path | None = None) -> dict[str, str]:
    findings = found(folder, journal)
    assert findings.outcome == "broken", findings.waiting_for
    assert findings.exit_code == 1
    return {check.name: check.failure or "" for check in findings.broken}


# Clean


def test_a_running_system_is_clean_after_a_walk(walked: Walked) -> None:
    assert walked.running.outcome == "clean", walked.running.sentence()
    assert walked.running.exit_code == 0
    looked_at = {check.name: check.count for check in walked.running.checks}
    assert {"ready", "heartbeats", "lag", "journal"} < set(looked_at)
    assert all(looked_at.values()), looked_at


def test_a_stopped_system_is_clean_and_untouched(walked: Walked, folder: Folder) -> None:
    before = {path: path.read_bytes() for path in sorted(folder.path.rglob("*.db"))}
    findings = found(folder, walked.journal)
    assert findings.outcome == "clean", findings.sentence()
    assert findings.document()["exit_code"] == 0
    assert json.loads(json.dumps(findings.document()))["first"] is None
    assert {path: path.read_bytes() for path in before} == before


def test_an_orderly_stop_leaves_everything_in_the_files(walked: Walked) -> None:
    """Nothing stands in a write-ahead log beside them: a copy of the files is a copy of the data."""
    assert not [path for path in walked.folder.rglob("*-wal") if path.stat().st_size]


def test_a_folder_without_databases_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(NoData):
        audit(tmp_path, None, None)


def test_an_absent_journal_is_no_finding(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(NoData):
        audit(folder.path, tmp_path / "none.jsonl", None)


def test_progress_is_told(folder: Folder) -> None:
    told: list[tuple[int, int]] = []
    audit(folder.path, None, None, told=lambda done, total: told.append((done, total)))
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] > 20


def test_the_audit_imports_no_decider_and_no_view() -> None:
    """A second opinion: it shares the name space of command ids, and how databases and topics are found and read."""
    imported = set()
    for module in Path(audit_module.__file__).parent.glob("audit*.py"):
        tree = ast.parse(module.read_text())
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        assert not [
            name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for name in node.names
            if name.name.startswith(("services", "shared"))
        ]
    ours = {name for name in imported if name.startswith("shared")}
    reading = {"shared.runtime.reading", "shared.runtime.databases"}
    topics = {"shared.runtime.brokers", "shared.runtime.kafka", "shared.runtime.records"}
    assert ours == {"shared.runtime.commands", *reading, *topics}
    others = {name for name in imported if name.startswith("services.") and not name.startswith("services.audit")}
    assert not others


# Not idle


NOT_IDLE = [
    ("issues", "UPDATE inbox SET state = 'waiting' WHERE seq = 1", "wait for their reaction"),
    (
        "routing",
        "UPDATE mark SET position = 1 WHERE source = 'meetings' AND position = "
        "(SELECT MAX(position) FROM mark WHERE source = 'meetings')",
        "has not answered all of meetings",
    ),
]


@pytest.mark.parametrize(("service", "statement", "why"), NOT_IDLE)
def test_unfinished_work_is_not_idle(folder: Folder, service: str, statement: str, why: str) -> None:
    folder.change(service, statement)
    findings = found(folder)
    assert (findings.outcome, findings.exit_code, findings.checks) == ("not idle", 2, [])
    assert why in (findings.waiting_for or "")
    assert why in findings.sentence()


def test_an_unfolded_event_is_not_idle(folder: Folder) -> None:
    folder.change_view(
        "meetings",
        "UPDATE view_mark SET position = position - 1 "
        "WHERE view = 'waiting_list' AND source = 'meetings' AND slot = -1",
    )
    findings = found(folder)
    assert findings.exit_code == 2
    assert "waiting_list" in (findings.waiting_for or "")


# Each check of the logs can fail


@pytest.mark.parametrize("name", ["log.db", "views.db"])
def test_a_file_that_cannot_be_read_is_named(folder: Folder, name: str) -> None:
    path = folder.path / "meetings" / name
    path.with_name(f"{name}-wal").unlink(missing_ok=True)
    raw = bytearray(path.read_bytes())
    raw[:16] = b"no database here"
    path.write_bytes(raw)
    assert "not a database" in broken(folder)["files"]


def test_hashes_names_a_flipped_byte(folder: Folder) -> None:
    with folder.log("issues") as db:
        position, raw = db.execute("SELECT position, state FROM stored_events LIMIT 1").fetchone()
        at = raw.index(b"title") + 10
        flipped = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        db.execute("UPDATE stored_events SET state = ? WHERE position = ?", (flipped, position))
    findings = found(folder)
    assert findings.broken[0].name == "hashes"
    assert f"issues position {position} " in (findings.broken[0].failure or "")


def test_hashes_names_an_event_moved_to_another_stream(folder: Folder) -> None:
    folder.change("issues", "UPDATE stored_events SET originator_id = 'Issue/other' WHERE position = 1")
    assert "is not as it was stored" in broken(folder)["hashes"]


def test_I2_versions_names_a_hole(folder: Folder) -> None:
    folder.change("issues", "UPDATE stored_events SET originator_version = 90 WHERE position = 2")
    assert "issues position 2" in broken(folder)["versions"]


def test_I2_positions_names_a_lost_event(folder: Folder) -> None:
    folder.change("meetings", "DELETE FROM stored_events WHERE position = 30")
    assert "should be position 30" in broken(folder)["positions"]


def test_I2_chain_names_a_wrong_predecessor(folder: Folder) -> None:
    folder.change("routing", "UPDATE stored_events SET prev = prev + 1 WHERE position = 40")
    assert "routing position 40" in broken(folder)["chain"]


def test_I2_chain_names_a_wrong_slot_head(folder: Folder) -> None:
    with folder.log("notifications") as db:
        db.execute("UPDATE slot_head SET position = position - 1")
    assert "slot heads of notifications" in broken(folder)["chain"]


def test_I1_answers_names_an_event_without_command(folder: Folder) -> None:
    with folder.log("issues") as db:
        (command_id,) = db.execute(
            "SELECT command_id FROM command WHERE CAST(body AS TEXT) LIKE '%IssueRaised%' LIMIT 1"
        ).fetchone()
    folder.change("issues", "DELETE FROM command WHERE command_id = ?", command_id)
    assert "belongs to 0 commands" in broken(folder)["answers"]


def test_I1_answers_names_a_command_that_stored_nothing(folder: Folder) -> None:
    told = {"event_id": str(uuid.uuid4()), "type": "IssueAccepted", "position": 3}
    answer = json.dumps({"id": "x", "version": 1, "events": [told], "position": ""})
    folder.change("issues", "INSERT INTO command VALUES ('planted', '', 200, ?, '', '')", answer.encode())
    assert "command planted of issues" in broken(folder)["answers"]


# I1: the journal


def _journal(walked: Walked, tmp_path: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    lines = [json.loads(line) for line in walked.journal.read_text().splitlines()]
    change(lines)
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _accepted(lines: list[dict[str, Any]]) -> dict[str, Any]:
    return next(line for line in lines if line.get("key") and line["outcome"] == "accepted")


def test_I1_journal_names_an_acknowledged_command_that_is_not_stored(
    walked: Walked, folder: Folder, tmp_path: Path
) -> None:
    journal = _journal(walked, tmp_path, lambda lines: lines.append({**_accepted(lines), "key": "never-stored"}))
    number = len(journal.read_text().splitlines())
    assert f"line {number} of the journal: POST /v1/issues was accepted" in broken(folder, journal)["journal"]


def test_I1_journal_names_another_answer(walked: Walked, folder: Folder, tmp_path: Path) -> None:
    journal = _journal(walked, tmp_path, lambda lines: _accepted(lines)["answer"].update(version=9))
    assert "another answer" in broken(folder, journal)["journal"]


def test_I1_journal_names_a_refused_command_that_is_stored(walked: Walked, folder: Folder, tmp_path: Path) -> None:
    journal = _journal(
        walked, tmp_path, lambda lines: _accepted(lines).update(outcome="refused", status=409, answer=None)
    )
    assert "was refused, but it is stored" in broken(folder, journal)["journal"]


@pytest.mark.parametrize("stored", [True, False])
def test_I1_an_unknown_outcome_may_be_stored_or_not(
    walked: Walked, folder: Folder, tmp_path: Path, stored: bool
) -> None:
    def forget(lines: list[dict[str, Any]]) -> None:
        line = _accepted(lines)
        line.update(outcome="unknown", status=None, answer=None, **({} if stored else {"key": "never-stored"}))

    assert found(folder, _journal(walked, tmp_path, forget)).outcome == "clean"


def test_I1_half_a_last_line_was_not_waited_for(walked: Walked, folder: Folder, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text(walked.journal.read_text() + '{"subject": "u-00')
    assert found(folder, journal).outcome == "clean"


def test_a_journal_that_is_none_cannot_be_checked(folder: Folder, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text("no json\nat all\n")
    assert "could not be checked" in broken(folder, journal)["journal"]


# I4: consumers


def test_I4_heard_names_a_lost_inbox_row(folder: Folder) -> None:
    folder.change("notifications", "DELETE FROM inbox WHERE source = 'issues' AND position = 1")
    assert "notifications has never heard IssueRaised of issues at 1" in broken(folder)["heard"]


def test_I4_heard_names_a_lost_row_of_an_own_reaction(folder: Folder) -> None:
    position = folder.events("meetings", "DecisionRecorded")[0]["position"]
    folder.change("meetings", "DELETE FROM inbox WHERE source = 'meetings' AND position = ?", position)
    assert "meetings has never heard DecisionRecorded" in broken(folder)["heard"]


def test_I4_heard_names_a_changed_copy(folder: Folder) -> None:
    folder.change("routing", "UPDATE inbox SET raw = raw || ' ' WHERE source = 'issues' AND position = 1")
    assert "otherwise than it is stored" in broken(folder)["heard"]


def test_I4_heard_names_an_invented_row(folder: Folder) -> None:
    folder.change("routing", "UPDATE inbox SET position = 99999 WHERE source = 'issues' AND position = 1")
    failures = broken(folder)
    assert "never heard" in failures["heard"]


def test_I4_heard_names_a_parked_row(folder: Folder) -> None:
    folder.change("issues", "UPDATE inbox SET state = 'parked' WHERE seq = 5")
    assert "in the state parked" in broken(folder)["heard"]


def test_I4_marks_names_a_view_that_skipped(folder: Folder) -> None:
    with folder.views("issues") as db:
        db.execute(
            "UPDATE view_mark SET position = position - 1 WHERE view = 'position' AND source = 'routing' AND slot >= 0"
        )
    assert "the view position of issues has marks in routing" in broken(folder)["marks"]


def test_I4_marks_names_a_parked_fold(folder: Folder) -> None:
    folder.change_view("issues", "INSERT INTO view_parked VALUES ('register', 'issues', 1, 2, 'key', 'KeyError')")
    assert "the view register of issues has parked issues at 2" in broken(folder)["marks"]


def test_I4_reactions_names_an_effect_under_another_command_id(folder: Folder) -> None:
    with folder.log("routing") as db:
        (command_id,) = db.execute(
            "SELECT command_id FROM command WHERE CAST(body AS TEXT) LIKE '%CaseOpened%' LIMIT 1"
        ).fetchone()
    folder.change("routing", "UPDATE command SET command_id = 'by-hand' WHERE command_id = ?", command_id)
    assert "CaseOpened" in broken(folder)["reactions"]


def test_I4_reactions_names_a_cause_that_is_nowhere(walked: Walked, folder: Folder) -> None:
    opened = folder.events("routing", "CaseOpened")[0]
    nowhere = str(uuid.uuid4())
    folder.append(
        "routing", f"Case/{walked.case_id}", "CaseOpened", opened["data"], case_id=walked.case_id, causation_id=nowhere
    )
    assert nowhere in broken(folder)["reactions"]


def test_I4_opened_names_a_case_opened_twice(walked: Walked, folder: Folder) -> None:
    opened = folder.events("routing", "CaseOpened")[0]
    case_id = opened["case_id"]
    folder.append("routing", f"Case/{case_id}", "CaseOpened", opened["data"], case_id=case_id)
    assert broken(folder)["opened"] == f"the issue {case_id} was opened 2 times as a case"


def test_I4_opened_names_an_issue_without_case(folder: Folder) -> None:
    raised = folder.events("issues", "IssueRaised")[0]
    case_id = str(uuid.uuid4())
    folder.append("issues", f"Issue/{case_id}", "IssueRaised", raised["data"], case_id=case_id)
    assert broken(folder)["opened"] == f"the issue {case_id} was opened 0 times as a case"


def test_I4_rounds_names_a_second_round_of_one_move(walked: Walked, folder: Folder) -> None:
    first = folder.events("issues", "JointReviewOpened")[0]
    folder.append(
        "issues",
        f"JointReview/{walked.case_id}.2",
        "JointReviewOpened",
        {**first["data"], "round": 2},
        case_id=walked.case_id,
        causation_id=first["causation_id"],
    )
    assert "opened 2 rounds of review" in broken(folder)["rounds"]


def test_I4_rounds_names_a_policy_adopted_twice(folder: Folder) -> None:
    adopted = folder.events("meetings", "PolicyAdopted")[0]
    folder.append("meetings", f"Policy/{adopted['aggregate_id']}", "PolicyAdopted", adopted["data"])
    assert "adopted 2 policies" in broken(folder)["rounds"]


def test_I4_dispatches_names_a_duplicate(folder: Folder) -> None:
    sent = folder.events("notifications", "NotificationRequested")[0]
    for event in (sent, folder.events("notifications", "NotificationDelivered")[0]):
        folder.append("notifications", "Dispatch/again", event["type"], event["data"], case_id=sent["case_id"])
    assert (
        f"{sent['data']['office']} is told of {sent['data']['about']} over inbox 2 times"
        in broken(folder)["dispatches"]
    )


def test_I9_attempted_names_what_was_never_delivered(folder: Folder) -> None:
    sent = folder.events("notifications", "NotificationRequested")[0]
    folder.append("notifications", "Dispatch/new", "NotificationRequested", {**sent["data"], "office": "forum.chair"})
    assert "the inbox notice to forum.chair" in broken(folder)["attempted"]


# What users feel


@pytest.mark.parametrize(
    ("event_type", "named"),
    [
        ("CaseRouted", "IssueAccepted"),
        ("EscalatedToSupportGroup", "IssueReviewed"),
        ("EscalatedToForum", "DecisionRecorded"),
        ("CaseLinkedToPolicy", "PolicyAdopted"),
    ],
)
def test_moves_names_a_decision_without_move(folder: Folder, event_type: str, named: str) -> None:
    move = folder.events("routing", event_type)[0]
    folder.rewrite("routing", move["position"], lambda data: data.update(cause=str(uuid.uuid4())))
    failure = broken(folder)["moves"]
    assert failure.startswith(named)
    assert "has 0 moves" in failure


def test_moves_names_an_assignment_without_owner(folder: Folder) -> None:
    assigned = folder.events("routing", "ImplementationAssigned")[0]
    folder.rewrite("routing", assigned["position"], lambda data: data.update(cause=str(uuid.uuid4())))
    assert "gave the case 0 owners" in broken(folder)["moves"]


def test_moves_names_an_adoption_that_forgets_its_case(folder: Folder) -> None:
    adopted = folder.events("meetings", "PolicyAdopted")[0]
    folder.rewrite("meetings", adopted["position"], lambda data: data.update(cases=[]))
    assert "adopted no policy that answers its case" in broken(folder)["moves"]


@pytest.mark.parametrize(
    ("event_type", "check"), [("DecisionRecorded", "decisions told"), ("ReceiptIssued", "raisers told")]
)
def test_I8_a_dropped_delivery_is_named(folder: Folder, event_type: str, check: str) -> None:
    about = folder.events({"DecisionRecorded": "meetings"}.get(event_type, "issues"), event_type)[0]
    raisers = [
        event
        for event in folder.events("notifications", "NotificationDelivered")
        if event["data"]["about"] == about["event_id"]
    ]
    for event in raisers:
        folder.rewrite("notifications", event["position"], lambda data: data.update(about=str(uuid.uuid4())))
    assert f"was not told of {event_type}" in broken(folder)[check]


@pytest.mark.parametrize(
    ("service", "event_type"), [("routing", "EscalatedToForum"), ("issues", "DepartmentConsulted")]
)
def test_turns_told_names_an_office_that_does_not_know(folder: Folder, service: str, event_type: str) -> None:
    about = folder.events(service, event_type)[0]["event_id"]
    for event in folder.events("notifications", "NotificationDelivered"):
        if event["data"]["about"] == about:
            folder.rewrite("notifications", event["position"], lambda data: data.update(about=str(uuid.uuid4())))
    assert f"was not told of {event_type}" in broken(folder)["turns told"]


@pytest.mark.parametrize("lost", ["office", "due"])
def test_I_22_responsible_names_an_open_case_without(walked: Walked, folder: Folder, lost: str) -> None:
    last = next(e for e in folder.events("routing", "CaseOpened") if e["case_id"] == walked.open_case)
    folder.rewrite("routing", last["position"], lambda data: data["holding"].update({lost: ""}))
    assert walked.open_case in broken(folder)["responsible"]


def test_I_2_holdings_names_a_gap(folder: Folder) -> None:
    escalated = folder.events("routing", "EscalatedToForum")[0]
    folder.rewrite("routing", escalated["position"], lambda data: data.update(from_body="council-seoul"))
    assert "takes the case from council-seoul, but support-group has it" in broken(folder)["holdings"]


def test_I_2_holdings_names_time_that_runs_backwards(walked: Walked, folder: Folder) -> None:
    closed = folder.events("routing", "CaseClosed")[0]
    before = datetime.fromisoformat(closed["recorded_at"]) - timedelta(days=9)
    folder.append(
        "routing",
        f"Case/{walked.case_id}",
        "ImplementationReported",
        {"text": "-", "evidence": []},
        case_id=walked.case_id,
        recorded_at=before.isoformat(),
    )
    assert "earlier than what came before it" in broken(folder)["holdings"]


@pytest.mark.parametrize("event_type", ["CaseRouted", "EscalatedToForum", "CaseClosed"])
def test_by_right_names_a_move_without_cause(folder: Folder, event_type: str) -> None:
    move = folder.events("routing", event_type)[0]
    folder.rewrite("routing", move["position"], lambda data: data.update(cause=str(uuid.uuid4())))
    assert broken(folder)["by right"].startswith(f"{event_type} of routing at {move['position']} was caused by")


def test_by_right_names_an_event_without_authority(walked: Walked, folder: Folder) -> None:
    folder.append(
        "routing",
        f"Case/{walked.case_id}",
        "ImplementationReported",
        {"text": "-", "evidence": []},
        case_id=walked.case_id,
        authority=None,
    )
    assert "names no authority" in broken(folder)["by right"]


def test_I6_edges_names_a_move_without_an_open_edge(folder: Folder) -> None:
    escalated = folder.events("routing", "EscalatedToSupportGroup")[0]
    folder.rewrite("routing", escalated["position"], lambda data: data["holding"].update(body="forum", tier="R5"))
    assert "goes from planning-group to forum: no edge" in broken(folder)["along edges"]


def test_I6_edges_names_another_tier_than_the_body_has(folder: Folder) -> None:
    escalated = folder.events("routing", "EscalatedToForum")[0]
    folder.rewrite("routing", escalated["position"], lambda data: data["holding"].update(tier="R4"))
    assert "puts the case at R4, its body is at R5" in broken(folder)["along edges"]


def test_escalations_names_a_case_that_the_new_body_does_not_see(walked: Walked, folder: Folder) -> None:
    escalated = folder.events("routing", "EscalatedToForum")[0]
    folder.append(
        "routing",
        f"Case/{walked.open_case}",
        "EscalatedToForum",
        escalated["data"],
        case_id=walked.open_case,
        causation_id=escalated["causation_id"],
    )
    assert "brought the case to forum, where it neither waits nor is placed" in broken(folder)["escalations"]


def test_I7_conserved_names_an_issue_that_is_nowhere(folder: Folder) -> None:
    raised = folder.events("issues", "IssueRaised")[0]
    case_id = str(uuid.uuid4())
    folder.append("issues", f"Issue/{case_id}", "IssueRaised", raised["data"], case_id=case_id)
    assert broken(folder)["conserved"].startswith("all regions: 3 raised, but there are")


def test_I7_conserved_names_a_case_counted_in_another_region(folder: Folder) -> None:
    opened = folder.events("routing", "CaseOpened")[0]
    folder.rewrite("routing", opened["position"], lambda data: data["regions"][0].update(region="jeju"))
    assert "gangwon: 2 raised, but there are 1" in broken(folder)["conserved"]


def test_I9_a_notice_given_up_needs_a_reason(folder: Folder) -> None:
    sent = folder.events("notifications", "NotificationRequested")[0]
    told = {**sent["data"], "channel": "email", "office": "forum.chair"}
    up = {"about": told["about"], "office": "forum.chair", "channel": "email", "attempts": 1, "detail": "550"}
    folder.append("notifications", "Dispatch/mail", "NotificationRequested", told, case_id=sent["case_id"])
    folder.append(
        "notifications", "Dispatch/mail", "NotificationGivenUp", {**up, "reason": ""}, case_id=sent["case_id"]
    )
    assert "the email notice to forum.chair" in broken(folder)["attempted"]


def test_I9_a_notice_that_is_tried_again_is_told(folder: Folder) -> None:
    sent = folder.events("notifications", "NotificationRequested")[0]
    told = {**sent["data"], "channel": "email", "office": "forum.chair"}
    failed = {"about": told["about"], "office": "forum.chair", "channel": "email", "attempt": 1, "detail": "451"}
    folder.append("notifications", "Dispatch/mail", "NotificationRequested", told, case_id=sent["case_id"])
    folder.append(
        "notifications",
        "Dispatch/mail",
        "NotificationFailed",
        {**failed, "attempted_at": "2026-01-01T00:00:00Z", "next_attempt_at": "2026-01-01T00:05:00Z"},
        case_id=sent["case_id"],
    )
    findings = found(folder)
    assert "attempted" not in {check.name for check in findings.broken}
    assert [(one.where, one.count) for one in findings.reported] == [("notifications", 1)]


# I10: epochs, and nobody ahead


def test_I10_epochs_names_a_table_that_does_not_begin_with_the_log(folder: Folder) -> None:
    folder.change("issues", "UPDATE epochs SET after_position = 1")
    assert "does not begin with its log" in broken(folder)["epochs"]


def test_I10_epochs_names_a_log_that_writes_in_another_epoch(folder: Folder) -> None:
    folder.change("routing", "UPDATE meta SET value = '7' WHERE name = 'epoch'")
    assert "routing writes in epoch 7" in broken(folder)["epochs"]


def test_I10_ahead_names_reactions_beyond_their_source(folder: Folder) -> None:
    with folder.log("routing") as db:
        db.execute("UPDATE mark SET position = position + 100 WHERE source = 'meetings'")
    assert "the reactions of routing stands at position" in broken(folder)["ahead"]


def test_I10_ahead_names_an_epoch_that_the_source_never_had(folder: Folder) -> None:
    folder.change("routing", "INSERT INTO mark VALUES ('meetings', 7, 3, 2)")
    assert "epoch 7 of meetings, which that log never had" in broken(folder)["ahead"]


def test_I10_ahead_names_a_log_put_back_to_an_earlier_moment(folder: Folder) -> None:
    """Restored, and no new epoch: the others know more than the log does."""
    with folder.log("meetings") as db:
        last = db.execute("SELECT MAX(position) FROM stored_events").fetchone()[0]
        for table in ("stored_events", "slot_head"):
            db.execute(f"DELETE FROM {table} WHERE position > ?", (last // 2,))
    with folder.views("meetings") as db:
        db.execute("UPDATE view_mark SET position = ? WHERE source = 'meetings' AND slot = -1", (last // 2,))
    assert "but that log ends at" in broken(folder)["ahead"]


def test_I10_copies_of_what_a_restore_took_are_counted_and_break_nothing(folder: Folder) -> None:
    with folder.log("notifications") as db:
        epoch = db.execute("SELECT epoch FROM inbox WHERE source = 'issues' LIMIT 1").fetchone()[0]
        last = db.execute("SELECT MAX(position) FROM inbox WHERE source = 'issues'").fetchone()[0]
        columns = "source, epoch, slot, prev, key, type, case_id, state, first_seen, raw"
        db.execute(
            f"INSERT INTO inbox (position, {columns}) SELECT {last + 5}, {columns} FROM inbox "
            "WHERE source = 'issues' AND position = ?",
            (last,),
        )
        seq = db.execute("SELECT MAX(seq) FROM inbox").fetchone()[0]
    with folder.views("notifications") as db:
        db.execute("UPDATE view_mark SET position = ? WHERE source = 'inbox' AND slot = -1", (seq,))
    assert "heard" in broken(folder)
    with folder.log("issues") as db:
        db.execute("INSERT INTO epochs VALUES (?, (SELECT MAX(position) FROM stored_events), 9e9)", (epoch + 1,))
        db.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (str(epoch + 1),))
    findings = found(folder)
    assert findings.outcome == "clean", findings.sentence()
    assert [(one.where, one.count) for one in findings.reported] == [("notifications", 1)]
    assert verify(folder.path, [service.name for service in SERVICES]).lost == 1


# I11: reads in the journal


def _read_line(walked: Walked, **line: Any) -> dict[str, Any]:
    """A read of the raised issue with the token of its raising, as it should have been answered."""
    raised = _accepted([json.loads(text) for text in walked.journal.read_text().splitlines()])["answer"]
    token = raised["position"]
    good = {"method": "GET", "path": f"/v1/issues/{raised['id']}", "status": 200, "sent": token, "position": token}
    return {**good, "etag": '"2"', "office": "forum.chair", "subject": "u", "outcome": "accepted", **line}


def test_I11_a_read_as_of_its_token_is_no_finding(walked: Walked, folder: Folder, tmp_path: Path) -> None:
    journal = _journal(walked, tmp_path, lambda lines: lines.append(_read_line(walked)))
    findings = found(folder, journal)
    assert findings.outcome == "clean", findings.sentence()
    assert next(check for check in findings.checks if check.name == "reads").count >= 2


def test_I11_reads_names_one_that_was_answered_too_old(walked: Walked, folder: Folder, tmp_path: Path) -> None:
    old = _read_line(walked)["position"].rpartition(":")[0] + ":0"
    journal = _journal(walked, tmp_path, lambda lines: lines.append(_read_line(walked, position=old)))
    assert "was answered as of 0, before" in broken(folder, journal)["reads"]


def test_I11_reads_names_an_old_version(walked: Walked, folder: Folder, tmp_path: Path) -> None:
    journal = _journal(walked, tmp_path, lambda lines: lines.append(_read_line(walked, etag='"1"')))
    assert "was answered version 1, written was 2" in broken(folder, journal)["reads"]


def test_I11_reads_names_another_service_that_had_not_yet_reacted(
    walked: Walked, folder: Folder, tmp_path: Path
) -> None:
    opened = folder.events("routing", "CaseOpened")[0]
    with folder.log("routing") as db:
        epoch, slot = db.execute(
            "SELECT epoch, slot FROM stored_events WHERE position = ?", (opened["position"],)
        ).fetchone()
    before = f"routing:{epoch}:{slot}:{opened['position'] - 1}"
    raising = folder.events("issues", "IssueRaised")[0]
    with folder.log("issues") as db:
        place = db.execute(
            "SELECT epoch, slot, position FROM stored_events WHERE position = ?", (raising["position"],)
        ).fetchone()
    token = ":".join(map(str, ("issues", *place)))
    line = _read_line(walked, path=f"/v1/cases/{opened['case_id']}", sent=token, position=before, etag=None)
    journal = _journal(walked, tmp_path, lambda lines: lines.append(line))
    assert f"before CaseOpened at {opened['position']}" in broken(folder, journal)["reads"]


def test_parked_and_rejected_records_are_told_by_cause(folder: Folder) -> None:
    folder.change("issues", "UPDATE inbox SET state = 'parked', error = 'planted' WHERE seq = 5")
    folder.change("routing", "INSERT INTO rejected VALUES ('maru.issues.v1', 'k', 0, 7, 'no key', NULL, '[]', NULL, 0)")
    told = {(one.where, one.what): one.count for one in found(folder).reported}
    assert told == {
        ("issues", "parked by its reactions: planted"): 1,
        ("routing", "records of maru.issues.v1 rejected by its carrier: no key"): 1,
    }


# I5: each compared column of each read model


def _table(folder: Folder, shown: Shown) -> str:
    with folder.views(shown.service) as db:
        (generation,) = db.execute("SELECT generation FROM view_pointer WHERE view = ?", (shown.view,)).fetchone()
    return f"{shown.view}_g{generation}_{shown.table}"


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: f"{shown.view}/{shown.table}")
def test_I5_every_compared_column_is_compared(folder: Folder, shown: Shown) -> None:
    table, logs = _table(folder, shown), _logs(folder)
    assert _difference(folder, shown, logs) is None
    for column in shown.columns:
        with folder.views(shown.service) as db:
            rowid, value = db.execute(f'SELECT rowid, "{column}" FROM "{table}" ORDER BY rowid LIMIT 1').fetchone()
        folder.change_view(shown.service, f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', "planted", rowid)
        assert f"another {column} than the log tells" in (_difference(folder, shown, logs) or "")
        folder.change_view(shown.service, f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', value, rowid)


def _logs(folder: Folder) -> dict[str, list[Event]]:
    with closing(Files(folder.path)) as files:
        return read_logs(files, [])


def _difference(folder: Folder, shown: Shown, logs: dict[str, list[Event]]) -> str | None:
    check = Check(shown.table, "")
    with closing(Files(folder.path)) as files:
        compared(shown)(Book(files, logs, {}, {}), check)
    return check.failure


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: f"{shown.view}/{shown.table}")
def test_I5_a_lost_row_is_named(folder: Folder, shown: Shown) -> None:
    table = _table(folder, shown)
    folder.change_view(shown.service, f'DELETE FROM "{table}" WHERE rowid = (SELECT MIN(rowid) FROM "{table}")')
    assert "is missing" in broken(folder)[f"{shown.view}/{shown.table}"]


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: f"{shown.view}/{shown.table}")
def test_I5_a_row_that_no_event_made_is_named(folder: Folder, shown: Shown) -> None:
    table = _table(folder, shown)
    with folder.views(shown.service) as db:
        names = [row[1] for row in db.execute(f'PRAGMA table_info("{table}")')]
        listed = ", ".join(f'"{name}"' for name in names)
        chosen = ", ".join("'planted'" if name == shown.key[0] else f'"{name}"' for name in names)
        db.execute(f'INSERT INTO "{table}" ({listed}) SELECT {chosen} FROM "{table}" ORDER BY rowid LIMIT 1')
    assert "nothing in the log says so" in broken(folder)[f"{shown.view}/{shown.table}"]


# I12: the running system


@contextmanager
def answering(ready: int, metrics: Callable[[], str]) -> Iterator[str]:
    """Something that answers in the system's place."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = metrics().encode()
            self.send_response(ready if self.path == "/readyz" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def running(
    monkeypatch: pytest.MonkeyPatch, folder: Path, ready: int, metrics: Callable[[], str]
) -> dict[str, str | None]:
    monkeypatch.setattr(audit_running, "BEAT_SECONDS", 0.3)
    with answering(ready, metrics) as url:
        findings = audit(folder, None, url)
    checks: dict[str, Check] = {check.name: check for check in findings.checks}
    return {name: checks[name].failure for name in ("ready", "heartbeats", "lag")}


def beating(text: str, silent: str = "") -> Callable[[], str]:
    """The metrics as they were, every loop but one turning."""
    beats = iter(range(1, 10_000))

    def now() -> str:
        beat = next(beats)
        return re.sub(
            r'(?m)^(maru_loop_heartbeat_seconds\{loop="(.+)"\}) .*$',
            lambda line: f"{line[1]} {2e9 + (0 if line[2] == silent else beat)}",
            text,
        )

    return now


def test_I12_clean(walked: Walked, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = running(monkeypatch, folder.path, 200, beating(walked.metrics))
    assert checks == {"ready": None, "heartbeats": None, "lag": None}


def test_I12_ready_names_a_system_that_is_not(walked: Walked, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = running(monkeypatch, folder.path, 503, beating(walked.metrics))
    assert "/readyz answers 503" in (checks.pop("ready") or "")
    assert checks == {"heartbeats": None, "lag": None}


def test_I12_heartbeats_names_a_silent_loop(walked: Walked, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = running(monkeypatch, folder.path, 200, beating(walked.metrics, silent="routing-reactions"))
    assert "the loop routing-reactions has not turned" in (checks["heartbeats"] or "")


def test_I12_heartbeats_names_an_absent_loop(walked: Walked, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(line for line in walked.metrics.splitlines(True) if '"meetings-views"' not in line)
    checks = running(monkeypatch, folder.path, 200, beating(text))
    assert "the loop meetings-views has not turned" in (checks["heartbeats"] or "")


@pytest.mark.parametrize(
    "gauge", ["maru_inbox_waiting", "maru_inbox_parked", "maru_log_position", "maru_view_behind_events"]
)
def test_I12_lag_names_a_gauge_that_lies(
    walked: Walked, folder: Folder, monkeypatch: pytest.MonkeyPatch, gauge: str
) -> None:
    text = re.sub(rf"(?m)^({gauge}\{{.*\}}) .*$", r"\1 7777", walked.metrics)
    assert gauge in (running(monkeypatch, folder.path, 200, beating(text))["lag"] or "")


def test_I12_a_system_that_does_not_answer_is_named(folder: Folder) -> None:
    findings = audit(folder.path, None, "http://127.0.0.1:9")
    assert "does not answer" in (findings.broken[0].failure or "")
