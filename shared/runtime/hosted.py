"""One service, hosted: its files, its loops, its progress; and what its functions may look at."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import structlog
from sqlalchemy import Connection

from shared.contracts.envelope import event_types
from shared.decider import Decider, Refused
from shared.runtime import metrics
from shared.runtime.batch import Batch
from shared.runtime.codec import SLOTS, unseal
from shared.runtime.commands import content_hash, derived_id, prepare, seal_decision
from shared.runtime.databases import Databases
from shared.runtime.declare import Act, Attempt, Recorded, Service, Tables, View
from shared.runtime.directory import DIRECTORY, Directory, DirectoryCache
from shared.runtime.effects import EffectsRunner
from shared.runtime.figures import FiguresReader
from shared.runtime.folding import INBOX, ViewsFollower
from shared.runtime.follow import NeighbourCarrier, ReactionFollower
from shared.runtime.jobs import Answer, IdReused, Lost, Write
from shared.runtime.leases import Leases
from shared.runtime.log import EventLog, Loaded
from shared.runtime.log_database import ANSWERED, CARRIED, FOLDED, STORED, WAITING
from shared.runtime.loops import Loop, Pressure, Progress
from shared.runtime.rebuild import build_new_versions
from shared.runtime.views import Readings
from shared.runtime.watch import Watcher

DUE_SECONDS = 0.5
"""How often the dates that may have passed are looked at."""
PAUSE = 0.05
"""Least seconds between two steps of a loop while nobody waits for it."""
WATCH_PAUSE = 0.2
"""The same for a gateway's look at how far the followers of other processes have come."""
TRIES = 5
"""How often a command that lost its race is decided again."""

logger = structlog.get_logger("maru.host")


