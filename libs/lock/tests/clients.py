"""Makes lock clients for a test and closes them after it."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Literal, Self, cast

import pytest
from libs.lock.tests.blocking import BlockingAsAsync

from fencelock import AsyncLease, AsyncLockClient, Kind
from fencelock._connection import Connection
from fencelock._engine import Engine
from fencelock._scripts import Scripts
from fencelock._topology import read

Api = Literal["async", "blocking"]
# For contracts that both clients keep.
both_apis = pytest.mark.parametrize("api", ["async", "blocking"])


class Clients(AsyncExitStack):
    """A factory of clients of one server, or of several that belong together."""

    def __init__(self, url: str, api: Api = "async") -> None:
        super().__init__()
        self.url = url
        self._api = api
        # What the locks of its clients are if a test does not say.
        self.kind = Kind.EXCLUSIVE

    def make(
        self, *, url: str | None = None, scripts: Scripts | None = None, **options: Any
    ) -> AsyncLockClient:
        """Make a client; it is closed at the end of the test.

        The limits are wide, since a busy machine must not decide a test.
        """
        options.setdefault("ttl", 30.0)
        options.setdefault("wait", 60.0)
        options.setdefault("reply_timeout", min(10.0, options["ttl"] / 4))
        options.setdefault("connect_timeout", 10.0)
        make = partial(AsyncLockClient, read(url or self.url), scripts=scripts, **options)
        # Both have the face of the asyncio client, as far as the tests of contracts use it.
        made = make() if self._api == "async" else cast("AsyncLockClient", BlockingAsAsync(make))
        self.push_async_callback(made.aclose)
        if self.kind != Kind.EXCLUSIVE:
            made.acquire = partial(made.acquire, kind=self.kind)  # type: ignore[method-assign]
            made.lock = partial(made.lock, kind=self.kind)  # type: ignore[method-assign]
        return made

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self


def engine_of(client: AsyncLockClient) -> Engine:
    """What a client of one server runs."""
    engine = client._running
    assert isinstance(engine, Engine)
    return engine


def connection_of(client: AsyncLockClient) -> Connection:
    """The way of a client to one server."""
    connection = engine_of(client)._connection
    assert isinstance(connection, Connection)
    return connection


async def crash(client: AsyncLockClient, tasks: Sequence[asyncio.Task[AsyncLease]] = ()) -> None:
    """Let a client vanish as if its process had been killed: nothing is released."""
    engine = engine_of(client)
    await engine._keeper.close()
    link = connection_of(client)._link
    assert link is not None
    connection_of(client)._closed = True
    engine._debts._closed = True
    engine._debts._owed.clear()
    link.abort("crashed")
    await link.closed
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def deafen(client: AsyncLockClient) -> None:
    """Let a started client do without being told of changes, as on a server that does not tell."""
    blocking = getattr(client, "blocking", None)
    link = connection_of(client if blocking is None else blocking._running.client)._link
    assert link is not None
    link.tracks = False


def freeze(client: AsyncLockClient) -> None:
    """Let a client stay connected, and neither hear nor say anything, as a stopped process."""
    engine = engine_of(client)
    link = connection_of(client)._link
    assert link is not None
    assert link._transport is not None
    link._transport.pause_reading()
    engine._room.ask_all = lambda: None  # type: ignore[method-assign]
    for line in engine._room._lines.values():
        if line.timer is not None:
            line.timer.cancel()
