"""What is generated from the code and committed: the contracts and two pages of the documents.

``contracts/openapi.json`` comes from the real application, ``contracts/asyncapi.json`` from the table of topics and the
event classes, ``contracts/schemas`` and ``contracts/golden`` from the event classes, ``docs/events.md`` from them and
from what the services declare, ``docs/capabilities.md`` from the markers of the tests, the cluster's alerts from those
of ``deploy/prometheus``. A golden file is history: it is written once and never again. A schema is written again only
where its readers can read what it then says.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import sys
import types
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel, ValidationError

from services.__main__ import SERVICES
from services.capabilities import capabilities_page
from services.cluster_alerts import cluster_alerts
from services.compatibility import refused
from services.dashboard import dashboard
from services.generate_asyncapi import document
from services.metrics_page import metrics_page
from shared.contracts import codes
from shared.contracts.envelope import Envelope, Event, Id, Line, Text, UnknownType, event_types
from shared.contracts.schemas import record_schema, type_of
from shared.runtime import settings
from shared.runtime.codec import GENESIS, is_sealed, seal, unseal
from shared.runtime.declare import View
from shared.runtime.directory import DIRECTORY
from shared.runtime.settings import ROOT
from shared.runtime.system import System, migrate

CHANGED = "this event's stored shape changed: raise schema_version, add an upcast, keep the old golden file"


def own_events() -> list[type[Event]]:
    """Every event class of the four services, in the order of declaration; types that tests register are left out."""
    known = [cls for cls in event_types().values() if cls.__module__.startswith("shared.contracts.")]
    return [cls for service in SERVICES for cls in known if cls.owning_service == service.name]


def file_name(cls: type[Event]) -> str:
    """``IssueRaised.v1.json``: how its schema and its golden sample are called."""
    return f"{type_of(cls)}.v{cls.schema_version}.json"


# Golden samples

_INSTANT = "2023-01-04T09:00:00+09:00"


def sample(kind: Any, name: str, metadata: Sequence[Any] = ()) -> Any:
    """A value of a type, always the same: every optional part is there, every list has one member."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return sample(args[0], name, args[1:])
    if origin is Literal:
        return args[0]
    if origin in (Union, types.UnionType):
        return sample(next(arg for arg in args if arg is not types.NoneType), name, metadata)
    if origin is tuple:
        return [sample(args[0], name)]
    if origin is dict:
        return {name: sample(args[1], name)}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {part: sample(field.annotation, part, field.metadata) for part, field in kind.model_fields.items()}
    if kind is str:
        return f"견본 {name}" if _has(metadata, Text) or _has(metadata, Line) else f"{name}-1"
    fixed: dict[Any, Any] = {
        bool: True,
        int: 1,
        float: 0.5,
        date: _INSTANT[:10],
        datetime: _INSTANT,
        AwareDatetime: _INSTANT,
    }
    return fixed[kind]


def _has(metadata: Sequence[Any], alias: Any) -> bool:
    return get_args(alias)[1] in metadata


def golden(cls: type[Event], aggregate: str) -> str:
    """A stored document of this event: envelope, payload and hash."""
    event = cls.model_validate(sample(cls, ""))
    digits = hashlib.sha256(type_of(cls).encode()).hexdigest()[:12]
    given = {
        **sample(Envelope, ""),
        "event_id": f"01857a3c-2e80-7000-8000-{digits}",
        "type": type_of(cls),
        "schema_version": cls.schema_version,
        "service": cls.owning_service,
        "aggregate": aggregate,
        "personal": None,
        "prev_hash": GENESIS,
    }
    envelope = Envelope.model_validate(given).model_dump(mode="json", exclude={"hash"})
    raw, _ = seal({**envelope, "data": event.model_dump(mode="json", exclude={"type"})})
    return _pretty(json.loads(raw), ordered=True)


def golden_problem(text: str) -> str | None:
    """Why a committed golden document no longer holds.

    ``None`` where today's code reads it, and writes all that stands in it unchanged; within a schema version an event
    may have gained fields with defaults since.
    """
    document = json.loads(text)
    claimed = document.pop("hash", None)
    raw, digest = seal(document)
    if digest != claimed or not is_sealed(raw):
        return "the golden file was edited by hand: its hash does not fit"
    try:
        _, event = unseal(raw)
    except UnknownType:
        return f"{CHANGED} (no such type or version is declared any more)"
    except (KeyError, ValidationError) as error:
        return f"{CHANGED} ({type(error).__name__} on reading it)"
    again = event.model_dump(mode="json", exclude={"type"})
    if document["schema_version"] == event.schema_version and not _holds(again, document["data"]):
        return CHANGED
    return None


