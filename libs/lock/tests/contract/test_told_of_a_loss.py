"""The server tells a holder that its key is gone; nobody waits for the next renewal.

The leases here are renewed every 1,000 s: only a push can tell within the patience of a test.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from libs.lock.tests.clients import Clients, both_apis
from libs.lock.tests.eventually import eventually
from libs.lock.tests.proxy import Proxy
from libs.lock.tests.server_view import holder, lock_keys, queue_length, script_calls, watched
from redis.asyncio import Redis

from fencelock import AsyncLease, LeaseLost
from fencelock._fitness import ACL_LINE

KEY = "fencelock:l:order:{1}"
LONG: dict[str, Any] = {"ttl": 3000.0, "max_hold": 30_000.0}
PATIENCE_SECONDS = 30.0


def _loss(lease: AsyncLease) -> asyncio.Future[str]:
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    lease.on_lost(lost.set_result)
    return lost


async def _watches(admin: Redis) -> int:
    """How many times somebody asked to be told."""
    stats = await admin.info("commandstats")
    return int(stats["cmdstat_client|caching"]["calls"])


async def _told(lost: asyncio.Future[str]) -> str:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await lost


WAYS: dict[str, Callable[[Redis], Awaitable[object]]] = {
    "deleted": lambda admin: admin.delete(KEY),
    "overwritten": lambda admin: admin.set(KEY, "somebody.else 1 -", px=60_000),
    "flushed": lambda admin: admin.flushall(),
    "renamed": lambda admin: admin.rename(KEY, "elsewhere"),
    "expired": lambda admin: admin.pexpire(KEY, 1),
}


@both_apis
@pytest.mark.parametrize("way", sorted(WAYS))
async def test_a_holder_is_told_that_its_key_is_gone(
    clients: Clients, admin: Redis, way: str
) -> None:
    lease = await clients.make(**LONG).acquire("order:{1}")
    lost = _loss(lease)
    await watched(admin)
    await WAYS[way](admin)
    assert await _told(lost) == "taken"
    with pytest.raises(LeaseLost):
        lease.check()


async def test_a_body_is_interrupted_at_once(clients: Clients, admin: Redis) -> None:
    client = clients.make(**LONG)

    async def hold() -> None:
        async with client.lock("order:{1}"):
            await watched(admin)
            await admin.delete(KEY)
            await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(LeaseLost):
            await hold()


async def test_a_key_that_went_before_it_was_watched_is_missed_too(
    clients: Clients, admin: Redis
) -> None:
    lease = await clients.make(**LONG).acquire("order:{1}")
    await admin.delete(KEY)
    assert await _told(_loss(lease)) == "taken"


async def test_one_who_came_by_push_is_told_too(clients: Clients, admin: Redis) -> None:
    client, other = clients.make(**LONG), clients.make(**LONG)
    first = await other.acquire("order:{1}")
    waiting = asyncio.create_task(client.acquire("order:{1}"))

    async def in_line() -> bool:
        return await queue_length(admin, "order:{1}") == 1

    await eventually(in_line, "one in line")
    await first.release()
    lost = _loss(await waiting)
    await watched(admin)
    await admin.delete(KEY)
    assert await _told(lost) == "taken"


@both_apis
async def test_a_renewal_keeps_the_watch(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=6.0)
    lease = await client.acquire("order:{1}")
    before = lease.term.deadline

    async def renewed() -> bool:
        return lease.term.deadline > before

    await eventually(renewed, "renewed")
    assert int((await admin.info("stats"))["tracking_total_keys"]) == 1
    lost = _loss(lease)
    calls = await script_calls(admin)
    await admin.delete(KEY)
    assert await _told(lost) == "taken"
    # The release of what is left of it; no renewal.
    assert await script_calls(admin) - calls <= 1


async def test_a_new_connection_watches_what_is_held(
    proxy: Proxy, clients: Clients, admin: Redis
) -> None:
    client = clients.make(url=proxy.url, **LONG)
    lost = _loss(await client.acquire("order:{1}"))
    await watched(admin)
    for _ in range(3):
        proxy.cut()
        await client.ping(timeout=PATIENCE_SECONDS)
    await watched(admin)
    await admin.delete(KEY)
    assert await _told(lost) == "taken"


async def test_what_one_does_oneself_is_no_news(clients: Clients, admin: Redis) -> None:
    await admin.config_resetstat()
    client = clients.make(**LONG)
    kept = await client.acquire("order:{0}")
    await watched(admin)
    calls = await script_calls(admin)
    for _ in range(20):
        async with client.lock("order:{1}"):
            pass
    first = await client.acquire("order:{1}")
    waiting = asyncio.create_task(client.acquire("order:{1}"))

    async def in_line() -> bool:
        return await queue_length(admin, "order:{1}") == 1

    await eventually(in_line, "one in line")
    await first.release()
    await (await waiting).release()
    await client.ping(timeout=PATIENCE_SECONDS)
    assert await script_calls(admin) - calls == 22 + 22
    # Those that were held for long were watched, each once: nobody was told of anything.
    assert await _watches(admin) <= 1 + 22
    kept.check()
    await kept.release()
    assert await lock_keys(admin) == []


async def test_the_same_name_in_another_database_is_no_loss(
    clients: Clients, admin: Redis, url: str
) -> None:
    await admin.config_resetstat()
    client = clients.make(**LONG)
    lease = await client.acquire("order:{1}")
    await watched(admin)
    fifth = url.rsplit("/", 1)[0] + "/5"
    elsewhere = clients.make(url=fifth, **LONG)
    for _ in range(10):
        async with elsewhere.lock("order:{1}"):
            pass
    async with Redis.from_url(fifth) as other:
        await other.flushdb()
    # The answer to the first comes after the news, that to the second after the look.
    for _ in range(2):
        await client.ping(timeout=PATIENCE_SECONDS)
    lease.check()
    assert await holder(admin, "order:{1}") == lease.request.owner
    # However often that happens: watched again once, and then not before a renewal. The other
    # client has its own locks watched if they take long, each once.
    assert await _watches(admin) <= 2 + 10


async def test_ten_thousand_leases_are_told_together(clients: Clients, admin: Redis) -> None:
    client = clients.make(**LONG)
    count = 10_000
    leases = await asyncio.gather(*[client.acquire(f"order:{{{i}}}") for i in range(count)])
    await watched(admin, count)
    losses = [_loss(lease) for lease in leases]
    await admin.flushall()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert set(await asyncio.gather(*losses)) == {"taken"}


async def test_without_the_right_to_be_told_leases_are_renewed_as_ever(
    clients: Clients, admin: Redis, url: str
) -> None:
    rights: list[str] = ["on", ">secret", *ACL_LINE.split()]
    await admin.execute_command("ACL", "SETUSER", "least", *rights)  # type: ignore[no-untyped-call]
    try:
        address = url.rpartition("@")[2]
        client = clients.make(url=f"redis://least:secret@{address}", ttl=1.2)
        lost = _loss(await client.acquire("order:{1}"))
        await admin.delete(KEY)
        assert await _told(lost) == "taken"
        assert int((await admin.info("stats"))["tracking_total_keys"]) == 0
    finally:
        await admin.acl_deluser("least")


async def test_who_flushes_again_and_again_holds_nobody_up(
    clients: Clients, admin: Redis, url: str
) -> None:
    client = clients.make(**LONG)
    await client.start()
    flushing, flushed = True, asyncio.Event()

    async def flush() -> None:
        async with Redis.from_url(url.rsplit("/", 1)[0] + "/5") as other:
            while flushing:
                await other.set("a", "key")
                await other.flushdb()
                flushed.set()

    task = asyncio.create_task(flush())
    await flushed.wait()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for wait in (0.0, 60.0):
                async with client.lock("order:{1}", wait=wait) as lease:
                    lease.check()
    finally:
        flushing = False
        await task
