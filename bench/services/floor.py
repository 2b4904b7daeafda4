"""The protocol's happy path and nothing else: what no library can cost less than.

Lock with a fence, intent, decision, completion: three statements, each a transaction. No recovery,
no replay, no limits, no refusals that say why. ``python -m bench.services.floor order|invoice``.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import FastAPI, Header, HTTPException, Request, Response

import fencelock
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

WAIT_SECONDS: Final = 2.0
ORDERS: Final = """
CREATE TABLE orders (
  id uuid PRIMARY KEY, user_id uuid NOT NULL, item_id uuid NOT NULL, quantity integer NOT NULL,
  value numeric(18, 2) NOT NULL, status text NOT NULL, update_time timestamptz NOT NULL,
  version integer NOT NULL, pending_op uuid
);
CREATE TABLE operations (
  op_id uuid PRIMARY KEY, order_id uuid NOT NULL, kind text NOT NULL, version integer NOT NULL,
  quantity integer NOT NULL, value numeric(18, 2) NOT NULL, update_time timestamptz NOT NULL,
  state text NOT NULL DEFAULT 'pending', created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX ON operations (order_id) WHERE state = 'pending';
"""
INVOICES: Final = """
CREATE TABLE invoices (
  id uuid PRIMARY KEY, user_id uuid NOT NULL, total numeric(18, 2) NOT NULL, status text NOT NULL,
  version integer NOT NULL, fence bigint NOT NULL
);
CREATE TABLE applied_operations (
  op_id uuid PRIMARY KEY, invoice_id uuid NOT NULL, version integer NOT NULL, outcome text NOT NULL
);
CREATE UNIQUE INDEX ON applied_operations (invoice_id, version);
"""

CREATION: Final = """
WITH subject AS (
  INSERT INTO orders VALUES (%(id)s, %(user_id)s, %(item_id)s, %(quantity)s, %(value)s, 'created',
    now(), 0, %(op)s) RETURNING *
) INSERT INTO operations (op_id, order_id, kind, version, quantity, value, update_time)
SELECT pending_op, id, 'create', 1, quantity, value, update_time FROM subject
RETURNING version, quantity * value AS total, quantity, value, update_time"""
CHANGE: Final = """
WITH subject AS (
  UPDATE orders SET pending_op = %(op)s WHERE id = %(id)s AND pending_op IS NULL AND version > 0
    AND status <> 'deleted' AND update_time <= coalesce(%(update_time)s, update_time) RETURNING *
) INSERT INTO operations (op_id, order_id, kind, version, quantity, value, update_time)
SELECT pending_op, id, %(kind)s, version + 1, coalesce(%(quantity)s, quantity),
  coalesce(%(value)s, value), coalesce(%(update_time)s, update_time) FROM subject
RETURNING version, quantity * value AS total"""
COMPLETION: Final = """
WITH done AS (
  UPDATE operations SET state = 'committed' WHERE op_id = %(op)s AND state = 'pending' RETURNING *
) UPDATE orders SET quantity = done.quantity, value = done.value, update_time = done.update_time,
  status = %(status)s, version = done.version, pending_op = NULL FROM done
WHERE orders.id = done.order_id AND orders.version = done.version - 1 AND pending_op = done.op_id
RETURNING orders.id"""

CREATED: Final = """
WITH subject AS (
  INSERT INTO invoices VALUES (%(id)s, %(user_id)s, %(total)s, 'created', 1, %(fence)s) RETURNING id
) INSERT INTO applied_operations SELECT %(op)s, id, 1, 'applied' FROM subject RETURNING op_id"""
CHANGED: Final = """
WITH subject AS (
  UPDATE invoices SET total = coalesce(%(total)s, total), status = %(status)s,
    version = version + 1, fence = %(fence)s
  WHERE id = %(id)s AND version = %(base)s AND fence <= %(fence)s RETURNING id, version
) INSERT INTO applied_operations SELECT %(op)s, id, version, 'applied' FROM subject
RETURNING op_id"""


_CREATE: Final = {"method": "POST", "kind": "create", "status": "created", "intent": CREATION}
_UPDATE: Final = {"method": "PATCH", "kind": "update", "status": "updated", "intent": CHANGE}
_DELETE: Final = {"method": "DELETE", "kind": "delete", "status": "deleted", "intent": CHANGE}


@asynccontextmanager
async def open_order(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Open what the order service needs."""
    app.state.locks = fencelock.AsyncLockClient.from_url(settings.redis_url)
    async with (
        pool_of(settings.database_url) as app.state.pool,
        client_of(settings.invoice_url) as app.state.invoices,
    ):
        yield
    await app.state.locks.aclose()


@asynccontextmanager
async def open_invoice(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Open what the invoice service needs."""
    app.state.locks = fencelock.AsyncLockClient.from_url(settings.redis_url)
    async with pool_of(settings.database_url) as app.state.pool:
        yield
    await app.state.locks.aclose()


def _names(order_id: UUID) -> tuple[str, str]:
    return f"order:{{{order_id}}}", f"invoice:{{{order_id}}}"


async def _change(
    request: Request,
    order_id: UUID,
    *,
    method: str,
    kind: str,
    status: str,
    intent: str,
    **values: object,
) -> None:
    """Intent, decision, completion, under the lock; an order's invoice has the order's id."""
    state, op = request.app.state, uuid.uuid4()
    try:
        async with state.locks.lock(*_names(order_id), wait=WAIT_SECONDS) as lease:
            planned = await one(state.pool, intent, id=order_id, op=op, kind=kind, **values)
            if planned is None:
                raise HTTPException(409)
            body = {"total": str(planned["total"]), "order_id": str(order_id)}
            if kind == "create":
                body["user_id"] = str(values["user_id"])
            async with state.invoices.request(
                method,
                "/invoices" if kind == "create" else f"/invoices/{order_id}",
                json=None if kind == "delete" else body,
                headers={
                    "Idempotency-Key": str(op),
                    "If-Match": f'"{planned["version"] - 1}"',
                    "Lock-Token": lease.proof(),
                },
            ) as answer:
                if not answer.ok:
                    raise HTTPException(424)
            await one(state.pool, COMPLETION, op=op, status=status)
    except fencelock.LockNotAcquired as error:
        raise HTTPException(423) from error


def order_routes(app: FastAPI) -> None:
    """Add the order service's routes."""

    @app.post("/orders", status_code=201)
    async def create(request: Request, order: OrderIn) -> dict[str, UUID]:
        new_id = uuid.uuid4()
        values = order.model_dump()
        await _change(request, new_id, **_CREATE, **values)
        return {"id": new_id}

    @app.patch("/orders/{order_id}", status_code=204)
    async def update(request: Request, order_id: UUID, change: OrderPatch) -> Response:
        values = change.model_dump()
        await _change(request, order_id, **_UPDATE, **values)
        return Response(status_code=204)

    @app.delete("/orders/{order_id}", status_code=204)
    async def delete(request: Request, order_id: UUID) -> Response:
        values: dict[str, Any] = {"quantity": None, "value": None, "update_time": None}
        await _change(request, order_id, **_DELETE, **values)
        return Response(status_code=204)

    @app.get("/orders/{order_id}")
    async def read(request: Request, order_id: UUID) -> Row:
        row = await one(
            request.app.state.pool,
            "SELECT * FROM orders WHERE id = %(id)s AND version > 0",
            id=order_id,
        )
        if row is None:
            raise HTTPException(404)
        return row


def invoice_routes(app: FastAPI) -> None:
    """Add the invoice service's routes."""

    async def decide(request: Request, order_id: UUID, statement: str, **values: object) -> None:
        state, headers = request.app.state, request.headers
        try:
            verified = await state.locks.verify(headers["lock-token"], _names(order_id))
        except fencelock.NotOwner as error:
            raise HTTPException(409) from error
        values |= {"op": headers["idempotency-key"], "fence": verified.fence}
        if await one(state.pool, statement, id=order_id, **values) is None:
            raise HTTPException(409)

    @app.post("/invoices", status_code=201)
    async def create(request: Request, invoice: InvoiceIn) -> dict[str, UUID]:
        values = {"user_id": invoice.user_id, "total": invoice.total}
        await decide(request, invoice.order_id, CREATED, **values)
        return {"id": invoice.order_id}

    @app.patch("/invoices/{invoice_id}", status_code=204)
    async def update(
        request: Request, invoice_id: UUID, patch: InvoicePatch, if_match: Annotated[str, Header()]
    ) -> Response:
        base = int(if_match.strip('"'))
        values = {"total": patch.total, "status": "updated", "base": base}
        await decide(request, invoice_id, CHANGED, **values)
        return Response(status_code=204)

    @app.delete("/invoices/{invoice_id}", status_code=204)
    async def delete(
        request: Request, invoice_id: UUID, if_match: Annotated[str, Header()]
    ) -> Response:
        base = int(if_match.strip('"'))
        await decide(request, invoice_id, CHANGED, total=None, status="deleted", base=base)
        return Response(status_code=204)


if __name__ == "__main__":
    serve({"order": (order_routes, open_order), "invoice": (invoice_routes, open_invoice)})
