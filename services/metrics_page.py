"""``docs/metrics.md``: every metric that a process of ours shows, with its meaning; made from its declaration."""

from __future__ import annotations

from shared.runtime import metrics

SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Requests": (
        "A gateway. One operation is one route (`operationId` of the OpenAPI document).",
        ("maru_http_request_duration_seconds", "maru_commands_total"),
    ),
    "The log": (
        "Whoever appends: a gateway for commands, a follower for reactions, due rows and attempts.",
        ("maru_events_appended_total", "maru_append_batch_events", "maru_due_fired_total", "maru_notifications_total"),
    ),
    "The relay": (
        "The relay; full form only. A standby tells 0.",
        (
            "maru_relay_lag_events",
            "maru_relay_oldest_age_seconds",
            "maru_relay_refused",
            "maru_relay_published_total",
            "maru_relay_rebuilds_total",
        ),
    ),
    "The carrier": (
        "A follower, for the slots that it holds; full form only: the embedded form reads the log next door.",
        (
            "maru_carrier_lag_records",
            "maru_carrier_records_total",
            "maru_carrier_rejected_total",
            "maru_carrier_holes_total",
            "maru_carrier_rebuilds_total",
        ),
    ),
    "Inbox, reactions, views": (
        "A follower. Gauges come from the database, so that replicas tell the same: take `max`, not `sum`.",
        (
            "maru_inbox_waiting",
            "maru_inbox_oldest_seconds",
            "maru_inbox_parked",
            "maru_log_position",
            "maru_view_behind_events",
            "maru_view_inbox_behind_records",
            "maru_view_parked",
            "maru_view_records_total",
            "maru_reactions_total",
            "maru_reactions_refused_total",
            "maru_parked_total",
            "maru_chain_holes_total",
        ),
    ),
    "The procedure": (
        "A follower of the service in whose views it stands (cases: routing, policies: meetings, notices and decisions"
        " undelivered: notifications). Business time. Read anew every 5 s at most, less often where that takes long."
        " Replicas tell the same: take `max`, not `sum`. The two counters are counted in the views, and so survive a"
        " restart. What is overdue is counted by the business day. `tier` is the stage as the API names it: R0"
        " unrouted, R1 intake, R3 joint review, R7 implementing, else the tier of the rule set. How often moves were"
        ' refused is `maru_events_appended_total{type="MoveRefused"}`.',
        (
            "maru_cases_open",
            "maru_cases_oldest_age_seconds",
            "maru_cases_overdue",
            "maru_work_waiting",
            "maru_work_overdue",
            "maru_escalations_total",
            "maru_policies",
            "maru_policy_adoptions_total",
            "maru_policy_tasks_overdue",
            "maru_decisions_undelivered",
            "maru_notices_undelivered",
        ),
    ),
    "The observer": (
        "`maru observe`; full form only. See [observer.md](observer.md).",
        (
            "maru_observer_hop_seconds",
            "maru_observer_pulse_events",
            "maru_observer_faults",
            "maru_observer_unanswered",
            "maru_observer_ready",
            "maru_observer_complete_age_seconds",
            "maru_observer_behind_records",
            "maru_observer_events_total",
            "maru_observer_repeats",
            "maru_observer_unchecked",
            "maru_observer_rebuilds_total",
            "maru_observer_held",
        ),
    ),
    "Every process": (
        "Beside these the Prometheus client's own `process_*` and `python_*`.",
        ("maru_loop_heartbeat_seconds", "maru_loop_failures_total", "maru_probe_failures_total"),
    ),
}
"""Section → where its metrics are seen, and their names."""

_UNITS = {
    "maru_loop_heartbeat_seconds": "Unix time",
    "maru_relay_refused": "0 or 1",
    "maru_observer_ready": "0 or 1",
    "maru_cases_open": "cases",
    "maru_cases_overdue": "cases",
    "maru_policies": "policies",
    "maru_inbox_waiting": "records",
    "maru_inbox_parked": "records",
    "maru_view_parked": "records",
    "maru_observer_repeats": "records",
    "maru_log_position": "position",
    "maru_policy_tasks_overdue": "tasks",
    "maru_decisions_undelivered": "decisions",
    "maru_notices_undelivered": "notices",
    "maru_observer_unanswered": "events",
}
"""Where the name does not say it."""


def unit(metric: metrics.Read) -> str:
    """What a value of it counts or measures."""
    if metric.name in _UNITS:
        return _UNITS[metric.name]
    for ending in ("seconds", "events", "records"):
        if metric.name.endswith("_" + ending):
            return ending
    return "count"


def metrics_page() -> str:
    """The page. Raises ``ValueError`` where a metric stands in no section, in two, or a section names one that is not
    declared."""
    known = {metric.name: metric for metric in metrics.declared()}
    named = [name for _, names in SECTIONS.values() for name in names]
    if sorted(named) != sorted(known):
        odd = sorted(set(named) ^ set(known)) or sorted(name for name in set(named) if named.count(name) > 1)
        raise ValueError(f"services/metrics_page.py must name each declared metric once: {', '.join(odd)}")
    lines = [
        "# Metrics",
        "",
        "Generated by `make generate` from `shared/runtime/metrics.py`; never edited by hand.",
        "",
        "Each process of the full form shows its own under `/metrics`; the embedded form shows all in one. Labels are",
        "bounded: services, event types, routes, loops, views, tiers, regions; never the id of a case or of a person.",
        "Counters of a process begin at 0 when it starts. Durations are seconds. Rules over these metrics are in",
        "[deploy/prometheus](../deploy/prometheus/alerts.yml), what to do in [runbooks](runbooks/README.md).",
    ]
    for title, (where, names) in SECTIONS.items():
        lines += [
            "",
            f"## {title}",
            "",
            where,
            "",
            "| Metric | Type | Labels | Unit | Meaning |",
            "|---|---|---|---|---|",
        ]
        for name in names:
            metric = known[name]
            labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
            lines.append(f"| `{name}` | {metric.kind} | {labels} | {unit(metric)} | {metric.text} |")
    return "\n".join(lines) + "\n"
