"""What fencelock keeps in Redis is read as it is, for each kind of lock."""

import pytest
import redis.asyncio
from tools.playground import locks

import fencelock
from devkit.servers import RedisServer

NAME = "thing:{of-the-playground}"


@pytest.mark.parametrize(
    ("kind", "shown"),
    [(fencelock.Kind.SHARED, "shared"), (fencelock.Kind.permits(2), "2")],
)
async def test_everybody_who_shares_a_name_is_shown_and_who_waits(
    redis_server: RedisServer, kind: fencelock.Kind, shown: str
) -> None:
    reader = redis.asyncio.Redis.from_url(redis_server.url, decode_responses=True)
    async with reader, fencelock.AsyncLockClient.from_url(redis_server.url) as client:
        leases = [await client.acquire(NAME, ttl=30.0, kind=kind) for _ in range(2)]
        (lock,) = [each for each in await locks.read(reader) if each.name == NAME]
        for lease in leases:
            await lease.release()
        assert [each for each in await locks.read(reader) if each.name == NAME] == []
    assert lock.kind == shown
    assert {holder.fence for holder in lock.holders} == {lease.fence for lease in leases}
    assert all(0 < holder.remaining_ms <= 30_000 for holder in lock.holders)


async def test_one_who_holds_a_name_alone_is_shown(redis_server: RedisServer) -> None:
    reader = redis.asyncio.Redis.from_url(redis_server.url, decode_responses=True)
    async with (
        reader,
        fencelock.AsyncLockClient.from_url(redis_server.url) as client,
        client.lock(NAME, ttl=30.0) as lease,
    ):
        (lock,) = [each for each in await locks.read(reader) if each.name == NAME]
    assert lock.kind == "exclusive"
    assert [holder.fence for holder in lock.holders] == [lease.fence]
