"""The one reader of JSON from outside: what it refuses, and that no refusal tells what was sent."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.envelope import Fact
from shared.runtime import strict_json
from shared.runtime.strict_json import MAX_BYTES, MAX_DEPTH, RESERVED, BadJson, read

SECRET = "hunter2"
"""Stands in every bad body; must stand in no error."""


def refused(raw: bytes) -> str:
    with pytest.raises(BadJson) as caught:
        read(raw)
    error = caught.value
    assert SECRET not in f"{error} {error!r} {error.args} {error.__cause__}"
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return error.code


def body(value: str) -> bytes:
    return f'{{"note": "{SECRET}", "value": {value}}}'.encode()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "[NaN]", '{"a": {"b": [Infinity]}}'])
def test_no_number_that_is_none(value: str) -> None:
    assert refused(body(value)) == "not_a_number"


@pytest.mark.parametrize(
    "value", ["1e400", "-1e400", "[1e999]", "1" + "0" * 5000, "-" + "9" * 5000, "1e99999999", str(2**53), str(-(2**53))]
)
def test_no_number_beyond_what_two_readers_agree_on(value: str) -> None:
    assert refused(body(value)) == "number_out_of_range"


@pytest.mark.parametrize(
    "value", ["0", "-0", "1.5", "1e300", str(2**53 - 1), "1e-400", "true", "null", '"7"', "[]", "{}"]
)
def test_plain_values_are_read(value: str) -> None:
    assert read(body(value))["value"] == json.loads(value)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": "hunter2", "a": 2}',
        b'{"x": {"a": "hunter2", "a": "hunter2"}}',
        b'{"x": [{"y": 1, "\\u0079": 2}]}',
        # Two writings of one text are one key.
        '{"가": 1, "가": 2}'.encode(),
    ],
)
def test_no_key_twice(raw: bytes) -> None:
    assert refused(raw) == "duplicate_key"


@pytest.mark.parametrize(
    "text", [r"\ud800", r"\udfff", r"a\udc00b", r"\ud83d", r"\ude00\ud83d", r"가\ud800나"], ids=ascii
)
def test_no_half_of_a_character_written_as_escape(text: str) -> None:
    assert refused(body(f'"{text}"')) == "lone_surrogate"
    assert refused(body(f'{{"{text}": 1}}')) == "lone_surrogate"
    assert refused(body(f'[["{text}"]]')) == "lone_surrogate"


@pytest.mark.parametrize(
    "raw", [b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xff", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"\xe3\x81"]
)
def test_no_bytes_that_are_no_utf_8(raw: bytes) -> None:
    assert refused(b'{"note": "hunter2' + raw + b'"}') == "not_utf8"


def test_a_whole_pair_of_escapes_is_one_character() -> None:
    assert read(rb'{"a": "\ud83d\ude00"}') == {"a": "\U0001f600"}


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_no_other_encoding_and_no_mark_in_front(codec: str) -> None:
    assert refused(body("1").decode().encode(codec)) in ("byte_order_mark", "not_utf8", "not_json")


@pytest.mark.parametrize("value", ['"\\u0000"', '{"\\u0000": 1}', '["a", "b\\u0000c"]', '"가\\u0000"'])
def test_no_nul(value: str) -> None:
    assert refused(body(value)) == "nul_character"
    assert refused(b'{"note": "hunter2\x00"}') == "not_json"


@pytest.mark.parametrize("key", sorted(RESERVED))
@pytest.mark.parametrize("frame", ["{}", "[{}]", '{{"a": {}}}', '{{"a": [[{{"b": {}}}]]}}'])
def test_no_reserved_key_at_any_depth(key: str, frame: str) -> None:
    assert refused(body(frame.format(json.dumps({key: SECRET, "_other_": 1})))) == "reserved_key"


@pytest.mark.parametrize("key", sorted(RESERVED))
def test_a_reserved_word_written_with_escapes_is_the_same_word(key: str) -> None:
    escaped = "".join(f"\\u{ord(character):04x}" for character in key)
    assert refused(body(f'{{"{escaped}": 1}}')) == "reserved_key"


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1000, 100_000])
@pytest.mark.parametrize("bracket", ["[]", '{"a":1}'])
def test_nothing_nested_too_deep(depth: int, bracket: str) -> None:
    opening, closing = ("[", "]") if bracket == "[]" else ('{"a":', "}")
    value = opening * depth + "1" + closing * depth
    raw = body(value)
    assert refused(raw) == ("too_deep" if len(raw) <= MAX_BYTES else "too_large")


def test_nested_as_deep_as_allowed_is_read() -> None:
    depth = MAX_DEPTH - 1
    assert read(body("[" * depth + "]" * depth))
    # Brackets in a text are no nesting.
    assert read(body(json.dumps("[{" * 5000)))


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"hunter2"', b"null", b"true", b"[{}]"])
def test_only_an_object_at_the_top(raw: bytes) -> None:
    assert refused(raw) == "not_an_object"


@pytest.mark.parametrize(
    "raw",
    [b"", b" ", b"{", b"hunter2", b"{'a': 1}", b'{"a": hunter2}', b'{"a": 1,}', b'{"a": 1} {}', b'{"a": 01}', b'{"a"'],
)
def test_nothing_that_is_no_json(raw: bytes) -> None:
    assert refused(raw) == "not_json"


def test_nothing_larger_than_allowed() -> None:
    fits = b'{"a": "' + b"x" * (MAX_BYTES - 9) + b'"}'
    assert len(fits) == MAX_BYTES
    assert read(fits)
    assert refused(fits[:-2] + b'x"}') == "too_large"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_every_text_comes_out_composed(text: str) -> None:
    """NFD and NFC forms of a title are one title."""
    for form in ("NFC", "NFD"):
        raw = json.dumps({"a": [unicodedata.normalize(form, text)]}, ensure_ascii=False).encode()
        assert read(raw) == {"a": [unicodedata.normalize("NFC", text)]}


def test_keys_are_composed_too() -> None:
    assert read(json.dumps({unicodedata.normalize("NFD", "제목"): 1}).encode()) == {"제목": 1}


@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_read_or_refused(raw: bytes) -> None:
    try:
        value = read(raw)
    except BadJson:
        return
    assert read(strict_json.dump(value)) == value


Json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcde"), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from("abcde"), Json, max_size=4))
def test_what_is_read_can_be_written_and_read_again(value: dict[str, Any]) -> None:
    first = read(json.dumps(value).encode())
    assert read(strict_json.dump(first)) == first


class _Inner(Fact):
    deep: int


class _Outer(Fact):
    name: str
    inner: tuple[_Inner, ...]


def test_an_error_names_only_fields_of_ours() -> None:
    assert strict_json.known_names(_Outer) == {"name", "inner", "deep"}
