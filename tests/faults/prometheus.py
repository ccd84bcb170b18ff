"""A real Prometheus over a full system, on the committed rules with shorter durations; what it saw of each alert.

``FACTOR``: scrape and evaluation interval, each rule's ``for`` and the range of each query are that much shorter than
committed. Nothing else of a rule is changed: what an expression compares with (``> 60``) is real seconds.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import yaml

from services.local_processes import LocalProcess, ServerFailed, free_port, spawn
from shared.runtime.settings import ROOT
from tests.faults.system import until

FACTOR = 15
COMMITTED = ROOT / "deploy/prometheus"
LOOK_SECONDS = 0.25
STEADY_SECONDS = 5.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def shorter(duration: str) -> str:
    """A duration of Prometheus, ``FACTOR`` times shorter. Raises ``ValueError`` where that is no whole second."""
    number, unit = int(duration[:-1]), duration[-1]
    seconds, rest = divmod(number * _UNITS[unit], FACTOR)
    if rest:
        raise ValueError(f"{duration} is not {FACTOR} times a whole second")
    return f"{seconds}s"


def shorter_rules(rules: Mapping[str, Any]) -> dict[str, Any]:
    """A document of rules with shorter ``for`` and ranges, else as it was."""
    return {
        "groups": [
            group
            | {
                "rules": [
                    rule
                    | {"expr": re.sub(r"\[(\d+[smhd])\]", lambda found: f"[{shorter(found[1])}]", rule["expr"])}
                    | ({"for": shorter(rule["for"])} if "for" in rule else {})
                    for rule in group["rules"]
                ]
            }
            for group in rules["groups"]
        ]
    }


def committed_rules() -> dict[str, Any]:
    """The rules as they are deployed."""
    document: dict[str, Any] = yaml.safe_load((COMMITTED / "alerts.yml").read_text("utf-8"))
    return document


def found() -> str:
    """Where the server is; ``make faults`` fetches it from Debian's package. Fails where it is not to be had."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    tool = shutil.which("prometheus", path=path)
    assert tool is not None, "not run: prometheus is not on this machine (Debian: apt-get install prometheus)"
    return tool


