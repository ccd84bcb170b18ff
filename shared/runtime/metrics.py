"""Every metric, in one place; the only file that knows prometheus-client. Labels are bounded: never an id of a case."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
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


class Probe(Collector):
    """Gauges that are read from the databases when Prometheus asks."""

    def __init__(self, read: Callable[[], Iterable[tuple[str, str, dict[str, str], float]]]) -> None:
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
