"""A tier and a rule added as rows of data, as docs/adding.md tells: no code changes, and a case walks over both.

A coordination board stands between support group and forum from 1 May 2023 on, as tier R4b; bridges concern one
department more.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.start import prepare_folder
from shared.contracts.routing import CaseMoved, CaseRouted, EscalatedToForum
from shared.runtime.settings import ROOT
from tests.full_form import Form, run
from tests.golden.play import BUDGET, OFFICER, ROAD, Play, adoption, playing

BOARD = "coordination-board"
FROM = "2023-05-01"
ROWS: dict[str, list[dict[str, str]]] = {
    "bodies": [
        {
            "body": BOARD,
            "kind": "support_group",
            "tier": "R4b",
            "ko": "균형발전조정위원회",
            "en": "Coordination Board",
            "parent": "forum",
        }
    ],
    "offices": [
        {
            "office": f"{BOARD}.secretary",
            "body": BOARD,
            "role": "secretary",
            "ko": "조정위원회 간사",
            "en": "Secretary",
        },
        {"office": f"{BOARD}.chair", "body": BOARD, "role": "chair", "ko": "조정위원장", "en": "Chair"},
        {"office": f"{BOARD}.deputy", "body": BOARD, "role": "deputy", "ko": "조정부위원장", "en": "Deputy chair"},
    ],
    "holders": [
        {"office": f"{BOARD}.secretary", "subject": "u-9001"},
        {"office": f"{BOARD}.chair", "subject": "u-9002"},
        {"office": f"{BOARD}.deputy", "subject": "u-9003"},
    ],
    "contacts": [
        {"office": f"{BOARD}.secretary", "email": f"{BOARD}.secretary@ministry.example", "locale": "ko"},
        {"office": f"{BOARD}.chair", "email": f"{BOARD}.chair@ministry.example", "locale": "ko"},
        {"office": f"{BOARD}.deputy", "email": f"{BOARD}.deputy@ministry.example", "locale": "ko"},
    ],
    "members": [
        {
            "body": BOARD,
            "seat": f"{BOARD}-seat-{n}",
            "ko": f"위원 {n}",
            "en": f"Member {n}",
            "voting": "true",
            "role": "department_head",
            "on_behalf_of": department,
        }
        for n, department in enumerate((ROAD, "dept-rail", "dept-aviation"), start=1)
    ],
    "charters": [
        {
            "body": BOARD,
            "charter": f"{BOARD}-charter",
            "version": "1",
            "quorum": "2",
            "method": "chair_after_hearing",
            "codes": "escalate;resolved;noted;postpone_next",
            "notice_days": "7",
            "decision_clause": "Charter art. 3",
        }
    ],
    "edges": [
        {"edge": "support-group.escalate-2", "body": "support-group", "to_body": BOARD, "kind": "escalate"},
        {"edge": f"{BOARD}.escalate", "body": BOARD, "to_body": "forum", "kind": "escalate"},
    ],
}
"""The rows that docs/adding.md names, file by file."""

TIER = {
    "tier": "R4b",
    "state": "at_body",
    "label": {"ko": "조정위원회 논의", "en": "At the coordination board"},
    "arrival": None,
    "clock": "board_placement",
}
RULE = {
    "row": "D-bridge",
    "when": "'bridge' in tags",
    "gives": {"department": "dept-construction-policy"},
    "source": "M test: bridges concern the Construction Policy Bureau",
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``data/`` with the rows added, and nothing else changed."""
    folder = tmp_path_factory.mktemp("reference") / "data"
    shutil.copytree(ROOT / "data", folder)
    for name, rows in ROWS.items():
        path = folder / f"{name}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns, known = list(reader.fieldnames or []), list(reader)
        for row in known:
            if row.get("edge") == "support-group.escalate":
                row["valid_to"] = FROM
        added = [{"valid_from": FROM, "source": "M test"} | row for row in rows]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows([*known, *added])
    rules: dict[str, Any] = json.loads((folder / "rules-2023.json").read_text(encoding="utf-8"))
    rules |= {"version": 2, "valid_from": FROM}
    rules["tiers"].insert(2, TIER)
    rules["clocks"].append({"clock": "board_placement", "days": 15, "unit": "working"})
    for table in rules["tables"]:
        if table["table"] == "consulted_departments":
            table["rows"].append(RULE)
    (folder / "rules-2023-05.json").write_text(json.dumps(rules, ensure_ascii=False), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def play(form: Form, reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """A system that was seeded from that copy."""
    with run(form, tmp_path_factory.mktemp("tier") / "data", reference) as system:
        prepare_folder(system.system)
        with playing(system) as acts:
            yield acts


@pytest.mark.capability("C1")
@pytest.mark.capability("B6")
def test_a_case_walks_over_the_new_tier_and_the_new_rule(play: Play) -> None:
    before = play.at_support_group()
    play.go_to(date(2023, 5, 8))
    case_id = play.in_review(tags=["road", "bridge"], cost_band="above_b")
    routed = play.events(case_id, "routing")[-1]
    assert isinstance(routed.data, CaseRouted)
    assert routed.data.proposed == (BUDGET, "dept-construction-policy"), "the rule that was added"
    assert routed.envelope.rule_trace is not None
    assert routed.envelope.rule_trace.version == 2
    assert "D-bridge" in {row.row for row in routed.envelope.rule_trace.rows if row.matched}

    play.review(case_id, {ROAD: "support", "dept-construction-policy": "support"}, cost_band="above_c")
    assert play.stage(case_id) == ("R4", "support-group")
    play.decide("support-group", case_id, "escalate", escalation="law_or_budget_beyond_powers")

    moved = play.events(case_id, "routing")[-1].data
    assert isinstance(moved, CaseMoved), "the tier's row names no arrival event"
    case = play.case(case_id, OFFICER)
    assert (case["stage"], case["holder"]["body"], case["label"]["ko"]) == ("R4b", BOARD, "조정위원회 논의")
    assert case["due"] == "2023-05-30", "15 working days after 8 May, Buddha's birthday and its substitute left out"
    assert [row["office"]["id"] for row in play.work(case_id)] == [f"{BOARD}.secretary"]
    assert [row["tier"] for row in play.waiting(BOARD, case_id)] == ["R4b"]
    assert play.told(case_id)["CaseMoved"] == {
        OFFICER,
        f"{BOARD}.secretary",
        "support-group.secretary",
        f"{ROAD}.reviewer",
    }
    why = play.office(OFFICER).get(f"/v1/cases/{case_id}/why")
    assert "forum" in {place["body"]["id"] for place in why["not_there"]}

    play.decide(BOARD, case_id, "escalate", escalation="general_direction")
    arrived = play.events(case_id, "routing")[-1].data
    assert isinstance(arrived, EscalatedToForum)
    assert arrived.from_body == BOARD
    assert set(moved.documents) < set(arrived.documents), "I-21"
    assert play.stage(case_id) == ("R5", "forum")

    # To the end: adopted by the Minister.
    policy = play.draft(case_id)
    sitting = play.sitting("forum", case_id, policy_id=policy["policy_id"])
    sitting.act("chair", "/items/1/opening")
    sitting.state("forum-seat-03", "transportation", "for")
    sitting.act("chair", "/items/1/deliberation", {"text": "권고합니다."})
    sitting.decide("adopt", 1, **adoption(policy, play.today(), case_id))
    play.settle()
    case = play.case(case_id, OFFICER)
    assert [held["stage"] for held in case["holdings"]] == ["R1", "R2", "R3", "R4", "R4b", "R5", "R7"]
    assert case["policy"]["policy_id"] == policy["policy_id"]

    # A case from before takes the edges of the day on which it moves (I-3), its own rules stay (B6).
    play.decide("support-group", before, "escalate", escalation="law_or_budget_beyond_powers")
    assert play.stage(before) == ("R4b", BOARD)
    trace = play.events(before, "routing")[-1].envelope.rule_trace
    assert trace is not None
    assert trace.version == 1


@pytest.mark.capability("C1")
def test_bodies_are_data_with_all_that_belongs_to_them(play: Play) -> None:
    operator = play.office("operations.operator")
    after, day_before = FROM, (date.fromisoformat(FROM) - timedelta(days=1)).isoformat()

    def rows(kind: str, on: str) -> list[dict[str, Any]]:
        return [
            row for row in operator.all(f"/v1/reference/{kind}", on=on) if BOARD in (row.get("body"), row.get("to"))
        ]

    (body,) = rows("bodies", after)
    assert (body["tier"], body["parent"], body["kind"]) == ("R4b", "forum", "support_group")
    assert {row["role"]: row["holders"] for row in rows("offices", after)} == {
        "secretary": ["u-9001"],
        "chair": ["u-9002"],
        "deputy": ["u-9003"],
    }
    assert [row["on_behalf_of"] for row in rows("members", after)] == [ROAD, "dept-rail", "dept-aviation"]
    (charter,) = rows("charters", after)
    assert (charter["quorum"], charter["method"]) == (2, "chair_after_hearing")
    for kind in ("bodies", "offices", "members", "charters"):
        assert rows(kind, day_before) == [], "valid from its day on"
    councils = [row for row in operator.all("/v1/reference/bodies", on=after) if row["kind"] == "council"]
    assert len(councils) == 17
    assert all(row["regions"] and row["parent"] == "support-group" for row in councils), "jurisdiction"
    tiers = next(row for row in operator.all("/v1/reference/rule-sets", on=after) if row["in_force"])["tiers"]
    assert [tier["tier"] for tier in tiers] == ["R2", "R4", "R4b", "R5"]
