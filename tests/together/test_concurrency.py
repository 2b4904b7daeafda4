"""Many at once: every answer is one of the few that are allowed, and both sides end equal."""

import asyncio
import uuid
from collections import Counter

import httpx
from tests.together.shop import Shop, create, new_order, now


async def test_200_concurrent_updates_of_one_order_end_with_both_sides_equal(shop: Shop) -> None:
    order_id = await asyncio.to_thread(create, shop.order)
    answers: Counter[int] = Counter()
    quantities = iter(range(1, 201))

    async def one_connection() -> None:
        async with httpx.AsyncClient(
            base_url=shop.order.url, timeout=30.0, trust_env=False
        ) as client:
            for quantity in quantities:
                answer = await client.patch(
                    f"/orders/{order_id}", json={"update_time": now(), "quantity": quantity}
                )
                answers[answer.status_code] += 1

    await asyncio.gather(*(one_connection() for _ in range(20)))
    assert answers.total() == 200
    assert set(answers) <= {204, 409, 423}
    assert answers[204] > 0
    shop.assert_true()
    assert shop.orders()[uuid.UUID(order_id)]["version"] == answers[204] + 1
    assert shop.lock_keys() == []


async def test_updates_through_two_replicas_end_with_both_sides_equal(shop: Shop) -> None:
    second = await asyncio.to_thread(lambda: shop.replica().start())
    orders = [await asyncio.to_thread(create, shop.order) for _ in range(5)]
    answers: Counter[int] = Counter()

    async def one_client(number: int) -> None:
        url = (shop.order, second)[number % 2].url
        async with httpx.AsyncClient(base_url=url, timeout=30.0, trust_env=False) as client:
            for attempt in range(10):
                path = f"/orders/{orders[(number + attempt) % len(orders)]}"
                answer = await client.patch(path, json={"update_time": now(), "quantity": 3})
                answers[answer.status_code] += 1
            answer = await client.delete(f"/orders/{orders[number % len(orders)]}")
            answers[answer.status_code] += 1

    await asyncio.gather(*(one_client(number) for number in range(10)))
    assert set(answers) <= {204, 409, 422, 423}
    shop.assert_true()
    assert shop.lock_keys() == []


async def test_concurrent_requests_with_one_key_create_one_order(shop: Shop) -> None:
    body, headers = new_order(), {"Idempotency-Key": str(uuid.uuid4())}

    async def once() -> httpx.Response:
        async with httpx.AsyncClient(
            base_url=shop.order.url, timeout=30.0, trust_env=False
        ) as client:
            return await client.post("/orders", json=body, headers=headers)

    answers = await asyncio.gather(*(once() for _ in range(12)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    created = {answer.content for answer in answers if answer.status_code == 201}
    assert len(created) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["type"] == "/problems/operation-running"
            assert answer.headers["location"].startswith("/operations/")
    later = await once()
    assert (later.status_code, {later.content}) == (201, created)
    assert len(shop.orders()) == 1
    shop.assert_true()
