"""An installation from zero: `helm install --wait`, with nothing prepared but the images."""

from __future__ import annotations

import json

import pytest
from tests.e2e.harness.installation import STORES, Shop
from tests.e2e.harness.programs import CommandFailed
from tests.e2e.harness.runner import manifest
from tests.e2e.harness.shop import Service

pytestmark = pytest.mark.e2e


def test_everything_is_ready_and_nothing_had_to_be_restarted(shop: Shop) -> None:
    assert shop.release.revision()["status"] == "deployed"
    services = [pod for name in ("order", "invoice") for pod in shop.pods(name)]
    stores = [pod for name in STORES for pod in shop.pods(name)]
    assert (len(services), len(stores)) == (4, 3)
    assert [pod for pod in services + stores if not pod.serving or pod.restarts] == []


def test_both_replicas_of_a_service_run_on_different_nodes(shop: Shop) -> None:
    nodes = json.loads(shop.namespace.kubectl("get", "nodes", "--output=json"))["items"]
    workers = [node for node in nodes if not node["spec"].get("taints")]
    for name in ("order", "invoice"):
        pods = shop.pods(name)
        assert len({pod.node for pod in pods}) == min(len(workers), len(pods))


def test_the_charts_own_tests_pass(shop: Shop) -> None:
    assert "Phase:          Succeeded" in shop.release.test(timeout_seconds=180)


def test_the_namespace_refuses_a_pod_that_is_not_hardened(shop: Shop) -> None:
    pod = manifest("careless", image="busybox:1.37", command=["true"], labels={})
    del pod["spec"]["containers"][0]["securityContext"]
    with pytest.raises(CommandFailed, match='violates PodSecurity "restricted'):
        shop.namespace.kubectl("create", "--filename=-", stdin=json.dumps(pod))


def test_both_services_say_that_they_are_ready(orders: Service, invoices: Service) -> None:
    for service in (orders, invoices):
        assert service.http.get("/livez").status_code == 200
        assert service.http.get("/readyz").status_code == 200
