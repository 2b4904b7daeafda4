"""What goes wrong in node-redlock and in redsync goes right here.

A promise is a function that raises if it is not kept. Every one is kept by fencelock on a quorum,
and broken by the lock that it is listed for: by redsync and node-redlock themselves, where Go and
Node are, and by what `redlocks.py` says of them anywhere.

Of what is said of the two, not all is true of each, nor of every version; a promise that is not
listed for one of them is kept there, which is tried too. redsync has a way to wait for no silent
server, which one has to ask for: `WithFailFast`.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, nullcontext, suppress
from functools import partial
from typing import Any, Protocol

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually
from libs.lock.tests.topologies.redlocks import NAME, NodeRedlock, Redsync
from libs.lock.tests.topologies.servers import ask
from libs.lock.tests.topologies.workshop import NODE_REDLOCK, REDSYNC, Peer, Program, Workshop
from redis.asyncio import Redis

from devkit.servers import RedisServer
from fencelock import AsyncLease, AsyncLockClient, FencelockError

# Far below what one silent server may cost a call with the TTL that is asked for.
SOON_SECONDS = 3.0
TTL_SECONDS = 300.0


class Locks(Protocol):
    """A lock on several servers."""

    async def take(self, ttl: float) -> None:
        """Hold the name, or raise."""

    async def release(self) -> None:
        """Give it back, or raise."""


class GivenUp(Locks, Protocol):
    """One of which a request can be given up before it is answered."""

    async def begin(self, ttl: float) -> None:
        """Ask for the name."""

    async def cancel(self) -> None:
        """Want it no more."""

    async def outcome(self) -> list[str]:
        """What the one who holds the name now can ask his lock, or raise."""


class Ours:
    key = f"fencelock:l:{NAME}"

    def __init__(self, client: AsyncLockClient) -> None:
        self._client = client
        self._lease: AsyncLease | None = None
        self._begun: asyncio.Task[AsyncLease] | None = None

    async def take(self, ttl: float) -> None:
        await self.begin(ttl)
        await self.outcome()

    async def release(self) -> None:
        assert self._lease is not None
        await self._lease.release()

    async def begin(self, ttl: float) -> None:
        self._begun = asyncio.create_task(self._client.acquire(NAME, ttl=ttl, wait=0))

    async def cancel(self) -> None:
        assert self._begun is not None
        self._begun.cancel()

    async def outcome(self) -> list[str]:
        assert self._begun is not None
        self._lease = await self._begun
        return dir(self._lease)


class Theirs:
    """A lock that runs in a program of its own."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def take(self, ttl: float) -> None:
        await self.begin(ttl)
        await self.outcome()

    async def release(self) -> None:
        await self._peer.ask("release")

    async def begin(self, ttl: float) -> None:
        await self._peer.ask("begin", NAME, int(ttl * 1000))

    async def cancel(self) -> None:
        await self._peer.ask("cancel")

    async def outcome(self) -> list[str]:
        offered: list[str] = await self._peer.ask("outcome")
        return offered


async def a_release_of_what_is_gone_asks_once(locks: Locks, servers: list[RedisServer]) -> None:
    """node-redlock's takes 2 to 3 s: ten more tries, 0.2 s apart."""
    await locks.take(TTL_SECONDS)
    for each in servers:
        ask(each.port, "FLUSHALL")
    before = [_asked(each) for each in servers]
    with suppress(FencelockError, ValueError):
        await locks.release()
    after = [_asked(each) for each in servers]
    # Once, and once more for certain in the background.
    assert [
        late - early for early, late in zip(before, after, strict=True) if late - early > 2
    ] == []


async def a_release_waits_for_no_silent_server(locks: Locks, servers: list[RedisServer]) -> None:
    await locks.take(TTL_SECONDS)
    # A majority is enough to hold it: redsync with fail-fast may not have asked the third.
    silent = next((each for each in servers if not _holds(each)), servers[-1])
    silent.pause()
    try:
        async with asyncio.timeout(SOON_SECONDS):
            await locks.release()
    finally:
        silent.resume()


