"""The servers that a URL leads to; the command looks into each by itself."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Self

from redis import Redis
from redis.exceptions import RedisError

from fencelock import _names, _slots, _topology
from fencelock._cli import view
from fencelock._cluster import read_map
from fencelock._conversation import Partner, conversation
from fencelock._errors import ConfigurationError, FencelockError, RedisUnavailable
from fencelock._protocol import FENCE_KEY, LOCK_PREFIX, fence_key
from fencelock._sentinel import SentinelRoute
from fencelock._target import Target
from fencelock._topology import Cluster, Quorum, Sentinels, Topology

EXPLAIN_SECONDS = 2.0
_SERVER = Partner("", None, "Look at the user and the password in the URL")
_KNOWN_BY_NONE = (
    "no server of a quorum can say what all of them do: give the URL of one to look into it, or to "
    "break a name there, and do the same on a majority"
)


class Server(NamedTuple):
    """One of them."""

    url: str
    redis: "Redis"
    timeout: float
    """Seconds that a reply may take."""

    def explain(self, error: RedisError) -> None:
        """Raise what a client of ours says of a server that cannot be reached, which is more.

        Raises:
            ConfigurationError, RedisUnavailable: it cannot be reached by us either.
        """
        try:
            asyncio.run(_reach(Target.from_url(self.url), min(self.timeout, EXPLAIN_SECONDS)))
        except FencelockError as said:
            raise said from error

    def __str__(self) -> str:
        return str(Target.from_url(self.url))


class Servers:
    """Connections to all of them, closed at the end."""

    def __init__(self, url: str, timeout: float) -> None:
        """Find out where they are.

        Raises:
            ConfigurationError: the URL makes no sense, or those who know the servers refuse us.
            RedisUnavailable: nobody says where they are.
        """
        self.url = url
        self.where: Topology = _topology.read(url)
        self._served: Mapping[int, str] = {}
        self._stack = ExitStack()
        self._timeout = timeout
        self._servers = self._connected()

    def _connected(self) -> list[Server]:
        timeout = self._timeout
        return [Server(each, view.connect(each, timeout), timeout) for each in self._find()]

    def __enter__(self) -> Self:
        for each in self._servers:
            self._stack.enter_context(each.redis)
        return self

    def find_again(self) -> None:
        """Ask anew where they are, after one was lost.

        Raises:
            ConfigurationError: those who know the servers refuse us.
            RedisUnavailable: nobody says where they are.
        """
        found = self._connected()
        self._stack.close()
        self._servers = found
        self.__enter__()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def each(self) -> Sequence[Server]:
        """All of them, whatever they are to each other."""
        return self._servers

    def all_that_tell(self) -> Iterator["Redis"]:
        """Those that together know who holds what.

        Raises:
            ConfigurationError: none of a quorum does.
        """
        if isinstance(self.where, Quorum):
            raise ConfigurationError(_KNOWN_BY_NONE)
        return (each.redis for each in self._servers)

    def of(self, name: str) -> "Redis":
        """The one that keeps a name.

        Raises:
            ConfigurationError: none of a quorum knows by itself.
            RedisUnavailable: nobody serves its slot.
        """
        (first, *_) = self.all_that_tell()
        if not isinstance(self.where, Cluster):
            return first
        url = self._served.get(self._slot(name))
        if url is None:
            raise RedisUnavailable(f"no node of {self.where} serves the slot of {name}")
        return next(each.redis for each in self._servers if each.url == url)

    def fence_key(self, name: str) -> str:
        """Where the fence counter of a name is."""
        if not isinstance(self.where, Cluster):
            return FENCE_KEY
        return fence_key(_slots.tag(self._slot(name)))

    def explain(self, error: RedisError) -> None:
        """Raise what a client of ours says of the first that cannot be reached, if there is one.

        Raises:
            ConfigurationError, RedisUnavailable: see :meth:`Server.explain`.
        """
        for each in self._servers:
            each.explain(error)

    def _slot(self, name: str) -> int:
        return _slots.slot_of(LOCK_PREFIX + _names.body(name))

    def _find(self) -> list[str]:
        where = self.where
        if isinstance(where, Sentinels):
            master = asyncio.run(_master(where))
            return [_topology.url_of_one(self.url, (master.host, master.port))]
        if isinstance(where, Cluster):
            served = asyncio.run(read_map(where.seeds)).served
            urls = {each: _topology.url_of_one(self.url, each) for each in set(served.values())}
            self._served = {slot: urls[each] for slot, each in served.items()}
            return [urls[each] for each in sorted(urls)]
        return _topology.urls_of(self.url)


async def _reach(target: Target, seconds: float) -> None:
    async with conversation(target, _SERVER, seconds=seconds):
        pass


async def _master(sentinels: Sentinels) -> Target:
    route = SentinelRoute(sentinels)
    try:
        return await route.find()
    finally:
        await route.close()
