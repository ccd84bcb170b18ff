"""Office: authority belongs to it; subjects hold it from day to day (capability C5, I-9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from shared.contracts.codes import OfficeRole
from shared.contracts.envelope import Command, Event, Fact, Id, Label, Line
from shared.contracts.reference import OfficeEstablished, OfficeHolderAppointed, OfficeHolderLeft
from shared.decider import Decider, Refused


class EstablishOfficeBody(Fact):
    """An office as it is entered."""

    office: Id
    body: Id
    role: OfficeRole
    name: Label
    valid_from: date
    valid_to: date | None = None
    source: Line


class EstablishOffice(EstablishOfficeBody, Command):
    """A body has an office from a day on."""

    body_known: bool


class AppointHolderBody(Fact):
    """Who holds the office, as a subject id, and from when."""

    office: Id
    subject: Id
    valid_from: date
    source: Line


class AppointHolder(AppointHolderBody, Command):
    """A subject holds the office from a day on; several may."""


class RemoveHolderBody(Fact):
    """Who no longer holds the office, and from when."""

    office: Id
    subject: Id
    valid_from: date
    source: Line


class RemoveHolder(RemoveHolderBody, Command):
    """A subject no longer holds the office from a day on."""


@dataclass(frozen=True)
class State:
    """The office, and who came and went."""

    established: OfficeEstablished | None = None
    appointed: tuple[OfficeHolderAppointed, ...] = ()
    left: tuple[OfficeHolderLeft, ...] = ()

    def since(self, subject: str) -> date | None:
        """Since when the subject holds the office; ``None`` where it does not, or no longer does."""
        came = max((fact.valid_from for fact in self.appointed if fact.subject == subject), default=None)
        went = max((fact.valid_from for fact in self.left if fact.subject == subject), default=None)
        return came if came is not None and (went is None or went <= came) else None


def decide(state: State, command: Command) -> Sequence[Event]:
    """What a command stores; raises ``Refused``."""
    match command:
        case EstablishOffice():
            return establish_office(state, command)
        case AppointHolder():
            return appoint_holder(state, command)
        case RemoveHolder():
            return remove_holder(state, command)
        case _:
            raise AssertionError(f"Office does not understand {type(command).__name__}")


def establish_office(state: State, command: EstablishOffice) -> Sequence[Event]:
    """Of a body that is established; once."""
    event = command.as_event(OfficeEstablished)
    if state.established == event:
        return []
    if state.established is not None:
        raise Refused(
            "I-16",
            "이미 등록된 직위와 다릅니다. 지난 사실은 고쳐 쓰지 않습니다.",
            "This differs from the office that is entered already; what was entered is not rewritten.",
        )
    if not command.body_known:
        raise Refused("I-15", "등록되지 않은 기구의 직위입니다.", "The office's body is not established.")
    if command.valid_to is not None and command.valid_to <= command.valid_from:
        raise Refused("I-15", "유효기간의 끝은 시작보다 뒤여야 합니다.", "A validity must end after it begins.")
    return [event]


def appoint_holder(state: State, command: AppointHolder) -> Sequence[Event]:
    """I-9: to an office that exists by then, a subject who does not hold it."""
    event = command.as_event(OfficeHolderAppointed)
    if event in state.appointed:
        return []
    if state.established is None or command.valid_from < state.established.valid_from:
        raise Refused("I-9", "그 날짜에 없는 직위입니다.", "The office does not exist on that day.")
    if state.since(command.subject) is not None:
        raise Refused("I-9", "이미 그 직위를 맡고 있습니다.", "The subject holds this office already.")
    if any(left.subject == command.subject and left.valid_from > command.valid_from for left in state.left):
        raise Refused(
            "I-16",
            "지난 재임 기간과 겹칩니다. 지난 사실은 고쳐 쓰지 않습니다.",
            "This overlaps an earlier time in office; what was entered is not rewritten.",
        )
    return [event]


def remove_holder(state: State, command: RemoveHolder) -> Sequence[Event]:
    """I-9: a subject who holds the office, after the first day."""
    event = command.as_event(OfficeHolderLeft)
    if event in state.left:
        return []
    since = state.since(command.subject)
    if since is None or command.valid_from <= since:
        raise Refused("I-9", "그 날짜에 그 직위를 맡고 있지 않습니다.", "The subject does not hold this office then.")
    return [event]


def evolve(state: State, event: Event) -> State:
    """The state after an event."""
    match event:
        case OfficeEstablished():
            return replace(state, established=event)
        case OfficeHolderAppointed():
            return replace(state, appointed=(*state.appointed, event))
        case OfficeHolderLeft():
            return replace(state, left=(*state.left, event))
        case _:
            return state


OFFICE = Decider(
    name="Office",
    initial=State(),
    decide=decide,
    evolve=evolve,
    commands=(EstablishOffice, AppointHolder, RemoveHolder),
)
