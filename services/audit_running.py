"""I12: no loop of a running system is silently dead, and what its gauges say is what the databases say."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import httpx

from services.audit_book import HEARS, Files
from services.audit_findings import Check
from shared.runtime.databases import Databases

_SAMPLE = re.compile(r"^(maru_[a-z_]+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
HEARTBEAT = "maru_loop_heartbeat_seconds"
BEAT_SECONDS = 30.0
LOOPS = ("carrier", "reactions", "views")
"""Loops that every service has somewhere. A relay is judged by its readiness and by its lag."""
RELAY_LAG = "maru_relay_lag_events"

Sample = tuple[str, frozenset[tuple[str, str]]]
Processes = Mapping[str, httpx.Client]


def check_running(where: Databases | Path, urls: Sequence[str], checks: list[Check], *, relayed: bool = False) -> None:
    """Ask every process of a system; together they must have every loop and tell every gauge."""
    ready = Check("ready", "I12 every process says that it is ready")
    beats = Check("heartbeats", "I12 every loop has turned within 30 s")
    lag = Check("lag", "I12 the lag gauges agree with the databases")
    checks += [ready, beats, lag]
    with ExitStack() as opened:
        answering: dict[str, httpx.Client] = {}
        for url in urls:
            http = opened.enter_context(httpx.Client(base_url=url, timeout=10))
            try:
                status = http.get("/readyz").status_code
            except httpx.HTTPError as error:
                ready.expect(False, f"{url} does not answer: {type(error).__name__}")
                continue
            ready.expect(status == 200, f"{url}/readyz answers {status}")
            answering[url] = http
        if not answering:
            return
        try:
            _check_beats(answering, beats)
            _check_lag(answering, where, lag, relayed)
        except httpx.HTTPError as error:
            ready.expect(False, f"a process answers no longer: {type(error).__name__}")


def _check_beats(processes: Processes, check: Check) -> None:
    first = _beats(processes)
    loops = {f"{service}-{loop}" for service in HEARS for loop in LOOPS} | {loop for _, loop in first}
    # A loop that runs in several processes must turn in each of them; one that was never heard of is missed by name.
    still = set(first) | {("", loop) for loop in loops - {loop for _, loop in first}}
    end = time.monotonic() + BEAT_SECONDS
    while still and time.monotonic() < end:
        now = _beats(processes)
        still = {one for one in still if one not in now or now[one] <= first.get(one, 0.0)}
        still -= {("", loop) for _, loop in now}
        if still:
            time.sleep(0.1)
    silent: dict[str, list[str]] = defaultdict(list)
    for url, loop in sorted(still):
        silent[loop].append(url)
    for loop in sorted(loops):
        at = " and ".join(filter(None, silent[loop]))
        check.expect(
            loop not in silent or not silent[loop],
            f"the loop {loop} has not turned for {BEAT_SECONDS:.0f} s{f' at {at}' if at else ''}",
        )


def _beats(processes: Processes) -> dict[tuple[str, str], float]:
    return {
        (url, dict(labels)["loop"]): value
        for url, http in processes.items()
        for (name, labels), value in _samples(http).items()
        if name == HEARTBEAT
    }


def _samples(http: httpx.Client) -> dict[Sample, float]:
    found = {}
    for line in http.get("/metrics").text.splitlines():
        match = _SAMPLE.match(line)
        if match is not None:
            found[match[1], frozenset(_LABEL.findall(match[2] or ""))] = float(match[3])
    return found


def _check_lag(processes: Processes, where: Databases | Path, check: Check, relayed: bool) -> None:
    told: dict[Sample, list[tuple[str, float]]] = {}
    stored: dict[Sample, float] = {}
    for _ in range(10):
        stored = _stored(where, relayed)
        told = defaultdict(list)
        for url, http in processes.items():
            for sample, value in _samples(http).items():
                told[sample].append((url, value))
        if stored == _stored(where, relayed) and all(_agree(told.get(one, []), value) for one, value in stored.items()):
            break  # nothing moved between, and a gauge may be a step behind
    for (name, labels), value in stored.items():
        what = f"{name} of {', '.join(sorted(label[1] for label in labels))}"
        said = told.get((name, labels), [])
        check.expect(bool(said), f"no process tells {what}")
        if name == RELAY_LAG and any(one == value for _, one in said):
            continue  # of two relays only the one that has the lease knows it
        for url, one in said:
            check.expect(one == value, f"{what} says {one} at {url}, the databases say {value}")


def _agree(said: Sequence[tuple[str, float]], value: float) -> bool:
    return bool(said) and all(one == value for _, one in said)


def _stored(where: Databases | Path, relayed: bool) -> dict[Sample, float]:
    found: dict[Sample, float] = {}
    with closing(Files(where, relayed=relayed)) as files:
        for service in HEARS:
            own = frozenset({("service", service)})
            for state in ("waiting", "parked"):
                for (number,) in files.logs[service].rows("SELECT COUNT(*) FROM inbox WHERE state = ?", state):
                    found[f"maru_inbox_{state}", own] = number
            last = files.last(service)
            found["maru_log_position", own] = last
            if relayed:
                found[RELAY_LAG, own] = last - files.relay(service)
            for view, generation in files.generations(service).items():
                scan = files.view_marks(service, view, generation).get((service, 0, -1), 0)
                found["maru_view_behind_events", own | {("view", view)}] = last - scan
    return found
