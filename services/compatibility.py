"""May today's schemas take the place of the committed ones? Nobody who reads a topic may be left behind by a change.

Topics are never deleted, so one version of an event is written by old and new releases and read by both. Within a
version only this may change: an optional field may be added (readers ignore fields that they do not know), and titles
and descriptions may say it better. All else is refused, in both directions: what a reader of the committed schema could
not read (a field gone, another type, a new code in a closed list), and what would make today's schema untrue of records
that already stand in the topics (a field newly required, a code taken out of a list, a limit drawn closer).

Committed is whatever stood in ``contracts/schemas`` at any commit on the first-parent line of HEAD: a break is found
before its commit, in it, and in every commit after it. Schemas are one contract where their ``$id`` is equal; it is
the path at which gateways serve them. Without git, or without its history, only the files as they lie there are
compared, and that is said.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = "contracts/schemas"

_WORDS = frozenset({"$schema", "$id", "$defs", "$comment", "title", "description", "examples", "x-owner"})
"""What may say anything: no reader goes by it."""
_COMPARED_APART = frozenset({"properties", "required", "enum", "const", "anyOf", "allOf", "items", "$ref"})

Schema = Mapping[str, Any]


ENVELOPE = (
    "the envelope has no version of its own: an optional field may be added to it; whatever else needs new topics "
    "beside the old ones"
)
"""What to do instead of a change of the envelope that is refused."""


def remedy(schema: Schema) -> str:
    """What to do instead of a change of an event that is refused: one sentence."""
    name, number = schema["title"], int(str(schema["$id"]).rpartition("/v")[2])
    return (
        f"leave version {number} as it was; give the changed event schema_version = {number + 1} and an "
        f'@upcast("{name}", {number}), keep contracts/golden/{name}.v{number}.json and '
        f"contracts/schemas/{name}.v{number}.json, then make generate (docs/adding.md)"
    )


def refused(committed: Schema, now: Schema) -> list[str]:
    """The breaks as they are told: file, place, what it is, and what to do instead. Those of the envelope once."""
    told = []
    for found in breaks(committed, now):
        if found.startswith("data"):
            file = f"{FOLDER}/{now['title']}.v{str(now['$id']).rpartition('/v')[2]}.json"
            told.append(f"{file}: {found}. Instead: {remedy(now)}")
        else:
            told.append(f"{FOLDER}, envelope of every event: {found}. Instead: {ENVELOPE}")
    return told


def breaks(committed: Schema, now: Schema) -> list[str]:
    """Why ``now`` cannot take the place of ``committed``, one line for each place; empty where it can.

    Where the ``$id`` differs they are two contracts, and nothing is compared.
    """
    if committed.get("$id") != now.get("$id"):
        return []
    return list(dict.fromkeys(_Comparison(committed, now).at(committed, now, "")))


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str]] = set()

    def at(self, old: Any, new: Any, path: str) -> Iterator[str]:
        """The breaks at a place and below it."""
        if not isinstance(old, dict) or not isinstance(new, dict):
            if old != new:
                yield f"{_place(path)}: {_shown(old)} became {_shown(new)}"
            return
        if "$ref" in old and "$ref" in new:
            yield from self._others(_beside(old), _beside(new), path)
            pair = (str(old["$ref"]), str(new["$ref"]))
            if pair not in self._seen:
                self._seen.add(pair)
                yield from self.at(_target(self._old, old), _target(self._new, new), path)
            return
        old, new = _resolved(self._old, old), _resolved(self._new, new)
        yield from self._fields(old, new, path)
        yield from _codes(old, new, path)
        for name in ("anyOf", "allOf"):
            yield from self._alternatives(old.get(name, []), new.get(name, []), path)
        if ("items" in old) != ("items" in new):
            yield f"{_place(path)}: what stands in the list is no longer described in the same way"
        elif "items" in old:
            yield from self.at(old["items"], new["items"], f"{path}[]")
        yield from self._others(old, new, path)

    def _others(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        """Type, format, limits, defaults: whatever is one value."""
        for name in sorted((set(old) | set(new)) - _WORDS - _COMPARED_APART):
            one, other = old.get(name), new.get(name)
            if isinstance(one, dict) and isinstance(other, dict) and name != "default":
                yield from self.at(one, other, f"{path}.{name}" if path else name)
            elif one != other or (name in old) != (name in new):
                yield f"{_place(path)}: {name} was {_shown(one, name in old)}, is {_shown(other, name in new)}"

    def _fields(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        had, has = set(old.get("required", [])), set(new.get("required", []))
        for name in before:
            place = f"{path}.{name}" if path else name
            if name not in after:
                yield f"{place}: the field is gone"
                continue
            if name in had - has:
                yield f"{place}: was always there, and need not be any more"
            if name in has - had:
                yield f"{place}: is required now, and stored events may lack it"
            yield from self.at(before[name], after[name], place)
        for name in after:
            if name not in before and name in has:
                yield f"{path}.{name}".lstrip(".") + ": is new and required, and stored events lack it"

    def _alternatives(self, old: list[Any], new: list[Any], path: str) -> Iterator[str]:
        if len(old) != len(new):
            yield f"{_place(path)}: had {len(old)} alternatives, has {len(new)}"
            return
        before = sorted(old, key=lambda part: str(_resolved(self._old, part).get("type")))
        after = sorted(new, key=lambda part: str(_resolved(self._new, part).get("type")))
        for one, other in zip(before, after, strict=True):
            yield from self.at(one, other, path)


def _codes(old: Schema, new: Schema, path: str) -> Iterator[str]:
    """A closed list of codes; a constant is a list of one."""
    before, after = _listed(old), _listed(new)
    if before is None or after is None:
        if before is not after:
            yield f"{_place(path)}: was {'open' if before is None else 'a closed list'}, is not any more"
        return
    for code in after:
        if code not in before:
            yield f"{_place(path)}: may now be {_shown(code)}, which readers do not know"
    for code in before:
        if code not in after:
            yield f"{_place(path)}: {_shown(code)} is gone from the list, and may stand in stored events"


def _listed(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _resolved(root: Schema, part: Schema) -> Schema:
    """A part with what it refers to; a default may stand beside a reference."""
    return {**_resolved(root, _target(root, part)), **_beside(part)} if "$ref" in part else part


def _target(root: Schema, part: Schema) -> Schema:
    found: Schema = root["$defs"][str(part["$ref"]).removeprefix("#/$defs/")]
    return found


def _beside(part: Schema) -> Schema:
    return {name: value for name, value in part.items() if name != "$ref"}


def _place(path: str) -> str:
    return path or "the record"


def _shown(value: Any, there: bool = True) -> str:
    return json.dumps(value, ensure_ascii=False) if there else "absent"


# The committed ones


class NoHistory(Exception):
    """What was committed cannot be asked; the text says why."""


def history(root: Path) -> dict[str, list[Schema]]:
    """Every schema that was ever committed on the first-parent line of HEAD, by its ``$id``, newest first.

    Raises ``NoHistory`` where there is no git, no repository, or no commit in it.
    """
    listed = _git(
        root, "log", "--first-parent", "-m", "--raw", "--no-abbrev", "--no-renames", "--format=", "--", FOLDER
    )
    blobs: dict[str, None] = {}
    for line in listed.splitlines():
        new = line.split("\t")[0].split()[3]
        if set(new) != {"0"}:
            blobs[new] = None
    found: dict[str, list[Schema]] = {}
    for text in _contents(root, blobs):
        schema = json.loads(text)
        if str(schema.get("$id")).startswith("/schemas/"):
            found.setdefault(schema["$id"], []).append(schema)
    return found


def _contents(root: Path, blobs: Iterable[str]) -> Iterator[bytes]:
    asked = "".join(f"{blob}\n" for blob in blobs)
    told = _run(root, "cat-file", "--batch", given=asked.encode())
    at = 0
    while at < len(told):
        head, _, _ = told[at:].partition(b"\n")
        begin, size = at + len(head) + 1, int(head.split()[2])
        yield told[begin : begin + size]
        at = begin + size + 1


def _git(root: Path, *arguments: str) -> str:
    return _run(root, *arguments).decode("utf-8", "replace")


def _run(root: Path, *arguments: str, given: bytes = b"") -> bytes:
    try:
        # Which git is the machine's own affair; the arguments are ours.
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, check=False, input=given, capture_output=True, timeout=60)  # noqa: S603
    except FileNotFoundError:
        raise NoHistory("there is no git on this machine") from None
    except subprocess.TimeoutExpired:
        raise NoHistory("git did not answer within a minute") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise NoHistory(said[0] if said else f"git ended with {done.returncode}")
    return done.stdout


def compare(committed: Mapping[str, Sequence[Schema]], now: Mapping[str, Schema]) -> list[str]:
    """What is refused: the breaks of each contract, and contracts that are gone. One line each, with what to do."""
    problems: dict[str, None] = {}
    for name, versions in committed.items():
        if name not in now:
            file = f"{FOLDER}/{versions[0]['title']}.v{name.rpartition('/v')[2]}.json"
            problems[f"{file}: is gone, and its records stand in the topics. Instead: put file and event back"] = None
            continue
        for version in versions:
            problems.update(dict.fromkeys(refused(version, now[name])))
    return list(problems)


def on_disk(root: Path) -> dict[str, Schema]:
    """The schemas as their files say them now, by ``$id``."""
    files = sorted((root / FOLDER).glob("*.json"))
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {str(schema["$id"]): schema for schema in found}


def main() -> int:
    """Compare what the code says with what was committed. Exit code 1 where something is refused."""
    from services.generate import own_events
    from shared.contracts.schemas import record_schema
    from shared.runtime.settings import ROOT

    here = on_disk(ROOT)
    now = {**here, **{str(schema["$id"]): schema for schema in map(record_schema, own_events())}}
    committed = {name: [schema] for name, schema in here.items()}
    try:
        for name, versions in history(ROOT).items():
            committed.setdefault(name, []).extend(versions)
    except NoHistory as error:
        print(f"compatibility with earlier commits: not run: {error}")  # noqa: T201
    problems = compare(committed, now)
    sys.stderr.writelines(line + "\n" for line in problems)
    if not problems:
        count = sum(map(len, committed.values()))
        print(f"compatibility: {count} schemas, as files and in commits; their readers can read all of today's")  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
