"""All leases of a process are renewed in one call, for as long as they are held."""

import asyncio

from libs.lock.tests.clients import Clients, both_apis
from libs.lock.tests.eventually import eventually
from libs.lock.tests.server_view import lock_keys, queue_length, script_calls
from redis.asyncio import Redis


@both_apis
async def test_fifty_leases_are_renewed_in_one_call(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=6.0)
    leases = [await client.acquire(f"order:{{{i}}}", f"invoice:{{{i}}}") for i in range(50)]
    deadlines = [lease.term.deadline for lease in leases]
    before = await script_calls(admin)

    async def all_renewed() -> bool:
        return all(
            lease.term.deadline > deadline
            for lease, deadline in zip(leases, deadlines, strict=True)
        )

    await eventually(all_renewed, "all leases renewed")
    assert await script_calls(admin) - before == 1
    for lease in leases:
        await lease.release()


@both_apis
async def test_a_lease_outlives_its_first_term(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=1.0)
    async with client.lock("order:{1}") as lease:
        first = lease.term.deadline

        async def two_terms_later() -> bool:
            return lease.term.deadline > first + 2.0

        await eventually(two_terms_later, "renewed several times")
        assert await admin.pttl("fencelock:l:order:{1}") > 0
        lease.check()
    assert await lock_keys(admin) == []


@both_apis
async def test_a_lease_that_came_by_push_is_stretched_to_its_full_term(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make(ttl=6.0)
    first = await client.acquire("order:{1}")
    waiting = asyncio.create_task(client.acquire("order:{1}"))

    async def in_line() -> bool:
        return await queue_length(admin, "order:{1}") == 1

    await eventually(in_line, "one in line")
    await first.release()
    second = await waiting
    assert second.remaining() <= 2.0

    async def stretched() -> bool:
        return second.remaining() > 4.0

    await eventually(stretched, "renewed to the full term")
    await second.release()
