"""Rules of the issue: raising, acceptance, refusal, end."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from services.issues.issue import ISSUE, AcceptIssue, CloseIssue, RaiseIssue, RefuseIssue
from shared.contracts.envelope import Actor, Authority, Event, Reason
from shared.contracts.issues import IssueAccepted, IssueClosed, IssueRaised, IssueRefused, ReceiptIssued, RegionRef
from shared.decider import fold
from shared.runtime.declare import by_process
from shared.testing import given

AT = datetime(2023, 5, 8, 10, tzinfo=ZoneInfo("Asia/Seoul"))
GANGWON = RegionRef(region="gangwon", code="42", name="강원도")
GYEONGGI = RegionRef(region="gyeonggi", code="41", name="경기도")
HONGCHEON = "org-gangwon-hongcheon"

RAISED_FACT = IssueRaised(
    title="국도 확장",
    text="좁은 국도를 넓혀 주시기 바랍니다.",
    regions=(GANGWON,),
    raised_by=HONGCHEON,
    channel="letter",
    origin="local_government",
)
RECEIPT = ReceiptIssued(docket="2023-000001", issued_to=HONGCHEON)
ACCEPTED_FACT = IssueAccepted(intake_body="council-gangwon")
REASON = Reason(code="incomplete", text="위치를 알 수 없습니다.")
REFUSED_FACT = IssueRefused(intake_body="council-gangwon", reason=REASON, drafted_by="council-gangwon.secretary")

RAISED: tuple[Event, ...] = (RAISED_FACT, RECEIPT)
ACCEPTED: tuple[Event, ...] = (*RAISED, ACCEPTED_FACT)
REFUSED: tuple[Event, ...] = (*RAISED, REFUSED_FACT)
CLOSED: tuple[Event, ...] = (*ACCEPTED, IssueClosed(outcome="adopted_in_policy"))


def by(office: str) -> dict[str, Any]:
    return {
        "by": Actor(user="s-1", office=office, body=office.rpartition(".")[0]),
        "at": AT,
        "authority": Authority(rule="T-1"),
    }


def raising(office: str = f"{HONGCHEON}.officer", **changes: Any) -> RaiseIssue:
    fields: dict[str, Any] = {
        "title": "국도 확장",
        "text": "좁은 국도를 넓혀 주시기 바랍니다.",
        "regions": ("gangwon",),
        "channel": "letter",
        "docket": "2023-000001",
        "regions_found": (GANGWON,),
        "raiser": HONGCHEON,
        "raiser_kind": "organisation",
    }
    return RaiseIssue(**by(office), **{**fields, **changes})


def accepting(office: str = "council-gangwon.secretary", **changes: Any) -> AcceptIssue:
    return AcceptIssue(**by(office), **{"holder": "council-gangwon", "stage": "R1", **changes})


def refusing(office: str = "council-gangwon.chair", **changes: Any) -> RefuseIssue:
    fields = {
        "reason": REASON,
        "drafted_by": "council-gangwon.secretary",
        "holder": "council-gangwon",
        "stage": "R1",
        "secretary": "council-gangwon.secretary",
    }
    return RefuseIssue(**by(office), **{**fields, **changes})


def closing() -> CloseIssue:
    return CloseIssue(**by_process("dept-road", AT, "T-38b"), outcome="adopted_in_policy")


# RaiseIssue


@pytest.mark.capability("A1", "A6")
def test_T_1_raise_issue_with_receipt_in_the_same_write() -> None:
    given(ISSUE).when(raising()).then(RAISED_FACT, RECEIPT)


@pytest.mark.capability("A5")
def test_T_1_a_secretary_writes_down_what_organisations_suggest_together() -> None:
    command = raising(
        "planning-group.secretary",
        raised_by=HONGCHEON,
        co_raisers=("org-gyeonggi", HONGCHEON, "org-gyeonggi"),
        co_raiser_kinds=("organisation", "organisation", "organisation"),
    )

    raised, receipt = given(ISSUE).when(command).events()

    assert isinstance(raised, IssueRaised)
    assert isinstance(receipt, ReceiptIssued)
    assert (raised.raised_by, raised.co_raisers) == (HONGCHEON, ("org-gyeonggi",))
    assert (receipt.issued_to, receipt.copies_to) == (HONGCHEON, ("org-gyeonggi",))


@pytest.mark.capability("A12")
def test_I_1_several_regions_keep_their_order_and_the_first_leads() -> None:
    command = raising(regions=("41", "gangwon", "강원도"), regions_found=(GYEONGGI, GANGWON, GANGWON))

    raised, _ = given(ISSUE).when(command).events()

    assert isinstance(raised, IssueRaised)
    assert raised.regions == (GYEONGGI, GANGWON)


def test_I_1_no_region_and_not_nationwide() -> None:
    given(ISSUE).when(raising(regions=(), regions_found=())).refused("I-1")


def test_I_1_nationwide_needs_no_region() -> None:
    raised, _ = given(ISSUE).when(raising(regions=(), regions_found=(), nationwide=True)).events()

    assert isinstance(raised, IssueRaised)
    assert (raised.nationwide, raised.regions) == (True, ())


def test_I_1_a_region_that_did_not_exist_that_day_is_named_by_its_number_only() -> None:
    refusal = given(ISSUE).when(raising(regions=("gangwon", "<b>"), regions_found=(GANGWON, None))).refused("I-1")

    assert "2" in refusal.en
    assert "<b>" not in refusal.en + refusal.ko


@pytest.mark.parametrize("kind", [None, "council", "forum", "department"])
def test_T_1_raiser_must_be_an_organisation_of_that_day_or_the_acting_body_itself(kind: Any) -> None:
    given(ISSUE).when(raising("planning-group.secretary", raiser_kind=kind)).refused("T-1")


@pytest.mark.capability("A3", "A4", part="no hint of common issues, no link to the statement")
@pytest.mark.parametrize(
    ("office", "kind", "origin"),
    [("dept-road.reviewer", "department", "ministry"), ("forum.secretary", "forum", "expert")],
)
def test_T_1_department_and_forum_speak_for_themselves(office: str, kind: Any, origin: str) -> None:
    raised, receipt = given(ISSUE).when(raising(office, raiser=office.rpartition(".")[0], raiser_kind=kind)).events()

    assert isinstance(raised, IssueRaised)
    assert isinstance(receipt, ReceiptIssued)
    assert raised.origin == origin
    assert receipt.issued_to == office.rpartition(".")[0]


@pytest.mark.parametrize("kind", [None, "council"])
def test_T_1_co_raisers_exist_that_day(kind: Any) -> None:
    given(ISSUE).when(raising(co_raisers=("org-none",), co_raiser_kinds=(kind,))).refused("T-1")


def test_T_1_not_in_the_future_but_in_the_past() -> None:
    given(ISSUE).when(raising(effective_at=AT + timedelta(seconds=1))).refused("T-1")
    given(ISSUE).when(raising(effective_at=AT - timedelta(days=200))).then(RAISED_FACT, RECEIPT)


@pytest.mark.parametrize("missing", [{"title": " "}, {"text": ""}, {"channel": None}])
def test_T_1_subject_not_empty_channel_given(missing: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        raising(**missing)


def test_T_1_an_issue_is_raised_once() -> None:
    given(ISSUE, *RAISED).when(raising()).refused("T-1")


# AcceptIssue


def test_T_4_accept_issue_at_intake() -> None:
    given(ISSUE, *RAISED).when(accepting()).then(ACCEPTED_FACT)


def test_T_4_the_planning_group_accepts_where_it_is_the_intake_body() -> None:
    command = accepting("planning-group.secretary", holder="planning-group")

    given(ISSUE, *RAISED).when(command).then(IssueAccepted(intake_body="planning-group"))


def test_T_4_accepted_again_says_nothing_new() -> None:
    assert given(ISSUE, *ACCEPTED).when(accepting(stage="R2")).events() == ()


@pytest.mark.parametrize("fact", [{"stage": "R0"}, {"stage": None, "holder": None}, {"stage": "R2"}])
def test_T_4_only_at_intake(fact: dict[str, Any]) -> None:
    given(ISSUE, *RAISED).when(accepting(**fact)).refused("T-4")


def test_T_4_only_the_intake_body() -> None:
    given(ISSUE, *RAISED).when(accepting("council-busan.secretary")).refused("T-4")


@pytest.mark.parametrize("past", [(), REFUSED, CLOSED])
def test_T_4_an_ended_or_unknown_issue_is_not_accepted(past: tuple[Event, ...]) -> None:
    given(ISSUE, *past).when(accepting()).refused("T-4")


# RefuseIssue


@pytest.mark.capability("A10", part="no transfer to another authority in this issue")
@pytest.mark.capability("D9")
def test_T_5_I_8_refuse_issue_with_reason_on_the_secretary_s_draft() -> None:
    given(ISSUE, *RAISED).when(refusing()).then(REFUSED_FACT)


def test_T_5_draft_by_somebody_else() -> None:
    given(ISSUE, *RAISED).when(refusing(drafted_by="council-gangwon.chair")).refused("T-5")
    given(ISSUE, *RAISED).when(refusing(secretary=None)).refused("T-5")


def test_T_5_not_merely_not_ours() -> None:
    reason = Reason(code="not_competent", text="소관이 아닙니다.")

    given(ISSUE, *RAISED).when(refusing(reason=reason)).refused("T-5")


@pytest.mark.parametrize(
    "reason", [{"code": "incomplete", "text": " "}, {"code": "", "text": "사유"}, {"text": "사유"}]
)
def test_I_8_a_refusal_without_code_or_text_is_no_refusal(reason: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        refusing(reason=reason)


def test_T_5_only_at_intake_by_the_intake_body() -> None:
    given(ISSUE, *RAISED).when(refusing(stage="R2")).refused("T-5")
    given(ISSUE, *RAISED).when(refusing("council-busan.chair")).refused("T-5")


@pytest.mark.parametrize("past", [(), ACCEPTED, CLOSED])
def test_T_5_only_while_raised(past: tuple[Event, ...]) -> None:
    given(ISSUE, *past).when(refusing()).refused("T-5")


# CloseIssue


def test_T_38_the_issue_closes_with_its_case() -> None:
    given(ISSUE, *ACCEPTED).when(closing()).then(IssueClosed(outcome="adopted_in_policy"))


@pytest.mark.parametrize("past", [REFUSED, CLOSED])
def test_T_38_what_has_ended_does_not_end_again(past: tuple[Event, ...]) -> None:
    assert given(ISSUE, *past).when(closing()).events() == ()


def test_T_38_an_unknown_issue_cannot_close() -> None:
    given(ISSUE).when(closing()).refused("T-38")


def test_unknown_events_leave_the_state_unchanged() -> None:
    state = fold(ISSUE, ACCEPTED)

    assert ISSUE.evolve(state, RECEIPT) == state
