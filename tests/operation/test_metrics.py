"""Metrics, their page, rules, runbooks and the dashboard speak of the same; one walk shows figures of the procedure."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from sqlalchemy import delete, insert

from services import dashboard, metrics_page, promtool
from services.__main__ import SERVICES
from services.client import Maru
from services.notifications.figures import figures as undelivered
from services.notifications.views.outbox import OUTBOX
from services.walk import Walk
from shared.runtime import metrics
from shared.runtime.databases import Databases
from shared.runtime.declare import Facts, Service
from shared.runtime.figures import FiguresReader
from shared.runtime.hosted import Hosted
from shared.runtime.log_database import Unavailable
from shared.runtime.rebuild import build_new_versions
from shared.runtime.settings import ROOT
from shared.runtime.system import gauges
from tests.full_form import Running, Seeded


def rules_of(name: str) -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((ROOT / "deploy/prometheus" / name).read_text("utf-8"))["groups"]
    return list(group["rules"])


RULES = rules_of("alerts.yml")
CLUSTER_RULES = rules_of("cluster.yml")
DECLARED = {metric.name: metric for metric in metrics.declared()}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
SERIES = {metric.name + suffix: metric for metric in DECLARED.values() for suffix in SUFFIXES[metric.kind]}


def test_the_page_lists_every_declared_metric_and_no_other() -> None:
    text = (ROOT / "docs/metrics.md").read_text("utf-8")
    listed = re.findall(r"^\| `(maru_\w+)` \| (\w+) \| (.+?) \| (.+?) \| (.+?) \|$", text, flags=re.MULTILINE)
    assert sorted(name for name, *_ in listed) == sorted(DECLARED)
    for name, kind, labels, unit, meaning in listed:
        metric = DECLARED[name]
        assert (kind, meaning) == (metric.kind, metric.text)
        assert tuple(re.findall(r"`(\w+)`", labels)) == metric.labels
        assert unit


@pytest.mark.parametrize("change", ["lacking", "invented", "twice"])
def test_a_page_that_lacks_or_invents_a_metric_is_not_made(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, names = metrics_page.SECTIONS["Requests"]
    wrong = {"lacking": names[1:], "invented": (*names, "maru_of_nobody"), "twice": (*names, names[0])}[change]
    monkeypatch.setitem(metrics_page.SECTIONS, "Requests", (where, wrong))
    with pytest.raises(ValueError, match="maru_of_nobody" if change == "invented" else names[0]):
        metrics_page.metrics_page()


def test_a_reading_with_other_labels_than_declared_is_refused() -> None:
    with pytest.raises(ValueError, match="maru_cases_open"):
        metrics.CASES_OPEN(1, "R1")


def names_in(query: str) -> set[str]:
    return set(re.findall(r"\bmaru_\w+", query))


@pytest.mark.parametrize("query", [*dashboard.expressions(), *(rule["expr"] for rule in RULES)])
def test_a_query_names_metrics_and_labels_that_exist(query: str) -> None:
    assert names_in(query) <= set(SERIES)
    beside = {"job", "instance", "le"}
    for name, matchers in re.findall(r"(maru_\w+)\{(.*?)\}", query):
        assert set(re.findall(r"(\w+)\s*[!=]~?=?", matchers)) <= {*SERIES[name].labels, *beside}
    allowed = {label for name in names_in(query) for label in SERIES[name].labels} | beside
    for grouped in re.findall(r"\bby \((.*?)\)", query):
        assert set(re.findall(r"\w+", grouped)) <= allowed


def test_every_rule_has_a_page_a_summary_and_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    expected: dict[str, set[bool]] = {}
    for file in ("alerts.test.yml", "cluster.test.yml"):
        for test in yaml.safe_load((ROOT / "deploy/prometheus" / file).read_text("utf-8"))["tests"]:
            for one in test["alert_rule_test"]:
                expected.setdefault(one["alertname"], set()).add(bool(one["exp_alerts"]))
    rules = [*RULES, *CLUSTER_RULES]
    names = [rule["alert"] for rule in rules]
    assert expected == {name: {True, False} for name in names}
    pages = {page.stem for page in (ROOT / "docs/runbooks").glob("*.md")} - {"README"}
    assert pages == set(names)
    for rule in rules:
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
        page = (ROOT / rule["annotations"]["runbook_url"]).read_text("utf-8")
        assert f"{rule['annotations']['summary']}. Severity: {rule['labels']['severity']}." in page
        assert names_in(page) <= set(SERIES)
    index = (ROOT / "docs/runbooks/README.md").read_text("utf-8")
    assert re.findall(r"^\| \[(\w+)\]", index, flags=re.MULTILINE) == names


def test_the_dashboard_has_a_panel_in_its_place_for_each_declared_one() -> None:
    document = json.loads((ROOT / "deploy/grafana/maru.json").read_text("utf-8"))
    panels = document["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [title for title, _ in dashboard.ROWS]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


# promtool itself runs in `make check`; here, what is made of its answers.


def test_without_promtool_it_is_said_that_nothing_was_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(promtool, "found", lambda: None)
    assert promtool.main() == 0
    assert "not run" in capsys.readouterr().out


def test_what_promtool_refuses_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tool = tmp_path / "promtool"
    tool.write_text(f'#!{sys.executable}\nimport sys\nprint("bad rule")\nsys.exit(sys.argv[1] == "test")\n')
    tool.chmod(0o755)
    monkeypatch.setattr(promtool, "found", lambda: str(tool))
    assert promtool.main() == 1
    assert capsys.readouterr().out == "promtool test rules failed:\nbad rule\n"


# A system that runs


@pytest.fixture(scope="module")
def running(seeded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with seeded.running("embedded", tmp_path_factory.mktemp("operation") / "data") as system:
        yield system


def shown(text: str) -> dict[str, float]:
    """Series → value."""
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


@pytest.mark.capability("L6", part="no share of overrides, no time of a rebuild")
def test_L6_figures_of_the_procedure_go_with_the_case(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.runtime.figures.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("shared.runtime.figures.SHARE", 0)
    with Maru(running.url) as maru:
        Walk(maru, dated=False).run()
        county = maru.office("org-gangwon.officer")
        county.post("/v1/issues", {"title": "하나", "text": "가", "channel": "letter", "regions": ["gangwon"]})
        assert running.idle()
        text = running.metrics()
        maru.office("operations.operator").post("/v1/clock/shifts", {"date": "2023-12-20"})
        assert running.idle()
        later = shown(running.metrics())
    series = shown(text)
    assert series['maru_cases_open{region="gangwon",tier="R1"}'] == 1
    assert series['maru_cases_overdue{tier="R1"}'] == 0
    assert series['maru_cases_oldest_age_seconds{tier="R1"}'] < 3600
    assert later['maru_cases_overdue{tier="R1"}'] == 1
    assert later['maru_work_overdue{kind="holding"}'] == 1
    assert later['maru_cases_oldest_age_seconds{tier="R1"}'] > 200 * 86_400
    assert series['maru_work_waiting{kind="holding"}'] == 1
    assert series['maru_work_waiting{kind="move_refused"}'] == 0
    assert series["maru_policy_adoptions_total"] == 1
    assert series['maru_policies{state="implemented"}'] == 1
    assert series['maru_escalations_total{tier="R5"}'] == 1
    assert series['maru_decisions_undelivered{where="inbox"}'] == 0
    assert series["maru_probe_failures_total"] == 0
    known = {name for name in (re.split(r"[{ ]", one)[0] for one in series) if name.startswith("maru_")}
    assert known <= set(SERIES)
    for metric in re.findall(r"^# HELP (maru_\w+)", text, flags=re.MULTILINE):
        assert text.count(f"# HELP {metric} ") == 1


def test_decisions_and_notices_undelivered(running: Running) -> None:
    hosted = running.service("notifications")
    row = {"channel": "email", "office": "o", "about_type": "DecisionRecorded", "attempts": 1}
    with hosted.store.write() as db:
        outbox = hosted.store.tables(OUTBOX, hosted.store.generations(db)["outbox"])["outbox"]
        db.execute(insert(outbox).values({**row, "notice_id": "n1", "reason": None}))
        db.execute(insert(outbox).values({**row, "notice_id": "n2", "reason": "refused"}))
        db.execute(insert(outbox).values({**row, "notice_id": "n3", "reason": None, "about_type": "CaseOpened"}))
    try:
        with hosted.facts() as facts:
            readings = {(one.of, one.labels): one.value for one in undelivered(facts, {"DecisionRecorded": 5})}
    finally:
        with hosted.store.write() as db:
            db.execute(delete(outbox).where(outbox.c.office == "o"))
    assert readings == {
        (metrics.DECISIONS_UNDELIVERED, ("inbox",)): 5,
        (metrics.DECISIONS_UNDELIVERED, ("email",)): 2,
        (metrics.NOTICES_UNDELIVERED, ("email", "waiting")): 2,
        (metrics.NOTICES_UNDELIVERED, ("email", "given_up")): 1,
    }


def test_heard_and_parked_decisions_are_told_to_the_figures(running: Running) -> None:
    hosted = running.service("notifications")
    told: list[Mapping[str, int]] = []

    def figures(_: Facts, unanswered: Mapping[str, int]) -> list[metrics.Reading]:
        told.append(dict(unanswered))
        return [metrics.TASKS_OVERDUE(len(told))]

    rows = {"waiting": [("DecisionRecorded", 2)], "parked": [("DecisionRecorded", 1), ("CaseOpened", 4)]}

    class Log:
        def query(self, sql: str) -> list[tuple[str, int]]:
            hosted.log.query(sql)
            return rows["waiting" if "'waiting'" in sql else "parked"]

    reader = FiguresReader(replace(hosted.service, figures=figures), cast(Any, Log()), hosted.facts)
    assert [reader.read()[0].value for _ in range(3)] == [1, 1, 1]
    assert told == [{"DecisionRecorded": 3, "CaseOpened": 4}]


def test_a_database_that_does_not_answer_leaves_the_rest_of_the_metrics() -> None:
    def read() -> Iterator[metrics.Reading]:
        yield metrics.LOOP_HEARTBEAT(7, "some-loop")
        raise Unavailable("no answer")

    before = shown(metrics.exposition(metrics.Probe(lambda: ()))[0].decode())["maru_probe_failures_total"]
    series = shown(metrics.exposition(metrics.Probe(read))[0].decode())
    assert series['maru_loop_heartbeat_seconds{loop="some-loop"}'] == 7
    assert series["maru_probe_failures_total"] == before + 1


@pytest.mark.parametrize("service", [service for service in SERVICES if service.figures], ids=lambda one: one.name)
def test_figures_and_gauges_are_read_from_both_kinds_of_database(service: Service, place: Databases) -> None:
    place.migrate(service)
    hosted = Hosted(service, place)
    build_new_versions(hosted.log, hosted.store, hosted.views)
    try:
        told = list(gauges(hosted))
    finally:
        hosted.stop()
    names = {reading.of.name for reading in told}
    assert {"maru_inbox_waiting", "maru_view_behind_events", "maru_view_inbox_behind_records"} <= names
    assert names & {"maru_work_waiting", "maru_policies", "maru_decisions_undelivered"}
    assert all(reading.value == 0 for reading in told)
