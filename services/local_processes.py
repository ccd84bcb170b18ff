"""Processes of this machine that belong to us: started, stopped, killed, frozen; and ended with us, however we end."""

from __future__ import annotations

import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

STOP_SECONDS = 4.0
"""How long a process may take to stop when asked; then it is killed."""
PORTS = range(12_000, 32_000)
"""Free ports are taken from below the range of outgoing connections: a client that dials a dead broker's port again and
again could otherwise be given that very port, and be connected to itself."""

_LAUNCH = """
import ctypes, os, sys
parent, death, uid, gid = map(int, sys.argv[1:5])
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, death)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[5], sys.argv[5:])
"""
# Linux sends the signal when the *thread* that forked ends, so one thread that lives as long as we do forks them all.
_forks = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forks")


class Started(Protocol):
    """A process that was started: what of ``subprocess.Popen`` is needed of it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class ServerFailed(Exception):
    """A process ended, or did not answer in time; says the end of its log."""


def spawn(
    argv: Sequence[str],
    log: Path,
    cwd: Path,
    env: Mapping[str, str],
    death: signal.Signals = signal.SIGKILL,
    user: pwd.struct_passwd | None = None,
    fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output appended to ``log``.

    It is sent ``death`` when this process ends. ``argv[0]`` is a path; ``user`` is whom root makes it run as; ``fds``
    are descriptors that it keeps.
    """
    uid, gid = (-1, -1) if user is None else (user.pw_uid, user.pw_gid)
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, *map(str, (os.getpid(), int(death), uid, gid)), *argv]
    with log.open("ab") as out:
        return _forks.submit(
            subprocess.Popen,
            launch,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
            pass_fds=tuple(fds),
        ).result()


def free_port(*taken: int) -> int:
    """A port of 127.0.0.1 on which nobody listens now, and which is none of ``taken``."""
    for port in random.sample(PORTS, 200):
        if port not in taken and is_free(port):
            return port
    raise ServerFailed("No port is free on 127.0.0.1.")


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def family(pid: int) -> list[int]:
    """A process and its living children, parent first (Linux: from /proc)."""
    found = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == pid and state != "Z":
                    found.append(int(entry.name))
    return found


def lives(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be counted by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def listens(pids: Sequence[int], port: int) -> bool:
    """Whether one of these processes, and nobody else, holds the listening socket of a TCP port."""
    listening = {
        fields[9]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in map(str.split, Path(table).read_text().splitlines()[1:])
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port
    }
    sockets = {f"socket:[{inode}]" for inode in listening}
    for pid in pids:
        try:
            if any(os.readlink(entry) in sockets for entry in Path(f"/proc/{pid}/fd").iterdir()):
                return True
        except OSError:
            continue
    return False


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """A signal to those of the processes that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class LocalProcess(ABC):
    """One process of ours with its children. May be used by several threads: a kill also ends a start under way."""

    name: str
    polite: signal.Signals = signal.SIGTERM
    """What asks it to stop."""
    log: Path
    """Where its output goes."""

    def __init__(self) -> None:
        self.process: Started | None = None
        self._lock = threading.RLock()
        self._ending = 0

    @property
    def pid(self) -> int | None:
        """The process (of PostgreSQL the postmaster), while it lives."""
        process = self.process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether its process lives; whether it answers is another matter."""
        return self.pid is not None

    @property
    def ended(self) -> str:
        """How it ended, in words; of a process that has ended by itself."""
        code = None if self.process is None else self.process.poll()
        if code is None:
            return "was ended"
        return f"ended with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"

    def pids(self) -> list[int]:
        """Every process of it, first the one we started; empty when it does not run."""
        pid = self.pid
        return [] if pid is None else family(pid)

    @abstractmethod
    def start(self) -> None:
        """Start it; nothing where it runs. Raises ``ServerFailed``."""

    def stop(self) -> None:
        """Stop it in good order, frozen or not; after ``STOP_SECONDS`` kill it."""
        with self._to_end():
            if self.process is not None and self.running:
                self.thaw()
                pids = self.pids()
                send(pids[:1], self.polite)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(STOP_SECONDS)
                # Children that it has left behind.
                send(pids[1:], signal.SIGKILL)
            self._kill()

    def kill(self) -> None:
        """``kill -9`` of all its processes; returns when they are gone. Nothing where it does not run."""
        with self._to_end():
            self._kill()

    @contextmanager
    def _to_end(self) -> Iterator[None]:
        self._ending += 1
        try:
            with self._lock:
                yield
        finally:
            self._ending -= 1

    def _kill(self) -> None:
        process = self.process
        if process is None:
            return
        # Frozen first, so that it makes no new child between our look and the kill.
        send(self.pids()[:1], signal.SIGSTOP)
        pids = self.pids()
        send(pids, signal.SIGKILL)
        process.wait()
        while any(lives(pid) for pid in pids):
            time.sleep(0.005)

    def freeze(self) -> None:
        """SIGSTOP all its processes: connections stay open and nothing answers."""
        send(self.pids()[:1], signal.SIGSTOP)
        send(self.pids(), signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT all its processes."""
        send(self.pids()[::-1], signal.SIGCONT)