def _holds(again: Any, stored: Any) -> bool:
    """Whether all of ``stored`` stands in ``again`` as it was; keys beyond it are defaults, or reading had failed."""
    if isinstance(stored, dict):
        return isinstance(again, dict) and all(key in again and _holds(again[key], stored[key]) for key in stored)
    if isinstance(stored, list):
        return isinstance(again, list) and len(again) == len(stored) and all(map(_holds, again, stored))
    return type(again) is type(stored) and bool(again == stored)


# The page of events


def aggregates() -> dict[str, str]:
    """Event type → aggregate whose stream it stands in: a decider's file speaks of the events that it stores."""
    found: dict[str, str] = {}
    for service in SERVICES:
        for decider in service.deciders:
            tree = ast.parse(inspect.getsource(sys.modules[decider.decide.__module__]))
            for name in _events_in([tree]):
                if event_types()[name].owning_service != service.name:
                    continue
                if found.setdefault(name, decider.name) != decider.name:
                    raise ValueError(f"{name} is stored by {found[name]} and {decider.name}")
    return found


@cache
def folded(view: View) -> set[str]:
    """The event types that a view's fold takes, in itself or in what it calls in its file."""
    tree = ast.parse(inspect.getsource(sys.modules[view.fold.__module__]))
    named: dict[str, ast.stmt] = {}
    for part in tree.body:
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            named[part.name] = part
        elif isinstance(part, ast.Assign):
            named.update({target.id: part for target in part.targets if isinstance(target, ast.Name)})
    reached: dict[str, ast.AST] = {}
    waiting = [view.fold.__name__]
    while waiting:
        name = waiting.pop()
        if name in named and name not in reached:
            reached[name] = named[name]
            waiting += [node.id for node in ast.walk(named[name]) if isinstance(node, ast.Name)]
    return _events_in(reached.values())


def _events_in(parts: Iterable[ast.AST]) -> set[str]:
    names = {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}
    return {name for name, cls in event_types().items() if cls.__name__ in names}


def hearers(cls: type[Event]) -> list[str]:
    """Who hears an event: service, and what in it (its reaction, its views)."""
    name, owner = type_of(cls), cls.owning_service
    told = ["every service (directory)"] if owner in DIRECTORY.sources and name in folded(DIRECTORY) else []
    for service in SERVICES:
        parts = ["reaction"] if name in service.reactions.by_type and owner in (service.name, *service.hears) else []
        parts += [view.name for view in service.views if owner in view.sources and name in folded(view)]
        if parts:
            told.append(f"{service.name} ({', '.join(parts)})")
    return told


_LISTS = {get_args(kind): name for name, kind in vars(codes).items() if get_origin(kind) is Literal}
"""The closed lists of codes, by their values."""


