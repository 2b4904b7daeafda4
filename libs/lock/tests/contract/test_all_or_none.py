"""Several names are held together or not at all."""

import asyncio

import pytest
from libs.lock.tests.clients import Clients, both_apis
from libs.lock.tests.server_view import holder, lock_keys, record
from libs.lock.tests.variants import broken, sound
from redis.asyncio import Redis

from fencelock import AcquireTimeout, Contended
from fencelock._scripts import Scripts

pytestmark = both_apis

PAIR = ("order:{1}", "invoice:{1}")


async def check_no_partial_hold(clients: Clients, admin: Redis, scripts: Scripts) -> None:
    client = clients.make(scripts=scripts)
    async with client.lock("invoice:{1}"):
        with pytest.raises(Contended):
            await client.acquire(*PAIR, wait=0)
        assert await holder(admin, "order:{1}") is None
        with pytest.raises(AcquireTimeout):
            await client.acquire(*PAIR, wait=0.05)
        assert await holder(admin, "order:{1}") is None


async def test_a_refused_request_holds_none_of_its_names(clients: Clients, admin: Redis) -> None:
    await check_no_partial_hold(clients, admin, sound())


async def test_a_partial_hold_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises(AssertionError):
        await check_no_partial_hold(clients, admin, broken("acquire takes the names one by one"))


async def test_all_names_have_one_owner_and_one_fence(clients: Clients, admin: Redis) -> None:
    async with clients.make().lock(*PAIR, "order:{1}") as lease:
        assert lease.names == ("invoice:{1}", "order:{1}")
        for name in PAIR:
            assert await record(admin, name) == f"{lease.request.owner} {lease.fence} -"
    assert await lock_keys(admin) == []


async def test_opposite_orders_do_not_deadlock(clients: Clients) -> None:
    client = clients.make()

    async def swap(*names: str) -> None:
        for _ in range(20):
            async with client.lock(*names):
                await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await asyncio.gather(*[swap(*PAIR), swap(*reversed(PAIR))] * 1)


async def test_a_lease_that_lost_one_name_is_lost(clients: Clients, admin: Redis) -> None:
    lease = await clients.make(ttl=1.2).acquire(*PAIR)
    lost = asyncio.get_running_loop().create_future()
    lease.on_lost(lost.set_result)
    await admin.delete("fencelock:l:order:{1}")
    async with asyncio.timeout(30):
        assert await lost == "taken"