class Prometheus(LocalProcess):
    """A Prometheus of our own on 127.0.0.1, configured as deployed but for intervals and the addresses of targets."""

    name = "prometheus"

    def __init__(self, folder: Path) -> None:
        """``folder``: of its configuration, data and log. It knows no process until ``aim``."""
        super().__init__()
        folder.mkdir()
        self.folder = folder
        self.log = folder / "prometheus.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = yaml.safe_load((COMMITTED / "prometheus.yml").read_text("utf-8"))
        config["global"] = {name: shorter(value) for name, value in config["global"].items()}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        (folder / "alerts.yml").write_text(yaml.safe_dump(shorter_rules(committed_rules())), encoding="utf-8")
        self.aim({})

    def aim(self, processes: Mapping[str, str]) -> None:
        """From now on these processes are scraped: name to address. Prometheus sees the changed file by itself."""
        targets = [{"targets": [urlsplit(url).netloc for url in processes.values()]}] if processes else []
        new = self.folder / "targets.new"
        new.write_text(yaml.safe_dump(targets), encoding="utf-8")
        new.replace(self.folder / "targets.yml")

    def start(self) -> None:
        """Start it, and wait until it answers. Raises ``ServerFailed``."""
        with self._lock:
            argv = [found(), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
            argv += [f"--web.listen-address=127.0.0.1:{self.port}", "--web.console.templates=."]
            self.process = spawn(argv, self.log, self.folder, {"PATH": os.environ.get("PATH", "")}, signal.SIGKILL)
        end = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > end or not self.running:
                raise ServerFailed(f"Prometheus does not answer:\n{self.log.read_text()[-1000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def states(self) -> dict[str, str]:
        """Each alert that is pending or firing, by name; firing where one of its series is."""
        answer = httpx.get(f"{self.url}/api/v1/alerts", timeout=10).raise_for_status().json()
        states: dict[str, str] = {}
        for alert in answer["data"]["alerts"]:
            name = alert["labels"]["alertname"]
            states[name] = "firing" if "firing" in (alert["state"], states.get(name)) else alert["state"]
        return states

    def targets(self) -> dict[str, str]:
        """Each target's health, by address."""
        answer = httpx.get(f"{self.url}/api/v1/targets", timeout=10).raise_for_status().json()
        return {target["labels"]["instance"]: target["health"] for target in answer["data"]["activeTargets"]}


@dataclass
class Seen:
    """What was done about one alert, and how long Prometheus took to say so; seconds."""

    cause: str
    began: float
    firing: float | None = None
    undone: str = ""
    ended: float | None = None
    cleared: float | None = None
    done: bool = False

    def look(self, asked: float, state: str | None) -> None:
        """How Prometheus sees it at a moment: ``firing``, ``pending`` or not at all."""
        if self.firing is None and state == "firing" and asked >= self.began:
            self.firing = asked - self.began
        if self.done or self.ended is None or asked < self.ended:
            return
        if state is not None:
            # A scrape that failed had only hidden it.
            self.cleared = None
        elif self.cleared is None:
            self.cleared = asked - self.ended

    @property
    def clear(self) -> bool:
        """Whether it has been gone for ``STEADY_SECONDS``."""
        if self.ended is None or self.cleared is None:
            return False
        self.done = self.done or time.monotonic() - self.ended - self.cleared >= STEADY_SECONDS
        return self.done


class Watched:
    """Alerts that are caused, seen firing, undone and seen cleared; several at a time."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.prometheus = prometheus
        self.seen: dict[str, Seen] = {}
        self.before: list[tuple[str, Seen]] = []
        """What was seen of alerts that were caused a second time since."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watched", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            asked = time.monotonic()
            try:
                states = self.prometheus.states()
            except httpx.HTTPError:
                # Who waits will say that it did not come.
                continue
            for name, seen in list(self.seen.items()):
                seen.look(asked, states.get(name))

    def cause(self, how: str, *names: str) -> None:
        """From now on these alerts are due, because of ``how``. Fails where one is firing already."""
        states = self.prometheus.states()
        for name in names:
            assert states.get(name) != "firing", f"{name} fires before it is caused"
            if name in self.seen:
                self.before.append((name, self.seen[name]))
            self.seen[name] = Seen(how, time.monotonic())

    def wait_firing(self, *names: str) -> None:
        """Until each of them has been seen firing. Fails where one is not within the bound."""
        until(lambda: all(self.seen[name].firing is not None for name in names), f"{names} do not all fire")

    def undo(self, how: str, *names: str) -> None:
        """From now on these alerts have no cause any more."""
        for name in names:
            self.seen[name].undone, self.seen[name].ended = how, time.monotonic()

    def wait_cleared(self, *names: str) -> None:
        """Until each of them is gone, and stays so for ``STEADY_SECONDS``. Fails where one is not within the bound."""
        until(lambda: all(self.seen[name].clear for name in names), f"{names} do not all clear")

    def calm(self) -> bool:
        """Whether nothing fires but what has been undone and needs its time."""
        clearing = {name for name, seen in self.seen.items() if seen.ended is not None and not seen.done}
        return {name for name, state in self.prometheus.states().items() if state == "firing"} <= clearing

    def table(self) -> list[str]:
        """One line an alert, as a table of Markdown."""
        lines = ["| Alert | Cause | Firing after | Undone by | Cleared after |", "|---|---|---|---|---|"]
        for name, seen in [*self.before, *self.seen.items()]:
            firing, cleared = (
                "not seen" if seconds is None else f"{seconds:.0f} s" for seconds in (seen.firing, seen.cleared)
            )
            lines.append(f"| {name} | {seen.cause} | {firing} | {seen.undone} | {cleared} |")
        return lines
