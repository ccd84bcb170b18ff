"""An HTTP server in a thread of its own: the gateways', and the probes of processes that serve nothing else."""

from __future__ import annotations

import errno
import gc
import socket
import threading
import time
from typing import Any

import uvicorn


class CannotStart(Exception):
    """Why the system does not start: one clear line, and the exit code of the documents."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.code = code


def listening(host: str, port: int) -> socket.socket:
    """A socket for a server. Raises ``CannotStart``: 3 where the port cannot be had, 7 for no address of ours."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        if isinstance(error, PermissionError):
            raise CannotStart(f"Port {port} on {host} is not for this user: take one above 1023.", 3) from None
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise CannotStart(f"Bad setting: host (MARU_HOST): {host} is no IPv4 address of this machine.", 7) from None
        raise CannotStart(f"Port {port} on {host} is taken.", 3) from None
    return made


class HttpServer:
    """Listens from ``start`` to ``stop``; ``url`` says where."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        """``app`` is an ASGI application. Raises ``CannotStart`` as ``listening`` does."""
        self._socket = listening(host, port)
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=3,
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)

    def start(self) -> None:
        """Listen; returns when requests are taken."""
        self._thread.start()
        end = time.monotonic() + 20
        while not self._server.started and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(0.005)
        # What is there now stays: looking through it for garbage again and again would stop every request for 100 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 100)

    def stop(self) -> None:
        """Finish the requests under way, a few seconds at most."""
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()
