"""What goes wrong in Redisson's locks goes right here: each promise is tried on both.

A promise is a function that raises if it is not kept. Every one is kept by fencelock, and broken by
Redisson 4.7 itself, where Java and Maven are. Of a key that is deleted or expires, Redisson tells
those who listen (`DeletedObjectListener`, `ExpiredObjectListener`, which the program here does) if
the server publishes its events (`notify-keyspace-events`), which it does not by itself.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Protocol

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually
from libs.lock.tests.topologies.servers import ask
from libs.lock.tests.topologies.workshop import REDISSON, Peer, Workshop

from devkit.servers import RedisServer
from fencelock import AsyncLease, Contended, LeaseLost

NAME = "order:{1}"
TTL_SECONDS = 1.5
LONG_SECONDS = 300.0
HOUR_SECONDS = 3600.0
# Twice the lease of who is to be told, and so many looks: a machine that stood still says nothing.
SOON_SECONDS = 3.0
LOOKS = 100


class Locks(Protocol):
    """A lock whose holds have fences, whose holder is told of a loss, and that has a line."""

    # The key that says that it is held.
    key: str

    async def fence(self) -> int:
        """The fence of a hold that ends at once."""

    async def hold(self) -> None:
        """Begin a body under the lock, with a lease of TTL_SECONDS that is renewed."""

    async def told(self) -> bool:
        """Whether the body has been told that it holds the lock no more."""

    async def take(self) -> bool:
        """Hold the name for long, unless it is held or others wait."""

    async def take_with_a_fast_clock(self) -> bool:
        """The same, for a client whose clock is an hour ahead."""

    async def wait(self) -> None:
        """Stand in line, in the background."""

    async def waits(self) -> bool:
        """Whether it stands there, and does nothing but wait."""


class Ours:
    key = f"fencelock:l:{NAME}"

    def __init__(self, clients: Clients, server: RedisServer) -> None:
        self._clients = clients
        self._server = server
        self._client = clients.make(url=server.url, ttl=LONG_SECONDS)
        self._body: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[AsyncLease] | None = None

    async def fence(self) -> int:
        async with self._client.lock(NAME) as lease:
            return lease.fence

    async def hold(self) -> None:
        client = self._clients.make(url=self._server.url, ttl=TTL_SECONDS)

        async def body() -> None:
            async with client.lock(NAME):
                await asyncio.Event().wait()

        self._body = asyncio.create_task(body())

    async def told(self) -> bool:
        assert self._body is not None
        if self._body.done():
            assert isinstance(self._body.exception(), LeaseLost)
        return self._body.done()

    async def take(self) -> bool:
        try:
            await self._clients.make(url=self._server.url, ttl=LONG_SECONDS).acquire(NAME, wait=0)
        except Contended:
            return False
        return True

    async def take_with_a_fast_clock(self) -> bool:
        now, now_ns = time.time, time.time_ns
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: now() + HOUR_SECONDS)
            patch.setattr(time, "time_ns", lambda: now_ns() + int(HOUR_SECONDS * 1e9))
            return await self.take()

    async def wait(self) -> None:
        self._waiting = asyncio.create_task(self._client.acquire(NAME))

    async def waits(self) -> bool:
        return bool(ask(self._server.port, "EXISTS", f"fencelock:q:{NAME}"))


class Redisson:
    key = NAME

    def __init__(self, start: Callable[[float], Awaitable[Peer]], peer: Peer) -> None:
        self._start = start
        self._peer = peer

    async def fence(self) -> int:
        return int(await self._peer.ask("fence", NAME, 0))

    async def hold(self) -> None:
        await self._peer.ask("hold", NAME, 0)

    async def told(self) -> bool:
        return bool(await self._peer.ask("told", NAME, 0))

    async def take(self) -> bool:
        return bool(await self._peer.ask("try", NAME, 0))

    async def take_with_a_fast_clock(self) -> bool:
        return bool(await (await self._start(HOUR_SECONDS)).ask("try", NAME, 0))

    async def wait(self) -> None:
        await self._peer.ask("line", NAME, 60_000)

    async def waits(self) -> bool:
        return bool(await self._peer.ask("waits", NAME, 0))


async def a_fence_outlives_the_data(locks: Locks, server: RedisServer) -> None:
    before = await locks.fence()
    ask(server.port, "FLUSHALL")
    assert await locks.fence() > before


async def what_stays_goes_by_itself(locks: Locks, server: RedisServer) -> None:
    await locks.fence()
    stays = {key: ask(server.port, "PTTL", key) for key in ask(server.port, "KEYS", "*")}
    assert {key for key, ttl in stays.items() if ttl == -1} == set()


async def a_body_is_told_that_its_lock_is_gone(locks: Locks, server: RedisServer) -> None:
    await _arrange_hold(locks, server)
    ask(server.port, "DEL", locks.key)
    await _is_told_soon(locks)


async def a_body_is_told_that_nothing_renews_its_lock(locks: Locks, server: RedisServer) -> None:
    await _arrange_hold(locks, server)
    server.pause()
    try:
        await _is_told_soon(locks)
    finally:
        server.resume()


async def whose_clock_is_ahead_overtakes_nobody(locks: Locks, server: RedisServer) -> None:
    """The lock that is held ends, and somebody waits who has not noticed yet."""
    _arranged(await locks.take())
    await locks.wait()
    await _arrange(locks.waits)
    ask(server.port, "DEL", locks.key)
    _arranged(not await locks.take())
    assert not await locks.take_with_a_fast_clock()


async def _is_told_soon(locks: Locks) -> None:
    until, looks = time.monotonic() + SOON_SECONDS, 0
    while not await locks.told():
        assert looks < LOOKS or time.monotonic() < until, "it goes on without the lock"
        looks += 1
        await asyncio.sleep(0.01)


async def _arrange_hold(locks: Locks, server: RedisServer) -> None:
    await locks.hold()

    async def held() -> bool:
        return bool(ask(server.port, "EXISTS", locks.key))

    await _arrange(held)


async def _arrange(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what a promise is tried on."""
    try:
        await eventually(holds, "arranged")
    except AssertionError as error:
        raise RuntimeError("what the promise is tried on did not come about") from error


