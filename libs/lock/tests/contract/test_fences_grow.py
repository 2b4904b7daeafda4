"""Every grant of a name has a higher fence than all grants before it."""

import asyncio

import pytest
from libs.lock.tests.clients import Clients, both_apis
from libs.lock.tests.server_view import lock_keys
from libs.lock.tests.variants import broken, sound
from redis.asyncio import Redis

from fencelock._scripts import Scripts

pytestmark = both_apis


async def check_grows_over_data_loss(clients: Clients, admin: Redis, scripts: Scripts) -> None:
    client = clients.make(scripts=scripts)
    fences: list[int] = []
    for _ in range(5):
        async with client.lock("order:{1}") as lease:
            fences.append(lease.fence)
        await admin.flushall()
    assert fences == sorted(set(fences)), f"fences fell or repeated: {fences}"


async def check_grows_over_a_clock_set_back(
    clients: Clients, admin: Redis, scripts: Scripts
) -> None:
    """The last fence is ahead of the clock, as it is once the clock has been set back."""
    client = clients.make(scripts=scripts)
    async with client.lock("order:{1}") as lease:
        ahead = lease.fence + 3_600_000_000
    await admin.set("fencelock:fence", ahead, px=60_000)
    fences = [ahead]
    for _ in range(3):
        async with client.lock("order:{1}") as lease:
            fences.append(lease.fence)
    assert fences == sorted(set(fences)), f"fences fell or repeated: {fences}"


async def test_fences_grow_for_waiters_and_newcomers(clients: Clients) -> None:
    pair = [clients.make(), clients.make()]
    fences: list[int] = []

    async def take(index: int) -> None:
        async with pair[index % 2].lock("order:{1}") as lease:
            fences.append(lease.fence)

    await asyncio.gather(*[take(index) for index in range(60)])
    assert len(fences) == 60
    assert fences == sorted(set(fences))


async def test_fences_grow_when_all_data_is_lost(clients: Clients, admin: Redis) -> None:
    await check_grows_over_data_loss(clients, admin, sound())


async def test_a_counter_without_the_clock_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises(AssertionError):
        await check_grows_over_data_loss(clients, admin, broken("fence without the clock"))


async def test_fences_grow_when_the_clock_is_set_back(clients: Clients, admin: Redis) -> None:
    await check_grows_over_a_clock_set_back(clients, admin, sound())


async def test_a_clock_without_the_counter_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises(AssertionError):
        await check_grows_over_a_clock_set_back(clients, admin, broken("fence without the counter"))


async def test_fences_of_one_name_and_of_several_are_of_one_order(clients: Clients) -> None:
    client = clients.make()
    async with client.lock("a:{1}") as first:
        pass
    async with client.lock("a:{1}", "b:{1}") as second:
        pass
    async with client.lock("b:{1}") as third:
        pass
    assert first.fence < second.fence < third.fence


async def check_the_counter_expires(clients: Clients, admin: Redis, scripts: Scripts) -> None:
    async with clients.make(scripts=scripts).lock("order:{1}"):
        pass
    assert await lock_keys(admin) == []
    assert await admin.ttl("fencelock:fence") > 24 * 3600


async def test_the_counter_expires_when_nobody_locks(clients: Clients, admin: Redis) -> None:
    await check_the_counter_expires(clients, admin, sound())


async def test_a_counter_for_ever_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises(AssertionError):
        await check_the_counter_expires(clients, admin, broken("fence for ever"))
