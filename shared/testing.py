"""Given, when, then: how rules are told in tests, for any decider.

>>> given(ISSUE, IssueRaised(...)).when(AcceptIssue(...)).then(IssueAccepted(...))
>>> given(ISSUE).when(AcceptIssue(...)).refused("T-4")

``then`` also tries the command a second time: a satisfied command must say nothing new, or be refused (I-18).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.contracts.envelope import Command, Event
from shared.decider import Decider, Refused, fold

S = TypeVar("S")


@dataclass(frozen=True)
class Given(Generic[S]):
    """A stream's past; ``when`` puts a command to it."""

    decider: Decider[S]
    past: tuple[Event, ...]

    def when(self, command: Command) -> When[S]:
        """Put one command to the stream as it stands."""
        return When(self.decider, self.past, command)


@dataclass(frozen=True)
class When(Generic[S]):
    """A command put to a stream."""

    decider: Decider[S]
    past: tuple[Event, ...]
    command: Command

    def events(self) -> tuple[Event, ...]:
        """What the command would store; raises ``Refused``."""
        return tuple(self.decider.decide(fold(self.decider, self.past), self.command))

    def then(self, *expected: Event) -> Given[S]:
        """Exactly these events are stored, and the same command again stores nothing more.

        Returns the stream as it stands afterwards, for the next step.
        """
        events = self.events()
        assert events == expected, f"expected {_show(expected)}\nbut got  {_show(events)}"
        after = Given(self.decider, (*self.past, *events))
        try:
            again: Sequence[Event] = after.when(self.command).events()
        except Refused:
            again = ()
        assert not again, f"the command repeated stores again: {_show(again)}"
        return after

    def refused(self, rule: str) -> Refused:
        """The command is refused by this rule, with a sentence in both languages."""
        try:
            events = self.events()
        except Refused as caught:
            refusal = caught
        else:
            raise AssertionError(f"expected refusal by {rule} but got {_show(events)}")
        assert refusal.rule == rule, f"expected rule {rule} but {refusal.rule} refused: {refusal.en}"
        assert refusal.ko.strip(), "no Korean sentence"
        assert refusal.en.strip(), "no English sentence"
        return refusal


def given(decider: Decider[S], *past: Event) -> Given[S]:
    """A stream in which these events stand."""
    return Given(decider, past)


def _show(events: Sequence[Event]) -> str:
    return ", ".join(f"{event.type} {event.model_dump(mode='json', exclude={'type'})}" for event in events) or "nothing"
