"""Events as bytes: what is hashed, what is stored, and how it is read back.

The stored bytes are the RFC 8785 canonical JSON of envelope and payload with ``hash`` put last; ``hash`` is the SHA-256
of that canonical JSON without it, ``prev_hash`` included (I-19). Epoch, position, previous position and slot are not
hashed. Only typed payloads are ever stored: a free dictionary of a client could make a stream unreadable.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import rfc8785

from shared.contracts.envelope import Envelope, Event, read_payload

SLOTS = 12
"""Fixed for ever: the partitions of every topic."""

GENESIS = "0" * 64
"""``prev_hash`` of a stream's first event."""


def slot_of(key: str) -> int:
    """The slot of a key: crc32 of its UTF-8 bytes modulo 12."""
    return zlib.crc32(key.encode()) % SLOTS


def canonical(document: Mapping[str, Any]) -> bytes:
    """RFC 8785 canonical JSON.

    For text, whole numbers, truth values and plain keys the standard library's writer gives the same bytes several
    times as fast (a property test compares them); fractions, whose form differs, and everything odd go to the library.
    """
    if _is_plain(document):
        return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    return rfc8785.dumps(document)


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-(2**53) < value < 2**53)
    if kind is dict:
        return all(type(key) is str and key.isascii() and _is_plain(item) for key, item in value.items())
    if kind is list or kind is tuple:
        return all(map(_is_plain, value))
    return False


def seal(document: Mapping[str, Any]) -> tuple[bytes, str]:
    """Canonical bytes with their hash, and the hash, for an envelope with payload and ``prev_hash`` but no ``hash``."""
    body = canonical(document)
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + b',"hash":"' + digest.encode() + b'"}', digest


def is_sealed(raw: bytes) -> bool:
    """Whether these are, byte for byte, the bytes that ``seal`` made."""
    try:
        document = json.loads(raw)
        claimed = document.pop("hash")
        return bool(seal(document) == (raw, claimed))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def unseal(raw: bytes) -> tuple[Envelope, Event]:
    """Envelope and payload of stored bytes, the payload upcast to today's shape.

    Raises ``UnknownType`` for types of a later release and ``ValueError`` for bytes that are no event.
    """
    document = json.loads(raw)
    payload = document.pop("data")
    data = read_payload(document["type"], document["schema_version"], payload)
    return Envelope.model_validate(document), data
