"""A stored event as a CloudEvents record and back; every record that is not ours is refused with its cause."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.topics import TOPICS
from shared.runtime.codec import SLOTS, seal, slot_of
from shared.runtime.jobs import Unread
from shared.runtime.records import MAX_BYTES, Foreign, from_record, to_record

GOLDEN = sorted((Path(__file__).parents[2] / "contracts" / "golden").glob("*.json"))
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Change = Callable[[dict[str, Any]], None]


def row(document: dict[str, Any], **more: Any) -> Unread:
    """A row of a log that holds this event, sealed."""
    document = {name: value for name, value in document.items() if name != "hash"}
    key = document["case_id"] or document["aggregate_id"]
    found = Unread(
        document["service"],
        1_700_000_000,
        42,
        slot_of(key),
        17,
        key,
        document["type"],
        document["case_id"],
        seal(document)[0],
    )
    return replace(found, **more)


def golden(name: str = "CaseMoved") -> dict[str, Any]:
    """A sample event."""
    path = next(path for path in GOLDEN if path.name.startswith(f"{name}."))
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def back(record: Any, topic: str | None = None, **more: Any) -> Unread:
    """What a carrier reads of a record."""
    fields = {**record._asdict(), **more}
    source = dict(record.headers)["ce_source"].decode().removeprefix("/maru/")
    return from_record(
        topic or f"maru.{source}.v1", fields["partition"], fields["key"], fields["value"], fields["headers"]
    )


def refused(call: Callable[[], Unread]) -> str:
    """The cause for which a record is refused."""
    with pytest.raises(Foreign) as caught:
        call()
    return caught.value.cause


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_type_comes_back_whole(path: Path) -> None:
    stored = row(json.loads(path.read_text()), trace=TRACE)
    assert back(to_record(stored)) == stored


def test_the_headers_are_those_of_the_contract() -> None:
    document = golden()
    record = to_record(row(document, trace=TRACE))
    assert {name: value.decode() for name, value in record.headers} == {
        "ce_specversion": "1.0",
        "ce_id": document["event_id"],
        "ce_source": "/maru/routing",
        "ce_type": "maru.routing.CaseMoved.v1",
        "ce_subject": "case_id-1",
        "ce_time": "2023-01-04T09:00:00+09:00",
        "ce_recordedtime": "2023-01-04T09:00:00+09:00",
        "ce_dataschema": "/schemas/maru.routing.CaseMoved/v1",
        "ce_partitionkey": "case_id-1",
        "ce_sequence": "00000000000000000042",
        "ce_correlationid": "correlation_id-1",
        "ce_causationid": "causation_id-1",
        "ce_traceparent": TRACE,
        "ce_logepoch": "1700000000",
        "ce_logposition": "42",
        "ce_logprevious": "17",
        "content-type": "application/json",
    }


def test_any_cloudevents_reader_can_read_it() -> None:
    record = to_record(row(golden()))
    event = from_binary(KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat())
    assert (event.get_type(), event.get_data()) == ("maru.routing.CaseMoved.v1", json.loads(record.value))


def test_without_a_case_the_aggregate_is_the_subject() -> None:
    record = to_record(row({**golden("BodyEstablished"), "case_id": None}))
    assert dict(record.headers)["ce_subject"] == b"aggregate_id-1"


def test_a_type_of_a_later_release_is_taken() -> None:
    stored = row({**golden(), "type": "CaseTeleported", "schema_version": 7})
    assert back(to_record(stored)) == stored


def test_an_event_too_confidential_for_its_topic_becomes_no_record_and_is_taken_from_nobody() -> None:
    for level in TOPICS[0].carries:
        to_record(row({**golden(), "confidentiality": level}))
    confidential = row({**golden(), "confidentiality": "confidential"})
    with pytest.raises(ValueError, match="confidentiality"):
        to_record(confidential)
    smuggled = to_record(row(golden()))._replace(value=confidential.raw)
    assert refused(lambda: back(smuggled)) == "value is not an event, or headers lack something"


def test_every_service_has_a_topic_of_twelve_partitions_kept_for_ever() -> None:
    assert [(topic.name, topic.partitions, topic.retention_ms) for topic in TOPICS] == [
        (f"maru.{service}.v1", SLOTS, -1) for service in ("issues", "routing", "meetings", "notifications")
    ]


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"key": None}, "no key"),
        ({"key": b""}, "no key"),
        ({"key": b"\xff\xfe"}, "key is not UTF-8"),
        ({"key": b"a\x00b"}, "key has no form of ours"),
        ({"key": b"k" * 301}, "key has no form of ours"),
        ({"value": None}, "no value"),
        ({"value": b""}, "no value"),
        ({"value": b"x" * (MAX_BYTES + 1)}, "value is larger than 1 MB"),
        ({"value": b"[" * 500_000}, "value is nested too deep"),
        ({"value": b"\xff\xfe\x00"}, "value is not a sealed event"),
        ({"value": b"{}"}, "value is not a sealed event"),
        ({"value": b"[]"}, "value is not a sealed event"),
        ({"value": b'{"hash": NaN}'}, "value is not a sealed event"),
        ({"value": b'{"n": ' + b"9" * 5000 + b"}"}, "value is not a sealed event"),
        ({"value": pickle.dumps({"event_id": "x"})}, "value is not a sealed event"),
        ({"value": b"cos\nsystem\n(S'true'\ntR."}, "value is not a sealed event"),
        ({"headers": []}, "headers are no CloudEvent"),
        ({"headers": [("ce_specversion", None)]}, "a header has no content"),
        ({"headers": [("ce_specversion", b"1.0"), ("ce_specversion", b"1.0")]}, "a header stands there twice"),
        ({"headers": [("ce_specversion", b"9.9")]}, "headers are no CloudEvent"),
        ({"headers": [("ce_specversion", b"1.0"), ("ce_id", b"x" * 3000)]}, "a header is too long"),
        ({"headers": [("ce_specversion", b"\xff")]}, "headers cannot be read"),
        ({"headers": [("ce_specversion", b"1.0"), ("ce_time", b"yesterday")]}, "headers cannot be read"),
        ({"topic": "maru.treasury.v1"}, "topic is not one of ours"),
        ({"topic": "maru.issues.v1"}, "event is of another service than the topic"),
        ({"partition": 11}, "partition is not the slot of the key"),
    ],
)
def test_what_is_not_ours_is_refused_with_its_cause(changed: dict[str, Any], cause: str) -> None:
    record = to_record(row(golden()))
    assert refused(lambda: back(record, **changed)) == cause


@pytest.mark.parametrize("name", [name for name, _ in to_record(row(golden())).headers])
def test_a_header_that_does_not_agree_is_refused(name: str) -> None:
    record = to_record(row(golden()))
    other = [(known, b"other" if known == name else value) for known, value in record.headers]
    assert refused(lambda: back(record, headers=other, topic="maru.routing.v1"))


@pytest.mark.parametrize("name", [name for name, _ in to_record(row(golden())).headers])
def test_a_header_that_lacks_is_refused(name: str) -> None:
    record = to_record(row(golden()))
    fewer = [(known, value) for known, value in record.headers if known != name]
    assert refused(lambda: back(record, headers=fewer, topic="maru.routing.v1"))


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"epoch": 0}, "epoch or positions cannot be"),
        ({"epoch": int(time.time()) + 10**6}, "epoch or positions cannot be"),
        ({"position": 0, "prev": 0}, "epoch or positions cannot be"),
        ({"position": 2**63}, "epoch or positions cannot be"),
        ({"prev": 42}, "epoch or positions cannot be"),
        ({"prev": -1}, "value is not an event, or headers lack something"),
        ({"trace": "00-zz"}, "trace context is malformed"),
    ],
)
def test_places_that_cannot_be_are_refused(changed: dict[str, Any], cause: str) -> None:
    assert refused(lambda: back(to_record(row(golden(), **changed)))) == cause


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"type": "os.system"}, "type has no form of ours"),
        ({"type": ""}, "type has no form of ours"),
        ({"aggregate_id": "a\x00b"}, "case or aggregate has no form of ours"),
        ({"case_id": 7}, "case or aggregate has no form of ours"),
        ({"schema_version": "1; drop"}, None),
        ({"effective_at": "soon"}, None),
        ({"event_id": 5}, None),
        ({"service": "issues"}, "event is of another service than the topic"),
    ],
)
def test_a_sealed_document_of_another_form_is_refused(changed: dict[str, Any], cause: str | None) -> None:
    """Sealing is no secret: whoever writes to the topic can seal. What is refused here is what could do harm."""
    whole = to_record(row(golden()))
    document = {name: value for name, value in {**golden(), **changed}.items() if name != "hash"}
    value = seal(document)[0]
    if cause is None:
        assert refused(lambda: back(whole, value=value))
    else:
        assert refused(lambda: back(whole, value=value)) == cause


def test_one_flipped_bit_is_refused() -> None:
    record = to_record(row(golden()))
    for at in range(0, len(record.value), 7):
        value = bytearray(record.value)
        value[at] ^= 1
        assert refused(lambda value=bytes(value): back(record, value=value))  # type: ignore[misc]


def _headers() -> st.SearchStrategy[list[tuple[str, bytes | None]]]:
    names = st.sampled_from([name for name, _ in to_record(row(golden())).headers]) | st.text(max_size=5)
    return st.lists(st.tuples(names, st.none() | st.binary(max_size=30)), max_size=20)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 12), st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=60), _headers())
def test_nothing_but_a_refusal_comes_of_noise(
    partition: int, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    record = to_record(row(golden()))
    for given_value in (value, record.value):
        with pytest.raises(Foreign):
            from_record("maru.routing.v1", partition, key, given_value, headers)
