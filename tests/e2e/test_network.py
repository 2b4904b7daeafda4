"""NetworkPolicies: the ways that are needed are open, and no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.installation import PYTHON_IMAGE, RELEASE, Shop
from tests.e2e.harness.namespace import Namespace
from tests.e2e.harness.runner import running
from tests.e2e.harness.waiting import eventually

pytestmark = pytest.mark.e2e

# Tells which of the given host:port can be connected to. A name that is not found is an error.
REACH: Final = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def reach(target):
    host, port = target.rsplit(":", 1)
    address = socket.gethostbyname(host)
    try:
        socket.create_connection((address, int(port)), timeout=3).close()
    except OSError:
        return False
    return True

with ThreadPoolExecutor(16) as executor:
    print(json.dumps(dict(zip(sys.argv[1:], executor.map(reach, sys.argv[1:])))))
"""
SLEEP: Final = ("python", "-c", "import signal; signal.pause()")
WAYS: Final = {
    "orders": "shop-order:3000",
    "order metrics": "shop-order-metrics:9100",
    "invoices": "shop-invoice:3001",
    "invoice metrics": "shop-invoice-metrics:9101",
    "locks": "shop-redis:6379",
    "order database": "shop-order-postgres:5432",
    "invoice database": "shop-invoice-postgres:5432",
    "kubernetes": "kubernetes.default:443",
}


def labels_of(service: str) -> dict[str, str]:
    """What the policies know a service's pods by; its Service also asks for the component."""
    return {
        "app.kubernetes.io/name": service,
        "app.kubernetes.io/instance": RELEASE,
        "app.kubernetes.io/component": "e2e",
    }


@pytest.fixture(scope="module")
def clients(shop: Shop) -> Iterator[dict[str, str]]:
    """Pods that the policies take for those of a service, and one they know nothing of."""
    kinds = {"order": labels_of("order"), "invoice": labels_of("invoice"), "stranger": {"e2e": "x"}}
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(
                running(
                    shop.namespace,
                    f"client-{kind}",
                    image=PYTHON_IMAGE,
                    command=SLEEP,
                    labels=labels,
                )
            )
            for kind, labels in kinds.items()
        }


def assert_open(namespace: Namespace, pod: str, expected: set[str], *, domain: str = "") -> None:
    """The pod reaches exactly what is expected, as soon as the network knows the pod."""
    targets = {}
    for way, target in WAYS.items():
        host, port = target.split(":")
        targets[way] = target if "." in host else f"{host}{domain}:{port}"

    def reached() -> set[str]:
        said = namespace.exec(pod, "python", "-c", REACH, *targets.values())
        answers: dict[str, bool] = json.loads(said)
        return {way for way, target in targets.items() if answers[target]}

    eventually(
        reached,
        until=lambda seen: seen == expected,
        what=f"{pod} reaching only {sorted(expected)}",
        timeout_seconds=60,
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("order", {"orders", "invoices", "locks", "order database"}),
        ("invoice", {"invoices", "locks", "invoice database"}),
        ("stranger", {"orders", "kubernetes"}),
    ],
)
def test_a_pod_reaches_what_it_needs_and_nothing_else(
    shop: Shop, clients: dict[str, str], kind: str, expected: set[str]
) -> None:
    assert_open(shop.namespace, clients[kind], expected)


def test_a_pod_of_another_namespace_reaches_nothing_of_the_shop(
    shop: Shop, kind_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = f"{shop.namespace.name}-abroad"
    with Namespace(kind_cluster, name, logs=tmp_path_factory.mktemp("abroad")) as abroad:
        abroad.create()
        try:
            with running(
                abroad, "client", image=PYTHON_IMAGE, command=SLEEP, labels=labels_of("order")
            ) as pod:
                domain = f".{shop.namespace.name}"
                assert_open(abroad, pod, {"kubernetes"}, domain=domain)
        finally:
            abroad.delete(timeout_seconds=120)
