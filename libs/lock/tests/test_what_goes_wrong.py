"""What goes wrong in redis-py's `Lock` goes right here: each promise is tried on both.

What goes wrong in python-redis-lock and pottery is in `test_what_goes_wrong_in_threads.py`, with
those locks themselves. Others run elsewhere than in Python. They are tried themselves too, in
`topologies/test_what_goes_wrong_in_redlocks.py` and `..._in_redisson.py`, where their languages'
tools are. What goes wrong there is tried anywhere on variants of ours that do as they do:

- Redisson's counters are kept for ever, or begin anew: `contract/test_fences_grow.py`;
- Redisson's line goes by the clients' clocks: here, at the end;
- Redisson tells nobody that a renewal failed: `contract/test_loss_ends_the_body.py`;
- redsync and node-redlock: `Redlock` here, which is pottery's, and on several servers
  `topologies/test_what_goes_wrong_in_redlocks.py`;
- etcd's lock alone lets a late writer in: `test_guard.py`.

A promise is a function that raises if it is not kept. Those in `BROKEN_THERE` are kept by fencelock
and not by the lock that ships with redis-py 8, for the reason that stands beside them.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually
from libs.lock.tests.proxy import Proxy
from redis.asyncio import Redis
from redis.exceptions import RedisError

from fencelock import LeaseLost, LockNotAcquired, NotOwner
from fencelock._protocol import ServerClock

NAME = "order:{1}"
PATIENCE_SECONDS = 20.0
# So long a promise that is not kept is waited for.
SOON_SECONDS = 2.0


class Hold(Protocol):
    """A lock that is held."""

    async def release(self) -> object:
        """Give it back."""


class Locks(Protocol):
    """A way to lock, and the key that it uses on the server."""

    key: str

    async def take(self, *, wait: float, ttl: float | None = None) -> Hold:
        """Hold the name or raise :class:`LockNotAcquired`; the default TTL if None."""

    def block(self, *, ttl: float) -> contextlib.AbstractAsyncContextManager[Any]:
        """Hold the name for a block."""


class Ours:
    key = f"fencelock:l:{NAME}"

    def __init__(self, clients: Clients, url: str) -> None:
        self._client = clients.make(url=url, reply_timeout=0.9)

    async def take(self, *, wait: float, ttl: float | None = None) -> Hold:
        return await self._client.acquire(NAME, wait=wait, ttl=ttl)

    def block(self, *, ttl: float) -> contextlib.AbstractAsyncContextManager[Any]:
        return self._client.lock(NAME, ttl=ttl)


class Theirs:
    key = NAME

    def __init__(self, redis: Redis) -> None:
        self._lock = redis.lock(NAME)
        self._redis = redis

    async def take(self, *, wait: float, ttl: float | None = None) -> Hold:
        lock = self._redis.lock(NAME, timeout=ttl)
        if not await lock.acquire(blocking=wait > 0, blocking_timeout=wait):
            raise LockNotAcquired("no")
        return lock

    def block(self, *, ttl: float) -> contextlib.AbstractAsyncContextManager[Any]:
        lock: contextlib.AbstractAsyncContextManager[Any] = self._redis.lock(NAME, timeout=ttl)
        return lock


class Redlock:
    """The algorithm of pottery, redsync and node-redlock, as pottery has it for asyncio."""

    key = f"redlock:{NAME}"

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def _lock(self, ttl: float | None) -> Any:
        pottery = pytest.importorskip("pottery", reason="see `make env`")
        return pottery.AIORedlock(key=NAME, masters={self._redis}, auto_release_time=ttl or 10.0)

    async def take(self, *, wait: float, ttl: float | None = None) -> Hold:
        lock = self._lock(ttl)
        if not await lock.acquire(timeout=wait):
            raise LockNotAcquired("no")
        return lock  # type: ignore[no-any-return]

    def block(self, *, ttl: float) -> contextlib.AbstractAsyncContextManager[Any]:
        return self._lock(ttl)  # type: ignore[no-any-return]


async def a_lock_ends_some_time(locks: Locks, admin: Redis, proxy: Proxy) -> None:
    await locks.take(wait=1.0)
    assert await admin.pttl(locks.key) > 0, "the key of a holder that died stays for ever"


async def a_hold_has_a_fence(locks: Locks, admin: Redis, proxy: Proxy) -> None:
    hold = await locks.take(wait=1.0, ttl=30.0)
    assert getattr(hold, "fence", 0) > 0, "storage cannot tell a late holder from the present one"


async def a_cancelled_request_leaves_nothing(locks: Locks, admin: Redis, proxy: Proxy) -> None:
    await _warm(locks)
    proxy.lose_next_reply()
    # Otherwise it might ask anew and be told, before it is cancelled.
    proxy.refusing = True
    taking = asyncio.create_task(locks.take(wait=30.0, ttl=60.0))

    async def taken() -> bool:
        return await admin.exists(locks.key) == 1

    await eventually(taken, "the server has granted it")
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    proxy.refusing = False

    async def gone() -> bool:
        return await admin.exists(locks.key) == 0

    async with asyncio.timeout(SOON_SECONDS):
        await eventually(gone, "nothing is left")


async def a_lost_reply_costs_no_lease(locks: Locks, admin: Redis, proxy: Proxy) -> None:
    await _warm(locks)
    proxy.lose_next_reply()
    await locks.take(wait=SOON_SECONDS, ttl=60.0)


async def a_late_release_ends_nobody_elses_hold(locks: Locks, admin: Redis, proxy: Proxy) -> None:
    """Two tasks use one object, as it is passed around in a program."""
    shared = getattr(locks, "_lock", None)
    if shared is None:
        late = await locks.take(wait=1.0, ttl=30.0)
        await admin.delete(locks.key)  # its time was over
        await locks.take(wait=1.0, ttl=30.0)
        with contextlib.suppress(NotOwner, LeaseLost):
            await late.release()
    else:
        await shared.acquire()
        await admin.delete(locks.key)
        await shared.acquire()
        await shared.release()
    assert await admin.exists(locks.key) == 1, "the first task released the second one's lock"


async def a_loss_ends_the_block(locks: Locks, admin: Redis, proxy: Proxy) -> None:
    async with asyncio.timeout(SOON_SECONDS):
        with contextlib.suppress(LeaseLost):
            async with locks.block(ttl=30.0):
                await admin.delete(locks.key)
                await asyncio.Event().wait()


async def a_block_may_take_longer_than_its_ttl(locks: Locks, admin: Redis, proxy: Proxy) -> None:
    async with locks.block(ttl=2.0):
        # The server's own time, which a busy machine does not stretch for one side only.
        began = (await admin.time())[0]
        while (await admin.time())[0] < began + 4:
            assert await admin.exists(locks.key) == 1, "others get in while the block runs"
            await asyncio.sleep(0.05)


async def nobody_overtakes_those_in_line(locks: Locks, admin: Redis, proxy: Proxy) -> None:
    held = await locks.take(wait=1.0, ttl=30.0)
    before = await _scripts_and_sets(admin)
    waiting = asyncio.create_task(locks.take(wait=30.0, ttl=30.0))

    async def asked() -> bool:
        return await _scripts_and_sets(admin) != before

    await eventually(asked, "it has asked")
    try:
        await held.release()
        with contextlib.suppress(LockNotAcquired):
            await locks.take(wait=0, ttl=30.0)
            raise AssertionError("a newcomer was served before the one in line")
    finally:
        await admin.delete(locks.key)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def nobody_is_asked_for_the_time_of_day(locks: Locks, admin: Redis, proxy: Proxy) -> None:
    """Whose clock is an hour ahead must not stand before others in line."""

    def ahead() -> float:
        raise AssertionError("a client's clock decides")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("time", "time_ns"):
            patch.setattr(time, name, ahead)
        held = await locks.take(wait=1.0, ttl=30.0)
        waiting = asyncio.create_task(locks.take(wait=30.0, ttl=30.0))
        await asyncio.sleep(0)
        await held.release()
        await (await waiting).release()


async def waiting_costs_the_server_nothing(locks: Locks, admin: Redis, proxy: Proxy) -> None:
    held = await locks.take(wait=1.0, ttl=30.0)
    before = await _commands(admin)
    waiting = asyncio.create_task(locks.take(wait=60.0, ttl=30.0))
    # No timeout around redis-py: it may swallow the cancellation.
    end = time.monotonic() + SOON_SECONDS
    while (asked := await _commands(admin) - before) <= 2 and time.monotonic() < end:  # noqa: ASYNC110 (it is the server's)
        await asyncio.sleep(0.02)
    await held.release()
    await (await waiting).release()
    assert asked <= 2, "it asks again and again"


async def _warm(locks: Locks) -> None:
    """Be connected, so that the next reply is that of the lock."""
    await (await locks.take(wait=1.0, ttl=30.0)).release()


async def _commands(admin: Redis) -> int:
    """What locks have asked for at least: fencelock runs scripts, redis-py sets keys."""
    # A script of ours sets keys too: what came from outside is not more than either.
    return max(await _scripts_and_sets(admin))


async def _scripts_and_sets(admin: Redis) -> tuple[int, int]:
    stats: dict[str, Any] = await admin.info("commandstats")
    own = ("cmdstat_evalsha", "cmdstat_eval")
    scripts = sum(int(stats[each]["calls"]) for each in own if each in stats)
    return scripts, int(stats["cmdstat_set"]["calls"]) if "cmdstat_set" in stats else 0


Promise = Callable[[Locks, Redis, Proxy], Awaitable[None]]

BROKEN_THERE: dict[Promise, str] = {
    a_lock_ends_some_time: "timeout=None is the default: there is no TTL",
    a_hold_has_a_fence: "there is none",
    a_cancelled_request_leaves_nothing: "nothing withdraws a request that was cancelled",
    a_lost_reply_costs_no_lease: "its own key stays, and its next attempt takes it for another's",
    a_late_release_ends_nobody_elses_hold: "the token is kept in the object, not in the hold",
    a_loss_ends_the_block: "a block is told at its end",
    a_block_may_take_longer_than_its_ttl: "nothing renews a lock",
    nobody_overtakes_those_in_line: "there is no line",
    waiting_costs_the_server_nothing: "it polls ten times a second",
}
each_promise = pytest.mark.parametrize(
    "promise", BROKEN_THERE, ids=lambda promise: promise.__name__
)


BROKEN_IN_REDLOCK: dict[Promise, str] = {
    a_hold_has_a_fence: "there is none",
    waiting_costs_the_server_nothing: "each pause is 0.1 s on average",
}


async def test_no_clock_of_a_client_counts_here(
    clients: Clients, admin: Redis, proxy: Proxy
) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await nobody_is_asked_for_the_time_of_day(Ours(clients, proxy.url), admin, proxy)


async def test_a_client_that_asks_its_own_clock_is_caught(
    clients: Clients, admin: Redis, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ServerClock, "not_after", lambda *_: int(time.time() * 1e6))
    with pytest.raises(AssertionError, match="clock"):
        await nobody_is_asked_for_the_time_of_day(Ours(clients, proxy.url), admin, proxy)


@pytest.mark.parametrize("promise", BROKEN_IN_REDLOCK, ids=lambda promise: promise.__name__)
async def test_redlock_does_not_keep_it(promise: Promise, admin: Redis, proxy: Proxy) -> None:
    await admin.config_resetstat()
    async with Redis.from_url(proxy.url) as redis:
        with pytest.raises((AssertionError, TimeoutError, LockNotAcquired, RedisError)):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await promise(Redlock(redis), admin, proxy)


@pytest.fixture
async def theirs(proxy: Proxy) -> AsyncIterator[Locks]:
    async with Redis.from_url(proxy.url) as redis:
        yield Theirs(redis)


@each_promise
async def test_it_is_kept_here(
    promise: Promise, clients: Clients, admin: Redis, proxy: Proxy
) -> None:
    await admin.config_resetstat()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await promise(Ours(clients, proxy.url), admin, proxy)


@each_promise
async def test_the_lock_of_redis_py_does_not_keep_it(
    promise: Promise, theirs: Locks, admin: Redis, proxy: Proxy
) -> None:
    await admin.config_resetstat()
    with pytest.raises((AssertionError, TimeoutError, LockNotAcquired, RedisError)):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await promise(theirs, admin, proxy)
