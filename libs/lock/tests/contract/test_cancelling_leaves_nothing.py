"""However far an acquisition or a hold has come, cancelling it leaves no key and no ticket."""

import asyncio

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually
from libs.lock.tests.server_view import lock_keys, queue_length
from redis.asyncio import Redis

from fencelock import AsyncLockClient

# More turns of the event loop than an acquire and a release take together.
STEPS = 25


async def nothing_left(admin: Redis) -> None:
    async def empty() -> bool:
        return await lock_keys(admin) == []

    await eventually(empty, "no key and no ticket")


async def run_steps(steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)


async def hold_briefly(client: AsyncLockClient, wait: float) -> None:
    async with client.lock("order:{1}", "invoice:{1}", wait=wait):
        await asyncio.sleep(0)


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("wait", [0.0, 30.0])
async def test_cancelled_at_every_step_of_an_uncontended_hold(
    clients: Clients, admin: Redis, wait: float, connected: bool
) -> None:
    for steps in range(STEPS):
        client = clients.make()
        if connected:
            await client.start()
        task = asyncio.create_task(hold_briefly(client, wait))
        await run_steps(steps)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()
        assert await lock_keys(admin) == []


async def test_cancelled_at_every_step_while_the_lock_is_handed_over(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make()
    for steps in range(STEPS):
        lease = await client.acquire("order:{1}")
        task = asyncio.create_task(hold_briefly(client, 30.0))

        async def in_line() -> bool:
            return await queue_length(admin, "order:{1}") == 1

        await eventually(in_line, "one in line")
        releasing = asyncio.create_task(lease.release())
        await run_steps(steps)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await releasing
        await nothing_left(admin)


async def test_a_cancelled_release_still_releases(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    for steps in range(6):
        lease = await client.acquire("order:{1}")
        task = asyncio.create_task(lease.release())
        await run_steps(steps)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if steps:  # before its first step a task has not even started
            await nothing_left(admin)
        else:
            await lease.release()


async def test_a_cancelled_waiter_lets_those_behind_it_proceed(
    clients: Clients, admin: Redis
) -> None:
    client, other = clients.make(), clients.make()
    async with client.lock("invoice:{1}"):
        both = asyncio.create_task(client.acquire("order:{1}", "invoice:{1}"))

        async def in_line(count: int) -> bool:
            return await queue_length(admin, "order:{1}") == count

        await eventually(lambda: in_line(1), "the pair in line")
        behind = asyncio.create_task(other.acquire("order:{1}"))
        await eventually(lambda: in_line(2), "another behind it")
        both.cancel()
        async with asyncio.timeout(30):
            lease = await behind
        await lease.release()
    await nothing_left(admin)


async def test_the_canceller_can_take_the_lock_at_once(clients: Clients) -> None:
    """The clean-up leaves ahead of whatever the same client asks next."""
    client = clients.make()
    await client.start()
    for steps in range(1, 8):
        task = asyncio.create_task(client.acquire("order:{1}", wait=0))
        await run_steps(steps)
        if task.cancel():
            await asyncio.gather(task, return_exceptions=True)
        else:
            await task.result().release()
        async with client.lock("order:{1}", wait=0):
            pass


async def test_cancelling_the_holder_releases(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    entered = asyncio.Event()

    async def hold() -> None:
        async with client.lock("order:{1}"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await lock_keys(admin) == []


async def test_a_timed_out_waiter_leaves_no_ticket(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    async with client.lock("order:{1}"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.acquire("order:{1}")

        async def no_ticket() -> bool:
            return await queue_length(admin, "order:{1}") == 0

        await eventually(no_ticket, "no ticket")
