"""Keeps processes running: one that ends is started again, with back-off, and said so; and brings their logs together.

What is meant to be down (``keep_down``) stays down until ``bring_up``: that is how faults are tried out.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import httpx

from services.local_processes import LocalProcess, ServerFailed
from services.nursery import NURSERY

LOOK_SECONDS = 0.05
"""How often the processes are looked at."""
PAUSES = (0.1, 5.0)
"""First and longest pause before a process is started again, seconds; each is double the one before."""
STEADY_SECONDS = 10.0
"""Who has run for so long starts again with the first pause."""
MERGE_SECONDS = 0.25
ROTATE_BYTES = 50_000_000
"""Greater log files are renamed at the next start, and the ones renamed before are forgotten."""


class Program(LocalProcess):
    """One of ``maru``'s own processes, ``maru serve issues`` and the like, with a port for its probes."""

    def __init__(self, name: str, arguments: Sequence[str], env: Mapping[str, str], port: int, logs: Path) -> None:
        """``env``: its ``MARU_…`` settings; those around us are not handed on. ``logs``: the folder of its log."""
        super().__init__()
        self.name = name
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = logs / f"{name}.jsonl"
        self._arguments = list(arguments)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MARU_")}
        self._env = inherited | {"MARU_PORT": str(port), "MARU_HOST": "127.0.0.1", "MARU_INSTANCE": name} | dict(env)

    def start(self) -> None:
        """Start it; whether it is ready, ``ready`` tells."""
        with self._lock:
            if not self.running:
                self.process = NURSERY.fork(self.name, self._arguments, self._env, self.log)

    def ready(self) -> bool:
        """Whether its ``/readyz`` says so now."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


@dataclass
class Supervised:
    """A process under supervision. What is done to it here is meant; what happens to it otherwise is mended."""

    process: LocalProcess
    restarts: int = 0
    wanted: bool = True
    """Whether it is to run: else the supervisor leaves it alone."""
    pause: float = PAUSES[0]
    since: float = 0.0
    due: float | None = None
    starting: Future[None] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its name: in the log, on the console, as holder of leases."""
        return self.process.name

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process.running

    def kill(self) -> None:
        """``kill -9``; it is started again."""
        self.process.kill()

    def freeze(self) -> None:
        """SIGSTOP; the supervisor does not mind, as a process that does nothing looks alive to it."""
        self.process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.thaw()

    def keep_down(self) -> None:
        """``kill -9``, and not started again until ``bring_up``."""
        self.wanted = False
        self.process.kill()
        if self.starting is not None:
            # It may have been about to start again just now.
            self.starting.exception()
            self.process.kill()

    def bring_up(self) -> None:
        """Start it again after ``keep_down``. Raises ``ServerFailed``."""
        self.process.start()
        self.wanted = True


class Supervisor:
    """Watches processes in a thread of its own until ``stop``."""

    def __init__(self, told: Callable[[str, str], None]) -> None:
        """``told`` hears of every process by name that ended or was started again, and how; from any thread."""
        self._told = told
        self._watched: dict[str, Supervised] = {}
        self._ending = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="starts")
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def add(self, process: LocalProcess) -> Supervised:
        """Watch a process that has been started, or is to be."""
        watched = self._watched[process.name] = Supervised(process, since=time.monotonic())
        if self._thread.ident is None:
            self._thread.start()
        return watched

    def __getitem__(self, name: str) -> Supervised:
        """A process by name. Raises ``KeyError``."""
        return self._watched[name]

    @property
    def names(self) -> list[str]:
        """Every process, in the order in which they were added."""
        return list(self._watched)

    def _run(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            for watched in list(self._watched.values()):
                self._look(watched, time.monotonic())

    def _look(self, watched: Supervised, now: float) -> None:
        if not watched.wanted or (watched.starting is not None and not watched.starting.done()):
            return
        if watched.running:
            watched.due = None
            if now - watched.since > STEADY_SECONDS:
                watched.pause = PAUSES[0]
            return
        if watched.due is None:
            watched.due = now + watched.pause
            self._told(watched.name, f"{watched.process.ended}; it is started again in {watched.pause:.1f} s")
            return
        if now >= watched.due:
            watched.pause = min(2 * watched.pause, PAUSES[1])
            watched.restarts += 1
            watched.starting = self._pool.submit(self._start, watched)

    def _start(self, watched: Supervised) -> None:
        if self._ending.is_set() or not watched.wanted:
            return
        try:
            watched.process.start()
        except ServerFailed as error:
            if watched.wanted and not self._ending.is_set():
                self._told(watched.name, f"did not start: {str(error)[:300]}")
        else:
            self._told(watched.name, "runs again")
        watched.since, watched.due = time.monotonic(), None

    def stop(self, last: Sequence[str] = ()) -> None:
        """End every process: all that are not in ``last`` together, then those together. None is started again."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)
        first = [watched for watched in self._watched.values() if watched.name not in last]
        with ThreadPoolExecutor(max_workers=max(len(self._watched), 1), thread_name_prefix="ends") as ends:
            for group in (first, [self._watched[name] for name in last if name in self._watched]):
                for done in [ends.submit(watched.process.stop) for watched in group]:
                    done.result()
        self._pool.shutdown(wait=True)
        for watched in self._watched.values():
            watched.process.kill()


class Logs:
    """All logs in one file beside their own: a JSON line each, with the process's name; from now on, as they grow."""

    def __init__(self, folder: Path) -> None:
        """``folder`` holds the processes' logs; the common one is ``all.jsonl`` in it."""
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.jsonl"):
            if file.stat().st_size > ROTATE_BYTES:
                file.rename(file.with_suffix(".jsonl.1"))
        self.path = folder / "all.jsonl"
        self._file: IO[str] = self.path.open("a", encoding="utf-8")
        self._read: dict[str, tuple[Path, int]] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def add(self, name: str, file: Path) -> None:
        """Follow a process's log from its present end."""
        with self._lock:
            self._read.setdefault(name, (file, file.stat().st_size if file.exists() else 0))

    def say(self, name: str, what: str) -> None:
        """A line of the supervisor's own, about a process."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        with self._lock:
            self._write("supervisor", {"event": what, "about": name, "level": "warning", "timestamp": now})

    def close(self) -> None:
        """Bring what has been written, then close."""
        self._ending.set()
        self._thread.join(timeout=5)
        self._merge()
        self._file.close()

    def _run(self) -> None:
        while not self._ending.wait(MERGE_SECONDS):
            self._merge()

    def _merge(self) -> None:
        with self._lock:
            for name, (file, at) in self._read.items():
                if not file.exists() or file.stat().st_size <= at:
                    continue
                with file.open("rb") as source:
                    source.seek(at)
                    grown = source.read()
                whole = grown[: grown.rfind(b"\n") + 1]
                self._read[name] = (file, at + len(whole))
                for line in whole.decode(errors="replace").splitlines():
                    self._write(name, _document(line))
            self._file.flush()

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({"process": name, **document}, ensure_ascii=False) + "\n")


def _document(line: str) -> Mapping[str, Any]:
    """A line of a log as a document: what is no JSON (a traceback, a server's own log) under ``line``."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"line": line}
