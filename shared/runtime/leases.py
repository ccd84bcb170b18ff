"""Leases: who does a piece of work just now. They only save work; what makes it happen once are marks and command ids.

A lease is a row that its holder prolongs; a dead or frozen holder's runs out in seconds. Each new holder gets a higher
fence. Time is the database server's where there is one, so that clocks of machines need not agree.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from shared.runtime.log import EventLog
from shared.runtime.log_database import Cursor

SECONDS = 4.0
"""Life of a lease that is not prolonged."""


class Leases:
    """The leases that one process holds in one service's database."""

    def __init__(self, log: EventLog, holder: str, seconds: float = SECONDS) -> None:
        self._log = log
        self.holder = holder
        self.seconds = seconds
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()
        self._now = "extract(epoch FROM clock_timestamp())" if log.database.dialect == "postgresql" else None

    def holds(self, name: str) -> bool:
        """Whether this process holds a lease, as far as it knows: asked before each step, costs nothing."""
        return self._until.get(name, 0.0) > time.monotonic()

    def held(self) -> frozenset[str]:
        """The names of all leases that this process holds."""
        now = time.monotonic()
        return frozenset(name for name, until in list(self._until.items()) if until > now)

    def take(self, name: str) -> int | None:
        """Take or prolong a lease; gives its fence while this process holds it. Raises ``Unavailable``."""
        asked = time.monotonic()
        fence: int | None = self._log.run(
            lambda cursor: self._take(cursor, name, self._time(cursor)), durable=False, lock="lease"
        )
        self._note(name, None if fence is None else asked)
        return fence

    def share(self, group: str, names: Sequence[str]) -> frozenset[str]:
        """Take and prolong a fair share of these leases among the processes that ask so for ``group``.

        Gives back what is more than a fair share; takes no more than that of what is free. Raises ``Unavailable``.
        """
        asked = time.monotonic()
        mine: frozenset[str] = self._log.run(
            lambda cursor: self._share(cursor, group, names), durable=False, lock="lease"
        )
        for name in names:
            self._note(name, asked if name in mine else None)
        return mine

    def release(self) -> None:
        """Let go of everything, so that others need not wait for the end of the leases."""
        with self._lock:
            names = list(self._until)
            self._until.clear()

        def let_go(cursor: Cursor) -> None:
            for name in names:
                cursor.execute("UPDATE lease SET until = 0 WHERE name = ? AND holder = ?", (name, self.holder))
            cursor.execute("DELETE FROM member WHERE holder = ?", (self.holder,))

        self._log.run(let_go, durable=False, lock="lease")

    def _note(self, name: str, asked: float | None) -> None:
        with self._lock:
            if asked is None:
                self._until.pop(name, None)
            else:
                # A little earlier than the row says: whoever stops believing first is safe.
                self._until[name] = asked + self.seconds * 0.75

    def _time(self, cursor: Cursor) -> float:
        return time.time() if self._now is None else float(cursor.execute(f"SELECT {self._now}").fetchone()[0])

    def _take(self, cursor: Cursor, name: str, now: float) -> int | None:
        kept = cursor.execute(
            "UPDATE lease SET until = ? WHERE name = ? AND holder = ? AND until > ? RETURNING fence",
            (now + self.seconds, name, self.holder, now),
        ).fetchone()
        if kept is not None:
            return int(kept[0])
        cursor.execute("INSERT INTO lease VALUES (?, '', 0, 0) ON CONFLICT DO NOTHING", (name,))
        holder, fence, until = cursor.execute(
            "SELECT holder, fence, until FROM lease WHERE name = ?", (name,)
        ).fetchone()
        if holder != self.holder and until > now:
            return None
        newer = int(fence) + (holder != self.holder or until <= now)
        cursor.execute(
            "UPDATE lease SET holder = ?, fence = ?, until = ? WHERE name = ?",
            (self.holder, newer, now + self.seconds, name),
        )
        return int(newer)

    def _share(self, cursor: Cursor, group: str, names: Sequence[str]) -> frozenset[str]:
        now = self._time(cursor)
        cursor.execute("DELETE FROM member WHERE grp = ? AND until <= ?", (group, now))
        cursor.execute(
            "INSERT INTO member VALUES (?, ?, ?) ON CONFLICT (grp, holder) DO UPDATE SET until = excluded.until",
            (group, self.holder, now + self.seconds),
        )
        members = [row[0] for row in cursor.execute("SELECT holder FROM member WHERE grp = ?", (group,)).fetchall()]
        # The first in order take one more where it does not divide evenly: together they take all.
        more, fair = len(names) % len(members), len(names) // len(members)
        fair += sorted(members).index(self.holder) < more
        rows = {
            name: (holder, until)
            for name, holder, until in cursor.execute("SELECT name, holder, until FROM lease").fetchall()
        }
        mine = [name for name in names if name in rows and rows[name][0] == self.holder and rows[name][1] > now]
        for name in mine[fair:]:
            cursor.execute("UPDATE lease SET until = 0 WHERE name = ? AND holder = ?", (name, self.holder))
        kept = mine[:fair]
        if kept:
            cursor.execute(
                f"UPDATE lease SET until = ? WHERE name IN ({', '.join('?' for _ in kept)})",  # noqa: S608
                (now + self.seconds, *kept),
            )
        free = [name for name in names if name not in mine and rows.get(name, ("", 0.0))[1] <= now]
        taken = [name for name in free[: fair - len(kept)] if self._take(cursor, name, now) is not None]
        return frozenset(kept + taken)
