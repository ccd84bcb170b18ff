"""Where views live: a SQLite file or PostgreSQL schema per service, tables by generation, marks, a pointer.

A view is rebuilt beside the old one and swapped: readers and the follower look at the pointer inside their transaction,
so that no reader ever sees half of it.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import POLLIN, poll
from typing import IO, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.util import find_tables

from shared.runtime.declare import Named, Recorded, Tables, View

_own = MetaData()
POINTER = Table(
    "view_pointer",
    _own,
    Column("view", String, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("last_generation", Integer, nullable=False),
)
MARK = Table(
    "view_mark",
    _own,
    Column("view", String, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("source", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
)
"""How far each slot is folded. Slot -1 is the scan: up to which inbox ``seq`` (own log: position) all is taken."""
PARKED = Table(
    "view_parked",
    _own,
    Column("view", String, primary_key=True),
    Column("source", String, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("key", String, nullable=False),
    Column("error", Text, nullable=False),
)
SCAN = -1

Marks = dict[tuple[str, int, int], int]
"""(source, epoch, slot) → position."""


def begins_epoch(marks: Marks, source: str, epoch: int, slot: int, prev: int) -> bool:
    """Whether a record is the first of its epoch in its slot, and what it follows in an older epoch is taken.

    After a restore the older epoch may have been heard beyond the place where the new one goes on.
    """
    older = (at for (of, old, number), at in marks.items() if (of, number) == (source, slot) and old < epoch)
    return (source, epoch, slot) not in marks and 0 < prev <= max(older, default=0)


def upsert(db: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Insert a row, or set the given columns of the one with the same primary key.

    Within ``gathered`` it is held back and executed together with others of the same columns.
    """
    pending: Pending | None = db.info.get(_PENDING)
    if pending is None:
        upsert_many(db, table, [values])
    else:
        pending.add(table, values)


@dataclass(frozen=True)
class _Upsert:
    """A compiled upsert: its text, the order of its parameters, and what the dialect does to their values."""

    table: Table
    text: str
    order: tuple[str, ...]
    processors: Mapping[str, Callable[[Any], Any]]


_upserts: dict[tuple[str, str, frozenset[str]], _Upsert] = {}


def upsert_many(db: Connection, table: Table, rows: list[Mapping[str, Any]]) -> None:
    """As ``upsert``, for different rows that name the same columns, at once.

    The statement is compiled once and given to the driver: compiling is half of what a single upsert costs. PostgreSQL
    gets all rows in one statement, as one array for each column.
    """
    if not rows:
        return
    names = frozenset(rows[0])
    cached = (db.dialect.name, table.name, names)
    known = _upserts.get(cached)
    if known is None or known.table is not table:
        known = _upserts[cached] = _compile_upsert(db, table, names)
    order, processors = known.order, known.processors
    values = [tuple(processors.get(name, _as_is)(row[name]) for name in order) for row in rows]
    if db.dialect.name == "postgresql":
        db.exec_driver_sql(known.text, tuple(map(list, zip(*values, strict=True))))
    else:
        db.exec_driver_sql(known.text, values)


def _compile_upsert(db: Connection, table: Table, names: frozenset[str]) -> _Upsert:
    keys = [column.name for column in table.primary_key]
    order = tuple(sorted(names))
    processors = {
        name: processor
        for name in names
        if (processor := table.columns[name].type.dialect_impl(db.dialect).bind_processor(db.dialect)) is not None
    }
    quote = db.dialect.identifier_preparer.quote
    columns = ", ".join(map(quote, order))
    changed = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in order if name not in keys)
    conflict = f"ON CONFLICT ({', '.join(map(quote, keys))}) DO " + (f"UPDATE SET {changed}" if changed else "NOTHING")
    if db.dialect.name == "postgresql":
        arrays = ", ".join(f"%s::{table.columns[name].type.compile(db.dialect)}[]" for name in order)
        values = f"SELECT * FROM unnest({arrays})"  # noqa: S608 - names of declared tables only
    else:
        values = f"VALUES ({', '.join('?' for _ in order)})"
    return _Upsert(table, f"INSERT INTO {quote(table.name)} ({columns}) {values} {conflict}", order, processors)


def _as_is(value: Any) -> Any:
    return value


