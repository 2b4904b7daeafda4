"""The counters say what happened to requests, not what it looked like."""

import time
from collections.abc import Callable, Mapping, Sequence

import httpx
import pytest
from tools.playground.customers import OPEN_KEPT, Customers
from tools.playground.tables import Outcome

ORDER = "7d7e5d2c-3c1f-4c57-9a0e-2f2d5c1e8a11"
KEY = "1f0b9d4e-6f0b-4a53-8f0e-3b1c2d4e5f60"


class Shop:
    """Answers as it is told, and knows what became of each key."""

    def __init__(self) -> None:
        self.answers: list[int | type[httpx.TransportError]] = []
        self.ended: dict[str, Outcome] = {}
        self.on_request: Callable[[], None] = lambda: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.on_request()
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return httpx.Response(answer, json={"order_id": ORDER} if answer == 202 else None)
        raise answer("as told")

    async def outcomes(self, keys: Sequence[str]) -> Mapping[str, Outcome]:
        return {key: self.ended[key] for key in keys if key in self.ended}


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def customers(shop: Shop) -> Customers:
    return Customers(
        {"order-a": "http://shop.test"},
        outcomes=shop.outcomes,
        transport=httpx.MockTransport(shop),
    )


async def _ask(customers: Customers, key: str | None = KEY) -> None:
    await customers.update(ORDER, quantity=2, key=key)


async def test_a_repeat_of_what_had_ended_is_a_replay(shop: Shop, customers: Customers) -> None:
    shop.answers = [httpx.ReadError, 204]
    await _ask(customers)
    shop.ended[KEY] = Outcome(time.time())
    await _ask(customers)
    assert (customers.counts.replayed, customers.counts.acknowledged) == (1, 0)


async def test_a_repeat_that_does_the_work_is_none(shop: Shop, customers: Customers) -> None:
    shop.answers = [httpx.ReadError, 204]
    await _ask(customers)
    await _ask(customers)
    assert (customers.counts.replayed, customers.counts.acknowledged) == (0, 1)


async def test_what_somebody_else_completes_is_healed_once(
    shop: Shop, customers: Customers
) -> None:
    shop.answers = [httpx.ReadError]
    await _ask(customers)
    shop.ended[KEY] = Outcome(None)
    customers.settle(await shop.outcomes(list(customers.open)))
    assert customers.counts.healed == 0
    shop.ended[KEY] = Outcome(time.time() + 1)
    for _ in range(2):
        customers.settle(await shop.outcomes([KEY]))
    assert customers.counts.healed == 1
    assert KEY in customers.healed


async def test_a_lost_answer_of_a_finished_change_heals_nothing(
    shop: Shop, customers: Customers
) -> None:
    shop.answers = [httpx.ReadError]
    shop.on_request = lambda: shop.ended.update({KEY: Outcome(time.time())})
    await _ask(customers)
    customers.settle(shop.ended)
    assert customers.counts.healed == 0
    assert customers.open == {}


async def test_a_request_that_nobody_heard_waits_for_nothing(
    shop: Shop, customers: Customers
) -> None:
    shop.answers = [httpx.ConnectError]
    await _ask(customers)
    assert customers.counts.unanswered == 1
    assert customers.open == {}


async def test_a_final_answer_ends_the_waiting(shop: Shop, customers: Customers) -> None:
    shop.answers = [202, 409]
    await _ask(customers)
    assert list(customers.open) == [KEY]
    await _ask(customers)
    assert customers.open == {}
    assert (customers.counts.unanswered, customers.counts.refused) == (1, 1)


async def test_only_so_many_open_requests_are_looked_after(
    shop: Shop, customers: Customers
) -> None:
    shop.answers = [httpx.ReadError] * (OPEN_KEPT + 10)
    for _ in range(OPEN_KEPT + 10):
        await _ask(customers, key=None)
    assert len(customers.open) == OPEN_KEPT
    assert customers.counts.unanswered == OPEN_KEPT + 10
