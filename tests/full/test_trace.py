"""One trace shows POST, append, relay, inbox, reaction and view: told to a real OTLP/HTTP receiver by processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.client import Maru
from services.full import FullSystem
from services.start import prepare_folder

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Receiver(ThreadingHTTPServer):
    """Keeps what was sent to it: the names of spans by trace, and the process that each came from."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: dict[str, set[tuple[str, str]]] = {}
        self.came = threading.Condition()


class Handler(BaseHTTPRequestHandler):
    """OTLP/HTTP with protobuf, as a collector takes it."""

    server: Receiver

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest()
        sent.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.came:
            for resource in sent.resource_spans:
                names = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        found = self.server.spans.setdefault(span.trace_id.hex(), set())
                        found.add((names["service.name"], span.name))
            self.server.came.notify_all()
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_one_trace_shows_the_whole_way(tmp_path: Path, receiver: Receiver) -> None:
    wanted = {
        ("issues-gateway", "POST raiseIssue"),
        ("issues-gateway", "append"),
        ("issues-relay", "relay"),
        ("routing-follower", "inbox"),
        ("routing-follower", "reaction IssueRaised"),
        ("issues-follower", "view register"),
    }
    env = {"MARU_OTLP": f"http://127.0.0.1:{receiver.server_port}"}
    with FullSystem(tmp_path, env=env) as full:
        full.wait_ready()
        with full.opened() as opened:
            prepare_folder(opened)
        with Maru(full.urls) as maru:
            token, _ = maru.token("org-gangwon-hongcheon.officer")
        body = {
            "title": "국도 확장",
            "text": "산길 구간을 넓혀 주시기를 건의합니다.",
            "regions": ["gangwon"],
            "channel": "council_visit",
        }
        headers = {
            "Authorization": f"Bearer {token}",
            "Maru-Office": "org-gangwon-hongcheon.officer",
            "Idempotency-Key": "trace-test-1",
            "traceparent": TRACEPARENT,
        }
        answer = httpx.post(f"{full.urls['issues']}/v1/issues", json=body, headers=headers, timeout=10)
        assert answer.status_code == 201, answer.text
        end = time.monotonic() + 20
        with receiver.came:
            while not wanted <= receiver.spans.get(TRACE, set()) and time.monotonic() < end:
                receiver.came.wait(1)
        assert wanted <= receiver.spans.get(TRACE, set()), receiver.spans.get(TRACE)
