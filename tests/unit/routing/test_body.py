"""Bodies, charters, seats and edges."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from services.routing.body import (
    BODY,
    AdoptCharter,
    AppointMember,
    CloseEdge,
    EstablishBody,
    OpenEdge,
    RemoveMember,
)
from shared.contracts.envelope import Actor, Authority, Label
from shared.contracts.reference import (
    BodyEstablished,
    CharterAdopted,
    EdgeClosed,
    EdgeOpened,
    MemberAppointed,
    MemberLeft,
)
from shared.runtime.directory import SEOUL
from shared.testing import given

OPERATOR: dict[str, Any] = {
    "by": Actor(user="u", office="operations.operator", body="operations"),
    "at": datetime(2023, 1, 4, 9, tzinfo=SEOUL),
    "authority": Authority(rule="reference"),
}
BEGIN, LATER = date(2022, 8, 1), date(2023, 1, 4)
NAME = Label(ko="지원단", en="Support Group")

BODY_FACT: dict[str, Any] = {
    "body": "support-group",
    "kind": "support_group",
    "tier": "R4",
    "name": NAME,
    "parent": "forum",
    "valid_from": BEGIN,
    "source": "V test",
}
CHARTER_FACT: dict[str, Any] = {
    "body": "support-group",
    "charter": "support-group-charter",
    "version": 1,
    "quorum": 8,
    "method": "chair_after_hearing",
    "codes": ("resolved", "escalate"),
    "notice_days": 7,
    "decision_clause": "art. 5",
    "valid_from": BEGIN,
    "source": "M test",
}
SEAT_FACT: dict[str, Any] = {
    "body": "support-group",
    "seat": "seat-1",
    "name": Label(ko="1석", en="Seat 1"),
    "fields": ("land",),
    "valid_from": BEGIN,
    "source": "M test",
}
EDGE_FACT: dict[str, Any] = {
    "body": "support-group",
    "edge": "support-group.escalate",
    "to_body": "forum",
    "kind": "escalate",
    "valid_from": BEGIN,
    "source": "V test",
}
ESTABLISHED = BodyEstablished(**BODY_FACT)


def establish(**other: Any) -> EstablishBody:
    return EstablishBody(**OPERATOR, **(BODY_FACT | {"ancestors": ("forum",)} | other))


@pytest.mark.capability("C1")
def test_establish_body() -> None:
    given(BODY).when(establish()).then(ESTABLISHED)


def test_I_15_parent_is_known_and_no_circle_and_validity_has_a_length() -> None:
    given(BODY).when(establish(ancestors=())).refused("I-15")
    given(BODY).when(establish(ancestors=("forum", "support-group"))).refused("I-15")
    given(BODY).when(establish(valid_to=BEGIN)).refused("I-15")


def test_I_16_an_established_body_is_not_rewritten() -> None:
    given(BODY, ESTABLISHED).when(establish(tier="R5")).refused("I-16")


def adopt(**other: Any) -> AdoptCharter:
    return AdoptCharter(**OPERATOR, **(CHARTER_FACT | other))


def test_I_10_adopt_charter_versions_go_upwards() -> None:
    after = given(BODY, ESTABLISHED).when(adopt()).then(CharterAdopted(**CHARTER_FACT))
    third = after.when(adopt(version=3, valid_from=LATER)).then(
        CharterAdopted(**(CHARTER_FACT | {"version": 3, "valid_from": LATER}))
    )
    third.when(adopt(version=2)).refused("I-10")
    third.when(adopt(quorum=2)).refused("I-16")
    third.when(adopt(version=4, valid_to=BEGIN)).refused("I-15")
    given(BODY).when(adopt()).refused("I-15")


def appoint(**other: Any) -> AppointMember:
    return AppointMember(**OPERATOR, **(SEAT_FACT | other))


@pytest.mark.capability("C6")
def test_appoint_member_with_fields_and_dates() -> None:
    after = given(BODY, ESTABLISHED).when(appoint()).then(MemberAppointed(**SEAT_FACT))
    after.when(appoint(fields=("city",))).refused("I-16")
    given(BODY, ESTABLISHED).when(appoint(valid_to=BEGIN)).refused("I-15")
    given(BODY).when(appoint()).refused("I-15")


@pytest.mark.capability("C6")
def test_C6_a_seat_has_a_role_and_may_be_advisory() -> None:
    told = {"role": "expert", "voting": False}
    given(BODY, ESTABLISHED).when(appoint(**told)).then(MemberAppointed(**(SEAT_FACT | told)))
    assert MemberAppointed(**SEAT_FACT).role == "member"


@pytest.mark.capability("C6")
def test_I_15_a_seat_sits_on_behalf_of_a_body_that_exists() -> None:
    told = {"role": "department_head", "on_behalf_of": "dept-road"}
    given(BODY, ESTABLISHED).when(appoint(**told)).refused("I-15")
    given(BODY, ESTABLISHED).when(appoint(**told, sender_known=True)).then(MemberAppointed(**(SEAT_FACT | told)))


def remove(**other: Any) -> RemoveMember:
    fact: dict[str, Any] = {"body": "support-group", "seat": "seat-1", "valid_from": LATER, "source": "M test"}
    return RemoveMember(**OPERATOR, **(fact | other))


def test_remove_member() -> None:
    left = MemberLeft(body="support-group", seat="seat-1", valid_from=LATER, source="M test")
    seated = given(BODY, ESTABLISHED, MemberAppointed(**SEAT_FACT))
    after = seated.when(remove()).then(left)
    after.when(remove(valid_from=date(2024, 1, 1))).refused("I-16")
    seated.when(remove(valid_from=BEGIN)).refused("I-15")
    seated.when(remove(seat="seat-9")).refused("I-16")


def edge(**other: Any) -> OpenEdge:
    return OpenEdge(**OPERATOR, **(EDGE_FACT | {"to_body_known": True} | other))


def test_I_3_open_edge() -> None:
    after = given(BODY, ESTABLISHED).when(edge()).then(EdgeOpened(**EDGE_FACT))
    after.when(edge(kind="review")).refused("I-16")
    given(BODY, ESTABLISHED).when(edge(to_body_known=False)).refused("I-3")
    given(BODY, ESTABLISHED).when(edge(to_body="support-group")).refused("I-3")
    given(BODY).when(edge()).refused("I-15")


def close(**other: Any) -> CloseEdge:
    fact: dict[str, Any] = {
        "body": "support-group",
        "edge": "support-group.escalate",
        "valid_from": LATER,
        "source": "V test",
    }
    return CloseEdge(**OPERATOR, **(fact | other))


def test_I_3_close_edge() -> None:
    opened = given(BODY, ESTABLISHED, EdgeOpened(**EDGE_FACT))
    after = opened.when(close()).then(
        EdgeClosed(body="support-group", edge="support-group.escalate", valid_from=LATER, source="V test")
    )
    after.when(close(valid_from=date(2024, 1, 1))).refused("I-16")
    opened.when(close(valid_from=BEGIN)).refused("I-15")
    opened.when(close(edge="other")).refused("I-3")
