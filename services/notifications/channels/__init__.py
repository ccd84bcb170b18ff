"""Channels: each a file here, with its words in a file of the same name in ``wording/``; nothing else names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from services.notifications.wording import Words, read_wording


@dataclass(frozen=True)
class Channel:
    """A way to reach an office that delivers within the write: its name, and the receipt it gives for a notice."""

    name: str
    receipt: Callable[[str], str]

    def words(self, wording: str) -> Words:
        """The texts of this channel for a wording id."""
        return read_wording(self.name, wording)


@cache
def channels() -> tuple[Channel, ...]:
    """The channels of this folder."""
    return tuple(import_module(f"{__name__}.{found.name}").CHANNEL for found in iter_modules(__path__))
