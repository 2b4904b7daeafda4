"""Retention: only direct clients' keys are forgotten, never what the protocol goes by."""

import uuid

from apps.invoice.tests.shop import USER, Query, Shop
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from invoice.resources import Resources, purging
from invoice.service import InvoiceService
from servicekit.testing.polling import eventually

DAY = 86_400


def service_of(app: FastAPI) -> InvoiceService:
    resources: Resources = app.state.resources
    return resources.service


async def age(engine: AsyncEngine) -> None:
    """Make everything that is recorded two days old."""
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE applied_operations SET created_at = created_at - interval '2 days'")
        )


async def test_operations_of_orders_and_tombstones_are_kept_for_ever(
    shop: Shop, app: FastAPI, engine: AsyncEngine, query: Query
) -> None:
    order_id = uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        await shop.update(invoice_id, base=1, proof=lease.proof())
        await shop.update(invoice_id, base=1, proof=lease.proof())
    await shop.abort(uuid.uuid4(), invoice_id)
    await age(engine)
    assert await service_of(app).purge(retention_seconds=DAY) == 0
    assert len(await query("SELECT * FROM applied_operations")) == 4


async def test_a_direct_clients_old_operations_go_except_for_each_invoices_last(
    shop: Shop, app: FastAPI, engine: AsyncEngine, query: Query
) -> None:
    body = {"user_id": str(USER), "total": 1}
    invoice_id = (await shop.client.post("/invoices", json=body)).json()["id"]
    async with shop.locks.lock(f"invoice:{{{invoice_id}}}", ttl=30, wait=30) as lease:
        for total in (2, 3):
            await shop.client.patch(
                f"/invoices/{invoice_id}",
                json={"total": total},
                headers={"Lock-Token": lease.proof()},
            )
    await age(engine)
    fresh = (await shop.client.post("/invoices", json=body)).json()["id"]
    assert await service_of(app).purge(retention_seconds=DAY) == 2
    left = await query("SELECT invoice_id, version FROM applied_operations ORDER BY created_at")
    assert [(str(row["invoice_id"]), row["version"]) for row in left] == [
        (invoice_id, 3),
        (fresh, 1),
    ]


async def test_a_purge_removes_all_that_is_old_however_much_it_is(
    app: FastAPI, shop: Shop, engine: AsyncEngine, query: Query
) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO applied_operations (op_id, invoice_id, request_hash, kind, outcome,"
                " version, fence, direct, response_status, response_headers, response_body,"
                " created_at) SELECT gen_random_uuid(), gen_random_uuid(), 'x', 'delete',"
                " 'rejected', 2, 0, true, 404, '[]', '', now() - interval '2 days'"
                " FROM generate_series(1, 2500)"
            )
        )
    assert await service_of(app).purge(retention_seconds=DAY) == 2500
    assert await query("SELECT 1 FROM applied_operations") == []


async def test_the_purge_runs_by_itself(
    shop: Shop, app: FastAPI, engine: AsyncEngine, query: Query
) -> None:
    body = {"user_id": str(USER), "total": 1}
    invoice_id = (await shop.client.post("/invoices", json=body)).json()["id"]
    async with shop.locks.lock(f"invoice:{{{invoice_id}}}", ttl=30, wait=30) as lease:
        await shop.client.delete(f"/invoices/{invoice_id}", headers={"Lock-Token": lease.proof()})
    await age(engine)

    async def purged() -> bool:
        return len(await query("SELECT 1 FROM applied_operations")) == 1

    async with purging(service_of(app), interval_seconds=0.01, retention_seconds=DAY):
        await eventually(purged)


async def test_the_archive_is_filled_by_itself(
    shop: Shop, app: FastAPI, engine: AsyncEngine, query: Query
) -> None:
    order_id = uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        await shop.update(invoice_id, base=1, proof=lease.proof())
    await age(engine)

    async def archived() -> bool:
        return len(await query("SELECT 1 FROM applied_operations_archive")) == 1

    async with purging(
        service_of(app),
        interval_seconds=0.01,
        retention_seconds=DAY,
        operation_retention_seconds=DAY,
    ):
        await eventually(archived)


async def test_orders_operations_superseded_long_ago_move_to_the_archive_and_answer_there(
    shop: Shop, app: FastAPI, engine: AsyncEngine, query: Query
) -> None:
    order_id = uuid.uuid4()
    op_id, refused = uuid.uuid4(), uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        await shop.update(invoice_id, base=1, proof=lease.proof(), op_id=op_id)
        await shop.update(invoice_id, base=1, proof=lease.proof(), op_id=refused)
        await shop.update(invoice_id, base=2, proof=lease.proof())
    await shop.abort(uuid.uuid4(), invoice_id)
    before = (await shop.client.get(f"/operations/{op_id}")).json()
    assert await service_of(app).archive(retention_seconds=DAY) == 0
    await age(engine)
    assert await service_of(app).archive(retention_seconds=DAY) == 2
    assert await service_of(app).archive(retention_seconds=DAY) == 0
    left = await query("SELECT version, outcome FROM applied_operations ORDER BY outcome")
    assert [row["outcome"] for row in left] == ["aborted", "applied", "rejected"]
    assert left[1]["version"] == 3
    named = await shop.client.get(f"/operations/{op_id}", params={"invoice_id": str(invoice_id)})
    for found in (await shop.client.get(f"/operations/{op_id}"), named):
        assert {**found.json(), "created_at": None} == {**before, "created_at": None}
    async with shop.locked(order_id) as lease:
        late = await shop.update(invoice_id, base=1, proof=lease.proof(), op_id=op_id)
        assert late.status_code == 412
        following = await shop.update(invoice_id, base=3, proof=lease.proof())
        assert following.status_code == 204
