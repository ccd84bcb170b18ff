"""The AsyncAPI document: everything in it is what the table of topics, the event classes and the relay say."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError

from checks.asyncapi import errors
from services.generate import aggregates, asyncapi, golden, goldens, own_events
from services.generate_asyncapi import HEADERS, OPTIONAL, document, message_name
from shared.contracts.envelope import Envelope, Event
from shared.contracts.schemas import record_schema, schema_path, type_of
from shared.contracts.topics import TOPICS, topic_of
from shared.runtime.codec import seal, slot_of
from shared.runtime.records import from_record
from shared.runtime.settings import ROOT

DOCUMENT: dict[str, Any] = json.loads(asyncapi())
EVENTS = own_events()


def whole(part: Any) -> Any:
    """A part of the document that stands on its own: its references lead into the components beside it."""
    return {**part, "components": DOCUMENT["components"]}


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, item in part.items():
            if name == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(part, list):
        for item in part:
            yield from references(item)


def test_channels_are_the_table_of_topics() -> None:
    assert {channel["address"] for channel in DOCUMENT["channels"].values()} == {topic.name for topic in TOPICS}
    for topic in TOPICS:
        channel = DOCUMENT["channels"][topic.service]
        kafka = channel["bindings"]["kafka"]
        assert (channel["address"], kafka["topic"], kafka["partitions"]) == (topic.name, topic.name, topic.partitions)
        assert kafka["topicConfiguration"]["retention.ms"] == topic.retention_ms
        assert kafka["topicConfiguration"]["cleanup.policy"] == ["delete"]
        assert topic.key in channel["description"]
        assert set(channel["messages"]) == {message_name(cls) for cls in EVENTS if cls.owning_service == topic.service}


def test_every_event_is_a_message_of_one_channel() -> None:
    messages = DOCUMENT["components"]["messages"]
    assert set(messages) == {message_name(cls) for cls in EVENTS}
    standing = [name for channel in DOCUMENT["channels"].values() for name in channel["messages"]]
    assert sorted(standing) == sorted(messages)


def test_every_reference_leads_somewhere() -> None:
    for reference in set(references(DOCUMENT)):
        part = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
        assert part


@pytest.mark.parametrize("cls", EVENTS, ids=message_name)
def test_an_example_is_valid_and_is_a_record_of_ours(cls: type[Event]) -> None:
    message = DOCUMENT["components"]["messages"][message_name(cls)]
    (example,) = message["examples"]
    Draft7Validator(whole(message["payload"])).validate(example["payload"])
    Draft7Validator(whole(message["headers"])).validate(example["headers"])
    Draft202012Validator(record_schema(cls)).validate(example["payload"])
    assert example["headers"]["ce_dataschema"] == schema_path(cls) == record_schema(cls)["$id"]
    assert message["name"] == example["headers"]["ce_type"]
    # What a carrier of ours takes for a record of ours is header for header what the relay makes.
    key = example["headers"]["ce_partitionkey"].encode()
    value, _ = seal({name: part for name, part in example["payload"].items() if name != "hash"})
    headers = [(name, content.encode()) for name, content in example["headers"].items()]
    row = from_record(topic_of(cls.owning_service).name, slot_of(key.decode()), key, value, headers)
    assert (row.type, row.source) == (type_of(cls), cls.owning_service)


@pytest.mark.parametrize("cls", EVENTS, ids=message_name)
def test_a_golden_document_fits_the_schema_of_its_version_and_a_spoilt_one_does_not(cls: type[Event]) -> None:
    validator = Draft202012Validator(record_schema(cls))
    stored = json.loads((ROOT / f"contracts/golden/{message_name(cls)}.json").read_text("utf-8"))
    validator.validate(stored)
    validator.validate({**stored, "data": {**stored["data"], "added_later": 1}})
    for spoilt in (
        {**stored, "type": "Another"},
        {**stored, "data": None},
        {name: value for name, value in stored.items() if name != "recorded_at"},
        {**stored, "confidentiality": "secret"},
    ):
        with pytest.raises(ValidationError):
            validator.validate(spoilt)


def test_the_headers_are_those_that_the_relay_writes() -> None:
    for message in DOCUMENT["components"]["messages"].values():
        assert list(message["examples"][0]["headers"]) == list(HEADERS)
    schema = DOCUMENT["components"]["schemas"]["Headers"]
    assert set(schema["properties"]) - set(schema["required"]) == OPTIONAL


def test_headers_that_may_be_missing_are_missing_where_there_is_nothing_to_say() -> None:
    cls = next(cls for cls in EVENTS if type_of(cls) == "IssueRaised")

    def uncaused(event: type[Event]) -> dict[str, Any]:
        return {**json.loads(golden(event, aggregates()[type_of(event)])), "causation_id": None}

    made = document([cls], uncaused)["components"]["messages"]["IssueRaised.v1"]["examples"][0]["headers"]
    assert set(HEADERS) - set(made) == {"ce_causationid"}
    assert "ce_causationid" in OPTIONAL


def test_two_parts_with_one_name_are_refused() -> None:
    class IssueRaised(Event):
        """Claims the name of another event's payload."""

        type: str = "IssueRaised"

    IssueRaised.owning_service = "issues"
    real = next(cls for cls in EVENTS if type_of(cls) == "IssueRaised")

    def stored(event: type[Event]) -> dict[str, Any]:
        return dict(json.loads(goldens()["contracts/golden/IssueRaised.v1.json"]))

    with pytest.raises(ValueError, match="IssueRaisedData"):
        document([real, IssueRaised], stored)


def test_no_topic_carries_confidential_facts() -> None:
    levels = set(get_args(Envelope.model_fields["confidentiality"].annotation))
    for topic in TOPICS:
        assert set(topic.carries) == levels - {"confidential"}
        assert DOCUMENT["channels"][topic.service]["x-confidentiality"] == list(topic.carries)


def test_errors_say_where_and_what() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": ["info"],
        "properties": {"asyncapi": {"const": "3.0.0"}},
    }
    assert errors(DOCUMENT, schema) == []
    spoilt = copy.deepcopy(DOCUMENT)
    spoilt["asyncapi"] = "2.6.0"
    del spoilt["info"]
    assert errors(spoilt, schema) == ["document: 'info' is a required property", "asyncapi: '3.0.0' was expected"]
