"""Asks Sentinels where the master is, and listens for the next one.

A Sentinel that was cut off from the others may still name the old master. So a majority of them is
asked, and among their answers the one with the highest epoch counts: each failover raises it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

import hiredis

from fencelock._conversation import Partner, accept, ask_all, conversation
from fencelock._errors import ConfigurationError, RedisUnavailable
from fencelock._link import Link
from fencelock._target import Target
from fencelock._topology import Sentinels

logger = logging.getLogger("fencelock")

SENTINEL = Partner(
    "Sentinel",
    b"sentinel",
    "Sentinels have a user and password of their own: sentinel_username and sentinel_password in "
    "the URL",
)
# A Sentinel tells when the master changes; it is asked too, in case its word was lost.
POLL_SECONDS = 5.0
RETRY_SECONDS = 0.5


class Said(NamedTuple):
    """What one Sentinel says of the master."""

    epoch: int
    host: str
    port: int


class SentinelRoute:
    """The way to whichever server is the master."""

    master = True
    mode = b"standalone"

    def __init__(self, sentinels: Sentinels) -> None:
        self._sentinels = sentinels
        self._best: Said | None = None
        self._moved: list[Callable[[Target], None]] = []
        self._watchers: list[asyncio.Task[None]] = []

    def __str__(self) -> str:
        return str(self._sentinels)

    async def find(self) -> Target:
        """Ask for the master.

        Raises:
            RedisUnavailable: no Sentinel answered; or they say no, and have named one before.
            ConfigurationError: none of those that answered knows such a master, or they refuse us.
        """
        try:
            said = await ask_all(self._ask_once(each) for each in self._sentinels.addresses)
        except ConfigurationError as error:
            if self._best is None:
                raise
            # The URL was right: Sentinels that are set up anew, one after the other, pass.
            raise RedisUnavailable(str(error)) from error
        self._best = max(said)
        self._watch()
        return self._sentinels.server.at(self._best.host, self._best.port)

    def follow(self, moved: Callable[[Target], None]) -> None:
        """Call back when there is another master."""
        self._moved.append(moved)

    async def close(self) -> None:
        """Listen no further."""
        for watcher in self._watchers:
            watcher.cancel()
        if self._watchers:
            await asyncio.wait(self._watchers)

    async def _ask_once(self, address: Target) -> Said:
        async with conversation(address, SENTINEL) as link:
            return await self._ask(address, link)

    async def _ask(self, address: Target, link: Link) -> Said:
        name = self._sentinels.name
        replies = await asyncio.gather(
            link.send(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)),
            link.send(("SENTINEL", "MASTER", name)),
        )
        return _read(address, name, *replies)

    def _watch(self) -> None:
        if not self._watchers:
            self._watchers = [
                asyncio.get_running_loop().create_task(
                    self._listen(each), name="fencelock-sentinel"
                )
                for each in self._sentinels.addresses
            ]

    async def _listen(self, address: Target) -> None:
        """Hear what one Sentinel has to say, for as long as the client lives."""
        while True:
            try:
                await self._hear_out(address)
            except (RedisUnavailable, ConfigurationError) as error:
                logger.debug("Sentinel %s does not tell: %s", address, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _hear_out(self, address: Target) -> None:
        news = asyncio.Event()
        async with conversation(address, SENTINEL, lambda _: news.set()) as link:
            link.closed.add_done_callback(lambda _: news.set())
            accept(SENTINEL, address, await link.send(("SUBSCRIBE", "+switch-master")))
            while link.usable:
                news.clear()
                self._heard(await self._ask(address, link))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await news.wait()

    def _heard(self, said: Said) -> None:
        if self._best is not None and said.epoch > self._best.epoch:
            moved = (said.host, said.port) != (self._best.host, self._best.port)
            self._best = said
            if moved:
                target = self._sentinels.server.at(said.host, said.port)
                for callback in self._moved:
                    callback(target)


def _read(address: Target, name: str, where: object, state: object) -> Said:
    for reply in (where, state):
        if isinstance(reply, hiredis.ReplyError) and "o such master" in str(reply):
            where = None
    if where is None:
        raise ConfigurationError(f"Sentinel {address} knows no master {name!r}")
    accept(SENTINEL, address, where)
    accept(SENTINEL, address, state)
    match where, state:
        case [[bytes(host), bytes(port)], dict()] if port.isdigit():
            epoch = state.get(b"config-epoch", b"0")
            return Said(int(epoch), host.decode(), int(port))
    raise RedisUnavailable(f"the answer of Sentinel {address} makes no sense")
