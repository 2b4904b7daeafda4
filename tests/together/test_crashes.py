"""A service that dies in the middle of an operation leaves nothing that does not heal."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.together.shop import Shop, create, new_order, now, wait_for


def test_an_update_is_finished_by_another_replica_when_the_order_service_is_killed(
    shop: Shop,
) -> None:
    order_id = create(shop.order)
    doomed = shop.replica().start(failpoints="order.after_send=kill")
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"update_time": now(), "quantity": 9}
    with pytest.raises(httpx.TransportError):
        httpx.patch(f"{doomed.url}/orders/{order_id}", json=body, headers=headers, trust_env=False)
    assert doomed.wait_ended() == -9
    shop.assert_true()
    assert shop.orders()[uuid.UUID(order_id)]["quantity"] == 9
    again = httpx.patch(
        f"{shop.order.url}/orders/{order_id}", json=body, headers=headers, trust_env=False
    )
    assert (again.status_code, again.headers["etag"]) == (204, '"2"')
    assert shop.orders()[uuid.UUID(order_id)]["version"] == 2


def test_an_operation_that_was_only_recorded_is_finished_after_a_restart(shop: Shop) -> None:
    order_id = create(shop.order)
    shop.order.kill()
    shop.order.start(failpoints="order.after_t1=kill")
    with pytest.raises(httpx.TransportError):
        httpx.delete(f"{shop.order.url}/orders/{order_id}", trust_env=False)
    assert shop.order.wait_ended() == -9
    assert len(shop.pending()) == 1
    shop.order.start()
    shop.assert_true()
    assert shop.orders()[uuid.UUID(order_id)]["status"] == "deleted"


def test_a_request_finishes_the_pending_operation_that_is_in_its_way(shop_of: object) -> None:
    """The reconciler sleeps, so that only the request can have done it."""
    with shop_of(ORDER_RECONCILE_INTERVAL_SECONDS="3600") as shop:  # type: ignore[operator]
        order_id = create(shop.order)
        doomed = shop.replica().start(failpoints="order.after_t1=kill")
        with pytest.raises(httpx.TransportError):
            httpx.patch(
                f"{doomed.url}/orders/{order_id}",
                json={"update_time": now(), "quantity": 9},
                trust_env=False,
            )
        answer = httpx.patch(
            f"{shop.order.url}/orders/{order_id}",
            json={"update_time": now(), "value": "3.00"},
            timeout=30.0,
            trust_env=False,
        )
        assert (answer.status_code, answer.headers["etag"]) == (204, '"3"')
        order = shop.orders()[uuid.UUID(order_id)]
        assert (order["quantity"], str(order["value"])) == (9, "3.00")
        shop.assert_true()


def test_a_dead_invoice_service_is_503_before_and_202_after_something_is_recorded(
    shop: Shop,
) -> None:
    order_id = create(shop.order)
    shop.invoice.kill()
    seen: list[httpx.Response] = []
    with httpx.Client(base_url=shop.order.url, timeout=30.0, trust_env=False) as client:
        first = client.patch(f"/orders/{order_id}", json={"update_time": now(), "quantity": 3})
        assert first.status_code == 202
        operation = first.headers["location"]
        assert client.get(operation).json()["state"] == "pending"
        seen += [client.post("/orders", json=new_order()) for _ in range(8)]
        assert {answer.status_code for answer in seen} == {202, 503}
        refused = next(answer for answer in seen if answer.status_code == 503)
        assert "retry-after" in refused.headers
        shop.invoice.start()
        wait_for(lambda: client.get(operation).json()["state"] == "committed")
    shop.assert_true()
    accepted = [answer for answer in seen if answer.status_code == 202]
    assert len(shop.orders()) == 1 + len(accepted)


def test_killing_the_invoice_service_under_load_leaves_both_sides_equal(shop: Shop) -> None:
    orders = [create(shop.order) for _ in range(4)]

    def change(order_id: str) -> set[int]:
        statuses = set()
        with httpx.Client(base_url=shop.order.url, timeout=30.0, trust_env=False) as client:
            for quantity in range(1, 16):
                answer = client.patch(
                    f"/orders/{order_id}", json={"update_time": now(), "quantity": quantity}
                )
                statuses.add(answer.status_code)
        return statuses

    with ThreadPoolExecutor(len(orders)) as pool:
        running = [pool.submit(change, order_id) for order_id in orders]
        wait_for(lambda: len(shop.recorded()) > len(orders) + 3)
        shop.invoice.kill()
        wait_for(shop.pending)
        shop.invoice.start()
        statuses = set().union(*(each.result() for each in running))
    assert statuses <= {202, 204, 409, 423, 503}
    shop.assert_true()


def test_without_redis_nothing_is_written(shop: Shop) -> None:
    order_id = create(shop.order)
    before = shop.operations()
    shop.redis.stop()
    try:
        answer = httpx.patch(
            f"{shop.order.url}/orders/{order_id}",
            json={"update_time": now(), "quantity": 3},
            timeout=30.0,
            trust_env=False,
        )
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/lock-unavailable"
        assert shop.operations() == before
    finally:
        shop.redis.start()
    wait_for(
        lambda: (
            httpx.patch(
                f"{shop.order.url}/orders/{order_id}",
                json={"update_time": now(), "quantity": 4},
                timeout=30.0,
                trust_env=False,
            ).status_code
            == 204
        )
    )
    shop.assert_true()
