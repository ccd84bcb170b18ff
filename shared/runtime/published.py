"""``/schemas/{type}/{version}``: the JSON Schema of each event at every gateway; its path is ``ce_dataschema``.

Open to everybody, without a token: a schema holds no fact. The present version of an event comes from its class. Those
before it are the committed files, which never change: their records stand in the topics for ever.
"""

from __future__ import annotations

import json
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from shared.contracts.envelope import Event, event_types
from shared.contracts.schemas import published_type, record_schema, type_of
from shared.runtime.problems import bad_request
from shared.runtime.settings import ROOT

FILES = ROOT / "contracts/schemas"
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}

_PARAMETERS = [
    {"name": name, "in": "path", "required": True, "schema": {"type": "string", "maxLength": 120}, "example": example}
    for name, example in (("type", "maru.issues.IssueRaised"), ("version", "v1"))
]


def schemas(files: Path = FILES) -> dict[tuple[str, str], type[Event] | Path]:
    """Where the schema of each type (``maru.issues.IssueRaised``) and version (``v1``) comes from: its class or a file.

    Raises ``ValueError`` where the file of an earlier version is not there.
    """
    found: dict[tuple[str, str], type[Event] | Path] = {}
    for cls in event_types().values():
        if not cls.__module__.startswith("shared.contracts."):
            continue
        for number in range(1, cls.schema_version):
            file = files / f"{type_of(cls)}.v{number}.json"
            if not file.exists():
                raise ValueError(f"the schema of an earlier version is missing: {file}")
            found[published_type(cls), f"v{number}"] = file
        found[published_type(cls), f"v{cls.schema_version}"] = cls
    return found


def add_schemas(app: FastAPI) -> None:
    """Add the route. Raises ``ValueError`` where the schema of an earlier version of an event is not there."""
    known = schemas()

    @app.get(
        "/schemas/{type}/{version}",
        tags=["contracts"],
        operation_id="eventSchema",
        summary="JSON Schema of an event's record, as its ce_dataschema names it; needs no token",
        response_class=Response,
        responses={
            200: {"description": "Found", "content": {"application/schema+json": {"schema": {"type": "object"}}}},
            404: {"description": "Problem (RFC 9457)", "content": _PROBLEM},
        },
        openapi_extra={"security": [], "parameters": _PARAMETERS},
    )
    async def schema(request: Request) -> Response:
        found = known.get((request.path_params["type"], request.path_params["version"]))
        if found is None:
            raise bad_request(
                "unknown_schema",
                "그런 사건의 유형이나 판이 없습니다. 모든 유형은 contracts/asyncapi.json에 있습니다.",
                "No such type or version of an event. All of them stand in contracts/asyncapi.json.",
                404,
            )
        text = found.read_bytes() if isinstance(found, Path) else json.dumps(record_schema(found), ensure_ascii=False)
        return Response(text, media_type="application/schema+json", headers={"Cache-Control": "max-age=3600"})
