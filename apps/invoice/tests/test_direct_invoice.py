"""Invoices that clients create without an order."""

import asyncio
import uuid

import pytest
from apps.invoice.tests.shop import USER, Query, Shop


async def created(shop: Shop, *, key: str | None = None, total: str = "10.00") -> str:
    answer = await shop.client.post(
        "/invoices",
        json={"user_id": str(USER), "total": total},
        headers={} if key is None else {"Idempotency-Key": key},
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_creating_one_needs_neither_lock_nor_key(shop: Shop) -> None:
    first, second = await created(shop), await created(shop)
    assert first != second
    read = (await shop.client.get(f"/invoices/{first}")).json()
    assert (read["order_id"], read["total"], read["version"]) == (None, "10.00", 1)


@pytest.mark.parametrize(
    "key", ["k", "order~17", "x" * 255, "E4B8F7A0-1C2D-4E3F-8A9B-0C1D2E3F4A5B"]
)
async def test_creating_one_twice_under_any_form_of_key_makes_one(shop: Shop, key: str) -> None:
    assert await created(shop, key=key) == await created(shop, key=key)


async def test_changing_one_needs_its_lock(shop: Shop) -> None:
    invoice_id = await created(shop)
    for answer in (
        await shop.client.patch(f"/invoices/{invoice_id}", json={"total": 1}),
        await shop.client.delete(f"/invoices/{invoice_id}"),
    ):
        assert answer.status_code == 409
        assert answer.json()["type"] == "/problems/invoice-not-locked"


async def test_under_its_lock_it_changes_without_key_or_version(shop: Shop) -> None:
    invoice_id = await created(shop)
    async with shop.locks.lock(f"invoice:{{{invoice_id}}}", ttl=30, wait=30) as lease:
        proof = {"Lock-Token": lease.proof()}
        url = f"/invoices/{invoice_id}"
        update = await shop.client.patch(url, json={"total": "2.50"}, headers=proof)
        delete = await shop.client.delete(url, headers=proof)
        again = await shop.client.delete(url, headers=proof)
    assert (update.status_code, update.headers["etag"]) == (204, '"2"')
    assert (delete.status_code, delete.headers["etag"]) == (204, '"3"')
    assert (again.status_code, again.json()["type"]) == (422, "/problems/invoice-deleted")
    read = (await shop.client.get(url)).json()
    assert (read["total"], read["status"]) == ("2.50", "deleted")


@pytest.mark.parametrize(
    ("if_match", "status"),
    [('"1"', 204), ("*", 204), ('"7", "1"', 204), ('"2"', 412), ('"7", "8"', 412), ('W/"1"', 412)],
)
async def test_if_match_is_honoured_in_every_form(shop: Shop, if_match: str, status: int) -> None:
    invoice_id = await created(shop)
    async with shop.locks.lock(f"invoice:{{{invoice_id}}}", ttl=30, wait=30) as lease:
        answer = await shop.client.delete(
            f"/invoices/{invoice_id}",
            headers={"Lock-Token": lease.proof(), "If-Match": if_match},
        )
    assert answer.status_code == status


async def test_changes_at_once_under_one_lock_happen_one_after_the_other(
    shop: Shop, query: Query
) -> None:
    invoice_id = await created(shop)
    async with shop.locks.lock(f"invoice:{{{invoice_id}}}", ttl=30, wait=30) as lease:
        answers = await asyncio.gather(
            *(
                shop.client.patch(
                    f"/invoices/{invoice_id}",
                    json={"total": cents},
                    headers={"Lock-Token": lease.proof()},
                )
                for cents in range(8)
            )
        )
    # Who loses the race thrice is told to come again; nobody's change is lost or half done.
    assert {answer.status_code for answer in answers} <= {204, 503}
    done = sum(answer.status_code == 204 for answer in answers)
    assert done >= 1
    versions = await query("SELECT version FROM applied_operations ORDER BY version")
    assert [row["version"] for row in versions] == list(range(1, done + 2))
    (row,) = await query("SELECT version FROM invoices")
    assert row["version"] == done + 1


async def test_an_unknown_invoice_answers_404_without_a_record_when_there_is_no_key(
    shop: Shop, query: Query
) -> None:
    url = f"/invoices/{uuid.uuid4()}"
    for answer in (
        await shop.client.get(url),
        await shop.client.delete(url),
        await shop.client.patch(url, json={"total": 1}),
    ):
        assert answer.status_code == 404
        assert answer.json()["type"] == "/problems/invoice-not-found"
    assert await query("SELECT * FROM applied_operations") == []
