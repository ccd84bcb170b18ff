"""Cursors of lists: the sort key of the last row, signed, good for one operation only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from shared.runtime.problems import bad_request


class Cursors:
    """Makes and reads cursors; a client can neither read meaning into one nor make one up."""

    def __init__(self, key: str) -> None:
        self._serializer = URLSafeSerializer(key, salt="maru-cursor")

    def make(self, operation: str, after: Sequence[Any]) -> str:
        """The cursor after a row."""
        return str(self._serializer.dumps([operation, *after]))

    def read(self, operation: str, cursor: str) -> tuple[Any, ...]:
        """The sort key in a cursor. Raises a 400 problem for any other text."""
        try:
            values = self._serializer.loads(cursor[:2000])
        except BadData:
            values = None
        if not isinstance(values, list) or not values or values[0] != operation:
            raise bad_request("cursor", "cursor가 올바르지 않습니다.", "The cursor is not one of this list.")
        return tuple(values[1:])
