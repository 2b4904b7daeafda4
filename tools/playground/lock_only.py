"""The control: the same change under the same lock, and nothing else.

What most programs do that use a distributed lock: take it, write one table, write the other, let
go. The writes block, as in a program without an event loop, so nothing interrupts them when the
lease ends. Run as a process of its own, so that it can be killed; its database and Redis URLs come
in the environment, where other users do not see them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import psycopg

import fencelock
from servicekit.failpoints import FailpointError, Failpoints

AFTER_LOCK: Final = "control.after_lock"
IN_INVOICE_WRITE: Final = "control.in_invoice_write"
AFTER_INVOICE_WRITE: Final = "control.after_invoice_write"
IN_ORDER_WRITE: Final = "control.in_order_write"
AFTER_ORDER_WRITE: Final = "control.after_order_write"
BEFORE_REPLY: Final = "control.before_reply"
POINTS: Final = (
    AFTER_LOCK,
    IN_INVOICE_WRITE,
    AFTER_INVOICE_WRITE,
    IN_ORDER_WRITE,
    AFTER_ORDER_WRITE,
    BEFORE_REPLY,
)
"""In the order in which one change passes them."""
TABLE: Final = """
CREATE TABLE IF NOT EXISTS lock_only (
    id uuid PRIMARY KEY, wish uuid NOT NULL, total numeric(18, 2) NOT NULL,
    version integer NOT NULL, made_at timestamptz NOT NULL DEFAULT now())
"""
WRITE: Final = """
INSERT INTO lock_only (id, wish, total, version) VALUES (%(id)s, %(wish)s, %(total)s, 1)
    ON CONFLICT (id) DO UPDATE SET total = excluded.total, version = lock_only.version + 1
"""
CONNECT_SECONDS: Final = 10
WAIT_SECONDS: Final = 30.0
LEASE_LOST: Final = 3


async def change(
    client: fencelock.AsyncLockClient, points: Failpoints, row: dict[str, object]
) -> None:
    """Write the invoice, then the order, under both their locks.

    Raises:
        fencelock.FencelockError: The lock was not granted, or had ended when it was released.
    """
    names = [f"control-{side}:{{{row['id']}}}" for side in ("order", "invoice")]
    async with client.lock(*names, wait=WAIT_SECONDS):
        await points.hit(AFTER_LOCK)
        await _write(os.environ["CONTROL_INVOICES_URL"], row, points, IN_INVOICE_WRITE)
        await points.hit(AFTER_INVOICE_WRITE)
        await _write(os.environ["CONTROL_ORDERS_URL"], row, points, IN_ORDER_WRITE)
        await points.hit(AFTER_ORDER_WRITE)
    await points.hit(BEFORE_REPLY)


async def _write(url: str, row: dict[str, object], points: Failpoints, inside: str) -> None:
    with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
        connection.execute(WRITE, row)
        await points.hit(inside)


async def run(arguments: argparse.Namespace) -> int:
    """Make one change; the exit status says whether it thinks that all went well."""
    points = Failpoints(POINTS, armed=arguments.failpoints)
    row: dict[str, object] = {
        "id": arguments.order,
        "wish": arguments.wish,
        "total": arguments.total,
    }
    client = fencelock.AsyncLockClient.from_url(
        os.environ["CONTROL_REDIS_URL"], ttl=arguments.lease
    )
    async with client:
        try:
            await change(client, points, row)
        except (fencelock.FencelockError, FailpointError) as failure:
            print(f"too late: {failure}", file=sys.stderr)
            return LEASE_LOST
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and make one change."""
    parser = argparse.ArgumentParser(prog="python -m tools.playground.lock_only")
    parser.add_argument("--order", type=uuid.UUID, required=True)
    parser.add_argument("--wish", type=uuid.UUID, required=True)
    parser.add_argument("--total", type=Decimal, required=True)
    parser.add_argument("--lease", type=float, required=True)
    parser.add_argument("--failpoints", default="")
    return asyncio.run(run(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
