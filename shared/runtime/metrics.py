"""Every metric, in one place; the only file that knows prometheus-client. Labels are bounded: never an id of a case."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

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


Reading = tuple[str, str, dict[str, str], float]
"""Name, help, labels and value of something that is read when Prometheus asks."""


class Probe(Collector):
    """Gauges that are read from the databases when Prometheus asks."""

    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: the databases are read only when they are asked."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One family a name; rows are (name, help, labels, value)."""
        families: dict[str, GaugeMetricFamily] = {}
        for name, text, labels, value in self._read():
            family = families.setdefault(name, GaugeMetricFamily(name, text, labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        return families.values()


def exposition(probe: Probe) -> tuple[bytes, str]:
    """All metrics as text, and its content type: what this process counts, and what one system's databases say."""
    own = CollectorRegistry()
    own.register(probe)
    return generate_latest(REGISTRY) + generate_latest(own), CONTENT_TYPE_LATEST


RELAY_PUBLISHED = Counter("maru_relay_published_total", "Events published and confirmed", ["service"])
RELAY_LAG = Gauge("maru_relay_lag_events", "Events stored and not yet published", ["service"])
RELAY_AGE = Gauge("maru_relay_oldest_age_seconds", "How long this relay knows of an event not published", ["service"])
RELAY_REBUILDS = Counter("maru_relay_rebuilds_total", "Producers closed and made anew", ["service"])
RELAY_REFUSED = Gauge("maru_relay_refused", "1 where the topic holds what the log does not have", ["service"])
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
