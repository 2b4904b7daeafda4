"""What a request costs: round trips to the database, and requests to Redis."""

import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import redis
from apps.invoice.tests.shop import Shop

from devkit.database_proxy import DatabaseProxy
from devkit.servers import RedisServer

# psycopg prepares a statement when it comes for the sixth time, which costs a round trip once.
OFTEN_ENOUGH = 8
TTL_SECONDS = 300


class Meter:
    """Counts what one request costs once everything is warm."""

    def __init__(self, proxy: DatabaseProxy, redis_url: str) -> None:
        self._proxy = proxy
        self._redis: Any = redis.Redis.from_url(redis_url)

    async def cost(self, ask: Callable[[], Awaitable[httpx.Response]]) -> tuple[int, int, int]:
        """The status of the last of several requests, its round trips, its requests to Redis."""
        for _ in range(OFTEN_ENOUGH):
            await ask()
        trips, scripts = self._proxy.round_trips, self._scripts()
        answer = await ask()
        return answer.status_code, self._proxy.round_trips - trips, self._scripts() - scripts

    def close(self) -> None:
        self._redis.close()

    def _scripts(self) -> int:
        return int(self._redis.info("commandstats")["cmdstat_evalsha"]["calls"])


@pytest.fixture
def meter(proxy: DatabaseProxy, redis_server: RedisServer) -> Iterator[Meter]:
    meter = Meter(proxy, redis_server.url)
    yield meter
    meter.close()


async def test_a_change_looks_once_writes_once_and_asks_redis_once(
    proxied: Shop, meter: Meter
) -> None:
    order_id = uuid.uuid4()
    invoice_id = await proxied.created(order_id)
    versions = iter(range(1, 100))
    lock = proxied.locks.lock(f"order:{{{order_id}}}", f"invoice:{{{order_id}}}", ttl=TTL_SECONDS)
    async with lock as lease:
        cost = await meter.cost(
            lambda: proxied.update(invoice_id, base=next(versions), proof=lease.proof())
        )
    assert cost == (204, 2, 1)


async def test_a_creation_by_a_client_writes_once(proxied: Shop, meter: Meter) -> None:
    body = {"user_id": str(uuid.uuid4()), "total": "1.00"}
    cost = await meter.cost(lambda: proxied.client.post("/invoices", json=body))
    assert cost == (201, 1, 0)


async def test_a_repetition_looks_once_and_needs_no_lock(proxied: Shop, meter: Meter) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    async with proxied.locked(order_id) as lease:
        await proxied.create(order_id, proof=lease.proof(), op_id=op_id)
    created = await meter.cost(lambda: proxied.create(order_id, proof="gone", op_id=op_id))
    assert created == (201, 1, 0)


async def test_a_change_without_the_lock_is_refused_after_one_look(
    proxied: Shop, meter: Meter
) -> None:
    invoice_id = await proxied.created(uuid.uuid4())
    cost = await meter.cost(lambda: proxied.update(invoice_id, base=1, proof=None))
    assert cost == (409, 1, 0)


async def test_a_read_is_one_statement(proxied: Shop, meter: Meter) -> None:
    invoice_id = await proxied.created(uuid.uuid4())
    cost = await meter.cost(lambda: proxied.client.get(f"/invoices/{invoice_id}"))
    assert cost == (200, 1, 0)


async def test_a_list_is_one_statement(proxied: Shop, meter: Meter) -> None:
    await proxied.created(uuid.uuid4())
    cost = await meter.cost(lambda: proxied.client.get("/invoices?limit=5"))
    assert cost == (200, 1, 0)
