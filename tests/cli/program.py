"""The program ``maru`` as a process of its own, as people start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

MARU = str(Path(sys.executable).parent / "maru")
SECONDS = 90
"""Longer than any command may take on a busy machine; nothing waits for it where all is well."""


def environment(**more: str) -> dict[str, str]:
    """Ours without any ``MARU_…`` setting, and with these."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MARU_")} | more


def maru(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [MARU, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(**(env or {})),
        check=False,
    )


class Running:
    """A process group of its own, so that nothing it started can be overlooked."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [MARU, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        self.said: list[str] = []
        self._errors: list[str] = []
        self._heard = threading.Condition()
        self._readers = [
            threading.Thread(target=self._listen, args=(stream, into), daemon=True)
            for stream, into in ((self.process.stdout, self.said), (self.process.stderr, self._errors))
        ]
        for reader in self._readers:
            reader.start()

    def _listen(self, stream: IO[str] | None, into: list[str]) -> None:
        assert stream is not None
        with stream:
            for line in stream:
                with self._heard:
                    into.append(line)
                    self._heard.notify_all()
        with self._heard:
            self._heard.notify_all()

    @property
    def output(self) -> str:
        """What it has written so far."""
        return "".join(self.said)

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return "".join(self._errors)

    def until(self, line: str) -> None:
        """Wait until it has written a line that begins so; fails where it ends first."""
        with self._heard:
            assert self._heard.wait_for(
                lambda: any(said.startswith(line) for said in self.said) or self.process.poll() is not None, SECONDS
            ), self.output
        assert any(said.startswith(line) for said in self.said), self.output + self.errors

    def document(self) -> Any:
        """The JSON document that it has written."""
        self.until("}")
        return json.loads(self.output)

    def stop(self, number: int, seconds: float) -> int:
        """Send a signal and wait for the end; gives the exit code. Raises ``TimeoutExpired``."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=seconds)
        for reader in self._readers:
            reader.join(timeout=10)
        return code

    def anything_left(self) -> bool:
        """Whether a process of the group still runs."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> None:
        """For the end of a test, whatever came before."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=10)
        for reader in self._readers:
            reader.join(timeout=10)


def told(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON document on standard output, which is all that stands there."""
    return json.loads(done.stdout)


def one_clear_line(text: str, words: Sequence[str]) -> bool:
    """One line, no traceback, and what it is about."""
    return text.count("\n") == 1 and "Traceback" not in text and all(word in text for word in words)
