"""Many writers on one case at once, each with the version that it has read."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from services.client import Problem
from tests.faults.load import Client, Tally, in_work, report
from tests.faults.system import Disturbed


@dataclass
class Counts:
    """Winners of each round, and how the losers were answered."""

    wins: list[int] = field(default_factory=list)
    losses: Counter[int] = field(default_factory=Counter)

    def text(self) -> str:
        """In one line."""
        losses = ", ".join(f"{number} x {status}" for status, number in sorted(self.losses.items()))
        return f"{len(self.wins)} rounds, {sum(self.wins)} wins, losers {losses}"


def rounds(system: Disturbed, writers: int, rounds: int) -> Counts:
    """So many writers report on one case with the same ``If-Match``, so many times."""
    counts = Counts()
    clients: list[Client] = [system.client("R16", Tally()) for _ in range(writers)]
    try:
        case_id = in_work(clients[0])
        for client in clients:
            client.positions.update(clients[0].positions)
        for number in range(rounds):
            path = f"/v1/cases/{case_id}"
            version = clients[0].office("planning-group.secretary").version(path)
            gate = threading.Barrier(writers)

            def write(
                place: int, gate: threading.Barrier = gate, version: int = version, number: int = number
            ) -> tuple[int, str]:
                clients[place].token("dept-road.reviewer")
                gate.wait(60)
                try:
                    done = report(clients[place], case_id, f"{number}차 보고 {place}", version)
                except Problem as problem:
                    return problem.status, ""
                return 200, done.position

            with ThreadPoolExecutor(writers) as pool:
                outcomes = list(pool.map(write, range(writers)))
            counts.wins.append(sum(status == 200 for status, _ in outcomes))
            counts.losses.update(status for status, _ in outcomes if status != 200)
            for status, position in outcomes:
                if status == 200:
                    # The next round reads what this one wrote.
                    clients[0].positions[position.rpartition(":")[0]] = position
    finally:
        for client in clients:
            client.close()
    return counts
