"""The steps of the demo, each with what must come."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx

from devkit.claim import Run
from devkit.client import TIMEOUT_SECONDS, Client, now
from devkit.heal import heal
from devkit.stage import Stage


def play(stage: Stage, client: Client, run: Run) -> None:
    """All steps."""
    order = create(stage, client)
    read(stage, client, order)
    update(stage, client, order)
    contend(stage, client, order)
    refuse(stage, client, order)
    delete(stage, client, order)
    heal(stage, client, run)


def create(stage: Stage, client: Client) -> str:
    """Create the order the other steps work on."""
    stage.step("Create an order of 2 at 9.50 each")
    reply = client.create(quantity=2, value="9.50")
    stage.check(
        expected="201 and the order's id",
        came=f"{reply.status_code} {reply.json().get('id') or reply.text}",
        holds=reply.status_code == httpx.codes.CREATED and "id" in reply.json(),
    )
    return str(reply.json()["id"])


def read(stage: Stage, client: Client, order: str) -> None:
    """See that the invoice is there too."""
    stage.step("Look at both sides")
    sides = client.sides(order)
    stage.check(
        expected="an order of 2 x 9.50 and its invoice over 19.00",
        came=str(sides),
        holds=sides.agree and Decimal(sides.invoice["total"]) == Decimal("19.00"),
    )


def update(stage: Stage, client: Client, order: str) -> None:
    """Change both sides through the order."""
    stage.step("Change the quantity to 5")
    reply = client.update(order, update_time=now(), quantity=5)
    sides = client.sides(order)
    stage.check(
        expected="204, and both sides at 47.50",
        came=f"{reply.status_code}; {sides}",
        holds=reply.status_code == httpx.codes.NO_CONTENT
        and sides.agree
        and Decimal(sides.invoice["total"]) == Decimal("47.50"),
    )


def contend(stage: Stage, client: Client, order: str) -> None:
    """Change the order twice at the same moment."""
    stage.step("Two updates at once: quantity 7, and quantity 8")
    start = threading.Barrier(2)
    moment = now()

    def change(quantity: int) -> int:
        start.wait(TIMEOUT_SECONDS)
        return client.update(order, update_time=moment, quantity=quantity).status_code

    with ThreadPoolExecutor(2) as pool:
        codes = sorted(pool.map(change, (7, 8)))
    sides = client.sides(order)
    stage.check(
        expected="204 and 204 (in turn), or 204 and 423 (the lock was busy); sides equal",
        came=f"{codes[0]} and {codes[1]}; {sides}",
        holds=codes in ([204, 204], [204, 423])
        and sides.agree
        and sides.order["quantity"] in (7, 8),
    )


def refuse(stage: Stage, client: Client, order: str) -> None:
    """Try to change the invoice behind the order's back."""
    stage.step("Change the invoice directly, without holding the lock")
    before = client.sides(order)
    url = f"/invoices/{before.order['invoice_id']}"
    reply = client.invoices.patch(url, json={"total": "1.00"})
    after = client.sides(order)
    stage.check(
        expected="409 invoice-not-locked, and nothing changed",
        came=f"{reply.status_code} {reply.json().get('type', '')}; {after}",
        holds=reply.status_code == httpx.codes.CONFLICT
        and reply.json()["type"].endswith("/invoice-not-locked")
        and after == before,
    )


def delete(stage: Stage, client: Client, order: str) -> None:
    """Delete both sides, twice."""
    stage.step("Delete the order, and once more")
    codes = [client.orders.delete(f"/orders/{order}").status_code for _ in range(2)]
    sides = client.sides(order)
    stage.check(
        expected="204 both times, and both sides deleted",
        came=f"{codes[0]} and {codes[1]}; {sides}",
        holds=codes == [204, 204] and sides.agree and sides.order["status"] == "deleted",
    )
