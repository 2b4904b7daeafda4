"""An operation's id means something only together with its invoice."""

import uuid

import pytest
from apps.invoice.tests.shop import USER, Query, Shop, headers
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from invoice.domain import invoice_id_for_order


async def direct_creation(shop: Shop, op_id: uuid.UUID) -> None:
    answer = await shop.client.post(
        "/invoices",
        json={"user_id": str(USER), "total": "1.00"},
        headers={"Idempotency-Key": str(op_id)},
    )
    assert answer.status_code == 201


async def change_of_an_unknown_invoice(shop: Shop, op_id: uuid.UUID) -> None:
    answer = await shop.update(uuid.uuid4(), base=1, proof="anything", op_id=op_id)
    assert answer.status_code == 404
    assert "operation-outcome" not in answer.headers


async def deletion_of_an_unknown_invoice(shop: Shop, op_id: uuid.UUID) -> None:
    answer = await shop.delete(uuid.uuid4(), base=1, proof=None, op_id=op_id)
    assert answer.status_code == 404
    assert "operation-outcome" not in answer.headers


async def direct_change(shop: Shop, op_id: uuid.UUID) -> None:
    created = await shop.client.post("/invoices", json={"user_id": str(USER), "total": "1.00"})
    invoice_id = created.json()["id"]
    async with shop.locks.lock(f"invoice:{{{invoice_id}}}", ttl=30, wait=30) as lease:
        answer = await shop.update(invoice_id, base=1, proof=lease.proof(), op_id=op_id)
    assert answer.status_code == 204


async def another_orders_operation(shop: Shop, op_id: uuid.UUID) -> None:
    order_id = uuid.uuid4()
    async with shop.locked(order_id) as lease:
        answer = await shop.create(order_id, proof=lease.proof(), op_id=op_id)
    assert answer.status_code == 201


async def tombstone_for_another_invoice(shop: Shop, op_id: uuid.UUID) -> None:
    assert (await shop.abort(op_id, uuid.uuid4())).json()["outcome"] == "aborted"


OTHERS = [
    direct_creation,
    change_of_an_unknown_invoice,
    deletion_of_an_unknown_invoice,
    direct_change,
    another_orders_operation,
    tombstone_for_another_invoice,
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda each: each.__name__)
async def test_nobody_else_can_occupy_or_decide_the_id_of_an_orders_operation(
    shop: Shop, other: "object"
) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    invoice_id = await shop.created(order_id)
    await other(shop, op_id)  # type: ignore[operator]
    asked = await shop.client.get(f"/operations/{op_id}", params={"invoice_id": invoice_id})
    assert asked.status_code == 404
    async with shop.locked(order_id) as lease:
        changed = await shop.update(
            invoice_id, base=1, proof=lease.proof(), op_id=op_id, total="7.00"
        )
    assert (changed.status_code, changed.headers["operation-outcome"]) == (204, "applied")
    recorded = await shop.client.get(f"/operations/{op_id}", params={"invoice_id": invoice_id})
    assert recorded.json()["invoice_id"] == invoice_id
    assert recorded.json()["version"] == 2
    assert (await shop.client.get(f"/invoices/{invoice_id}")).json()["total"] == "7.00"


async def test_an_orders_operation_neither_answers_nor_blocks_a_direct_clients_key(
    shop: Shop, query: Query
) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    async with shop.locked(order_id) as lease:
        await shop.create(order_id, proof=lease.proof(), op_id=op_id)
    await shop.abort(op_id, uuid.uuid4())
    await direct_creation(shop, op_id)
    await direct_creation(shop, op_id)
    rows = await query("SELECT order_id FROM invoices ORDER BY order_id NULLS LAST")
    assert [row["order_id"] for row in rows] == [order_id, None]


async def test_a_tombstone_of_this_very_invoice_stops_a_direct_change_too(shop: Shop) -> None:
    created = await shop.client.post("/invoices", json={"user_id": str(USER), "total": "1.00"})
    invoice_id, op_id = created.json()["id"], uuid.uuid4()
    await shop.abort(op_id, invoice_id)
    async with shop.locks.lock(f"invoice:{{{invoice_id}}}", ttl=30, wait=30) as lease:
        answer = await shop.update(invoice_id, base=1, proof=lease.proof(), op_id=op_id)
    assert answer.headers["operation-outcome"] == "aborted"


async def test_a_change_of_an_invoice_that_is_gone_ends_only_under_its_orders_lock(
    shop: Shop,
) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    path = f"/invoices/{invoice_id_for_order(order_id)}"
    async with shop.locked(order_id) as lease:
        given = headers(op_id=op_id, proof=lease.proof(), base=3)
        without = await shop.client.delete(path, headers=given)
        other = await shop.client.delete(path, headers=given | {"Order-Id": str(uuid.uuid4())})
        ended = await shop.client.delete(path, headers=given | {"Order-Id": str(order_id)})
    stranger = await shop.client.delete(
        path, headers=headers(op_id=uuid.uuid4(), proof="x", base=3) | {"Order-Id": str(order_id)}
    )
    for answer in (without, other):
        assert answer.status_code == 404
        assert "operation-outcome" not in answer.headers
    assert (ended.status_code, ended.headers["operation-outcome"]) == (404, "rejected")
    assert stranger.json()["type"] == "/problems/invoice-not-locked"


async def test_a_record_of_a_direct_client_from_before_still_answers_it_and_nobody_else(
    shop: Shop, engine: AsyncEngine
) -> None:
    """Until ids were told apart, a direct client's UUID was recorded as it is; so it is now."""
    op_id, order_id = uuid.uuid4(), uuid.uuid4()
    await direct_creation(shop, op_id)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE applied_operations SET created_at = now()"))
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        changed = await shop.update(invoice_id, base=1, proof=lease.proof(), op_id=op_id)
    assert changed.status_code == 204
    await direct_creation(shop, op_id)
    page = (await shop.client.get("/invoices")).json()["items"]
    assert len(page) == 2
