"""What Prometheus finds in a cluster is what the rules and the dashboard speak of, and compose's Grafana finds both."""

from __future__ import annotations

import json
from typing import Any

import yaml

from services import dashboard
from services.cluster_alerts import SOURCES
from shared.runtime import metrics
from tests.deploy.manifests import K8S, ROOT, compose, of_kind

TARGET_LABELS = {"namespace", "pod", "container", "endpoint", "job", "instance"}
"""What the operator puts on every series of a PodMonitor; a metric's own label of that name would be renamed."""


def rules_of(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for group in groups for rule in group["rules"]]


def test_the_rules_of_the_cluster_are_those_of_prometheus() -> None:
    found = rules_of(of_kind("PrometheusRule")["maru"]["spec"]["groups"])
    wanted = [rule for path in SOURCES for rule in rules_of(yaml.safe_load((ROOT / path).read_text())["groups"])]
    for rule in wanted:
        page = rule["annotations"]["runbook_url"]
        assert (ROOT / page).is_file()
        rule["annotations"]["runbook_url"] = page.replace("docs/", "https://docs.maru.example/", 1)
    assert len(found) > 20
    assert found == wanted


def test_compose_loads_the_rules_that_need_no_cluster() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts.yml"]
    assert [one["job_name"] for one in config["scrape_configs"]] == ["maru"]


def test_the_monitor_gives_the_job_by_which_rules_select() -> None:
    label = of_kind("PodMonitor")["maru"]["spec"]["jobLabel"]
    pods = [d["spec"]["template"]["metadata"]["labels"] for d in of_kind("Deployment").values()]
    assert {labels[label] for labels in pods} == {"maru"}
    everything = json.dumps([rules_of(of_kind("PrometheusRule")["maru"]["spec"]["groups"]), dashboard.expressions()])
    assert 'job=\\"maru\\"' in everything


def test_no_label_of_a_metric_is_taken_by_the_cluster() -> None:
    assert not {label for metric in metrics.declared() for label in metric.labels} & TARGET_LABELS


def test_the_overlay_sends_every_runbook_to_its_host() -> None:
    overlay = yaml.safe_load((K8S / "overlays/ministry/kustomization.yaml").read_text())
    (one,) = overlay["replacements"]
    assert one["source"]["fieldPath"] == "metadata.annotations.[maru.example/runbooks]"
    host = of_kind("PrometheusRule")["maru"]["metadata"]["annotations"]["maru.example/runbooks"]
    options = one["targets"][0]["options"]
    for rule in rules_of(of_kind("PrometheusRule")["maru"]["spec"]["groups"]):
        assert rule["annotations"]["runbook_url"].split(options["delimiter"])[options["index"]] == host


def test_grafana_of_compose_finds_its_source_and_its_dashboard() -> None:
    """Folders as Grafana looks for them: /etc/grafana/provisioning/{datasources,dashboards}, then the provider's."""
    mounted = dict(volume.split(":")[:2] for volume in compose()["services"]["grafana"]["volumes"])
    places = {inside: ROOT / outside for outside, inside in mounted.items() if outside.startswith("./")}
    provisioning = places["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/maru.yml").read_text())["providers"]
    given = [path for inside, path in places.items() if inside.startswith(provider["options"]["path"] + "/")]
    assert [path.read_text() for path in given] == [dashboard.dashboard()]
