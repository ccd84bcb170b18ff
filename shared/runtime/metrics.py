"""Every metric, in one place; the only file that knows prometheus-client. Labels are bounded: never an id of a case."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

# Each counter would have a second series with the time of its beginning: nobody asks for those.
disable_created_metrics()  # type: ignore[no-untyped-call]

APPENDED = Counter("maru_events_appended_total", "Events appended to the log", ["service", "type"])
BATCH_SIZE = Histogram(
    "maru_append_batch_events", "Events in one commit", ["service"], buckets=(1, 2, 4, 8, 16, 64, 256)
)
COMMANDS = Counter("maru_commands_total", "Commands by route and outcome", ["service", "operation", "outcome"])
REQUESTS = Histogram(
    "maru_http_request_duration_seconds",
    "HTTP requests by operation and status",
    ["operation", "status"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
REACTIONS_DONE = Counter("maru_reactions_total", "Facts that a reaction answered", ["service", "type"])
REACTIONS_REFUSED = Counter("maru_reactions_refused_total", "Reactions refused by a rule", ["service", "type", "rule"])
PARKED = Counter("maru_parked_total", "Events parked with their key", ["where", "kind"])
CHAIN_HOLES = Counter("maru_chain_holes_total", "Records that arrived before their predecessor", ["service", "source"])
VIEW_RECORDS = Counter("maru_view_records_total", "Records read by the views' follower", ["service"])
LOOP_FAILURES = Counter("maru_loop_failures_total", "Steps of a loop that raised", ["loop"])
DUE_FIRED = Counter("maru_due_fired_total", "Due rows fired", ["service"])

PROBE_FAILURES = Counter("maru_probe_failures_total", "Times that Prometheus asked and a database did not answer")


Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True)
class Reading:
    """One value that was read when Prometheus asked; ``labels`` in the order of the metric's names."""

    of: Read
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Read:
    """A metric as Prometheus sees it. As such: one that is read when it asks, and not counted beforehand."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    kind: Kind = "gauge"

    def __call__(self, value: float, *labels: str) -> Reading:
        """A value of it. Raises ``ValueError`` for other labels than it has."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}")
        return Reading(self, labels, value)


READ: dict[str, Read] = {}
"""Every metric that is read when Prometheus asks, by its name."""


def _read(name: str, text: str, *labels: str, kind: Kind = "gauge") -> Read:
    READ[name] = made = Read(name, text, labels, kind)
    return made


class Probe(Collector):
    """What is read from databases and from this process's state when Prometheus asks."""

    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: the databases are read only when they are asked."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        """One family a metric. A database that does not answer is counted, and what it would tell is left out."""
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        try:
            for reading in self._read():
                metric = reading.of
                if metric.name not in families:
                    made = GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily
                    families[metric.name] = made(metric.name, metric.text, labels=metric.labels)
                families[metric.name].add_metric(reading.labels, reading.value)
        except Exception:
            PROBE_FAILURES.inc()
        return families.values()


def exposition(probe: Probe) -> tuple[bytes, str]:
    """All metrics as text, and its content type: what this process counts, and what one system's databases say."""
    own = CollectorRegistry()
    own.register(probe)
    # The databases first, so that a failure of theirs is counted in this very answer.
    read = generate_latest(own)
    return generate_latest(REGISTRY) + read, CONTENT_TYPE_LATEST


RELAY_PUBLISHED = Counter("maru_relay_published_total", "Events published and confirmed", ["service"])
RELAY_LAG = Gauge("maru_relay_lag_events", "Events stored and not yet published", ["service"])
RELAY_AGE = Gauge("maru_relay_oldest_age_seconds", "How long this relay knows of an event not published", ["service"])
RELAY_REBUILDS = Counter("maru_relay_rebuilds_total", "Producers closed and made anew", ["service"])
RELAY_REFUSED = Gauge("maru_relay_refused", "1 where topic and log do not fit and nothing is published", ["service"])
CARRIER_RECORDS = Counter("maru_carrier_records_total", "Records read from a topic", ["service", "source"])
CARRIER_REJECTED = Counter("maru_carrier_rejected_total", "Foreign or malformed records", ["service", "source"])
CARRIER_HOLES = Counter(
    "maru_carrier_holes_total",
    "Records without their predecessor: reread, or lacking in the topic",
    ["service", "source", "outcome"],
)
CARRIER_LAG = Gauge("maru_carrier_lag_records", "Records in the topic and not yet carried", ["service", "source"])
CARRIER_REBUILDS = Counter("maru_carrier_rebuilds_total", "Consumers made, the first included", ["service"])

