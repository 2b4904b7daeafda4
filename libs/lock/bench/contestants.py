"""The contestants: each can hold names for the length of an ``async with``."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import hiredis
from libs.lock.bench.bare import BareLink, Word
from redis.asyncio import Redis

import fencelock
from fencelock._target import Target

TTL_SECONDS = 10.0
WAIT_SECONDS = 60.0
TTL_MS = int(TTL_SECONDS * 1000)

DELETE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
_GRANT_ACQUIRE = """
local n = #KEYS / 2
for i = 1, n do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('RPUSH', KEYS[n + 1], ARGV[1])
    return 0
  end
end
for i = 1, n do redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2]) end
return 1
"""
_GRANT_RELEASE = """
local n = #KEYS / 2
for i = 1, n do
  if redis.call('GET', KEYS[i]) ~= ARGV[1] then return 0 end
  redis.call('DEL', KEYS[i])
end
local waiter = redis.call('LPOP', KEYS[n + 1])
if waiter then
  for i = 1, n do redis.call('SET', KEYS[i], waiter, 'PX', ARGV[2]) end
  redis.call('PUBLISH', ARGV[3], waiter)
end
return 1
"""


class Contestant(Protocol):
    """One way to lock."""

    name: str

    def hold(self, *names: str) -> AbstractAsyncContextManager[object]:
        """Hold names, waiting for them if need be."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class Raw:
    """SET NX PX and a script that deletes, through redis-py: no waiting, no renewal, no fence."""

    name = "raw redis-py"

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url)
        self._script = self._redis.register_script(DELETE)

    @asynccontextmanager
    async def hold(self, *names: str) -> AsyncIterator[None]:
        """Hold one name that is free."""
        token = secrets.token_hex(8)
        await self._redis.set(names[0], token, nx=True, px=TTL_MS)
        yield
        await self._script(keys=names, args=[token])

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()


class RedisPyLock:
    """The lock that comes with redis-py, with its defaults and a TTL."""

    name = "redis-py Lock"

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url)

    def hold(self, *names: str) -> AbstractAsyncContextManager[object]:
        """Hold one name."""
        lock: AbstractAsyncContextManager[object] = self._redis.lock(
            names[0], timeout=TTL_SECONDS, blocking_timeout=WAIT_SECONDS
        )
        return lock

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()


class Limit:
    """A bare multiplexed connection and the least that scripts can do: grant and push.

    No fence, no renewal, no deadline, no time-out, no clean-up. What is faster is not a lock.
    """

    name = "limit"

    def __init__(self, link: BareLink, channel: str, digests: tuple[str, str]) -> None:
        self._link = link
        self._channel = channel
        self._acquire, self._release = digests
        self.waiting: dict[bytes, asyncio.Future[None]] = {}

    @classmethod
    async def connect(cls, url: str) -> "Limit":
        """Open the connection."""
        loop = asyncio.get_running_loop()
        target = Target.from_url(url)
        waiting: dict[bytes, asyncio.Future[None]] = {}

        def pushed(message: object) -> None:
            match message:
                case [b"message", _, bytes(token)]:
                    waiting.pop(token).set_result(None)

        made = await loop.create_connection(lambda: BareLink(pushed), target.host, target.port)
        link, channel = made[1], secrets.token_hex(8)
        hello: tuple[Word, ...] = ("HELLO", "3")
        if target.password:
            hello += ("AUTH", "default", target.password)
        await link.send(hello)
        await link.send(("SUBSCRIBE", channel))
        digests = [await link.send(("SCRIPT", "LOAD", s)) for s in (_GRANT_ACQUIRE, _GRANT_RELEASE)]
        limit = cls(link, channel, (_text(digests[0]), _text(digests[1])))
        limit.waiting = waiting
        return limit

    @asynccontextmanager
    async def hold(self, *names: str) -> AsyncIterator[None]:
        """Hold names; only requests for the same names can wait for each other."""
        token = secrets.token_bytes(8).hex()
        keys = (*names, *[f"{name}:q" for name in names])
        granted = asyncio.get_running_loop().create_future()
        self.waiting[token.encode()] = granted
        words: tuple[Word, ...] = ("EVALSHA", self._acquire, len(keys), *keys, token, TTL_MS)
        if await self._link.send(words) == 1:
            del self.waiting[token.encode()]
        else:
            await granted
        yield
        await self._link.send(
            ("EVALSHA", self._release, len(keys), *keys, token, TTL_MS, self._channel)
        )

    async def close(self) -> None:
        """Disconnect."""
        self._link.close()


class Fencelock:
    """This library, with its defaults."""

    name = "fencelock"

    def __init__(self, url: str) -> None:
        self.client = fencelock.AsyncLockClient.from_url(url, ttl=TTL_SECONDS, wait=WAIT_SECONDS)

    def hold(self, *names: str) -> AbstractAsyncContextManager[object]:
        """Hold names."""
        return self.client.lock(*names)

    async def close(self) -> None:
        """Disconnect."""
        await self.client.aclose()


def _text(reply: object) -> str:
    if isinstance(reply, hiredis.ReplyError) or not isinstance(reply, bytes):
        raise TypeError(f"not a digest: {reply!r}")
    return reply.decode()
