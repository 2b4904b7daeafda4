"""The blocking client behind the face of the asyncio one, so that one suite tries both."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fencelock import AsyncLockClient, Lease, LockClient, Verified
from fencelock._engine import Engine

T = TypeVar("T")


class Threads:
    """A thread for whoever waits."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=256)

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def stop(self) -> None:
        self._pool.shutdown()


class BlockingLease:
    """A lease whose release takes a thread."""

    def __init__(self, threads: Threads, lease: Lease) -> None:
        self._threads = threads
        self._lease = lease

    def __getattr__(self, name: str) -> Any:
        """What the blocking lease has, or what only tests look at."""
        return getattr(self._lease if hasattr(self._lease, name) else self._lease._inner, name)

    def __repr__(self) -> str:
        return repr(self._lease)

    async def release(self) -> None:
        await self._threads.run(self._lease.release)

    def on_lost(self, callback: Callable[[Any], object]) -> None:
        loop = asyncio.get_running_loop()
        self._lease.on_lost(lambda reason: loop.call_soon_threadsafe(callback, reason))


def open_shortcut(client: LockClient) -> None:
    """Open the short way of a client that is connected, where there is one."""
    running = client._start()
    engine = running.client.engine
    if isinstance(engine, Engine):
        running.thread.call(lambda: running.shortcut._open(engine))


class BlockingAsAsync:
    """A :class:`LockClient` that is awaited."""

    def __init__(self, make: Callable[[], AsyncLockClient]) -> None:
        self._threads = Threads()
        self.blocking = LockClient(make)
        self._opened = False

    async def start(self) -> None:
        await self._threads.run(self.blocking.start)
        await self._threads.run(self._open)

    def _open(self) -> None:
        """Have the short way to free locks opened now, not after some calls."""
        if not self._opened:
            self._opened = True
            open_shortcut(self.blocking)

    async def aclose(self) -> None:
        await self._threads.run(self.blocking.close)
        self._threads.stop()

    async def acquire(self, *names: str, **options: Any) -> BlockingLease:
        lease = await self._threads.run(lambda: self.blocking.acquire(*names, **options))
        await self._threads.run(self._open)
        return BlockingLease(self._threads, lease)

    @asynccontextmanager
    async def lock(self, *names: str, **options: Any) -> AsyncIterator[BlockingLease]:
        lock = self.blocking.lock(*names, **options)
        lease = await self._threads.run(lock.__enter__)
        try:
            yield BlockingLease(self._threads, lease)
        except BaseException as error:
            left: BaseException = error
            await self._threads.run(lambda: lock.__exit__(type(left), left, left.__traceback__))
            raise
        else:
            await self._threads.run(lambda: lock.__exit__(None, None, None))

    async def verify(self, proof: str, names: Sequence[str], **options: Any) -> Verified:
        return await self._threads.run(lambda: self.blocking.verify(proof, names, **options))
