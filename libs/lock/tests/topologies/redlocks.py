"""What node-redlock 5 and redsync 4 do with several servers, said again in Python.

They run in Node.js and in Go, so they can be tried themselves only where those are. These are the
steps of their sources, and their settings: who asks whom, what counts as done, and how often it is
tried again.
"""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence

from redis.asyncio import Redis

NAME = "order:{1}"
# Delete, if it is ours: both have this script, which is that of the Redlock algorithm.
RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

Act = Callable[[Redis], Awaitable[bool]]


def _set(value: str, ttl: float) -> Act:
    async def act(server: Redis) -> bool:
        return bool(await server.set(NAME, value, nx=True, px=int(ttl * 1000)))

    return act


def _delete(value: str) -> Act:
    async def act(server: Redis) -> bool:
        return bool(await server.eval(RELEASE, 1, NAME, value))

    return act


class _Contestant:
    """Takes a name and gives it back by acting on every server."""

    def __init__(self, servers: Sequence[Redis]) -> None:
        self._servers = servers
        self._value = secrets.token_hex(16)

    async def take(self, ttl: float) -> None:
        """Hold the name, or raise."""
        await self._act(_set(self._value, ttl))

    async def release(self) -> None:
        """Give it back, or raise."""
        await self._act(_delete(self._value))

    async def _act(self, act: Act) -> None:
        raise NotImplementedError


class NodeRedlock(_Contestant):
    """`acquire` and `release` share one loop, which votes and tries again.

    A vote is decided when a majority of all servers is for it, or a majority against it. There are
    ten more tries by default, 0.2 s apart; the pause is a setting, and shorter here.
    """

    def __init__(self, servers: Sequence[Redis], *, retries: int = 10, pause: float = 0.01) -> None:
        super().__init__(servers)
        self._retries = retries
        self._pause = pause

    async def _act(self, act: Act) -> None:
        for _ in range(self._retries + 1):
            if await self._vote(act):
                return
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))
        raise ValueError("no quorum in any of the tries")

    async def _vote(self, act: Act) -> bool:
        quorum = len(self._servers) // 2 + 1
        decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        votes = {True: 0, False: 0}

        async def ask(server: Redis) -> None:
            vote = await act(server)
            votes[vote] += 1
            if votes[vote] == quorum:
                decided.set_result(vote)

        asking = [asyncio.ensure_future(ask(server)) for server in self._servers]
        try:
            return await decided
        finally:
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


class Redsync(_Contestant):
    """It asks every server at once, and counts when all of them have answered."""

    async def _act(self, act: Act) -> None:
        votes = await asyncio.gather(*[act(server) for server in self._servers])
        if sum(votes) < len(self._servers) // 2 + 1:
            raise ValueError("no quorum")
