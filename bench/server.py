"""The system under measurement, in a process of its own: seeded, no suggestions, no walk. Prints its URL."""

from __future__ import annotations

import json
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from services.__main__ import SERVICES
from services.start import prepare_folder
from shared.runtime import logs, settings
from shared.runtime.system import opened


def main() -> None:
    """Serve the folder given until a line arrives on standard input; each line asks for the state as JSON."""
    folder = Path(sys.argv[1])
    logs.configure("warning", folder / "logs" / "maru.jsonl")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with opened(SERVICES, settings.load(data=folder, port=0)) as system:
        prepare_folder(system)
        print(system.serve(), flush=True)
        for line in sys.stdin:
            if line.strip() == "end":
                break
            state: dict[str, Any] = {
                "idle": system.idle(float(line)),
                "rss": _rss(),
                "cpu": _cpu(),
                "events": {hosted.name: max(hosted.log.heads().values(), default=0) for hosted in system.hosted},
                "threads": threading.active_count(),
            }
            print(json.dumps(state), flush=True)


def _rss() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
