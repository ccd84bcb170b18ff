"""A container of the compose file or of the manifests, started as a process of this machine.

Its command, environment, files and probes are taken from where they are written; the image's part from the Dockerfile.
What differs: a folder stands for the container's root, so that absolute paths lead there; addresses lead to loopback,
as the caller says; and the one port that the image sets is a free one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from services.local_processes import free_port
from tests.deploy.manifests import ROOT, Document, compose

PORT = "MARU_PORT"
_ABSOLUTE = re.compile(r"(?<![A-Za-z0-9_./-])/(?=(?:secrets|run|var|opt|tmp)\b)")


@cache
def image() -> tuple[dict[str, str], list[str]]:
    """Environment and entry point of the final stage of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    final = text[text.rindex("\nFROM ") :]
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", final, re.MULTILINE)
    found = [pair for line in re.findall(r"^ENV (.+)$", final, re.MULTILINE) for pair in line.split()]
    return dict(pair.split("=", 1) for pair in found), json.loads(entry)


@dataclass(frozen=True)
class Container:
    """What is started: arguments and environment as they are written, and what is mounted where."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    mounts: dict[str, Path]
    ports: set[int] = field(default_factory=set)
    """Those that the file says the container listens on."""


def in_compose(name: str, volumes: Callable[[str], Path]) -> Container:
    """A service of the compose file; ``volumes`` gives the folder of a named volume."""
    part: Document = compose()["services"][name]
    mounts = {}
    for volume in part.get("volumes", []):
        source, inside, *_ = volume.split(":")
        mounts[inside] = volumes(source)
    environment = {
        key: re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", str(value)) for key, value in part.get("environment", {}).items()
    }
    ports = {int(port.rpartition(":")[2]) for port in part.get("ports", [])}
    return Container(name, list(part["command"]), environment, mounts, ports)


def in_cluster(
    pod: Document, one: Document, maps: Mapping[str, Document], secrets: Mapping[str, Mapping[str, str]], folder: Path
) -> Container:
    """A container of a pod: its volumes are filled from ``secrets``, below ``folder``. Raises ``KeyError``."""
    environment: dict[str, str] = {}
    for source in one.get("envFrom", []):
        environment |= maps[source["configMapRef"]["name"]]["data"]
    environment |= {row["name"]: row["value"] for row in one.get("env", [])}
    places = {}
    for volume in pod["volumes"]:
        places[volume["name"]] = folder / volume["name"]
        (folder / volume["name"]).mkdir(parents=True, exist_ok=True)
        sources = [volume["secret"]] if "secret" in volume else []
        sources += [row["secret"] for row in volume.get("projected", {}).get("sources", [])]
        for source in sources:
            name = source.get("secretName") or source["name"]
            if name not in secrets and source.get("optional"):
                continue
            wanted = source.get("items") or [{"key": key, "path": key} for key in secrets[name]]
            for item in wanted:
                (folder / volume["name"] / item["path"]).write_text(secrets[name][item["key"]])
    mounts = {row["mountPath"]: places[row["name"]] for row in one["volumeMounts"]}
    ports = {row["containerPort"] for row in one.get("ports", [])}
    return Container(one["name"], list(one["args"]), environment, mounts, ports)


class Run:
    """A container that runs, or ran."""

    def __init__(self, container: Container, root: Path, hosts: Mapping[str, str], **beside: str) -> None:
        """``hosts``: address in the container → address here; ``beside``: variables that only this machine needs."""
        shutil.rmtree(root, ignore_errors=True)
        set_there, entry = image()
        self.container, self.root = container, root
        self.listens_on = int(container.environment.get(PORT, set_there[PORT]))
        assert container.ports <= {self.listens_on}, f"{container.name} listens on {self.listens_on}"
        self.port = free_port()
        self._hosts = hosts
        for inside, outside in container.mounts.items():
            at = root / inside.lstrip("/")
            at.parent.mkdir(parents=True, exist_ok=True)
            at.symlink_to(outside)
        (root / "opt/maru").mkdir(parents=True)
        (root / "opt/maru/.venv").symlink_to(sys.prefix)
        (root / "opt/maru/data").symlink_to(ROOT / "data")
        for folder in ("var/lib/maru", "tmp"):
            if not (root / folder).exists():
                (root / folder).mkdir(parents=True)
        self.environment = {key: self._here(value) for key, value in (set_there | container.environment).items()}
        self.environment |= {PORT: str(self.port), "MARU_HOST": "127.0.0.1", "HOME": f"{root}/var/lib/maru"}
        self.environment |= {"TMPDIR": f"{root}/tmp", **beside}
        program = shutil.which(entry[0], path=self.environment["PATH"])
        assert program is not None, f"{entry[0]} is not on the image's PATH"
        self._argv = [program, *entry[1:], *map(self._here, container.arguments)]
        self._log = root / "log"

    def _here(self, text: str) -> str:
        for there, here in self._hosts.items():
            text = re.sub(rf"(?<![A-Za-z0-9.-]){re.escape(there)}(?![0-9.])", here, text)
        return _ABSOLUTE.sub(f"{self.root}/", text)

    @property
    def said(self) -> str:
        """What it wrote to its log."""
        return self._log.read_text(errors="replace")

    def to_its_end(self) -> int:
        """Run it; gives the exit code."""
        with self._log.open("ab") as log:
            code = subprocess.run(
                self._argv, env=self.environment, cwd=self.root, stdout=log, stderr=log, timeout=120, check=False
            ).returncode
        self._leaves_the_image_alone()
        return code

    @contextmanager
    def running(self, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
        """It runs meanwhile; ``seconds``: how long it may take to end, after SIGTERM, with exit code 0."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(self._argv, env=self.environment, cwd=self.root, stdout=log, stderr=log)
        try:
            yield process
            process.terminate()
            assert process.wait(timeout=seconds) == 0, self.said
            self._leaves_the_image_alone()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _leaves_the_image_alone(self) -> None:
        """The root of a container is read-only: nothing may be made where nothing is mounted."""
        assert self.container.mounts.keys() & {"/var/lib/maru"} or not os.listdir(self.root / "var/lib/maru")

    def asks(self, check: list[str]) -> bool:
        """Run a health check of compose, as Docker runs it: in the container, 0 is well."""
        assert check[0] == "CMD"
        own = re.compile(rf"(?<=:){self.listens_on}(?=/)")
        argv = [own.sub(str(self.port), word) for word in check[1:]]
        program = shutil.which(argv[0], path=self.environment["PATH"])
        assert program is not None, argv[0]
        done = subprocess.run([program, *argv[1:]], env=self.environment, capture_output=True, timeout=30, check=False)
        return done.returncode == 0

    def answers(self, probe: Document, one: Document) -> bool:
        """Ask a probe of a manifest: any answer of 2xx and 3xx in time is well."""
        named = {row["name"]: row["containerPort"] for row in one["ports"]}
        at = probe["httpGet"]["port"]
        assert named.get(at, at) == self.listens_on
        return self.status(probe["httpGet"]["path"], probe.get("timeoutSeconds", 1)) in range(200, 400)

    def status(self, path: str, seconds: float = 5) -> int:
        """The status of an answer, 0 where there is none in time."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=seconds) as answer:
                return int(answer.status)
        except HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def read(self, path: str) -> bytes:
        """The body of an answer."""
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return bytes(answer.read())

    def until(self, well: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float) -> None:
        """Wait until it is well; fails where it ends first, or in ``seconds``."""
        end = time.monotonic() + seconds
        while not well():
            assert process.poll() is None, f"{self.container.name} ended with {process.returncode}:\n{self.said}"
            assert time.monotonic() < end, f"{self.container.name} is not well:\n{self.said[-3000:]}"
            time.sleep(0.1)
