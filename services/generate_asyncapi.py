"""``contracts/asyncapi.json``: the topics, and every event on them, as AsyncAPI 3.

Made of the table of topics, the event classes and the very function that makes a record's headers; whoever follows the
topics needs this document, or ``docs/consuming.md``, and no code of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

from shared.contracts.envelope import Event
from shared.contracts.schemas import published_type, record_schema, schema_path, type_of
from shared.contracts.topics import MAX_MESSAGE_BYTES, TOPICS, Topic
from shared.runtime.codec import canonical, slot_of
from shared.runtime.jobs import Unread
from shared.runtime.records import to_record

SPECIFICATION = "3.0.0"
BINDING = "0.5.0"
"""Version of AsyncAPI's Kafka binding."""

_WHERE = {"type": "string", "pattern": "^(0|[1-9][0-9]*)$"}
_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

HEADERS: dict[str, dict[str, Any]] = {
    "ce_specversion": {"type": "string", "const": "1.0", "description": "Version of CloudEvents."},
    "ce_id": {"type": "string", "description": "Id of the event; unique, and the same whenever it is sent again."},
    "ce_source": {"type": "string", "description": "The service that owns the event: /maru/ and its name."},
    "ce_type": {"type": "string", "description": "Type with its version: maru.<service>.<Event>.v<version>."},
    "ce_subject": {"type": "string", "description": "Id of the case; where there is none, of the aggregate."},
    "ce_time": {"type": "string", "format": "date-time", "description": "When it was true (effective_at)."},
    "content-type": {"type": "string", "const": "application/json", "description": "Form of the value; UTF-8."},
    "ce_dataschema": {"type": "string", "description": "Path of the value's JSON Schema at every gateway."},
    "ce_partitionkey": {"type": "string", "description": "The record's key: order is kept among equal keys."},
    "ce_sequence": {
        "type": "string",
        "pattern": "^[0-9]{20}$",
        "description": "ce_logposition with leading zeros, so that texts sort as numbers do.",
    },
    "ce_recordedtime": {"type": "string", "format": "date-time", "description": "When it was recorded."},
    "ce_correlationid": {"type": "string", "description": "Common to everything that one act brought about."},
    "ce_causationid": {"type": "string", "description": "The event or command that brought it about."},
    "ce_traceparent": {"type": "string", "description": "W3C trace context of the request, where there was one."},
    "ce_logepoch": {**_WHERE, "description": "Epoch of the service's log; another one after a restore."},
    "ce_logposition": {**_WHERE, "description": "Position in the service's log; rises within a partition."},
    "ce_logprevious": {
        **_WHERE,
        "description": "Position of the event before it in the same partition, 0 for the first: shows a hole.",
    },
}
"""Every header that a record may have; Kafka carries each as UTF-8 bytes."""
OPTIONAL = frozenset({"ce_causationid", "ce_traceparent"})


def message_name(cls: type[Event]) -> str:
    """``IssueRaised.v1``: how the document calls a message."""
    return f"{type_of(cls)}.v{cls.schema_version}"


def document(events: Iterable[type[Event]], sample: Callable[[type[Event]], dict[str, Any]]) -> dict[str, Any]:
    """The AsyncAPI document of these events; ``sample`` gives a stored document of each, hash included.

    Raises ``ValueError`` where two different parts of schemas have one name.
    """
    classes = list(events)
    schemas: dict[str, Any] = {"Headers": _headers()}
    for cls in classes:
        for name, part in record_schema(cls)["$defs"].items():
            if schemas.setdefault(name, _moved(part)) != _moved(part):
                raise ValueError(f"two different parts of schemas are called {name}")
    return {
        "asyncapi": SPECIFICATION,
        "info": {
            "title": "Maru events",
            "version": version("maru"),
            "description": "Facts of the four services of Maru, a topic for each service, on Kafka, as CloudEvents "
            "1.0 in binary mode. What is promised, and what is not: docs/consuming.md.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.service: _channel(topic, classes) for topic in TOPICS},
        "operations": {
            f"{topic.service}.publish": {
                "action": "send",
                "title": f"The service {topic.service} publishes what it has recorded",
                "channel": {"$ref": f"#/channels/{topic.service}"},
            }
            for topic in TOPICS
        },
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "messages": {message_name(cls): _message(cls, sample(cls)) for cls in classes},
        },
    }


def _channel(topic: Topic, classes: Iterable[type[Event]]) -> dict[str, Any]:
    own = [message_name(cls) for cls in classes if cls.owning_service == topic.service]
    return {
        "address": topic.name,
        "title": f"Events of {topic.service}",
        "description": f"Only {topic.service} publishes here. Key: {topic.key}. Order is promised among records of one "
        "key, delivery at least once; nothing is deleted or compacted.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in own},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": topic.retention_ms,
                    "max.message.bytes": MAX_MESSAGE_BYTES,
                },
                "bindingVersion": BINDING,
            }
        },
        "x-confidentiality": list(topic.carries),
    }


def _message(cls: type[Event], stored: dict[str, Any]) -> dict[str, Any]:
    found = record_schema(cls)
    topic = next(topic for topic in TOPICS if topic.service == cls.owning_service)
    fixed = {
        "ce_source": f"/maru/{cls.owning_service}",
        "ce_type": f"{published_type(cls)}.v{cls.schema_version}",
        "ce_dataschema": schema_path(cls),
    }
    return {
        "name": fixed["ce_type"],
        "title": type_of(cls),
        "summary": found["description"].splitlines()[0],
        "description": found["description"],
        "contentType": "application/json",
        "correlationId": {"location": "$message.header#/ce_correlationid"},
        "headers": {
            "type": "object",
            "allOf": [{"$ref": "#/components/schemas/Headers"}],
            "properties": {name: {"type": "string", "const": value} for name, value in fixed.items()},
        },
        "payload": {
            "type": "object",
            "allOf": _moved(found["allOf"]),
            "properties": _moved(found["properties"]),
            "required": found["required"],
        },
        "bindings": {"kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": BINDING}},
        "examples": [{"name": type_of(cls), "headers": _example_headers(stored), "payload": stored}],
    }


def _headers() -> dict[str, Any]:
    required = [name for name in HEADERS if name not in OPTIONAL]
    return {"title": "Headers", "type": "object", "properties": HEADERS, "required": required}


def _example_headers(stored: dict[str, Any]) -> dict[str, str]:
    """The headers of a record of this stored document, as the relay makes them."""
    key = stored["case_id"] or stored["aggregate_id"]
    row = Unread(
        stored["service"],
        1_700_000_000,
        42,
        slot_of(key),
        17,
        key,
        stored["type"],
        stored["case_id"],
        canonical(stored),
        trace=_TRACE,
    )
    return {name: content.decode() for name, content in to_record(row).headers}


def _moved(part: Any) -> Any:
    """A part of a record's schema with its references as they are within this document."""
    if isinstance(part, list):
        return [_moved(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        name: item.replace("#/$defs/", "#/components/schemas/") if name == "$ref" else _moved(item)
        for name, item in part.items()
    }
