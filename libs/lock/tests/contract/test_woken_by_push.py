"""Waiting costs the server nothing: a release tells the next in line, and only it."""

import asyncio

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually
from libs.lock.tests.server_view import lock_connections, queue_length, script_calls
from libs.lock.tests.variants import broken, sound
from redis.asyncio import Redis

from fencelock import AcquireTimeout, AsyncLockClient
from fencelock._protocol import Request
from fencelock._scripts import Scripts


async def check_cost(clients: Clients, admin: Redis, scripts: Scripts) -> None:
    """Fifty waiters cost one request to stand in line and one to release each, and no more."""
    client = clients.make(scripts=scripts, wait=5.0)
    lease = await client.acquire("order:{1}")
    before = await script_calls(admin)
    tasks = [asyncio.create_task(take_turn(client)) for _ in range(50)]

    async def all_in_line() -> bool:
        return await queue_length(admin, "order:{1}") == 50

    await eventually(all_in_line, "fifty in line")
    assert await script_calls(admin) - before == 50
    await lease.release()
    try:
        await asyncio.gather(*tasks)
    except AcquireTimeout as error:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise AssertionError("a waiter was not told") from error
    assert await script_calls(admin) - before == 50 + 1 + 50


async def take_turn(client: AsyncLockClient) -> None:

    async with client.lock("order:{1}"):
        await asyncio.sleep(0)


async def test_a_waiter_asks_once_and_is_told(clients: Clients, admin: Redis) -> None:
    await check_cost(clients, admin, sound())


async def test_a_release_that_tells_nobody_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises(AssertionError):
        await check_cost(clients, admin, broken("release wakes nobody"))


async def test_a_thousand_waiters_share_one_connection(clients: Clients, admin: Redis) -> None:
    client = clients.make(wait=100.0)
    served = 0

    async def take() -> None:
        nonlocal served
        async with client.lock("order:{1}"):
            served += 1

    async with asyncio.timeout(100), asyncio.TaskGroup() as group, client.lock("order:{1}"):
        for _ in range(1000):
            group.create_task(take())

        async def all_in_line() -> bool:
            return await queue_length(admin, "order:{1}") == 1000

        await eventually(all_in_line, "a thousand in line")
        assert await lock_connections(admin) == 1
    assert served == 1000


async def test_an_uncontended_lock_costs_two_requests(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    await client.start()
    before = await script_calls(admin)
    for names in (("a:{1}",), ("a:{1}", "b:{1}"), tuple(f"n{i}:{{1}}" for i in range(8))):
        async with client.lock(*names):
            pass
    assert await script_calls(admin) - before == 6


async def test_a_name_that_is_kept_free_for_somebody_is_not_asked_about_every_second(
    clients: Clients, admin: Redis
) -> None:
    """The one behind a waiter for two names knows how long the other name is taken."""
    client = clients.make(ttl=30.0)
    async with client.lock("b:{1}"):
        both = asyncio.create_task(client.acquire("a:{1}", "b:{1}"))

        async def in_line(count: int) -> bool:
            return await queue_length(admin, "a:{1}") == count

        await eventually(lambda: in_line(1), "the pair in line")
        command = Request(("a:{1}",), "clientclien", 30.0).acquire(sound(), "queue", 1.0)
        reply = await admin.eval(
            command.script.text, len(command.keys), *command.keys, *map(str, command.args), "0"
        )
        assert reply[0] == b"queued"
        assert reply[2] > 20_000
    await (await both).release()
