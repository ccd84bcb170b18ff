"""The whole system with a mail server: a county raises an issue and is told in its inbox and by e-mail."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.__main__ import SERVICES
from services.audit import audit
from services.client import Maru, Problem
from shared.runtime import settings
from shared.runtime.system import System, opened
from tests.email.office import SENDER
from tests.email.servers import Post, mail_server

COUNTY, OPERATOR = "org-gangwon-hongcheon.officer", "operations.operator"
SUGGESTION: dict[str, Any] = {
    "title": "국도 확장 건의",
    "text": "좁은 국도를 넓혀 주시기 바랍니다.",
    "regions": ["gangwon"],
    "channel": "letter",
    "plan_item": "P3-2",
    "cost_band": "above_c",
}


def until(reached: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@contextmanager
def running(folder: Path, port: int | None) -> Iterator[System]:
    """The system on a folder, with a mail server at this port or without one."""
    mail = {} if port is None else {"smtp_url": f"smtp://127.0.0.1:{port}", "smtp_from": SENDER}
    with opened(SERVICES, settings.load(data=folder, port=0, **mail)) as system:
        system.serve()
        yield system


def raised(system: System) -> str:
    """A county raises an issue; gives the case."""
    with Maru(system.url) as maru:
        case_id = maru.office(COUNTY).post("/v1/issues", SUGGESTION).id
    assert system.idle()
    return case_id


def fates(system: System, office: str) -> list[str | None]:
    """How the e-mails beside the office's notices fare."""
    with Maru(system.url) as maru:
        return [row["email"] for row in maru.office(office).all("/v1/notices")]


@pytest.fixture
def folder(seeded_folder: Path, tmp_path: Path) -> Path:
    """The reference data alone."""
    return Path(shutil.copytree(seeded_folder, tmp_path / "data"))


@pytest.mark.capability("L5", part="no subscriptions, no digests, no climbing of what stays unread")
def test_the_county_gets_one_e_mail_beside_its_notice_and_no_title_in_it(folder: Path) -> None:
    post = Post()
    with mail_server(post) as port, running(folder, port) as system:
        case_id = raised(system)
        until(lambda: fates(system, COUNTY) == ["delivered"])
    [mail] = post.mails
    assert mail.recipients[0].partition("@")[0] == COUNTY
    assert mail.message["Subject"] == f"[마루] 건의 접수 알림 ({case_id[-8:]})"
    assert case_id in mail.message.get_content()
    assert SUGGESTION["title"] not in mail.message.get_content()


def test_a_restart_sends_nothing_again(folder: Path) -> None:
    post = Post()
    with mail_server(post) as port:
        with running(folder, port) as system:
            raised(system)
            until(lambda: fates(system, COUNTY) == ["delivered"])
        with running(folder, port) as system:
            raised(system)
            until(lambda: fates(system, COUNTY) == ["delivered"] * 2)
        assert len({mail.notice for mail in post.mails}) == len(post.mails) == 2


def test_without_a_mail_server_only_the_inbox_is_told_and_nothing_is_owed_when_there_is_one(folder: Path) -> None:
    with running(folder, None) as system:
        raised(system)
        assert fates(system, COUNTY) == [None]
    post = Post()
    with mail_server(post) as port, running(folder, port) as system, Maru(system.url) as maru:
        assert system.idle()
        assert list(maru.office(OPERATOR).all("/v1/undelivered")) == []


def test_given_up_is_visible_to_the_office_and_to_operators_and_to_nobody_else(folder: Path) -> None:
    post = Post(at_recipient={COUNTY: "550 5.1.1 no such user"})
    with mail_server(post) as port, running(folder, port) as system, Maru(system.url) as maru:
        case_id = raised(system)
        until(lambda: fates(system, COUNTY) == ["given_up"])
        until(lambda: bool(list(maru.office(OPERATOR).all("/v1/undelivered", given_up="true"))))
        rows = list(maru.office(OPERATOR).all("/v1/undelivered", given_up="true"))
        assert [(row["office"], row["case_id"], row["reason"], row["detail"]) for row in rows] == [
            (COUNTY, case_id, "refused", "550 5.1.1")
        ]
        with pytest.raises(Problem) as denied:
            maru.office(COUNTY).get("/v1/undelivered")
        assert denied.value.status == 403


def test_the_audit_finds_every_promise_kept_with_e_mails_delivered_and_given_up(folder: Path) -> None:
    post = Post(at_recipient={COUNTY: "550 5.1.1 no such user"})
    with mail_server(post) as port, running(folder, port) as system:
        raised(system)
        until(lambda: fates(system, COUNTY) == ["given_up"])
        post.at_recipient.clear()
        raised(system)
        until(lambda: fates(system, COUNTY) == ["delivered", "given_up"])
        assert system.idle()
    found = audit(folder, None, None)
    assert found.exit_code == 0, found.sentence()
