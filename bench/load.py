"""Loads over HTTP: closed loop, open loop, command to visible. Each checks what it was answered before it counts."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from bench.http import Answer, Connection

OFFICE = "planning-group.secretary"
BODY = {
    "title": "국도 확장 건의",
    "text": "관광객이 늘어 정체가 심하니 국도를 4차로로 넓혀 주시기를 건의합니다.",
    "regions": ["gangwon"],
    "raised_by": "org-gangwon-hongcheon",
    "channel": "letter",
    "plan_item": "P3-2",
    "tags": ["road"],
    "cost_band": "above_c",
}


@dataclass
class Seen:
    """What a load saw: seconds from the scheduled time to the answer, and whatever was not as it should be."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """A percentile in seconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


async def headers_for(url: str, office: str = OFFICE) -> dict[str, str]:
    """The headers of an office; the token comes from the development issuer at ``url``."""
    connection = await Connection.open(url)
    token = (await connection.ask("GET", f"/dev/token/{office}", {})).json()["token"]
    await connection.close()
    return {"Authorization": f"Bearer {token}", "Maru-Office": office}


async def raise_issue(connection: Connection, headers: dict[str, str]) -> Answer:
    """One ``RaiseIssue``."""
    return await connection.ask("POST", "/v1/issues", {**headers, "Idempotency-Key": uuid.uuid4().hex}, BODY)


async def closed_loop(url: str, connections: int, seconds: float, issuer: str | None = None) -> tuple[float, Seen]:
    """``RaiseIssue`` as fast as the answers come; gives accepted commands a second."""
    headers = await headers_for(issuer or url)
    seen, end = Seen(), time.perf_counter() + seconds

    async def worker() -> None:
        connection = await Connection.open(url)
        while (started := time.perf_counter()) < end:
            answer = await raise_issue(connection, headers)
            if answer.status != 201:
                seen.wrong.append(answer.body.decode(errors="replace")[:200])
            seen.seconds.append(time.perf_counter() - started)
        await connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    return (len(seen.seconds) - len(seen.wrong)) / (time.perf_counter() - started), seen


async def open_loop(
    url: str, rate: float, seconds: float, *, visible: bool, connections: int = 32, issuer: str | None = None
) -> Seen:
    """``RaiseIssue`` at a fixed rate; times count from the scheduled instant, so that waiting in line is counted.

    With ``visible`` each is followed by the GET of the register that must show it; the time ends there.
    """
    headers = await headers_for(issuer or url)
    seen = Seen()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await Connection.open(url))

    async def one(scheduled: float) -> None:
        connection = await free.get()
        try:
            answer = await raise_issue(connection, headers)
            if answer.status != 201:
                seen.wrong.append(answer.body.decode(errors="replace")[:200])
            elif visible:
                told: Any = answer.json()
                shown = await connection.ask(
                    "GET", f"/v1/issues/{told['id']}", {**headers, "Maru-Position": told["position"]}
                )
                if shown.status != 200 or shown.json()["id"] != told["id"]:
                    seen.wrong.append(shown.body.decode(errors="replace")[:200])
            seen.seconds.append(time.perf_counter() - scheduled)
        finally:
            free.put_nowait(connection)

    started = time.perf_counter()
    tasks = []
    for number in range(int(rate * seconds)):
        scheduled = started + number / rate
        delay = scheduled - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(one(scheduled)))
    await asyncio.gather(*tasks)
    while not free.empty():
        await free.get_nowait().close()
    return seen
