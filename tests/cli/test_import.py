"""``maru import``: good rows go in, each refused one has its line, and whatever happens no row becomes two cases."""

from __future__ import annotations

import csv
import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.__main__ import SERVICES
from services.audit import audit
from services.client import Maru
from services.importing import COLUMNS, OPTIONAL, BadFile, Imported, import_file
from shared.runtime import settings
from shared.runtime.batch import Batch
from shared.runtime.settings import ROOT
from shared.runtime.system import System, opened
from tests.cli.program import Running
from tests.golden.play import SECRETARY

SHIPPED = ROOT / "data" / "suggestions-2023.csv"
GOOD = {
    "title": "국도 확장 건의",
    "text": "정체가 심하니 국도를 넓혀 주시기를 건의합니다.",
    "raised_by": "org-gangwon-hongcheon",
    "regions": "42",
    "channel": "letter",
    "raised_at": "2022-09-01T10:00:00+09:00",
}
REGIONS = {"seoul": "11", "busan": "26", "daegu": "27", "gangwon": "42", "jeju": "50"}


@pytest.fixture
def running(seeded_folder: Path, tmp_path: Path) -> Iterator[System]:
    """A system without a case."""
    shutil.copytree(seeded_folder, tmp_path / "data")
    with opened(SERVICES, settings.load(data=tmp_path / "data", port=0)) as system:
        system.serve()
        yield system


@pytest.fixture
def client(running: System) -> Iterator[Maru]:
    """A client of it."""
    with Maru(running.url) as maru:
        yield maru


