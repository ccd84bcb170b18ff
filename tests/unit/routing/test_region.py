"""The register of regions."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from services.routing.region import (
    REGION_REGISTER,
    PublishGrouping,
    RecodeRegion,
    RegisterRegion,
    SucceedRegion,
)
from shared.contracts.envelope import Actor, Authority, Label
from shared.contracts.reference import (
    Megaregion,
    RegionCodes,
    RegionGroupingPublished,
    RegionRecoded,
    RegionRegistered,
    RegionSucceeded,
)
from shared.runtime.directory import SEOUL, Directory
from shared.testing import given

OPERATOR: dict[str, Any] = {
    "by": Actor(user="u", office="operations.operator", body="operations"),
    "at": datetime(2023, 1, 4, 9, tzinfo=SEOUL),
    "authority": Authority(rule="reference"),
}
BEGIN, RENAMED, MERGED = date(1995, 1, 1), date(2023, 6, 11), date(2026, 7, 1)


def fact(region: str, mois: str, day: date = BEGIN) -> dict[str, Any]:
    return {
        "region": region,
        "codes": RegionCodes(mois=mois),
        "name": Label(ko=region, en=region),
        "valid_from": day,
        "source": "S test",
    }


GANGWON = RegionRegistered(**fact("gangwon", "42"))
GWANGJU = RegionRegistered(**fact("gwangju", "29"))
JEONNAM = RegionRegistered(**fact("jeonnam", "46"))
UNION = RegionRegistered(**fact("jeonnam-gwangju", "12", MERGED))
REGISTER = given(REGION_REGISTER, GANGWON, GWANGJU, JEONNAM, UNION)


def test_register_region_once() -> None:
    given(REGION_REGISTER).when(RegisterRegion(**OPERATOR, **fact("gangwon", "42"))).then(GANGWON)
    REGISTER.when(RegisterRegion(**OPERATOR, **fact("gangwon", "51"))).refused("I-16")


def test_I_16_recode_region_is_the_same_region() -> None:
    command = RecodeRegion(**OPERATOR, **fact("gangwon", "51", RENAMED))
    after = REGISTER.when(command).then(RegionRecoded(**fact("gangwon", "51", RENAMED)))
    after.when(RecodeRegion(**OPERATOR, **fact("gangwon", "52", RENAMED))).refused("I-16")


def test_I_1_recode_only_what_exists_that_day() -> None:
    REGISTER.when(RecodeRegion(**OPERATOR, **fact("nowhere", "99", RENAMED))).refused("I-1")
    REGISTER.when(RecodeRegion(**OPERATOR, **fact("gangwon", "51", BEGIN))).refused("I-1")


def succeed(region: str, *successors: str, day: date = MERGED) -> SucceedRegion:
    return SucceedRegion(**OPERATOR, region=region, successors=successors, valid_from=day, source="V test")


def succeeded(region: str, *successors: str, day: date = MERGED) -> RegionSucceeded:
    return RegionSucceeded(region=region, successors=successors, valid_from=day, source="V test")


def test_I_15_succeed_region_names_its_successors() -> None:
    first = REGISTER.when(succeed("gwangju", "jeonnam-gwangju")).then(succeeded("gwangju", "jeonnam-gwangju"))
    both = first.when(succeed("jeonnam", "jeonnam-gwangju")).then(succeeded("jeonnam", "jeonnam-gwangju"))
    both.when(succeed("gwangju", "jeonnam")).refused("I-16")
    both.when(RecodeRegion(**OPERATOR, **fact("gwangju", "30", date(2027, 1, 1)))).refused("I-1")


def test_I_15_succession_is_acyclic_and_to_regions_of_that_day() -> None:
    REGISTER.when(succeed("gwangju", "gwangju")).refused("I-15")
    REGISTER.when(succeed("gwangju", "nowhere")).refused("I-15")
    REGISTER.when(succeed("gwangju", "jeonnam-gwangju", day=RENAMED)).refused("I-15")
    after = given(REGION_REGISTER, *REGISTER.past, succeeded("gwangju", "jeonnam-gwangju"))
    after.when(succeed("jeonnam-gwangju", "gwangju", day=date(2027, 1, 1))).refused("I-15")
    REGISTER.when(succeed("nowhere", "gangwon")).refused("I-1")


def group(**other: Any) -> PublishGrouping:
    return PublishGrouping(**OPERATOR, **(grouping() | other))


def grouping() -> dict[str, Any]:
    return {
        "grouping": "areas",
        "name": Label(ko="권역", en="Areas"),
        "megaregions": (
            Megaregion(megaregion="honam", name=Label(ko="호남", en="Honam"), regions=("gwangju", "jeonnam")),
            Megaregion(megaregion="gangwon", name=Label(ko="강원", en="Gangwon"), regions=("gangwon",)),
        ),
        "valid_from": date(2012, 7, 1),
        "valid_to": date(2025, 10, 1),
        "source": "M test",
    }


@pytest.mark.capability("A12")
def test_publish_grouping_with_its_validity() -> None:
    after = REGISTER.when(group()).then(RegionGroupingPublished(**grouping()))
    after.when(group(source="other")).refused("I-16")
    assert after.when(group(grouping="next", valid_from=date(2025, 10, 1), valid_to=None)).events()


def test_I_15_a_grouping_follows_an_open_one_from_another_day() -> None:
    open_one = given(REGION_REGISTER, *REGISTER.past, RegionGroupingPublished(**(grouping() | {"valid_to": None})))
    begins = {"grouping": "next", "valid_from": date(2027, 1, 1), "valid_to": None}
    open_one.when(group(**begins)).then(RegionGroupingPublished(**(grouping() | begins)))
    open_one.when(group(**(begins | {"valid_from": grouping()["valid_from"]}))).refused("I-15")
    open_one.when(group(valid_to=date(2030, 1, 1))).refused("I-16")


def test_I_15_of_two_groupings_of_a_day_the_one_that_began_last_applies() -> None:
    union = Megaregion(megaregion="union", name=Label(ko="통합", en="Union"), regions=("gwangju",))
    later = {"grouping": "next", "valid_from": date(2027, 1, 1), "valid_to": None, "megaregions": (union,)}
    facts = [RegionGroupingPublished(**(grouping() | told)) for told in (later, {"valid_to": None})]
    directory = Directory(facts)
    assert directory.megaregion("gwangju", date(2026, 12, 31)) == "honam"
    assert directory.megaregion("gwangju", date(2027, 1, 1)) == "union"
    assert directory.megaregion("jeonnam", date(2027, 1, 1)) is None, "no mixture of two groupings"


def test_I_15_a_grouping_holds_known_regions_once_and_has_a_length() -> None:
    twice = (
        Megaregion(megaregion="a", name=Label(ko="가", en="a"), regions=("gwangju",)),
        Megaregion(megaregion="b", name=Label(ko="나", en="b"), regions=("gwangju",)),
    )
    REGISTER.when(group(megaregions=twice)).refused("I-15")
    unknown = (Megaregion(megaregion="a", name=Label(ko="가", en="a"), regions=("nowhere",)),)
    REGISTER.when(group(megaregions=unknown)).refused("I-15")
    REGISTER.when(group(valid_to=date(2012, 7, 1))).refused("I-15")
