"""A stored event as a record on Kafka and back: CloudEvents 1.0, Kafka protocol binding, binary mode.

The value is the stored bytes, unchanged; the attributes are headers (``ce_…``), the key is the event's own key and the
partition its slot. Three attributes have no registered extension: ``logepoch``, ``logposition`` and ``logprevious`` say
where the event stands in its service's log and which event of the same slot stands before it.

A record is taken for one of ours only when it is, header for header, what would have been made of what it says.
Nothing in a record is ever resolved as the name of a class or a module.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from shared.contracts.topics import topic_named, topic_of
from shared.runtime.codec import is_sealed, slot_of
from shared.runtime.jobs import Unread
from shared.runtime.kafka import Outgoing

MAX_BYTES = 1_000_000
"""Greatest value of a record, bytes. Commands are at most 256 KB, so no event of ours comes near."""
MAX_HEADER = 2_000
_JSON = "application/json"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,99}")
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_FORMAT = JSONFormat()
_LARGEST = 2**63 - 1
_DAY = 86_400
"""An epoch is the second in which it began; clocks may differ by so much."""


class Foreign(Exception):
    """A record that is not, or not unchanged, one of ours; ``cause`` says why, in a few words without its content."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class _Stored(CloudEvent):
    """An event of our log as the package takes it: its attributes are right by construction, and validating each of
    them again would be a third of what a record costs."""

    def __init__(self, attributes: dict[str, Any], data: bytes) -> None:
        self._attributes = attributes
        self._data = data


def to_record(row: Unread) -> Outgoing:
    """The record of a stored event.

    Raises ``ValueError`` for bytes that are no event, and for an event too confidential for its topic.
    """
    return _record(row, json.loads(row.raw))


def _record(row: Unread, document: dict[str, Any]) -> Outgoing:
    version = document["schema_version"]
    if document["confidentiality"] not in topic_of(row.source).carries:
        raise ValueError("an event of this confidentiality may not stand on its topic")
    attributes = {
        "specversion": "1.0",
        "id": document["event_id"],
        "source": f"/maru/{row.source}",
        "type": f"maru.{row.source}.{row.type}.v{version}",
        "subject": row.case_id or document["aggregate_id"],
        "time": datetime.fromisoformat(document["effective_at"]),
        "datacontenttype": _JSON,
        "dataschema": f"/schemas/maru.{row.source}.{row.type}/v{version}",
        "partitionkey": row.key,
        "sequence": f"{row.position:020d}",
        "recordedtime": document["recorded_at"],
        "correlationid": document["correlation_id"],
        "causationid": document["causation_id"],
        "traceparent": row.trace,
        "logepoch": row.epoch,
        "logposition": row.position,
        "logprevious": row.prev,
    }
    message = to_binary(_Stored(attributes, row.raw), _FORMAT)
    return Outgoing(row.slot, row.key.encode(), row.raw, list(message.headers.items()))


def from_record(
    topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> Unread:
    """The event of a record, as an inbox takes it; its type may be unknown to this release.

    Raises ``Foreign`` for everything that no relay of ours has made: whatever its content, nothing else is raised.
    """
    table = topic_named(topic)
    if table is None:
        raise Foreign("topic is not one of ours")
    if not value:
        raise Foreign("no value")
    if len(value) > MAX_BYTES:
        raise Foreign("value is larger than 1 MB")
    name = _key(key)
    given = _headers(headers)
    try:
        document = from_binary(KafkaMessage(given, name, value), _FORMAT, CloudEvent).get_data()
    except BaseCloudEventException:
        raise Foreign("headers are no CloudEvent") from None
    except (ValueError, TypeError, OverflowError):
        raise Foreign("headers cannot be read") from None
    except RecursionError:
        raise Foreign("value is nested too deep") from None
    if not isinstance(document, dict) or not is_sealed(value):
        raise Foreign("value is not a sealed event")
    try:
        row = _row(table.service, partition, name, value, given, document)
        made = _record(row, document)
    except (KeyError, ValueError, TypeError, AttributeError, BaseCloudEventException):
        raise Foreign("value is not an event, or headers lack something") from None
    if document.get("service") != table.service:
        raise Foreign("event is of another service than the topic")
    if slot_of(name) != partition or partition >= table.partitions:
        raise Foreign("partition is not the slot of the key")
    if not 1 <= row.epoch <= time.time() + _DAY or not 0 <= row.prev < row.position <= _LARGEST:
        raise Foreign("epoch or positions cannot be")
    for header, content in made.headers:
        if given.get(header) != content:
            raise Foreign(f"header {header} does not agree with the event")
    return row


def place_of(headers: Sequence[tuple[str, bytes | None]]) -> tuple[int, int] | None:
    """Epoch and position that headers claim, not checked further; ``None`` where they claim none."""
    found = dict(headers)
    try:
        return _number(found.get("ce_logepoch")), _number(found.get("ce_logposition"))
    except ValueError:
        return None


def _row(
    service: str, partition: int, key: str, value: bytes, given: dict[str, bytes], document: dict[str, Any]
) -> Unread:
    kind, case_id, aggregate_id = document["type"], document["case_id"], document["aggregate_id"]
    if not isinstance(kind, str) or not _NAME.fullmatch(kind):
        raise Foreign("type has no form of ours")
    if not all(isinstance(document[name], str) for name in ("event_id", "recorded_at", "correlation_id")):
        raise Foreign("value is not an event, or headers lack something")
    for text in (aggregate_id,) if case_id is None else (aggregate_id, case_id):
        if not isinstance(text, str) or not _is_name(text):
            raise Foreign("case or aggregate has no form of ours")
    trace = given.get("ce_traceparent")
    if trace is not None and not _TRACE.fullmatch(trace.decode("ascii", "replace")):
        raise Foreign("trace context is malformed")
    return Unread(
        service,
        _number(given.get("ce_logepoch")),
        _number(given.get("ce_logposition")),
        partition,
        _number(given.get("ce_logprevious")),
        key,
        kind,
        case_id,
        value,
        trace=None if trace is None else trace.decode("ascii"),
    )


def _key(key: bytes | None) -> str:
    if not key:
        raise Foreign("no key")
    try:
        name = key.decode()
    except UnicodeDecodeError:
        raise Foreign("key is not UTF-8") from None
    if not _is_name(name):
        raise Foreign("key has no form of ours")
    return name


def _is_name(text: str) -> bool:
    """Whether this may be a key or an id: short, printable (PostgreSQL, for one, cannot store NUL in a text)."""
    return 0 < len(text) <= 300 and text.isprintable()


def _headers(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, bytes]:
    given: dict[str, bytes] = {}
    for name, content in headers:
        if content is None:
            raise Foreign("a header has no content")
        if name in given:
            raise Foreign("a header stands there twice")
        if len(content) > MAX_HEADER:
            raise Foreign("a header is too long")
        given[name] = content
    if "ce_specversion" not in given:
        raise Foreign("headers are no CloudEvent")
    return given


def _number(content: bytes | None) -> int:
    text = (content or b"").decode("ascii", "replace")
    if not _NUMBER.fullmatch(text):
        raise ValueError("no number")
    return int(text)
