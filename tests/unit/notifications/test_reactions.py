"""Who is told of what: the rows of the notification table, over the walk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Connection, create_engine

from services.notifications.audience import AUDIENCES, wording_of
from services.notifications.channels import channels
from services.notifications.contacts import CONTACT, METADATA
from services.notifications.dispatch import RequestAndDeliver
from services.notifications.reactions import REACTIONS, tell
from services.notifications.views.case_parties import PARTIES
from services.notifications.wording import read_wording, wording_ids
from shared.contracts.envelope import Reason
from shared.contracts.issues import DepartmentConsulted, DepartmentReminded, IssueRaised, IssueReviewed, ReceiptIssued
from shared.contracts.meetings import DecisionRecorded
from shared.contracts.reference import BodyEstablished
from shared.contracts.routing import (
    CaseClosed,
    CaseLinkedToPolicy,
    CaseMoved,
    CaseOpened,
    CaseRouted,
    CaseUnrouted,
    DeadlineChanged,
    EscalatedToForum,
    EscalatedToSupportGroup,
    ImplementationAssigned,
    MoveRefused,
)
from shared.runtime.declare import Act, Facts, Recorded, Wait
from shared.runtime.directory import Directory
from shared.runtime.views import upsert
from tests.views.routing_walk import (
    BUDGET,
    CASE,
    ROAD,
    Desk,
    Stream,
    at,
    decision,
    directory,
    folded,
    held_by,
    label,
    walk,
)

COUNTY = "org-gangwon-hongcheon.officer"


class Teller(Desk):
    """A reader in a process in which e-mail is configured or not, with the contacts of these offices."""

    effects: frozenset[str] = frozenset()
    mutable: Connection


def here(streams: list[list[Recorded]] | None = None) -> Facts:
    """Facts with the parties of these streams."""
    return cast(Facts, Teller({PARTIES.name: folded(PARTIES, walk() if streams is None else streams)}, at(12, 31)))


@contextmanager
def with_email(*contacts: tuple[str, str, str]) -> Iterator[Facts]:
    """Facts in a process that sends e-mail, with contacts of office, address and first day."""
    facts = cast(Any, here())
    engine = create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.connect() as db:
        for office, email, valid_from in contacts:
            upsert(db, CONTACT, row_of(office, email, valid_from))
        facts.effects, facts.mutable = frozenset({"email"}), db
        yield facts
    engine.dispose()


def row_of(office: str, email: str, valid_from: str) -> dict[str, str]:
    return {"office": office, "email": email, "locale": "ko", "valid_from": valid_from, "source": "M"}


def heard(kind: type[Any], number: int = 0) -> Recorded:
    return [event for stream in walk() for event in stream if isinstance(event.data, kind)][number]


def on_case(event: Any, version: int = 5) -> Recorded:
    """The event as one of the walk's case."""
    stream = Stream("routing", "Case", CASE, CASE)
    for _ in range(version):
        stream.add(at(6, 1), event)
    return stream.events[-1]


def told(acts: Any) -> dict[str, str]:
    """Office and audience of each act."""
    commands = [act.command for act in acts]
    assert all(isinstance(command, RequestAndDeliver) and command.mandatory for command in commands)
    return {command.office: command.audience for command in commands}


@pytest.mark.capability("G7")
@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (ReceiptIssued, 0),
        (IssueReviewed, 0),
        (DecisionRecorded, 0),
        (DecisionRecorded, 2),
        (CaseLinkedToPolicy, 0),
        (ImplementationAssigned, 0),
        (DeadlineChanged, 0),
        (CaseClosed, 0),
    ],
)
def test_N_1_the_raiser_is_told_at_every_stage(kind: type[Any], number: int) -> None:
    assert told(tell(heard(kind, number), here())) == {COUNTY: "raiser"}


def test_N_1_co_raisers_too() -> None:
    issue = Stream("issues", "Issue", CASE, CASE)
    issue.add(at(5, 8), heard(IssueRaised).data.model_copy(update={"co_raisers": ("org-gyeonggi",)}))
    issue.add(at(5, 8), ReceiptIssued(docket="1", issued_to="org-gangwon-hongcheon", copies_to=("org-gyeonggi",)))
    both = {COUNTY: "raiser", "org-gyeonggi.officer": "raiser"}

    assert told(tell(heard(CaseLinkedToPolicy), here([issue.events]))) == both
    assert told(tell(issue.events[1], here([]))) == both


def test_N_1_waits_until_it_knows_who_raised() -> None:
    with pytest.raises(Wait):
        tell(heard(DecisionRecorded), here([]))


