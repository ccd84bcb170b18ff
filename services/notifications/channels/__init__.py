"""Channels: each a file here, with its words in a file of the same name in ``wording/``; nothing else names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from services.notifications.wording import Words, read_wording
from shared.runtime.declare import Attempt
from shared.runtime.settings import Settings


@dataclass(frozen=True)
class Channel:
    """A way to reach an office.

    Either it delivers within the write that requests: ``receipt`` is what it gives for a notice. Or it delivers outside
    and later: ``opened`` gives its sender, where the settings provide for it.
    """

    name: str
    receipt: Callable[[str], str] | None = None
    opened: Callable[[Settings], Attempt | None] | None = None

    def words(self, wording: str) -> Words:
        """The texts of this channel for a wording id."""
        return read_wording(self.name, wording)


@cache
def channels() -> tuple[Channel, ...]:
    """The channels of this folder."""
    return tuple(import_module(f"{__name__}.{found.name}").CHANNEL for found in iter_modules(__path__))