class Pending:
    """Upserts held back: those of one row become one; they are written before anything of their table is read."""

    def __init__(self) -> None:
        self._rows: dict[Table, dict[tuple[Any, ...], dict[str, Any]]] = {}

    def add(self, table: Table, values: Mapping[str, Any]) -> None:
        """Hold an upsert back."""
        row = tuple(values[column.name] for column in table.primary_key)
        self._rows.setdefault(table, {}).setdefault(row, {}).update(values)

    def flush(self, db: Connection, tables: Iterable[Any] | None = None) -> None:
        """Write what is held back of these tables, of all where none are given."""
        for table in list(self._rows) if tables is None else set(tables):
            groups: dict[frozenset[str], list[Mapping[str, Any]]] = {}
            for row in self._rows.pop(table, {}).values():
                groups.setdefault(frozenset(row), []).append(row)
            for rows in groups.values():
                upsert_many(db, table, rows)


_PENDING = "maru_pending"


@contextmanager
def gathered(db: Connection) -> Iterator[None]:
    """Hold upserts back within, and write them at the end; a fold that reads sees all of its own writes."""
    pending = db.info[_PENDING] = Pending()
    try:
        yield
        pending.flush(db)
    finally:
        db.info.pop(_PENDING, None)


def _flush_before(db: Connection, statement: Any, *_: Any) -> None:
    """Before any statement: what is held back of its tables comes first. The flush's own are given to the driver."""
    pending: Pending | None = db.info.get(_PENDING)
    if pending is not None:
        # Text names no tables: then everything comes first.
        pending.flush(db, find_tables(statement, **_EVERYWHERE) or None)


_EVERYWHERE = {"check_columns": True, "include_joins": True, "include_selects": True, "include_crud": True}


def build_tables(view: View, generation: int) -> tuple[Tables, MetaData]:
    """The view's tables under the names of a generation."""
    metadata = MetaData()
    named = Named(view.name, generation, metadata)
    view.tables(named)
    return named.made, metadata


class Readings:
    """Read transactions that what is worked off together shares: one a store, opened when first asked for."""

    def __init__(self) -> None:
        self._open: dict[ViewStore, tuple[Connection, dict[str, int]]] = {}

    def db(self, store: ViewStore) -> Connection:
        """A store's read transaction."""
        return self._opened(store)[0]

    def tables(self, store: ViewStore, view: View) -> Tables:
        """The tables of a view's current generation, as the transaction sees it."""
        return store.tables(view, self._opened(store)[1][view.name])

    def close(self) -> None:
        """End the transactions: what is read afterwards is read anew."""
        opened, self._open = self._open, {}
        for db, _ in opened.values():
            try:
                db.close()
            except SQLAlchemyError:
                # The server has gone meanwhile: nothing of what was read depends on how its transaction ended.
                if not db.closed:
                    db.invalidate()

    def _opened(self, store: ViewStore) -> tuple[Connection, dict[str, int]]:
        if store not in self._open:
            db = store.connect()
            try:
                self._open[store] = db, store.generations(db)
            except BaseException:
                db.close()
                raise
        return self._open[store]


@dataclass(frozen=True)
class Standing:
    """Where the views of a service stand."""

    generations: Mapping[str, int]
    """The current one of every view."""
    scans: Mapping[tuple[str, str], int]
    """(view, source) → up to where its current generation has taken all."""
    parked: bool
    """Whether any view has parked a record."""


class RebuildRunning(Exception):
    """Another process is rebuilding this view."""


