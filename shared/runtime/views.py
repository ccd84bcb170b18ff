"""Where views live: one SQLite file per service, tables by generation, marks beside them, a pointer to the current one.

A view is rebuilt beside the old one and swapped: readers and the follower look at the pointer inside their transaction,
so that no reader ever sees half of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
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
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Engine
from sqlalchemy.pool import QueuePool

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
    Column("epoch", Integer, primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("position", Integer, nullable=False),
)
"""How far each slot is folded. Slot -1 is the scan: up to which inbox ``seq`` (own log: position) all is taken."""
PARKED = Table(
    "view_parked",
    _own,
    Column("view", String, primary_key=True),
    Column("source", String, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("key", String, nullable=False),
    Column("error", Text, nullable=False),
)
_MASTER = Table("sqlite_master", MetaData(), Column("type", String), Column("name", String))
SCAN = -1

Marks = dict[tuple[str, int, int], int]
"""(source, epoch, slot) → position."""


def upsert(db: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Insert a row, or set the given columns of the one with the same primary key.

    Within ``gathered`` it is held back and executed together with others of the same columns.
    """
    pending: Pending | None = db.info.get(_PENDING)
    if pending is None:
        upsert_many(db, table, [values])
    else:
        pending.add(db, table, values)


@dataclass(frozen=True)
class _Upsert:
    """A compiled upsert: its text, the order of its parameters, and what the dialect does to their values."""

    table: Table
    text: str
    order: tuple[str, ...]
    processors: Mapping[str, Callable[[Any], Any]]


_upserts: dict[tuple[str, frozenset[str]], _Upsert] = {}


def upsert_many(db: Connection, table: Table, rows: list[Mapping[str, Any]]) -> None:
    """As ``upsert``, for rows that name the same columns, at once.

    The statement is compiled once and given to the driver: compiling is half of what a single upsert costs.
    """
    if not rows:
        return
    names = frozenset(rows[0])
    known = _upserts.get((table.name, names))
    if known is None or known.table is not table:
        known = _upserts[table.name, names] = _compile_upsert(db, table, names)
    order, processors = known.order, known.processors
    if processors:
        values = [tuple(processors.get(name, _as_is)(row[name]) for name in order) for row in rows]
    else:
        values = [tuple(row[name] for name in order) for row in rows]
    db.exec_driver_sql(known.text, values)


def _compile_upsert(db: Connection, table: Table, names: frozenset[str]) -> _Upsert:
    keys = [column.name for column in table.primary_key]
    statement = insert(table)
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    statement = (
        statement.on_conflict_do_update(index_elements=keys, set_=changed)
        if changed
        else statement.on_conflict_do_nothing(index_elements=keys)
    )
    compiled = statement.compile(dialect=db.dialect, column_keys=sorted(names))
    processors = {
        name: processor
        for name in names
        if (processor := table.columns[name].type.dialect_impl(db.dialect).bind_processor(db.dialect)) is not None
    }
    return _Upsert(table, str(compiled), tuple(compiled.positiontup or ()), processors)


def _as_is(value: Any) -> Any:
    return value


class Pending:
    """Upserts held back; they keep the order of writes to each row, and are flushed before anything is read."""

    def __init__(self) -> None:
        self._groups: dict[tuple[Table, frozenset[str]], list[Mapping[str, Any]]] = {}
        self._held: dict[tuple[Table, tuple[Any, ...]], frozenset[str]] = {}

    def add(self, db: Connection, table: Table, values: Mapping[str, Any]) -> None:
        """Hold an upsert back. A row already held with other columns is written first: order matters there."""
        names = frozenset(values)
        row = (table, tuple(values[column.name] for column in table.primary_key))
        if self._held.setdefault(row, names) != names:
            self.flush(db)
            self._held[row] = names
        self._groups.setdefault((table, names), []).append(values)

    def flush(self, db: Connection) -> None:
        """Write what is held back."""
        groups, self._groups, self._held = self._groups, {}, {}
        for (table, _), rows in groups.items():
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


def _flush_before(db: Connection, *_: Any) -> None:
    """Before any statement: what is held back comes first. The flush's own statements find nothing held."""
    pending: Pending | None = db.info.get(_PENDING)
    if pending is not None:
        pending.flush(db)


def build_tables(view: View, generation: int) -> tuple[Tables, MetaData]:
    """The view's tables under the names of a generation."""
    metadata = MetaData()
    named = Named(view.name, generation, metadata)
    view.tables(named)
    return named.made, metadata


class ViewStore:
    """A service's views file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = _engine(path, "BEGIN IMMEDIATE", 2, -4000)
        self._reader = _engine(path, "BEGIN", 20, -256)
        self._tables: dict[tuple[str, int], Tables] = {}
        self.lock = threading.RLock()
        """Held while this process writes: SQLite has one writer a file, and polling for it wastes time."""

    @staticmethod
    def create(path: Path, views: tuple[View, ...]) -> None:
        """Make the file, and the first generation of each view that has none. Safe to repeat."""
        path.parent.mkdir(parents=True, exist_ok=True)
        store = ViewStore(path)
        with store.write() as db:
            _own.create_all(db)
            for view in views:
                if db.execute(select(POINTER).where(POINTER.c.view == view.name)).first() is None:
                    build_tables(view, 1)[1].create_all(db)
                    upsert(
                        db,
                        POINTER,
                        {"view": view.name, "generation": 1, "version": view.version, "last_generation": 1},
                    )
        store.close()

    def close(self) -> None:
        """Close all connections."""
        self._writer.dispose()
        self._reader.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction; committed at the end, rolled back on an error."""
        with self.lock, self._writer.begin() as db:
            yield db

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one snapshot of all views."""
        with self._reader.connect() as db:
            yield db

    def connect(self) -> Connection:
        """A connection whose read transaction lasts until it is closed."""
        return self._reader.connect()

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

    def scans(self, db: Connection) -> dict[tuple[str, int, str], int]:
        """(view, generation, source) → up to where all is taken."""
        return {(row.view, row.generation, row.source): row.position for row in db.execute(_SCANS)}

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

    def drop_generation(self, view: View, generation: int) -> None:
        """Remove the tables and marks of a generation that nobody points to, also one of another version's tables."""
        with self.write() as db:
            tables = select(_MASTER.c.name).where(
                _MASTER.c.type == "table", _MASTER.c.name.startswith(f"{view.name}_g{generation}_", autoescape=True)
            )
            for name in db.execute(tables).scalars().all():
                db.exec_driver_sql(f'DROP TABLE "{name}"')
            db.execute(delete(MARK).where(MARK.c.view == view.name, MARK.c.generation == generation))
            db.execute(delete(PARKED).where(PARKED.c.view == f"{view.name}@{generation}"))


_SCANS = select(MARK).where(MARK.c.slot == SCAN)
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


def _engine(path: Path, begin: str, size: int, cache: int) -> Engine:
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
