"""The Cluster resources against what CloudNativePG documents of each field that they use.

CloudNativePG publishes no schema in a package. The facts below were read from its definition of the resource and from
its documentation, both of release 1.30 (August 2026): a field that does not stand here is refused, until somebody has
looked it up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.deploy.manifests import Document, of_kind

API = "postgresql.cnpg.io/v1"
KINDS = {"Cluster"}
"""Its resources that are used."""


@dataclass(frozen=True)
class Fact:
    """What a field is: its type, the page of the documentation that names it, and what it must be or have."""

    type: str
    page: str
    allowed: tuple[str, ...] = ()
    least: int | None = None
    required: tuple[str, ...] = ()


ROLES = "declarative_role_management"
FACTS = {
    "spec": Fact("object", "cloudnative-pg.v1", required=("instances",)),
    "spec.instances": Fact("integer", "cloudnative-pg.v1", least=1),
    "spec.imageName": Fact("string", "container_images"),
    "spec.bootstrap": Fact("object", "bootstrap"),
    "spec.bootstrap.initdb": Fact("object", "bootstrap"),
    "spec.bootstrap.initdb.database": Fact("string", "bootstrap"),
    "spec.bootstrap.initdb.owner": Fact("string", "bootstrap"),
    "spec.bootstrap.initdb.secret": Fact("object", "bootstrap", required=("name",)),
    "spec.bootstrap.initdb.secret.name": Fact("string", "bootstrap"),
    "spec.bootstrap.initdb.encoding": Fact("string", "bootstrap"),
    "spec.bootstrap.initdb.localeCollate": Fact("string", "bootstrap"),
    "spec.bootstrap.initdb.localeCType": Fact("string", "bootstrap"),
    "spec.managed": Fact("object", ROLES),
    "spec.managed.roles": Fact("array", ROLES),
    "spec.managed.roles[]": Fact("object", ROLES, required=("name",)),
    "spec.managed.roles[].name": Fact("string", ROLES),
    "spec.managed.roles[].ensure": Fact("string", ROLES, allowed=("present", "absent")),
    "spec.managed.roles[].login": Fact("boolean", ROLES),
    "spec.managed.roles[].superuser": Fact("boolean", ROLES),
    "spec.managed.roles[].createdb": Fact("boolean", ROLES),
    "spec.managed.roles[].createrole": Fact("boolean", ROLES),
    "spec.managed.roles[].passwordSecret": Fact("object", ROLES, required=("name",)),
    "spec.managed.roles[].passwordSecret.name": Fact("string", ROLES),
    "spec.postgresql": Fact("object", "postgresql_conf"),
    "spec.postgresql.parameters": Fact("object", "postgresql_conf"),
    # Any parameter of PostgreSQL, always as text; but none that the operator keeps for itself.
    "spec.postgresql.parameters.*": Fact("string", "postgresql_conf"),
    "spec.postgresql.synchronous": Fact("object", "replication", required=("method", "number")),
    "spec.postgresql.synchronous.method": Fact("string", "replication", allowed=("any", "first")),
    "spec.postgresql.synchronous.number": Fact("integer", "replication"),
    "spec.storage": Fact("object", "storage"),
    "spec.storage.size": Fact("quantity", "storage"),
    "spec.walStorage": Fact("object", "storage"),
    "spec.walStorage.size": Fact("quantity", "storage"),
    "spec.resources": Fact("object", "resource_management"),
    "spec.resources.requests": Fact("object", "resource_management"),
    "spec.resources.requests.*": Fact("quantity", "resource_management"),
    "spec.resources.limits": Fact("object", "resource_management"),
    "spec.resources.limits.*": Fact("quantity", "resource_management"),
    "spec.affinity": Fact("object", "scheduling"),
    "spec.affinity.enablePodAntiAffinity": Fact("boolean", "scheduling"),
    "spec.affinity.topologyKey": Fact("string", "scheduling"),
}
FIXED = {"archive_command", "hot_standby", "listen_addresses", "port", "restart_after_crash", "ssl", "ssl_ca_file"}
FIXED |= {"ssl_cert_file", "ssl_key_file", "unix_socket_directories"}
"""Parameters that the operator sets by itself (page postgresql_conf, "Fixed parameters")."""

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "quantity": (str, int),
}
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[KMGTPE]i?|k)?")


def fields(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every field below, with its path; members of lists are ``[]``, free names are ``*``."""
    yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from fields(inner, f"{path}.*" if f"{path}.*" in FACTS else f"{path}.{name}")
    if isinstance(value, list):
        for inner in value:
            yield from fields(inner, f"{path}[]")


