import asyncio
import gc
import math
import time
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest
from libs.lock.tests.clients import Clients, engine_of
from libs.lock.tests.eventually import eventually
from libs.lock.tests.server_view import lock_connections, lock_keys, queue_length
from redis.asyncio import Redis

from fencelock import (
    AsyncLease,
    AsyncLockClient,
    ConfigurationError,
    LeaseLost,
    NotOwner,
    RedisUnavailable,
    _forks,
)
from fencelock._protocol import Request, Term
from fencelock._replication import Replication


def test_making_a_client_does_no_io() -> None:
    AsyncLockClient.from_url("redis://127.0.0.1:1/0")


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": 0.0},
        {"ttl": 400.0},
        {"wait": -1.0},
        {"ttl": 2.0, "reply_timeout": 1.5},
        {"max_hold": math.inf},
        {"wait": 1e300},
        {"wait": math.nan},
        {"ttl": True},
        {"ttl": "5"},
        {"connect_timeout": 0.0},
        {"connect_timeout": math.inf},
        {"reply_timeout": 0.0},
    ],
)
def test_times_that_are_not_safe_together_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        AsyncLockClient.from_url("redis://127.0.0.1", **options)  # type: ignore[arg-type]


async def test_closing_releases_what_is_held_and_ends_what_waits(
    clients: Clients, admin: Redis
) -> None:
    client, other = clients.make(), clients.make()
    held = await client.acquire("order:{1}", "invoice:{1}")
    others = await other.acquire("order:{2}")
    waiting = asyncio.create_task(client.acquire("order:{2}"))

    async def in_line() -> bool:
        return await queue_length(admin, "order:{2}") == 1

    await eventually(in_line, "one in line")
    await client.aclose()
    with pytest.raises(RedisUnavailable, match="closed"):
        await waiting
    assert await lock_keys(admin) == ["fencelock:l:order:{2}"]
    with pytest.raises(LeaseLost, match="closed"):
        held.check()
    await others.release()

    async def disconnected() -> bool:
        return await lock_connections(admin) == 1

    await eventually(disconnected, "only the other client is connected")


