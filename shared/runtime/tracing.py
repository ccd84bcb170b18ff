"""Traces by OpenTelemetry over OTLP/HTTP, off unless an endpoint is set; the only file that knows OpenTelemetry.

A W3C trace context comes with a request, is stored beside the events that the request made (never in what is hashed),
travels with them over Kafka, and goes on in whatever they cause: one trace shows POST, append, relay, inbox, reaction
and view. With traces off a context that came is still carried.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


_TRACEPARENT = re.compile(r"^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")
_propagator: Any = None
_provider: TracerProvider | None = None


def configure(endpoint: str | None, process: str) -> None:
    """Send spans to an OTLP/HTTP endpoint (``http://host:4318``) under a process's name; ``None`` turns traces off."""
    global _provider, _propagator  # noqa: PLW0603 - one provider a process
    stop()
    if endpoint is not None:
        # A quarter of a second of imports, that only who traces pays.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        _propagator = TraceContextTextMapPropagator()
        _provider = TracerProvider(resource=Resource.create({"service.name": process}))
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
        _provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))


def stop() -> None:
    """Send what is left, and turn traces off."""
    global _provider  # noqa: PLW0603
    if _provider is not None:
        _provider.shutdown()
        _provider = None


def enabled() -> bool:
    """Whether spans are sent."""
    return _provider is not None


def carried(header: str | None) -> str | None:
    """A ``traceparent`` that is one, else nothing: what clients send is stored only where it is well formed."""
    return header if header is not None and _TRACEPARENT.match(header) else None


@contextmanager
def span(name: str, parent: str | None, *, root: bool = False, **attributes: str | int) -> Iterator[str | None]:
    """A span around what is done within; gives the trace context for what follows from it.

    With traces off that is the parent itself. Without a parent nothing, unless a trace may begin here (``root``).
    """
    if _provider is None or (parent is None and not root):
        yield parent
        return
    context = None if parent is None else _propagator.extract({"traceparent": parent})
    with _provider.get_tracer("maru").start_as_current_span(name, context=context, attributes=attributes):
        into: dict[str, str] = {}
        _propagator.inject(into)
        yield into.get("traceparent", parent)


def since(name: str, parent: str | None, started: float, **attributes: str | int) -> None:
    """A span from ``started`` (Unix time) until now, for work that many share; nothing without a parent."""
    if _provider is None or parent is None:
        return
    tracer = _provider.get_tracer("maru")
    context = _propagator.extract({"traceparent": parent})
    made = tracer.start_span(name, context=context, start_time=int(started * 1e9), attributes=attributes)
    made.end(int(time.time() * 1e9))


__all__ = ["carried", "configure", "enabled", "since", "span", "stop"]