async def a_vote_that_is_split_ends(locks: Locks, servers: list[RedisServer]) -> None:
    """An even number of servers may be of two minds."""
    _occupy(servers[: len(servers) // 2])
    async with asyncio.timeout(SOON_SECONDS):
        with suppress(FencelockError, ValueError):
            await locks.take(TTL_SECONDS)


async def a_grant_that_nobody_wants_any_more_leaves_nothing(
    locks: GivenUp, servers: list[RedisServer]
) -> None:
    await _give_up(locks, servers)
    await _will_be_free(servers)


async def a_refusal_that_nobody_wants_any_more_leaves_nothing(
    locks: GivenUp, servers: list[RedisServer]
) -> None:
    """A minority grants what is given up."""
    _occupy(servers[1:])
    await _give_up(locks, servers)
    await _will_be_free(servers[:1])


async def a_hold_has_a_fence(locks: GivenUp, servers: list[RedisServer]) -> None:
    await locks.begin(TTL_SECONDS)
    offered = await locks.outcome()
    assert [each for each in offered if "fenc" in each.lower()] != []


async def _give_up(locks: GivenUp, servers: list[RedisServer]) -> None:
    """Want the name no more when every server has been asked, and none has answered."""
    for each in servers:
        ask(each.port, "CLIENT", "PAUSE", int(TTL_SECONDS * 1000), "WRITE")
    try:
        await locks.begin(TTL_SECONDS)
        await _arrange(partial(_all_are_asked, servers))
        await locks.cancel()
    finally:
        for each in servers:
            ask(each.port, "CLIENT", "UNPAUSE")
    try:
        await locks.outcome()
    except (asyncio.CancelledError, FencelockError, ValueError):
        return
    # It was granted all the same, and whoever asked was told.
    await locks.release()


async def _arrange(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what a promise is tried on.

    Raises:
        RuntimeError: it did not come about, which is no answer to whether the promise is kept.
    """
    try:
        await eventually(holds, "arranged")
    except AssertionError as error:
        raise RuntimeError("what the promise is tried on did not come about") from error


async def _all_are_asked(servers: list[RedisServer]) -> bool:
    """Whether somebody waits at each server for the end of its pause."""
    lists = [ask(each.port, "CLIENT", "LIST") for each in servers]
    return all(re.search(r" flags=\w*b", each) for each in lists)


async def _will_be_free(servers: list[RedisServer]) -> None:
    """What is granted too late may be given back a moment later."""

    async def free() -> bool:
        return not any(map(_holds, servers))

    async with asyncio.timeout(SOON_SECONDS):
        await eventually(free, "nobody holds it")


def _holds(server: RedisServer) -> bool:
    """Whether somebody has the name there."""
    return bool(ask(server.port, "EXISTS", NAME, Ours.key))


def _occupy(servers: list[RedisServer]) -> None:
    """Let somebody else hold the name there."""
    for each in servers:
        for key in (NAME, Ours.key):
            ask(each.port, "SET", key, "somebody 1 -", "PX", int(TTL_SECONDS * 1000))


def _asked(server: RedisServer) -> int:
    """How many scripts it was asked to run."""
    stats: dict[str, Any] = ask(server.port, "INFO", "commandstats")
    names = ("cmdstat_evalsha", "cmdstat_eval")
    return sum(int(stats[name]["calls"]) for name in names if name in stats)


Promise = Callable[[Any, list[RedisServer]], Awaitable[None]]
Make = Callable[[Sequence[Redis]], Locks]

# How many servers each is tried on.
PROMISES: dict[Promise, int] = {
    a_release_of_what_is_gone_asks_once: 3,
    a_release_waits_for_no_silent_server: 3,
    a_vote_that_is_split_ends: 4,
    a_grant_that_nobody_wants_any_more_leaves_nothing: 3,
    a_refusal_that_nobody_wants_any_more_leaves_nothing: 3,
    a_hold_has_a_fence: 3,
}
# As redlocks.py has it.
BROKEN_THERE: dict[tuple[Promise, Make], str] = {
    (a_release_of_what_is_gone_asks_once, NodeRedlock): "a release is tried again like an acquire",
    (a_vote_that_is_split_ends, NodeRedlock): "neither side ever gets a majority",
    (a_release_waits_for_no_silent_server, Redsync): "it counts when all have answered",
}
# The locks themselves. npm installs node-redlock 4 unless asked for 5, which its README is about.
REAL: dict[str, tuple[Program, tuple[str, ...]]] = {
    "redsync": (REDSYNC, ()),
    "redsync with fail-fast": (REDSYNC, ("-fail-fast",)),
    "node-redlock 4": (NODE_REDLOCK, ("4",)),
    "node-redlock 5": (NODE_REDLOCK, ("5",)),
}
RELEASED_TOO_LATE = "with the context that was cancelled"
BROKEN_FOR_REAL: dict[tuple[Promise, str], str] = {
    (a_release_of_what_is_gone_asks_once, "node-redlock 5"): "eleven times, for 2 s",
    (a_release_waits_for_no_silent_server, "redsync"): "as long as go-redis tries: 10 s",
    (a_release_waits_for_no_silent_server, "node-redlock 4"): "for ever, as ioredis does",
    (a_vote_that_is_split_ends, "node-redlock 5"): "neither side ever gets a majority",
    (a_grant_that_nobody_wants_any_more_leaves_nothing, "node-redlock 4"): "nothing ends a request",
    (a_grant_that_nobody_wants_any_more_leaves_nothing, "node-redlock 5"): "nothing ends a request",
    # (a grant is not given up there: whoever asked has it)
    (a_refusal_that_nobody_wants_any_more_leaves_nothing, "redsync"): RELEASED_TOO_LATE,
    (a_refusal_that_nobody_wants_any_more_leaves_nothing, "redsync with fail-fast"): (
        RELEASED_TOO_LATE
    ),
    (a_hold_has_a_fence, "redsync"): "there is none",
    (a_hold_has_a_fence, "redsync with fail-fast"): "there is none",
    (a_hold_has_a_fence, "node-redlock 4"): "there is none",
    (a_hold_has_a_fence, "node-redlock 5"): "there is none",
}


def _name(value: object) -> str:
    return str(getattr(value, "__name__", value))


@pytest.fixture
async def connected(five: list[RedisServer]) -> AsyncIterator[list[Redis]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Redis.from_url(each.url)) for each in five]


@pytest.mark.parametrize("promise", PROMISES, ids=_name)
async def test_it_is_kept_here(promise: Promise, five: list[RedisServer], clients: Clients) -> None:
    servers = five[: PROMISES[promise]]
    client = clients.make(url=",".join(each.url for each in servers), ttl=TTL_SECONDS)
    await client.start()
    await promise(Ours(client), servers)


@pytest.mark.parametrize(("promise", "make"), BROKEN_THERE, ids=_name)
async def test_the_lock_that_is_named_does_not_keep_it(
    promise: Promise, make: Make, five: list[RedisServer], connected: list[Redis]
) -> None:
    count = PROMISES[promise]
    with pytest.raises((AssertionError, TimeoutError)):
        await promise(make(connected[:count]), five[:count])


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("promise", PROMISES, ids=_name)
async def test_the_lock_itself_keeps_what_is_not_listed(
    promise: Promise, name: str, five: list[RedisServer], workshop: Workshop
) -> None:
    program, words = REAL[name]
    servers = five[: PROMISES[promise]]
    kept = (promise, name) not in BROKEN_FOR_REAL
    async with workshop.start(program, *words, *[each.url for each in servers]) as peer:
        with nullcontext() if kept else pytest.raises((AssertionError, TimeoutError)):
            await promise(Theirs(peer), servers)
