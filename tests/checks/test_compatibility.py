"""A change of an event that a reader of a committed version could not read is refused, and told what to do instead."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services import compatibility
from services.compatibility import ENVELOPE, NoHistory, breaks, compare, history, on_disk, refused
from services.generate import own_events
from shared.contracts.schemas import record_schema, type_of
from shared.runtime.settings import ROOT

Schema = dict[str, Any]
Change = Callable[[Schema], None]

SCHEMAS: dict[str, Schema] = {type_of(cls): record_schema(cls) for cls in own_events()}


def seat() -> Schema:
    """The schema of an event with flags, lists, references, codes and defaults."""
    return copy.deepcopy(SCHEMAS["MemberAppointed"])


def data(schema: Schema) -> Schema:
    """The description of its payload."""
    found: Schema = schema["$defs"]["MemberAppointedData"]
    return found


def changed(change: Change) -> list[str]:
    """The breaks that a planted change makes."""
    after = seat()
    change(after)
    return breaks(seat(), after)


def field_removed(schema: Schema) -> None:
    del data(schema)["properties"]["fields"]


def required_field_removed(schema: Schema) -> None:
    del data(schema)["properties"]["seat"]
    data(schema)["required"].remove("seat")


def field_renamed(schema: Schema) -> None:
    data(schema)["properties"]["place"] = data(schema)["properties"].pop("seat")


def type_changed(schema: Schema) -> None:
    data(schema)["properties"]["seat"] = {"type": "integer"}


def became_nullable(schema: Schema) -> None:
    data(schema)["properties"]["seat"] = {"anyOf": [data(schema)["properties"]["seat"], {"type": "null"}]}


def new_required_field(schema: Schema) -> None:
    data(schema)["properties"]["rank"] = {"type": "string"}
    data(schema)["required"].append("rank")


def became_required(schema: Schema) -> None:
    data(schema)["required"].append("fields")


def became_optional(schema: Schema) -> None:
    data(schema)["required"].remove("seat")


def default_changed(schema: Schema) -> None:
    data(schema)["properties"]["fields"]["default"] = ["land"]


def limit_raised(schema: Schema) -> None:
    data(schema)["properties"]["seat"]["maxLength"] = 500


def limit_lowered(schema: Schema) -> None:
    data(schema)["properties"]["seat"]["maxLength"] = 5


def limit_dropped(schema: Schema) -> None:
    del data(schema)["properties"]["seat"]["maxLength"]


def items_changed(schema: Schema) -> None:
    data(schema)["properties"]["fields"]["items"] = {"type": "integer"}


def deep_field_removed(schema: Schema) -> None:
    del schema["$defs"]["Label"]["properties"]["ko"]


def deep_required_field(schema: Schema) -> None:
    schema["$defs"]["Label"]["properties"]["ja"] = {"type": "string"}
    schema["$defs"]["Label"]["required"].append("ja")


REFUSED: list[tuple[Change, str]] = [
    (field_removed, "data.fields: the field is gone"),
    (required_field_removed, "data.seat: the field is gone"),
    (field_renamed, "data.seat: the field is gone"),
    (type_changed, 'data.seat: type was "string", is "integer"'),
    (became_nullable, "data.seat: had 0 alternatives, has 2"),
    (new_required_field, "data.rank: is new and required, and stored events lack it"),
    (became_required, "data.fields: is required now, and stored events may lack it"),
    (became_optional, "data.seat: was always there, and need not be any more"),
    (default_changed, 'data.fields: default was [], is ["land"]'),
    (limit_raised, "data.seat: maxLength was 120, is 500"),
    (limit_lowered, "data.seat: maxLength was 120, is 5"),
    (limit_dropped, "data.seat: maxLength was 120, is absent"),
    (items_changed, 'data.fields[]: type was "string", is "integer"'),
    (deep_field_removed, "data.name.ko: the field is gone"),
    (deep_required_field, "data.name.ja: is new and required, and stored events lack it"),
]


@pytest.mark.parametrize(("change", "told"), REFUSED, ids=lambda part: getattr(part, "__name__", ""))
def test_a_planted_break_is_found_and_named(change: Change, told: str) -> None:
    assert told in changed(change)


def codes(*listed: str) -> Schema:
    """A schema with a closed list of codes; pydantic writes a list of one as a constant."""
    schema = copy.deepcopy(SCHEMAS["IssueRaised"])
    part: Schema = {"const": listed[0]} if len(listed) == 1 else {"enum": list(listed)}
    schema["$defs"]["IssueRaisedData"]["properties"]["channel"] = {"type": "string", **part}
    return schema


def test_a_closed_list_may_neither_grow_nor_shrink_but_may_be_sorted_anew() -> None:
    assert breaks(codes("letter", "portal"), codes("portal", "letter")) == []
    assert breaks(codes("letter"), codes("letter", "portal")) == [
        'data.channel: may now be "portal", which readers do not know'
    ]
    assert breaks(codes("letter", "portal"), codes("letter")) == [
        'data.channel: "portal" is gone from the list, and may stand in stored events'
    ]


def test_a_closed_list_may_not_become_open_nor_the_reverse() -> None:
    opened = codes("letter", "portal")
    opened["$defs"]["IssueRaisedData"]["properties"]["channel"] = {"type": "string"}
    assert breaks(codes("letter", "portal"), opened) == ["data.channel: was a closed list, is not any more"]
    assert breaks(opened, codes("letter", "portal")) == ["data.channel: was open, is not any more"]


def optional_field(schema: Schema) -> None:
    data(schema)["properties"]["rank"] = {"type": "string", "default": "none"}


def deep_optional_field(schema: Schema) -> None:
    schema["$defs"]["Label"]["properties"]["ja"] = {"type": ["string", "null"], "default": None}


def optional_field_of_the_envelope(schema: Schema) -> None:
    schema["$defs"]["Envelope"]["properties"]["place"] = {"type": ["string", "null"], "default": None}


def better_words(schema: Schema) -> None:
    schema["description"] = "Said better."
    data(schema)["description"] = "Said better."
    data(schema)["properties"]["seat"]["title"] = "The seat"


def other_name_of_a_part(schema: Schema) -> None:
    text = json.dumps(schema).replace("#/$defs/Label", "#/$defs/Name")
    schema.clear()
    schema.update(json.loads(text))
    schema["$defs"]["Name"] = schema["$defs"].pop("Label")


@pytest.mark.parametrize(
    "change",
    [optional_field, deep_optional_field, optional_field_of_the_envelope, better_words, other_name_of_a_part],
    ids=lambda change: change.__name__,
)
def test_what_readers_may_ignore_is_allowed(change: Change) -> None:
    before, after = seat(), seat()
    change(after)
    assert before != after
    assert breaks(before, after) == []


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_schema_can_take_its_own_place(schema: Schema) -> None:
    assert breaks(schema, schema) == []


def test_the_message_says_what_to_do_instead() -> None:
    after = seat()
    field_removed(after)
    (told,) = refused(seat(), after)
    assert told.startswith("contracts/schemas/MemberAppointed.v1.json: data.fields: the field is gone. Instead: ")
    for part in ("schema_version = 2", '@upcast("MemberAppointed", 1)', "contracts/golden/MemberAppointed.v1.json"):
        assert part in told


def test_a_break_of_the_envelope_is_told_once_for_all_events() -> None:
    now = copy.deepcopy(SCHEMAS)
    for schema in now.values():
        del schema["$defs"]["Envelope"]["properties"]["rule_trace"]
    committed = {schema["$id"]: [schema] for schema in SCHEMAS.values()}
    (told,) = compare(committed, {schema["$id"]: schema for schema in now.values()})
    assert "rule_trace: the field is gone" in told
    assert ENVELOPE in told


def test_a_new_version_beside_the_old_one_is_allowed_and_the_old_one_may_not_go() -> None:
    old, new = seat(), seat()
    field_removed(new)
    new["$id"] = new["$id"].replace("/v1", "/v2")
    committed = {old["$id"]: [old]}
    assert compare(committed, {old["$id"]: old, new["$id"]: new}) == []
    (told,) = compare(committed, {new["$id"]: new})
    assert told.startswith("contracts/schemas/MemberAppointed.v1.json: is gone")


# What was committed


class Repository:
    """A repository with schemas in it, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "contracts/schemas").mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> None:
        """Run git, as nobody in particular."""
        author = {"NAME": "office", "EMAIL": "office@maru.example"}
        env = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in author.items()}
        env = {**os.environ, **env, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(["git", "-C", str(self.folder), *arguments], check=True, capture_output=True, env=env)

    def commit(self, schema: Schema) -> None:
        """Write a schema and commit it."""
        file = self.folder / f"contracts/schemas/{schema['title']}.v1.json"
        file.write_text(json.dumps(schema), encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=schemas")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_break_is_found_before_its_commit_in_it_and_after_it(repository: Repository) -> None:
    after = seat()
    field_removed(after)
    now = {after["$id"]: after}
    repository.commit(seat())
    assert len(compare(history(repository.folder), now)) == 1
    repository.commit(after)
    assert len(compare(history(repository.folder), now)) == 1
    repository.commit(copy.deepcopy(SCHEMAS["IssueRaised"]))
    assert [told.partition(". ")[0] for told in compare(history(repository.folder), on_disk(repository.folder))] == [
        "contracts/schemas/MemberAppointed.v1.json: data.fields: the field is gone"
    ]


def test_a_schema_that_was_deleted_is_missed(repository: Repository) -> None:
    repository.commit(seat())
    repository.git("rm", "--quiet", "-r", "contracts/schemas")
    repository.git("commit", "--quiet", "--message=gone")
    (told,) = compare(history(repository.folder), on_disk(repository.folder))
    assert "is gone" in told


def test_what_a_merge_brings_counts_and_what_a_branch_tried_before_does_not(repository: Repository) -> None:
    repository.commit(seat())
    repository.git("checkout", "--quiet", "-b", "branch")
    tried = seat()
    field_removed(tried)
    repository.commit(tried)
    right = seat()
    optional_field(right)
    repository.commit(right)
    repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-ff", "branch", "--message=merge")
    assert history(repository.folder) == {right["$id"]: [right, seat()]}
    assert compare(history(repository.folder), {right["$id"]: right}) == []
    assert compare(history(repository.folder), {right["$id"]: seat()}) != []


def test_schemas_of_another_kind_are_no_contract(repository: Repository) -> None:
    repository.commit({**seat(), "$id": "urn:something:else"})
    assert history(repository.folder) == {}


def test_without_a_repository_or_without_git_it_says_that_it_was_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(NoHistory, match="not a git repository"):
        history(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoHistory, match="no git"):
        history(tmp_path)


def test_the_check_counts_as_not_run_without_history_and_still_compares_the_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(_: Path) -> dict[str, list[Schema]]:
        raise NoHistory("there is no git on this machine")

    monkeypatch.setattr(compatibility, "history", none)
    assert compatibility.main() == 0
    assert "not run: there is no git on this machine" in capsys.readouterr().out
    before = on_disk(ROOT)
    before[seat()["$id"]]["$defs"]["MemberAppointedData"]["properties"]["former"] = {"type": "string"}
    monkeypatch.setattr(compatibility, "on_disk", lambda _: before)
    assert compatibility.main() == 1
    assert "data.former: the field is gone" in capsys.readouterr().err
