"""Bodies for every command route, made from the route's own declaration, so that a new route is covered by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from services.__main__ import SERVICES
from shared.runtime.declare import CommandRoute, ReadRoute

COMMANDS: list[CommandRoute] = [route for service in SERVICES for route in service.gateway.commands]
READS: list[ReadRoute] = [route for service in SERVICES for route in service.gateway.reads]


def sample(route: CommandRoute) -> dict[str, Any]:
    """A body that the route's model takes: its example, else made from its schema."""
    schema = route.body.model_json_schema()
    body: dict[str, Any] = dict(route.example) if route.example is not None else _made(schema, schema.get("$defs", {}))
    route.body.model_validate_json(json.dumps(body), strict=True)
    return body


def _made(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Any:
    if "$ref" in schema:
        return _made(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _made(schema["anyOf"][0], defs)
    match schema.get("type"):
        case "object":
            needed = schema.get("required", ())
            return {name: _made(one, defs) for name, one in schema.get("properties", {}).items() if name in needed}
        case "array":
            return [_made(schema["items"], defs) for _ in range(schema.get("minItems", 0))]
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return True
        case _:
            return {"date": "2023-05-08", "date-time": "2023-05-08T09:00:00+09:00"}.get(schema.get("format", ""), "x1")


def unfit(route: CommandRoute, marker: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Bodies that do not fit: each field left out, or of every wrong type; fields that nobody declared."""
    body = sample(route)
    wrong: tuple[Any, ...] = (
        None, True, 7, -1, 1.5, "", marker, f"{marker} {'x' * 20_001}", [], [marker], [[marker]], {}, {marker: marker},
    )  # fmt: skip
    fields = [name for name in route.body.model_fields if name != "type"]
    for name in fields:
        yield from _if_unfit(route, f"no {name}", {key: value for key, value in body.items() if key != name})
        for number, value in enumerate(wrong):
            yield from _if_unfit(route, f"{name} wrong {number}", {**body, name: value})
        if isinstance(body.get(name), dict):
            for inner in (*body[name], marker):
                yield from _if_unfit(route, f"{name}/{inner}", {**body, name: {**body[name], inner: {marker: marker}}})
    for name in (marker, "version", "by", "at", "authority", "case_id_", "tier", "holder", "docket"):
        yield from _if_unfit(route, f"undeclared {name}", {**body, name: marker})


def _if_unfit(route: CommandRoute, name: str, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        route.body.model_validate_json(json.dumps(body), strict=True)
    except ValidationError:
        yield name, body
