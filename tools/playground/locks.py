"""Who holds which lock, and who waits: what fencelock keeps in Redis.

The only module that knows fencelock's keys, which its ``record.lua`` documents. Owner tokens are
secrets and never leave it; of an owner only the id of its client is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import redis.asyncio

LOCKS: Final = "fencelock:l:"
QUEUES: Final = "fencelock:q:"
CHANNELS: Final = "fencelock:c:"
FENCE: Final = "fencelock:fence"
SCAN_COUNT: Final = 1000


@dataclass
class Lock:
    """One name that is held or waited for."""

    name: str
    holder: str | None = None
    """Id of the client that holds it."""
    fence: int | None = None
    remaining_ms: int = 0
    waiters: list[str] = field(default_factory=list)
    """Ids of the clients in line, the first first."""


async def read(client: redis.asyncio.Redis) -> list[Lock]:
    """Every name that is held or waited for.

    Raises:
        redis.RedisError: There was no answer.
    """
    found: dict[str, Lock] = {}
    keys = [key async for key in client.scan_iter("fencelock:[lq]:*", count=SCAN_COUNT)]
    pipeline = client.pipeline(transaction=True)
    for key in keys:
        if key.startswith(LOCKS):
            pipeline.get(key)
            pipeline.pttl(key)
        else:
            pipeline.lrange(key, 0, -1)
    answers = iter(await pipeline.execute() if keys else [])
    for key in keys:
        name = key[len(LOCKS) :]
        lock = found.setdefault(name, Lock(name))
        if key.startswith(LOCKS):
            _take_holder(lock, next(answers), next(answers))
        else:
            lock.waiters = [_client(ticket) for ticket in next(answers) if ticket[:1] != "*"]
    held = (lock for lock in found.values() if lock.holder or lock.waiters)
    return sorted(held, key=lambda lock: lock.name)


async def clients(client: redis.asyncio.Redis) -> set[str]:
    """Ids of the clients that are connected.

    Raises:
        redis.RedisError: There was no answer.
    """
    channels = await client.pubsub_channels(f"{CHANNELS}*")
    return {str(channel).removeprefix(CHANNELS) for channel in channels}


async def last_fence(client: redis.asyncio.Redis) -> int | None:
    """The last fence that was given out; None when there is none, or Redis has forgotten it.

    Raises:
        redis.RedisError: There was no answer.
    """
    fence = await client.get(FENCE)
    return None if fence is None else int(fence)


def _take_holder(lock: Lock, value: str | None, remaining_ms: int) -> None:
    if value is None:  # it ended between the two looks
        return
    owner, fence, _ = value.split(" ", 2)
    lock.holder = _client(owner)
    lock.fence = int(fence)
    lock.remaining_ms = max(0, remaining_ms)


def _client(owner: str) -> str:
    return owner.partition(".")[0]
