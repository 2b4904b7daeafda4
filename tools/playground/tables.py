"""What both databases hold, read past the services and past the wires.

The only module that knows the names of the shop's tables and columns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 2.0
ORDERS_SHOWN: Final = 6
VERSIONS_SHOWN: Final = 6
OPERATIONS_SHOWN: Final = 40
TIMELINE_SECONDS: Final = 45

ORDERS: Final = """
SELECT id, quantity, value, total, status, version, pending_op, created_at
  FROM orders WHERE id = ANY(%(also)s) OR id IN (
       SELECT id FROM orders WHERE created_at >= %(since)s
        ORDER BY created_at DESC, id LIMIT %(limit)s)
 ORDER BY created_at DESC, id
"""
ORDER_COUNT: Final = (
    "SELECT count(*) AS n FROM orders WHERE version > 0 AND created_at >= %(since)s"
)
OPERATIONS: Final = """
SELECT o.op_id, o.order_id, o.kind, o.version, o.state, o.attempts, o.created_at, o.finished_at,
       o.payload->>'total' AS total, o.payload->>'status' AS status, o.traceparent,
       k.idempotency_key
  FROM operations o LEFT JOIN idempotency_keys k USING (op_id)
 WHERE o.created_at >= %(since)s
   AND (o.state = 'pending' OR o.created_at > now() - make_interval(secs => %(seconds)s))
 ORDER BY o.created_at DESC LIMIT %(limit)s
"""
VERSIONS: Final = """
SELECT order_id, version, op_id, payload->>'total' AS total, state
  FROM operations WHERE order_id = ANY(%(orders)s) AND state <> 'rejected'
 ORDER BY version
"""
OUTCOMES: Final = """
SELECT k.idempotency_key, o.finished_at
  FROM idempotency_keys k JOIN operations o USING (op_id) WHERE k.idempotency_key = ANY(%(keys)s)
"""
INVOICES: Final = """
SELECT id, order_id, total, status, version FROM invoices WHERE order_id = ANY(%(orders)s)
"""
INVOICE_COUNT: Final = """
SELECT count(*) AS n FROM invoices WHERE order_id IS NOT NULL AND created_at >= %(since)s
"""
APPLIED: Final = """
SELECT a.op_id, a.outcome, a.version, a.created_at, i.order_id
  FROM applied_operations a JOIN invoices i ON i.id = a.invoice_id
 WHERE i.order_id = ANY(%(orders)s) AND a.outcome = 'applied' ORDER BY a.version
"""
DECIDED: Final = """
SELECT op_id, outcome, created_at FROM applied_operations WHERE op_id = ANY(%(ops)s)
"""

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a request."""

    finished_at: float | None
    """When its operation ended, in seconds since 1970; None while it is on its way."""


class Unreadable(Exception):
    """A database did not answer in time."""


class Look:
    """A way into one database that stays open: looking often must cost little."""

    def __init__(self, url: str) -> None:
        """Describe it; it connects at the first look."""
        self._url = url
        self._connection: psycopg.AsyncConnection[Row] | None = None
        self._exclusive = asyncio.Lock()

    async def rows(self, statement: str, **parameters: object) -> list[Row]:
        """Run a statement.

        Raises:
            Unreadable: There was no answer within two seconds.
        """
        async with self._exclusive:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    connection = await self._open()
                    cursor = await connection.execute(statement.encode(), parameters)
                    return await cursor.fetchall() if cursor.description else []
            except (psycopg.Error, OSError) as error:
                await self._drop()
                raise Unreadable(str(error)) from error

    async def close(self) -> None:
        """Close the connection."""
        async with self._exclusive:
            await self._drop()

    async def _open(self) -> psycopg.AsyncConnection[Row]:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_SECONDS
            )
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


@dataclass(frozen=True)
class Stored:
    """What both databases hold of the newest orders."""

    orders: Sequence[Row]
    invoices: Sequence[Row]
    versions: Sequence[Row]
    applied: Sequence[Row]
    operations: Sequence[Row]
    decided: Sequence[Row]
    order_count: int
    invoice_count: int


class Tables:
    """Both databases, as the page looks at them."""

    def __init__(self, order_url: str, invoice_url: str) -> None:
        """Describe them; it connects at the first look."""
        self.orders = Look(order_url)
        self.invoices = Look(invoice_url)

    async def close(self) -> None:
        """Close the connections."""
        await self.orders.close()
        await self.invoices.close()

    async def read(self, since: datetime, *, also: Sequence[UUID] = ()) -> Stored:
        """The newest orders made since a moment, then those named, and what was done to them.

        Raises:
            Unreadable: A database did not answer.
        """
        shown = await self.orders.rows(ORDERS, since=since, limit=ORDERS_SHOWN, also=list(also))
        ids = [row["id"] for row in shown]
        operations = await self.orders.rows(
            OPERATIONS, since=since, seconds=TIMELINE_SECONDS, limit=OPERATIONS_SHOWN
        )
        versions = await self.orders.rows(VERSIONS, orders=ids)
        (orders,) = await self.orders.rows(ORDER_COUNT, since=since)
        (invoices,) = await self.invoices.rows(INVOICE_COUNT, since=since)
        return Stored(
            orders=shown,
            invoices=await self.invoices.rows(INVOICES, orders=ids),
            versions=versions,
            applied=await self.invoices.rows(APPLIED, orders=ids),
            operations=operations,
            decided=await self.invoices.rows(DECIDED, ops=[row["op_id"] for row in operations]),
            order_count=orders["n"],
            invoice_count=invoices["n"],
        )

    async def order(self, order_id: UUID) -> tuple[Row | None, Row | None]:
        """An order and its invoice as they are stored.

        Raises:
            Unreadable: A database did not answer.
        """
        orders = await self.orders.rows("SELECT * FROM orders WHERE id = %(id)s", id=order_id)
        invoices = await self.invoices.rows(INVOICES, orders=[order_id])
        return (orders[0] if orders else None), (invoices[0] if invoices else None)

    async def pending(self, since: datetime) -> int:
        """How many operations are on their way.

        Raises:
            Unreadable: The database did not answer.
        """
        (row,) = await self.orders.rows(
            "SELECT count(*) AS n FROM operations WHERE state = 'pending'"
            " AND created_at >= %(since)s",
            since=since,
        )
        return int(row["n"])

    async def orders_of(self, user_id: UUID) -> int:
        """How many orders a user has.

        Raises:
            Unreadable: The database did not answer.
        """
        (row,) = await self.orders.rows(
            "SELECT count(*) AS n FROM orders WHERE user_id = %(user)s AND version > 0",
            user=user_id,
        )
        return int(row["n"])

    async def outcomes(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """What became of requests, by their idempotency keys; without those that left no trace.

        Raises:
            Unreadable: The database did not answer.
        """
        rows = await self.orders.rows(OUTCOMES, keys=list(keys)) if keys else []
        return {row["idempotency_key"]: Outcome(_seconds(row["finished_at"])) for row in rows}

    async def now(self) -> datetime:
        """The time at the databases.

        Raises:
            Unreadable: The database did not answer.
        """
        (row,) = await self.orders.rows("SELECT now() AS now")
        moment: datetime = row["now"]
        return moment


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
