"""Decider: the pure heart of every aggregate.

An aggregate is three things: an initial state, ``decide`` (rules; may refuse) and ``evolve`` (facts; never fails,
applies no rule, reads no clock). Everything a rule needs from outside stands in the command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.contracts.envelope import Command, Event

S = TypeVar("S")


class Refused(Exception):
    """A command that a rule does not allow. Nothing is stored.

    ``rule`` names the invariant (``I-9``), the row of the transition table (``T-4``) or the decision code's row
    (``D-adopt``); ``ko`` and ``en`` are sentences for a clerk. ``kind`` tells the gateway what sort of refusal it is:
    ``rule`` (409), ``authority`` (403), ``absent`` (404) or ``input`` (422).
    """

    def __init__(self, rule: str, ko: str, en: str, kind: str = "rule") -> None:
        super().__init__(f"{rule}: {en}")
        self.rule = rule
        self.ko = ko
        self.en = en
        self.kind = kind


@dataclass(frozen=True)
class Decider(Generic[S]):
    """One kind of aggregate: ``name`` is the first part of its stream's name, ``commands`` what it understands."""

    name: str
    initial: S
    decide: Callable[[S, Command], Sequence[Event]]
    evolve: Callable[[S, Event], S]
    commands: tuple[type[Command], ...]


def fold(decider: Decider[S], events: Iterable[Event], state: S | None = None) -> S:
    """The state after ``events``, starting from ``state`` (the initial one where none is given)."""
    current = decider.initial if state is None else state
    for event in events:
        current = decider.evolve(current, event)
    return current
