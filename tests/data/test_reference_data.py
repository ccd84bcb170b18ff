"""The reference data in ``data/``, checked as a stranger would: ids exist on their dates, every row has a source."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from shared.contracts.codes import BodyKind, Channel, CostBand, DecisionCode, Method, OfficeRole
from shared.contracts.envelope import Event, Label
from shared.contracts.meetings import PlanItemAdded, PlanPublished
from shared.contracts.reference import (
    BodyEstablished,
    CharterAdopted,
    EdgeClosed,
    EdgeOpened,
    Megaregion,
    MemberAppointed,
    MemberLeft,
    OfficeEstablished,
    OfficeHolderAppointed,
    OfficeHolderLeft,
    RegionCodes,
    RegionGroupingPublished,
    RegionRecoded,
    RegionRegistered,
    RegionSucceeded,
    RuleSetPublished,
)
from shared.runtime.directory import Directory, valid

DATA = Path(__file__).parents[2] / "data"
KICK_OFF = date(2023, 1, 4)
GANGWON_RENAMED = date(2023, 6, 11)
MERGER = date(2026, 7, 1)
FAR = date(9999, 12, 31)
MARKED = [
    "regions",
    "megaregions",
    "bodies",
    "edges",
    "offices",
    "holders",
    "members",
    "charters",
    "fields",
    "work-plan",
    "contacts",
]
Row = dict[str, str]


def read(name: str) -> list[Row]:
    with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def cells(text: str) -> tuple[str, ...]:
    return tuple(text.split(";")) if text else ()


def day(text: str) -> date:
    return date.fromisoformat(text)


def span(row: Row) -> tuple[date, date]:
    """First day and first day no more."""
    return day(row["valid_from"]), day(row["valid_to"]) if row.get("valid_to") else FAR


def label(row: Row) -> Label:
    return Label(ko=row["ko"], en=row["en"])


def region_facts() -> Iterator[Event]:
    for row in read("regions"):
        told: dict[str, Any] = {"region": row["region"], "valid_from": day(row["valid_from"]), "source": row["source"]}
        codes = RegionCodes(mois=row["mois"], kosis=row["kosis"] or None, iso=row["iso"] or None)
        match row["change"]:
            case "registered":
                capital = row["capital_area"] == "true"
                yield RegionRegistered(codes=codes, name=label(row), capital_area=capital, **told)
            case "recoded":
                yield RegionRecoded(codes=codes, name=label(row), **told)
            case _:
                yield RegionSucceeded(successors=cells(row["successors"]), **told)


def grouping_facts() -> Iterator[Event]:
    groups: dict[str, list[Row]] = {}
    for row in read("megaregions"):
        groups.setdefault(row["grouping"], []).append(row)
    for grouping, rows in groups.items():
        first = rows[0]
        yield RegionGroupingPublished(
            grouping=grouping,
            name=Label(ko=first["grouping_ko"], en=first["grouping_en"]),
            megaregions=tuple(
                Megaregion(megaregion=row["megaregion"], name=label(row), regions=cells(row["regions"])) for row in rows
            ),
            valid_from=day(first["valid_from"]),
            valid_to=day(first["valid_to"]) if first["valid_to"] else None,
            source=first["source"],
        )


def dated(row: Row, *lists: str) -> dict[str, Any]:
    """A row as the fields of the event that it becomes: names as a label, list cells split, no empty cells."""
    fields: dict[str, Any] = {key: value for key, value in row.items() if value and key not in ("ko", "en")}
    if "ko" in row:
        fields["name"] = label(row)
    return fields | {name: cells(row[name]) for name in lists}


def all_facts() -> Iterator[Event]:
    yield from region_facts()
    yield from grouping_facts()
    for row in read("bodies"):
        yield BodyEstablished.model_validate(dated(row, "regions"))
    for row in read("charters"):
        yield CharterAdopted.model_validate(dated(row, "codes"))
    for row in read("members"):
        yield MemberAppointed.model_validate(dated(row, "fields"))
    for row in read("edges"):
        fields = dated(row)
        end = fields.pop("valid_to", None)
        yield EdgeOpened.model_validate(fields)
        if end:
            yield EdgeClosed(body=row["body"], edge=row["edge"], valid_from=day(end), source=row["source"])
    for row in read("offices"):
        yield OfficeEstablished.model_validate(dated(row))
    for row in read("holders"):
        fields = dated(row)
        end = fields.pop("valid_to", None)
        yield OfficeHolderAppointed.model_validate(fields)
        if end:
            yield OfficeHolderLeft(
                office=row["office"], subject=row["subject"], valid_from=day(end), source=row["source"]
            )


@pytest.fixture(scope="module")
def directory() -> Directory:
    return Directory(all_facts())


def lasts(outer: Row, inner: Row) -> bool:
    """Whether ``outer`` is valid on every day of ``inner``."""
    (outer_from, outer_to), (inner_from, inner_to) = span(outer), span(inner)
    return outer_from <= inner_from and inner_to <= outer_to


# Form


@pytest.mark.parametrize("name", MARKED)
def test_every_row_has_a_source_mark(name: str) -> None:
    for row in read(name):
        assert re.match(r"^[VSM] \S", row["source"]), row


@pytest.mark.parametrize("name", [*MARKED, "suggestions-2023"])
def test_files_are_plain_utf8_csv(name: str) -> None:
    raw = (DATA / f"{name}.csv").read_bytes()
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    header, *rows = csv.reader(raw.decode("utf-8").splitlines(), strict=True)
    assert rows
    for row in rows:
        assert len(row) == len(header), row
        assert all(cell == cell.strip() for cell in row), row


@pytest.mark.parametrize("name", [*MARKED, "suggestions-2023"])
def test_only_contacts_hold_addresses(name: str) -> None:
    addresses = [cell for row in read(name) for cell in row.values() if "@" in cell]
    if name == "contacts":
        assert len(addresses) == len(read("contacts"))
        assert all(address.endswith(".example") for address in addresses)
    else:
        assert addresses == []


@pytest.mark.parametrize("name", MARKED)
def test_validity_ends_after_it_begins(name: str) -> None:
    for row in read(name):
        if "valid_from" in row:
            begin, end = span(row)
            assert begin < end, row


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("regions", ("region", "valid_from")),
        ("megaregions", ("grouping", "megaregion")),
        ("bodies", ("body",)),
        ("edges", ("edge",)),
        ("offices", ("office",)),
        ("holders", ("office", "subject", "valid_from")),
        ("members", ("seat",)),
        ("charters", ("body", "version")),
        ("fields", ("field",)),
        ("work-plan", ("year", "item")),
        ("contacts", ("office",)),
        ("suggestions-2023", ("external_id",)),
    ],
)
def test_no_row_is_there_twice(name: str, key: tuple[str, ...]) -> None:
    keys = [tuple(row[column] for column in key) for row in read(name)]
    assert len(keys) == len(set(keys))


# Regions


def test_seventeen_regions_at_the_kick_off_and_sixteen_after_the_merger(directory: Directory) -> None:
    assert len(directory.regions(date(2012, 7, 1))) == 17
    assert len(directory.regions(KICK_OFF)) == 17
    assert len(directory.regions(MERGER - timedelta(days=1))) == 17
    assert len(directory.regions(MERGER)) == 16


def test_the_three_code_systems_are_kept_apart() -> None:
    base = [row for row in read("regions") if row["change"] == "registered" and row["region"] != "jeonnam-gwangju"]
    assert len(base) == 17
    for system, form in (("mois", r"\d\d"), ("kosis", r"\d\d"), ("iso", r"KR-\d\d")):
        codes = [row[system] for row in base]
        assert len(set(codes)) == 17
        assert all(re.fullmatch(form, code) for code in codes)
    by_mois = {row["mois"]: row["region"] for row in base}
    by_kosis = {row["kosis"]: row["region"] for row in base}
    by_iso = {row["iso"]: row["region"] for row in base}
    assert (by_iso["KR-50"], by_iso["KR-49"], by_mois["50"]) == ("sejong", "jeju", "jeju")
    collisions = {code: (by_mois[code], by_kosis[code]) for code in ("26", "29", "31", "36")}
    assert collisions == {
        "26": ("busan", "ulsan"),
        "29": ("gwangju", "sejong"),
        "31": ("ulsan", "gyeonggi"),
        "36": ("sejong", "jeonnam"),
    }


def test_I_16_a_recoding_is_the_same_region_under_another_code(directory: Directory) -> None:
    before, after = directory.find_region("42", KICK_OFF), directory.find_region("51", GANGWON_RENAMED)
    assert before is not None
    assert after is not None
    assert before.id == after.id == "gangwon"
    assert (before.name.ko, after.name.ko) == ("강원도", "강원특별자치도")
    assert directory.find_region("42", GANGWON_RENAMED) is None
    assert directory.find_region("51", GANGWON_RENAMED - timedelta(days=1)) is None
    jeonbuk = directory.region("jeonbuk", date(2024, 1, 18))
    assert jeonbuk is not None
    assert jeonbuk.codes.mois == "52"


def test_I_15_the_merged_regions_name_their_successor(directory: Directory) -> None:
    for region in ("gwangju", "jeonnam"):
        assert directory.successors(region, MERGER - timedelta(days=1)) == (region,)
        assert directory.successors(region, MERGER) == ("jeonnam-gwangju",)
    merged = directory.find_region("12", MERGER)
    assert merged is not None
    assert merged.name.ko == "전남광주통합특별시"


def test_fourteen_regions_lie_outside_the_capital_area(directory: Directory) -> None:
    assert {region.id for region in directory.regions(KICK_OFF) if region.capital_area} == {
        "seoul",
        "incheon",
        "gyeonggi",
    }
    assert len([region for region in directory.regions(KICK_OFF) if not region.capital_area]) == 14


def test_every_region_is_in_exactly_one_megaregion_of_each_grouping(directory: Directory) -> None:
    groups = [fact for fact in grouping_facts() if isinstance(fact, RegionGroupingPublished)]
    assert len(groups) == 3
    for group in groups:
        grouped = sorted(region for mega in group.megaregions for region in mega.regions)
        last = group.valid_to - timedelta(days=1) if group.valid_to else date(2030, 1, 1)
        for on in (group.valid_from, last):
            assert grouped == sorted(region.id for region in directory.regions(on)), (group.grouping, on)


def test_groupings_follow_one_another_without_gap() -> None:
    groups = [fact for fact in grouping_facts() if isinstance(fact, RegionGroupingPublished)]
    for earlier, later in pairwise(groups):
        assert earlier.valid_to == later.valid_from
    assert groups[-1].valid_to is None


def test_rows_of_one_grouping_agree() -> None:
    told: dict[str, set[tuple[str, ...]]] = {}
    for row in read("megaregions"):
        common = (row["grouping_ko"], row["grouping_en"], row["valid_from"], row["valid_to"], row["source"])
        told.setdefault(row["grouping"], set()).add(common)
    assert all(len(values) == 1 for values in told.values())


def test_of_the_rail_lead_projects_only_yongmun_hongcheon_crosses_megaregions(directory: Directory) -> None:
    def areas(*regions: str) -> set[str | None]:
        return {directory.megaregion(region, KICK_OFF) for region in regions}

    assert areas("busan", "gyeongnam", "ulsan") == {"mega-southeast"}
    assert areas("gwangju", "jeonnam") == {"mega-honam"}
    assert areas("daegu", "gyeongbuk") == {"mega-daegyeong"}
    assert areas("daejeon", "sejong", "chungbuk") == {"mega-chungcheong"}
    assert areas("gyeonggi", "gangwon") == {"mega-capital", "mega-gangwon"}


# Bodies, edges, offices


def test_bodies_use_declared_kinds_and_point_to_bodies_of_their_time() -> None:
    bodies = {row["body"]: row for row in read("bodies")}
    for row in bodies.values():
        assert row["kind"] in get_args(BodyKind)
        if row["parent"]:
            parent = bodies[row["parent"]]
            assert span(parent)[1] >= span(row)[1]
            # Support group before its forum: until 4 January 2023 the support group was the top.
            assert lasts(parent, row) or (row["body"] == "support-group" and day(parent["valid_from"]) == KICK_OFF)


def test_I_15_the_body_tree_has_no_cycle() -> None:
    parents: dict[str, str] = {}
    for row in read("bodies"):
        assert not row["parent"] or row["parent"] in parents, (
            "a parent stands above its children, so that it loads first"
        )
        parents[row["body"]] = row["parent"]
    for body in parents:
        path = [body]
        while parents[path[-1]]:
            path.append(parents[path[-1]])
            assert len(path) == len(set(path)), path


def test_regions_of_bodies_exist_as_long_as_the_body(directory: Directory) -> None:
    for row in read("bodies"):
        begin, end = span(row)
        last = end - timedelta(days=1) if end != FAR else date(2030, 1, 1)
        for region in cells(row["regions"]):
            assert directory.region(region, begin) is not None, row
            assert directory.region(region, last) is not None, row


def test_every_region_has_one_council_on_every_day_since_the_councils_began(directory: Directory) -> None:
    for on in (date(2022, 8, 1), KICK_OFF, GANGWON_RENAMED, MERGER - timedelta(days=1), MERGER):
        for region in directory.regions(on):
            councils = directory.councils_of(region.id, on)
            assert [council.body for council in councils] == [f"council-{region.id}"]


def test_every_region_has_one_metropolitan_organisation(directory: Directory) -> None:
    for on in (KICK_OFF, MERGER):
        levels = [
            (body.regions, body.level) for body in directory.bodies(on, "organisation") if body.level == "metropolitan"
        ]
        assert sorted(levels) == sorted(((region.id,), "metropolitan") for region in directory.regions(on))


def test_organisations_are_named_after_their_region(directory: Directory) -> None:
    rows = [row for row in read("bodies") if row["kind"] == "organisation"]
    assert sum(row["level"] == "basic" for row in rows if valid(KICK_OFF, *span(row))) >= 30
    for row in rows:
        (region,) = cells(row["regions"])
        if row["level"] == "metropolitan":
            assert row["body"] == f"org-{region}"
        else:
            assert row["level"] == "basic"
            assert row["body"].startswith(f"org-{region}-")
    hongcheon = directory.body("org-gangwon-hongcheon", KICK_OFF)
    assert hongcheon is not None
    assert hongcheon.name.ko == "강원 홍천군"


def test_tiers_stand_in_order_along_the_edges(directory: Directory) -> None:
    tiers = {body.body: body.tier for body in directory.bodies(KICK_OFF) if body.tier}
    assert {tier for body, tier in tiers.items() if body.startswith("council-")} == {"R2"}
    assert (tiers["support-group"], tiers["forum"]) == ("R4", "R5")
    assert len(tiers) == 17 + 2
    (review,) = directory.edges("council-gangwon", KICK_OFF)
    (escalate,) = directory.edges("planning-group", KICK_OFF)
    (to_forum,) = directory.edges("support-group", KICK_OFF)
    assert (review.edge, review.kind, review.to_body) == ("council-gangwon.review", "review", "planning-group")
    assert (escalate.kind, escalate.to_body) == ("escalate", "support-group")
    assert (to_forum.kind, to_forum.to_body) == ("escalate", "forum")


def test_I_3_edges_join_bodies_that_exist_as_long_as_the_edge() -> None:
    bodies = {row["body"]: row for row in read("bodies")}
    for row in read("edges"):
        assert lasts(bodies[row["body"]], row), row
        assert lasts(bodies[row["to_body"]], row), row
        assert row["edge"].startswith(f"{row['body']}.{row['kind']}")
    assert {row["body"] for row in read("edges")} == {
        body for body, row in bodies.items() if row["kind"] in ("council", "planning_group", "support_group")
    }


@pytest.mark.capability("C1")
def test_offices_exist_as_long_as_their_body_with_the_roles_of_its_kind() -> None:
    roles = {
        "council": {"secretary", "chair", "deputy"},
        "planning_group": {"secretary", "chair", "deputy"},
        "support_group": {"secretary", "chair", "deputy"},
        "forum": {"secretary", "chair", "deputy"},
        "department": {"reviewer"},
        "organisation": {"officer"},
        "triage": {"desk"},
        "operations": {"operator"},
    }
    bodies = {row["body"]: row for row in read("bodies")}
    had: dict[str, set[str]] = {body: set() for body in bodies}
    for row in read("offices"):
        body = bodies[row["body"]]
        assert row["office"] == f"{row['body']}.{row['role']}"
        assert row["role"] in get_args(OfficeRole)
        assert span(row) == span(body)
        had[row["body"]].add(row["role"])
    assert {body: roles[row["kind"]] for body, row in bodies.items()} == had


def test_I_9_every_office_has_a_holder_on_every_day() -> None:
    holders: dict[str, list[tuple[date, date]]] = {}
    for row in read("holders"):
        holders.setdefault(row["office"], []).append(span(row))
    offices = {row["office"]: row for row in read("offices")}
    assert set(holders) == set(offices)
    for office, row in offices.items():
        begin, end = span(row)
        covered = begin
        for held_from, held_to in sorted(holders[office]):
            assert begin <= held_from <= covered, office
            assert held_to <= end, office
            covered = max(covered, held_to)
        assert covered == end, office


def test_I_9_a_former_holder_holds_nothing(directory: Directory) -> None:
    office, change = "council-gangwon.secretary", date(2023, 3, 1)
    (former,) = directory.holders(office, change - timedelta(days=1))
    (present,) = directory.holders(office, change)
    assert former != present
    assert directory.offices_held(former, change) == []
    assert directory.ever_held(former, office)


def test_one_office_may_have_two_holders_and_one_subject_many_offices(directory: Directory) -> None:
    assert len(directory.holders("planning-group.secretary", KICK_OFF)) == 2
    chairs = {
        tuple(directory.holders(f"council-{region.id}.chair", KICK_OFF)) for region in directory.regions(KICK_OFF)
    }
    assert len(chairs) == 1
    ((head,),) = chairs
    assert len(directory.offices_held(head, KICK_OFF)) == 17


def test_subjects_are_ids_and_never_names() -> None:
    assert all(re.fullmatch(r"u-\d{4}", row["subject"]) for row in read("holders"))


def test_contacts_reach_every_office() -> None:
    contacts = {row["office"]: row for row in read("contacts")}
    assert {office: row["valid_from"] for office, row in contacts.items()} == {
        row["office"]: row["valid_from"] for row in read("offices")
    }
    assert {row["locale"] for row in contacts.values()} == {"ko", "en"}


# Members and charters


def test_seats_belong_to_bodies_of_their_time_and_to_known_fields() -> None:
    bodies = {row["body"]: row for row in read("bodies")}
    fields = {row["field"] for row in read("fields")}
    for row in read("members"):
        assert lasts(bodies[row["body"]], row), row
        assert row["seat"].startswith(f"{row['body']}-seat-")
        assert row["voting"] in ("true", "false")
        assert set(cells(row["fields"])) <= fields
        if row["on_behalf_of"]:
            assert lasts(bodies[row["on_behalf_of"]], row), row


@pytest.mark.capability("C6")
def test_C6_every_seat_has_its_role_and_who_sends_it(directory: Directory) -> None:
    def seats(body: str) -> dict[str, tuple[str, str | None]]:
        return {
            seat.seat.removeprefix(f"{body}-seat-"): (seat.role, seat.on_behalf_of)
            for seat in directory.members(body, KICK_OFF)
        }

    council, group = seats("council-gangwon"), seats("support-group")
    assert council.pop("chair") == ("chair", "dept-land-urban")
    assert council == {seat: ("department_head", f"dept-{seat}") for seat in council}
    assert group.pop("head") == ("head", None)
    assert {group[seat] for seat in group if not seat.startswith("vice-head-")} == {
        ("department_head", body.body) for body in directory.bodies(KICK_OFF, "department")
    }
    for seat in group:
        if seat.startswith("vice-head-"):
            assert group[seat] == ("vice_head", f"org-{seat.removeprefix('vice-head-')}")
    assert set(seats("forum").values()) == {("expert", None)}


@pytest.mark.capability("C6")
def test_C6_a_field_that_nobody_holds_any_more_is_not_covered() -> None:
    left = MemberLeft(body="forum", seat="forum-seat-09", valid_from=date(2024, 1, 1), source="M test")
    directory = Directory([*all_facts(), left])
    nine = tuple(sorted(row["field"] for row in read("fields")))
    assert directory.fields("forum", KICK_OFF - timedelta(days=1)) == ((), ())
    assert directory.fields("forum", date(2023, 12, 31)) == (nine, ())
    covered, missing = directory.fields("forum", date(2024, 1, 1))
    assert missing == ("environment",)
    assert set(covered) == set(nine) - {"environment"}


@pytest.mark.capability("C6")
def test_C6_eleven_expert_seats_cover_the_nine_fields(directory: Directory) -> None:
    seats = directory.members("forum", KICK_OFF)
    assert len(seats) == 11
    assert {field for seat in seats for field in seat.fields} == {row["field"] for row in read("fields")}
    assert len(read("fields")) == 9
    assert any(len(seat.fields) > 1 for seat in seats)
    assert directory.members("forum", KICK_OFF - timedelta(days=1)) == []


def test_vice_heads_of_every_non_capital_region_sit_in_the_support_group(directory: Directory) -> None:
    for on, count in ((KICK_OFF, 14), (MERGER, 13)):
        seats = {seat.seat for seat in directory.members("support-group", on)}
        expected = {
            f"support-group-seat-vice-head-{region.id}" for region in directory.regions(on) if not region.capital_area
        }
        assert len(expected) == count
        assert {seat for seat in seats if "vice-head" in seat} == expected


def test_I_10_every_body_that_decides_has_a_charter_it_can_meet(directory: Directory) -> None:
    for on in (KICK_OFF, MERGER):
        for body in directory.bodies(on):
            charter = directory.charter(body.body, on)
            if body.tier is None:
                assert charter is None
                continue
            assert charter is not None
            assert charter.method == "chair_after_hearing"
            assert 0 < charter.quorum <= len(directory.members(body.body, on))


def test_charters_list_whole_columns_of_decision_codes(directory: Directory) -> None:
    for row in read("charters"):
        assert set(cells(row["codes"])) <= set(get_args(DecisionCode))
        assert row["method"] in get_args(Method)
    sizes = {}
    for body in ("council-gangwon", "support-group", "forum"):
        charter = directory.charter(body, KICK_OFF)
        assert charter is not None
        sizes[body] = len(charter.codes)
    assert sizes == {"council-gangwon": 7, "support-group": 12, "forum": 13}


# Work plan and suggestions


def test_the_work_plan_is_a_tree_with_an_open_leaf_under_each_direction() -> None:
    plan, *items = read("work-plan")
    published = PlanPublished(
        year=int(plan["year"]), title=label(plan), presented_on=day(plan["valid_from"]), source=plan["source"]
    )
    assert published.presented_on == date(2023, 1, 3)
    assert plan["item"] == ""
    added = [
        PlanItemAdded.model_validate({"parent": None, "note": None} | dated(row) | {"year": int(row["year"])})
        for row in items
    ]
    directions = [item.item for item in added if item.parent is None]
    assert directions == ["P1", "P2", "P3"]
    for item in added:
        assert item.year == published.year
        assert item.parent is None or item.parent in directions
        assert item.parent is None or item.item.startswith(f"{item.parent}-")
    assert {f"{direction}-0" for direction in directions} <= {item.item for item in added}


def suggested() -> list[Row]:
    return read("suggestions-2023")


def test_suggestions_come_from_organisations_of_their_day(directory: Directory) -> None:
    for row in suggested():
        raised = datetime.fromisoformat(row["raised_at"])
        raiser = directory.body(row["raised_by"], raised.date())
        assert raiser is not None, row
        assert raiser.kind == "organisation"
        found = [directory.find_region(text, raised.date()) for text in cells(row["regions"])]
        regions = [region.id for region in found if region is not None]
        assert len(regions) == len(found) == len(set(regions)), row
        assert (regions[0],) == raiser.regions, row


def test_suggestions_cover_all_seventeen_regions(directory: Directory) -> None:
    rows = suggested()
    assert len(rows) >= 45
    raisers = {row["raised_by"] for row in rows}
    leading = {region for body in directory.bodies(KICK_OFF) if body.body in raisers for region in body.regions}
    assert leading == {region.id for region in directory.regions(KICK_OFF)}
    assert len([row for row in rows if len(cells(row["regions"])) > 1]) >= 5
    assert any(re.fullmatch(r"[\d;]+", row["regions"]) for row in rows)
    assert any(re.search(r"[가-힣]", row["regions"]) for row in rows)


def test_suggestions_were_raised_between_august_2022_and_the_kick_off() -> None:
    for row in suggested():
        raised = datetime.fromisoformat(row["raised_at"])
        assert raised.tzinfo == timezone(timedelta(hours=9)), row
        assert date(2022, 8, 1) <= raised.date() <= KICK_OFF
        assert raised.weekday() < 5


def test_suggestions_name_codes_and_plan_items_that_exist() -> None:
    leaves = {row["item"] for row in read("work-plan") if row["parent"]}
    for row in suggested():
        assert row["channel"] in get_args(Channel)
        assert row["plan_item"] in leaves
        assert row["cost_band"] in ("", *get_args(CostBand))
        assert all(re.fullmatch(r"[a-z-]+", tag) for tag in cells(row["tags"]))
        assert re.fullmatch(r"S2023-\d{3}", row["external_id"])
    assert {row["plan_item"] for row in suggested()} == leaves


def test_no_suggestion_is_there_twice() -> None:
    rows = suggested()
    for column in ("title", "text"):
        assert len({row[column] for row in rows}) == len(rows)
    assert all(re.search(r"[가-힣]", row["title"] + row["text"]) for row in rows)


# Rules


def rule_sets() -> list[RuleSetPublished]:
    return [
        RuleSetPublished.model_validate(json.loads(path.read_text(encoding="utf-8")))
        for path in DATA.glob("rules-*.json")
    ]


def test_rules_name_bodies_and_plan_items_that_exist() -> None:
    bodies = {row["body"] for row in read("bodies")}
    items = {row["item"] for row in read("work-plan")}
    for rules in rule_sets():
        for table in rules.tables:
            for row in table.rows:
                departments = {str(row.gives[key]) for key in ("lead", "department") if key in row.gives}
                assert departments <= bodies, row
                assert set(re.findall(r"'(P\d-\d)'", row.when)) <= items, row


def test_every_tier_of_a_body_has_its_row_in_the_rules_of_the_day() -> None:
    for row in read("bodies"):
        if row["tier"]:
            begin, _ = span(row)
            valid_then = [rules for rules in rule_sets() if rules.valid_from <= begin]
            rules = max(valid_then, key=lambda rules: rules.version)
            assert row["tier"] in {tier.tier for tier in rules.tiers}, row
