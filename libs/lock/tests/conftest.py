"""A clean server for each test, and clients that are closed after it."""

from collections.abc import AsyncIterator

import pytest
from libs.lock.tests.clients import Api, Clients
from libs.lock.tests.proxy import Proxy
from redis.asyncio import Redis

from devkit.servers import RedisServer
from fencelock import AsyncLockClient
from fencelock._target import Target


@pytest.fixture
async def admin(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A plain client that looks at the server from outside; the server is empty."""
    async with Redis.from_url(redis_server.url, protocol=2) as redis:
        await redis.flushall()
        await redis.script_flush()
        yield redis


@pytest.fixture
def url(redis_server: RedisServer, admin: Redis) -> str:
    return redis_server.url


@pytest.fixture
def api() -> Api:
    """Which client is tried; contracts that both keep are parametrised over it."""
    return "async"


@pytest.fixture
async def clients(url: str, api: Api) -> AsyncIterator[Clients]:
    """Makes lock clients."""
    async with Clients(url, api) as factory:
        yield factory


@pytest.fixture
async def client(clients: Clients) -> AsyncLockClient:
    return clients.make()


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """A way to the server that can be disturbed."""
    async with Proxy(Target.from_url(url)) as running:
        yield running
