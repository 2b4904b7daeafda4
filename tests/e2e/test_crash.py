"""Pods that die without a warning: what was begun is finished or never happened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.e2e.harness.installation import ORDER_URL, PYTHON_IMAGE, Shop
from tests.e2e.harness.loading import under_load
from tests.e2e.harness.settled import assert_settled
from tests.e2e.harness.shop import Service, change, invoice_id, new_order, pending
from tests.e2e.harness.waiting import eventually

pytestmark = pytest.mark.e2e

KILLS = 2


# Keeps the row of an invoice for itself until its input ends: whoever changes it has to wait.
HOLD_ROW = "BEGIN; SELECT 'held' FROM invoices WHERE id = '{}' FOR UPDATE;\n"


def send_change(orders: Service, path: str) -> None:
    """Change an order; the answer, if one comes at all, is nobody's business here."""
    try:
        orders.http.patch(path, json=change(quantity=9))
    except httpx.TransportError:
        return


@pytest.mark.parametrize("name", ["order", "invoice"])
def test_an_operation_is_finished_although_every_pod_was_killed_in_the_middle_of_it(
    shop: Shop, name: str
) -> None:
    with shop.orders() as orders, ThreadPoolExecutor() as executor:
        created = orders.http.post("/orders", json=new_order())
        assert created.status_code == 201, created.text
        path, order_id = created.headers["Location"], created.json()["id"]
        (database,) = shop.pods("invoice-postgres")
        psql = ("psql", "--username=invoice", "--dbname=invoice", "--tuples-only", "--no-align")
        with shop.namespace.interact(database.name, *psql) as session:
            session.write(HOLD_ROW.format(invoice_id(order_id)))
            session.wait_line("held", timeout_seconds=30)
            executor.submit(send_change, orders, path)
            eventually(
                lambda: pending(orders),
                what="an operation in the middle",
                timeout_seconds=20,
                every_seconds=0.1,
            )
            for pod in shop.pods(name):
                shop.namespace.kill(pod)
    shop.wait_serving(name, pods=2, timeout_seconds=120)
    assert_settled(shop, {order_id: {"quantity": 9, "deleted": False, "certain": True}})


@pytest.mark.parametrize("name", ["order", "invoice"])
def test_both_sides_agree_after_pods_were_killed_in_the_middle_of_operations(
    shop: Shop, name: str
) -> None:
    with under_load(shop.namespace, url=ORDER_URL, image=PYTHON_IMAGE, workers=6) as load:
        for _ in range(KILLS):
            shop.namespace.kill(shop.wait_serving(name, pods=2, timeout_seconds=120)[0])
            shop.wait_serving(name, pods=2, timeout_seconds=120)
            load.wait_more(20)
    if name == "order":  # the load does notice what is not graceful
        assert load.result["failed"] > 0
    assert_settled(shop, load.result["orders"])
