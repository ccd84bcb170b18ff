"""R2: killed at named points, each at least five times; what is stored and published is whole after it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from services.__main__ import SERVICES
from services.supervisor import PAUSES
from shared.runtime.databases import Databases
from tests.email.office import SENDER
from tests.email.servers import Post, mail_server
from tests.faults.launch import AT_START, FOLLOWER, GATEWAY, MAIL, MIGRATE, REBUILD, RELAY, REPUBLISH
from tests.faults.load import suggest_and_see
from tests.faults.system import BOUND, Disturbed, disturbed, until
from tests.full_form import Seeded

pytestmark = pytest.mark.faults
Tell = Callable[[str], None]
TIMES = 5
POINTS = {
    "issues-gateway": GATEWAY,
    "issues-relay": RELAY,
    "routing-follower": FOLLOWER,
    "notifications-follower": MAIL,
}


@pytest.fixture
def post() -> Iterator[tuple[Post, int]]:
    """A mail server, and its port."""
    behaviour = Post()
    with mail_server(behaviour) as port:
        yield behaviour, port


@pytest.fixture
def mailing(seeded: Seeded, tmp_path: Path, post: tuple[Post, int]) -> Iterator[Disturbed]:
    """A full system of this test alone, which also sends e-mail."""
    env = {"MARU_SMTP_URL": f"smtp://127.0.0.1:{post[1]}", "MARU_SMTP_FROM": SENDER}
    with disturbed(seeded, tmp_path, env=env) as system:
        yield system


def test_R2_processes_killed_at_named_points(mailing: Disturbed, post: tuple[Post, int], tell: Tell) -> None:
    fuses, chance, hits = mailing.on_fuses(*POINTS), random.Random(2), Counter[str]()
    # Suggestions no faster than they become cases: the follower that carries them is down for much of the time, and
    # walks would wait behind all of them.
    with mailing.load("R2", 3) as walks, mailing.load("R2", 2, suggest_and_see) as suggestions:
        for _ in range(TIMES):
            for together in zip_longest(*POINTS.values()):
                armed = {name: point for name, point in zip(POINTS, together, strict=True) if point is not None}
                for name, point in armed.items():
                    # Killed again and again: that is our doing, no reason to hold it back.
                    mailing.full.process(name).pause = PAUSES[0]
                    fuses.arm(name, point, 1 if point in AT_START else chance.randint(1, 3))
                    if point in AT_START:
                        mailing.full.process(name).kill()
                for name, point in armed.items():
                    until(lambda name=name: fuses.burnt(name), f"{name} never came to {point}")  # type: ignore[misc]
                    hits[point] += 1
                mailing.full.wait_ready(armed, seconds=BOUND)
        tallies = [walks.stop(), suggestions.stop()]

    found = mailing.assert_clean()
    mails = Counter(mail.notice for mail in post[0].mails)
    tell(
        f"R2: {sum(hits.values())} kills at {len(hits)} points, each at least {min(hits.values())} times; "
        f"{'; '.join(tally.text() for tally in tallies)}; {len(mails)} e-mails, {sum(mails.values()) - len(mails)} of "
        f"them sent twice under their one Message-ID; {found.events} events"
    )
    assert set(hits) == {point for points in POINTS.values() for point in points}
    assert min(hits.values()) >= TIMES


def test_R2_commands_killed_at_named_points(own: Disturbed, tell: Tell) -> None:
    fuses, hits, folder = own.on_fuses(), Counter[str](), str(own.full.folder)
    with own.load("R2", 2) as load:
        for number in range(TIMES):
            for point in REBUILD:
                hits[point] += fuses.command(
                    "command", point, 1, "rebuild", "issues/register", "--data", folder, env={}
                )
            for point in REPUBLISH:
                name = SERVICES[number % len(SERVICES)].name
                hits[point] += fuses.command("command", point, 1, "republish", name, "--data", folder, env={})
        rebuilt = own.maru("rebuild", "issues/register")
        tally = load.stop()
    found = own.assert_clean()
    assert '"view": "issues/register"' in rebuilt

    server = own.full.postgres
    for number in range(TIMES):
        for at, point in enumerate(MIGRATE):
            hits[point] += fuses.command("command", point, 1 + (number + at) % 3, "migrate", env=_fresh(own, number))
        env = _fresh(own, number)
        assert not fuses.command("command", "none", 1, "migrate", env=env)
        databases = Databases(own.folder, env["MARU_DATABASE"], server.url())
        for service in SERVICES:
            databases.log(service.name).close()

    tell(
        f"R2: {sum(hits.values())} commands killed at {len(hits)} points, each at least {min(hits.values())} times; "
        f"{tally.text()}; {found.events} events"
    )
    assert set(hits) == {*REBUILD, *REPUBLISH, *MIGRATE}
    assert min(hits.values()) >= TIMES


def _fresh(system: Disturbed, number: int) -> dict[str, str]:
    """The settings of databases that are not there yet."""
    where = urlsplit(system.full.postgres.url()).netloc.rpartition("@")[2]
    return {
        "MARU_DATA": str(system.folder / "fresh"),
        "MARU_DATABASE": f"postgresql://fresh{number}_{{service}}:secret@{where}/fresh{number}_{{service}}",
        "MARU_DATABASE_ADMIN": system.full.postgres.url(),
    }
