"""The topics on Kafka, one a service: name, partitions, retention and key. Made from this table and nothing else.

The partition is the slot that the log stored with the event, given to Kafka explicitly; twelve for ever. Nothing is
deleted and nothing compacted: a follower may begin at the first event at any time.

Every team that consumes events may read these topics, so no confidential fact stands on them: no record is made of an
event whose confidentiality its topic does not carry (``shared/runtime/records.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

FOR_EVER = -1
"""Kafka's ``retention.ms`` for "never deleted"."""
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""Kafka's ``max.message.bytes``: a batch with one record of the greatest size allowed (1 MB) and its headers fits."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: the service that alone publishes to it, and what its records' key is, in words."""

    service: str
    name: str
    partitions: int = 12
    retention_ms: int = FOR_EVER
    key: str = "case id; where there is no case, the aggregate's id"
    carries: tuple[str, ...] = ("open", "internal")
    """The levels of confidentiality that may stand on it (``Envelope.confidentiality``)."""


TOPICS: tuple[Topic, ...] = (
    Topic("issues", "maru.issues.v1", key="case id"),
    Topic("routing", "maru.routing.v1", key="case id; for a body, office, region, rule set or calendar its own id"),
    Topic("meetings", "maru.meetings.v1", key="meeting id; for a policy, direction or strategy its own id"),
    Topic("notifications", "maru.notifications.v1", key="id of the subscription or of the dispatch"),
)
"""Every topic of the system."""

_of_service = {topic.service: topic for topic in TOPICS}
_by_name = {topic.name: topic for topic in TOPICS}


def topic_of(service: str) -> Topic:
    """The topic that a service publishes to. Raises ``KeyError`` for a service that has none."""
    return _of_service[service]


def topic_named(name: str) -> Topic | None:
    """The topic of a name, ``None`` where it is not one of ours."""
    return _by_name.get(name)
