"""The comparison of both services has to notice whatever differs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.e2e.harness.shop import Service, disagreements, invoice_id, lost

ORDER_IDS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(5)]


def order(order_id: str) -> dict[str, Any]:
    return {"id": order_id, "quantity": 2, "value": "2.50", "version": 3, "status": "updated"}


def invoice(order_id: str) -> dict[str, Any]:
    return {
        "id": invoice_id(order_id),
        "order_id": order_id,
        "total": "5.00",
        "version": 3,
        "status": "updated",
    }


def listing(items: list[dict[str, Any]]) -> Service:
    """A service that shows these items, two on a page."""

    def answer(request: httpx.Request) -> httpx.Response:
        start = int(request.url.params.get("cursor", 0))
        following = str(start + 2) if start + 2 < len(items) else None
        return httpx.Response(200, json={"items": items[start:][:2], "next_cursor": following})

    return Service("http://service", transport=httpx.MockTransport(answer))


def differences(orders: list[dict[str, Any]], invoices: list[dict[str, Any]]) -> list[str]:
    with listing(orders) as left, listing(invoices) as right:
        return disagreements(left, right)


def test_orders_with_their_invoices_agree_on_every_page() -> None:
    invoices = [invoice(each) for each in reversed(ORDER_IDS)]
    assert differences([order(each) for each in ORDER_IDS], invoices) == []


def test_an_invoice_that_was_made_without_an_order_is_left_out() -> None:
    assert differences([], [{**invoice(ORDER_IDS[0]), "order_id": None}]) == []


def test_one_that_is_missing_on_either_side_is_a_disagreement() -> None:
    orders, invoices = map(order, ORDER_IDS[:4]), map(invoice, ORDER_IDS[1:])
    assert differences(list(orders), list(invoices)) == [
        f"order {ORDER_IDS[0]} has no invoice",
        f"invoice of {ORDER_IDS[4]} has no order",
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"total": "5.01"},
        {"version": 4},
        {"status": "deleted"},
        {"id": invoice_id(ORDER_IDS[1])},
    ],
)
def test_any_difference_is_a_disagreement(changed: dict[str, object]) -> None:
    found = differences([order(ORDER_IDS[0])], [{**invoice(ORDER_IDS[0]), **changed}])
    assert len(found) == 1


@pytest.mark.parametrize(
    ("known", "is_lost"),
    [
        ({"quantity": 2, "deleted": False, "certain": True}, False),
        ({"quantity": 3, "deleted": False, "certain": True}, True),
        ({"quantity": 2, "deleted": True, "certain": True}, True),
        ({"quantity": 3, "deleted": True, "certain": False}, False),
    ],
)
def test_an_acknowledged_change_that_is_not_shown_is_lost(
    known: dict[str, Any], *, is_lost: bool
) -> None:
    with listing([order(ORDER_IDS[0])]) as orders:
        assert bool(lost(orders, {ORDER_IDS[0]: known})) is is_lost


def test_an_acknowledged_order_that_is_gone_is_lost() -> None:
    known = {"quantity": 1, "deleted": False, "certain": True}
    with listing([]) as orders:
        assert len(lost(orders, {ORDER_IDS[0]: known})) == 1
