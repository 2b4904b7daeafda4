"""Dashboards and alerts are files of the charts; what is in the files is in the release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts.rendering import Charts, Manifest, of_kind, one
from tests.e2e.harness.programs import ROOT

from devkit.services import SERVICES


def alerts(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def rule_file(path: Path) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text())["groups"]
    return groups


def in_config_map(manifests: list[Manifest]) -> dict[str, Any]:
    maps = of_kind(manifests, "ConfigMap")
    return {name: text for m in maps for name, text in m.get("data", {}).items()}


@pytest.mark.parametrize("chart", SERVICES)
def test_every_dashboard_is_in_the_release(charts: Charts, chart: str) -> None:
    held = in_config_map(charts.render(chart))
    for path in (ROOT / "charts" / chart / "files/dashboards").glob("*.json"):
        assert json.loads(held[path.name]) == json.loads(path.read_text())


@pytest.mark.parametrize("chart", SERVICES)
def test_every_alert_file_is_in_the_release(charts: Charts, chart: str) -> None:
    values = {"alerts": {"prometheusRule": {"enabled": True}}}
    manifests = charts.render(chart, values)
    held = in_config_map(manifests)
    paths = sorted((ROOT / "charts" / chart / "files/alerts").glob("*.yaml"))
    for path in paths:
        assert yaml.safe_load(held[path.name])["groups"] == rule_file(path)
    if paths:
        rule = one(manifests, "PrometheusRule", f"rel-{chart}")
        assert rule["spec"]["groups"] == [group for path in paths for group in rule_file(path)]


def test_a_threshold_can_be_set_from_the_values(charts: Charts) -> None:
    values = {
        "alerts": {
            "thresholds": {"LockWaitTooLong": 0.25},
            "runbookBaseUrl": "https://runbooks.example.com/shop/",
        }
    }
    held = in_config_map(charts.render("order", values))
    changed = alerts(yaml.safe_load(held["locks.yaml"])["groups"])
    as_written = alerts(rule_file(ROOT / "charts/order/files/alerts/locks.yaml"))
    assert changed["LockWaitTooLong"]["expr"].rstrip().endswith("> 0.25")
    assert changed["LeasesLost"]["expr"] == as_written["LeasesLost"]["expr"]
    assert changed["LeasesLost"]["annotations"]["runbook_url"] == (
        "https://runbooks.example.com/shop/"
        + as_written["LeasesLost"]["annotations"]["runbook_url"]
    )


def test_grafana_and_prometheus_read_what_the_shop_brings(charts: Charts) -> None:
    shop = charts.render("shop", release="shop")
    brought = {m["metadata"]["name"] for m in of_kind(shop, "ConfigMap")}
    parts = charts.render("observability")
    read = {
        source["configMap"]["name"]
        for m in of_kind(parts, "Deployment")
        for volume in m["spec"]["template"]["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        if source.get("configMap", {}).get("optional")
    }
    assert read, "Grafana and Prometheus mount nothing"
    assert {name for name in brought if name.endswith(("-dashboards", "-alerts"))} <= read


def datasources(charts: Charts, **values: Any) -> dict[str, dict[str, Any]]:
    manifests = charts.render("observability", values)
    grafana = one(manifests, "ConfigMap", "rel-observability-grafana")
    listed = yaml.safe_load(grafana["data"]["datasources.yaml"])["datasources"]
    return {source["uid"]: source for source in listed}


@pytest.mark.parametrize("backend", ["tempo", "jaeger"])
def test_metrics_lead_to_traces_and_traces_to_metrics(charts: Charts, backend: str) -> None:
    enabled = {part: {"enabled": part == backend} for part in ("tempo", "jaeger")}
    found = datasources(charts, **enabled)
    assert set(found) == {"prometheus", backend}
    destinations = found["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert destinations == [{"name": "trace_id", "datasourceUid": backend}]
    assert found[backend]["jsonData"]["tracesToMetrics"]["datasourceUid"] == "prometheus"


def test_traces_lead_to_logs_and_logs_to_traces_where_there_is_a_loki(charts: Charts) -> None:
    found = datasources(charts, grafana={"lokiUrl": "http://loki:3100"})
    assert found["tempo"]["jsonData"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    assert found["loki"]["jsonData"]["derivedFields"][0]["datasourceUid"] == "tempo"


def test_pods_say_where_their_metrics_are(charts: Charts) -> None:
    for service, port in (("order", "9100"), ("invoice", "9101")):
        deployment = one(charts.render("shop"), "Deployment", f"rel-{service}")
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/scrape"] == "true"
        assert annotations["prometheus.io/port"] == port
