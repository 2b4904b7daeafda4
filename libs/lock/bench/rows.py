"""The rows of the comparison."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import pairwise
from statistics import median, quantiles
from typing import Any, NamedTuple

from libs.lock.bench import peers
from libs.lock.bench.blocking import one_thread
from libs.lock.bench.contestants import Contestant, Fencelock, Limit, Raw, RedisPyLock
from redis.asyncio import Redis

from fencelock import AsyncLockClient
from fencelock._engine import Engine

WAITERS = 1000

Measure = Callable[[Contestant], Awaitable[float]]
Row = Callable[["Bench"], Awaitable[list[str]]]


class Ask(NamedTuple):
    """What those are asked for that run in processes of their own, and how to read an answer."""

    peers: tuple[str, ...]
    what: str
    numbers: tuple[float, ...]
    read: Callable[[str, Any], float] = lambda _, result: float(result)


class Bench:
    """The contestants and the server they run against."""

    def __init__(self, url: str, rounds: int, beside: Sequence[peers.Peer] = ()) -> None:
        self.url = url
        self.rounds = rounds
        self._beside = {each.name: each for each in beside}
        # Why those that a row should have are not in it.
        self.left_out: dict[str, str] = {}

    async def interleave(
        self, measure: Measure, contestants: Sequence[Contestant], ask: Ask | None = None
    ) -> dict[str, float]:
        """The median of each contestant over rounds in which all of them run."""
        results: dict[str, list[float]] = {each.name: [] for each in contestants}
        for _ in range(self.rounds):
            for each in contestants:
                results[each.name].append(await measure(each))
            if ask is not None:
                for name, value in (await asyncio.to_thread(self.ask, ask)).items():
                    results.setdefault(name, []).append(value)
        for each in contestants:
            await each.close()
        return {name: median(values) for name, values in results.items()}

    def ask(self, ask: Ask) -> dict[str, float]:
        """One measurement of each peer that can do it."""
        found = {}
        for name in ask.peers:
            if name in self.left_out or name not in self._beside:
                continue
            try:
                result = self._beside[name].measure(ask.what, *ask.numbers)
            except peers.PeerFailed as error:
                self.left_out[name] = str(error)
            else:
                found[name] = ask.read(name, result)
        return found


async def every_row(bench: Bench, only: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Measure row by row."""
    for title, row in ROWS.items():
        if only not in title:
            continue
        async with Redis.from_url(bench.url) as redis:
            await redis.flushall()
        bench.left_out.clear()
        lines = await row(bench)
        yield title, lines + [f"{name:17} {why}" for name, why in bench.left_out.items()]


async def _one_client(bench: Bench) -> list[str]:
    async def pairs_per_second(contestant: Contestant) -> float:
        return await _rate(lambda: _hold_often(contestant, ("bench:1",), 1500), 1500)

    found = await bench.interleave(
        pairs_per_second,
        [
            Raw(bench.url),
            RedisPyLock(bench.url),
            await Limit.connect(bench.url),
            Fencelock(bench.url),
        ],
        Ask(peers.FOR_TASKS, "rate", (1, 300)),
    )
    # Where it takes long to wake a process, the share of that in a pair hides what a client costs.
    return [
        f"{line}   {found[name] / found['limit']:5.2f} of limit"
        for name, line in zip(found, _ratios(found, "raw redis-py", "pairs/s"), strict=True)
    ]


async def _one_thread(bench: Bench) -> list[str]:
    ask = Ask(peers.FOR_THREADS, "rate", (1, 300))
    found = await asyncio.to_thread(one_thread, bench.url, bench.rounds, lambda: bench.ask(ask))
    return _ratios(found, "raw redis-py", "pairs/s")


async def _many_names(bench: Bench) -> list[str]:
    async def pairs_per_second(contestant: Contestant) -> float:
        async def all_names() -> None:
            await asyncio.gather(*[_hold_often(contestant, (f"bench:{i}",), 40) for i in range(64)])

        return await _rate(all_names, 64 * 40)

    found = await bench.interleave(
        pairs_per_second,
        [
            Raw(bench.url),
            RedisPyLock(bench.url),
            await Limit.connect(bench.url),
            Fencelock(bench.url),
        ],
        Ask(peers.FOR_TASKS, "rate", (64, 10)),
    )
    return _ratios(found, "limit", "pairs/s")