# The observer

OBSERVER_HOPS = Histogram(
    "maru_observer_hop_seconds",
    "Real seconds from a fact to one that it caused, over all events in the topics",
    ["hop"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
OBSERVER_EVENTS = Counter("maru_observer_events_total", "Events read by the observer, repeats not counted", ["service"])
OBSERVER_REBUILDS = Counter("maru_observer_rebuilds_total", "Times that the observer began anew", ["reason"])

NOTIFICATIONS = Counter(
    "maru_notifications_total",
    "Attempts to notify over a channel outside, by outcome: delivered, failed, given_up",
    ["channel", "outcome"],
)

# Read when Prometheus asks: of a service's databases and loops

LOOP_HEARTBEAT = _read("maru_loop_heartbeat_seconds", "When a loop last turned (Unix time)", "loop")
INBOX_WAITING = _read("maru_inbox_waiting", "Inbox records that wait for a reaction", "service")
INBOX_OLDEST = _read("maru_inbox_oldest_seconds", "Age of the oldest waiting inbox record", "service")
INBOX_PARKED = _read("maru_inbox_parked", "Parked inbox records", "service")
LOG_POSITION = _read("maru_log_position", "Last position of the log", "service")
VIEW_BEHIND = _read("maru_view_behind_events", "Own events that a view has not folded yet", "service", "view")
VIEW_INBOX_BEHIND = _read(
    "maru_view_inbox_behind_records", "Inbox records that a view has not folded yet", "service", "view"
)
VIEW_PARKED = _read("maru_view_parked", "Records that a view could not fold, and those behind them", "service", "view")

# Of the procedure, read from the views by whoever follows them; business time

CASES_OPEN = _read(
    "maru_cases_open", "Open cases by stage and region; one of several regions counts in each", "tier", "region"
)
CASES_OLDEST = _read(
    "maru_cases_oldest_age_seconds", "How long the case has been there that is there longest, by stage", "tier"
)
CASES_OVERDUE = _read("maru_cases_overdue", "Open cases whose holder is past the date, by stage", "tier")
WORK_WAITING = _read(
    "maru_work_waiting", "Things to do: holding, triage, consultation (an opinion owed), move_refused", "kind"
)
WORK_OVERDUE = _read("maru_work_overdue", "Things to do that are past their date", "kind")
ESCALATIONS = _read(
    "maru_escalations_total", "Times that a case was sent up, by the tier that received it", "tier", kind="counter"
)
POLICIES = _read("maru_policies", "Policies by state: drafted, adopted, in_implementation, implemented", "state")
ADOPTIONS = _read("maru_policy_adoptions_total", "Policies adopted since the beginning", kind="counter")
TASKS_OVERDUE = _read("maru_policy_tasks_overdue", "Tasks of policies not done and past their date")
DECISIONS_UNDELIVERED = _read(
    "maru_decisions_undelivered",
    "Decisions not in the raiser's inbox yet (inbox), or not arrived or given up over a channel outside",
    "where",
)
NOTICES_UNDELIVERED = _read(
    "maru_notices_undelivered", "Notices not arrived over a channel outside: waiting, given_up", "channel", "state"
)

# Of the observer's state

OBSERVER_READY = _read("maru_observer_ready", "1 where the observer has caught up or moves")
OBSERVER_FAULTS = _read("maru_observer_faults", "Faults found in the topics, by kind", "kind")
OBSERVER_UNANSWERED = _read("maru_observer_unanswered", "Facts past their time without an answer")
OBSERVER_REPEATS = _read("maru_observer_repeats", "Records read that had been read before")
OBSERVER_UNCHECKED = _read("maru_observer_unchecked", "What could not be judged: forgotten")
OBSERVER_AGE = _read("maru_observer_complete_age_seconds", "Age of the last complete reading")
OBSERVER_BEHIND = _read("maru_observer_behind_records", "Records in the topic, not read yet", "topic")
OBSERVER_PULSE = _read(
    "maru_observer_pulse_events", "Events of cases in the last hour and day", "window", "tier", "region"
)
OBSERVER_HELD = _read("maru_observer_held", "Entries held in memory, each kind bounded", "what")


def declared() -> list[Read]:
    """Every metric of this file, by name: what is counted and what is read."""
    kinds: dict[type, Kind] = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
    counted = [
        Read(one._name + "_total" * isinstance(one, Counter), one._documentation, one._labelnames, kinds[type(one)])
        for one in globals().values()
        if isinstance(one, Counter | Gauge | Histogram)
    ]
    return sorted([*counted, *READ.values()], key=lambda metric: metric.name)
