"""What an ordinary pair of services does: a lock with ``SET NX``, then a write here and one there.

No journal, no recorded decision, no fence, no version: whatever fails between the two writes leaves
them different. ``python -m bench.services.bare order|invoice``.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, Final
from uuid import UUID

from fastapi import FastAPI, Header, HTTPException, Request, Response
from redis.asyncio import Redis

from bench.services.serving import (
    InvoiceIn,
    InvoicePatch,
    OrderIn,
    OrderPatch,
    Row,
    Settings,
    client_of,
    one,
    pool_of,
    serve,
)

LOCK_MS: Final = 10_000
ORDERS: Final = """
CREATE TABLE orders (
  id uuid PRIMARY KEY, user_id uuid NOT NULL, item_id uuid NOT NULL, invoice_id uuid NOT NULL,
  quantity integer NOT NULL, value numeric(18, 2) NOT NULL, status text NOT NULL,
  update_time timestamptz NOT NULL
)"""
INVOICES: Final = """
CREATE TABLE invoices (
  id uuid PRIMARY KEY, user_id uuid NOT NULL, total numeric(18, 2) NOT NULL, status text NOT NULL
)"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1], KEYS[2]) end
return 0
"""


@asynccontextmanager
async def open_order(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Open what the order service needs."""
    async with (
        pool_of(settings.database_url) as app.state.pool,
        client_of(settings.invoice_url) as app.state.invoices,
        Redis.from_url(settings.redis_url) as app.state.redis,
    ):
        app.state.release = app.state.redis.register_script(_RELEASE)
        yield


@asynccontextmanager
async def open_invoice(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Open what the invoice service needs."""
    async with (
        pool_of(settings.database_url) as app.state.pool,
        Redis.from_url(settings.redis_url) as app.state.redis,
    ):
        yield


@asynccontextmanager
async def _locked(request: Request, order_id: object, invoice_id: object) -> AsyncIterator[str]:
    state, token = request.app.state, uuid.uuid4().hex
    names = [f"order:{order_id}", f"invoice:{invoice_id}"]
    async with state.redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.set(name, token, nx=True, px=LOCK_MS)
        granted = await pipeline.execute()
    if not all(granted):
        raise HTTPException(423)
    try:
        yield token
    finally:
        await state.release(keys=names, args=[token])


async def _order(request: Request, order_id: UUID) -> Row:
    row = await one(request.app.state.pool, "SELECT * FROM orders WHERE id = %(id)s", id=order_id)
    if row is None:
        raise HTTPException(404)
    return row


def order_routes(app: FastAPI) -> None:
    """Add the order service's routes."""
    _creation_route(app)
    _change_routes(app)

    @app.get("/orders/{order_id}")
    async def read(request: Request, order_id: UUID) -> Row:
        return await _order(request, order_id)


def _creation_route(app: FastAPI) -> None:
    @app.post("/orders", status_code=201)
    async def create(request: Request, order: OrderIn) -> dict[str, UUID]:
        state = request.app.state
        new_id, total = uuid.uuid4(), order.quantity * order.value
        body = {"user_id": str(order.user_id), "order_id": str(new_id), "total": str(total)}
        async with state.invoices.post("/invoices", json=body) as answer:
            if answer.status != 201:  # noqa: PLR2004
                raise HTTPException(424)
            invoice_id = (await answer.json())["id"]
        await one(
            state.pool,
            "INSERT INTO orders VALUES (%(id)s, %(user_id)s, %(item_id)s, %(invoice_id)s,"
            " %(quantity)s, %(value)s, 'created', now()) RETURNING id",
            id=new_id,
            invoice_id=invoice_id,
            **order.model_dump(),
        )
        return {"id": new_id}


def _change_routes(app: FastAPI) -> None:
    @app.patch("/orders/{order_id}", status_code=204)
    async def update(request: Request, order_id: UUID, change: OrderPatch) -> Response:
        state = request.app.state
        row = await _order(request, order_id)
        async with _locked(request, order_id, row["invoice_id"]) as token:
            if row["status"] == "deleted" or change.update_time < row["update_time"]:
                raise HTTPException(409)
            quantity = change.quantity or row["quantity"]
            value: Decimal = row["value"] if change.value is None else change.value
            async with state.invoices.patch(
                f"/invoices/{row['invoice_id']}",
                json={"total": str(quantity * value)},
                headers={"Lock-Token": token},
            ) as answer:
                if answer.status != 204:  # noqa: PLR2004
                    raise HTTPException(424)
            await one(
                state.pool,
                "UPDATE orders SET quantity = %(quantity)s, value = %(value)s, status = 'updated',"
                " update_time = %(update_time)s WHERE id = %(id)s RETURNING id",
                id=order_id,
                quantity=quantity,
                value=value,
                update_time=change.update_time,
            )
        return Response(status_code=204)

    @app.delete("/orders/{order_id}", status_code=204)
    async def delete(request: Request, order_id: UUID) -> Response:
        state = request.app.state
        row = await _order(request, order_id)
        async with _locked(request, order_id, row["invoice_id"]) as token:
            async with state.invoices.delete(
                f"/invoices/{row['invoice_id']}", headers={"Lock-Token": token}
            ) as answer:
                if answer.status != 204:  # noqa: PLR2004
                    raise HTTPException(424)
            await one(
                state.pool,
                "UPDATE orders SET status = 'deleted' WHERE id = %(id)s RETURNING id",
                id=order_id,
            )
        return Response(status_code=204)


def invoice_routes(app: FastAPI) -> None:
    """Add the invoice service's routes."""

    @app.post("/invoices", status_code=201)
    async def create(request: Request, invoice: InvoiceIn) -> dict[str, UUID]:
        new_id = uuid.uuid4()
        await one(
            request.app.state.pool,
            "INSERT INTO invoices VALUES (%(id)s, %(user_id)s, %(total)s, 'created') RETURNING id",
            id=new_id,
            **invoice.model_dump(),
        )
        return {"id": new_id}

    async def change(
        request: Request, invoice_id: UUID, token: str, assignment: str, **values: object
    ) -> Response:
        held = await request.app.state.redis.get(f"invoice:{invoice_id}")
        if held != token.encode():
            raise HTTPException(409)
        statement = f"UPDATE invoices SET {assignment} WHERE id = %(id)s RETURNING id"  # noqa: S608
        if await one(request.app.state.pool, statement, id=invoice_id, **values) is None:
            raise HTTPException(404)
        return Response(status_code=204)

    @app.patch("/invoices/{invoice_id}", status_code=204)
    async def update(
        request: Request,
        invoice_id: UUID,
        patch: InvoicePatch,
        lock_token: Annotated[str, Header()],
    ) -> Response:
        assignment = "total = %(total)s, status = 'updated'"
        return await change(request, invoice_id, lock_token, assignment, total=patch.total)

    @app.delete("/invoices/{invoice_id}", status_code=204)
    async def delete(
        request: Request, invoice_id: UUID, lock_token: Annotated[str, Header()]
    ) -> Response:
        return await change(request, invoice_id, lock_token, "status = 'deleted'")


if __name__ == "__main__":
    serve({"order": (order_routes, open_order), "invoice": (invoice_routes, open_invoice)})
