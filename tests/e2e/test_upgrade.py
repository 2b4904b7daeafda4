"""`helm upgrade`: what is stored survives it, and what stores is not restarted."""

from __future__ import annotations

import json

import pytest
from tests.e2e.harness.installation import SERVICES, STORES, Shop
from tests.e2e.harness.shop import disagreements, new_order

pytestmark = pytest.mark.e2e


def test_two_upgrades_keep_secrets_data_and_the_stores_pods(shop: Shop) -> None:
    with shop.orders() as orders:
        answer = orders.http.post("/orders", json=new_order())
        assert answer.status_code == 201, answer.text
        path = answer.headers["Location"]
        order = orders.one(path)
    secrets = shop.namespace.secrets()
    stores = [pod for name in STORES for pod in shop.pods(name)]
    first = shop.uids("order")

    shop.upgrade("--set=order.config.logLevel=debug", "--set=invoice.config.logLevel=debug")
    second = {pod.uid for pod in shop.wait_serving("order", pods=2, timeout_seconds=120)}
    shop.upgrade()
    third = {pod.uid for pod in shop.wait_serving("order", pods=2, timeout_seconds=120)}

    assert shop.release.revision()["status"] == "deployed"
    assert not first & second
    assert not second & third
    assert len(secrets) >= len(STORES)
    assert shop.namespace.secrets() == secrets
    assert [pod for name in STORES for pod in shop.pods(name)] == stores
    with shop.orders() as orders, shop.invoices() as invoices:
        assert orders.one(path) == order
        assert disagreements(orders, invoices) == []


def test_the_same_release_applied_again_changes_nothing(shop: Shop) -> None:
    """Neither what runs nor its description: whoever compares sees no difference, ever."""
    kinds = "deployments,statefulsets,networkpolicies,services,configmaps,poddisruptionbudgets"

    def versions() -> dict[str, str]:
        items = json.loads(shop.namespace.kubectl("get", kinds, "--output=json"))["items"]
        return {
            f"{each['kind']}/{each['metadata']['name']}": str(
                each["metadata"].get("generation", each["metadata"]["resourceVersion"])
            )
            for each in items
        }

    shop.upgrade()
    before = versions()
    shop.upgrade()
    assert versions() == before
    manifest = shop.release.manifest()
    assert shop.namespace.kubectl("diff", "--filename=-", stdin=manifest) == ""


def test_an_upgrade_that_changes_nothing_restarts_nothing(shop: Shop) -> None:
    before = shop.uids(*SERVICES, *STORES)
    shop.upgrade()
    assert shop.uids(*SERVICES, *STORES) == before
