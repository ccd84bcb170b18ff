"""What is common to every event and every command: base classes, envelope, and the registry of event types.

Source: section 3 of the domain model. A stored event is the envelope with its payload under ``data``; its type is the
literal string and schema version declared here, never a Python import path.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)]
"""A text that somebody wrote: not empty, at most 20,000 characters."""
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
"""A title or a short answer on one line."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
"""A case, a body, an office, a department: an identifier, never a person's name."""


class Fact(BaseModel):
    """A frozen value that may stand in an event or a command; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Label(Fact):
    """A name in both languages of the system."""

    ko: Line
    en: Line


class Actor(Fact):
    """Who acts: the token's subject, in which office of which body; ``process`` is the process manager (SYS)."""

    user: Id
    office: Id
    body: Id
    on_behalf_of: Id | None = None
    delegation_id: Id | None = None


SYSTEM_OFFICE = "process"
"""Office of the process manager and of the clock (SYS in the transition table)."""


class Authority(Fact):
    """By what right: a row of the transition table or an invariant, and the charter's clause where one applies."""

    rule: Line
    clause: Line | None = None


class Reason(Fact):
    """Why, as code and as text (I-8)."""

    code: Id
    text: Text


class RuleRow(Fact):
    """One row of a decision table that was looked at: which, and whether it applied."""

    table: Id
    row: Id
    matched: bool


class RuleTrace(Fact):
    """Why routing decided as it did: version of the rule set, rows looked at, and the inputs they saw."""

    rule_set: Id
    version: int
    rows: tuple[RuleRow, ...]
    inputs: dict[str, str | int | float | bool | tuple[str, ...] | None]


class Event(Fact):
    """Base of every event's payload. ``type`` is a literal; ``schema_version`` counts the shapes it has had.

    These classes are storage. Within a schema version fields may be added, each with a default, and what was stored
    before is read with it; anything else (a field changed, renamed, removed, or added without a default) raises
    ``schema_version`` and needs an upcast.
    """

    schema_version: ClassVar[int] = 1
    owning_service: ClassVar[str] = ""
    type: str


E = TypeVar("E", bound=Event)


class Command(Fact):
    """Base of every command: who acts, when (business time), by what right, plus the facts its rules need."""

    by: Actor
    at: AwareDatetime
    authority: Authority
    effective_at: AwareDatetime | None = None
    """When the act was true, where that is earlier than ``at``; lends no authority (I-9)."""

    @property
    def today(self) -> date:
        """The business day of the act, in the time zone of ``at`` (Asia/Seoul)."""
        return self.at.date()

    def as_event(self, event: type[E]) -> E:
        """The event whose fields all stand in this command under the same names."""
        return event(**{name: getattr(self, name) for name in event.model_fields if name != "type"})


class Envelope(Fact):
    """Everything about a stored event but its payload (section 3). ``hash`` chains the stream (I-19)."""

    event_id: str
    type: str
    schema_version: int
    service: str
    aggregate: str
    aggregate_id: str
    version: int
    case_id: str | None
    effective_at: datetime
    recorded_at: datetime
    actor: Actor
    authority: Authority
    reason: Reason | None = None
    correlation_id: str
    causation_id: str | None = None
    confidentiality: Literal["open", "internal", "confidential"] = "internal"
    rule_trace: RuleTrace | None = None
    personal: dict[str, str] | None = None
    """Encrypted part and key id (a later issue); no personal data is stored in the clear, ever."""
    prev_hash: str
    hash: str


Upcast = Callable[[dict[str, Any]], dict[str, Any]]

_types: dict[str, type[Event]] = {}
_upcasts: dict[tuple[str, int], Upcast] = {}


def register(cls: type[Event], owner: str) -> type[Event]:
    """Enter an event class under its literal type.

    Raises ``ValueError`` where two classes claim one type: an event is declared once, by the service that owns it.
    """
    name = cls.model_fields["type"].default
    if not isinstance(name, str):
        raise ValueError(f"{cls.__name__} has no literal type")
    if name in _types and _types[name] is not cls:
        raise ValueError(f"event type {name} is declared twice")
    cls.owning_service = owner
    _types[name] = cls
    return cls


def upcast(event_type: str, from_version: int) -> Callable[[Upcast], Upcast]:
    """Declare how a payload of ``from_version`` becomes one of the next version. Pure; never fails."""

    def declare(function: Upcast) -> Upcast:
        _upcasts[event_type, from_version] = function
        return function

    return declare


def event_types() -> dict[str, type[Event]]:
    """Every declared event class by its literal type."""
    return dict(_types)


class UnknownType(Exception):
    """An event of a type, or of a newer version, that this release does not know."""


def read_payload(event_type: str, schema_version: int, data: dict[str, Any]) -> Event:
    """The payload as today's class, upcast where it was stored in an older shape.

    Raises ``UnknownType`` for a type or a newer version that this release does not know, ``pydantic.ValidationError``
    for a payload that does not fit its declared shape.
    """
    cls = _types.get(event_type)
    if cls is None or schema_version > cls.schema_version:
        raise UnknownType(f"{event_type}.v{schema_version}")
    for version in range(schema_version, cls.schema_version):
        data = _upcasts[event_type, version](data)
    return cls.model_validate({"type": event_type, **data})
