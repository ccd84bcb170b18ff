"""The image, the compose file and the manifests against the program and the typed table that they deploy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from services import cli
from services.__main__ import SERVICES
from services.demonstration import make
from shared.contracts.topics import MAX_MESSAGE_BYTES, TOPICS
from shared.runtime.settings import Settings, load
from tests.deploy.manifests import K8S, ROOT, Document, base, compose, containers, of_kind

HEARS = {service.name: set(service.hears) for service in SERVICES}
KINDS = ("gateway", "relay", "follower")
PROCESSES = {f"{name}-{kind}" for name in HEARS for kind in KINDS} | {"observer"}
TOPIC = {topic.service: topic.name for topic in TOPICS}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MARU_{name.upper()}", raising=False)


def is_command(arguments: list[str]) -> bool:
    """Whether ``maru`` takes these arguments; it is not started."""
    program = typer.main.get_command(cli.app)
    command = program.commands.get(arguments[0])  # type: ignore[attr-defined]
    if command is None:
        return False
    command.make_context(arguments[0], list(arguments[1:]))
    return all(word in HEARS for word in arguments[1:] if not word.startswith("/"))


# The image


def test_the_image_is_of_one_base_without_root_and_without_what_builds() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    first, last = [at for at, line in enumerate(lines) if line.startswith("FROM ")]
    assert lines[first] == "FROM ${PYTHON}${DIGEST} AS build"
    assert lines[last] == "FROM ${PYTHON}${DIGEST}"
    named = {line for line in lines if line.startswith("ARG ")}
    assert named == {"ARG PYTHON=python:3.11.16-slim-bookworm", "ARG DIGEST="}
    final = "\n".join(lines[last:])
    assert "\nUSER 10001:10001\n" in final
    assert '\nENTRYPOINT ["maru"]\n' in final
    assert "pip uninstall --yes pip" in final
    assert "apt-get" not in "\n".join(lines)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {word.strip("./") for line in lines for word in line.split()[1:-1] if line.startswith("COPY ")}
    assert copied - {"--from=build", "opt/maru"} == {line[1:] for line in ignored if line.startswith("!")}


def test_the_image_sets_settings_that_are() -> None:
    found = re.findall(r"MARU_([A-Z_]+)=", (ROOT / "Dockerfile").read_text())
    assert {name.lower() for name in found} == {"host", "port", "data", "reference"} <= set(Settings.model_fields)


# Compose

PARTS: dict[str, Document] = compose()["services"]
OURS = {name: part for name, part in PARTS.items() if str(part["image"]).startswith("maru:")}


def test_every_part_is_in_the_compose_file() -> None:
    assert set(OURS) >= PROCESSES | {"issuer", "topics", "secrets"} | {f"migrate-{name}" for name in HEARS}
    for name in PROCESSES:
        assert "/readyz" in str(PARTS[name]["healthcheck"]["test"]), name


@pytest.mark.parametrize("name", OURS)
def test_a_command_of_compose_is_one(name: str) -> None:
    assert is_command(OURS[name]["command"]), OURS[name]["command"]
    assert OURS[name]["read_only"] is True
    assert OURS[name]["cap_drop"] == ["ALL"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets") / "all"
    make(folder, list(HEARS))
    return folder


def parsed(environment: dict[str, Any], folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of an environment, with the folders that a container would see in their places."""
    for name, value in environment.items():
        text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", str(value))
        for inside, outside in folders.items():
            text = re.sub(rf"{inside}(?=[/:]|$)", str(outside), text)
        if name.startswith("MARU_"):
            assert name.removeprefix("MARU_").lower() in Settings.model_fields, name
        monkeypatch.setenv(name, text)
    return load()