def _several_names(count: int) -> Row:
    names = tuple(f"bench{i}:{{1}}" for i in range(count))

    async def row(bench: Bench) -> list[str]:
        async def pairs_per_second(contestant: Contestant) -> float:
            return await _rate(lambda: _hold_often(contestant, names, 1000), 1000)

        found = await bench.interleave(
            pairs_per_second, [await Limit.connect(bench.url), Fencelock(bench.url)]
        )
        return _ratios(found, "limit", "pairs/s")

    return row


def _hand_over(waiters: int, chains: int) -> Row:
    async def row(bench: Bench) -> list[str]:
        samples: dict[str, list[float]] = {}
        inversions: dict[str, int] = {}

        async def microseconds(contestant: Contestant) -> float:
            few = 1 if isinstance(contestant, RedisPyLock) else chains
            passed: list[float] = []
            for _ in range(few):
                passed, order = await _chain(contestant, waiters)
                samples.setdefault(contestant.name, []).extend(passed)
                inversions[contestant.name] = inversions.get(contestant.name, 0) + sum(
                    a > b for a, b in pairwise(order)
                )
            return median(passed)

        def passed_on(name: str, result: Any) -> float:
            passed: list[float] = result[0]
            order: list[int] = result[1]
            samples.setdefault(name, []).extend(passed)
            inversions[name] = inversions.get(name, 0) + sum(a > b for a, b in pairwise(order))
            return median(passed)

        contestants = await _waiting_contestants(bench.url)
        every_peer = peers.FOR_THREADS + peers.FOR_TASKS
        await bench.interleave(
            microseconds, contestants, Ask(every_peer, "chain", (waiters,), passed_on)
        )
        base = samples["limit"]
        lines = []
        for name, values in samples.items():
            p50, p99 = median(values), _p99(values)
            lines.append(
                f"{name:17} p50 {p50:9.0f} us ({p50 / median(base):6.2f} x)   p99 {p99:9.0f} us "
                f"({p99 / _p99(base):6.2f} x)   out of order {inversions[name]}"
            )
        return lines

    return row


def _closed_loop(hold_seconds: float) -> Row:
    async def row(bench: Bench) -> list[str]:
        async def turns_per_second(contestant: Contestant) -> float:
            turns = [0] * 32
            until = time.perf_counter() + 1.0

            async def contend(index: int) -> None:
                while time.perf_counter() < until:
                    async with contestant.hold("bench:1"):
                        turns[index] += 1
                        if hold_seconds:
                            await asyncio.sleep(hold_seconds)

            began = time.perf_counter()
            await asyncio.gather(*[contend(index) for index in range(32)])
            spread.setdefault(contestant.name, []).append(min(turns) / max(turns))
            return sum(turns) / (time.perf_counter() - began)

        def turned(name: str, result: Any) -> float:
            spread.setdefault(name, []).append(result[1])
            return float(result[0])

        spread: dict[str, list[float]] = {}
        contestants = await _waiting_contestants(bench.url)
        every_peer = peers.FOR_THREADS + peers.FOR_TASKS
        ask = Ask(every_peer, "turns", (32, hold_seconds), turned)
        found = await bench.interleave(turns_per_second, contestants, ask)
        return [
            f"{line}   fewest/most turns of a task {median(spread[name]):.2f}"
            for name, line in zip(found, _ratios(found, "limit", "turns/s"), strict=True)
        ]

    return row


async def _thousand_waiters(bench: Bench) -> list[str]:
    fencelock = Fencelock(bench.url)
    served = 0

    async def take() -> None:
        nonlocal served
        async with fencelock.hold("bench:1"):
            served += 1

    async with Redis.from_url(bench.url) as redis:
        async with fencelock.hold("bench:1"):
            tasks = [asyncio.create_task(take()) for _ in range(WAITERS)]
            while await _queue_length(redis) < WAITERS:  # noqa: ASYNC110 (it is the server's)
                await asyncio.sleep(0.01)
            memory = await redis.memory_usage("fencelock:q:{bench:1}", samples=0)
            connections = sum(each["name"] == "fencelock" for each in await redis.client_list())
            before = await _commands(redis)
            await asyncio.sleep(5.0)
            asked = await _commands(redis) - before
        await asyncio.gather(*tasks)
    await fencelock.close()
    each = (memory or 0) / WAITERS
    return [
        f"served {served} of {WAITERS} over {connections} connection(s)",
        f"{each:.0f} B of Redis each",
        f"{asked} scripts run in 5 s of waiting",
    ]


