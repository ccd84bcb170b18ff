"""R14: mail servers that hang, reset and refuse; the good ones are served as if nothing was, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from services.walk import RAISER
from shared.runtime.log import EventLog
from tests.email.office import SENDER
from tests.email.servers import Post, mail_server
from tests.faults.load import SUGGESTION, Client, Tally
from tests.faults.system import disturbed, until
from tests.full_form import Seeded

pytestmark = pytest.mark.faults
Tell = Callable[[str], None]
COUNTY = f"{RAISER}.officer"
"""Whose mail server is well, by the local part of the address."""
FATE = {"refuses for good": "NotificationGivenUp"}
"""What is recorded of the bad ones; of all others a failed attempt."""
OTHER = "org-jeju"
"""An organisation whose officer's mail fares badly."""


def suggest_both(client: Client, tally: Tally) -> None:
    """A suggestion of each: both are told of it, by e-mail too."""
    client.office(COUNTY).post("/v1/issues", SUGGESTION)
    client.office(f"{OTHER}.officer").post("/v1/issues", SUGGESTION | {"regions": ["jeju"], "raised_by": OTHER})


@pytest.mark.parametrize("how", ["hangs", "resets", "refuses for a while", "refuses for good", "is not there"])
def test_R14_a_mail_server_that(seeded: Seeded, tmp_path: Path, tell: Tell, how: str) -> None:
    post = Post()
    bad = f"{OTHER}.officer"
    match how:
        case "hangs":
            post.hang.add(bad)
        case "resets":
            post.reset.add(bad)
        case "refuses for a while":
            post.at_recipient[bad] = "451 4.3.0 try again"
        case "refuses for good":
            post.at_recipient[bad] = "550 5.1.1 no such user"
    with mail_server(post) as port:
        env = {"MARU_SMTP_URL": f"smtp://127.0.0.1:{port}", "MARU_SMTP_FROM": SENDER, "MARU_SMTP_SECONDS": "5"}
        if how == "is not there":
            env["MARU_SMTP_URL"] = "smtp://127.0.0.1:9"
        with disturbed(seeded, tmp_path, env=env) as system:
            log = system.service("notifications").log
            with system.load("R14", 1, suggest_both) as load:
                until(lambda: load.tally.acknowledged >= 10, "no load")
                ready = system.kill("notifications-follower")
                tally = load.stop()
            until(lambda: _fates(log)["NotificationRequested"] > 0, "no e-mail is owed")
            until(lambda: _fates(log)[FATE.get(how, "NotificationFailed")] > 0, "no attempt fails visibly")
            if how != "is not there":
                until(lambda: _good(post) > 0, "nothing arrives at the good address")
            assert system.opened.idle()
            until(lambda: _unattempted(log) == 0, "e-mails that are owed are not attempted")
            found = system.assert_clean()
            fates = _fates(log)
    twice = Counter(mail.notice for mail in post.mails)
    tell(
        f"R14 {how}: {fates['NotificationDelivered']} delivered, {fates['NotificationFailed']} failed attempts, "
        f"{fates['NotificationGivenUp']} given up; {len(post.mails)} taken over by the server, "
        f"{sum(twice.values()) - len(twice)} twice; follower ready again in {ready:.1f} s; {tally.text()}; "
        f"{found.events} events"
    )
    assert tally.refused == 0
    assert tally.unavailable == 0


def _unattempted(log: EventLog) -> int:
    """Notices that nothing has become of yet."""
    of = "SELECT originator_id FROM stored_events WHERE topic LIKE"
    outcomes = ("NotificationDelivered", "NotificationFailed", "NotificationGivenUp")
    ended = " ".join(f"EXCEPT {of} '{name}.%'" for name in outcomes)
    return len(log.query(f"{of} 'NotificationRequested.%' {ended}"))


def _fates(log: EventLog) -> Counter[str]:
    rows = log.query("SELECT topic, COUNT(*) FROM stored_events WHERE topic LIKE 'Notification%' GROUP BY topic")
    return Counter({topic.rpartition(".v")[0]: count for topic, count in rows})


def _good(post: Post) -> int:
    return sum(mail.recipients[0].startswith(f"{COUNTY}@") for mail in post.mails)
