"""What goes wrong in node-redlock and in redsync goes right here.

A promise is a function that raises if it is not kept. Every one is kept by fencelock on a quorum,
and broken by what `redlocks.py` says of the lock that it is listed for.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Protocol

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.topologies.redlocks import NAME, NodeRedlock, Redsync
from libs.lock.tests.topologies.servers import ask
from redis.asyncio import Redis

from devkit.servers import RedisServer
from fencelock import AsyncLease, AsyncLockClient, FencelockError

# Far below what one silent server may cost a call with the TTL that is asked for.
SOON_SECONDS = 3.0
TTL_SECONDS = 300.0


class Locks(Protocol):
    """A lock on several servers."""

    async def take(self, ttl: float) -> None:
        """Hold the name, or raise."""

    async def release(self) -> None:
        """Give it back, or raise."""


class Ours:
    key = f"fencelock:l:{NAME}"

    def __init__(self, client: AsyncLockClient) -> None:
        self._client = client
        self._lease: AsyncLease | None = None

    async def take(self, ttl: float) -> None:
        self._lease = await self._client.acquire(NAME, ttl=ttl, wait=0)

    async def release(self) -> None:
        assert self._lease is not None
        await self._lease.release()


async def a_release_of_what_is_gone_asks_once(locks: Locks, servers: list[RedisServer]) -> None:
    """node-redlock's takes 2 to 3 s: ten more tries, 0.2 s apart."""
    await locks.take(TTL_SECONDS)
    for each in servers:
        ask(each.port, "FLUSHALL")
    before = [_asked(each) for each in servers]
    with suppress(FencelockError, ValueError):
        await locks.release()
    after = [_asked(each) for each in servers]
    # Once, and once more for certain in the background.
    assert [
        late - early for early, late in zip(before, after, strict=True) if late - early > 2
    ] == []


async def a_release_waits_for_no_silent_server(locks: Locks, servers: list[RedisServer]) -> None:
    await locks.take(TTL_SECONDS)
    servers[-1].pause()
    try:
        async with asyncio.timeout(SOON_SECONDS):
            await locks.release()
    finally:
        servers[-1].resume()


async def a_vote_that_is_split_ends(locks: Locks, servers: list[RedisServer]) -> None:
    """An even number of servers may be of two minds."""
    for each in servers[: len(servers) // 2]:
        for key in (NAME, Ours.key):
            ask(each.port, "SET", key, "somebody 1 -", "PX", int(TTL_SECONDS * 1000))
    async with asyncio.timeout(SOON_SECONDS):
        with suppress(FencelockError, ValueError):
            await locks.take(TTL_SECONDS)


def _asked(server: RedisServer) -> int:
    """How many scripts it was asked to run."""
    stats: dict[str, Any] = ask(server.port, "INFO", "commandstats")
    names = ("cmdstat_evalsha", "cmdstat_eval")
    return sum(int(stats[name]["calls"]) for name in names if name in stats)


Promise = Callable[[Locks, list[RedisServer]], Awaitable[None]]
Make = Callable[[Sequence[Redis]], Locks]

# How many servers each is tried on.
PROMISES: dict[Promise, int] = {
    a_release_of_what_is_gone_asks_once: 3,
    a_release_waits_for_no_silent_server: 3,
    a_vote_that_is_split_ends: 4,
}
BROKEN_THERE: dict[tuple[Promise, Make], str] = {
    (a_release_of_what_is_gone_asks_once, NodeRedlock): "a release is tried again like an acquire",
    (a_vote_that_is_split_ends, NodeRedlock): "neither side ever gets a majority",
    (a_release_waits_for_no_silent_server, Redsync): "it counts when all have answered",
}


def _name(value: object) -> str:
    return str(getattr(value, "__name__", value))


@pytest.fixture
async def connected(five: list[RedisServer]) -> AsyncIterator[list[Redis]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Redis.from_url(each.url)) for each in five]


@pytest.mark.parametrize("promise", PROMISES, ids=_name)
async def test_it_is_kept_here(promise: Promise, five: list[RedisServer], clients: Clients) -> None:
    servers = five[: PROMISES[promise]]
    client = clients.make(url=",".join(each.url for each in servers), ttl=TTL_SECONDS)
    await client.start()
    await promise(Ours(client), servers)


@pytest.mark.parametrize(("promise", "make"), BROKEN_THERE, ids=_name)
async def test_the_lock_that_is_named_does_not_keep_it(
    promise: Promise, make: Make, five: list[RedisServer], connected: list[Redis]
) -> None:
    count = PROMISES[promise]
    with pytest.raises((AssertionError, TimeoutError)):
        await promise(make(connected[:count]), five[:count])
