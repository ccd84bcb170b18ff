"""What the observer tells, and how it is asked: `/pulse`, `/metrics` and the probes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from shared.runtime import metrics
from shared.runtime.watched import KINDS

if TYPE_CHECKING:
    from shared.runtime.observer import Observer, Watch


def told(observer: Observer) -> dict[str, Any]:
    """`/pulse`."""
    watch = observer.watch
    if watch is None:
        return {"ready": False, "trouble": observer.trouble}
    seen, behind = watch.observed, watch.behind()
    return {
        "ready": watch.ready(),
        "trouble": observer.trouble,
        "cluster": watch.cluster,
        "began": watch.began,
        "complete": watch.complete,
        "records": seen.records,
        "repeats": seen.repeats,
        "unchecked": seen.unchecked,
        "unanswered": seen.unanswered,
        "faults": {
            kind: {
                "ko": KINDS[kind][0],
                "en": KINDS[kind][1],
                "count": found.count,
                "examples": [asdict(fault) for fault in found.examples],
            }
            for kind, found in seen.faults.items()
        },
        "pulse": {
            name: [
                {"tier": tier, "region": region, "events": count}
                for (tier, region), count in sorted(table.totals().items())
            ]
            for name, table in watch.pulse.items()
        },
        "positions": [
            {
                "topic": topic,
                "partition": number,
                "next": seen.next.get((topic, number), 0),
                "end": watch.ends.get((topic, number), 0),
                "behind": left,
            }
            for (topic, number), left in sorted(behind.items())
        ],
        "behind": sum(behind.values()),
        "held": {what: {"held": held, "limit": limit} for what, held, limit in seen.held()},
    }


def gauges(observer: Observer) -> Iterable[metrics.Reading]:
    """What is read from the observer's state when Prometheus asks."""
    yield metrics.OBSERVER_READY(observer.ready())
    if observer.watch is not None:
        yield from _gauges(observer.watch)


def _gauges(watch: Watch) -> Iterator[metrics.Reading]:
    observed = watch.observed
    for kind, found in observed.faults.items():
        yield metrics.OBSERVER_FAULTS(found.count, kind)
    yield metrics.OBSERVER_UNANSWERED(observed.unanswered)
    yield metrics.OBSERVER_REPEATS(observed.repeats)
    yield metrics.OBSERVER_UNCHECKED(observed.unchecked)
    yield metrics.OBSERVER_AGE(time.time() - (watch.began if watch.complete is None else watch.complete))
    behind = Counter[str]()
    for (topic, _), left in watch.behind().items():
        behind[topic] += left
    for topic, left in behind.items():
        yield metrics.OBSERVER_BEHIND(left, topic)
    for name, table in watch.pulse.items():
        for (tier, region), count in table.totals().items():
            yield metrics.OBSERVER_PULSE(count, name, tier, region)
    for what, held, _ in observed.held():
        yield metrics.OBSERVER_HELD(held, what)


def http(observer: Observer) -> FastAPI:
    """`/pulse`, `/metrics` and the probes; the loop that answers is the one that reads, so an answer says it turns."""
    app = FastAPI(title="Maru observer", docs_url=None, redoc_url=None, openapi_url=None)
    probe = metrics.Probe(lambda: gauges(observer))

    @app.get("/pulse")
    async def pulse() -> JSONResponse:
        return JSONResponse(told(observer))

    @app.get("/metrics")
    async def exposition() -> Response:
        content, media = metrics.exposition(probe)
        return Response(content, media_type=media)

    @app.get("/livez")
    async def live() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def ready() -> JSONResponse:
        good = observer.ready()
        state = {"status": "ready" if good else "not ready", "trouble": observer.trouble}
        return JSONResponse(state, 200 if good else 503)

    return app