def _arranged(holds: bool) -> None:
    """Be sure of what a promise is tried on: without it nobody knows whether it is kept."""
    if not holds:
        raise RuntimeError("what the promise is tried on did not come about")


Promise = Callable[[Locks, RedisServer], Awaitable[None]]

BROKEN_THERE: dict[Promise, str] = {
    a_fence_outlives_the_data: "a counter that is lost begins at 1",
    what_stays_goes_by_itself: "the counter of a name has no end",
    a_body_is_told_that_its_lock_is_gone: "a renewal that finds no key says nothing",
    a_body_is_told_that_nothing_renews_its_lock: "a renewal that fails is a line in the log",
    whose_clock_is_ahead_overtakes_nobody: "who waits too long is struck off by the asker's clock",
}
each_promise = pytest.mark.parametrize(
    "promise", BROKEN_THERE, ids=lambda promise: promise.__name__
)


@each_promise
async def test_it_is_kept_here(promise: Promise, five: list[RedisServer], clients: Clients) -> None:
    await promise(Ours(clients, five[0]), five[0])


@pytest.fixture
async def redisson(five: list[RedisServer], workshop: Workshop) -> AsyncIterator[Redisson]:
    watchdog = str(int(TTL_SECONDS * 1000))
    async with AsyncExitStack() as stack:

        async def start(ahead_seconds: float) -> Peer:
            ahead = str(int(ahead_seconds * 1000))
            peer = workshop.start(REDISSON, five[0].url, ahead, watchdog)
            return await stack.enter_async_context(peer)

        yield Redisson(start, await start(0.0))


@each_promise
async def test_redisson_does_not_keep_it(
    promise: Promise, five: list[RedisServer], redisson: Redisson
) -> None:
    with pytest.raises(AssertionError):
        await promise(redisson, five[0])


async def test_redisson_tells_those_who_listen_where_the_server_publishes_events(
    five: list[RedisServer], redisson: Redisson
) -> None:
    ask(five[0].port, "CONFIG", "SET", "notify-keyspace-events", "Exg")
    try:
        await a_body_is_told_that_its_lock_is_gone(redisson, five[0])
    finally:
        ask(five[0].port, "CONFIG", "SET", "notify-keyspace-events", "")
