"""Killed by SIGKILL at each named point, three times each, under load; restarted, the audit finds nothing.

One folder lives through all of it: what one kill left behind is what the next one meets. The journal holds what every
client was told, so that the audit sees each acknowledged command stored once, whichever process was told of it.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
import pytest

from services.__main__ import SERVICES
from services.audit import audit
from services.client import Maru, Problem
from services.importing import import_file
from services.walk import Walk
from shared.runtime import settings
from shared.runtime.verify import verify
from tests.kill.launch import AFTER_APPEND, BEFORE_APPEND, BETWEEN, FOLD, IMPORT, SWAP, Order, run

BOUND = 60.0
"""No wait of these tests is longer, seconds."""

_context = multiprocessing.get_context("forkserver")
# The product is imported once; each process of the system is forked from there.
_context.set_forkserver_preload(["tests.kill.launch"])


class Life:
    """One data folder, and the process that runs the system on it now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder.with_name("journal.jsonl")
        self.url = ""
        self._process: BaseProcess | None = None
        self._orders: Connection | None = None

    def start(self) -> None:
        """A new process on the folder; returns when it is ready."""
        self._orders, theirs = _context.Pipe()
        self._process = _context.Process(target=run, args=(self.folder, self.journal, theirs), daemon=True)
        self._process.start()
        theirs.close()
        assert self._orders.poll(BOUND), "the system did not start"
        self.url = self._orders.recv()
        assert httpx.get(f"{self.url}/readyz", timeout=BOUND).status_code == 200

    def order(self, order: Order) -> None:
        """Tell the process what to do."""
        assert self._orders is not None
        self._orders.send(order)

    def await_death(self) -> None:
        """Wait for the end of the process: it was killed, it did not end by itself."""
        assert self._process is not None
        assert self._orders is not None
        self._process.join(BOUND)
        assert self._process.exitcode == -signal.SIGKILL
        self._orders.close()

    def stop(self) -> None:
        """End the process in order."""
        if self._process is not None and self._process.is_alive() and self._orders is not None:
            self._orders.close()
            self._process.join(BOUND)
        assert self._process is None or not self._process.is_alive()

    def assert_clean(self, *, running: bool = False) -> None:
        """Every promise holds, and every acknowledged command is there once."""
        found = audit(self.folder, self.journal if self.journal.exists() else None, self.url if running else None)
        assert found.outcome == "clean", found.sentence()

    def acknowledged(self) -> int:
        """How many commands the clients were told are accepted."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return sum(json.loads(line).get("outcome") == "accepted" for line in lines)


@pytest.fixture(scope="module")
def life(seeded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("killed") / "data"
    shutil.copytree(seeded_folder, folder)
    lived = Life(folder)
    lived.start()
    yield lived
    lived.stop()


def _raise(maru: Maru, name: str) -> None:
    """One suggestion after another, accepted at once, until nobody answers any more."""
    body = {"title": f"국도 {name}", "text": "확장", "regions": [name], "raised_by": f"org-{name}", "channel": "letter"}
    for _ in range(500):
        raised = maru.office(f"org-{name}.officer").post("/v1/issues", body)
        maru.office("planning-group.secretary").get(f"/v1/cases/{raised.id}")
        maru.office(f"council-{name}.secretary").post(f"/v1/issues/{raised.id}/acceptance", version=raised.version)


def _walk(maru: Maru, name: str) -> None:
    """One walk after another, until nobody answers any more."""
    for _ in range(20):
        Walk(maru, dated=False).run()


def load(life: Life, work: Callable[[Maru, str], None], regions: tuple[str, ...]) -> list[threading.Thread]:
    """Clients at work until the system dies under them."""

    def client(region: str) -> None:
        with Maru(life.url, life.journal) as maru, suppress(httpx.TransportError, Problem):
            work(maru, region)

    threads = [threading.Thread(target=client, args=(region,)) for region in regions]
    for thread in threads:
        thread.start()
    return threads


KILLS = [
    *(
        (point, "arm", n, work)
        for point in (BEFORE_APPEND, AFTER_APPEND)
        for n, work in ((1, _raise), (9, _raise), (45, _walk))
    ),
    *((BETWEEN, "arm", n, work) for n, work in ((1, _raise), (12, _raise), (90, _walk))),
    *((FOLD, "arm", n, work) for n, work in ((1, _raise), (20, _raise), (200, _walk))),
    # Checksum of the old generation, checksum of the new one, and the old one's end after the pointer was flipped.
    *((SWAP, "rebuild", n, _raise) for n in (1, 2, 3)),
    *((IMPORT, "import", n, _raise) for n in (1, 15, 30)),
]


@pytest.mark.parametrize(("point", "order", "n", "work"), KILLS, ids=[f"{k[0]}-{k[2]}" for k in KILLS])
def test_killed(life: Life, point: str, order: str, n: int, work: Callable[[Maru, str], None]) -> None:
    life.order((order, point, n))
    threads = load(life, work, ("gangwon", "busan", "jeju"))
    life.await_death()
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()
    # Nobody has opened the folder since: the audit reads what the dead process left, and changes nothing.
    assert audit(life.folder, None, None, wait=0).outcome in ("clean", "not idle")

    life.start()

    life.assert_clean()


def test_I_18_an_unknown_outcome_is_told_when_asked_again(life: Life) -> None:
    """Stored, but killed before the reply: the repeat gets the answer of the first, and stores nothing."""
    body = {"title": "한 번만", "text": "확장", "regions": ["jeju"], "channel": "letter"}
    life.order(("arm", AFTER_APPEND, 1))
    with Maru(life.url, life.journal) as maru, pytest.raises(httpx.TransportError):
        maru.office("org-jeju.officer").post("/v1/issues", body, key="asked-again")
    life.await_death()

    life.start()
    with Maru(life.url, life.journal) as maru:
        answers = [maru.office("org-jeju.officer").post("/v1/issues", body, key="asked-again") for _ in range(3)]

    assert answers == [answers[0]] * 3
    life.assert_clean()
    with closing(sqlite3.connect(life.folder / "issues" / "log.db")) as db:
        rows = db.execute("SELECT topic FROM stored_events WHERE case_id = ?", (answers[0].id,)).fetchall()
    assert rows == [("IssueRaised.v1",), ("ReceiptIssued.v1",)]


def test_after_all_kills_everything_goes_on(life: Life) -> None:
    """The import is given again, twice; a walk goes through; nothing is there twice, no hash is broken."""
    suggestions = settings.load().reference / "suggestions-2023.csv"
    with Maru(life.url, life.journal) as maru:
        for _ in range(2):
            imported = import_file(maru, suggestions)
            assert (imported.accepted, imported.refused) == (imported.total, [])
        walk = Walk(maru, dated=False)
        walk.run()
    assert walk.outcome.told
    life.assert_clean(running=True)
    with closing(sqlite3.connect(life.folder / "issues" / "log.db")) as db:
        raised = [
            json.loads(row[0])["data"]
            for row in db.execute("SELECT state FROM stored_events WHERE topic LIKE 'IssueRaised.%'")
        ]
    given = [data["external_id"] for data in raised if data["external_id"] is not None]
    assert len(given) == len(set(given)) == imported.total >= 40
    assert life.acknowledged() > imported.total

    life.stop()

    assert verify(life.folder, [service.name for service in SERVICES]).first is None
    life.assert_clean()