def test_N_1_an_item_without_a_case_is_told_to_nobody() -> None:
    stream = Stream("meetings", "Meeting", "m")
    stream.add(at(5, 24), decision("m", "forum", "noted").model_copy(update={"case_id": None}))

    assert tell(stream.events[0], here()) == []


def test_N_1_the_receipt_stands_for_the_opening() -> None:
    assert CaseOpened.__name__ not in REACTIONS.by_type


def test_N_2_the_department_that_is_asked() -> None:
    reminded = Stream("issues", "JointReview", f"{CASE}.1", CASE)
    reminded.add(at(6, 13), DepartmentReminded(round=1, department=BUDGET, due=date(2023, 6, 16)))

    [consulted] = tell(heard(DepartmentConsulted), here())

    assert told([consulted]) == {f"{ROAD}.reviewer": "reviewer"}
    assert "2023-06-12" in cast(RequestAndDeliver, consulted.command).text.ko
    assert f"/v1/issues/{CASE}/reviews/1" in cast(RequestAndDeliver, consulted.command).text.en
    assert told(tell(reminded.events[0], here())) == {f"{BUDGET}.reviewer": "reviewer"}


def test_N_3_one_notice_for_an_office_that_gives_and_gets() -> None:
    assert told(tell(heard(CaseRouted, 0), here())) == {COUNTY: "raiser", "council-gangwon.secretary": "secretary"}


def test_N_3_both_secretaries_and_the_lead() -> None:
    assert told(tell(heard(CaseRouted, 1), here())) == {
        COUNTY: "raiser",
        "planning-group.secretary": "secretary",
        "council-gangwon.secretary": "secretary",
        f"{ROAD}.reviewer": "lead",
    }
    assert told(tell(heard(EscalatedToForum), here())) == {
        COUNTY: "raiser",
        "forum.secretary": "secretary",
        "support-group.secretary": "secretary",
        f"{ROAD}.reviewer": "lead",
    }


def test_N_3_I_4_an_escalation_waits_for_the_conclusion_that_names_the_lead() -> None:
    without_review = [stream for stream in walk() if stream[0].envelope.aggregate != "JointReview"]

    with pytest.raises(Wait):
        tell(heard(EscalatedToSupportGroup), here(without_review))


def moved() -> CaseMoved:
    return CaseMoved(
        from_body="planning-group",
        holding=held_by("at_body", "support-group", "secretary", date(2023, 7, 13), "review", "R4"),
        documents=(),
        reason=Reason(code="tier", text="다음 단계"),
        cause="e1",
    )


def test_N_3_a_tier_of_data_tells_the_lead_that_routing_proposed() -> None:
    without_review = [stream for stream in walk() if stream[0].envelope.aggregate != "JointReview"]

    assert told(tell(on_case(moved()), here(without_review)))[f"{ROAD}.reviewer"] == "lead"


def test_N_3_a_tier_of_data_waits_for_the_course_of_the_case() -> None:
    issue_only = [stream for stream in walk() if stream[0].envelope.aggregate == "Issue"]

    with pytest.raises(Wait):
        tell(on_case(moved()), here(issue_only))


def test_N_3_the_triage_desk_and_who_had_the_case() -> None:
    unrouted = CaseUnrouted(
        from_body="council-gangwon",
        holding=held_by("unrouted", "triage-desk", "desk", date(2023, 5, 10), "triage"),
        next_step="after_acceptance",
        cause="e1",
    )

    assert told(tell(on_case(unrouted), here())) == {
        "triage-desk.desk": "secretary",
        "council-gangwon.secretary": "secretary",
    }


def test_N_3_the_secretary_of_the_body_whose_move_was_refused() -> None:
    refused = MoveRefused(
        rule="I-3", ko="갈 수 없습니다.", en="No edge.", body="support-group", cause="e1", cause_type="DecisionRecorded"
    )

    assert told(tell(on_case(refused), here())) == {"support-group.secretary": "secretary"}


def test_an_unknown_office_is_waited_for() -> None:
    facts = cast(Any, here())
    facts.directory = Directory()

    with pytest.raises(Wait):
        tell(heard(CaseClosed), facts)


def test_a_body_that_has_ended_keeps_its_inbox() -> None:
    facts = cast(Any, here())
    ended = facts.today - timedelta(days=30)
    county = BodyEstablished(
        body="org-gangwon-hongcheon",
        kind="organisation",
        name=label("홍천군"),
        valid_from=date(2022, 8, 1),
        valid_to=ended,
        source="M",
    )
    facts.directory = directory()
    facts.directory._take(county)

    assert told(tell(heard(CaseClosed), facts)) == {COUNTY: "raiser"}


