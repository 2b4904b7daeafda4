"""Tombstones: the first writer decides, for ever."""

import asyncio
import uuid

from apps.invoice.tests.shop import Query, Shop

from invoice.domain import invoice_id_for_order


async def test_an_unknown_operation_is_404_until_something_is_recorded(shop: Shop) -> None:
    answer = await shop.client.get(f"/operations/{uuid.uuid4()}")
    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/operation-not-found"
    assert "operation-outcome" not in answer.headers


async def test_an_applied_operation_is_reported_with_what_it_made(shop: Shop) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    async with shop.locked(order_id) as lease:
        await shop.create(order_id, proof=lease.proof(), op_id=op_id)
    answer = await shop.client.get(f"/operations/{op_id}")
    assert answer.headers["operation-outcome"] == "applied"
    body = answer.json()
    del body["created_at"]
    assert body == {
        "id": str(op_id),
        "kind": "create",
        "outcome": "applied",
        "invoice_id": str(invoice_id_for_order(order_id)),
        "version": 1,
        "status": 201,
    }


async def test_an_aborted_operation_is_refused_for_ever_also_under_the_lock(
    shop: Shop, query: Query
) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    aborted = await shop.abort(op_id, invoice_id_for_order(order_id))
    assert (aborted.status_code, aborted.json()["outcome"]) == (200, "aborted")
    assert aborted.headers["operation-outcome"] == "aborted"
    async with shop.locked(order_id) as lease:
        first = await shop.create(order_id, proof=lease.proof(), op_id=op_id)
        again = await shop.create(order_id, proof=lease.proof(), op_id=op_id, total="5")
    for answer in (first, again):
        assert answer.status_code == 409
        assert answer.json()["type"] == "/problems/operation-aborted"
        assert answer.headers["operation-outcome"] == "aborted"
    assert first.content == again.content
    assert await query("SELECT * FROM invoices") == []


async def test_aborting_a_decided_operation_answers_what_stands(shop: Shop) -> None:
    order_id, applied, rejected = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    async with shop.locked(order_id) as lease:
        created = await shop.create(order_id, proof=lease.proof(), op_id=applied)
        invoice_id = created.json()["id"]
        await shop.update(invoice_id, base=5, proof=lease.proof(), op_id=rejected)
    assert (await shop.abort(applied, invoice_id)).json()["outcome"] == "applied"
    assert (await shop.abort(rejected, invoice_id)).json()["outcome"] == "rejected"
    assert (await shop.client.get(f"/invoices/{invoice_id}")).json()["version"] == 1


async def test_aborting_twice_answers_the_same(shop: Shop) -> None:
    op_id, invoice_id = uuid.uuid4(), uuid.uuid4()
    first = await shop.abort(op_id, invoice_id)
    assert (await shop.abort(op_id, invoice_id)).content == first.content


async def test_of_an_abort_and_the_operation_at_once_exactly_one_stands(
    shop: Shop, query: Query
) -> None:
    for _ in range(8):
        order_id, op_id = uuid.uuid4(), uuid.uuid4()
        invoice_id = invoice_id_for_order(order_id)
        async with shop.locked(order_id) as lease:
            created, aborted = await asyncio.gather(
                shop.create(order_id, proof=lease.proof(), op_id=op_id),
                shop.abort(op_id, invoice_id),
            )
        outcome = aborted.json()["outcome"]
        assert created.headers["operation-outcome"] == outcome
        assert created.status_code == {"applied": 201, "aborted": 409}[outcome]
        rows = await query(f"SELECT * FROM invoices WHERE id = '{invoice_id}'")
        assert len(rows) == (1 if outcome == "applied" else 0)
