"""``maru verify``: any change of any stored event is found and named, and a clean log gives no alarm (I-19)."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.runtime.codec import seal, slot_of
from shared.runtime.commands import derived_id
from shared.runtime.verify import Findings, verify
from tests.runtime.ledger import entry
from tests.runtime.pair import Stepped, pair

SERVICES = pair()
K2 = pytest.mark.capability("K2", part="no signed checkpoints kept outside the database")
FIRST_8 = pytest.mark.capability("first-8", part="no personal data encrypted and erased by its key")
NAMES = tuple(service.name for service in SERVICES)
EVENTS = 40
COLUMNS = (
    "position",
    "originator_id",
    "originator_version",
    "topic",
    "state",
    "key",
    "slot",
    "prev",
    "epoch",
    "case_id",
    "trace",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both services' files with events of cases and of other aggregates, carried, answered and closed."""
    folder = tmp_path_factory.mktemp("verify")
    system = Stepped(folder, SERVICES)
    for number in range(EVENTS):
        name = f"ledger-{number % 7}"
        act = entry(name, f"기재 {number}")
        if number % 7 < 3:
            act = replace(act, id=f"{name}.1", key=name, case_id=name)
        system.source.submit(act, derived_id("made", number), "asked")
    system.carry()
    system.react()
    system.close()
    for service in SERVICES:
        with closing(sqlite3.connect(folder / service.name / "log.db")) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


@contextmanager
def edited(written: Path, tmp_path: Path, service: str = "routing") -> Iterator[sqlite3.Connection]:
    """A copy of the files, opened past all code of ours."""
    if not (tmp_path / service).exists():
        for one in SERVICES:
            (tmp_path / one.name).mkdir(parents=True)
            shutil.copy(written / one.name / "log.db", tmp_path / one.name / "log.db")
    with closing(sqlite3.connect(tmp_path / service / "log.db", isolation_level=None)) as db:
        yield db


def found(folder: Path, services: Any = NAMES) -> Findings:
    return verify(folder, services)


@K2
@FIRST_8
def test_I_19_a_clean_log_gives_no_alarm(written: Path) -> None:
    told: list[tuple[int, int]] = []
    findings = verify(written, NAMES, lambda done, total: told.append((done, total)))
    assert findings.bad == ()
    assert (findings.events, findings.copies, findings.streams) == (2 * EVENTS, EVENTS, 7 + 7)
    assert told[-1] == (3 * EVENTS, 3 * EVENTS)


def flipped(value: Any, bit: int) -> Any:
    """The value with one bit of what SQLite stores of it changed."""
    if value is None:
        return b"\x00"
    if isinstance(value, int):
        return value ^ (1 << bit % 40)
    raw = bytearray(value if isinstance(value, bytes) else value.encode())
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    return bytes(raw)