# One dispatch for each event, office and channel


def ids(acts: Any) -> list[str]:
    return [cast(Act, act).id for act in acts]


def test_I_18_the_same_event_gives_the_same_dispatches() -> None:
    first, again = (ids(tell(heard(CaseRouted, 1), here())) for _ in range(2))

    assert first == again
    assert len(set(first)) == 4
    assert not set(first) & set(ids(tell(heard(CaseRouted, 0), here())))


# E-mail


def channels_of(acts: Any) -> list[tuple[str, str, str]]:
    """Kind of command, office and channel of each act."""
    return [(type(act.command).__name__, act.command.office, act.command.channel) for act in acts]


def test_an_office_with_a_contact_is_told_by_e_mail_too() -> None:
    with with_email((COUNTY, "county@hongcheon.example", "2023-01-04")) as facts:
        assert channels_of(tell(heard(CaseRouted, 1), facts)) == [
            ("RequestAndDeliver", COUNTY, "inbox"),
            ("RequestAndDeliver", "planning-group.secretary", "inbox"),
            ("RequestAndDeliver", "council-gangwon.secretary", "inbox"),
            ("RequestAndDeliver", f"{ROAD}.reviewer", "inbox"),
            ("RequestNotice", COUNTY, "email"),
        ]


@pytest.mark.parametrize(
    "contact",
    [
        ("forum.chair", "a@forum.example", "2023-01-04"),
        (COUNTY, "", "2023-01-04"),
        (COUNTY, "a@b.example", "2024-01-01"),
    ],
    ids=["another office's", "no address", "from a later day"],
)
def test_an_office_without_a_contact_is_told_in_its_inbox_only(contact: tuple[str, str, str]) -> None:
    with with_email(contact) as facts:
        assert channels_of(tell(heard(CaseClosed), facts)) == [("RequestAndDeliver", COUNTY, "inbox")]


def test_without_a_mail_server_nobody_is_told_by_e_mail() -> None:
    with with_email((COUNTY, "county@hongcheon.example", "2023-01-04")) as facts:
        cast(Any, facts).effects = frozenset()
        assert channels_of(tell(heard(CaseClosed), facts)) == [("RequestAndDeliver", COUNTY, "inbox")]


def test_no_address_stands_in_what_is_requested() -> None:
    with with_email((COUNTY, "county@hongcheon.example", "2023-01-04")) as facts:
        assert "hongcheon.example" not in "".join(
            act.command.model_dump_json() for act in tell(heard(CaseClosed), facts)
        )


def test_I_18_the_inbox_s_commands_are_the_same_with_and_without_e_mail() -> None:
    """Command ids count the acts of an event: a contact that comes or goes must not shift those of the inbox."""
    alone = ids(tell(heard(CaseRouted, 1), here()))
    with with_email((COUNTY, "county@hongcheon.example", "2023-01-04")) as facts:
        assert ids(tell(heard(CaseRouted, 1), facts))[: len(alone)] == alone


# Wording


def test_every_event_told_has_words_in_both_languages() -> None:
    for channel in channels():
        assert {cls.__name__ for cls in AUDIENCES} <= wording_ids(channel.name)


@pytest.mark.parametrize(
    "code", ["take_for_review", "resolved_on_site", "noted", "postpone_next", "resolved", "escalate", "adopt"]
)
def test_every_decision_that_is_built_has_words_of_its_own(code: str) -> None:
    assert wording_of(decision("m", "forum", code)) in wording_ids("inbox")


def test_a_code_without_words_of_its_own_is_told_in_those_of_its_type() -> None:
    assert read_wording("inbox", "DecisionRecorded.defer") == read_wording("inbox", "DecisionRecorded")


def test_no_words_for_an_event_that_is_not_told() -> None:
    with pytest.raises(KeyError):
        read_wording("inbox", "CaseOpened")


def test_I_20_no_notice_names_the_title_of_a_case() -> None:
    told_kinds = tuple(AUDIENCES)
    title = cast(IssueRaised, heard(IssueRaised).data).title
    for recorded in (event for stream in walk() for event in stream if isinstance(event.data, told_kinds)):
        for act in tell(recorded, here()):
            command = cast(RequestAndDeliver, act.command)
            words = " ".join((command.title.ko, command.title.en, command.text.ko, command.text.en))
            assert title not in words
            assert "{" not in words
