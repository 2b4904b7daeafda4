"""Contestants that block a thread, and how fast one thread locks and releases with each."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from statistics import median

from libs.lock.bench.contestants import DELETE, TTL_MS, TTL_SECONDS, WAIT_SECONDS
from redis import Redis

import fencelock

Hold = Callable[[str], AbstractContextManager[object]]


def one_thread(
    url: str, rounds: int, beside: Callable[[], dict[str, float]], pairs: int = 1500
) -> dict[str, float]:
    """Pairs a second of each contestant, the median over rounds in which all of them run.

    ``beside`` measures those that run in processes of their own, once a round.
    """
    with Redis.from_url(url) as redis, fencelock.LockClient.from_url(url) as client:
        contestants: dict[str, Hold] = {
            "raw redis-py": _raw(redis),
            "redis-py Lock": lambda name: redis.lock(
                name, timeout=TTL_SECONDS, blocking_timeout=WAIT_SECONDS
            ),
            "fencelock": client.lock,
        }
        found: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, hold in contestants.items():
                began = time.perf_counter()
                for _ in range(pairs):
                    with hold("bench:1"):
                        pass
                found[name].append(pairs / (time.perf_counter() - began))
            for name, value in beside().items():
                found.setdefault(name, []).append(value)
    return {name: median(values) for name, values in found.items()}


def _raw(redis: Redis) -> Hold:
    script = redis.register_script(DELETE)

    @contextmanager
    def hold(name: str) -> Iterator[None]:
        token = secrets.token_hex(8)
        redis.set(name, token, nx=True, px=TTL_MS)
        yield
        script(keys=[name], args=[token])

    return hold
