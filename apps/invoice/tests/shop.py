"""The order service's part, played by a test."""

import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
from fastapi import FastAPI

import fencelock
from invoice.domain import lock_names

Query = Callable[[str], Awaitable[list[dict[str, Any]]]]
Serve = Callable[[FastAPI], AbstractAsyncContextManager[httpx.AsyncClient]]
USER = uuid.UUID("0b0e7d5a-4f0e-4c57-8f6c-3b2c5d0b8a01")


class Shop:
    """Talks to the invoice service as the order service does."""

    def __init__(self, client: httpx.AsyncClient, locks: fencelock.AsyncLockClient) -> None:
        self.client = client
        self.locks = locks

    def locked(self, order_id: uuid.UUID) -> fencelock.AsyncLock:
        """The lock of an order and its invoice."""
        return self.locks.lock(*lock_names(uuid.uuid4(), order_id), ttl=30, wait=30)

    async def create(
        self,
        order_id: uuid.UUID,
        *,
        proof: str | None,
        op_id: uuid.UUID | None = None,
        total: str = "10.00",
        user_id: uuid.UUID | None = None,
    ) -> httpx.Response:
        """Create an order's invoice."""
        return await self.client.post(
            "/invoices",
            json={
                "user_id": str(user_id or USER),
                "total": total,
                "order_id": str(order_id),
            },
            headers=headers(op_id=op_id or uuid.uuid4(), proof=proof),
        )

    async def update(
        self,
        invoice_id: uuid.UUID | str,
        *,
        base: int,
        proof: str | None,
        op_id: uuid.UUID | None = None,
        total: str = "20.00",
    ) -> httpx.Response:
        """Update an order's invoice that is at version ``base``."""
        return await self.client.patch(
            f"/invoices/{invoice_id}",
            json={"total": total},
            headers=headers(op_id=op_id or uuid.uuid4(), proof=proof, base=base),
        )

    async def delete(
        self,
        invoice_id: uuid.UUID | str,
        *,
        base: int,
        proof: str | None,
        op_id: uuid.UUID | None = None,
    ) -> httpx.Response:
        """Delete an order's invoice that is at version ``base``."""
        return await self.client.delete(
            f"/invoices/{invoice_id}",
            headers=headers(op_id=op_id or uuid.uuid4(), proof=proof, base=base),
        )

    async def created(self, order_id: uuid.UUID, *, total: str = "10.00") -> str:
        """Create an order's invoice under its lock and return its id."""
        async with self.locked(order_id) as lease:
            answer = await self.create(order_id, proof=lease.proof(), total=total)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def abort(self, op_id: uuid.UUID, invoice_id: uuid.UUID | str) -> httpx.Response:
        """Ask for a tombstone."""
        return await self.client.post(
            f"/operations/{op_id}/abort", json={"invoice_id": str(invoice_id)}
        )


def headers(*, op_id: uuid.UUID, proof: str | None, base: int | None = None) -> dict[str, str]:
    """The headers that the order service sends."""
    found = {"Idempotency-Key": str(op_id)}
    if proof is not None:
        found["Lock-Token"] = proof
    if base is not None:
        found["If-Match"] = f'"{base}"'
    return found
