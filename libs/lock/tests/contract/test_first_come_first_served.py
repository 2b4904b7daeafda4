"""Waiters are served in the order in which they asked."""

import asyncio

import pytest
from libs.lock.tests.clients import Clients, both_apis
from libs.lock.tests.eventually import eventually
from libs.lock.tests.server_view import queue_length
from libs.lock.tests.variants import broken, sound
from redis.asyncio import Redis

from fencelock import AsyncLockClient, Contended
from fencelock._scripts import Scripts

pytestmark = both_apis


async def in_line(admin: Redis, name: str, count: int) -> None:
    async def reached() -> bool:
        return await queue_length(admin, name) >= count

    await eventually(reached, f"{count} tickets for {name}")


async def check_order(clients: Clients, admin: Redis, scripts: Scripts) -> None:
    """Waiters of two processes in turn, then a newcomer that finds the queue."""
    pair = [clients.make(scripts=scripts), clients.make(scripts=scripts)]
    served: list[int] = []

    async def stand_in_line(index: int, client: AsyncLockClient) -> None:
        async with client.lock("order:{1}"):
            served.append(index)
            await asyncio.sleep(0)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group, pair[0].lock("order:{1}"):
        for index in range(12):
            group.create_task(stand_in_line(index, pair[index % 2]))
            await in_line(admin, "order:{1}", index + 1)
    assert served == list(range(12)), f"served as {served}"


async def check_no_barging(clients: Clients, admin: Redis, scripts: Scripts) -> None:
    """A free name that an older request waits for is not taken by a newer one."""
    client = clients.make(scripts=scripts)
    async with asyncio.timeout(60), client.lock("b:{1}"):
        both = asyncio.create_task(client.acquire("a:{1}", "b:{1}"))
        await in_line(admin, "a:{1}", 1)
        try:
            await client.acquire("a:{1}", wait=0)
        except Contended:
            pass
        else:
            both.cancel()
            raise AssertionError("a newcomer overtook the one in line")
    lease = await both
    await lease.release()


async def test_order_of_arrival_across_processes(clients: Clients, admin: Redis) -> None:
    await check_order(clients, admin, sound())


async def test_another_order_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises(AssertionError):
        await check_order(clients, admin, broken("last come, first served"))


async def test_a_newcomer_does_not_overtake(clients: Clients, admin: Redis) -> None:
    await check_no_barging(clients, admin, sound())


async def test_overtaking_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises(AssertionError):
        await check_no_barging(clients, admin, broken("acquire ignores the queue"))


async def test_a_waiter_for_several_names_is_not_starved(clients: Clients, admin: Redis) -> None:
    """Single-name requests keep coming on both names: the pair gets its turn all the same."""
    client = clients.make()
    stop = False
    rounds = 0

    async def hammer(name: str) -> None:
        nonlocal rounds
        while not stop:
            async with client.lock(name):
                rounds += 1
                await asyncio.sleep(0)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for name in ("a:{1}", "b:{1}") * 4:
            group.create_task(hammer(name))
        for _ in range(5):
            async with client.lock("a:{1}", "b:{1}"):
                pass
        stop = True
    assert rounds > 0


async def test_waiters_that_share_one_name_only_do_not_block_each_other_for_ever(
    clients: Clients, admin: Redis
) -> None:
    """x waits for a and b, y for b and c, z for c: they go in the order of their tickets."""
    client = clients.make()
    served: list[str] = []

    async def take(label: str, *names: str) -> None:
        async with client.lock(*names):
            served.append(label)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group, client.lock("a:{1}"):
        async with client.lock("c:{1}"):
            group.create_task(take("x", "a:{1}", "b:{1}"))
            await in_line(admin, "b:{1}", 1)
            group.create_task(take("y", "b:{1}", "c:{1}"))
            await in_line(admin, "b:{1}", 2)
            group.create_task(take("z", "c:{1}"))
            await in_line(admin, "c:{1}", 2)
        assert served == []
    assert served == ["x", "y", "z"]
