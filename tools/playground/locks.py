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
PERMITS: Final = "fencelock:p:"
PERMIT: Final = "fencelock:r:"
SCAN_COUNT: Final = 1000


@dataclass(frozen=True)
class Holder:
    """One who holds a name."""

    client: str
    """Id of its client."""
    fence: int
    remaining_ms: int


@dataclass
class Lock:
    """One name that is held or waited for."""

    name: str
    kind: str = "exclusive"
    """``exclusive``, ``shared``, or how many may hold it at once."""
    holders: list[Holder] = field(default_factory=list)
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
        if not key.startswith(LOCKS):
            lock.waiters = [_client(ticket) for ticket in next(answers) if ticket[:1] != "*"]
            continue
        value, remaining_ms = next(answers), next(answers)
        if value is not None and value.startswith("*"):
            await _read_shared(client, lock, value)
        else:
            lock.holders = _holders(value, remaining_ms)
    held = (lock for lock in found.values() if lock.holders or lock.waiters)
    return sorted(held, key=lambda lock: lock.name)


async def _read_shared(client: redis.asyncio.Redis, lock: Lock, value: str) -> None:
    """Read who holds a name together with others."""
    limit = value[1:].partition(" ")[0]
    lock.kind = "shared" if limit == "0" else limit
    owners = await client.zrange(PERMITS + lock.name, 0, -1)
    pipeline = client.pipeline(transaction=True)
    for owner in map(str, owners):
        pipeline.get(f"{PERMIT}{owner}:{lock.name}")
        pipeline.pttl(f"{PERMIT}{owner}:{lock.name}")
    answers = iter(await pipeline.execute() if owners else [])
    for permit, remaining_ms in zip(answers, answers, strict=True):
        lock.holders += _holders(permit, remaining_ms)


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


def _holders(value: str | None, remaining_ms: int) -> list[Holder]:
    if value is None:  # it ended between the two looks
        return []
    owner, fence, _ = value.split(" ", 2)
    return [Holder(_client(owner), int(fence), max(0, remaining_ms))]


def _client(owner: str) -> str:
    return owner.partition(".")[0]
