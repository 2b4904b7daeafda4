"""The shop beside charts/observability: its metrics, its alert rules and its traces arrive."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from tests.e2e.harness.installation import Shop
from tests.e2e.harness.programs import ROOT
from tests.e2e.harness.release import Release
from tests.e2e.harness.shop import Service, new_order
from tests.e2e.harness.waiting import eventually

from devkit.services import SERVICES

pytestmark = pytest.mark.e2e

CHART = ROOT / "charts" / "observability"
# Jaeger stands for Tempo and reads the same OTLP; nobody looks at Grafana here.
VALUES = ("tempo.enabled=false", "jaeger.enabled=true", "grafana.enabled=false")
SEEN_SECONDS = 90
IMAGES_SECONDS = 600


@pytest.fixture(scope="module")
def observability(shop: Shop, observability_images: Future[None]) -> Iterator[Release]:
    observability_images.result(IMAGES_SECONDS)
    release = Release("observability", shop.namespace, CHART)
    options = [f"--set={value}" for value in VALUES]
    release.install(f"--values={CHART}/values-dev.yaml", *options, timeout_seconds=180)
    yield release
    release.uninstall(timeout_seconds=120)


@pytest.fixture
def prometheus(shop: Shop, observability: Release) -> Iterator[Service]:
    with (
        shop.namespace.forward("service/observability-prometheus", 9090) as forward,
        Service(forward.url) as service,
    ):
        yield service


@pytest.fixture
def jaeger(shop: Shop, observability: Release) -> Iterator[Service]:
    with (
        shop.namespace.forward("service/observability-jaeger", 16686) as forward,
        Service(forward.url) as service,
    ):
        yield service


def query(prometheus: Service, expression: str) -> dict[str, float]:
    """The present value of an expression, by pod."""
    answer = prometheus.http.get("/api/v1/query", params={"query": expression})
    answer.raise_for_status()
    results = answer.json()["data"]["result"]
    return {each["metric"].get("pod", ""): float(each["value"][1]) for each in results}


def test_every_pod_of_both_services_is_scraped(shop: Shop, prometheus: Service) -> None:
    pods = {pod.name: 1.0 for name in SERVICES for pod in shop.pods(name)}
    assert len(pods) == 4
    eventually(
        lambda: query(prometheus, 'up{release="shop"}'),
        until=lambda seen: seen == pods,
        what="a scrape of every pod",
        timeout_seconds=SEEN_SECONDS,
    )


def test_an_order_moves_the_counters_of_both_services(orders: Service, prometheus: Service) -> None:
    expressions = (
        'sum(shop_invoice_operations_total{kind="create",outcome="applied"})',
        "sum(shop_operations_total)",
        "sum(fencelock_acquire_duration_seconds_count)",
    )

    def counters() -> list[float]:
        return [query(prometheus, expression).get("", 0.0) for expression in expressions]

    before = counters()
    assert orders.http.post("/orders", json=new_order()).status_code == 201
    eventually(
        counters,
        until=lambda now: all(new > old for old, new in zip(before, now, strict=True)),
        what=f"more than {before}",
        timeout_seconds=SEEN_SECONDS,
    )


def test_the_alert_rules_of_both_services_are_loaded_and_hold_no_error(prometheus: Service) -> None:
    def groups() -> dict[str, list[str]]:
        found = prometheus.one("/api/v1/rules")["data"]["groups"]
        return {group["name"]: [rule["health"] for rule in group["rules"]] for group in found}

    loaded = eventually(
        groups,
        until=lambda seen: {health for each in seen.values() for health in each} == {"ok"},
        what="rules that have been evaluated without an error",
        timeout_seconds=SEEN_SECONDS,
    )
    assert loaded.keys() >= {"order", "invoice", "locks", "slo"}


def test_one_trace_shows_the_order_and_its_invoice(orders: Service, jaeger: Service) -> None:
    assert orders.http.post("/orders", json=new_order()).status_code == 201

    def services_of_traces() -> list[set[str]]:
        found = jaeger.one("/api/traces?service=order&limit=50")["data"] or []
        return [{each["serviceName"] for each in trace["processes"].values()} for trace in found]

    eventually(
        services_of_traces,
        until=lambda seen: {"order", "invoice"} in seen,
        what="a trace through both services",
        timeout_seconds=SEEN_SECONDS,
    )
