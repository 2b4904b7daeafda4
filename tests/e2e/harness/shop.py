"""The shop as its clients see it: two HTTP interfaces that have to tell the same story."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Self

import httpx

INVOICE_NAMESPACE: Final = uuid.UUID("6f2d6c0e-6a0e-5d5c-9a53-3f0e0b6b5a11")
REQUEST_SECONDS: Final = 60.0

Body = dict[str, Any]


class Service:
    """One service at a URL."""

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.http = httpx.Client(
            base_url=url, timeout=REQUEST_SECONDS, transport=transport, trust_env=False
        )

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its connections."""
        self.http.close()

    def one(self, path: str) -> Body:
        """The resource at ``path``; it has to be there."""
        answer = self.http.get(path)
        answer.raise_for_status()
        body: Body = answer.json()
        return body

    def all(self, path: str, **query: str) -> Iterator[Body]:
        """Every item of a list, page by page."""
        cursor: str | None = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            answer = self.http.get(path, params={**query, "limit": "200", **more})
            answer.raise_for_status()
            page = answer.json()
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return


def new_order(*, quantity: int = 2, value: str = "2.50") -> Body:
    """The body that asks for an order nobody has placed before."""
    return {
        "user_id": str(uuid.uuid4()),
        "item_id": str(uuid.uuid4()),
        "quantity": quantity,
        "value": value,
    }


def change(**fields: object) -> Body:
    """The body that changes an order now."""
    return {"update_time": datetime.now(UTC).isoformat(), **fields}


def invoice_id(order_id: str) -> str:
    """The id of an order's invoice."""
    return str(uuid.uuid5(INVOICE_NAMESPACE, order_id))


def pending(orders: Service) -> list[Body]:
    """The operations whose outcome the order service does not know yet."""
    return list(orders.all("/operations", state="pending"))


def disagreements(orders: Service, invoices: Service) -> list[str]:
    """Every order without its invoice, every invoice without its order, every difference."""
    ordered = {order["id"]: order for order in orders.all("/orders")}
    invoiced = {
        invoice["order_id"]: invoice
        for invoice in invoices.all("/invoices")
        if invoice["order_id"] is not None
    }
    alone = [f"order {each} has no invoice" for each in ordered.keys() - invoiced.keys()]
    alone += [f"invoice of {each} has no order" for each in invoiced.keys() - ordered.keys()]
    pairs = ((ordered[each], invoiced[each]) for each in ordered.keys() & invoiced.keys())
    return alone + [f"{order} but {invoice}" for order, invoice in pairs if differ(order, invoice)]


def differ(order: Body, invoice: Body) -> bool:
    """Whether an order and its invoice contradict each other."""
    due = (
        invoice_id(order["id"]),
        order["quantity"] * Decimal(order["value"]),
        order["version"],
        order["status"] == "deleted",
    )
    asked = (
        invoice["id"],
        Decimal(invoice["total"]),
        invoice["version"],
        invoice["status"] == "deleted",
    )
    return due != asked


def lost(orders: Service, acknowledged: dict[str, Body]) -> list[str]:
    """Every acknowledged change that the order service no longer shows.

    Args:
        orders: The order service.
        acknowledged: By order id what the load generator knows; uncertain ones are not judged.
    """
    shown = {order["id"]: order for order in orders.all("/orders")}
    certain = {name: known for name, known in acknowledged.items() if known["certain"]}
    return [
        f"{name} was acknowledged as {known} and is {shown.get(name)}"
        for name, known in certain.items()
        if name not in shown
        or shown[name]["quantity"] != known["quantity"]
        or (shown[name]["status"] == "deleted") != known["deleted"]
    ]
