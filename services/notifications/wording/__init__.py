"""What is said: a file for each channel, both languages side by side, by wording id.

No text names a case by its title, which may be confidential: it gives the short form of its id and where to look. A
file may begin with ``words_of = "<channel>"``: it says the same as that channel, save where it has words of its own.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from shared.contracts.envelope import Label


@dataclass(frozen=True)
class Words:
    """Title and text with their placeholders."""

    title: Label
    text: Label

    def filled(self, **values: str) -> Words:
        """The words with ``{case}``, ``{due}`` and ``{see}`` put in; a date that the event lacks is left out."""
        return Words(_fill(self.title, values), _fill(self.text, values))


def _fill(label: Label, values: dict[str, str]) -> Label:
    return Label(ko=label.ko.format_map(values), en=label.en.format_map(values))


@cache
def _table(channel: str) -> dict[str, Words]:
    table = tomllib.loads((files(__name__) / f"{channel}.toml").read_text("utf-8"))
    base = table.pop("words_of", None)
    return ({} if base is None else _table(base)) | {
        wording: Words(title=Label(**words["title"]), text=Label(**words["text"])) for wording, words in table.items()
    }


def wording_ids(channel: str) -> frozenset[str]:
    """Every wording id that a channel has words for."""
    return frozenset(_table(channel))


def read_wording(channel: str, wording: str) -> Words:
    """The words for a wording id; for a code that has none of its own those of its event type.

    Raises ``KeyError`` where there are neither.
    """
    table = _table(channel)
    return table[wording] if wording in table else table[wording.partition(".")[0]]
