"""Every container of ours in the manifests, as the overlay renders them, is started for real and answers its probes.

Around it stand a PostgreSQL with TLS whose databases and roles are those of the Cluster resources, a Kafka with TLS
whose topics and rights are those of the Topic and User resources, and an issuer over https; secrets have the keys that
docs/deploying.md lists, and those that the operators make. The long lane.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from services.__main__ import SERVICES
from services.demonstration import make
from services.local_processes import free_port
from services.local_servers import Postgres
from shared.contracts.topics import TOPICS
from shared.runtime import kafka
from shared.runtime.brokers import Brokers
from shared.runtime.settings import load
from tests.deploy.containers import Run, in_cluster
from tests.deploy.manifests import ROOT, Document, containers, deployed
from tests.deploy.stand_ins import AsInCompose, Authority, IssuerStandIn, PostgresDoor

pytestmark = pytest.mark.faults

NAMES = [service.name for service in SERVICES]


def of(kind: str) -> dict[str, Document]:
    return {d["metadata"]["name"]: d for d in deployed() if d["kind"] == kind}


JOBS, DEPLOYMENTS, MAPS = of("Job"), of("Deployment"), of("ConfigMap")


def documented(key: str) -> str:
    """The value of a key of a secret, as docs/deploying.md says it is written."""
    found = re.search(rf"`{key}`: `([^`]+)`", (ROOT / "docs/deploying.md").read_text())
    assert found is not None, key
    return found[1]


class Cluster:
    """What our containers find in the cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority("operators")
        self.secrets: dict[str, dict[str, str]] = {}
        self.migrated: set[str] = set()
        self.granted: set[str] = set()
        self.postgres = Postgres(folder / "postgres", settings={"fsync": "off"})
        self.kafka = AsInCompose(folder / "kafka", folder / "demonstration" / "kafka")
        self.operations = folder / "demonstration" / "operations"
        self.issuer: IssuerStandIn | None = None
        self.door: PostgresDoor | None = None
        self.proxy = free_port()

    def start(self) -> None:
        self.postgres.start()
        # The certificate that the operator makes is for the read-write service of a cluster, in its short forms too.
        names = [f"{name}-rw{rest}" for name in of("Cluster") for rest in ("", ".maru", ".maru.svc")]
        door = self.authority.issue("postgres", names)
        self.door = PostgresDoor(self.folder, door, ("127.0.0.1", self.postgres.port))
        for name, cluster in of("Cluster").items():
            self._database(name, cluster["spec"])
        make(self.folder / "demonstration", NAMES)
        trusted = self.folder / "demonstration" / "kafka" / "ca.pem"
        cluster_ca = trusted.read_text()
        trusted.chmod(0o644)
        trusted.write_text(cluster_ca + self.authority.certificate)
        self.secrets["maru-cluster-ca-cert"] = {"ca.crt": cluster_ca}
        for name in of("KafkaUser"):
            cert, key = self.authority.issue(name)
            self.secrets[name] = {"ca.crt": self.authority.certificate, "user.crt": cert, "user.key": key}
        self.secrets["notifications-mail"] = {
            "maru_smtp_url": f"smtp://127.0.0.1:{free_port()}",
            "maru_smtp_from": "office@maru.example",
        }
        self.kafka.start()
        self._topics()
        url = MAPS["maru"]["data"]["MARU_ISSUER"]
        server = self.authority.issue("issuer", [url.split("/")[2]])
        self.issuer = IssuerStandIn(self.folder / "issuer", url, self.proxy, server)

    def _database(self, name: str, spec: Document) -> None:
        """Database and roles as the operator makes them of a Cluster, and the secrets that lead to them."""
        made, (role,) = spec["bootstrap"]["initdb"], spec["managed"]["roles"]
        for user, secret, key in (
            (made["owner"], made["secret"]["name"], "maru_database_admin"),
            (role["name"], role["passwordSecret"]["name"], "maru_database"),
        ):
            password = f"9vQ2-{secret}-Zk41"
            url = documented(key).replace("SERVICE", name).replace("PASSWORD", password)
            assert f"//{user}:" in url
            assert self.door is not None
            url = url.replace(":5432/", f":{self.door.port}/")
            self.secrets[secret] = {"username": user, "password": password, key: url}
        self.secrets[f"{name}-gateway"] = {"maru_cursor_key": "k" * 43}
        self.secrets[f"{name}-ca"] = {"ca.crt": self.authority.certificate}
        with psycopg.connect(self.postgres.url(), autocommit=True) as db:
            for secret in (made["secret"]["name"], role["passwordSecret"]["name"]):
                who, password = self.secrets[secret]["username"], self.secrets[secret]["password"]
                create = sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}")
                db.execute(create.format(sql.Identifier(who), sql.Literal(password)))
            statement = sql.SQL(
                "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}"
            ).format(
                sql.Identifier(made["database"]),
                sql.Identifier(made["owner"]),
                *(sql.Literal(made[field]) for field in ("encoding", "localeCollate", "localeCType")),
            )
            db.execute(statement)

    def _topics(self) -> None:
        files = {"kafka_ca": "ca.pem", "kafka_cert": "client.pem", "kafka_key": "client.key"}
        given = {setting: self.operations / file for setting, file in files.items()}
        brokers = Brokers.of(load(kafka=f"localhost:{self.kafka.tls}", kafka_protocol="ssl", **given))
        asyncio.run(kafka.ensure_topics(brokers, TOPICS, seconds=60))

    def grant(self, user: str) -> None:
        """The rights of a User resource."""
        if user in self.granted or user not in of("KafkaUser"):
            return
        self.granted.add(user)
        for row in of("KafkaUser")[user]["spec"]["authorization"]["acls"]:
            right = ["--allow-principal", f"User:CN={user}", f"--{row['resource']['type']}", row["resource"]["name"]]
            right += ["--resource-pattern-type", {"prefix": "prefixed"}.get(p := row["resource"]["patternType"], p)]
            right += [word for operation in row["operations"] for word in ("--operation", operation)]
            self.kafka.grant([right], self.operations)

    def run(self, workload: Document, one: Document) -> Run:
        name = workload["metadata"]["name"]
        pod = workload["spec"]["template"]["spec"]
        folder = self.folder / "pods" / name
        shutil.rmtree(folder, ignore_errors=True)
        made = in_cluster(pod, one, MAPS, self.secrets, folder)
        hosts = {"maru-kafka-bootstrap.maru.svc:9093": f"localhost:{self.kafka.tls}"}
        trusted = self.folder / "trusted.pem"
        trusted.write_text(self.authority.certificate)
        # Names of databases lead here; the issuer is asked through a proxy that answers in its name.
        here = {"PGHOSTADDR": "127.0.0.1", "SSL_CERT_FILE": str(trusted)}
        return Run(made, self.folder / "roots" / name, hosts, **here, HTTPS_PROXY=f"http://127.0.0.1:{self.proxy}")

    def migrate(self, service: str) -> None:
        job = JOBS[f"{service}-migrate"]
        for one in containers(job):
            run = self.run(job, one)
            assert run.to_its_end() == 0, run.said
        self.migrated.add(service)

    def close(self) -> None:
        for one in (self.issuer, self.door):
            if one is not None:
                one.close()
        self.kafka.stop()
        self.postgres.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    there = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        there.start()
        yield there
    finally:
        there.close()


@pytest.mark.parametrize("name", JOBS)
def test_a_job_ends_well_and_may_run_again(cluster: Cluster, name: str) -> None:
    for _ in range(2):
        cluster.migrate(name.removesuffix("-migrate"))


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_answers_its_probes_and_ends_in_time(cluster: Cluster, name: str) -> None:
    service = name.rpartition("-")[0]
    if service and service not in cluster.migrated:
        cluster.migrate(service)
    cluster.grant(name)
    pod = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    (one,) = containers(DEPLOYMENTS[name])
    run = cluster.run(DEPLOYMENTS[name], one)
    with run.running(pod["terminationGracePeriodSeconds"]) as process:
        start = one["startupProbe"]
        run.until(lambda: run.answers(start, one), process, start["periodSeconds"] * start["failureThreshold"])
        run.until(lambda: run.answers(one["readinessProbe"], one), process, 60)
        assert run.answers(one["livenessProbe"], one)
        assert b"maru_" in run.read("/metrics")
