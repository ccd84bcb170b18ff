"""Mail servers that hang, reset, babble or ask for a password: bounded time, the other notices still go (R14)."""

from __future__ import annotations

import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.notifications.dispatch import BACK_OFF
from shared.contracts.notifications import NotificationFailed
from tests.email.office import Office, office
from tests.email.servers import REPLIES, Post, broken_server, mail_server

DELIVERED = ["NotificationRequested", "NotificationDelivered"]
FAILED = ["NotificationRequested", "NotificationFailed"]


def detail(one: Office, notice_id: str) -> str:
    """Why its first attempt failed."""
    failed = one.events(notice_id)[1]
    assert isinstance(failed, NotificationFailed)
    return failed.detail


# Where it breaks


@pytest.mark.parametrize("replies", range(len(REPLIES) + 1))
def test_a_server_that_hangs_costs_its_time_out_and_no_more(tmp_path: Path, replies: int) -> None:
    with broken_server(replies, "silence") as port, office(tmp_path, port, seconds=0.3) as one:
        notice_id = one.request("county")
        started = time.monotonic()
        one.step()
        assert time.monotonic() - started < 5
        assert (one.types(notice_id), detail(one, notice_id)) == (FAILED, "timeout")


@pytest.mark.parametrize("then", ["close", "reset", "noise"])
@pytest.mark.parametrize("replies", range(len(REPLIES) + 1))
def test_a_server_that_breaks_off_is_tried_again(
    tmp_path: Path, replies: int, then: Literal["close", "reset", "noise"]
) -> None:
    with broken_server(replies, then) as port, office(tmp_path, port) as one:
        notice_id = one.request("county")
        one.step()
        assert one.types(notice_id) == FAILED


def test_other_notices_go_while_some_hang(tmp_path: Path) -> None:
    post = Post(hang={"county", "council"})
    with mail_server(post) as port, office(tmp_path, port, seconds=4) as one:
        stuck = [one.request("county"), one.request("council")]
        others = []
        for number in range(20):
            one.contact(f"office-{number}")
            others.append(one.request(f"office-{number}"))
        one.all()
        assert {mail.notice for mail in post.mails} == set(others)
        assert [one.types(notice_id) for notice_id in stuck] == [FAILED] * 2
        post.hang.clear()
        one.after(BACK_OFF[0])
        assert {mail.notice for mail in post.mails} == {*others, *stuck}


def test_a_reset_after_the_content_is_tried_again_with_the_same_id(tmp_path: Path) -> None:
    post = Post(reset={"county"})
    with mail_server(post) as port, office(tmp_path, port) as one:
        notice_id = one.request("county")
        one.step()
        assert one.types(notice_id) == FAILED
        post.reset.clear()
        one.after(BACK_OFF[0])
        assert [mail.notice for mail in post.mails] == [notice_id]


def test_a_server_that_stays_away_is_given_up_within_bounded_time(tmp_path: Path) -> None:
    with broken_server(0, "reset") as port, office(tmp_path, port) as one:
        notice_id = one.request("county")
        one.step()
        for wait in BACK_OFF:
            assert one.after(wait)
        assert one.types(notice_id)[-1] == "NotificationGivenUp"
        assert not one.after(timedelta(days=30))


def test_the_end_of_the_process_waits_a_moment_and_no_more(tmp_path: Path) -> None:
    with broken_server(5, "silence") as port, office(tmp_path, port, seconds=15) as one:
        notice_id = one.request("county")
        one.fold()
        stepping = threading.Thread(target=one.runner.step)
        stepping.start()
        started = time.monotonic()
        one.runner.end()
        stepping.join(10)
        assert time.monotonic() - started < 8
        assert one.types(notice_id) == ["NotificationRequested"], "it is owed still"
        assert not one.runner.step(), "nothing is begun any more"


# TLS and passwords


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 with its key, which nobody trusts unless told so."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


def context(certificate: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


def reopened(one: Office, url: str) -> None:
    """The process anew, with another mail server's URL."""
    one.close()
    one.url = url
    one.open()


def test_with_a_password_over_tls(tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    post = Post(password="p@ss")
    with mail_server(post, context(certificate)) as port, office(tmp_path, port) as one:
        reopened(one, f"smtp://maru:p%40ss@localhost:{port}")
        notice_id = one.request("county")
        one.step()
        assert one.types(notice_id) == DELIVERED


def test_a_wrong_password_is_for_the_operator_to_mend_and_is_tried_again(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    post = Post(password="p@ss")
    with mail_server(post, context(certificate)) as port, office(tmp_path, port) as one:
        reopened(one, f"smtp://maru:wrong@localhost:{port}")
        notice_id = one.request("county")
        one.step()
        assert (one.types(notice_id), detail(one, notice_id)) == (FAILED, "535 5.7.8")
        assert "wrong" not in one.raw()


def test_a_certificate_that_nobody_vouches_for_gets_no_mail(tmp_path: Path, certificate: Path) -> None:
    post = Post()
    with mail_server(post, context(certificate)) as port, office(tmp_path, port) as one:
        reopened(one, f"smtp://localhost:{port}")
        notice_id = one.request("county")
        one.step()
        assert (one.types(notice_id), detail(one, notice_id)) == (FAILED, "tls")
        assert post.mails == []


def test_a_password_is_never_sent_without_tls(tmp_path: Path) -> None:
    post = Post()
    with mail_server(post) as port, office(tmp_path, port) as one:
        reopened(one, f"smtp://maru:secret@127.0.0.1:{port}")
        notice_id = one.request("county")
        one.step()
        assert one.types(notice_id) == FAILED
        assert post.attempts == []


@pytest.mark.parametrize(("takes", "ending"), [(True, "NotificationDelivered"), (False, "NotificationGivenUp")])
def test_an_address_beyond_ascii_goes_where_the_server_takes_it(tmp_path: Path, takes: bool, ending: str) -> None:
    post = Post(utf8=takes)
    with mail_server(post) as port, office(tmp_path, port) as one:
        one.contact("county", "군청@홍천.example")
        notice_id = one.request("county")
        one.step()
        assert one.types(notice_id)[-1] == ending
        assert [mail.recipients for mail in post.mails] == ([["군청@홍천.example"]] if takes else [])
