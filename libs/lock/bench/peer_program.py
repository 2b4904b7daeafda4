"""Measure one other lock, in an interpreter that has it: started by :mod:`libs.lock.bench.peers`.

It imports nothing of this repository. Each line that comes in is a JSON list, a measurement and its
numbers; each line that goes out is its result. The last line of a closed input ends it.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from importlib import import_module
from typing import Any

TTL_SECONDS = 10.0
WAIT_SECONDS = 60.0


def python_redis_lock(url: str) -> "Threads":
    """Names are held by a thread that BLPOPs until it is told."""
    redis, library = import_module("redis"), import_module("redis_lock")
    server = redis.Redis.from_url(url, max_connections=200, socket_timeout=WAIT_SECONDS)
    return Threads(
        lambda name: library.Lock(server, name, expire=int(TTL_SECONDS), auto_renewal=True)
    )


def pottery(url: str) -> "Threads":
    """Redlock with one master, for threads."""
    redis, library = import_module("redis"), import_module("pottery")
    server = redis.Redis.from_url(url, max_connections=200)

    @contextmanager
    def hold(name: str) -> Iterator[None]:
        lock = library.Redlock(key=name, masters={server}, auto_release_time=TTL_SECONDS)
        if not lock.acquire(timeout=WAIT_SECONDS):
            raise TimeoutError(name)
        try:
            yield
        finally:
            lock.release()

    return Threads(hold)


def aio_pottery(url: str) -> "Tasks":
    """Redlock with one master, for tasks."""
    redis, library = import_module("redis.asyncio"), import_module("pottery")
    server = redis.Redis.from_url(url)

    @asynccontextmanager
    async def hold(name: str) -> AsyncIterator[None]:
        lock = library.AIORedlock(key=name, masters={server}, auto_release_time=TTL_SECONDS)
        if not await lock.acquire(timeout=WAIT_SECONDS):
            raise TimeoutError(name)
        try:
            yield
        finally:
            await lock.release()

    return Tasks(hold)


def redis_fifo_lock(url: str) -> "Tasks":
    """A FIFO line whose head is rung for; each waiter blocks a connection."""
    redis, library = import_module("redis.asyncio"), import_module("redis_fifo_lock")
    server = redis.Redis.from_url(url, socket_timeout=WAIT_SECONDS)
    locks: dict[str, Any] = {}

    def hold(name: str) -> AbstractAsyncContextManager[object]:
        if name not in locks:
            locks[name] = library.FifoLock(server, name, lease_ms=int(TTL_SECONDS * 1000))
        holding: AbstractAsyncContextManager[object] = locks[name].hold(timeout=WAIT_SECONDS)
        return holding

    return Tasks(hold)


class Tasks:
    """A lock for asyncio, measured in one event loop."""

    def __init__(self, hold: Callable[[str], AbstractAsyncContextManager[object]]) -> None:
        self.hold = hold
        self.loop = asyncio.new_event_loop()

    def rate(self, names: int, times: int) -> float:
        """Pairs a second of as many tasks as names, each with a name of its own."""

        async def often(name: str) -> None:
            for _ in range(times):
                async with self.hold(name):
                    pass

        async def all_of_them() -> float:
            began = time.perf_counter()
            await asyncio.gather(*[often(f"bench:{i}") for i in range(names)])
            return names * times / (time.perf_counter() - began)

        return self.loop.run_until_complete(all_of_them())

    def chain(self, waiters: int) -> tuple[list[float], list[int]]:
        """Microseconds of each hand-over through a line of waiters, and their order."""
        return self.loop.run_until_complete(self._chain(waiters))

    async def _chain(self, waiters: int) -> tuple[list[float], list[int]]:
        released = 0.0
        passed: list[float] = []
        order: list[int] = []

        async def wait(index: int) -> None:
            nonlocal released
            async with self.hold("bench:1"):
                passed.append((time.perf_counter() - released) * 1e6)
                order.append(index)
                released = time.perf_counter()

        async with self.hold("bench:1"):
            tasks = [asyncio.create_task(wait(index)) for index in range(waiters)]
            await asyncio.sleep(0.1)
            released = time.perf_counter()
        await asyncio.gather(*tasks)
        return passed, order

    def turns(self, contenders: int, hold_seconds: float) -> tuple[float, float]:
        """Turns a second of a closed loop, and the fewest of a contender by the most."""
        turns = [0] * contenders

        async def contend(index: int, until: float) -> None:
            while time.perf_counter() < until:
                async with self.hold("bench:1"):
                    turns[index] += 1
                    if hold_seconds:
                        await asyncio.sleep(hold_seconds)

        async def all_of_them() -> tuple[float, float]:
            began = time.perf_counter()
            await asyncio.gather(*[contend(i, began + 1.0) for i in range(contenders)])
            return sum(turns) / (time.perf_counter() - began), min(turns) / max(turns)

        return self.loop.run_until_complete(all_of_them())


class Threads:
    """A lock for threads, each contender one."""

    def __init__(self, hold: Callable[[str], AbstractContextManager[object]]) -> None:
        self.hold = hold
        self.pool = ThreadPoolExecutor(64)

    def rate(self, names: int, times: int) -> float:
        """Pairs a second of as many threads as names, each with a name of its own."""

        def often(name: str) -> None:
            for _ in range(times):
                with self.hold(name):
                    pass

        began = time.perf_counter()
        list(self.pool.map(often, [f"bench:{i}" for i in range(names)]))
        return names * times / (time.perf_counter() - began)

    def chain(self, waiters: int) -> tuple[list[float], list[int]]:
        """Microseconds of each hand-over through a line of waiters, and their order."""
        released = [0.0]
        passed: list[float] = []
        order: list[int] = []

        def wait(index: int) -> None:
            with self.hold("bench:1"):
                passed.append((time.perf_counter() - released[0]) * 1e6)
                order.append(index)
                released[0] = time.perf_counter()

        with self.hold("bench:1"):
            futures = [self.pool.submit(wait, index) for index in range(waiters)]
            time.sleep(0.3)
            released[0] = time.perf_counter()
        for future in futures:
            future.result()
        return passed, order

    def turns(self, contenders: int, hold_seconds: float) -> tuple[float, float]:
        """Turns a second of a closed loop, and the fewest of a contender by the most."""
        turns, start = [0] * contenders, threading.Barrier(contenders)

        def contend(index: int) -> None:
            start.wait()
            until = time.perf_counter() + 1.0
            while time.perf_counter() < until:
                with self.hold("bench:1"):
                    turns[index] += 1
                    time.sleep(hold_seconds)

        began = time.perf_counter()
        list(self.pool.map(contend, range(contenders)))
        return sum(turns) / (time.perf_counter() - began), min(turns) / max(turns)


PEERS: dict[str, Callable[[str], Tasks | Threads]] = {
    "python-redis-lock": python_redis_lock,
    "pottery": pottery,
    "pottery asyncio": aio_pottery,
    "redis-fifo-lock": redis_fifo_lock,
}


def main() -> None:
    """Answer until the input is closed."""
    try:
        peer = PEERS[sys.argv[1]](sys.argv[2])
    except ImportError as error:
        _say({"missing": str(error)})
        return
    _say({"ready": True})
    for line in sys.stdin:
        what, *numbers = json.loads(line)
        try:
            _say({"result": getattr(peer, what)(*numbers)})
        except Exception as error:  # noqa: BLE001 (that it fails is what it is good for)
            _say({"failed": f"{type(error).__name__}: {error}"})


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
