import asyncio
import hashlib
from typing import Any

import pytest
from libs.lock.tests.clients import Clients, deafen
from libs.lock.tests.eventually import eventually
from libs.lock.tests.variants import _CHANGES, broken
from redis.asyncio import Redis

from fencelock._scripts import packaged


async def test_the_server_accepts_every_script_under_our_digest(admin: Redis) -> None:
    for script in packaged():
        assert await admin.script_load(script.text) == script.digest


def test_the_digest_is_that_of_the_text() -> None:
    for script in packaged():
        assert script.digest == hashlib.sha1(script.text.encode()).hexdigest()


@pytest.mark.parametrize("name", sorted(_CHANGES))
async def test_every_broken_variant_is_a_script_that_loads(admin: Redis, name: str) -> None:
    for script in broken(name):
        await admin.script_load(script.text)
    assert [each.digest for each in broken(name)] != [each.digest for each in packaged()]


async def test_a_place_in_the_line_and_a_hand_over_take_so_many_commands(
    clients: Clients, admin: Redis
) -> None:
    """What a script does while others wait for the server is what a line costs."""

    async def commands() -> int:
        stats: dict[str, Any] = await admin.info("commandstats")
        ours = [name for name in stats if name not in ASKING]
        return sum(int(stats[name]["calls"]) for name in ours)

    client = clients.make()
    await client.start()
    # The look by which a holder is told of a loss comes when it likes.
    deafen(client)
    leases = [await client.acquire("order:1")]
    first = asyncio.create_task(client.acquire("order:1"))
    await until_queued(admin, 1)
    before = await commands()
    second = asyncio.create_task(client.acquire("order:1"))
    await until_queued(admin, 2)
    assert await commands() - before <= 1 + 9
    before = await commands()
    await leases[0].release()
    leases.append(await first)
    # The first was not granted from the line, so nothing of it is taken out there.
    assert await commands() - before <= 1 + 10
    before = await commands()
    await leases[1].release()
    leases.append(await second)
    assert await commands() - before <= 1 + 11
    await leases[2].release()


async def test_a_lock_is_handed_over_though_the_memory_is_full(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make()
    first = await client.acquire("order:1")
    waiting = []
    for index in range(3):
        waiting.append(asyncio.create_task(client.acquire("order:1")))
        await until_queued(admin, index + 1)
    await admin.config_set("maxmemory", "1")
    try:
        # One that was granted at once, two from the line, and the last.
        await first.release()
        for task in waiting:
            lease = await asyncio.wait_for(task, 5)
            await lease.release()
        assert not await admin.exists("fencelock:l:{order:1}", "fencelock:w:{order:1}")
    finally:
        await admin.config_set("maxmemory", "0")


@pytest.mark.parametrize("kind", ["string", "ticket"])
async def test_what_somebody_else_put_in_the_line_keeps_no_name_locked(
    clients: Clients, admin: Redis, kind: str
) -> None:
    client = clients.make()
    lease = await client.acquire("order:1")
    if kind == "string":
        await admin.set("fencelock:q:{order:1}", "no line", px=60_000)
        await lease.release()
        assert not await admin.exists("fencelock:l:{order:1}")
        return
    first = asyncio.create_task(client.acquire("order:1"))
    await until_queued(admin, 1)
    await lease.release()
    lease = await asyncio.wait_for(first, 5)
    await admin.rpush("fencelock:q:{order:1}", "no ticket")
    second = asyncio.create_task(client.acquire("order:1"))
    await until_queued(admin, 3)
    await lease.release()
    await (await asyncio.wait_for(second, 5)).release()
    assert not await admin.keys("fencelock:[lqw]:*")


# What this test itself asks the server for, and what a connection says once.
ASKING = {"cmdstat_info", "cmdstat_llen", "cmdstat_client|caching", "cmdstat_ping"}


async def until_queued(admin: Redis, count: int) -> None:
    async def queued() -> bool:
        return await admin.llen("fencelock:q:{order:1}") == count

    await eventually(queued, f"{count} stand in line")
