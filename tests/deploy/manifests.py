"""What of `deploy/`, `docker-compose.yml` and the `Dockerfile` tests read."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy" / "k8s"

Document = dict[str, Any]


def base() -> list[Document]:
    """Every document of the base, as its kustomization lists the files."""
    listed = yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(p.name for p in (K8S / "base").glob("*.yaml") if p.name != "kustomization.yaml")
    return [
        document
        for name in listed
        for document in yaml.safe_load_all((K8S / "base" / name).read_text(encoding="utf-8"))
    ]


@cache
def rendered() -> list[Document] | None:
    """The overlay as ``kubectl apply -k`` would send it; ``None`` where neither kubectl nor kustomize is there.

    Raises ``AssertionError`` where it cannot be rendered.
    """
    for argv in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(argv[0]) is not None:
            command = [*argv, "deploy/k8s/overlays/ministry"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode == 0:
                return list(yaml.safe_load_all(done.stdout))
            if "unknown command" not in done.stderr:
                raise AssertionError(done.stderr.strip())
    return None


def deployed() -> list[Document]:
    """What the overlay sends; where nothing renders it, the base with the settings that the overlay adds."""
    found = rendered()
    if found is not None:
        return found
    documents = base()
    overlay = yaml.safe_load((K8S / "overlays" / "ministry" / "kustomization.yaml").read_text(encoding="utf-8"))
    (patch,) = [yaml.safe_load(p["patch"]) for p in overlay["patches"] if p["target"]["kind"] == "ConfigMap"]
    settings = next(d for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "maru")
    settings["data"] |= {row["path"].rpartition("/")[2]: row["value"] for row in patch}
    return documents


def of_kind(*kinds: str) -> dict[str, Document]:
    """Documents of the base by name."""
    return {d["metadata"]["name"]: d for d in base() if d["kind"] in kinds}


def containers(workload: Document) -> Iterator[Document]:
    """Every container of a Deployment or a Job."""
    pod = workload["spec"]["template"]["spec"]
    yield from pod.get("initContainers", [])
    yield from pod["containers"]


def compose() -> Document:
    """The compose file."""
    found: Document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return found
