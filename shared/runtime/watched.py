"""What the observer is given, and the words in which it tells what it found. Data only; see ``observed.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Hop:
    """Seconds from a fact of ``causes`` to each fact of ``effects`` that names it as its cause, under one name."""

    name: str
    causes: frozenset[str]
    effects: frozenset[str]


@dataclass(frozen=True)
class Answer:
    """A fact of type ``fact`` is owed an event of ``by`` that names it as its cause, ``within`` real seconds.

    ``only``: a field of its data, and the values for which this holds. ``each``: what is owed one answer: the fact's
    own ``case`` (nothing where it has none), each of the ``cases`` that its data lists, or the ``fact`` itself.
    """

    fact: str
    by: frozenset[str]
    only: tuple[str, frozenset[str]] | None = None
    each: Literal["case", "cases", "fact"] = "case"
    within: float = 10.0


@dataclass(frozen=True)
class Watched:
    """What the observer follows."""

    topics: Mapping[str, str]
    """Topic to service."""
    hops: tuple[Hop, ...]
    moves: frozenset[str]
    """Types that only happen because of another event."""
    answers: tuple[Answer, ...]
    pulse: str
    """The aggregate whose events are the pulse: its first event names the regions, ``holding`` the tier."""


@dataclass(frozen=True)
class Limits:
    """What bounds the observer's memory. The oldest goes first."""

    ids: int = 500_000
    """Events remembered by id, to know repeats and causes."""
    streams: int = 200_000
    """Streams whose last version and hash are kept."""
    pending: int = 50_000
    """Effects that wait for their cause to be read, and facts that wait for their answer; of each."""
    waiting: int = 1_000
    """Records of one partition, and versions of one stream, that wait for what should have come before them."""
    epochs: int = 8
    """Epochs of a log whose chains are kept, of each partition."""
    examples: int = 5
    """Faults of each kind that are shown: the first."""
    grace: float = 5.0
    """Real seconds by which a cause, or a predecessor, may be read later than what follows it."""


Kind = Literal[
    "order",
    "hole",
    "version",
    "chain",
    "uncaused",
    "unanswered",
    "unknown_type",
    "foreign",
    "handler",
]
KINDS: Mapping[Kind, tuple[str, str]] = {
    "order": ("기록 순서가 뒤바뀜", "a record came after those that follow it in its log"),
    "hole": ("기록이 빠져 있음", "a record of the log is missing from its topic"),
    "version": ("판 번호가 이어지지 않음", "versions of a stream are missing, or there twice"),
    "chain": ("해시 사슬이 이어지지 않음", "an event does not name the hash of the one before it"),
    "uncaused": ("원인 없는 이동, 또는 알 수 없는 원인", "a move without a cause, or a cause that no topic has"),
    "unanswered": ("제때 답이 없는 사실", "a fact that nobody answered in time"),
    "unknown_type": ("알 수 없는 유형", "a type of event, or a version of it, that this release does not know"),
    "foreign": ("형식에 맞지 않는 기록", "a record that no relay of ours has made, or not so"),
    "handler": ("관찰기 내부 오류", "a record on which the observer itself failed"),
}
"""Each kind of fault in Korean and English."""


@dataclass(frozen=True, slots=True)
class Where:
    """A record's place, and the event in it."""

    topic: str
    partition: int
    offset: int
    event: str = ""
    type: str = ""


@dataclass(slots=True)
class Fault:
    """One example: where, what, and when it was found (real seconds since 1970)."""

    where: Where
    what: str
    found: float


@dataclass(slots=True)
class Found:
    """Faults of one kind: how many, and the first."""

    count: int = 0
    examples: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Beat:
    """One event of the pulse: real time of the fact, tier, regions."""

    at: float
    tier: str
    regions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a record gave that is measured: its service, hops with their seconds, and its beat."""

    service: str
    hops: tuple[tuple[str, float], ...] = ()
    beat: Beat | None = None
