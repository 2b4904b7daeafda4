"""Orders and their invoices through port-forwards, as a person at a terminal sees them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from tests.e2e.harness.installation import Shop
from tests.e2e.harness.shop import (
    Service,
    change,
    differ,
    disagreements,
    invoice_id,
    new_order,
    pending,
)

pytestmark = pytest.mark.e2e

# Takes the order's lock as the services do, says so, and gives it back when its input ends.
HOLD = """
import asyncio, os, sys
import fencelock

async def hold(order_id):
    names = [f"{kind}:{{{order_id}}}" for kind in ("order", "invoice")]
    async with fencelock.AsyncLockClient.from_url(os.environ["ORDER_REDIS_URL"]) as client:
        async with client.lock(*names, ttl=30.0, wait=10.0):
            print("held", flush=True)
            await asyncio.to_thread(sys.stdin.read)

asyncio.run(hold(sys.argv[1]))
"""


def create(orders: Service, **fields: object) -> str:
    answer = orders.http.post("/orders", json={**new_order(), **fields})
    assert answer.status_code == 201, answer.text
    order_id: str = answer.json()["id"]
    assert answer.headers["Location"].endswith(f"/orders/{order_id}")
    return order_id


def both(orders: Service, invoices: Service, order_id: str) -> tuple[str, Decimal]:
    """What both services say about an order, which has to be the same: status and total."""
    order = orders.one(f"/orders/{order_id}")
    invoice = invoices.one(f"/invoices/{invoice_id(order_id)}")
    assert not differ(order, invoice), f"{order} but {invoice}"
    return order["status"], Decimal(invoice["total"])


def test_an_order_is_made_changed_and_deleted_on_both_sides(
    orders: Service, invoices: Service
) -> None:
    order_id = create(orders, quantity=3, value="9.99")
    assert both(orders, invoices, order_id) == ("created", Decimal("29.97"))

    answer = orders.http.patch(f"/orders/{order_id}", json=change(quantity=5, value="1.10"))
    assert answer.status_code == 204, answer.text
    assert both(orders, invoices, order_id) == ("updated", Decimal("5.50"))

    for _ in range(2):
        assert orders.http.delete(f"/orders/{order_id}").status_code == 204
        assert both(orders, invoices, order_id) == ("deleted", Decimal("5.50"))
    late = orders.http.patch(f"/orders/{order_id}", json=change(quantity=1))
    assert late.status_code == 422


def test_an_invoice_is_not_changed_by_anyone_who_does_not_hold_its_lock(
    orders: Service, invoices: Service
) -> None:
    order_id = create(orders)
    path, before = f"/invoices/{invoice_id(order_id)}", both(orders, invoices, order_id)
    headers = {"Idempotency-Key": "7f3b7c1e-58a3-4c41-9d3e-6a5e0d2f9b10", "If-Match": '"1"'}
    for token in ({}, {"Lock-Token": "not-a-lease"}):
        refused = [
            invoices.http.patch(path, json={"total": "0.01"}, headers={**headers, **token}),
            invoices.http.delete(path, headers={**headers, **token}),
        ]
        for answer in refused:
            assert answer.status_code == 409, answer.text
            assert answer.json()["type"] == "/problems/invoice-not-locked"
    assert both(orders, invoices, order_id) == before


def test_changes_through_every_replica_at_once_leave_one_story(
    shop: Shop, orders: Service, invoices: Service
) -> None:
    order_id = create(orders)
    moment = datetime.now(UTC).isoformat()
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(shop.orders(f"pod/{pod.name}")) for pod in shop.pods("order")
        ]
        executor = stack.enter_context(ThreadPoolExecutor(max_workers=16))

        def change_quantity(number: int) -> httpx.Response:
            body = {"update_time": moment, "quantity": number + 1}
            replica = replicas[number % len(replicas)]
            return replica.http.patch(f"/orders/{order_id}", json=body)

        answers = list(executor.map(change_quantity, range(40)))
    assert len(replicas) == 2
    assert {answer.status_code for answer in answers} <= {204, 423}
    changed = sum(answer.status_code == 204 for answer in answers)
    assert changed > 0
    assert orders.one(f"/orders/{order_id}")["version"] == 1 + changed
    both(orders, invoices, order_id)


def test_an_order_that_somebody_else_has_locked_is_refused_by_every_replica(
    shop: Shop, orders: Service, invoices: Service
) -> None:
    order_id = create(orders)
    before = both(orders, invoices, order_id)
    pods = [pod.name for pod in shop.pods("order")]
    with shop.namespace.interact(pods[0], "python", "-c", HOLD, order_id) as holder:
        holder.wait_line("held", timeout_seconds=60)
        for pod in pods:
            with shop.orders(f"pod/{pod}") as replica:
                answer = replica.http.patch(f"/orders/{order_id}", json=change(quantity=9))
                assert answer.status_code == 423, answer.text
                assert int(answer.headers["Retry-After"]) >= 0
        assert both(orders, invoices, order_id) == before
    answer = orders.http.patch(f"/orders/{order_id}", json=change(quantity=9))
    assert answer.status_code == 204, answer.text


def test_after_all_of_this_both_sides_agree_and_no_lock_is_left(
    shop: Shop, orders: Service, invoices: Service
) -> None:
    assert pending(orders) == []
    assert disagreements(orders, invoices) == []
    assert shop.lock_keys() == []
