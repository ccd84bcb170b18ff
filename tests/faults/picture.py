"""A picture of the dashboard: ``python -m tests.faults.picture URL FOLDER FILE MINUTES``.

Prometheus draws it with its own console graphs, from the panels and queries of ``services/dashboard.py``, over its
last minutes; a headless Chromium takes the picture. ``test_alerts.py`` prints URL and FOLDER of its Prometheus.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from services.dashboard import ROWS, Panel

CONSOLE = "dashboard.html"
WIDTH, PANEL_HEIGHT, ROW_HEIGHT = 1500, 220, 42

_HEAD = """<!doctype html><meta charset="utf-8"><title>Maru</title>
<link rel="stylesheet" href="/classic/static/rickshaw/rickshaw.min.css">
<link rel="stylesheet" href="/classic/static/css/prom_console.css">
<script src="/classic/static/d3/d3.min.js"></script>
<script src="/classic/static/rickshaw/rickshaw.min.js"></script>
<script>var PATH_PREFIX = "";</script>
<script src="/classic/static/js/prom_console.js"></script>
<style>
body { font: 13px sans-serif; margin: 8px; width: 1484px }
h2 { font-size: 17px; margin: 10px 4px 4px } h3 { font-size: 13px; margin: 4px 0 2px }
.row { display: flex; flex-wrap: wrap }
.panel { box-sizing: border-box; padding: 4px 10px; height: 220px; overflow: hidden }
.graph { width: 100% } .rickshaw_legend { max-height: 66px; overflow: hidden; font-size: 11px; padding: 2px 6px }
.rickshaw_legend ul { display: flex; flex-wrap: wrap } .rickshaw_legend .line { padding-right: 8px }
</style>
"""


def console(minutes: float) -> str:
    """The dashboard as a console of Prometheus: each panel a graph of the last minutes."""
    parts = [_HEAD]
    number = 0
    for title, panels in ROWS:
        parts.append(f'<h2>{html.escape(title)}</h2><div class="row">')
        for panel in panels:
            number += 1
            parts.append(
                f'<div class="panel" style="width: {100 * panel.width / 24:.3f}%"><h3>{html.escape(panel.title)}</h3>'
                f'<div class="graph" id="graph{number}"></div></div>'
                f"<script>new PromConsole.Graph({{{graph(panel, minutes)},"
                f' node: document.getElementById("graph{number}")}});</script>'
            )
        parts.append("</div>")
    return "\n".join(parts)


def graph(panel: Panel, minutes: float) -> str:
    """What Prometheus's graph is told of a panel, as JavaScript."""
    names = [re.sub(r"\{\{(\w+)\}\}", r"${m.\1}", legend) for _, legend in panel.queries]
    told = {
        "expr": json.dumps([query for query, _ in panel.queries]),
        "name": "[" + ", ".join(f"m => `{name}`" for name in names) + "]",
        "duration": str(minutes * 60),
        "height": "120",
        "min": "0",
        "xTitle": '""',
        "yAxisTicks": "4",
        "yAxisFormatter": "PromConsole.NumberFormatter.humanizeNoSmallPrefix",
    }
    return ", ".join(f"{name}: {value}" for name, value in told.items())


def take(url: str, file: Path) -> None:
    """The picture of a page, by a headless Chromium. Raises ``FileNotFoundError`` where there is none."""
    tool = shutil.which("chromium") or shutil.which("chromium-browser")
    if tool is None:
        raise FileNotFoundError("chromium is not on this machine (Debian: apt-get install chromium)")
    rows = sum(-(-sum(panel.width for panel in panels) // 24) for _, panels in ROWS)
    height = rows * PANEL_HEIGHT + len(ROWS) * ROW_HEIGHT
    argv = [tool, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    argv += [f"--window-size={WIDTH},{height}", "--virtual-time-budget=30000", f"--screenshot={file.absolute()}", url]
    subprocess.run(argv, check=True, capture_output=True, timeout=180)


def main(url: str, folder: Path, file: Path, minutes: float) -> None:
    """Add the console to the folder of a running Prometheus, and take its picture."""
    (folder / CONSOLE).write_text(console(minutes), encoding="utf-8")
    take(f"{url}/consoles/{CONSOLE}", file)
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
