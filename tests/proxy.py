"""A TCP proxy on loopback that a test can cut, delay or black-hole: what a network does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

Watch = Callable[[bytes, bool], bool]
"""Asked of each piece of data, and whether it comes from the server; ``False`` cuts the connection instead."""


class Proxy:
    """Passes every connection on to ``target`` until it is told otherwise."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.watch: Watch = lambda data, from_server: True
        self.refusing = False
        self._silent = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.append((client, server))
            for source, sink, from_server in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, sink, from_server), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, from_server: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.watch(data, from_server):
                    break
                if not self._silent.is_set():
                    sink.sendall(data)
        for end in (source, sink):
            _close(end)

    def cut(self) -> None:
        """End every connection there is; new ones go on."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _close(end)

    def swallow(self, silent: bool) -> None:
        """Take everything and pass nothing on (a black hole), or pass again what comes from now on."""
        if silent:
            self._silent.set()
        else:
            self._silent.clear()

    def close(self) -> None:
        """End everything."""
        self._ended = True
        _close(self._listening)
        self.cut()


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
