"""Small loads on the embedded system, journalled by their client, for faults seeded into the system's classes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.__main__ import SERVICES
from services.audit import audit
from services.audit_findings import Findings
from services.client import Done, Maru
from services.walk import COUNCIL, RAISER, Walk
from shared.runtime import rebuild, settings
from shared.runtime.log import EventLog
from shared.runtime.relay import new_epoch
from shared.runtime.system import System, opened

WAIT = 3
"""How long anybody waits for what a fault may have stopped, seconds."""


@dataclass
class Life:
    """A data folder with the journal of its clients; ``running`` starts the system on it."""

    folder: Path

    @property
    def journal(self) -> Path:
        """What the clients were told."""
        return self.folder.with_name("journal.jsonl")

    @contextmanager
    def running(self) -> Iterator[tuple[System, Maru]]:
        """The system on this folder, and a client of it. Stops as it is: a fault may keep it from being idle."""
        with opened(SERVICES, settings.load(data=self.folder, port=0)) as system:
            try:
                with Maru(system.serve(), self.journal, wait=WAIT) as maru:
                    yield system, maru
            finally:
                system.idle(WAIT)

    def audit(self) -> Findings:
        """What the audit says of it, stopped."""
        return audit(self.folder, self.journal, None, wait=0)


Load = Callable[[Life], None]


def raised(maru: Maru) -> Walk:
    """A suggestion, raised and accepted; the walk goes on from there."""
    walk = Walk(maru, dated=False)
    walk.raise_and_accept()
    return walk


def small(life: Life) -> None:
    """Two suggestions, raised and accepted."""
    with life.running() as (_, maru):
        raised(maru)
        raised(maru)


def reviewed(life: Life) -> None:
    """One suggestion up to the conclusion of its joint review, which escalates it."""
    with life.running() as (_, maru):
        walk = raised(maru)
        walk.council()
        walk.review()


def rebuilt(life: Life) -> None:
    """Two suggestions, and the register of issues rebuilt behind them."""
    with life.running() as (system, maru):
        raised(maru)
        raised(maru)
        system.idle()
        issues = system.service("issues")
        register = next(view for view in issues.views if view.name == "register")
        rebuild.rebuild(issues.log, issues.store, register)


def two_writers(life: Life) -> None:
    """Two suggestions, each command of the issues stored by another writer than the one before, as by two gateways."""
    with life.running() as (system, maru):
        log = system.service("issues").log
        other = EventLog(life.folder / "issues" / "log.db", "issues", log.own_reactions)
        other.on_commit = log.on_commit
        submits, times = (log.submit, other.submit), iter(range(1_000_000))
        log.submit = lambda job: submits[next(times) % 2](job)  # type: ignore[method-assign]
        try:
            raised(maru)
            raised(maru)
            system.idle(WAIT)
        finally:
            del log.submit
            other.close()


def restored(life: Life) -> None:
    """A suggestion, a copy of the issues' files; another; the copy put back; the first goes on in a new epoch."""
    kept = life.folder.with_name("kept")
    with life.running() as (_, maru):
        first = _raise(maru)
    shutil.copytree(life.folder / "issues", kept)
    with life.running() as (_, maru):
        raised(maru)
    shutil.rmtree(life.folder / "issues")
    shutil.move(kept, life.folder / "issues")
    log = EventLog(life.folder / "issues" / "log.db", "issues")
    try:
        new_epoch(log)
    finally:
        log.close()
    # What the clients were told of the time that was put back no longer holds: they begin anew too.
    life.journal.unlink()
    with life.running() as (_, maru):
        maru.office(f"{COUNCIL}.secretary").post(f"/v1/issues/{first.id}/acceptance", version=first.version)
        raised(maru)


def _raise(maru: Maru) -> Done:
    body = {"title": "국도 확장", "text": "확장을 건의합니다.", "regions": ["gangwon"], "channel": "letter"}
    issue = maru.office(f"{RAISER}.officer").post("/v1/issues", body)
    maru.office("planning-group.secretary").get(f"/v1/cases/{issue.id}")
    return issue


def read_again(life: Life) -> None:
    """An issue is read, accepted, and read again by the same office with the token of its acceptance."""
    with life.running() as (_, maru):
        issue = _raise(maru)
        path, secretary = f"/v1/issues/{issue.id}", maru.office(f"{COUNCIL}.secretary")
        secretary.get(path)
        secretary.post(f"{path}/acceptance", version=issue.version)
        secretary.get(path)
