"""An operation is decided once; repeating it gives the same answer byte for byte."""

import asyncio
import uuid

import httpx
import pytest
from apps.invoice.tests.shop import USER, Query, Shop


def same(left: httpx.Response, right: httpx.Response) -> bool:
    """Equal in status, in body and in every header but the date."""
    kept = [
        {name: value for name, value in answer.headers.items() if name != "date"}
        for answer in (left, right)
    ]
    return (left.status_code, left.content) == (right.status_code, right.content) and (
        kept[0] == kept[1]
    )


async def test_repeating_a_creation_an_update_and_a_deletion_needs_no_lock(shop: Shop) -> None:
    order_id = uuid.uuid4()
    create, update, delete = (uuid.uuid4() for _ in range(3))
    async with shop.locked(order_id) as lease:
        proof = lease.proof()
        created = await shop.create(order_id, proof=proof, op_id=create)
        invoice_id = created.json()["id"]
        updated = await shop.update(invoice_id, base=1, proof=proof, op_id=update)
        deleted = await shop.delete(invoice_id, base=2, proof=proof, op_id=delete)
    for proof_now in (None, proof):
        assert same(created, await shop.create(order_id, proof=proof_now, op_id=create))
        again = await shop.update(invoice_id, base=1, proof=proof_now, op_id=update)
        assert same(updated, again)
        assert same(deleted, await shop.delete(invoice_id, base=2, proof=proof_now, op_id=delete))


async def test_repeating_a_rejected_operation_gives_the_same_problem_with_the_same_trace_id(
    shop: Shop,
) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        first = await shop.update(invoice_id, base=9, proof=lease.proof(), op_id=op_id)
    again = await shop.update(invoice_id, base=9, proof=None, op_id=op_id)
    assert first.status_code == 412
    assert same(first, again)


async def test_the_same_key_for_another_request_is_refused_and_changes_nothing(
    shop: Shop, query: Query
) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    async with shop.locked(order_id) as lease:
        created = await shop.create(order_id, proof=lease.proof(), op_id=op_id, total="1.00")
        invoice_id = created.json()["id"]
        others = [
            await shop.create(order_id, proof=lease.proof(), op_id=op_id, total="1.01"),
            await shop.update(invoice_id, base=1, proof=lease.proof(), op_id=op_id, total="1.00"),
            await shop.delete(invoice_id, base=1, proof=lease.proof(), op_id=op_id),
        ]
    for answer in others:
        assert answer.status_code == 422
        assert answer.json()["type"] == "/problems/idempotency-key-reused"
        assert "operation-outcome" not in answer.headers
    assert len(await query("SELECT * FROM applied_operations")) == 1
    (row,) = await query("SELECT * FROM invoices")
    assert row["version"] == 1


async def test_amounts_of_equal_value_are_the_same_request(shop: Shop) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    async with shop.locked(order_id) as lease:
        first = await shop.create(order_id, proof=lease.proof(), op_id=op_id, total="10")
        again = await shop.create(order_id, proof=lease.proof(), op_id=op_id, total="10.00")
    assert same(first, again)


@pytest.mark.parametrize("copies", [12])
async def test_copies_of_one_request_at_once_take_effect_once_and_get_one_answer(
    shop: Shop, query: Query, copies: int
) -> None:
    order_id, create, update = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    async with shop.locked(order_id) as lease:
        proof = lease.proof()
        created = await asyncio.gather(
            *(shop.create(order_id, proof=proof, op_id=create) for _ in range(copies))
        )
        invoice_id = created[0].json()["id"]
        updated = await asyncio.gather(
            *(shop.update(invoice_id, base=1, proof=proof, op_id=update) for _ in range(copies))
        )
    assert {answer.status_code for answer in created} == {201}
    assert len({answer.content for answer in created}) == 1
    assert all(same(updated[0], answer) for answer in updated)
    assert updated[0].status_code == 204
    operations = await query("SELECT op_id, version FROM applied_operations ORDER BY version")
    assert [(row["op_id"], row["version"]) for row in operations] == [(create, 1), (update, 2)]


async def test_different_requests_at_once_for_one_version_one_wins_and_the_rest_are_rejected(
    shop: Shop, query: Query
) -> None:
    order_id = uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        answers = await asyncio.gather(
            *(
                shop.update(invoice_id, base=1, proof=lease.proof(), total=f"{cents}.00")
                for cents in range(12)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [204] + [412] * 11
    (won,) = [index for index, answer in enumerate(answers) if answer.status_code == 204]
    (row,) = await query("SELECT version, total FROM invoices")
    assert (row["version"], row["total"]) == (2, won)


async def test_the_two_forms_of_a_header_mean_the_same_key(shop: Shop) -> None:
    body = {"user_id": str(USER), "total": "3"}
    bare = await shop.client.post("/invoices", json=body, headers={"Idempotency-Key": "a-17"})
    quoted = await shop.client.post("/invoices", json=body, headers={"Idempotency-Key": '"a-17"'})
    assert bare.status_code == 201
    assert same(bare, quoted)


async def test_every_outcome_names_its_operation(shop: Shop) -> None:
    order_id = uuid.uuid4()
    create, update, wrong, aborted = (uuid.uuid4() for _ in range(4))
    async with shop.locked(order_id) as lease:
        proof = lease.proof()
        created = await shop.create(order_id, proof=proof, op_id=create)
        invoice_id = created.json()["id"]
        answers = [
            (create, "applied", created),
            (update, "applied", await shop.update(invoice_id, base=1, proof=proof, op_id=update)),
            (wrong, "rejected", await shop.delete(invoice_id, base=1, proof=proof, op_id=wrong)),
            (aborted, "aborted", await shop.abort(aborted, invoice_id)),
            (aborted, "aborted", await shop.delete(invoice_id, base=2, proof=proof, op_id=aborted)),
        ]
    for op_id, outcome in ((create, "applied"), (wrong, "rejected"), (aborted, "aborted")):
        asked = await shop.client.get(f"/operations/{op_id}", params={"invoice_id": invoice_id})
        answers.append((op_id, outcome, asked))
    for op_id, outcome, answer in answers:
        named = (answer.headers["operation-id"], answer.headers["operation-outcome"])
        assert named == (str(op_id), outcome)
