"""From an act to a write: load, decide, seal. Pure but for the loading; nothing is stored here."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import uuid_utils

from shared.contracts.envelope import Event, Reason
from shared.runtime.codec import canonical, seal
from shared.runtime.declare import Act, Recorded
from shared.runtime.jobs import NewEvent, Prepared
from shared.runtime.log import EventLog, Loaded

NAMESPACE = uuid.UUID("6f1d5a3e-6d61-5275-8000-6d6172750001")
"""Name space of every derived command id."""


def derived_id(*parts: str | int) -> str:
    """A command id for what is not asked by a client: (cause, reaction, ordinal), (deadline, due), (source, row)."""
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(str(part) for part in parts)))


IMPORT_KEY = "import-"
"""Keys of imported rows begin so: their command ids belong to the office, not to the subject who sends the file."""


def client_command_id(service: str, subject: str, office: str | None, key: str) -> str:
    """The command id of a request: (service, token subject, Idempotency-Key).

    An imported row's id comes from (source, external id) alone, so that a colleague who gives the file again makes no
    second copy; it is scoped by the office, which both hold.
    """
    if key.startswith(IMPORT_KEY) and office is not None:
        return derived_id(service, office, key)
    return derived_id(service, subject, key)


def content_hash(*parts: Any) -> str:
    """Hash over canonical JSON: what a client asked, before time, ids and facts are added (I-18)."""
    return hashlib.sha256(canonical({"asked": parts})).hexdigest()


def prepare(
    log: EventLog,
    act: Act,
    command_id: str,
    asked: str,
    *,
    cause: Recorded | None = None,
    status: int = 200,
    trace: str | None = None,
) -> Prepared:
    """Decide an act on its stream as it stands now.

    ``asked`` is the content hash; ``cause`` the event that a reaction heard. Raises ``Refused``.
    """
    loaded = log.load(act.decider, act.id)
    return seal_decision(log, act, loaded, command_id, asked, cause=cause, status=status, trace=trace)


def seal_decision(
    log: EventLog,
    act: Act,
    loaded: Loaded,
    command_id: str,
    asked: str,
    *,
    cause: Recorded | None = None,
    status: int = 200,
    trace: str | None = None,
) -> Prepared:
    """Decide an act on a loaded state, and chain the events to the stream's last hash."""
    command = act.command
    decided = act.decider.decide(loaded.state, command)
    # Monotone per stream, and never before its cause (section 3; "Time" in the architecture).
    recorded_at = max(filter(None, (command.at, loaded.last_at, cause.at if cause else None)))
    common: dict[str, Any] = {
        "service": log.service,
        "aggregate": act.decider.name,
        "aggregate_id": act.id,
        "case_id": act.case_id,
        "effective_at": (command.effective_at or recorded_at).isoformat(),
        "recorded_at": recorded_at.isoformat(),
        "actor": command.by.model_dump(mode="json"),
        "authority": command.authority.model_dump(mode="json"),
        "correlation_id": act.correlation_id
        or (cause.envelope.correlation_id if cause else None)
        or act.case_id
        or command_id,
        "causation_id": cause.id if cause else command_id,
        "confidentiality": "internal",
        "rule_trace": None if act.trace is None else act.trace.model_dump(mode="json"),
        "personal": None,
    }
    events: list[NewEvent] = []
    previous = loaded.last_hash
    for version, event in enumerate(decided, start=loaded.version + 1):
        event_id = str(uuid_utils.uuid7())
        document = {
            **common,
            "event_id": event_id,
            "type": event.type,
            "schema_version": event.schema_version,
            "version": version,
            "reason": _reason(event),
            "prev_hash": previous,
            "data": event.model_dump(mode="json", exclude={"type"}),
        }
        raw, previous = seal(document)
        topic = f"{event.type}.v{event.schema_version}"
        events.append(NewEvent(event_id, event.type, act.stream, version, topic, raw, act.key, act.case_id))
    return Prepared(
        command_id,
        asked,
        act.stream,
        act.id,
        act.key,
        loaded.version,
        loaded.head,
        tuple(events),
        act.reads,
        status,
        trace,
    )


def _reason(event: Event) -> Any:
    reason = getattr(event, "reason", None)
    return reason.model_dump(mode="json") if isinstance(reason, Reason) else None