def write(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """A file of suggestions; what a row does not say is as in ``GOOD``."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *OPTIONAL], restval="")
        writer.writeheader()
        writer.writerows([GOOD | row for row in rows])
    return path


def many(number: int) -> list[dict[str, str]]:
    """Rows from several regions."""
    regions = list(REGIONS.items())
    return [
        {
            "external_id": f"N{n:05d}",
            "title": f"건의 {n}",
            "raised_by": f"org-{regions[n % len(regions)][0]}",
            "regions": regions[n % len(regions)][1],
        }
        for n in range(number)
    ]


def positions(system: System) -> list[int]:
    """Last position of every log."""
    return [max(hosted.log.heads().values(), default=0) for hosted in system.hosted]


def external_ids(system: System) -> Counter[str]:
    """How many issues were stored under each external id."""
    rows = system.service("issues").log.query(
        "SELECT json_extract(state, '$.data.external_id') FROM stored_events WHERE topic = 'IssueRaised.v1'"
    )
    return Counter(row[0] for row in rows)


def open_cases(system: System, client: Maru) -> list[dict[str, object]]:
    """Every case at intake or with the triage desk, as the work queue has it."""
    assert system.idle()
    return list(client.office(SECRETARY).all("/v1/work-queue"))


def every_case_has_office_and_date(system: System, client: Maru, number: int) -> None:
    """I-22 for as many cases as there were rows."""
    rows = open_cases(system, client)
    assert len({row["case_id"] for row in rows}) == len(rows) == number
    assert all(row["office"] and row["due"] for row in rows)


# The shipped file


@pytest.mark.capability("L3", part="no export")
def test_I_22_all_shipped_suggestions_go_in(running: System, client: Maru) -> None:
    found = import_file(client, SHIPPED)
    assert found.refused == []
    assert found.refused_file is None
    assert found.accepted == found.total >= 40
    every_case_has_office_and_date(running, client, found.total)
    raised_in = {
        row["regions"][0]["region"] for row in client.office(SECRETARY).all("/v1/issues") if not row["nationwide"]
    }
    assert len(raised_in) == 17
    before = positions(running)
    again = import_file(client, SHIPPED)
    assert (again.accepted, again.refused) == (found.total, [])
    assert running.idle()
    assert positions(running) == before, "a repeat stores nothing"


def test_the_row_says_whose_it_is_and_the_secretary_wrote_it_down(
    running: System, client: Maru, tmp_path: Path
) -> None:
    row = {"external_id": "A", "regions": "부산광역시;울산광역시", "tags": "road; rail", "cost_band": "above_b"}
    import_file(client, write(tmp_path / "one.csv", [row]))
    assert running.idle()
    (listed,) = client.office(SECRETARY).all("/v1/issues")
    issue = client.office(SECRETARY).get(f"/v1/issues/{listed['id']}")
    assert (issue["raised_by"], issue["recorded_by"]) == ("org-gangwon-hongcheon", SECRETARY)
    assert [region["region"] for region in issue["regions"]] == ["busan", "ulsan"], "the first leads"
    assert (issue["tags"], issue["cost_band"], issue["external_id"]) == (["road", "rail"], "above_b", "A")
    assert issue["effective_at"].startswith("2022-09-01T10:00")


# Bad rows


BAD: dict[str, tuple[dict[str, str], str]] = {
    "region of another day": ({"regions": "51"}, "existed on the day"),
    "unknown region": ({"regions": "42;77"}, "number in the list: 2"),
    "no region": ({"regions": " ; "}, "at least one region"),
    "empty title": ({"title": " "}, "title"),
    "empty text": ({"text": ""}, "text"),
    "bad date": ({"raised_at": "yesterday"}, "raised_at"),
    "no time zone": ({"raised_at": "2022-09-01T10:00:00"}, "time zone"),
    "future date": ({"raised_at": "2023-05-01T10:00:00+09:00"}, "future"),
    "unknown organisation": ({"raised_by": "org-atlantis"}, "organisation"),
    "organisation of another day": ({"raised_by": "org-jeonnam-gwangju-nam"}, "organisation"),
    "bad channel": ({"channel": "pigeon"}, "channel"),
    "bad cost band": ({"cost_band": "huge"}, "cost_band"),
    "no external id": ({"external_id": ""}, "external_id"),
    "duplicate": ({"external_id": "G1"}, "line 2"),
}
"""What is wrong with a row, and a word of the line that tells so."""


def bad_file(path: Path) -> Path:
    """A good row, each kind of bad one, one with too many cells, one with too few, and another good row."""
    rows = [{"external_id": "G1"}]
    rows += [{"external_id": f"B{number}"} | row for number, (row, _) in enumerate(BAD.values())]
    write(path, [*rows, {"external_id": "G2"}])
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines.insert(-1, "TOO-MANY" + lines[1][2:].rstrip() + ",one,more\n")
    lines.insert(-1, "TOO-FEW,제목\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_each_bad_row_gets_one_clear_line_while_the_good_ones_go_in(
    running: System, client: Maru, tmp_path: Path
) -> None:
    found = import_file(client, bad_file(tmp_path / "bad.csv"))
    assert (found.accepted, found.total) == (2, len(BAD) + 4)
    assert external_ids(running) == {"G1": 1, "G2": 1}
    told = {row.line: row for row in found.refused}
    assert list(told) == sorted(told), "in the order of the file"
    for number, (kind, (_, word)) in enumerate(BAD.items()):
        row = told[3 + number]
        assert word in row.because, f"{kind}: {row.because}"
        assert "\n" not in row.because
        assert "Traceback" not in row.because
    cells = [row for row in found.refused if "more or fewer cells" in row.because]
    assert [row.external_id for row in cells] == ["TOO-MANY", "TOO-FEW"]
    assert {row.rule for row in found.refused if row.rule} == {"I-1", "T-1"}
    every_case_has_office_and_date(running, client, 2)


def test_a_dry_run_stores_nothing_and_tells_the_same(running: System, client: Maru, tmp_path: Path) -> None:
    path = bad_file(tmp_path / "bad.csv")
    before = positions(running)
    rehearsed = import_file(client, path, dry_run=True)
    assert positions(running) == before
    assert rehearsed.refused_file is None
    done = import_file(client, path)
    assert (rehearsed.accepted, rehearsed.refused) == (done.accepted, done.refused)


def test_the_refused_rows_corrected_and_given_again_complete_it(running: System, client: Maru, tmp_path: Path) -> None:
    rows = [{"external_id": f"R{n}", "regions": "51" if n % 3 == 0 else "42"} for n in range(9)]
    found = import_file(client, write(tmp_path / "rows.csv", rows))
    assert (found.accepted, len(found.refused)) == (6, 3)
    assert found.refused_file == tmp_path / "rows.refused.csv"
    text = found.refused_file.read_text(encoding="utf-8")
    assert text.count("\n") == 4
    found.refused_file.write_text(text.replace(",51,", ",42,"), encoding="utf-8")
    again = import_file(client, found.refused_file)
    assert (again.accepted, again.refused) == (3, [])
    assert external_ids(running) == {f"R{n}": 1 for n in range(9)}
    every_case_has_office_and_date(running, client, 9)


def test_a_row_that_went_in_and_was_changed_afterwards_is_told(running: System, client: Maru, tmp_path: Path) -> None:
    import_file(client, write(tmp_path / "a.csv", [{"external_id": "A"}]))
    found = import_file(client, write(tmp_path / "a.csv", [{"external_id": "A", "title": "다른 제목"}]))
    assert [(row.external_id, row.rule) for row in found.refused] == [("A", "I-18")]
    assert external_ids(running) == {"A": 1}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "missing column"),
        (b"external_id,title\n", "missing column text"),
        (",".join([*COLUMNS, "colour"]).encode(), "unknown column colour"),
        (",".join(COLUMNS).encode() + b"\n\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_at_all(client: Maru, tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(BadFile, match=word):
        import_file(client, tmp_path / "bad.csv")
    with pytest.raises(BadFile, match=r"nowhere\.csv"):
        import_file(client, tmp_path / "nowhere.csv")


# No second copy


def test_the_same_rows_under_another_files_name(running: System, client: Maru, tmp_path: Path) -> None:
    rows = many(20)
    import_file(client, write(tmp_path / "january.csv", rows))
    found = import_file(client, write(tmp_path / "january (2).csv", rows))
    assert (found.accepted, found.refused) == (20, [])
    assert set(external_ids(running).values()) == {1}
    other = import_file(client, tmp_path / "january.csv", source="another-register")
    assert other.accepted == 20
    assert set(external_ids(running).values()) == {2}, "another source has ids of its own"


def test_the_other_holder_of_the_office_gives_it_again(running: System, client: Maru, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", many(20))
    import_file(client, path)
    _, first = client.token(SECRETARY)
    assert first == "u-0021"
    with Maru(running.url) as other:
        other._tokens[SECRETARY] = (running.issuer.token("u-0022"), "u-0022")
        found = import_file(other, path)
    assert (found.accepted, found.refused) == (20, [])
    assert set(external_ids(running).values()) == {1}
    with Maru(running.url) as nobody:
        nobody._tokens[SECRETARY] = (running.issuer.token("u-0036"), "u-0036")
        refused: Imported = import_file(nobody, path)
    assert refused.accepted == 0
    assert {row.rule for row in refused.refused} == {"I-9"}, "nobody else learns what they were answered"


# Many rows, and the program killed


@pytest.mark.capability("L3", part="no export")
def test_I_22_two_thousand_rows_killed_at_three_points_and_repeated(
    running: System, client: Maru, tmp_path: Path
) -> None:
    rows = 2_000
    path = write(tmp_path / "rows.csv", many(rows))
    dice = random.Random(20230104)
    for point in sorted(dice.sample(range(100, rows - 200), 3)):
        stored = when_stored(running, point)
        importing = Running("import", path, "--url", running.url)
        try:
            assert stored.wait(60), importing.errors
            assert importing.stop(signal.SIGKILL, 10) == -signal.SIGKILL
        finally:
            importing.end()
        assert point <= external_ids(running).total() < rows, "killed in the middle of it"
    heard: list[tuple[int, int]] = []
    found = import_file(client, path, told=lambda done, total: heard.append((done, total)))
    assert (found.accepted, found.refused) == (rows, [])
    assert heard == [(done, rows) for done in range(1, rows + 1)], "what the progress bar shows"
    assert external_ids(running) == {f"N{n:05d}": 1 for n in range(rows)}
    every_case_has_office_and_date(running, client, rows)
    checked = audit(running.folder, None, None)
    assert checked.exit_code == 0, checked.sentence()


def when_stored(system: System, number: int) -> threading.Event:
    """Set as soon as so many issues are stored."""
    reached = threading.Event()
    log = system.service("issues").log
    # Both at once: a batch that was read here may still be told, and must not count twice.
    ((count, last),) = log.query(
        "SELECT COUNT(*) FILTER (WHERE topic = 'IssueRaised.v1'), COALESCE(MAX(position), 0) FROM stored_events"
    )

    def committed(batch: Batch) -> None:
        nonlocal count
        count += sum(row[0] > last and row[3] == "IssueRaised.v1" for row in batch.events)
        if count >= number:
            reached.set()

    log.on_commit.append(committed)
    return reached
