"""Holds what operators load to Prometheus's own tool: configuration, rules with their unit tests, dashboard queries.

``promtool`` is looked for beside this Python and on the PATH; ``make check`` fetches it from Debian's package where
that is to be had. Where it is not there, that is said, and nothing counts as checked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from services.dashboard import expressions
from shared.runtime.settings import ROOT

NOT_RUN = "promtool: not run: it is not on this machine (Debian: apt-get install prometheus)"


def found() -> str | None:
    """Where promtool is, if it is anywhere."""
    return shutil.which(
        "promtool", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )


def as_rules(queries: list[str]) -> str:
    """Queries as a file of recording rules, which promtool can parse; JSON is YAML."""
    rules = [{"record": f"maru:query_{number}", "expr": query} for number, query in enumerate(queries)]
    return json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}, indent=1)


def check(tool: str, folder: Path, queries: list[str]) -> list[str]:
    """What promtool finds wrong with a folder of configuration and with queries; one text a failing command."""
    with TemporaryDirectory() as made:
        rules = Path(made) / "queries.yml"
        rules.write_text(as_rules(queries), encoding="utf-8")
        commands = [
            ["check", "config", "prometheus.yml"],
            ["check", "rules", "alerts.yml", "cluster.yml", str(rules)],
            ["test", "rules", "alerts.test.yml", "cluster.test.yml"],
        ]
        failed = []
        for command in commands:
            done = subprocess.run(  # noqa: S603
                [tool, *command], cwd=folder, capture_output=True, text=True, check=False, timeout=120
            )
            if done.returncode:
                failed.append(f"promtool {' '.join(command[:2])} failed:\n{done.stdout}{done.stderr}")
    return failed


def main() -> int:
    """Say what was found; 1 where something is wrong, 0 where all is right or nothing could be run."""
    tool = found()
    if tool is None:
        sys.stdout.write(NOT_RUN + "\n")
        return 0
    queries = expressions()
    failed = check(tool, ROOT / "deploy/prometheus", queries)
    sys.stdout.writelines(failed or [f"promtool: configuration, rules, their tests and {len(queries)} queries hold\n"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