def faults(cluster: Document) -> list[str]:
    """What the facts refuse of a resource."""
    found = [f"{name} is no part of a resource" for name in set(cluster) - {"apiVersion", "kind", "metadata", "spec"}]
    for path, value in fields(cluster["spec"], "spec"):
        fact = FACTS.get(path)
        if fact is None:
            found.append(f"{path} is not known")
            continue
        if not isinstance(value, TYPES[fact.type]) or (isinstance(value, bool) and fact.type != "boolean"):
            found.append(f"{path} is no {fact.type}")
            continue
        if fact.type == "quantity" and not QUANTITY.fullmatch(str(value)):
            found.append(f"{path} is no quantity")
        if fact.allowed and value not in fact.allowed:
            found.append(f"{path} may be {' or '.join(fact.allowed)}")
        if fact.least is not None and value < fact.least:
            found.append(f"{path} is less than {fact.least}")
        found += [f"{path} needs {name}" for name in fact.required if name not in value]
    parameters = cluster["spec"].get("postgresql", {}).get("parameters", {})
    found += [f"{name} is set by the operator alone" for name in FIXED & set(parameters)]
    return found


@pytest.mark.parametrize("name", of_kind("Cluster"))
def test_every_field_is_documented_and_of_its_type(name: str) -> None:
    cluster = of_kind("Cluster")[name]
    assert cluster["apiVersion"] == API
    assert faults(cluster) == []


def test_every_fact_is_used_and_no_other_kind_of_the_operator() -> None:
    used = {path for cluster in of_kind("Cluster").values() for path, _ in fields(cluster["spec"], "spec")}
    assert used == set(FACTS)
    kinds = {"Pooler", "Database", "DatabaseRole", "Backup", "ScheduledBackup", "ImageCatalog", *KINDS}
    assert {d["kind"] for d in of_kind(*kinds).values() if d["apiVersion"] == API} == KINDS


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("instances", "3", "spec.instances is no integer"),
        ("instances", True, "spec.instances is no integer"),
        ("instances", 0, "spec.instances is less than 1"),
        ("walstorage", {"size": "1Gi"}, "spec.walstorage is not known"),
        ("storage", {"size": "much"}, "spec.storage.size is no quantity"),
        ("storage", {"sise": "1Gi"}, "spec.storage.sise is not known"),
        ("postgresql", {"parameters": {"max_connections": 200}}, "spec.postgresql.parameters.* is no string"),
        ("postgresql", {"parameters": {"ssl": "off"}}, "ssl is set by the operator alone"),
        (
            "postgresql",
            {"synchronous": {"method": "all", "number": 1}},
            "spec.postgresql.synchronous.method may be",
        ),
        ("postgresql", {"synchronous": {"method": "any"}}, "spec.postgresql.synchronous needs number"),
        ("managed", {"roles": [{"login": True}]}, "spec.managed.roles[] needs name"),
    ],
)
def test_a_planted_fault_is_found(path: str, value: Any, said: str) -> None:
    cluster = of_kind("Cluster")["issues"]
    found = faults({**cluster, "spec": {**cluster["spec"], path: value}})
    assert any(one.startswith(said) for one in found), found
