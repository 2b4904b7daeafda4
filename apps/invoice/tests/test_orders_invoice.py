"""The life of an order's invoice, as the order service drives it."""

import uuid

import pytest
from apps.invoice.tests.shop import USER, Query, Shop, headers

from invoice.domain import invoice_id_for_order


async def test_creating_answers_201_with_location_version_and_outcome(shop: Shop) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    async with shop.locked(order_id) as lease:
        answer = await shop.create(order_id, op_id=op_id, proof=lease.proof(), total="12.5")
    invoice_id = invoice_id_for_order(order_id)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/invoices/{invoice_id}"
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["operation-outcome"] == "applied"
    body = answer.json()
    assert body["id"] == str(invoice_id)
    assert (body["order_id"], body["user_id"]) == (str(order_id), str(USER))
    assert (body["total"], body["status"], body["version"]) == ("12.50", "created", 1)


async def test_updating_answers_204_and_makes_the_next_version(shop: Shop) -> None:
    order_id = uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        answer = await shop.update(invoice_id, base=1, proof=lease.proof(), total="7.77")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["etag"] == '"2"'
    assert answer.headers["operation-outcome"] == "applied"
    read = (await shop.client.get(f"/invoices/{invoice_id}")).json()
    assert (read["total"], read["status"], read["version"]) == ("7.77", "updated", 2)


async def test_deleting_keeps_the_invoice_readable_as_deleted(shop: Shop) -> None:
    order_id = uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        answer = await shop.delete(invoice_id, base=1, proof=lease.proof())
    assert (answer.status_code, answer.headers["etag"]) == (204, '"2"')
    read = (await shop.client.get(f"/invoices/{invoice_id}")).json()
    assert (read["status"], read["total"], read["version"]) == ("deleted", "10.00", 2)


async def test_every_version_has_exactly_one_applied_operation_and_the_row_names_the_last(
    shop: Shop, query: Query
) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        await shop.update(invoice_id, base=1, proof=lease.proof())
        await shop.update(invoice_id, base=1, proof=lease.proof())
        await shop.delete(invoice_id, base=2, proof=lease.proof(), op_id=op_id)
        fence = lease.fence
    operations = await query("SELECT * FROM applied_operations WHERE outcome = 'applied'")
    assert sorted(row["version"] for row in operations) == [1, 2, 3]
    (row,) = await query("SELECT * FROM invoices")
    assert (row["version"], row["last_op"], row["fence"]) == (3, op_id, fence)


async def test_a_second_creation_of_the_same_orders_invoice_is_rejected_for_good(
    shop: Shop,
) -> None:
    order_id = uuid.uuid4()
    await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        answer = await shop.create(order_id, proof=lease.proof(), total="99")
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/invoice-exists"
    assert answer.headers["operation-outcome"] == "rejected"


async def test_a_wrong_version_is_rejected_for_good_and_nothing_is_written(shop: Shop) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        for base in (2, 7):
            answer = await shop.update(invoice_id, base=base, proof=lease.proof())
            assert answer.status_code == 412
            assert answer.headers["operation-outcome"] == "rejected"
        stale = await shop.update(invoice_id, base=3, proof=lease.proof(), op_id=op_id)
        assert stale.status_code == 412
        # It stays rejected, also once the version that it asked for exists.
        for base in (1, 2):
            assert (await shop.update(invoice_id, base=base, proof=lease.proof())).is_success
        again = await shop.update(invoice_id, base=3, proof=lease.proof(), op_id=op_id)
    assert (again.status_code, again.content) == (412, stale.content)
    assert (await shop.client.get(f"/invoices/{invoice_id}")).json()["version"] == 3


async def test_a_deleted_invoice_refuses_every_change(shop: Shop) -> None:
    order_id = uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        assert (await shop.delete(invoice_id, base=1, proof=lease.proof())).is_success
        update = await shop.update(invoice_id, base=2, proof=lease.proof())
        delete = await shop.delete(invoice_id, base=2, proof=lease.proof())
    for answer in (update, delete):
        assert answer.status_code == 422
        assert answer.json()["type"] == "/problems/invoice-deleted"
        assert answer.headers["operation-outcome"] == "rejected"


@pytest.mark.parametrize("missing", ["Idempotency-Key", "If-Match"])
async def test_an_orders_invoice_changes_only_with_a_key_and_a_version(
    shop: Shop, missing: str
) -> None:
    order_id = uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        given = headers(op_id=uuid.uuid4(), proof=lease.proof(), base=1)
        del given[missing]
        update = await shop.client.patch(
            f"/invoices/{invoice_id}", json={"total": 1}, headers=given
        )
        delete = await shop.client.delete(f"/invoices/{invoice_id}", headers=given)
    for answer in (update, delete):
        assert answer.status_code == 428
        assert answer.json()["type"] == "/problems/precondition-required"
        assert "operation-outcome" not in answer.headers


async def test_an_orders_invoice_is_created_only_with_a_key(shop: Shop) -> None:
    order_id = uuid.uuid4()
    async with shop.locked(order_id) as lease:
        answer = await shop.client.post(
            "/invoices",
            json={"user_id": str(USER), "total": 1, "order_id": str(order_id)},
            headers={"Lock-Token": lease.proof()},
        )
    assert answer.status_code == 428


@pytest.mark.parametrize(
    ("header", "value"),
    [("Idempotency-Key", "not-a-uuid"), ("If-Match", "*"), ("If-Match", '"1", "2"')],
)
async def test_an_orders_invoice_needs_a_uuid_as_key_and_one_version(
    shop: Shop, header: str, value: str
) -> None:
    order_id = uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        given = headers(op_id=uuid.uuid4(), proof=lease.proof(), base=1) | {header: value}
        answer = await shop.client.delete(f"/invoices/{invoice_id}", headers=given)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == header