class ViewStore:
    """A service's views: in a SQLite file (a path), or in a schema of its PostgreSQL database (a URL)."""

    def __init__(self, place: Path | str, schema: str = "views") -> None:
        self.place = place
        self._schema = schema
        if isinstance(place, Path):
            self._writer = _sqlite_engine(place, "BEGIN IMMEDIATE", 2, -4000)
            self._reader = self._glancing = _sqlite_engine(place, "BEGIN", 20, -256)
        else:
            self._writer = _postgres_engine(place, schema, 2, 60)
            self._reader = _postgres_engine(place, schema, 5, 4)
            self._glancing = _postgres_engine(place, schema, 1, 4)
            # With the lock as the first statement, so before the snapshot is taken: see ``drop_generation``.
            locked = "; LOCK TABLE view_pointer IN ACCESS SHARE MODE" if schema == "views" else ""
            begin = f"BEGIN ISOLATION LEVEL REPEATABLE READ{locked}"
            event.listen(self._reader, "begin", lambda db: db.exec_driver_sql(begin))
        self.life = 0
        """How many connections for writing were made: one that was lost may have taken back what was not flushed."""
        if not isinstance(place, Path):
            event.listen(self._writer, "connect", self._connected)
        self._tables: dict[tuple[str, int], Tables] = {}
        self.on_write: list[Callable[[], None]] = []
        self.lock = threading.RLock()
        """Held while this process writes: SQLite has one writer a file, and polling for it wastes time."""

    @staticmethod
    def create(place: Path | str, views: tuple[View, ...]) -> None:
        """Make the first generation of each view that has none. Safe to repeat."""
        if isinstance(place, Path):
            place.parent.mkdir(parents=True, exist_ok=True)
        store = ViewStore(place)
        try:
            with store._transaction() as db:
                _lock_schema(db)
                _own.create_all(db)
                for view in views:
                    if db.execute(select(POINTER).where(POINTER.c.view == view.name)).first() is None:
                        build_tables(view, 1)[1].create_all(db)
                        upsert(
                            db,
                            POINTER,
                            {"view": view.name, "generation": 1, "version": view.version, "last_generation": 1},
                        )
        finally:
            store.close()

    def create_all(self, metadata: MetaData) -> None:
        """Make tables that are no view's (a service's mutable ones). Safe to repeat."""
        with self._transaction() as db:
            _lock_schema(db)
            metadata.create_all(db)

    def close(self) -> None:
        """Close all connections."""
        self._writer.dispose()
        self._reader.dispose()
        self._glancing.dispose()

    def _connected(self, *_: Any) -> None:
        self.life += 1

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction, alone among those that fold; committed at the end, rolled back on an error."""
        with self._transaction("; LOCK TABLE view_pointer IN EXCLUSIVE MODE" if self._schema == "views" else "") as db:
            yield db
        for listener in self.on_write:
            listener()

    @contextmanager
    def _transaction(self, locked: str = "") -> Iterator[Connection]:
        with self.lock, self._writer.begin() as db:
            if db.dialect.name == "postgresql":
                db.exec_driver_sql(f"BEGIN{locked}")
            yield db

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one snapshot of all views."""
        with self._reader.connect() as db:
            yield db

    @contextmanager
    def glance(self) -> Iterator[Connection]:
        """A connection on which each statement is a snapshot of its own, where that saves asking the server twice."""
        with self._glancing.connect() as db:
            yield db

    def connect(self) -> Connection:
        """A connection whose read transaction lasts until it is closed."""
        return self._reader.connect()

    @contextmanager
    def alone_with(self, view: View) -> Iterator[None]:
        """Only one process rebuilds a view at a time. Raises ``RebuildRunning``."""
        refusal = RebuildRunning(f"The view {view.name} is being rebuilt by another process.")
        if isinstance(self.place, Path):
            with self.place.with_name(f"rebuild-{view.name}.lock").open("a") as file:
                _flock(file, refusal)
                yield
            return
        with self._writer.connect() as db:
            name = {"name": f"rebuild {view.name}"}
            if not db.execute(text("SELECT pg_try_advisory_lock(hashtext(:name))"), name).scalar():
                raise refusal
            try:
                yield
            finally:
                db.execute(text("SELECT pg_advisory_unlock(hashtext(:name))"), name)

    def pointer(self, db: Connection, view: View) -> tuple[int, int]:
        """Current generation and version of a view."""
        row = db.execute(_POINTER_OF, {"name": view.name}).one()
        return row.generation, row.version

    def generations(self, db: Connection) -> dict[str, int]:
        """Current generation of every view, by name."""
        return {row.view: row.generation for row in db.execute(_POINTERS)}

    def tables(self, view: View, generation: int) -> Tables:
        """The tables of one generation (made once per process)."""
        key = (view.name, generation)
        if key not in self._tables:
            self._tables[key] = build_tables(view, generation)[0]
        return self._tables[key]

    def marks(self, db: Connection, view: View, generation: int) -> Marks:
        """The marks of a generation."""
        rows = db.execute(select(MARK).where(MARK.c.view == view.name, MARK.c.generation == generation))
        return {(row.source, row.epoch, row.slot): row.position for row in rows}

    def scans(self, db: Connection) -> Standing:
        """Where every view stands."""
        generations: dict[str, int] = {}
        scans: dict[tuple[str, str], int] = {}
        parked = False
        for row in db.execute(_SCANS):
            generations[row.view] = row.generation
            parked = row.parked
            if row.source is not None:
                scans[row.view, row.source] = row.position
        return Standing(generations, scans, parked)

    def set_marks(self, db: Connection, view: View, generation: int, marks: Marks) -> None:
        """Set marks, in the transaction of the effect."""
        for (source, epoch, slot), position in marks.items():
            upsert(
                db,
                MARK,
                {
                    "view": view.name,
                    "generation": generation,
                    "source": source,
                    "epoch": epoch,
                    "slot": slot,
                    "position": position,
                },
            )

    def new_generation(self, view: View) -> int:
        """Reserve a generation beside the current one and make its tables."""
        with self.write() as db:
            last: int = db.execute(select(POINTER.c.last_generation).where(POINTER.c.view == view.name)).scalar_one()
            generation = last + 1
            db.execute(POINTER.update().where(POINTER.c.view == view.name).values(last_generation=generation))
            build_tables(view, generation)[1].create_all(db)
        return generation

    def table_names(self, db: Connection) -> list[str]:
        """Every table there is."""
        return inspect(db).get_table_names()

    def drop_generation(self, view: View, generation: int) -> None:
        """Remove the tables and marks of a generation that nobody points to, also one of another version's tables."""
        with self.write() as db:
            if db.dialect.name == "postgresql":
                # Tables vanish from under a reader's snapshot there: wait for those who have read the old pointer.
                db.exec_driver_sql("LOCK TABLE view_pointer IN ACCESS EXCLUSIVE MODE")
            for name in self.table_names(db):
                if name.startswith(f"{view.name}_g{generation}_"):
                    db.exec_driver_sql(f'DROP TABLE "{name}"')
            db.execute(delete(MARK).where(MARK.c.view == view.name, MARK.c.generation == generation))
            db.execute(delete(PARKED).where(PARKED.c.view == f"{view.name}@{generation}"))


