"""The message, what is kept of a server's reply, and the settings that make e-mail possible."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from services.notifications.channels.email import compose, opened, receipt
from services.notifications.contacts import Contact
from shared.contracts.envelope import Label
from shared.runtime import settings
from shared.runtime.settings import BadSetting

NOTICE = "0187f8a0-0000-7000-8000-000000000001"
TITLE = Label(ko="정책 채택 알림, 제목이 길어서 한 줄에 다 들어가지 않는 경우 (00000001)", en="Adopted (00000001)")
TEXT = Label(ko="채택된 정책과 근거: /v1/cases/1", en="The policy and its ground: /v1/cases/1")
AT = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


def sent(locale: str = "ko", address: str = "county@hongcheon.example") -> EmailMessage:
    """The message as a receiver reads it, from its bytes."""
    composed = compose(NOTICE, TITLE, TEXT, Contact(address, locale), "no-reply@maru.example", AT)  # type: ignore[arg-type]
    read = message_from_bytes(composed.as_bytes(policy=policy.SMTP), policy=policy.default)
    assert isinstance(read, EmailMessage)
    return read


@pytest.mark.parametrize(
    ("locale", "title", "text"), [("ko", f"[마루] {TITLE.ko}", TEXT.ko), ("en", f"[Maru] {TITLE.en}", TEXT.en)]
)
def test_title_and_text_in_the_contact_s_language(locale: str, title: str, text: str) -> None:
    message = sent(locale)
    assert message["Subject"] == title
    assert text in message.get_content()
    assert NOTICE in message.get_content()
    assert message["Content-Language"] == locale


def test_the_notice_is_the_message_s_id() -> None:
    message = sent()
    assert message["Message-ID"] == f"<{NOTICE}@maru.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == AT
    assert message.get_content_type() == "text/plain"


def test_every_byte_passes_a_server_of_seven_bits() -> None:
    composed = compose(NOTICE, TITLE, TEXT, Contact("a@b.example", "ko"), "no-reply@maru.example", AT)
    raw = composed.as_bytes(policy=policy.SMTP)
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 78


@pytest.mark.parametrize(
    "address",
    ["", "county", "a@b.example\r\nBcc: c@d.example", "a@b.example, c@d.example", "Name <a@b.example>", "a b@c"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        sent(address=address)


@pytest.mark.parametrize(
    ("code", "reply", "kept"),
    [
        (250, "2.0.0 Ok: queued as 4F1A2B", "250 2.0.0 4F1A2B"),
        (250, "OK id=1t8Xyz-0004aB-2C", "250 1t8Xyz-0004aB-2C"),
        (250, "OK", "250"),
        (250, "2.6.0 <a@b.example> [InternalId=1] Queued mail for delivery", "250 2.6.0"),
        (250, "queued as county@hongcheon.example", "250"),
        (250, "queued as county.office@hongcheon.example", "250"),
        (550, "5.1.1 <county@hongcheon.example>: User county unknown", "550 5.1.1"),
        (451, "county@hongcheon.example: greylisted", "451"),
    ],
)
def test_of_a_reply_codes_and_queue_id_are_kept_and_no_address(code: int, reply: str, kept: str) -> None:
    assert receipt(code, reply) == kept


# Settings


def test_without_a_mail_server_there_is_no_e_mail() -> None:
    assert opened(settings.load()) is None
    assert opened(settings.load(smtp_from="no-reply@maru.example")) is None


@pytest.mark.parametrize(
    "url", ["smtp://127.0.0.1:2525", "smtps://mail.example", "smtp://user:p%40ss@mail.example:587"]
)
def test_with_one_there_is(url: str) -> None:
    assert opened(settings.load(smtp_url=url, smtp_from="no-reply@maru.example")) is not None


@pytest.mark.parametrize(
    "url", ["mail.example", "http://mail.example", "smtp://", "smtp://mail.example:secret", "smtp://user:se/cret@mail"]
)
def test_a_url_that_cannot_be_is_named_without_its_secret(url: str) -> None:
    with pytest.raises(BadSetting, match="smtp_url") as refused:
        settings.load(smtp_url=url, smtp_from="no-reply@maru.example")
    assert "secret" not in str(refused.value)


def test_a_mail_server_needs_a_sender() -> None:
    with pytest.raises(BadSetting, match="smtp_from"):
        settings.load(smtp_url="smtp://mail.example")


@pytest.mark.parametrize("sender", ["maru", "Maru <no-reply@maru.example>", "a@b.example\nBcc: c@d.example"])
def test_the_sender_is_one_plain_address(sender: str) -> None:
    with pytest.raises(BadSetting, match="smtp_from"):
        settings.load(smtp_url="smtp://mail.example", smtp_from=sender)


def test_the_password_is_not_shown() -> None:
    loaded = settings.load(smtp_url="smtp://user:only-we-know@mail.example", smtp_from="no-reply@maru.example")
    assert "only-we-know" not in str(settings.explain(loaded, {"smtp_url": "given"}))
