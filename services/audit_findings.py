"""What an audit finds: checks that hold or name the first thing that breaks them, and what is told beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Check:
    """One promise: how many things were looked at, and the first that broke it."""

    name: str
    promise: str
    count: int = 0
    failure: str | None = None

    def expect(self, holds: bool, else_: str) -> None:
        """Count one thing; remember the first that does not hold."""
        self.count += 1
        if not holds and self.failure is None:
            self.failure = else_


@dataclass(frozen=True)
class Reported:
    """Something that breaks no promise of its own and yet must not pass in silence: where, what, how many."""

    where: str
    what: str
    count: int


@dataclass
class Findings:
    """What an audit found: ``clean`` (exit 0), ``broken`` (1) or ``not idle`` (2), with every check."""

    folder: str
    """What was audited: the data folder, or the databases' URL without its password."""
    outcome: str
    events: int = 0
    checks: list[Check] = field(default_factory=list)
    reported: list[Reported] = field(default_factory=list)
    """Rejected records by cause, parked rows by cause, copies of what a restore took from their source."""
    waiting_for: str | None = None
    """What kept the system from being idle."""

    @property
    def exit_code(self) -> int:
        """0 clean, 1 a promise is broken, 2 not idle in time."""
        return {"clean": 0, "broken": 1}.get(self.outcome, 2)

    @property
    def broken(self) -> list[Check]:
        """The broken promises, the first first."""
        return [check for check in self.checks if check.failure is not None]

    def document(self) -> dict[str, Any]:
        """The machine form, for ``--json``."""
        first = self.broken[0] if self.broken else None
        return {
            "folder": self.folder,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "events": self.events,
            "waiting_for": self.waiting_for,
            "first": None if first is None else asdict(first),
            "checks": [asdict(check) for check in self.checks],
            "reported": [asdict(one) for one in self.reported],
        }

    def sentence(self) -> str:
        """The findings as a person reads them: a line a check, the first broken promise last."""
        lines = [
            f"{'ok  ' if check.failure is None else 'FAIL'} {check.name:<26} {check.count:>8}  {check.promise}"
            for check in self.checks
        ]
        lines += [f"told {one.where:<26} {one.count:>8}  {one.what}" for one in self.reported]
        if self.outcome == "not idle":
            lines.append(f"Not idle: {self.waiting_for}.")
        elif self.broken:
            lines.append(f"First broken promise: {self.broken[0].name}: {self.broken[0].failure}.")
        else:
            lines.append(f"Clean: {self.events} events, {len(self.checks)} checks.")
        return "\n".join(lines)


class NoData(Exception):
    """The folder holds no databases of Maru, or there is no such journal."""
