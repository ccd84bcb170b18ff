"""E-mail on a real SMTP server: delivered, tried again, given up; never twice by a rebuild or a second process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from services.notifications.dispatch import BACK_OFF
from shared.contracts.notifications import NotificationDelivered, NotificationFailed, NotificationGivenUp
from shared.runtime import logs, metrics
from shared.runtime.databases import Databases
from tests.email.office import SENDER, TEXT, TITLE, Office, office
from tests.email.servers import Post, free_port, mail_server
from tests.places import as_owner

DELIVERED = ["NotificationRequested", "NotificationDelivered"]
PART = pytest.mark.capability("L5", part="no subscriptions, no digests, no climbing of what stays unread")


@dataclass
class World:
    """A mail server and the service that sends by it."""

    post: Post
    office: Office


@pytest.fixture
def world(place: Databases) -> Iterator[World]:
    post = Post()
    with mail_server(post) as port, office(place, port) as one:
        yield World(post, one)


def counted(outcome: str) -> float:
    """The metric of the e-mail channel."""
    return float(metrics.NOTIFICATIONS.labels("email", outcome)._value.get())


# It arrives


@PART
def test_delivered_in_the_language_of_each_contact(world: World) -> None:
    for name in ("county", "council"):
        world.office.request(name)
    assert world.office.step()
    said = {mail.recipients[0]: mail for mail in world.post.mails}
    korean, english = said["county@ministry.example"].message, said["council@ministry.example"].message
    assert (korean["Subject"], english["Subject"]) == (f"[마루] {TITLE.ko}", f"[Maru] {TITLE.en}")
    assert TEXT.ko in korean.get_content()
    assert TEXT.en in english.get_content()
    assert {mail.sender for mail in world.post.mails} == {SENDER}


def test_the_notice_s_id_is_the_message_s(world: World) -> None:
    notice_id = world.office.request("county")
    world.office.step()
    assert world.post.mails[0].message["Message-ID"] == f"<{notice_id}@maru.example>"


def test_the_server_s_receipt_is_recorded(world: World) -> None:
    notice_id = world.office.request("county")
    world.office.step()
    assert world.office.events(notice_id)[1] == NotificationDelivered(
        about=f"event-{notice_id}", office="county", channel="email", receipt="250 2.0.0 4F1A2B"
    )


def test_at_most_eight_at_once_and_all_of_them(world: World) -> None:
    for number in range(40):
        world.office.contact(f"office-{number}")
        world.office.request(f"office-{number}")
    world.office.all()
    assert len({mail.notice for mail in world.post.mails}) == len(world.post.mails) == 40
    assert world.post.most_at_once <= 8


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    """Every log line of the test, down to debug."""
    capture = LogCapture()
    structlog.configure(processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(10))
    yield capture.entries
    logs.configure("error")


def test_no_address_stands_in_an_event_a_log_line_or_a_metric(world: World, log_lines: list[Any]) -> None:
    world.post.at_recipient["council"] = "550 5.1.1 <council@ministry.example>: unknown"
    world.office.request("county")
    world.office.request("council")
    world.office.step()
    lines = str(log_lines)
    told = world.office.raw() + lines + metrics.exposition(metrics.Probe(list))[0].decode()
    assert "550 5.1.1" in lines
    assert "ministry.example" not in told


# It fails


@PART
def test_a_temporary_failure_is_tried_again_by_the_table_until_it_is_given_up(world: World) -> None:
    world.post.at_content["county"] = "451 4.3.0 try later, county@ministry.example"
    notice_id, before = world.office.request("county"), (counted("failed"), counted("given_up"))
    world.office.step()
    for wait in BACK_OFF:
        assert not world.office.after(wait - timedelta(seconds=1))
        assert world.office.after(timedelta(seconds=1))
    assert not world.office.after(timedelta(days=30)), "it is given up"
    events = world.office.events(notice_id)
    failures = [event for event in events if isinstance(event, NotificationFailed)]
    assert [event.attempt for event in failures] == [1, 2, 3, 4, 5, 6]
    assert {event.detail for event in failures} == {"451 4.3.0"}
    assert isinstance(events[-1], NotificationGivenUp)
    assert (events[-1].reason, events[-1].attempts) == ("exhausted", 6)
    assert len(world.post.attempts) == 6
    assert (counted("failed") - before[0], counted("given_up") - before[1]) == (5, 1)


def test_delivered_at_the_second_attempt(world: World) -> None:
    world.post.at_content["county"] = "451 4.3.0 try later"
    notice_id = world.office.request("county")
    world.office.step()
    world.post.at_content.clear()
    world.office.after(BACK_OFF[0])
    assert world.office.types(notice_id) == ["NotificationRequested", "NotificationFailed", "NotificationDelivered"]


@pytest.mark.parametrize("where", ["at_recipient", "at_content"])
def test_a_final_failure_is_given_up_at_once(world: World, where: str) -> None:
    getattr(world.post, where)["county"] = "550 5.1.1 <county@ministry.example>: no such user"
    notice_id = world.office.request("county")
    world.office.step()
    assert not world.office.after(timedelta(days=30))
    (failed, given_up) = world.office.events(notice_id)[1:]
    assert isinstance(failed, NotificationFailed)
    assert failed.next_attempt_at is None
    assert isinstance(given_up, NotificationGivenUp)
    assert (given_up.reason, given_up.detail) == ("refused", "550 5.1.1")


def test_a_sender_that_is_refused_is_for_the_operator_to_mend_and_is_tried_again(world: World) -> None:
    world.post.sender_reply = "550 5.7.1 sender rejected"
    notice_id = world.office.request("county")
    world.office.step()
    world.post.sender_reply = None
    world.office.after(BACK_OFF[0])
    assert world.office.types(notice_id) == ["NotificationRequested", "NotificationFailed", "NotificationDelivered"]


def test_no_server_at_all_is_a_temporary_failure(tmp_path: Path) -> None:
    port = free_port()
    with office(tmp_path, port) as one:
        notice_id = one.request("county")
        one.step()
        failed = one.events(notice_id)[1]
        assert isinstance(failed, NotificationFailed)
        assert failed.detail == "connection"
        with mail_server(Post(), port=port):
            one.after(BACK_OFF[0])
        assert one.types(notice_id)[-1] == "NotificationDelivered"


def test_a_contact_that_has_gone_is_given_up_and_one_that_has_moved_is_followed(world: World) -> None:
    gone, moved = world.office.request("county"), world.office.request("council")
    world.office.forget("county")
    world.office.contact("council", "new@ministry.example")
    world.office.step()
    assert [mail.recipients for mail in world.post.mails] == [["new@ministry.example"]]
    assert world.office.types(moved) == DELIVERED
    (given_up,) = [event for event in world.office.events(gone) if isinstance(event, NotificationGivenUp)]
    assert given_up.detail == "no-contact"


def test_what_is_no_address_is_given_up(world: World) -> None:
    world.office.contact("county", "county@ministry.example\r\nBcc: other@ministry.example")
    notice_id = world.office.request("county")
    world.office.step()
    assert world.post.attempts == []
    assert world.office.types(notice_id)[-1] == "NotificationGivenUp"


# Nothing is sent again


def test_a_rebuilt_view_sends_nothing_again(world: World) -> None:
    world.post.at_recipient["council"] = "550 5.1.1 no"
    for name in ("county", "council"):
        world.office.request(name)
    world.office.step()
    attempts = list(world.post.attempts)
    world.office.fold()
    world.office.rebuild()
    assert not world.office.after(timedelta(days=30))
    assert world.post.attempts == attempts


def test_views_lost_with_their_file_send_nothing_again(tmp_path: Path) -> None:
    post = Post()
    with mail_server(post) as port, office(tmp_path, port) as one:
        one.request("county")
        one.step()
        one.close()
        for name in ("views.db", "views.db-wal", "views.db-shm"):
            (tmp_path / "notifications" / name).unlink(missing_ok=True)
        one.place.migrate(one.hosted.service)
        one.open()
        assert not one.step()
        assert len(post.mails) == 1


def test_a_view_that_lags_sends_nothing_again(world: World) -> None:
    notice_id = world.office.request("county")
    assert world.office.step()
    assert not world.office.runner.step(), "the view has not heard of the delivery"
    assert len(world.post.mails) == 1
    assert world.office.types(notice_id) == DELIVERED


def test_the_same_request_heard_again_sends_nothing_again(world: World) -> None:
    world.office.request("county", "notice-1")
    world.office.step()
    world.office.request("county", "notice-1")
    assert not world.office.step()
    assert len(world.post.mails) == 1


def test_a_restart_sends_nothing_again(world: World) -> None:
    world.office.request("county")
    world.office.step()
    world.office.close()
    world.office.open()
    assert not world.office.step()
    assert len(world.post.mails) == 1


def test_two_processes_record_each_attempt_once(world: World) -> None:
    """Without a lease both may send; the same Message-ID says that it is one, and it counts once."""
    other = Office(world.office.place, world.office.url)
    other.open()
    notices = [world.office.request("county", f"notice-{number}") for number in range(10)]
    world.office.fold()
    gate = threading.Barrier(2)

    def run(one: Office) -> None:
        gate.wait(10)
        one.runner.step()

    threads = [threading.Thread(target=run, args=(one,)) for one in (world.office, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert {mail.notice for mail in world.post.mails} == set(notices)
    assert [world.office.types(notice_id) for notice_id in notices] == [DELIVERED] * 10


def test_a_process_without_the_lease_sends_nothing(world: World) -> None:
    world.office.request("county")
    world.office.mine = lambda: False
    assert not world.office.step()
    world.office.mine = lambda: True
    assert world.office.step()
    assert len(world.post.mails) == 1


FULL = {
    "sqlite": (
        "CREATE TRIGGER full BEFORE INSERT ON stored_events BEGIN SELECT RAISE(ABORT, 'full'); END",
        "DROP TRIGGER full",
    ),
    "postgresql": (
        "CREATE FUNCTION full_() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''full''; END'; "
        "CREATE TRIGGER full_ BEFORE INSERT ON stored_events EXECUTE FUNCTION full_()",
        "DROP TRIGGER full_ ON stored_events",
    ),
}


@contextmanager
def full(one: Office) -> Iterator[None]:
    """The log can be read but takes nothing, as on a full disk."""
    begin, end = FULL[one.hosted.log.database.dialect]
    as_owner(one.hosted, begin)
    yield
    as_owner(one.hosted, end)


def test_what_was_sent_and_could_not_be_recorded_is_recorded_later_and_not_sent_again(world: World) -> None:
    notice_id = world.office.request("county")
    world.office.fold()
    with full(world.office):
        for _ in range(3):
            with pytest.raises(Exception, match="full"):
                world.office.runner.step()
    assert world.office.types(notice_id) == ["NotificationRequested"]
    world.office.runner.step()
    assert world.office.types(notice_id) == DELIVERED
    assert len(world.post.mails) == 1


def test_a_process_that_ends_between_sending_and_recording_sends_the_same_message_again(world: World) -> None:
    notice_id = world.office.request("county")
    world.office.fold()
    with full(world.office), pytest.raises(Exception, match="full"):
        world.office.runner.step()
    world.office.close()
    world.office.open()
    world.office.step()
    assert [mail.notice for mail in world.post.mails] == [notice_id, notice_id]
    assert world.office.types(notice_id) == DELIVERED
