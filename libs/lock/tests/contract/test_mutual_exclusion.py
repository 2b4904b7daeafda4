"""At most one lease holds a name."""

import asyncio

import pytest
from libs.lock.tests.clients import Clients, both_apis, deafen
from libs.lock.tests.server_view import holder
from libs.lock.tests.variants import broken, sound
from redis.asyncio import Redis

from fencelock import LeaseLost, NotOwner
from fencelock._scripts import Scripts

pytestmark = both_apis


async def check_contenders(clients: Clients, scripts: Scripts) -> None:
    """Two processes with eight tasks each: never two inside."""
    inside = 0
    turns = 0

    async def contend(index: int) -> None:
        nonlocal inside, turns
        client = pair[index % 2]
        for _ in range(5):
            try:
                async with client.lock("order:{1}"):
                    inside += 1
                    assert inside == 1, "two leases hold the name"
                    await asyncio.sleep(0.001)
                    inside -= 1
                    turns += 1
            except LeaseLost as error:
                raise AssertionError("somebody else took the name away") from error

    pair = [clients.make(scripts=scripts), clients.make(scripts=scripts)]
    async with asyncio.timeout(60):
        await asyncio.gather(*[contend(index) for index in range(16)])
    assert turns == 80


async def check_late_release(clients: Clients, admin: Redis, scripts: Scripts) -> None:
    """A holder whose lease is over releases: the next holder must not notice."""
    client = clients.make(scripts=scripts)
    await client.start()
    deafen(client)
    late = await client.acquire("order:{1}")
    await admin.delete("fencelock:l:order:{1}")
    current = await clients.make(scripts=scripts).acquire("order:{1}", wait=0)
    with pytest.raises((NotOwner, LeaseLost)):
        await late.release()
    assert await holder(admin, "order:{1}") == current.request.owner
    await current.release()


async def test_never_two_inside(clients: Clients) -> None:
    await check_contenders(clients, sound())


async def test_two_inside_is_caught(clients: Clients) -> None:
    with pytest.raises(AssertionError):
        await check_contenders(clients, broken("acquire ignores the holder"))


async def test_a_late_release_takes_nothing_from_the_next_holder(
    clients: Clients, admin: Redis
) -> None:
    await check_late_release(clients, admin, sound())


async def test_a_release_of_somebody_elses_lock_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await check_late_release(clients, admin, broken("release deletes whoever holds"))


async def test_a_stale_holder_cannot_renew(clients: Clients, admin: Redis) -> None:
    stale = await clients.make(ttl=1.2).acquire("order:{1}")
    lost = asyncio.get_running_loop().create_future()
    stale.on_lost(lost.set_result)
    await admin.set("fencelock:l:order:{1}", "somebody.else 99 -", px=60_000)
    async with asyncio.timeout(30):
        assert await lost == "taken"
    with pytest.raises(LeaseLost):
        stale.check()
    assert await holder(admin, "order:{1}") == "somebody.else"


async def test_renewing_somebody_elses_lock_is_caught(clients: Clients, admin: Redis) -> None:
    scripts = broken("renew does not look at the owner")
    client = clients.make(ttl=1.2, scripts=scripts)
    await client.start()
    deafen(client)
    stale = await client.acquire("order:{1}", max_hold=2.0)
    lost = asyncio.get_running_loop().create_future()
    stale.on_lost(lost.set_result)
    await admin.set("fencelock:l:order:{1}", "somebody.else 99 -", px=60_000)
    async with asyncio.timeout(30):
        with pytest.raises(AssertionError):
            assert await lost == "taken"
