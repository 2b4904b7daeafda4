"""A change is made on both sides, or refused on both."""

import uuid
from decimal import Decimal
from typing import Any

import httpx
from tests.together.shop import Shop, create, new_order, now


def invoice_of(shop: Shop, order_id: str) -> dict[str, Any]:
    order = httpx.get(f"{shop.order.url}/orders/{order_id}", trust_env=False).json()
    answer = httpx.get(f"{shop.invoice.url}/invoices/{order['invoice_id']}", trust_env=False)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def test_a_created_order_has_an_invoice_of_quantity_times_value(
    shop: Shop, client: httpx.Client
) -> None:
    answer = client.post("/orders", json=new_order(quantity=3, value="19.99"))
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"/orders/{body['id']}"
    assert answer.headers["etag"] == '"1"'
    assert body["total"] == "59.97"
    invoice = invoice_of(shop, body["id"])
    assert invoice["total"] == "59.97"
    assert invoice["order_id"] == body["id"]
    assert invoice["version"] == body["version"] == 1
    shop.assert_true()
    assert shop.lock_keys() == []


def test_an_update_changes_both_sides(shop: Shop, client: httpx.Client) -> None:
    order_id = create(shop.order, quantity=2, value="10")
    answer = client.patch(f"/orders/{order_id}", json={"update_time": now(), "quantity": 5})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["etag"] == '"2"'
    order = client.get(f"/orders/{order_id}").json()
    assert (order["quantity"], order["value"], order["status"]) == (5, "10.00", "updated")
    assert Decimal(invoice_of(shop, order_id)["total"]) == 50
    shop.assert_true()


def test_a_deletion_deletes_both_sides_and_may_be_repeated(
    shop: Shop, client: httpx.Client
) -> None:
    order_id = create(shop.order)
    assert client.delete(f"/orders/{order_id}").status_code == 204
    assert client.delete(f"/orders/{order_id}").status_code == 204
    assert client.get(f"/orders/{order_id}").json()["status"] == "deleted"
    assert invoice_of(shop, order_id)["status"] == "deleted"
    answer = client.patch(f"/orders/{order_id}", json={"update_time": now()})
    assert answer.status_code == 422
    shop.assert_true()


def test_the_invoice_service_refuses_a_change_without_the_lock(shop: Shop) -> None:
    order_id = create(shop.order)
    invoice = invoice_of(shop, order_id)
    headers = {"Idempotency-Key": str(uuid.uuid4()), "If-Match": '"1"'}
    with httpx.Client(base_url=shop.invoice.url, trust_env=False) as direct:
        for more in ({}, {"Lock-Token": "nonsense"}):
            answer = direct.patch(
                f"/invoices/{invoice['id']}", json={"total": "1.00"}, headers=headers | more
            )
            assert answer.status_code == 409
            assert answer.json()["type"] == "/problems/invoice-not-locked"
        assert direct.delete(f"/invoices/{invoice['id']}", headers=headers).status_code == 409
    assert invoice_of(shop, order_id) == invoice
    shop.assert_true()


def test_what_is_refused_changes_neither_side(shop: Shop, client: httpx.Client) -> None:
    order_id = create(shop.order)
    before = client.get(f"/orders/{order_id}").json()
    path = f"/orders/{order_id}"
    old = client.patch(path, json={"update_time": "2001-01-01T00:00:00Z", "quantity": 9})
    assert old.status_code == 409
    other = client.patch(
        path, json={"update_time": now(), "quantity": 9}, headers={"If-Match": '"7"'}
    )
    assert other.status_code == 412
    unknown = client.patch(f"/orders/{uuid.uuid4()}", json={"update_time": now()})
    assert unknown.status_code == 404
    assert client.get(path).json() == before
    assert len(shop.operations()) == len(shop.recorded()) == 1
    shop.assert_true()