def _flock(file: IO[str], refusal: Exception) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise refusal from None


def _lock_schema(db: Connection) -> None:
    """Processes that migrate at once make each table one after the other."""
    if db.dialect.name == "postgresql":
        db.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('maru migrate views'))")


STORE_DOWN: tuple[type[Exception], ...] = (OperationalError, InterfaceError, PoolTimeout)
"""What a read or a fold raises while the database does not answer."""


TRANSACTION_SECONDS = 60
"""Longest transaction on the views: a rebuild's swap compares two contents within one."""


def store_is_down(error: BaseException, dialect: str) -> bool:
    """Whether a failure is the PostgreSQL server's and no event's: then nothing may be parked for it."""
    return dialect == "postgresql" and isinstance(error, STORE_DOWN)


_SCANS = select(
    POINTER.c.view, POINTER.c.generation, MARK.c.source, MARK.c.position, select(PARKED).exists().label("parked")
).join_from(
    POINTER,
    MARK,
    (POINTER.c.view == MARK.c.view) & (POINTER.c.generation == MARK.c.generation) & (MARK.c.slot == SCAN),
    isouter=True,
)
_POINTERS = select(POINTER.c.view, POINTER.c.generation)
_POINTER_OF = select(POINTER.c.generation, POINTER.c.version).where(POINTER.c.view == bindparam("name"))


def fold_prefix(view: View, events: list[Recorded]) -> tuple[Connection, Tables]:
    """The same fold in memory over some events: what ``as_of`` and ``known_at`` will answer from."""
    tables, metadata = build_tables(view, 0)
    db = create_engine("sqlite://").connect()
    metadata.create_all(db)
    for recorded in events:
        view.fold(db, tables, recorded)
    return db, tables


def _sqlite_engine(path: Path, begin: str, size: int, cache: int) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=60,
        connect_args={"check_same_thread": False, "timeout": 30},
    )

    def connected(connection: Any, _: Any) -> None:
        # The driver must not begin transactions by itself: a deferred one that then writes fails as "locked".
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # Views are rebuilt from log and inbox: a commit lost to a power cut is folded again.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA cache_size={cache}")

    event.listen(engine, "connect", connected)
    event.listen(engine, "before_execute", _flush_before)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _postgres_engine(url: str, schema: str, size: int, seconds: int) -> Engine:
    """``seconds`` is the longest a statement may take.

    The driver begins no transaction by itself: whoever wants one says so with the first lock, in one trip.
    """
    settings = {
        "search_path": schema,
        "statement_timeout": f"{seconds}s",
        "lock_timeout": "20s",
        # The whole of a transaction: a frozen process must not keep others from folding for ever.
        "transaction_timeout": f"{TRANSACTION_SECONDS}s",
        # As with SQLite: a commit that a crash takes back is folded again. It comes with its marks, or not at all.
        # What is no view's comes from nowhere else.
        "synchronous_commit": "off" if schema == "views" else "on",
    }
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=size,
        max_overflow=10,
        pool_timeout=3,
        isolation_level="AUTOCOMMIT",
        connect_args={
            "connect_timeout": 3,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 5000,
            "application_name": "maru",
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        },
    )
    event.listen(engine, "before_execute", _flush_before)
    event.listen(engine, "checkout", _check_open)
    return engine


def _check_open(connection: Any, *_: Any) -> None:
    """A pooled connection that the server has ended is replaced by a new one; asking the server would cost a trip."""
    if not connection.closed:
        # Nothing was asked, so what can be read is the end, or the server's last word before it.
        waiting = poll()
        waiting.register(connection.fileno(), POLLIN)
        if not waiting.poll(0):
            return
    raise DisconnectionError
