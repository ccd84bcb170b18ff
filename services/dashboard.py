"""The Grafana dashboard, as data: ``deploy/grafana/maru.json`` is made from it.

Panels with the procedure first: what is stuck, where and since when; then what users feel; then the parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HTTP = "maru_http_request_duration_seconds"


@dataclass(frozen=True)
class Panel:
    """One panel: its title, its queries with what each line is called, the unit, and how it is drawn."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "bargauge"] = "timeseries"
    width: int = 8
    about: str = ""


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "The procedure",
        (
            Panel(
                "Open cases by stage",
                (("sum by (tier) (max by (tier, region) (maru_cases_open))", "{{tier}}"),),
                kind="bargauge",
                about="A case of several regions counts in each.",
            ),
            Panel(
                "Open cases by region",
                (("sum by (region) (max by (tier, region) (maru_cases_open))", "{{region}}"),),
                kind="bargauge",
            ),
            Panel(
                "There the longest, by stage",
                (("max by (tier) (maru_cases_oldest_age_seconds)", "{{tier}}"),),
                unit="s",
                kind="bargauge",
                about="Business time since the case came to where it is.",
            ),
            Panel("Cases overdue", (("max by (tier) (maru_cases_overdue)", "{{tier}}"),)),
            Panel(
                "To be done, and overdue",
                (
                    ("max by (kind) (maru_work_waiting)", "{{kind}}"),
                    ("max by (kind) (maru_work_overdue)", "{{kind}} overdue"),
                ),
            ),
            Panel(
                "Sent up and adopted in a day",
                (
                    ("max by (tier) (increase(maru_escalations_total[1d]))", "to {{tier}}"),
                    ("max(increase(maru_policy_adoptions_total[1d]))", "policies adopted"),
                ),
            ),
            Panel("Policies by state", (("max by (state) (maru_policies)", "{{state}}"),), kind="bargauge"),
            Panel(
                "Triage and moves refused",
                (
                    ('max(maru_work_waiting{kind="triage"})', "to be assigned"),
                    ('max(maru_work_waiting{kind="move_refused"})', "moves refused"),
                ),
                kind="stat",
                width=4,
            ),
            Panel(
                "Decisions undelivered",
                (("max by (where) (maru_decisions_undelivered)", "{{where}}"),),
                kind="stat",
                width=4,
            ),
            Panel(
                "Notices outside",
                (("max by (channel, state) (maru_notices_undelivered)", "{{channel}} {{state}}"),),
                kind="stat",
                width=4,
            ),
            Panel("Policy tasks overdue", (("max(maru_policy_tasks_overdue)", "tasks"),), kind="stat", width=4),
        ),
    ),
    (
        "What users feel",
        (
            Panel("Requests by status", ((f"sum by (status) (rate({_HTTP}_count[5m]))", "{{status}}"),), unit="reqps"),
            Panel(
                "Slowest in twenty, by route",
                ((f"histogram_quantile(0.95, sum by (operation, le) (rate({_HTTP}_bucket[5m])))", "{{operation}}"),),
                unit="s",
            ),
            Panel(
                "Commands by outcome",
                (("sum by (outcome) (rate(maru_commands_total[5m]))", "{{outcome}}"),),
                unit="ops",
            ),
            Panel(
                "From fact to fact, slowest in twenty",
                (
                    (
                        "histogram_quantile(0.95, sum by (hop, le) (rate(maru_observer_hop_seconds_bucket[5m])))",
                        "{{hop}}",
                    ),
                ),
                unit="s",
                width=12,
            ),
            Panel(
                "Pulse of the last hour, by stage",
                (('sum by (tier) (maru_observer_pulse_events{window="hour"})', "{{tier}}"),),
                width=12,
            ),
        ),
    ),
    (
        "The parts",
        (
            Panel(
                "Events appended",
                (("sum by (service) (rate(maru_events_appended_total[5m]))", "{{service}}"),),
                unit="ops",
            ),
            Panel(
                "Events in a commit",
                (
                    (
                        "sum by (service) (rate(maru_append_batch_events_sum[5m]))"
                        " / sum by (service) (rate(maru_append_batch_events_count[5m]))",
                        "{{service}}",
                    ),
                ),
            ),
            Panel(
                "Relay: oldest not published",
                (("max by (service) (maru_relay_oldest_age_seconds)", "{{service}}"),),
                unit="s",
            ),
            Panel("Relay: not published", (("max by (service) (maru_relay_lag_events)", "{{service}}"),)),
            Panel(
                "Topics: not carried",
                (("sum by (service, source) (maru_carrier_lag_records)", "{{source}} to {{service}}"),),
            ),
            Panel("Inbox: waiting", (("max by (service) (maru_inbox_waiting)", "{{service}}"),)),
            Panel(
                "Inbox: oldest waiting", (("max by (service) (maru_inbox_oldest_seconds)", "{{service}}"),), unit="s"
            ),
            Panel(
                "Views behind",
                (
                    ("max by (service, view) (maru_view_behind_events)", "{{service}} {{view}}"),
                    ("max by (service, view) (maru_view_inbox_behind_records)", "{{service}} {{view}} inbox"),
                ),
            ),
            Panel(
                "Parked",
                (
                    ("max by (service) (maru_inbox_parked)", "{{service}} reactions"),
                    ("sum by (service) (max by (service, view) (maru_view_parked))", "{{service}} views"),
                ),
            ),
            Panel("Observer: faults", (("max by (kind) (maru_observer_faults)", "{{kind}}"),)),
            Panel("Observer: age of what it has seen", (("max(maru_observer_complete_age_seconds)", "age"),), unit="s"),
            Panel(
                "Steps of loops that failed",
                (("sum by (loop) (increase(maru_loop_failures_total[5m]))", "{{loop}}"),),
            ),
            Panel("Processes that answer", (('sum(up{job="maru"})', "up"), ('count(up{job="maru"})', "known"))),
        ),
    ),
)


def expressions() -> list[str]:
    """Every query of the dashboard."""
    return [query for _, panels in ROWS for panel in panels for query, _ in panel.queries]


def dashboard() -> str:
    """The dashboard as Grafana imports it."""
    document = {
        "uid": "maru",
        "title": "Maru",
        "tags": ["maru"],
        "timezone": "browser",
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {"text": "Prometheus", "value": "prometheus"},
                }
            ]
        },
        "annotations": {"list": []},
        "panels": list(_panels()),
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    """Rows of panels, left to right, 24 columns wide, each eight high."""
    number, y = 0, 0
    for title, panels in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
        }
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > 24:
                x, y = 0, y + 8
            number += 1
            yield _panel(panel, number, x, y)
            x += panel.width
        y += 8


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
    if panel.kind != "timeseries":
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "orientation": "auto"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }
