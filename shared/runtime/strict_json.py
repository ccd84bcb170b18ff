"""The one reader of JSON that comes from outside, and nothing else that a client sends is ever parsed.

Refuses what the standard library lets through: NaN and infinities, numbers beyond double range, duplicate keys, lone
surrogates, NUL, other encodings, deep nesting, reserved keys. Text is normalised to NFC.
"""

from __future__ import annotations

import json
import math
import unicodedata
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_DIGITS = 30
RESERVED = frozenset({"_type_", "_data_", "__class__", "__proto__", "$ref"})
"""Keys by which one library or another would make an object out of a dictionary."""


class BadJson(Exception):
    """Why a body is no acceptable JSON: a short code, never the input."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def read(raw: bytes) -> dict[str, Any]:
    """A JSON object as plain values. Raises ``BadJson``."""
    if len(raw) > MAX_BYTES:
        raise BadJson("too_large")
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise BadJson("byte_order_mark")
    _check_depth(raw)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadJson("not_utf8") from None
    try:
        value = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float, parse_int=_int)
    except (ValueError, RecursionError):
        raise BadJson("not_json") from None
    if not isinstance(value, dict):
        raise BadJson("not_an_object")
    return value


def _check_depth(raw: bytes) -> None:
    depth = deepest = 0
    in_string = escaped = False
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    if deepest > MAX_DEPTH:
        raise BadJson("too_deep")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in RESERVED:
            raise BadJson("reserved_key")
        if key in made:
            raise BadJson("duplicate_key")
        made[_text(key)] = _clean(value)
    return made


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value


def _text(value: str) -> str:
    if value.isascii():
        if "\x00" in value:
            raise BadJson("nul_character")
        return value
    if "\x00" in value:
        raise BadJson("nul_character")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadJson("lone_surrogate")
    return unicodedata.normalize("NFC", value)


def _constant(_: str) -> Any:
    raise BadJson("not_a_number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadJson("number_out_of_range")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise BadJson("number_out_of_range")
    value = int(text)
    # RFC 8785 hashes numbers as doubles: beyond 2**53 two numbers would look alike.
    if abs(value) >= 2**53:
        raise BadJson("number_out_of_range")
    return value


def dump(document: dict[str, Any]) -> bytes:
    """A document that ``read`` has accepted, as bytes for the model's own strict reader."""
    return json.dumps(document, ensure_ascii=False).encode()


@lru_cache(maxsize=500)
def known_names(model: type[BaseModel]) -> frozenset[str]:
    """Every field name in a model and the models below it: what an error may name without echoing input."""
    found: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            found.update(value.get("properties", {}))
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    collect(model.model_json_schema())
    return frozenset(found)
