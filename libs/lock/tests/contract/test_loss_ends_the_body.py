"""Whoever holds a lock learns of its loss, and what runs under it is stopped."""

import asyncio
import contextlib
import time

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually
from libs.lock.tests.proxy import Proxy
from libs.lock.tests.server_view import lock_keys
from redis.asyncio import Redis

from fencelock import AsyncLease, LeaseLost


async def test_a_black_hole_ends_the_body_by_the_local_clock(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    client = clients.make(url=proxy.url, ttl=1.0)
    leases: list[AsyncLease] = []

    async def hold() -> None:
        async with client.lock("order:{1}") as lease:
            leases.append(lease)
            proxy.black_hole()
            proxy.refusing = True
            await asyncio.Event().wait()

    with pytest.raises(LeaseLost) as caught:
        await hold()
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert leases[0].remaining() == 0.0


async def test_a_lease_that_was_taken_ends_the_body(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=1.0)

    async def hold() -> None:
        async with client.lock("order:{1}"):
            await admin.set("fencelock:l:order:{1}", "somebody.else 1 -", px=60_000)
            await asyncio.Event().wait()

    with pytest.raises(LeaseLost, match="not, or no longer, the holder"):
        await hold()


async def test_a_loss_that_only_the_release_finds_is_reported(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make()
    with pytest.raises(LeaseLost):
        async with client.lock("order:{1}"):
            await admin.flushall()


async def test_the_bodys_own_error_is_not_hidden(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=1.0)

    async def hold() -> None:
        async with client.lock("order:{1}"):
            await admin.flushall()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as cancelled:
                raise ValueError("the body's own") from cancelled

    with pytest.raises(ValueError, match="the body's own") as caught:
        await hold()
    assert any("was lost" in note for note in caught.value.__notes__)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_error_of_the_body_passes_and_releases(clients: Clients, admin: Redis) -> None:
    with pytest.raises(KeyError):
        async with clients.make().lock("order:{1}"):
            raise KeyError
    assert await lock_keys(admin) == []


async def test_a_cancellation_from_outside_stays_one(clients: Clients, admin: Redis) -> None:
    """Both at once: the lease is lost, and somebody cancels the task for good."""
    client = clients.make(ttl=1.0)
    leases: list[AsyncLease] = []

    async def hold() -> None:
        async with client.lock("order:{1}") as lease:
            leases.append(lease)
            lease.on_lost(lambda _: task.cancel())
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())

    async def entered() -> bool:
        return bool(leases)

    await eventually(entered, "entered")
    await admin.flushall()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_loss_inside_a_timeout_is_a_loss(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=1.0)

    async def hold() -> None:
        async with asyncio.timeout(60), client.lock("order:{1}"):
            await admin.flushall()
            await asyncio.Event().wait()

    with pytest.raises(LeaseLost):
        await hold()


async def test_a_timeout_inside_a_lock_is_a_timeout(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    with pytest.raises(TimeoutError):
        async with client.lock("order:{1}"), asyncio.timeout(0.01):
            await asyncio.Event().wait()
    assert await lock_keys(admin) == []


async def test_a_hold_ends_at_its_cap(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=1.0)
    with pytest.raises(LeaseLost, match="max_hold"):
        async with client.lock("order:{1}", max_hold=1.5):
            await asyncio.Event().wait()

    async def gone() -> bool:
        return await lock_keys(admin) == []

    await eventually(gone, "released at the cap")


async def test_a_swallowed_interruption_is_still_reported(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=1.0)

    async def hold() -> None:
        async with client.lock("order:{1}"):
            await admin.flushall()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    with pytest.raises(LeaseLost):
        await hold()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_without_a_block_the_lease_says_so_itself(clients: Clients, admin: Redis) -> None:
    lease = await clients.make(ttl=1.0).acquire("order:{1}")
    reasons: list[str] = []
    lease.on_lost(reasons.append)
    lease.check()
    assert 0 < lease.remaining() <= 1.0
    await admin.flushall()

    async def told() -> bool:
        return reasons == ["taken"]

    await eventually(told, "told of the loss")
    with pytest.raises(LeaseLost):
        lease.check()
    with pytest.raises(LeaseLost):
        await lease.release()


async def test_a_body_that_blocked_the_loop_past_its_lease_can_tell(clients: Clients) -> None:
    lease = await clients.make(ttl=0.2, reply_timeout=0.05).acquire("order:{1}")
    time.sleep(0.25)  # noqa: ASYNC251 (it blocks the loop on purpose)
    assert lease.remaining() == 0.0
    with pytest.raises(LeaseLost):
        lease.check()
