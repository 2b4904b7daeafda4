"""The two services as the demo and a person use them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import httpx

TIMEOUT_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Sides:
    """What both services show of one order at one moment."""

    order: dict[str, Any]
    invoice: dict[str, Any]
    pending: bool
    """Whether a change of the order is on its way."""

    @property
    def agree(self) -> bool:
        """Whether the invoice asks for what the order comes to, and both live or both are gone."""
        due = int(self.order["quantity"]) * Decimal(self.order["value"])
        same_end: bool = (self.order["status"] == "deleted") == (
            self.invoice["status"] == "deleted"
        )
        return due == Decimal(self.invoice["total"]) and same_end

    def __str__(self) -> str:
        order, invoice = self.order, self.invoice
        return (
            f"order: {order['quantity']} x {order['value']}, {order['status']}; "
            f"invoice: {invoice['total']}, {invoice['status']}"
            f"{'; a change is pending' if self.pending else ''}"
        )


class Client:
    """The two services as the demo uses them."""

    def __init__(self, order_url: str, invoice_url: str) -> None:
        self.orders = httpx.Client(base_url=order_url, trust_env=False, timeout=TIMEOUT_SECONDS)
        self.invoices = httpx.Client(base_url=invoice_url, trust_env=False, timeout=TIMEOUT_SECONDS)

    def close(self) -> None:
        """Close the connections."""
        self.orders.close()
        self.invoices.close()

    def create(self, *, quantity: int, value: str) -> httpx.Response:
        """Ask for an order of somebody for something."""
        ids = {"user_id": str(uuid.uuid4()), "item_id": str(uuid.uuid4())}
        return self.orders.post("/orders", json={**ids, "quantity": quantity, "value": value})

    def update(self, order: str, *, update_time: str, quantity: int) -> httpx.Response:
        """Ask for another quantity."""
        body = {"update_time": update_time, "quantity": quantity}
        return self.orders.patch(f"/orders/{order}", json=body)

    def sides(self, order: str) -> Sides:
        """Read both sides."""
        read = self.orders.get(f"/orders/{order}").raise_for_status()
        body = read.json()
        invoice = self.invoices.get(f"/invoices/{body['invoice_id']}").raise_for_status()
        return Sides(body, invoice.json(), pending="Pending-Operation" in read.headers)


def now() -> str:
    """This moment, as `update_time` wants it."""
    return datetime.now(UTC).isoformat()
