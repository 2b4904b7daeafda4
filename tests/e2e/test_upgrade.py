"""`helm upgrade`: what is stored survives it, and what stores is not restarted."""

from __future__ import annotations

import pytest
from tests.e2e.harness.installation import STORES, Shop
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
    first = {pod.uid for pod in shop.pods("order")}

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


def test_an_upgrade_that_changes_nothing_restarts_nothing(shop: Shop) -> None:
    def uids() -> set[str]:
        names = ("order", "invoice", *STORES)
        return {pod.uid for name in names for pod in shop.pods(name)}

    before = uids()
    shop.upgrade()
    assert uids() == before
