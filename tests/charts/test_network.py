"""NetworkPolicies let through what the shop needs, and nothing else."""

from __future__ import annotations

import pytest
from tests.charts.combinations import SENTINELS
from tests.charts.network import Network
from tests.charts.rendering import Charts, Values

from devkit.services import SERVICES

ORDER, INVOICE, REDIS = "Deployment/rel-order", "Deployment/rel-invoice", "StatefulSet/rel-redis"
ORDER_DB, INVOICE_DB = "StatefulSet/rel-order-postgres", "StatefulSet/rel-invoice-postgres"
STRANGER = "a pod that is no part of the release"
TEST, ORDER_TEST = "Pod/rel-shop-test", "Pod/rel-order-test"


@pytest.fixture(scope="module")
def network(charts: Charts) -> Network:
    return Network(charts.render("shop"))


def job(network: Network, service: str) -> str:
    (name,) = (name for name in network.pods if name.startswith(f"Job/rel-{service}-migrate"))
    return name


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (ORDER, ORDER_DB, 5432),
        (INVOICE, INVOICE_DB, 5432),
        (ORDER, REDIS, 6379),
        (INVOICE, REDIS, 6379),
        (ORDER, INVOICE, 3001),
        (ORDER_TEST, ORDER, 3000),
        (TEST, ORDER, 3000),
        (TEST, INVOICE, 3001),
        ("Pod/rel-redis-test", REDIS, 6379),
        ("Pod/rel-order-postgres-test", ORDER_DB, 5432),
        (STRANGER, ORDER, 3000),
    ],
)
def test_is_let_through(network: Network, source: str, target: str, port: int) -> None:
    assert network.allows(source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (ORDER, INVOICE_DB, 5432),
        (INVOICE, ORDER_DB, 5432),
        (INVOICE, ORDER, 3000),
        (STRANGER, INVOICE, 3001),
        (STRANGER, REDIS, 6379),
        (STRANGER, ORDER_DB, 5432),
        (STRANGER, ORDER, 9100),
        (ORDER, INVOICE, 9101),
        (ORDER, STRANGER, 443),
        (REDIS, STRANGER, 443),
        (ORDER_DB, REDIS, 6379),
    ],
)
def test_is_held_back(network: Network, source: str, target: str, port: int) -> None:
    assert not network.allows(source, target, port)


def test_migrations_reach_their_own_database_only(network: Network) -> None:
    assert network.allows(job(network, "order"), ORDER_DB, 5432)
    assert not network.allows(job(network, "order"), INVOICE_DB, 5432)


def test_separate_releases_find_each_other(charts: Charts) -> None:
    """The defaults of both charts are a pair: `helm install order` and `helm install invoice`."""
    network = Network(
        charts.render("order", release="order") + charts.render("invoice", release="invoice")
    )
    assert network.allows("Deployment/order", "Deployment/invoice", 3001)
    assert network.allows("Deployment/invoice", "StatefulSet/order-redis", 6379)
    assert not network.allows("Deployment/invoice", "StatefulSet/order-postgres", 5432)


def test_every_pod_is_covered_in_both_directions(charts: Charts) -> None:
    """Pods that `helm test` runs may be reached by nobody, but are held to nothing either."""
    for chart in ("shop", "observability"):
        network = Network(charts.render(chart))
        for pod in network.pods:
            if not pod.startswith("Pod/"):
                assert not network.passes("Ingress", pod, STRANGER, 1), pod
                scrapes = pod.endswith("-prometheus")  # any pod of the namespaces it watches
                assert network.passes("Egress", pod, STRANGER, 1) == scrapes, pod


def test_metrics_are_for_prometheus_in_any_namespace(charts: Charts) -> None:
    network = Network(charts.render("shop") + charts.render("observability"))
    prometheus = "Deployment/rel-observability-prometheus"
    assert network.passes("Ingress", ORDER, prometheus, 9100)
    assert network.passes("Ingress", INVOICE, prometheus, 9101)


@pytest.mark.parametrize("backend", ["tempo", "jaeger"])
def test_the_parts_of_observability_reach_each_other(charts: Charts, backend: str) -> None:
    values = {part: {"enabled": part == backend} for part in ("tempo", "jaeger")}
    network = Network(charts.render("observability", values))
    grafana, prometheus, traces = (
        f"Deployment/rel-observability-{part}" for part in ("grafana", "prometheus", backend)
    )
    assert network.allows(grafana, prometheus, 9090)
    assert network.allows(grafana, traces, 3200 if backend == "tempo" else 16686)
    assert network.allows(traces, prometheus, 9090) == (backend == "tempo")
    assert not network.allows(grafana, STRANGER, 25)


def test_the_ports_of_sentinels_are_let_through_too(charts: Charts) -> None:
    """The Sentinels say where the master is; both are asked."""
    network = Network(charts.render("order", SENTINELS))
    assert network.allows("Deployment/rel-order", STRANGER, 26379)
    assert network.allows("Deployment/rel-order", STRANGER, 6379)
    assert not network.allows("Deployment/rel-order", STRANGER, 26380)


def test_the_ports_of_sentinels_are_let_through_for_both_services_of_the_shop(
    charts: Charts,
) -> None:
    """Each service's own policy still says the bundled Redis: the shop's policy adds the way."""
    by_uri = {"externalRedis": SENTINELS["externalRedis"]}
    off: Values = {"redis": {"enabled": False}}
    network = Network(charts.render("shop", off | dict.fromkeys(SERVICES, by_uri)))
    for service in SERVICES:
        assert network.allows(f"Deployment/rel-{service}", STRANGER, 26379)
        assert network.allows(f"Deployment/rel-{service}", STRANGER, 6379)
        assert not network.allows(f"Deployment/rel-{service}", STRANGER, 26380)