class Snapshot:
    """What a handler, a reaction or a due function may look at: one reading of the local tables."""

    def __init__(self, hosted: Hosted, not_before: datetime | None = None, readings: Readings | None = None) -> None:
        """``readings``: shared with others, and closed by whoever opened them."""
        self._hosted = hosted
        self._own = readings is None
        self._readings = readings or Readings()
        self._mutable: Connection | None = None
        self.directory: Directory = hosted.directory()
        now = self.directory.business_time(datetime.now(UTC))
        self.now = now if not_before is None else max(now, not_before)

    @property
    def today(self) -> date:
        """The business day."""
        return self.now.date()

    @property
    def db(self) -> Connection:
        """The views' database, one read transaction; opened when first asked for."""
        return self._readings.db(self._hosted.store)

    @property
    def mutable(self) -> Connection:
        """The tables that may change in place, one read transaction; opened when first asked for."""
        if self._mutable is None:
            if self._hosted.mutable is None:
                raise LookupError(f"{self._hosted.name} has no mutable tables")
            self._mutable = self._hosted.mutable.connect()
        return self._mutable

    @property
    def effects(self) -> frozenset[str]:
        """Names of the outside effects that the settings of this process make possible."""
        return frozenset(self._hosted.attempts)

    def tables(self, view: View) -> Tables:
        """The tables of the view's current generation."""
        return self._readings.tables(self._hosted.store, view)

    def load(self, decider: Decider[Any], id: str) -> tuple[Any, int]:
        """State and version of an own aggregate."""
        loaded = self._hosted.log.load(decider, id)
        return loaded.state, loaded.version

    def close(self) -> None:
        """End the read transactions."""
        if self._own:
            self._readings.close()
        if self._mutable is not None:
            self._mutable.close()
            self._mutable = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Hosted:
    """A service with its log, views and loops in this process."""

    def __init__(
        self,
        service: Service,
        place: Databases | Path,
        pressure: Pressure | None = None,
        attempts: Mapping[str, Attempt] | None = None,
    ) -> None:
        """Open the service's databases, which ``migrate`` has made. Raises ``OtherVersion`` and ``Unavailable``.

        ``attempts``: the outside effects that are configured (``effects.opened``); none unless given.
        """
        self.attempts = attempts or {}
        self.pressure = pressure or Pressure()
        self.databases = databases = Databases.at(place)
        self.service = service
        self.name = service.name
        self.views: tuple[View, ...] = (DIRECTORY, *service.views)
        own = frozenset(service.reactions.by_type)
        self.log = databases.log(service.name, own)
        known = event_types()
        self.answers_itself = any(name not in known or known[name].owning_service == service.name for name in own)
        """Whether it reacts to events of its own: then their answers belong to what a position token waits for."""
        self.store = databases.views(service.name)
        self.mutable = None if service.mutable is None else databases.mutable(service.name)
        self._effects: EffectsRunner | None = None
        self.figures = FiguresReader(service, self.log, self.facts)
        self.progress = Progress()
        self.reached: OrderedDict[tuple[str, tuple[str, ...]], None] = OrderedDict()
        """Position tokens that these views have reached: once is for ever, and clients send them again and again."""
        self._directory = DirectoryCache(self.store)
        self.views_follower = ViewsFollower(service.name, self.views, self.log, self.store, self.progress)
        self.views_follower.on_directory = self._directory.moved
        self.loops: list[Loop] = []
        self._unlisten: Callable[[], None] = lambda: None
        self.listeners: list[Callable[[], None]] = []

    @staticmethod
    def migrate(service: Service, place: Databases | Path) -> None:
        """Make the service's tables; the only place that does. Safe to repeat."""
        Databases.at(place).migrate(service)

    def remember(self, token: tuple[str, tuple[str, ...]]) -> None:
        """A position token that these views have reached."""
        self.reached[token] = None
        while len(self.reached) > 10_000:
            self.reached.popitem(last=False)

    def directory(self) -> Directory:
        """The reference facts heard so far."""
        return self._directory.get()

    @contextmanager
    def reacting(self, heard: Recorded) -> Iterator[Snapshot]:
        """Facts for a reaction: it never records earlier than its cause."""
        snapshot = Snapshot(self, heard.at)
        try:
            yield snapshot
        finally:
            snapshot.close()

    def facts(self) -> Snapshot:
        """What due functions and effects may look at; to be closed."""
        return Snapshot(self)

    def start(self, neighbours: Sequence[Hosted]) -> None:
        """The embedded form: build the views whose version is new, then start carrier, followers and scheduler."""
        build_new_versions(self.log, self.store, self.views)
        heard = [other for other in neighbours if other.name in self.service.hears]
        carrier = NeighbourCarrier(self.log, [other.log for other in heard])
        carry = self._follower("carrier", carrier.step)
        for other in heard:
            other.listeners.append(carry.wake.set)
        self._start_followers([carry], ReactionFollower(self.service, self.log, self.reacting))

    def follow(self, carrier: Callable[[], bool], leases: Leases) -> None:
        """The full form: the same loops on databases that other processes share, under leases.

        ``carrier`` is one step of what fills the inbox. Raises ``RebuildRunning`` while another process builds a view.
        """
        build_new_versions(self.log, self.store, self.views)
        keep = Loop(f"{self.name}-leases", partial(self._keep_leases, leases), leases.seconds / 4)
        # It waits for records by itself, so it does not rest; what comes meanwhile is taken together.
        carry = Loop(f"{self.name}-carrier", carrier, 0.0, pause=PAUSE, progress=self.progress)
        reactions = ReactionFollower(self.service, self.log, self.reacting, partial(_slots_held, leases))
        self.store.on_write.append(partial(self.log.database.notify, FOLDED))
        self._start_followers([keep, carry], reactions, leases)

    def watch(self) -> Watcher:
        """A gateway of the full form: no follower here, so look how far those of other processes have come."""
        self.progress.remote = True
        watcher = Watcher(self.views, self.store, self.progress, self._directory.moved, self.log.database)
        self.log.on_commit.append(self._count)
        watch = Loop(f"{self.name}-watch", watcher.step, 0.25, pause=WATCH_PAUSE, progress=self.progress, yields=True)
        self.loops = [watch]
        hurry = self.progress.somebody_waits
        self._run_loops({FOLDED: [watcher.look, watch.wake.set], ANSWERED: [watch.wake.set], WAITING: [hurry]})
        return watcher

    def _keep_leases(self, leases: Leases) -> bool:
        leases.share("carrier", [f"slot-{slot}" for slot in range(SLOTS)])
        for name in ("views", "due", "effects"):
            leases.take(name)
        return False

    def _follower(self, name: str, step: Callable[[], bool]) -> Loop:
        return Loop(f"{self.name}-{name}", step, pressure=self.pressure, pause=PAUSE, progress=self.progress)

    def _sharing(self, name: str, step: Callable[[], bool]) -> Loop:
        return Loop(f"{self.name}-{name}", step, pause=PAUSE, progress=self.progress, yields=True)

    def _start_followers(self, first: list[Loop], reactions: ReactionFollower, leases: Leases | None = None) -> None:
        follower = self._follower if leases is None else self._sharing
        react = follower("reactions", reactions.step)
        view = follower("views", _under(leases, "views", self.views_follower.step))
        self.loops = [*first, react, view]
        if self.service.due is not None:
            self.loops.append(Loop(f"{self.name}-due", _under(leases, "due", self.fire_due), DUE_SECONDS))
        if self.attempts:
            # Not under the followers' pressure: a step waits for others' servers, and nobody must wait for it.
            mine = (lambda: True) if leases is None else partial(leases.holds, "effects")
            self._effects = EffectsRunner(self, self.attempts, mine=mine)
            self.loops.append(Loop(f"{self.name}-effects", self._effects.step))

        def committed(batch: Batch) -> None:
            if batch.events:
                view.wake.set()
                for listener in self.listeners:
                    listener()
            if batch.inbox_rows:
                react.wake.set()
                view.wake.set()
            self.progress.moved()

        self.log.on_commit.append(committed)
        self.log.on_commit.append(self._count)
        both = [react.wake.set, view.wake.set]
        self._run_loops({STORED: both, CARRIED: both, WAITING: [self.progress.somebody_waits]})

    def _count(self, batch: Batch) -> None:
        """Tell what this process has appended."""
        if batch.events:
            metrics.BATCH_SIZE.labels(self.name).observe(len(batch.events))
            for row in batch.events:
                metrics.APPENDED.labels(self.name, row[3].rpartition(".v")[0]).inc()

    def _run_loops(self, heard: Mapping[str, Sequence[Callable[[], None]]]) -> None:
        """``heard``: what to do at which hint."""

        def hear(word: str) -> None:
            for told in heard.get(word, ()):
                told()

        self._unlisten = self.log.database.listen(hear)
        for loop in self.loops:
            loop.start()

    def end(self) -> None:
        """End the loops. Of every service first, then ``stop``: carriers read the logs of the others."""
        self._unlisten()
        if self._effects is not None:
            self._effects.end()
        for loop in self.loops:
            loop.end()
        for loop in self.loops:
            loop.join(timeout=10)

    def stop(self) -> None:
        """End the loops and close the files."""
        self.end()
        self.log.close()
        self.store.close()
        if self.mutable is not None:
            self.mutable.close()

    def submit(self, act: Act, command_id: str, asked: str) -> Answer:
        """Decide and store one act that no client asked for; waited for, decided again where it lost a race.

        Raises ``Refused`` and ``Lost`` (after five tries).
        """
        for attempt in range(TRIES):
            known = self.log.answered(command_id, asked)
            if known is not None:
                return known
            prepared = prepare(self.log, act, command_id, asked)
            try:
                answers: tuple[Answer, ...] = self.log.submit(Write((prepared,))).result(timeout=30)
            except Lost:
                if attempt == TRIES - 1:
                    raise
            else:
                return answers[0]
        raise Lost(act.stream)

    def fire_due(self) -> bool:
        """Give the command of every date that has passed. The command id, not leadership, makes it happen once."""
        if self.service.due is None:
            return False
        with Snapshot(self) as facts:
            rows = self.service.due(facts)
        fired = False
        for row in rows:
            command_id = derived_id(row.deadline_id, row.due.isoformat())
            if self.log.answered(command_id, command_id) is not None:
                continue
            try:
                self.submit(row.act, command_id, command_id)
            except Refused as refusal:
                # Somebody acted meanwhile; the view drops the row when it hears of it.
                logger.info("due row refused", service=self.name, deadline=row.deadline_id, rule=refusal.rule)
            else:
                metrics.DUE_FIRED.labels(self.name).inc()
                fired = True
        return fired

    def seed(self, data: Path, at: datetime) -> Iterable[tuple[str, Literal["new", "known", "changed"]]]:
        """Load the reference data as acts, idempotently: external ids are command ids. Yields each and what it is.

        ``changed`` rows were loaded before with other content: facts are not rewritten, another dated row is needed.
        Acts are decided on top of those still under way, so that many share a commit.
        """
        ahead: dict[str, Loaded] = {}
        futures: list[Future[Any]] = []
        for external, act in [] if self.service.seed is None else self.service.seed(data, at):
            command_id = derived_id("seed", self.name, external)
            asked = content_hash(act.stream, act.command.model_dump(mode="json", exclude={"at", "by", "authority"}))
            try:
                if self.log.answered(command_id, asked) is not None:
                    yield external, "known"
                    continue
            except IdReused:
                yield external, "changed"
                continue
            loaded = ahead.get(act.stream) or self.log.load(act.decider, act.id)
            prepared = seal_decision(self.log, act, loaded, command_id, asked)
            state, last_hash = loaded.state, loaded.last_hash
            for event in prepared.events:
                envelope, fact = unseal(event.raw)
                state, last_hash = act.decider.evolve(state, fact), envelope.hash
            ahead[act.stream] = Loaded(state, loaded.version + len(prepared.events), last_hash, act.command.at, 0)
            futures.append(self.log.submit(Write((prepared,))))
            yield external, "new"
        for future in futures:
            future.result(timeout=60)

    def is_idle(self, neighbours: Sequence[Hosted]) -> bool:
        """Whether everything stored so far has been carried, answered and folded (parked rows apart)."""
        waiting = self.log.query("SELECT COUNT(*) FROM inbox WHERE state = 'waiting'")[0][0]
        if waiting:
            return False
        if not all(self._has_heard(other.log) for other in neighbours if other.name in self.service.hears):
            return False
        last = self.log.last_position()
        last_inbox = self.log.query("SELECT COALESCE(MAX(seq), 0) FROM inbox")[0][0]
        with self.store.read() as db:
            scans = self.store.scans(db).scans
        return all(
            scans.get((view.name, source), 0) >= reached
            for view in self.views
            for source, reached in ((self.name, last), (INBOX, last_inbox))
        )

    def _has_heard(self, source: EventLog) -> bool:
        """Whether every slot's last event is answered: by its own epoch, which need not be the log's newest."""
        heads, marks = source.heads(), self.log.marks()
        begun = source.query("SELECT epoch, after_position FROM epochs")
        for slot, head in heads.items():
            epoch = max(epoch for epoch, after in begun if after < head)
            if marks.get((source.service, epoch, slot), 0) < head:
                return False
        return True


def _under(leases: Leases | None, name: str, step: Callable[[], bool]) -> Callable[[], bool]:
    """A step that does nothing while another process holds the lease."""
    return step if leases is None else lambda: leases.holds(name) and step()


def _slots_held(leases: Leases) -> frozenset[int]:
    return frozenset(int(name.removeprefix("slot-")) for name in leases.held() if name.startswith("slot-"))


def wait_idle(hosted: Sequence[Hosted], seconds: float = 30) -> bool:
    """Wait until the whole system is idle; says whether it came to that."""
    end = time.monotonic() + seconds
    with ExitStack() as hurry:
        for one in hosted:
            hurry.enter_context(one.progress.hurried())
        while time.monotonic() < end:
            if all(one.is_idle(hosted) for one in hosted) and all(one.is_idle(hosted) for one in hosted):
                return True
            time.sleep(0.01)
    return False
