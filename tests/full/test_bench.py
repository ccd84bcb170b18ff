"""The bench of the full form still runs: it makes its own events, which follow the envelope by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.faults


def test_the_relays_figure_is_given() -> None:
    argv = [sys.executable, "-m", "bench", "--full", "--quick", "b4"]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr
    assert "ours / ProducerPerformance" in ran.stdout
