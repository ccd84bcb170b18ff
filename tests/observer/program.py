"""The observer as a process: `python -m tests.observer.program`, settings from the environment."""

from __future__ import annotations

from services.observing import watched
from shared.runtime import logs, observer, settings
from shared.runtime.watched import Limits

WITHIN = 3.0
"""Real seconds that a fact may wait for its answer here."""

if __name__ == "__main__":
    logs.configure("info")
    # All examples are kept, so that a test finds its own among those of the others.
    observer.run(settings.load(), watched(WITHIN), Limits(examples=1000))
