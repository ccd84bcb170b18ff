"""Notifications alone, hosted without loops: notices are requested by hand, each step is taken by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.notifications.contacts import CONTACT
from services.notifications.dispatch import DISPATCH, RequestNotice
from services.notifications.service import SERVICE
from services.notifications.views.outbox import OUTBOX
from shared.contracts.envelope import Event, Label
from shared.runtime import settings
from shared.runtime.databases import Databases
from shared.runtime.declare import Act, by_process
from shared.runtime.effects import EffectsRunner, opened
from shared.runtime.hosted import Hosted
from shared.runtime.log import decode
from shared.runtime.rebuild import rebuild
from shared.runtime.views import upsert

SENDER = "no-reply@maru.example"
START = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
TITLE = Label(ko="종결 알림 (00000001)", en="Case closed (00000001)")
TEXT = Label(ko="현안이 종결되었습니다. 결과와 사유: /v1/cases/1", en="The case was closed. Outcome: /v1/cases/1")


@dataclass
class Office:
    """The service on its databases, one process of it; ``now`` is the real time that its runner is told."""

    place: Databases
    url: str
    seconds: float = 5.0
    now: datetime = START
    mine: Callable[[], bool] = lambda: True
    hosted: Hosted = field(init=False)
    runner: EffectsRunner = field(init=False)

    def open(self) -> None:
        """Start the process."""
        loaded = settings.load(smtp_url=self.url, smtp_from=SENDER, smtp_seconds=self.seconds)
        self.hosted = Hosted(SERVICE, self.place, attempts=opened(SERVICE, loaded))
        self.runner = EffectsRunner(self.hosted, self.hosted.attempts, clock=lambda: self.now, mine=lambda: self.mine())

    def close(self) -> None:
        """End it."""
        self.hosted.stop()

    def contact(self, office: str, email: str | None = None, locale: str = "ko") -> None:
        """Give an office an address."""
        store = self.place.mutable("notifications")
        row = {"office": office, "email": email or f"{office}@ministry.example", "locale": locale}
        with store.write() as db:
            upsert(db, CONTACT, {**row, "valid_from": "2022-08-01", "source": "M"})
        store.close()

    def forget(self, office: str) -> None:
        """Take its address away."""
        store = self.place.mutable("notifications")
        with store.write() as db:
            db.execute(CONTACT.delete().where(CONTACT.c.office == office))
        store.close()

    def request(self, office: str, notice_id: str | None = None) -> str:
        """Request an e-mail to an office, as the reaction does; gives the notice's id."""
        notice_id = notice_id or f"notice-{office}"
        command = RequestNotice(
            **by_process("forum", datetime.now(UTC), "N-1"),
            about=f"event-{notice_id}",
            about_type="CaseClosed",
            office=office,
            channel="email",
            audience="raiser",
            mandatory=True,
            wording="CaseClosed",
            title=TITLE,
            text=TEXT,
        )
        self.hosted.submit(Act(DISPATCH, notice_id, command, key=notice_id, case_id="case-1"), notice_id, notice_id)
        return notice_id

    def fold(self) -> None:
        """Bring the views up to the log."""
        while self.hosted.views_follower.step():
            pass

    def step(self) -> bool:
        """Make what is due, as the views say after all that is stored."""
        self.fold()
        return self.runner.step()

    def all(self) -> None:
        """Steps until nothing is due: one begins no attempt after some seconds."""
        while self.step():
            pass

    def after(self, later: timedelta) -> bool:
        """Let real time pass, then a step."""
        self.now += later
        return self.step()

    def rebuild(self) -> None:
        """Fold the outbox from zero and swap."""
        rebuild(self.hosted.log, self.hosted.store, OUTBOX)

    def events(self, notice_id: str) -> list[Event]:
        """The events of a notice."""
        rows = [decode(row) for row in self.hosted.log.after(0)]
        return [row.data for row in rows if row.aggregate_id == notice_id]

    def types(self, notice_id: str) -> list[str]:
        """The types of its events."""
        return [event.type for event in self.events(notice_id)]

    def raw(self) -> str:
        """Every stored byte."""
        return b"".join(row.raw for row in self.hosted.log.after(0)).decode()


@contextmanager
def office(place: Databases | Path, port: int, **more: object) -> Iterator[Office]:
    """The service with a mail server at this port, and contacts of two offices."""
    databases = Databases.at(place)
    databases.migrate(SERVICE)
    one = Office(databases, f"smtp://127.0.0.1:{port}", **more)  # type: ignore[arg-type]
    one.contact("county")
    one.contact("council", locale="en")
    one.open()
    try:
        yield one
    finally:
        one.close()
