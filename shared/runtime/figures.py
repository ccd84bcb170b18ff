"""Metrics of the procedure, read from a service's views when Prometheus asks; in a thread of HTTP, never in a loop."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from shared.runtime.declare import Facts, Service
from shared.runtime.jobs import PARKED_ROWS
from shared.runtime.log import EventLog
from shared.runtime.metrics import Reading

LEAST_SECONDS = 5.0
"""What was read is told again for at least so long, however often Prometheus asks."""
SHARE = 20
"""And for so many times as long as the reading took: large views cost a twentieth of one thread, not more."""

_UNANSWERED = (
    f"SELECT type, COUNT(*) FROM inbox WHERE {PARKED_ROWS} GROUP BY type",  # noqa: S608
    "SELECT type, COUNT(*) FROM inbox WHERE state = 'waiting' GROUP BY type",
)


class FiguresReader:
    """What one service tells of the procedure, read anew when it is old enough."""

    def __init__(self, service: Service, log: EventLog, facts: Callable[[], AbstractContextManager[Facts]]) -> None:
        self._service, self._log, self._facts = service, log, facts
        self._lock = threading.Lock()
        self._told: Sequence[Reading] = ()
        self._until = 0.0

    def read(self) -> Sequence[Reading]:
        """The readings; none where the service declares no figures. Raises what the database raises."""
        declared = self._service.figures
        if declared is None:
            return ()
        with self._lock:
            started = time.monotonic()
            if started >= self._until:
                unanswered = Counter[str]()
                for query in _UNANSWERED:
                    unanswered.update(dict(self._log.query(query)))
                with self._facts() as facts:
                    self._told = tuple(declared(facts, unanswered))
                ended = time.monotonic()
                self._until = ended + max(LEAST_SECONDS, SHARE * (ended - started))
            return self._told