def shown_type(kind: Any, metadata: Sequence[Any] = ()) -> str:
    """A type as the page shows it: ``RegionRef[]``, ``date?``, ``"for" | "against"``."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return shown_type(args[0], args[1:])
    if origin is Literal:
        return _LISTS.get(args) or " | ".join(json.dumps(arg) for arg in args)
    if origin in (Union, types.UnionType):
        some = [shown_type(arg, metadata) for arg in args if arg is not types.NoneType]
        shown = " | ".join(some)
        return shown if len(some) == len(args) else f"({shown})?" if "|" in shown else f"{shown}?"
    if origin is tuple:
        shown = shown_type(args[0])
        return f"({shown})[]" if "|" in shown else f"{shown}[]"
    if origin is dict:
        return f"map of {shown_type(args[1])}"
    for alias, name in ((Id, "id"), (Line, "line"), (Text, "text")):
        if kind is str and _has(metadata, alias):
            return name
    return "datetime" if kind is AwareDatetime else str(getattr(kind, "__name__", kind))


def events_page() -> str:
    """``docs/events.md``."""
    where = aggregates()
    lines = [
        "# Events",
        "",
        "Generated by `make generate` from `shared/contracts/` and what the services declare; never edited by hand.",
        "",
        "An event is declared once, by the service that owns it. What is stored is the envelope (`Envelope` in",
        "`shared/contracts/envelope.py`) with these fields under `data`. The JSON Schema of the whole is in",
        "`contracts/schemas/`, a full stored document in `contracts/golden/`. How to follow them from another system:",
        "[consuming.md](consuming.md).",
        "",
        "`?` may be null, `[]` is a list; `id`, `line` and `text` are strings of at most 120, 300 and 20,000",
        "characters; types in capitals are declared in `shared/contracts/`, closed lists of codes in `codes.py` there.",
    ]
    for service in SERVICES:
        lines += [
            "",
            f"## {service.name}",
            "",
            "| Event | Stream | Says | Fields | Heard by |",
            "|---|---|---|---|---|",
        ]
        for cls in own_events():
            if cls.owning_service != service.name:
                continue
            fields = ", ".join(
                f"`{name}`: {shown_type(field.annotation, field.metadata)}".replace("|", "\\|")
                for name, field in cls.model_fields.items()
                if name != "type"
            )
            says = inspect.cleandoc(cls.__doc__ or "").splitlines()[0].replace("``", "`")
            name = f"`{type_of(cls)}` v{cls.schema_version}"
            heard = "; ".join(hearers(cls)) or "nobody yet"
            lines.append(f"| {name} | {where[type_of(cls)]} | {says} | {fields or '–'} | {heard} |")
    return "\n".join(lines) + "\n"


# Everything together


@cache
def openapi() -> str:
    """The OpenAPI document of the real application, hosted on a temporary folder; no port is opened."""
    with TemporaryDirectory() as folder:
        data = Path(folder)
        migrate(SERVICES, data)
        system = System(SERVICES, settings.load(data=data))
        try:
            return _pretty(system.app().openapi())
        finally:
            system.stop()


@cache
def asyncapi() -> str:
    """The AsyncAPI document of the topics, with the golden sample of each event as its example."""
    where = aggregates()
    return _pretty(document(own_events(), lambda cls: dict(json.loads(golden(cls, where[type_of(cls)])))))


def _pretty(document: Any, *, ordered: bool = False) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2, sort_keys=ordered) + "\n"


def generated() -> dict[str, str]:
    """Every generated file but the golden ones, by its path in the repository."""
    files = {f"contracts/schemas/{file_name(cls)}": _pretty(record_schema(cls)) for cls in own_events()}
    files["contracts/asyncapi.json"] = asyncapi()
    files["contracts/openapi.json"] = openapi()
    files["docs/events.md"] = events_page()
    files["docs/capabilities.md"] = capabilities_page(ROOT)
    files["docs/metrics.md"] = metrics_page()
    files["deploy/grafana/maru.json"] = dashboard()
    files["deploy/k8s/base/alerts.yaml"] = cluster_alerts(ROOT)
    return files


def goldens() -> dict[str, str]:
    """A golden sample of the present version of every event, by its path."""
    where = aggregates()
    return {f"contracts/golden/{file_name(cls)}": golden(cls, where[type_of(cls)]) for cls in own_events()}


def problems(root: Path) -> list[str]:
    """Committed files that are not what would be generated, one line each."""
    found = []
    for path, text in generated().items():
        file = root / path
        broken = _broken(file, text)
        if broken:
            found += broken
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            found.append(f"{path}: {'differs' if file.exists() else 'missing'}: run make generate")
    found += [f"{path}: missing: run make generate" for path in goldens() if not (root / path).exists()]
    for file in sorted((root / "contracts/golden").glob("*.json")):
        problem = golden_problem(file.read_text(encoding="utf-8"))
        if problem is not None:
            found.append(f"contracts/golden/{file.name}: {problem}")
    # A schema of an older version stays as it was for as long as its golden file does.
    for file in sorted((root / "contracts/schemas").glob("*.json")):
        if not (root / "contracts/golden" / file.name).exists():
            found.append(f"contracts/schemas/{file.name}: no event has it: delete it")
    return found


def _broken(file: Path, text: str) -> list[str]:
    """Why this may not be written over a committed schema; empty for every other file."""
    if file.parent.name != "schemas" or not file.exists():
        return []
    return refused(json.loads(file.read_text(encoding="utf-8")), json.loads(text))


def write(root: Path) -> None:
    """Write what is missing or differs; a golden file only where there is none, no schema that breaks its contract."""
    new = {path: text for path, text in goldens().items() if not (root / path).exists()}
    for path, text in {**generated(), **new}.items():
        file = root / path
        if not file.exists() or (file.read_text(encoding="utf-8") != text and not _broken(file, text)):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


def generate(*, check: bool, root: Path = ROOT) -> list[str]:
    """Write the files (``check``: none of them); gives what is not in order afterwards, one line each."""
    if not check:
        write(root)
    return problems(root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m services.generate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a committed file differs")
    differing = generate(check=parser.parse_args().check)
    sys.stderr.writelines(line + "\n" for line in differing)
    sys.exit(1 if differing else 0)
