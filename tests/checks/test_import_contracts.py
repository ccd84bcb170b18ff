"""Import contracts: a rule over nothing always passes, so each must find a violation that is planted for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Set
from configparser import ConfigParser

import pytest

from services.__main__ import SERVICES
from shared.runtime.settings import ROOT

PLANTED = {
    "services": ("services/issues/api.py", "from services.routing import case"),
    "shared": ("shared/runtime/codec.py", "from services.issues import issue"),
    "program": ("services/meetings/api.py", "from services import client"),
    "domain": ("services/routing/case.py", "import sqlalchemy"),
    "issues": ("services/issues/issue.py", "from services.issues import api"),
    "routing": ("services/routing/tables.py", "from services.routing import reactions"),
    "meetings": ("services/meetings/views/work_plan.py", "from services.meetings import reactions"),
    "notifications": ("services/notifications/wording/__init__.py", "from services.notifications import channels"),
    "eventsourcing": ("shared/runtime/views.py", "import eventsourcing"),
    "prometheus": ("services/issues/api.py", "import prometheus_client"),
    "aiokafka": ("shared/runtime/follow.py", "import aiokafka"),
    "faust": ("shared/runtime/follow.py", "import faust"),
    "opentelemetry": ("shared/runtime/follow.py", "import opentelemetry.trace"),
}
"""Contract → a file, and the line in it that breaks the contract."""

CONTRACTS = ConfigParser()
CONTRACTS.read(ROOT / ".importlinter", encoding="utf-8")


def contract(name: str) -> dict[str, str]:
    return dict(CONTRACTS[f"importlinter:contract:{name}"])


def listed(name: str, option: str) -> set[str]:
    return set(contract(name)[option].split())


def modules(folder: str, without: Set[str] = frozenset()) -> set[str]:
    """The modules and packages that stand directly in a folder."""
    found = {path.stem for path in (ROOT / folder).glob("*.py")} | {
        path.parent.name for path in (ROOT / folder).glob("*/__init__.py")
    }
    return found - {"__init__"} - without


def test_every_contract_has_a_planted_violation() -> None:
    names = {section.rpartition(":")[2] for section in CONTRACTS.sections() if ":contract:" in section}
    assert names == set(PLANTED)


def test_no_service_and_no_domain_file_is_left_out() -> None:
    services = {f"services.{service.name}" for service in SERVICES}
    assert listed("services", "modules") == services
    assert listed("program", "source_modules") == services
    assert listed("domain", "source_modules") == {
        decider.decide.__module__ for service in SERVICES for decider in service.deciders
    }
    program = {f"services.{name}" for name in modules("services", {service.name for service in SERVICES})}
    assert listed("program", "forbidden_modules") == program


@pytest.fixture(scope="module")
def planted_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What lint-imports says of a copy with all violations planted."""
    copy = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / ".importlinter", copy)
    for folder in ("services", "shared"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, line in PLANTED.values():
        path = copy / file
        path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, env={"COLUMNS": "200"})
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_violation_is_found(planted_report: str, name: str) -> None:
    assert f"{contract(name)['name']} BROKEN" in planted_report