@K2
@FIRST_8
@settings(max_examples=400, deadline=None)
@given(position=st.integers(1, EVENTS), column=st.sampled_from(COLUMNS), bit=st.integers(0, 20_000))
def test_I_19_a_bit_flipped_in_any_column_is_found_and_named(
    written: Path, tmp_path_factory: pytest.TempPathFactory, position: int, column: str, bit: int
) -> None:
    folder = work(written, tmp_path_factory, "columns")
    with closing(sqlite3.connect(folder / "routing" / "log.db", isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.execute("BEGIN")
        (before,) = db.execute(f"SELECT {column} FROM stored_events WHERE position = ?", (position,)).fetchone()
        after = flipped(before, bit)
        value = "CAST(? AS TEXT)" if isinstance(before, str) else "?"
        kept = db.execute(
            f"UPDATE OR IGNORE stored_events SET {column} = {value} WHERE position = ?", (after, position)
        ).rowcount
        if not kept:
            db.execute("ROLLBACK")
            return  # another row has that value: the database itself refuses it
        db.execute("COMMIT")
        moved = after if column == "position" else position
        try:
            first = found(folder).first
            assert first is not None, (column, before, after)
            # Named is the place where it stands or, moved away, where it is missed (1, where it went before the first).
            assert (first.service, first.position) in {("routing", position), ("routing", max(1, min(moved, position)))}
        finally:
            db.execute(f"UPDATE stored_events SET {column} = ? WHERE position = ?", (before, moved))


_work: dict[tuple[Path, str], Path] = {}


def work(written: Path, factory: pytest.TempPathFactory, test: str) -> Path:
    """One copy for all examples of a test; each puts back what it has changed."""
    if (written, test) not in _work:
        folder = factory.mktemp("flip")
        for one in SERVICES:
            (folder / one.name).mkdir()
            shutil.copy(written / one.name / "log.db", folder / one.name / "log.db")
        _work[written, test] = folder
    return _work[written, test]


def cells(whole: bytes) -> list[int]:
    """The offsets in the file at which the rows of events lie, their headers included (SQLite's leaf pages)."""
    offsets: list[int] = []
    for begin in range(0, len(whole), 4096):
        page = whole[begin : begin + 4096]
        if page[0] == 13 and b"EntryMade.v1" in page and b'"prev_hash"' in page:
            count = int.from_bytes(page[3:5], "big")
            first = min(int.from_bytes(page[8 + 2 * n : 10 + 2 * n], "big") for n in range(count))
            offsets.extend(range(begin + first, begin + 4096))
    return offsets


@K2
@FIRST_8
@settings(max_examples=300, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_I_19_a_bit_flipped_in_the_file_where_events_lie_is_found(
    written: Path, tmp_path_factory: pytest.TempPathFactory, where: float, bit: int
) -> None:
    """As by a hex editor: any bit of any stored row, SQLite's own header of the row included."""
    path = work(written, tmp_path_factory, "file") / "routing" / "log.db"
    whole = path.read_bytes()
    offsets = cells(whole)
    offset = offsets[int(where * len(offsets))]
    changed = bytearray(whole)
    changed[offset] ^= 1 << bit
    path.write_bytes(changed)
    try:
        first = found(path.parents[1]).first
        assert first is not None, offset
        assert first.service == "routing"
    finally:
        path.write_bytes(whole)


@K2
@FIRST_8
@pytest.mark.parametrize("position", [1, EVENTS // 2, EVENTS - 1])
def test_I_19_a_deleted_event_is_found(written: Path, tmp_path: Path, position: int) -> None:
    with edited(written, tmp_path) as db:
        db.execute("DELETE FROM stored_events WHERE position = ?", (position,))
    first = found(tmp_path).first
    assert first is not None
    assert (first.service, first.position) == ("routing", position)


def test_I_19_a_deleted_and_renumbered_event_is_found(written: Path, tmp_path: Path) -> None:
    with edited(written, tmp_path) as db:
        db.execute("DELETE FROM stored_events WHERE position = 20")
        db.execute("UPDATE stored_events SET position = position - 1 WHERE position > 20")
    assert found(tmp_path).first is not None


@K2
@FIRST_8
def test_I_19_a_tail_cut_off_is_found(written: Path, tmp_path: Path) -> None:
    with edited(written, tmp_path) as db:
        db.execute("DELETE FROM stored_events WHERE position > ?", (EVENTS - 3,))
    first = found(tmp_path).first
    assert first is not None
    assert first.position == EVENTS - 2
    assert "should end at" in first.what


def test_I_19_a_tail_cut_off_together_with_the_heads_is_found_by_the_stored_answers(
    written: Path, tmp_path: Path
) -> None:
    with edited(written, tmp_path) as db:
        db.execute("DELETE FROM stored_events WHERE position = ?", (EVENTS,))
        heads = db.execute("SELECT slot, MAX(position) FROM stored_events GROUP BY slot").fetchall()
        db.execute("DELETE FROM slot_head")
        db.executemany("INSERT INTO slot_head VALUES (?, ?)", heads)
    first = found(tmp_path).first
    assert first is not None
    assert first.position == EVENTS
    assert "answered to a command but is not stored" in first.what


@K2
@FIRST_8
@pytest.mark.parametrize("one", [3, 17, 33])
@pytest.mark.parametrize("distance", [1, 7])
def test_I_19_two_swapped_events_are_found(written: Path, tmp_path: Path, one: int, distance: int) -> None:
    with edited(written, tmp_path) as db:
        db.execute("UPDATE stored_events SET position = -1 WHERE position = ?", (one,))
        db.execute("UPDATE stored_events SET position = ? WHERE position = ?", (one, one + distance))
        db.execute("UPDATE stored_events SET position = ? WHERE position = -1", (one + distance,))
    first = found(tmp_path).first
    assert first is not None
    assert first.position is not None
    assert first.position >= one


def put_in(db: sqlite3.Connection, with_head: bool) -> None:
    """An event with sound bytes and a sound chain behind the last one of its stream, as only an insider could."""
    last = db.execute("SELECT * FROM stored_events ORDER BY position DESC LIMIT 1").fetchone()
    event = json.loads(last[4])
    previous = event.pop("hash")
    event.update(event_id="00000000-0000-7000-8000-000000000000", version=event["version"] + 1, prev_hash=previous)
    raw, _ = seal(event)
    slot = slot_of(last[5])
    row = (last[0] + 1, last[1], last[2] + 1, last[3], raw, last[5], slot, last[0], last[8], last[9], None)
    db.execute("INSERT INTO stored_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    if with_head:
        db.execute("UPDATE slot_head SET position = ? WHERE slot = ?", (last[0] + 1, slot))


@K2
@FIRST_8
@pytest.mark.parametrize("with_head", [False, True])
def test_I_19_an_inserted_event_is_found(written: Path, tmp_path: Path, with_head: bool) -> None:
    with edited(written, tmp_path) as db:
        put_in(db, with_head)
    first = found(tmp_path).first
    assert first is not None
    assert first.position == EVENTS + 1


def test_I_19_a_recomputed_chain_is_found_by_the_copies_that_others_have(written: Path, tmp_path: Path) -> None:
    with edited(written, tmp_path) as db:
        position, stream, raw = db.execute(
            "SELECT position, originator_id, state FROM stored_events ORDER BY position DESC LIMIT 1"
        ).fetchone()
        event = json.loads(raw)
        del event["hash"]
        event["data"]["text"] = "nothing happened"
        db.execute("UPDATE stored_events SET state = ? WHERE position = ?", (seal(event)[0], position))
    first = found(tmp_path).first
    assert stream == event["aggregate"] + "/" + event["aggregate_id"]
    assert first is not None
    assert (first.service, first.where, first.position) == ("mirror", "inbox", position)


@pytest.mark.parametrize("services", [NAMES, NAMES[1:]])
def test_I_19_a_changed_copy_in_an_inbox_is_found(written: Path, tmp_path: Path, services: Any) -> None:
    with edited(written, tmp_path, "mirror") as db:
        (raw,) = db.execute("SELECT raw FROM inbox WHERE position = 9").fetchone()
        db.execute("UPDATE inbox SET raw = ? WHERE position = 9", (flipped(raw, 800),))
    first = found(tmp_path, services).first
    assert first is not None
    assert (first.service, first.where, first.position) == ("mirror", "inbox", 9)


def test_the_first_bad_event_of_each_service_is_named(written: Path, tmp_path: Path) -> None:
    for service in ("mirror", "routing"):
        with edited(written, tmp_path, service) as db:
            db.execute("UPDATE stored_events SET topic = 'EntryMade.v2' WHERE position IN (5, 6)")
    findings = found(tmp_path)
    assert [(bad.service, bad.where, bad.position) for bad in findings.bad] == [
        ("routing", "log", 5),
        ("mirror", "log", 5),
    ]
    assert str(findings.first).startswith("routing log, position 5, Ledger/ledger-4 version 1: the topic")


def test_what_is_wrong_in_a_log_is_not_said_again_of_its_copies(written: Path, tmp_path: Path) -> None:
    with edited(written, tmp_path) as db:
        db.execute("UPDATE stored_events SET state = X'7B7D' WHERE position IN (5, 6)")
    assert [(bad.service, bad.position) for bad in found(tmp_path).bad] == [("routing", 5)]


def test_a_missing_or_broken_file_is_named(written: Path, tmp_path: Path) -> None:
    with edited(written, tmp_path):
        pass
    (tmp_path / "routing" / "log.db").write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    (tmp_path / "mirror" / "log.db").unlink()
    findings = found(tmp_path)
    assert [bad.where for bad in findings.bad] == ["file", "file"]
    assert not findings.clean
    assert "NOT as written" in findings.sentence()
    assert findings.document()["bad"][1]["service"] == "mirror"


def test_verify_changes_nothing(written: Path, tmp_path: Path) -> None:
    with edited(written, tmp_path):
        pass
    before = (tmp_path / "routing" / "log.db").read_bytes()
    found(tmp_path)
    assert (tmp_path / "routing" / "log.db").read_bytes() == before


def test_verify_beside_a_running_writer_gives_no_alarm(tmp_path: Path) -> None:
    """Each file is one snapshot, and copies are compared with what their source holds by now."""
    system = Stepped(tmp_path, SERVICES)
    try:
        for number in range(30):
            system.make((f"ledger-{number % 3}", f"text {number}"))
            system.carry()
            system.react()
            assert found(tmp_path).bad == ()
    finally:
        system.close()
