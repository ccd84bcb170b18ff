"""The JSON Schema of an event's record as it lies on a topic: what every reader outside goes by.

A record's value is the envelope with the payload under ``data``. The classes that store events refuse what they do not
know; a published schema does not, because within a version fields may be added: a reader ignores those that it does not
know.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from shared.contracts.envelope import Envelope, Event

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def type_of(cls: type[Event]) -> str:
    """The literal type of an event class."""
    return str(cls.model_fields["type"].default)


def published_type(cls: type[Event]) -> str:
    """``maru.issues.IssueRaised``: an event's type as other systems see it, without its version."""
    return f"maru.{cls.owning_service}.{type_of(cls)}"


def schema_path(cls: type[Event]) -> str:
    """``/schemas/maru.issues.IssueRaised/v1``: the record's ``ce_dataschema``, and where every gateway serves it."""
    return f"/schemas/{published_type(cls)}/v{cls.schema_version}"


@cache
def record_schema(cls: type[Event]) -> Schema:
    """JSON Schema of the value of an event's record: envelope and payload. Not to be changed by the caller.

    A field with a default is not required: a document from before it was added does not have it.
    Raises ``ValueError`` where two parts of it have one name.
    """
    payload = cls.model_json_schema(mode="serialization")
    payload["properties"].pop("type")
    payload["required"] = [name for name in payload.get("required", []) if name != "type"]
    payload["title"] = f"{type_of(cls)}Data"
    envelope = Envelope.model_json_schema(mode="serialization")
    parts: Schema = {}
    for made in (envelope, payload):
        for name, part in {**made.pop("$defs", {}), made["title"]: made}.items():
            if parts.setdefault(name, part) != part:
                raise ValueError(f"two parts of {type_of(cls)} are called {name}")
    fixed: Schema = {
        "type": {"type": "string", "const": type_of(cls)},
        "schema_version": {"type": "integer", "const": cls.schema_version},
        "service": {"type": "string", "const": cls.owning_service},
        "data": {"$ref": f"#/$defs/{type_of(cls)}Data"},
    }
    return {
        "$schema": DIALECT,
        "$id": schema_path(cls),
        "title": type_of(cls),
        "description": inspect.cleandoc(cls.__doc__ or ""),
        "x-owner": cls.owning_service,
        "type": "object",
        "allOf": [{"$ref": "#/$defs/Envelope"}],
        "properties": fixed,
        "required": list(fixed),
        "$defs": {name: _open(part) for name, part in sorted(parts.items())},
    }


def _open(part: Any) -> Any:
    """A schema without "nothing else may stand here", at any depth; backquotes as in plain text."""
    if isinstance(part, list):
        return [_open(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {name: _open(item) for name, item in part.items() if (name, item) != ("additionalProperties", False)}
    if isinstance(kept.get("description"), str):
        kept["description"] = inspect.cleandoc(kept["description"]).replace("``", "`")
    return kept
