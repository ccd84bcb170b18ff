"""Who is told of what: the rows of the notification table, over the walk."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, cast

import pytest

from services.notifications.audience import AUDIENCES, wording_of
from services.notifications.channels import channels
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


def here(streams: list[list[Recorded]] | None = None) -> Facts:
    """Facts with the parties of these streams."""
    return cast(Facts, Desk({PARTIES.name: folded(PARTIES, walk() if streams is None else streams)}, at(12, 31)))


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