@pytest.mark.parametrize("name", OURS)
def test_the_environment_of_compose_is_taken(name: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = OURS[name]
    folders = {}
    for volume in part.get("volumes", []):
        source, inside, *_ = volume.split(":")
        if source.startswith("secrets-") and name != "secrets":
            folders[inside] = made / source.removeprefix("secrets-")
    settings = parsed(part.get("environment", {}), folders, monkeypatch)
    kind = part["command"][0]
    if kind in ("serve", "relay", "follow", "migrate", "seed", "issuer"):
        service = "routing" if kind == "issuer" else part["command"][1]
        assert settings.database is not None
        assert f"@postgres:5432/{service}" in settings.database.get_secret_value()
    assert (settings.kafka is not None) == (kind in ("relay", "follow", "observe", "topics"))
    assert (settings.kafka_protocol == "ssl") == (settings.kafka is not None)
    assert settings.development == (kind in ("serve", "issuer")), "the development issuer is named where it is meant"
    assert (settings.database_admin is not None) == (kind == "migrate"), "nobody but who migrates is an owner"


def test_who_waits_for_whom() -> None:
    def waits(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in PARTS[name].get("depends_on", {}).items()}

    done = "service_completed_successfully"
    for name in HEARS:
        assert waits(f"migrate-{name}") == {"postgres": "service_healthy"}
        for kind in KINDS:
            before = {other for other, how in waits(f"{name}-{kind}").items() if how == done}
            assert before & {f"migrate-{name}", f"seed-{name}"}
            assert ("acls" in before) == (kind != "gateway")
    assert waits("topics") == {"kafka": "service_healthy"}
    assert waits("acls") == {"topics": done}
    assert all(waits(name) == {"secrets": done} for name in ("postgres", "kafka"))


def test_images_have_exact_tags_and_data_lies_where_postgresql_wants_it() -> None:
    for name, part in PARTS.items():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?", part["image"]), name
    assert "postgres:/var/lib/postgresql" in PARTS["postgres"]["volumes"]
    assert PARTS["kafka"]["image"] == PARTS["acls"]["image"] == "apache/kafka:4.3.1"


def test_every_image_is_in_the_list_of_what_was_looked_up() -> None:
    listed = (ROOT / "docs/deploying.md").read_text().partition("## Images")[2]
    images = {str(part["image"]) for part in PARTS.values()}
    images |= {cluster["spec"]["imageName"] for cluster in of_kind("Cluster").values()}
    images |= {one["image"] for workload in WORKLOADS.values() for one in containers(workload)}
    images |= set(re.findall(r"(?:ARG PYTHON=|install --no-cache-dir )(\S+)", (ROOT / "Dockerfile").read_text()))
    assert all(f"`{image}`" in listed for image in images), images
    assert f"Kafka {of_kind('Kafka')['maru']['spec']['kafka']['version']} of Strimzi" in listed


def test_ports_are_open_to_this_machine_alone() -> None:
    assert all(port.startswith("127.0.0.1:") for part in PARTS.values() for port in part.get("ports", []))


def test_rights_in_compose_are_those_of_the_typed_table() -> None:
    rights: dict[str, set[tuple[str, str]]] = {}
    for line in re.findall(r"^\s*grant (--.*)$", PARTS["acls"]["command"][0], re.MULTILINE):
        words = dict.fromkeys(re.findall(r"--allow-principal User:CN=(\S+)", line))
        for who in words:
            for operation in re.findall(r"--operation (\S+)", line):
                rights.setdefault(who, set()).update((operation, topic) for topic in re.findall(r"--topic (\S+)", line))
    for name, hears in HEARS.items():
        assert {topic for operation, topic in rights.pop(name) if operation == "Write"} == {TOPIC[name]}, name
        assert hears
    assert {operation for operation, _ in rights["observer"]} == {"Read", "Describe"}
    assert {topic for _, topic in rights.pop("observer")} == set(TOPIC.values())
    assert not rights


# Kubernetes

DEPLOYMENTS = of_kind("Deployment")
JOBS = of_kind("Job")
WORKLOADS: dict[str, Document] = {**DEPLOYMENTS, **JOBS}


def test_every_process_is_a_deployment() -> None:
    assert set(DEPLOYMENTS) == PROCESSES
    assert set(JOBS) == {f"{name}-migrate" for name in HEARS}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_has_budget_monitor_policies_spread_and_probes(name: str) -> None:
    spec = DEPLOYMENTS[name]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    budget = of_kind("PodDisruptionBudget")[name]["spec"]
    assert (budget["selector"]["matchLabels"], budget["maxUnavailable"]) == (spec["selector"]["matchLabels"], 1)
    assert _selects(of_kind("PodMonitor")["maru"]["spec"]["selector"], labels)
    policies = {n for n, p in of_kind("NetworkPolicy").items() if _selects(p["spec"]["podSelector"], labels)}
    assert {"default-deny", "names", "metrics"} <= policies
    kind = labels["app.kubernetes.io/component"]
    assert ("gateways" in policies) == (kind == "gateway")
    assert ("to-kafka" in policies) == (kind != "gateway")
    databases = {policy for policy in policies if policy.endswith("-to-database")}
    assert databases == (set() if name == "observer" else {f"{name.rpartition('-')[0]}-to-database"})
    keys = {row["topologyKey"] for row in spec["template"]["spec"]["topologySpreadConstraints"]}
    assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    (one,) = containers(DEPLOYMENTS[name])
    assert one["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert one["readinessProbe"]["httpGet"]["path"] == "/readyz"


def _selects(selector: Document, labels: dict[str, str]) -> bool:
    named = selector.get("matchLabels", {}).items() <= labels.items()
    rows = selector.get("matchExpressions", [])
    return named and all(row["operator"] == "In" and labels.get(row["key"]) in row["values"] for row in rows)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_is_restricted_and_has_limits(name: str) -> None:
    workload = WORKLOADS[name]
    pod = workload["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in containers(workload):
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert set(one["resources"]) == {"requests", "limits"}
        assert all(set(amounts) == {"cpu", "memory"} for amounts in one["resources"].values())


def _given() -> Iterator[tuple[str, Document, Document]]:
    for name, workload in WORKLOADS.items():
        for one in containers(workload):
            yield f"{name} {one['name']}", workload["spec"]["template"]["spec"], one


@pytest.mark.parametrize(("pod", "one"), [row[1:] for row in _given()], ids=[row[0] for row in _given()])
def test_a_command_and_its_environment_are_taken(
    pod: Document, one: Document, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the files that the secrets would bring, as the volumes place them."""
    assert is_command(one["args"]), one["args"]
    maps = of_kind("ConfigMap")
    environment = {"MARU_ISSUER": "https://login.molit.example"}
    for source in one["envFrom"]:
        environment |= maps[source["configMapRef"]["name"]]["data"]
    environment |= {row["name"]: row["value"] for row in one.get("env", [])}
    mounted = {row["name"]: row["mountPath"] for row in one["volumeMounts"]}
    brought: dict[str, Path | str] = {
        "ca.crt": made / "kafka" / "ca.pem",
        "user.crt": made / "issues" / "client.pem",
        "user.key": made / "issues" / "client.key",
        "maru_cursor_key": made / "issues" / "maru_cursor_key",
        "maru_database": "postgresql://issues:9vQ2-long-and-random@issues-rw.maru.svc:5432/issues",
        "maru_database_admin": "postgresql://issues_owner:9vQ2-long-and-random@issues-rw.maru.svc:5432/issues",
    }
    for volume in pod["volumes"]:
        sources = [volume["secret"]] if "secret" in volume else []
        sources += [row["secret"] for row in volume.get("projected", {}).get("sources", [])]
        for source in sources:
            given = [item["path"] for item in source.get("items", [])]
            given = given or ([] if source.get("optional") else ["user.crt", "user.key"])
            for file in given:
                content = brought[file]
                path = tmp_path / mounted[volume["name"]].lstrip("/") / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content if isinstance(content, str) else content.read_text())
    settings = parsed(environment, {"/run/secrets": tmp_path / "run" / "secrets"}, monkeypatch)
    kind = one["args"][0]
    assert (settings.kafka is not None) == (kind in ("relay", "follow", "observe"))
    assert (settings.database is not None) == (kind != "observe")
    assert (settings.database_admin is not None) == (kind in ("migrate", "seed"))
    assert (settings.cursor_key is not None) == (kind == "serve")
    assert not settings.development


def test_a_new_release_is_rolled_out_part_by_part_in_the_documented_order() -> None:
    """The labels by which docs/deploying.md applies it reach every workload, and nothing else has them."""
    text = (ROOT / "docs/deploying.md").read_text()
    (parts,) = re.findall(r"for part in ([a-z ]+);", text)
    assert parts.split() == ["follower", "observer", "relay", "gateway"]
    found: dict[str, set[str]] = {}
    for document in base():
        part = document["metadata"].get("labels", {}).get("app.kubernetes.io/component", "")
        found.setdefault(part, set()).add(document["kind"])
    jobs = found.pop("migrate")
    assert jobs == {"Job"}
    assert found.pop("") & {"Deployment", "Job"} == set()
    assert found == {part: {"Deployment"} for part in parts.split()}


def test_topics_are_those_of_the_typed_table() -> None:
    found = of_kind("KafkaTopic")
    assert set(found) == {topic.name for topic in TOPICS}
    for topic in TOPICS:
        spec = found[topic.name]["spec"]
        assert spec["partitions"] == topic.partitions
        assert spec["config"]["retention.ms"] == topic.retention_ms
        assert spec["config"]["max.message.bytes"] == MAX_MESSAGE_BYTES
        assert spec["config"]["cleanup.policy"] == "delete"


def test_a_user_writes_its_own_topic_only_and_reads_what_it_hears_only() -> None:
    may: dict[str, dict[str, set[str]]] = {}
    for name, user in of_kind("KafkaUser").items():
        assert user["spec"]["authentication"] == {"type": "tls"}
        for row in user["spec"]["authorization"]["acls"]:
            if row["resource"]["type"] == "topic":
                assert row["resource"]["patternType"] == "literal"
                may.setdefault(name, {})[row["resource"]["name"]] = set(row["operations"])
            else:
                assert (name, row["resource"]["name"]) == ("observer", "maru-observe-")
    read = {"Read", "Describe"}
    for service, hears in HEARS.items():
        assert may.pop(f"{service}-relay") == {TOPIC[service]: {"Write", *read}}
        assert may.pop(f"{service}-follower") == {TOPIC[other]: read for other in hears}
    assert may == {"observer": dict.fromkeys(TOPIC.values(), read)}


def test_each_service_has_a_database_of_its_own() -> None:
    clusters = {n: d["spec"] for n, d in of_kind("Cluster").items()}
    assert set(clusters) == set(HEARS)
    for name, spec in clusters.items():
        made = spec["bootstrap"]["initdb"]
        assert (made["database"], made["owner"], made["secret"]["name"]) == (name, f"{name}_owner", f"{name}-owner")
        (role,) = spec["managed"]["roles"]
        assert (role["name"], role["passwordSecret"]["name"]) == (name, f"{name}-database")
        assert not role["superuser"]
        assert not role["createdb"]
        assert not role["createrole"]
        assert spec["instances"] >= 3
        assert spec["postgresql"]["synchronous"]["number"] < spec["instances"]


def test_followers_scale_by_the_age_of_what_waits_and_never_beyond_slots() -> None:
    source = "".join(path.read_text() for path in (ROOT / "shared" / "runtime").glob("*.py"))
    scaled = of_kind("ScaledObject")
    assert set(scaled) == {f"{name}-follower" for name in HEARS}
    for name, found in scaled.items():
        spec = found["spec"]
        assert spec["scaleTargetRef"]["name"] == name
        assert "replicas" not in DEPLOYMENTS[name]["spec"], "two would set it in turn"
        assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= 12
        queries = [trigger["metadata"]["query"] for trigger in spec["triggers"]]
        names = [re.findall(r"maru_[a-z_]+", query)[0] for query in queries]
        assert names == ["maru_inbox_oldest_seconds", "maru_relay_oldest_age_seconds"]
        assert all(f'"{metric}"' in source for metric in names)
        service = name.removesuffix("-follower")
        assert f'service="{service}"' in queries[0]
        assert set(re.findall(r'service=~"([^"]+)"', queries[1])[0].split("|")) == HEARS[service]


def test_the_ingress_sends_each_first_segment_to_its_service() -> None:
    (rule,) = of_kind("Ingress")["maru"]["spec"]["rules"]
    found = {row["path"]: row["backend"]["service"]["name"] for row in rule["http"]["paths"]}
    # Every gateway serves the schemas of all events.
    wanted = {"/schemas": "issues-gateway"}
    for service in SERVICES:
        routes = [route.path for route in service.gateway.commands] + [route.path for route in service.gateway.reads]
        wanted |= {"/" + "/".join(path.split("/")[1:3]): f"{service.name}-gateway" for path in routes}
    assert found == wanted


def test_everything_is_in_one_restricted_namespace() -> None:
    for document in base():
        if document["kind"] == "Namespace":
            labels = document["metadata"]["labels"]
            assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        else:
            assert document["metadata"]["namespace"] == "maru", document["metadata"]["name"]


def test_the_overlay_names_an_image_and_an_issuer() -> None:
    overlay = yaml.safe_load((K8S / "overlays" / "ministry" / "kustomization.yaml").read_text())
    assert overlay["resources"] == ["../../base"]
    assert [image["name"] for image in overlay["images"]] == ["maru"]
    assert "MARU_ISSUER" in overlay["patches"][0]["patch"]
