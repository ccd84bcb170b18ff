"""Processes of ours, forked from one that has read the program already.

A start from nothing reads some 1,500 modules, two seconds of processor time each, and a full system has fourteen
processes. The nursery reads them once and forks; a child is as separate as any other process. It has no threads and
opens nothing before it forks, so a child inherits nothing but modules.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.local_processes import spawn
from shared.runtime.settings import ROOT

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


class Child:
    """A forked process, as ``subprocess.Popen`` shows one: ``pid``, ``poll``, ``wait``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None
        self._ended = threading.Event()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; ``None`` while it lives."""
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises ``subprocess.TimeoutExpired``."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("maru", timeout or 0.0)
        assert self._code is not None
        return self._code

    def ended(self, code: int) -> None:
        """What the nursery says of it."""
        self._code = code
        self._ended.set()


class Nursery:
    """The process that forks, started when first needed, and again where it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._children: dict[int, Child] = {}
        self._answers: list[Any] = []
        self._answered = threading.Condition()
        atexit.register(self.close)

    def close(self) -> None:
        """End it, and with it whatever of its children still lives."""
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            if self._process is not None:
                self._process.wait(10)

    def fork(self, name: str, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Child:
        """Start ``maru`` with arguments and environment, its output appended to ``log``. It dies with this process."""
        with self._lock:
            if self._socket is None:
                self._start(log)
            assert self._socket is not None
            asked = {"name": name, "arguments": list(arguments), "env": dict(env), "log": str(log)}
            self._socket.sendall(json.dumps(asked).encode() + b"\n")
            with self._answered:
                self._answered.wait_for(lambda: bool(self._answers) or self._socket is None, 60)
                if not self._answers:
                    raise ChildProcessError(f"{name} could not be forked; see {log}")
                return self._children[self._answers.pop()]

    def _start(self, log: Path) -> None:
        ours, theirs = socket.socketpair()
        os.set_inheritable(theirs.fileno(), True)
        argv = [sys.executable, "-m", "services.nursery", str(theirs.fileno())]
        # What is set around us is not handed on: each child gets an environment of its own.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MARU_")}
        if self._process is not None:
            self._process.wait()
        self._process = spawn(argv, log, ROOT, inherited, fds=(theirs.fileno(),))
        theirs.close()
        self._socket = ours
        threading.Thread(target=self._hear, args=(ours,), name="nursery", daemon=True).start()

    def _hear(self, ours: socket.socket) -> None:
        with suppress(OSError), ours.makefile("rb") as lines:
            for line in lines:
                told = json.loads(line)
                if "code" in told:
                    self._children.pop(told["pid"]).ended(told["code"])
                    continue
                with self._answered:
                    self._children[told["pid"]] = Child(told["pid"])
                    self._answers.append(told["pid"])
                    self._answered.notify()
        # It is gone, and its children with it.
        with self._answered:
            self._socket = None
            gone, self._children = self._children, {}
            self._answered.notify()
        ours.close()
        for child in gone.values():
            child.ended(-signal.SIGKILL)


NURSERY = Nursery()


def main() -> None:
    """Read the program, then fork whatever is asked for on the socket whose number is the one argument."""
    from services.cli import main as program
    from shared.runtime import processes

    assert processes
    asked = socket.socket(fileno=int(sys.argv[1]))
    ended, told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    buffer = b""
    while True:
        watched: list[Any] = [asked, ended]
        ready, _, _ = select.select(watched, [], [])
        if ended in ready:
            with suppress(BlockingIOError):
                while os.read(ended, 4096):
                    pass
            _tell_ends(asked)
        if asked in ready:
            more = asked.recv(65536)
            if not more:
                return
            *lines, buffer = (buffer + more).split(b"\n")
            for line in lines:
                order = json.loads(line)
                parent = os.getpid()
                pid = os.fork()
                if pid == 0:
                    _become(order, parent, asked, (ended, told), program)
                asked.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def _tell_ends(asked: socket.socket) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            asked.sendall(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


def _become(order: Mapping[str, Any], parent: int, asked: socket.socket, pipe: Sequence[int], program: Any) -> None:
    """In the child: be the process that was asked for, and end as it ends."""
    code = 1
    try:
        os.setsid()
        prctl = getattr(ctypes.CDLL(None), "prctl", None)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
            prctl(_PR_SET_NAME, order["name"].encode()[:15])
        if os.getppid() != parent:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asked.close()
        for descriptor in pipe:
            os.close(descriptor)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.environ.clear()
        os.environ.update(order["env"])
        random.seed()
        sys.argv = ["maru", *order["arguments"]]
        program()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
