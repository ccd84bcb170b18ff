"""``deploy/k8s/base/alerts.yaml``: the rules of ``deploy/prometheus`` as the resource that a cluster reads."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

SOURCES = ("deploy/prometheus/alerts.yml", "deploy/prometheus/cluster.yml")
"""The rules of the system, and those that only a cluster can tell."""
RUNBOOKS = "docs.maru.example"
"""The host whose pages ``/runbooks/NAME`` are those of ``docs/runbooks``; an overlay names the ministry's own."""

_HEAD = f"""\
# Made by `make generate` from {" and ".join(SOURCES)}; never edited by hand.
# An overlay puts the host of its runbooks into the annotation, and from there into each address.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: maru
  namespace: maru
  annotations: {{maru.example/runbooks: {RUNBOOKS}}}
spec:
  groups:
"""


def cluster_alerts(root: Path) -> str:
    """The text of the resource. Raises ``ValueError`` where a source has no line ``groups:``."""
    groups = []
    for path in SOURCES:
        _, found, rules = (root / path).read_text(encoding="utf-8").partition("\ngroups:\n")
        if not found:
            raise ValueError(f"{path} has no line groups:")
        groups.append(indent(rules, "  "))
    return _HEAD + "".join(groups).replace("runbook_url: docs/runbooks/", f"runbook_url: https://{RUNBOOKS}/runbooks/")
