"""The control: the same change with the same lock, and nothing else. It loses orders.

It does what the services would do without the protocol: take both locks, write the invoice, write
the order, release. Run by the matrix as a process of its own, so that it can be killed.
"""

import argparse
import asyncio
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import psycopg

import fencelock
from order.domain import lock_names
from servicekit.failpoints import ConnectionDropped, FailpointError, Failpoints

POINTS = (
    "lock_only.before_lock",
    "lock_only.after_lock",
    "lock_only.in_invoice_write",
    "lock_only.after_invoice_write",
    "lock_only.before_order_write",
    "lock_only.in_order_write",
    "lock_only.after_order_write",
    "lock_only.before_release",
    "lock_only.after_release",
)
TABLES = {
    "order": "CREATE TABLE lock_only_orders (id uuid PRIMARY KEY, total numeric, status text)",
    "invoice": "CREATE TABLE lock_only_invoices (id uuid PRIMARY KEY, total numeric, status text)",
}
PRICE = Decimal("9.50")
FAILED = 3


class LockOnly:
    """Changes an order and its invoice, one after the other, under their locks."""

    def __init__(self, order_url: str, invoice_url: str, points: Failpoints) -> None:
        self._order_url = order_url
        self._invoice_url = invoice_url
        self._points = points

    async def change(
        self, client: fencelock.AsyncLockClient, kind: str, order_id: uuid.UUID, quantity: int
    ) -> None:
        await self._points.hit("lock_only.before_lock")
        async with client.lock(*lock_names(order_id), wait=20.0):
            await self._points.hit("lock_only.after_lock")
            row = self._row(kind, order_id, quantity)
            await self._write(self._invoice_url, "invoice", row)
            await self._points.hit("lock_only.before_order_write")
            await self._write(self._order_url, "order", row)
            await self._points.hit("lock_only.before_release")
        await self._points.hit("lock_only.after_release")

    def _row(self, kind: str, order_id: uuid.UUID, quantity: int) -> dict[str, Any]:
        status = {"create": "created", "update": "updated", "delete": "deleted"}[kind]
        return {"id": order_id, "total": quantity * PRICE, "status": status}

    async def _write(self, url: str, side: str, row: dict[str, Any]) -> None:
        connection = await psycopg.AsyncConnection.connect(url, connect_timeout=10)
        async with connection:
            await connection.execute(
                f"INSERT INTO lock_only_{side}s VALUES (%(id)s, %(total)s, %(status)s)"
                " ON CONFLICT (id) DO UPDATE SET total = excluded.total, status = excluded.status",
                row,
            )
            await self._points.hit(f"lock_only.in_{side}_write")
        await self._points.hit(f"lock_only.after_{side}_write")


async def run(arguments: argparse.Namespace) -> int:
    points = Failpoints(POINTS, armed=arguments.failpoints)
    shop = LockOnly(arguments.order_url, arguments.invoice_url, points)
    client = fencelock.AsyncLockClient.from_url(arguments.redis_url, ttl=arguments.lease)
    async with client:
        try:
            await shop.change(client, arguments.kind, arguments.order_id, arguments.quantity)
        except (FailpointError, ConnectionDropped, fencelock.FencelockError):
            return FAILED
    return 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    for name in ("order-url", "invoice-url", "redis-url", "kind", "failpoints"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--order-id", type=uuid.UUID, required=True)
    parser.add_argument("--quantity", type=int, required=True)
    parser.add_argument("--lease", type=float, required=True)
    return asyncio.run(run(parser.parse_args(arguments)))