async def _crash(bench: Bench) -> list[str]:
    late: list[float] = []
    for _ in range(bench.rounds):
        ttl = 1.0
        doomed = AsyncLockClient.from_url(bench.url, ttl=ttl)
        successor = Fencelock(bench.url)
        await successor.client.start()
        await doomed.acquire("bench:1")
        ends = time.perf_counter() + ttl
        await _kill(doomed)
        async with successor.hold("bench:1"):
            late.append(time.perf_counter() - ends)
        await successor.close()
    return [
        f"next owner {median(late) * 1000:.1f} ms after the TTL (worst {max(late) * 1000:.1f} ms)"
    ]


async def _told(bench: Bench) -> list[str]:
    late: list[float] = []
    holder = Fencelock(bench.url)
    async with Redis.from_url(bench.url) as redis:
        for number in range(bench.rounds * 20):
            name = f"bench:{number}"
            lease = await holder.client.acquire(name, ttl=300.0)
            told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            lease.on_lost(told.set_result)
            await asyncio.sleep(0.02)  # longer than it takes to be watched
            began = time.perf_counter()
            await redis.delete(f"fencelock:l:{{{name}}}")
            await told
            late.append(time.perf_counter() - began)
    await holder.close()
    return [f"told {median(late) * 1000:.2f} ms after (p99 {_p99(late) * 1000:.2f} ms)"]


async def _memory(bench: Bench) -> list[str]:
    fencelock = Fencelock(bench.url)
    count = 5000
    async with Redis.from_url(bench.url) as redis:
        # The first lease loads the scripts.
        async with fencelock.hold("bench:warm"):
            pass
        before = await _used(redis)
        leases = await asyncio.gather(
            *[fencelock.client.acquire(f"bench:{index}") for index in range(count)]
        )
        held = await _used(redis)
        plain = await redis.memory_usage("fencelock:l:{bench:1}", samples=0)
        for lease in leases:
            await lease.release()
        keys = [key.decode() async for key in redis.scan_iter("*")]
    await fencelock.close()
    return [
        f"{(held - before) / count:.0f} B a held name ({plain} B by MEMORY USAGE)",
        f"left after release: {', '.join(keys)}, which expires",
    ]


ROWS: dict[str, Row] = {
    "one client, acquire + release": _one_client,
    "one thread, acquire + release, blocking": _one_thread,
    "64 tasks on 64 names": _many_names,
    "2 names together": _several_names(2),
    "8 names together": _several_names(8),
    "hand-over, one waiter": _hand_over(1, 40),
    "hand-over, 32 queued": _hand_over(32, 8),
    "closed loop, 32 contenders, hold 0": _closed_loop(0.0),
    "closed loop, 32 contenders, hold 1 ms": _closed_loop(0.001),
    "1,000 waiters on one name": _thousand_waiters,
    "told that a held name is gone": _told,
    "next owner after a crash": _crash,
    "memory": _memory,
}


async def _waiting_contestants(url: str) -> list[Contestant]:
    return [RedisPyLock(url), await Limit.connect(url), Fencelock(url)]


async def _hold_often(contestant: Contestant, names: tuple[str, ...], times: int) -> None:
    for _ in range(times):
        async with contestant.hold(*names):
            pass


async def _rate(work: Callable[[], Awaitable[None]], operations: int) -> float:
    began = time.perf_counter()
    await work()
    return operations / (time.perf_counter() - began)


async def _chain(contestant: Contestant, waiters: int) -> tuple[list[float], list[int]]:
    """Hand one lock through a line of waiters: microseconds of each step, and who came when."""
    released = 0.0
    passed: list[float] = []
    order: list[int] = []

    async def wait(index: int) -> None:
        nonlocal released
        async with contestant.hold("bench:1"):
            passed.append((time.perf_counter() - released) * 1e6)
            order.append(index)
            released = time.perf_counter()

    async with contestant.hold("bench:1"):
        tasks = [asyncio.create_task(wait(index)) for index in range(waiters)]
        await asyncio.sleep(0.02)
        released = time.perf_counter()
    await asyncio.gather(*tasks)
    return passed, order


def _ratios(found: dict[str, float], base: str, unit: str) -> list[str]:
    return [
        f"{name:17} {value:9.0f} {unit}   {value / found[base]:5.2f} of {base}"
        for name, value in found.items()
    ]


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else values[0]


async def _commands(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


async def _used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory_dataset"])


async def _queue_length(redis: Redis) -> int:
    length = redis.llen("fencelock:q:{bench:1}")
    return length if isinstance(length, int) else await length


async def _kill(client: AsyncLockClient) -> None:
    """Make a client vanish as a crash does."""
    engine = client._running  # noqa: SLF001 (a crash asks nobody)
    if isinstance(engine, Engine):
        await engine._keeper.close()  # noqa: SLF001
        await engine._connection.close()  # noqa: SLF001
