"""What a request costs: round trips to the database."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from apps.order.tests.fakes import FakeInvoices, FakeLocks

from devkit.database_proxy import DatabaseProxy
from order.app import create_app
from order.settings import Settings
from servicekit.runtime import Runtime
from servicekit.testing.polling import eventually
from servicekit.testing.server import serving

# psycopg prepares a statement when it comes for the sixth time, which costs a round trip once.
OFTEN_ENOUGH = 8
Ask = Callable[[], Awaitable[httpx.Response]]


@pytest.fixture
async def client(
    behind: Settings, runtime: Runtime, invoices: FakeInvoices
) -> AsyncIterator[httpx.AsyncClient]:
    """The service behind a proxy that counts; what recovery does at its start is over."""
    app = create_app(behind, runtime=runtime, invoices=invoices, locks=FakeLocks())
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client,
    ):
        rounds = "shop_reconciler_rounds_total"

        async def recovered() -> bool:
            return bool(runtime.registry.get_sample_value(rounds, {"result": "done"}))

        await eventually(recovered)
        yield client


async def cost(proxy: DatabaseProxy, ask: Ask) -> tuple[int, int]:
    """The status of the last of several requests, and its round trips."""
    for _ in range(OFTEN_ENOUGH):
        await ask()
    before = proxy.round_trips
    answer = await ask()
    return answer.status_code, proxy.round_trips - before


def a_key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def an_update(quantity: int = 3) -> dict[str, Any]:
    return {"update_time": datetime.now(UTC).isoformat(), "quantity": quantity}


async def created(client: httpx.AsyncClient, new_order: dict[str, Any]) -> str:
    return f"/orders/{(await client.post('/orders', json=new_order)).json()['id']}"


async def test_a_creation_is_an_intent_and_a_completion(
    client: httpx.AsyncClient, proxy: DatabaseProxy, new_order: dict[str, Any]
) -> None:
    bare = await cost(proxy, lambda: client.post("/orders", json=new_order))
    keyed = await cost(proxy, lambda: client.post("/orders", json=new_order, headers=a_key()))
    assert (bare, keyed) == ((201, 2), (201, 3))


async def test_an_update_looks_first(
    client: httpx.AsyncClient, proxy: DatabaseProxy, new_order: dict[str, Any]
) -> None:
    order = await created(client, new_order)
    bare = await cost(proxy, lambda: client.patch(order, json=an_update()))
    keyed = await cost(proxy, lambda: client.patch(order, json=an_update(), headers=a_key()))
    assert (bare, keyed) == ((204, 3), (204, 4))


async def test_a_change_that_is_in_place_already_is_one_look(
    client: httpx.AsyncClient, proxy: DatabaseProxy, new_order: dict[str, Any]
) -> None:
    order = await created(client, new_order)
    assert await cost(proxy, lambda: client.delete(order)) == (204, 1)


async def test_a_refusal_is_one_look_and_is_kept_in_one_statement(
    client: httpx.AsyncClient, proxy: DatabaseProxy
) -> None:
    unknown = f"/orders/{uuid.uuid4()}"
    bare = await cost(proxy, lambda: client.patch(unknown, json=an_update()))
    keyed = await cost(proxy, lambda: client.patch(unknown, json=an_update(), headers=a_key()))
    assert (bare, keyed) == ((404, 1), (404, 3))


async def test_a_replay_is_one_statement(
    client: httpx.AsyncClient, proxy: DatabaseProxy, new_order: dict[str, Any]
) -> None:
    key = a_key()
    replay = await cost(proxy, lambda: client.post("/orders", json=new_order, headers=key))
    assert replay == (201, 1)


async def test_a_change_that_the_invoice_service_refuses_costs_no_more(
    client: httpx.AsyncClient,
    proxy: DatabaseProxy,
    invoices: FakeInvoices,
    new_order: dict[str, Any],
) -> None:
    order = await created(client, new_order)
    invoices.rows.clear()
    assert await cost(proxy, lambda: client.patch(order, json=an_update())) == (409, 3)


async def test_a_page_is_one_statement(
    client: httpx.AsyncClient, proxy: DatabaseProxy, new_order: dict[str, Any]
) -> None:
    answer = await client.post("/orders", json=new_order)
    operation = f"/operations/{answer.headers['operation-id']}"
    assert await cost(proxy, lambda: client.get(answer.headers["location"])) == (200, 1)
    assert await cost(proxy, lambda: client.get(operation)) == (200, 1)