async def test_closing_ends_the_body_of_a_lock(clients: Clients) -> None:
    client = clients.make()
    entered = asyncio.Event()

    async def hold() -> None:
        async with client.lock("order:{1}"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await entered.wait()
    await client.aclose()
    with pytest.raises(LeaseLost):
        await task


async def test_a_lease_is_released_once(client: AsyncLockClient) -> None:
    lease = await client.acquire("order:{1}")
    assert "held" in repr(lease)
    await lease.release()
    await lease.release()
    assert lease.remaining() == 0.0
    assert "released" in repr(lease)
    with pytest.raises(NotOwner):
        lease.check()


async def test_a_release_of_a_lease_that_is_gone_says_so(
    client: AsyncLockClient, admin: Redis
) -> None:
    lease = await client.acquire("order:{1}")
    await admin.flushall()
    with pytest.raises((NotOwner, LeaseLost)):
        await lease.release()


async def test_a_lock_object_is_for_one_block_at_a_time(client: AsyncLockClient) -> None:
    lock = client.lock("order:{1}")
    async with lock:
        with pytest.raises(RuntimeError, match="in use"):
            await lock.__aenter__()
    async with lock as lease:
        lease.check()


async def test_a_lock_goes_through_acquire_which_a_subclass_may_replace(url: str) -> None:
    asked: list[tuple[str, ...]] = []

    class Counting(AsyncLockClient):
        async def acquire(self, *names: str, **options: Any) -> AsyncLease:
            asked.append(names)
            return await super().acquire(*names, **options)

    async with Counting.from_url(url) as client, client.lock("order:1", wait=0):
        pass

    assert asked == [("order:1",)]


async def test_a_lock_object_that_is_kept_keeps_no_task(client: AsyncLockClient) -> None:
    lock = client.lock("order:1")

    async def use() -> None:
        async with lock:
            pass

    task = asyncio.create_task(use())
    await task
    gone = weakref.ref(task)
    del task
    # What woke us still has it in hand.
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None
    assert weakref.ref(lock)() is lock


async def test_a_body_may_release_early(client: AsyncLockClient, admin: Redis) -> None:
    async with client.lock("order:{1}") as lease:
        await lease.release()
        assert await lock_keys(admin) == []


async def test_a_lease_of_its_own_length_keeps_the_rule_of_the_limits(url: str) -> None:
    async with AsyncLockClient.from_url(url) as client:
        await (await client.acquire("order:{1}", ttl=0.5)).release()
    async with AsyncLockClient.from_url(url, reply_timeout=2.0) as client:
        with pytest.raises(ConfigurationError, match="reply_timeout"):
            await client.acquire("order:{1}", ttl=0.5)


async def test_a_child_process_has_a_name_and_a_connection_of_its_own(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = clients.make()
    lease = await client.acquire("order:{1}")
    parent = client._running
    assert parent is not None
    with monkeypatch.context() as child:
        child.setattr(_forks, "_generation", _forks.generation() + 1)
        with pytest.raises(RedisUnavailable, match="parent"):
            await parent.ping(1.0)
        await client.acquire("order:{2}")
        assert client._running is not None
        assert client._running.client_id != parent.client_id
        await client._running.close()
    client._running, client._generation = parent, _forks.generation()
    await lease.release()


async def test_a_child_process_does_not_hold_what_its_parent_holds(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await clients.make().acquire("order:{1}")
    with monkeypatch.context() as child:
        child.setattr(_forks, "_generation", _forks.generation() + 1)
        assert lease.remaining() == 0.0
        with pytest.raises(NotOwner, match="forked"):
            lease.check()
        with pytest.raises(NotOwner, match="forked"):
            await lease.release()
        with pytest.raises(NotOwner, match="forked"):
            lease.on_lost(print)
    lease.check()
    await lease.release()


async def test_another_event_loop_neither_releases_nor_closes(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make()
    lease = await client.acquire("order:{1}")

    def elsewhere() -> None:
        with pytest.raises(ConfigurationError, match="another event loop"):
            asyncio.run(lease.release())
        with pytest.raises(ConfigurationError, match="another event loop"):
            asyncio.run(client.aclose())

    await asyncio.to_thread(elsewhere)
    lease.check()
    await lease.release()
    assert await lock_keys(admin) == []


@pytest.mark.filterwarnings("ignore:unclosed (transport|<socket):ResourceWarning")
def test_what_a_closed_event_loop_had_is_closed_elsewhere_without_an_error(url: str) -> None:
    def use_it_in_two() -> None:
        client = AsyncLockClient.from_url(url, ttl=1.0)

        async def take() -> AsyncLease:
            return await client.acquire("order:{closed}")

        async def end(lease: AsyncLease) -> None:
            with pytest.raises(ConfigurationError, match="another event loop"):
                await lease.release()
            await client.aclose()
            with pytest.raises(RedisUnavailable, match="closed"):
                await client.acquire("order:{1}")

        asyncio.run(end(asyncio.run(take())))

    use_it_in_two()
    # What the first loop left open is collected, and warned of, here and not in another test.
    gc.collect()


class Confirming:
    """In the place of the replicas that confirm a grant."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    async def confirm(self, request: Request, term: Term, limit: float) -> None:
        self._meanwhile()
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_client_that_is_closed_while_replicas_confirm_hands_nothing_out(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make()
    await client.start()
    closing: list[asyncio.Task[None]] = []
    confirming = Confirming(lambda: closing.append(asyncio.create_task(client.aclose())))
    engine_of(client)._replication = cast("Replication", confirming)
    with pytest.raises(RedisUnavailable, match="closed"):
        await client.acquire("order:{1}")
    await asyncio.gather(*closing)
    assert await lock_keys(admin) == []


async def test_a_lease_that_is_over_when_replicas_have_confirmed_it_is_not_handed_out(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make(ttl=0.4, reply_timeout=0.1)
    await client.start()
    engine_of(client)._replication = cast("Replication", Confirming(lambda: time.sleep(0.5)))
    with pytest.raises(RedisUnavailable, match="over"):
        await client.acquire("order:{1}")
