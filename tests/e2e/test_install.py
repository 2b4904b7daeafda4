"""An installation from zero: `helm install --wait`, with nothing prepared but the images."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from typing import Final

import pytest
from tests.e2e.harness.installation import STORES, Shop
from tests.e2e.harness.programs import CommandFailed, run
from tests.e2e.harness.runner import manifest
from tests.e2e.harness.shop import Service

from devkit.services import SERVICES

pytestmark = pytest.mark.e2e

PORT_FORWARD: Final = re.compile(r"kubectl port-forward .*(service/\S+) (\d+):(\d+)")


def test_everything_is_ready_and_nothing_had_to_be_restarted(shop: Shop) -> None:
    assert shop.release.revision()["status"] == "deployed"
    services = [pod for name in SERVICES for pod in shop.pods(name)]
    stores = [pod for name in STORES for pod in shop.pods(name)]
    assert (len(services), len(stores)) == (4, 3)
    assert [pod for pod in services + stores if not pod.serving or pod.restarts] == []


def test_both_replicas_of_a_service_run_on_different_nodes(shop: Shop) -> None:
    nodes = json.loads(shop.namespace.kubectl("get", "nodes", "--output=json"))["items"]
    workers = [node for node in nodes if not node["spec"].get("taints")]
    for name in SERVICES:
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


def test_a_person_who_follows_the_notes_creates_an_order_and_sees_its_invoice(shop: Shop) -> None:
    notes = shop.release.notes()
    commands = [line.strip() for line in notes.splitlines() if line.startswith("  ")]
    kubeconfig = {"KUBECONFIG": str(shop.namespace.cluster.kubeconfig)}
    with ExitStack() as stack:
        for command in commands:
            if forward := PORT_FORWARD.fullmatch(command):
                target, local, port = forward.groups()
                opened = stack.enter_context(shop.namespace.forward(target, int(port)))
                commands = [each.replace(f"127.0.0.1:{local}", opened.address) for each in commands]
        rollouts = [each for each in commands if each.startswith("kubectl rollout status")]
        created, listed = [each for each in commands if each.startswith("curl ")]
        for rollout in rollouts:
            run("sh", "-c", rollout, timeout_seconds=200, environment=kubeconfig)
        assert "201 Created" in run("sh", "-c", created, timeout_seconds=60)
        (invoice,) = json.loads(run("sh", "-c", listed, timeout_seconds=60))["items"]
    assert len(rollouts) == 2
    assert invoice["total"] == "19.98"
