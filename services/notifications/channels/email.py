"""E-mail, where a mail server is configured: a plain text in the contact's language, with the notice's id as its key.

The notice's id is in ``Message-ID``: a message that is sent twice (a crash between the server's answer and the record)
is the same message. What is recorded of a server's reply is its code and queue id, never its words: they may quote the
address. Which failures are final is RFC 5321's: a reply 5xx to the recipient or the content. A 5xx to the connection,
the log-in or the sender is about this installation; the operator can mend it, so it is tried again.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit

from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from services.notifications.channels import Channel
from services.notifications.contacts import Contact
from services.notifications.wording import read_wording
from shared.contracts.envelope import Label
from shared.runtime.declare import Attempt, Outcome, Owed
from shared.runtime.settings import Settings

QUIT_SECONDS = 1.0
"""The message is handed over; a server that does not say goodbye in this time is left."""

_ENHANCED = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})\b")
_QUEUE_ID = re.compile(r"\b(?:queued as|id=)\s*([A-Za-z0-9-]{1,40})(?![A-Za-z0-9@.+_-])", re.IGNORECASE)


def opened(settings: Settings) -> Attempt | None:
    """How to send, by ``smtp_url`` and ``smtp_from``; ``None`` where there is no mail server.

    ``smtps``: TLS from the start. ``smtp``: TLS where the server offers it, and always before a password is sent.
    """
    if settings.smtp_url is None or settings.smtp_from is None:
        return None
    url, sender, seconds = urlsplit(settings.smtp_url.get_secret_value()), settings.smtp_from, settings.smtp_seconds
    user = unquote(url.username) if url.username else None
    secure = url.scheme == "smtps"

    async def attempt(owed: Owed) -> Outcome:
        contact: Contact | None = owed.work.contact
        if contact is None:
            return Outcome("refused", "no-contact")
        try:
            message = compose(owed.id, owed.work.title, owed.work.text, contact, sender, datetime.now(UTC))
        except ValueError:
            return Outcome("refused", "address")
        client = SMTP(
            hostname=url.hostname,
            port=url.port,
            username=user,
            password=unquote(url.password or "") if user else None,
            local_hostname=sender.partition("@")[2],
            use_tls=secure,
            start_tls=False if secure else (True if user else None),
            # One limit over the whole attempt instead of one for each line: a server may be slow in every one of them.
            timeout=None,
        )
        return await _hand_over(client, message, seconds)

    return attempt


def compose(notice_id: str, title: Label, text: Label, contact: Contact, sender: str, at: datetime) -> EmailMessage:
    """The message; offices only, no person is addressed. Raises ``ValueError`` for what is no address."""
    if not re.fullmatch(r"[^\s@<>\"(),:;\\\[\]]+@[^\s@<>\"(),:;\\\[\]]+", contact.email):
        raise ValueError("not an address")
    frame = read_wording("email", "Frame")

    def said(label: Label) -> str:
        return label.en if contact.locale == "en" else label.ko

    message = EmailMessage()
    message["From"] = sender
    message["To"] = contact.email
    message["Subject"] = said(frame.title).format(title=said(title))
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<{notice_id}@{sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    # Base64 passes every server, also one that does not know 8BITMIME.
    message.set_content(said(frame.text).format(text=said(text), notice=notice_id) + "\n", cte="base64")
    message["Content-Language"] = contact.locale
    return message


async def _hand_over(client: SMTP, message: EmailMessage, seconds: float) -> Outcome:
    transport: asyncio.BaseTransport | None = None
    try:
        async with asyncio.timeout(seconds):
            await client.connect()
            transport = client.transport
            _, reply = await client.send_message(message)
        # From here on it is the server's: nothing that follows may turn it into a failure.
        with suppress(Exception):
            async with asyncio.timeout(QUIT_SECONDS):
                await client.quit()
        return Outcome("done", receipt(250, reply))
    except (OSError, SMTPException, ssl.SSLError, ValueError) as error:
        return _failure(error)
    finally:
        client.close()
        if isinstance(transport, asyncio.Transport):
            # Not ``close``: it would wait for a server that no longer reads.
            transport.abort()


def _failure(error: Exception) -> Outcome:
    match error:
        case SMTPRecipientsRefused():
            refused = error.recipients[0]
            return Outcome("refused" if refused.code >= 500 else "failed", receipt(refused.code, refused.message))
        case SMTPDataError():
            return Outcome("refused" if error.code >= 500 else "failed", receipt(error.code, error.message))
        case SMTPResponseException():
            return Outcome("failed", receipt(error.code, error.message))
        case SMTPNotSupported():
            # An address with letters beyond ASCII, and a server that cannot take it.
            return Outcome("refused", "not-supported")
        case TimeoutError():
            return Outcome("failed", "timeout")
        case ssl.SSLError():
            return Outcome("failed", "tls")
        case SMTPServerDisconnected() | OSError():
            return Outcome("failed", "tls" if isinstance(error.__cause__, ssl.SSLError) else "connection")
        case ValueError():
            return Outcome("refused", "address")
        case _:
            # Such as STARTTLS that is needed and not offered.
            return Outcome("failed", "protocol")


def receipt(code: int, reply: str) -> str:
    """Of a reply the code, the enhanced code (RFC 3463) and the queue id, where they are there; none of its words."""
    found = (_ENHANCED.match(reply), _QUEUE_ID.search(reply))
    return " ".join([str(code), *(match[1] for match in found if match is not None)])


CHANNEL = Channel(name="email", opened=opened)
