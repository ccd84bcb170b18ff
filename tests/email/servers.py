"""Mail servers on the loopback that behave as real ones do, well and badly."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Literal

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP as Server
from aiosmtpd.smtp import AuthResult, Envelope, Session


@dataclass
class Mail:
    """A message that a server took over: from whom, to whom, and what it said."""

    sender: str
    recipients: list[str]
    message: EmailMessage

    @property
    def notice(self) -> str:
        """The notice's id, as it stands in the Message-ID."""
        return str(self.message["Message-ID"]).strip("<>").partition("@")[0]


@dataclass
class Post:
    """A server's ways: replies by the recipient's local part, else by ``reply``; who hangs, at which command.

    ``mails`` is what it took over, ``attempts`` how often each recipient was named.
    """

    reply: str = "250 2.0.0 Ok: queued as 4F1A2B"
    at_recipient: dict[str, str] = field(default_factory=dict)
    at_content: dict[str, str] = field(default_factory=dict)
    hang: set[str] = field(default_factory=set)
    reset: set[str] = field(default_factory=set)
    sender_reply: str | None = None
    password: str | None = None
    utf8: bool = True
    mails: list[Mail] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0

    async def handle_MAIL(
        self, server: Server, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        """The sender."""
        if self.sender_reply is not None:
            return self.sender_reply
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(
        self, server: Server, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        """The recipient."""
        local = address.partition("@")[0]
        self.attempts.append(local)
        if local in self.at_recipient:
            return self.at_recipient[local]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        """The content: taken over, refused, left without an answer, or answered by a reset."""
        local = envelope.rcpt_tos[0].partition("@")[0]
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if local in self.hang:
                # For ever: the handler is ended with its connection.
                await asyncio.Event().wait()
        finally:
            self._at_once -= 1
        if local in self.reset:
            reset(server.transport)
            return "421 never read"
        if local in self.at_content:
            return self.at_content[local]
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.mails.append(Mail(str(envelope.mail_from), list(envelope.rcpt_tos), message))
        return self.reply

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, auth: Any) -> AuthResult:
        """Whether the password is the right one."""
        return AuthResult(success=auth.password.decode() == self.password, handled=False)


def reset(transport: Any) -> None:
    """End a connection as a crashed server does: RST instead of FIN."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    transport.abort()


@contextmanager
def mail_server(post: Post, tls: ssl.SSLContext | None = None, *, port: int = 0) -> Iterator[int]:
    """A server that behaves so, while the context lasts; gives its port."""
    more: dict[str, Any] = {"enable_SMTPUTF8": post.utf8}
    if post.password is not None:
        more |= {"authenticator": post.authenticate, "auth_required": True}
    if tls is not None:
        more["tls_context"] = tls
    server = Controller(post, hostname="127.0.0.1", port=port or free_port(), **more)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


REPLIES = (b"220 mail.example ESMTP\r\n", b"250 mail.example\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 go on\r\n")
"""A whole transaction up to the content: greeting, EHLO, MAIL, RCPT, DATA."""


@contextmanager
def broken_server(replies: int, then: Literal["silence", "close", "reset", "noise"]) -> Iterator[int]:
    """A server that gives so many of its replies, the next only after a line of the client, and then breaks."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=32)
    listening.settimeout(0.02)
    ending = threading.Event()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                for number, reply in enumerate(REPLIES[:replies]):
                    if number:
                        lines.readline()
                    connection.sendall(reply)
                if replies:
                    lines.readline()
                if then == "noise":
                    connection.sendall(b"\xff\x00 no reply of any server\r\n" * 100)
                if then == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                if then == "silence":
                    ending.wait()
            except OSError:
                # The client has left first.
                return

    def take() -> None:
        while not ending.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            connection.settimeout(30)
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    taking = threading.Thread(target=take)
    taking.start()
    try:
        yield listening.getsockname()[1]
    finally:
        ending.set()
        for thread in (taking, *threads):
            thread.join()
        listening.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
