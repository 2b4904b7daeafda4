"""When a holder is gone, its lease ends and the next in line gets the lock without polling."""

import asyncio

import pytest
from libs.lock.tests.clients import Clients, crash, freeze
from libs.lock.tests.eventually import eventually
from libs.lock.tests.server_view import holder, lock_keys, queue_length, script_calls
from libs.lock.tests.variants import broken, sound
from redis.asyncio import Redis

from fencelock import AcquireTimeout, AsyncLockClient
from fencelock._scripts import Scripts


async def in_line(admin: Redis, count: int) -> None:
    async def reached() -> bool:
        return await queue_length(admin, "order:{1}") >= count

    await eventually(reached, f"{count} in line")


async def check_dead_waiter(clients: Clients, admin: Redis, scripts: Scripts) -> None:
    """The process of the first in line dies: the second is served, not the ghost."""
    holding, doomed, patient = [clients.make(scripts=scripts) for _ in range(3)]
    lease = await holding.acquire("order:{1}")
    ghosts = [asyncio.create_task(doomed.acquire("order:{1}")) for _ in range(5)]
    await in_line(admin, 5)
    live = asyncio.create_task(patient.acquire("order:{1}"))
    await in_line(admin, 6)
    await crash(doomed, ghosts)
    await lease.release()
    try:
        async with asyncio.timeout(5):
            served = await live
    except TimeoutError as error:
        raise AssertionError("the lock went to a dead process") from error
    await served.release()
    assert await lock_keys(admin) == []


async def check_frozen_waiter(
    clients: Clients, admin: Redis, scripts: Scripts, patience: float
) -> None:
    """The process of the first in line hangs: it costs one short claim, not a whole lease."""
    holding, frozen, patient = [clients.make(scripts=scripts, ttl=3.0) for _ in range(3)]
    lease = await holding.acquire("order:{1}")
    hanging = [asyncio.create_task(frozen.acquire("order:{1}")) for _ in range(3)]
    await in_line(admin, 3)
    live = asyncio.create_task(patient.acquire("order:{1}", wait=patience))
    await in_line(admin, 4)
    freeze(frozen)
    await lease.release()
    try:
        served = await live
    except AcquireTimeout as error:
        raise AssertionError("a frozen process kept the lock") from error
    await served.release()
    for task in hanging:
        task.cancel()


async def test_a_crashed_holder_is_succeeded_without_polling(
    clients: Clients, admin: Redis
) -> None:
    doomed, patient = clients.make(ttl=1.0), clients.make(ttl=1.0)
    lease = await doomed.acquire("order:{1}")
    before = await script_calls(admin)
    waiting = asyncio.create_task(patient.acquire("order:{1}"))
    await in_line(admin, 1)
    await crash(doomed)
    async with asyncio.timeout(30):
        successor = await waiting
    assert successor.fence > lease.fence
    # One request to stand in line, one when the lease was over; a renewal may come on top.
    assert await script_calls(admin) - before <= 4
    await successor.release()


async def test_a_waiter_of_another_process_learns_of_a_later_holder(
    clients: Clients, admin: Redis
) -> None:
    """The holder whose expiry the last in line knows is not the one that crashes."""
    first, doomed, patient = clients.make(ttl=30.0), clients.make(ttl=1.0), clients.make(ttl=1.0)
    lease = await first.acquire("order:{1}")
    second = asyncio.create_task(doomed.acquire("order:{1}"))
    await in_line(admin, 1)
    third = asyncio.create_task(patient.acquire("order:{1}"))
    await in_line(admin, 2)
    await lease.release()
    await second
    await crash(doomed)
    async with asyncio.timeout(9):  # below the back-stop of ten seconds
        successor = await third
    await successor.release()


async def test_dead_waiters_are_skipped(clients: Clients, admin: Redis) -> None:
    await check_dead_waiter(clients, admin, sound())


@pytest.mark.parametrize("others", [1, 6])
async def test_one_grant_to_a_dead_process_shows_that_all_its_tickets_are_dead(
    clients: Clients, admin: Redis, others: int
) -> None:
    holding, doomed = clients.make(), clients.make()
    lease = await holding.acquire("order:{1}")
    ghosts = [asyncio.create_task(doomed.acquire("order:{1}")) for _ in range(5)]
    await in_line(admin, 5)
    living = [asyncio.create_task(clients.make().acquire("order:{1}")) for _ in range(others)]
    await in_line(admin, 5 + others)
    await crash(doomed, ghosts)
    before = await _keys_set(admin)
    await lease.release()
    async with asyncio.timeout(30):
        done, _ = await asyncio.wait(living, return_when=asyncio.FIRST_COMPLETED)
    # A grant sets the fence and the lock.
    assert await _keys_set(admin) - before == 2 * 2, "one grant to the dead, one to the living"
    for each in living:
        each.cancel()
    await asyncio.gather(*living, return_exceptions=True)
    await done.pop().result().release()


async def _keys_set(admin: Redis) -> int:
    stats = await admin.info("commandstats")
    return int(stats["cmdstat_set"]["calls"])


async def test_a_grant_to_the_dead_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises(AssertionError):
        await check_dead_waiter(clients, admin, broken("grant does not look who listens"))


async def test_a_frozen_waiter_costs_one_claim(clients: Clients, admin: Redis) -> None:
    await check_frozen_waiter(clients, admin, sound(), patience=30.0)


async def test_a_grant_of_the_whole_lease_to_a_frozen_waiter_is_caught(
    clients: Clients, admin: Redis
) -> None:
    with pytest.raises(AssertionError):
        await check_frozen_waiter(clients, admin, broken("grant for the whole lease"), 4.0)


async def test_a_dead_waiter_for_several_names_frees_those_that_nobody_holds(
    clients: Clients, admin: Redis
) -> None:
    holding, doomed, patient = [clients.make() for _ in range(3)]
    lease = await holding.acquire("invoice:{1}")
    ghost = asyncio.create_task(doomed.acquire("order:{1}", "invoice:{1}"))
    await in_line(admin, 1)
    await crash(doomed, [ghost])
    async with asyncio.timeout(30):
        async with patient.lock("order:{1}"):
            assert await holder(admin, "invoice:{1}") == lease.request.owner
    await lease.release()


async def test_waiters_survive_the_loss_of_all_data(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=1.0)
    lease = await client.acquire("order:{1}")
    waiting = [asyncio.create_task(take_turn(client)) for _ in range(10)]
    await in_line(admin, 10)
    await admin.flushall()
    async with asyncio.timeout(60):
        await asyncio.gather(*waiting)
    assert lease.fence > 0


async def take_turn(client: AsyncLockClient) -> None:
    async with client.lock("order:{1}"):
        await asyncio.sleep(0)
