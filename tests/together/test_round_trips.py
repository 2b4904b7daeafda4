"""What a change costs both services together: round trips, requests to Redis, and to each other."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import pytest
import redis
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.together.shop import Templates, new_order, now

import invoice.app
import invoice.failpoints
import invoice.settings
import order.app
import order.failpoints
import order.settings
from devkit.database_proxy import DatabaseProxy, database_proxy
from devkit.servers import PostgresServer, RedisServer
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime
from servicekit.testing.polling import eventually
from servicekit.testing.server import serving

# psycopg prepares a statement when it comes for the sixth time, which costs a round trip once.
OFTEN_ENOUGH = 8
QUIET = {
    "port": 0,
    "metrics_port": 0,
    "request_timeout_seconds": 60,
    "statement_timeout_seconds": 30,
}


class Cost(NamedTuple):
    """What one request costs."""

    status: int
    order_database: int
    invoice_database: int
    redis: int
    between: int


class Counting:
    """Counts the requests that an application gets."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += scope["type"] == "http"
        await self._app(scope, receive, send)


@dataclass
class Measured:
    """Both services in this process, and what counts their work."""

    client: httpx.AsyncClient
    orders: DatabaseProxy
    invoices: DatabaseProxy
    redis: Any
    between: Counting

    async def cost(self, ask: Callable[[], Awaitable[httpx.Response]]) -> Cost:
        """What the last of several requests cost."""
        for _ in range(OFTEN_ENOUGH):
            await ask()
        before = self._counts()
        status = (await ask()).status_code
        return Cost(status, *(now - then for now, then in zip(self._counts(), before, strict=True)))

    def _counts(self) -> tuple[int, int, int, int]:
        scripts = self.redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})
        return (
            self.orders.round_trips,
            self.invoices.round_trips,
            int(scripts["calls"]),
            self.between.requests,
        )


@pytest.fixture
def proxies(
    postgres_server: PostgresServer, templates: Templates
) -> Iterator[dict[str, DatabaseProxy]]:
    with ExitStack() as stack:
        found = {}
        for side, template in (("order", templates.order), ("invoice", templates.invoice)):
            name = f"{side}_counted_{uuid.uuid4().hex[:8]}"
            url = postgres_server.create_database(name, template=template)
            found[side] = stack.enter_context(database_proxy(url))
        yield found


@pytest.fixture
async def measured(
    proxies: dict[str, DatabaseProxy], redis_server: RedisServer
) -> AsyncIterator[Measured]:
    async with AsyncExitStack() as stack:
        between = Counting(invoice_service(proxies["invoice"].url, redis_server.url))
        invoice_url = await stack.enter_async_context(serving(between))
        runtime = Runtime.bare(service="order", failpoints=Failpoints(order.failpoints.NAMES))
        app = order_service(runtime, proxies["order"].url, redis_server.url, invoice_url)
        order_url = await stack.enter_async_context(serving(app))
        client = httpx.AsyncClient(base_url=order_url, timeout=60, trust_env=False)
        await stack.enter_async_context(client)
        counter: Any = stack.enter_context(redis.Redis.from_url(redis_server.url))
        await eventually(lambda: recovered(runtime))
        yield Measured(client, proxies["order"], proxies["invoice"], counter, between)


def invoice_service(database_url: str, redis_url: str) -> ASGIApp:
    settings = invoice.settings.Settings.model_validate(
        {**QUIET, "database_url": database_url, "redis_url": redis_url}
    )
    runtime = Runtime.bare(service="invoice", failpoints=Failpoints(invoice.failpoints.NAMES))
    return invoice.app.create_app(settings, runtime=runtime)


def order_service(runtime: Runtime, database_url: str, redis_url: str, invoice_url: str) -> ASGIApp:
    settings = order.settings.Settings.model_validate(
        {
            **QUIET,
            "database_url": database_url,
            "redis_url": redis_url,
            "invoice_url": invoice_url,
            # Recovery has its round at the start, and the lease outlasts any test: nothing else
            # than the requests is counted.
            "reconcile_interval_seconds": 3600,
            "lock_ttl_seconds": 300,
            "invoice_timeout_seconds": 30,
        }
    )
    return order.app.create_app(settings, runtime=runtime)


async def recovered(runtime: Runtime) -> bool:
    rounds = runtime.registry.get_sample_value("shop_reconciler_rounds_total", {"result": "done"})
    return bool(rounds)


def a_key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


async def test_an_update_is_five_round_trips_three_requests_to_redis_and_one_between(
    measured: Measured,
) -> None:
    client = measured.client
    path = f"/orders/{(await client.post('/orders', json=new_order())).json()['id']}"

    def update(**headers: str) -> Awaitable[httpx.Response]:
        return client.patch(path, json={"update_time": now(), "quantity": 3}, headers=headers)

    assert await measured.cost(update) == Cost(204, 3, 2, 3, 1)
    assert await measured.cost(lambda: update(**a_key())) == Cost(204, 4, 2, 3, 1)


async def test_a_creation_is_four_round_trips_three_requests_to_redis_and_one_between(
    measured: Measured,
) -> None:
    def create(**headers: str) -> Awaitable[httpx.Response]:
        return measured.client.post("/orders", json=new_order(), headers=headers)

    assert await measured.cost(create) == Cost(201, 2, 2, 3, 1)
    assert await measured.cost(lambda: create(**a_key())) == Cost(201, 3, 2, 3, 1)


async def test_a_read_or_a_replay_is_one_round_trip_and_nothing_else(measured: Measured) -> None:
    key, body = a_key(), new_order()

    def create() -> Awaitable[httpx.Response]:
        return measured.client.post("/orders", json=body, headers=key)

    path = (await create()).headers["location"]
    assert await measured.cost(create) == Cost(201, 1, 0, 0, 0)
    assert await measured.cost(lambda: measured.client.get(path)) == Cost(200, 1, 0, 0, 0)


async def test_the_first_page_of_a_list_is_one_round_trip_and_any_other_two_at_most(
    measured: Measured,
) -> None:
    body = new_order()
    for _ in range(4):
        await measured.client.post("/orders", json=body)

    def read(path: str) -> Callable[[], Awaitable[httpx.Response]]:
        return lambda: measured.client.get(path)

    mine = f"/orders?user_id={body['user_id']}"
    assert await measured.cost(read(mine)) == Cost(200, 1, 0, 0, 0)
    assert await measured.cost(read("/operations")) == Cost(200, 1, 0, 0, 0)
    first = await measured.client.get(f"{mine}&limit=2")
    rest = f"{mine}&limit=2&cursor={first.json()['next_cursor']}"
    assert await measured.cost(read(rest)) == Cost(200, 2, 0, 0, 0)
