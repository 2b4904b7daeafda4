"""``bench``: how fast locks are on a server, from this machine."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from statistics import median, quantiles
from typing import Any

from fencelock._cli import page
from fencelock._cli.exits import Exit
from fencelock._client import AsyncLockClient

WAIT_SECONDS = 60.0
HUNDREDTHS = 100


async def bench(url: str, *, seconds: float, tasks: int, as_json: bool) -> Exit:
    """Lock and release names that nobody else uses, for ``seconds`` a row."""
    prefix = f"fencelock-bench:{secrets.token_hex(4)}"
    async with AsyncLockClient.from_url(url, wait=WAIT_SECONDS) as client:
        await client.start()
        rows = {
            "one task, one name": (1, lambda _: f"{prefix}:0"),
            f"{tasks} tasks, a name each": (tasks, lambda task: f"{prefix}:{task}"),
            f"{tasks} tasks, one name": (tasks, lambda _: f"{prefix}:0"),
        }
        found = {
            title: await _measure(client, count, name, seconds)
            for title, (count, name) in rows.items()
        }
    if as_json:
        page.say_json(found)
    else:
        page.table(("", "LOCKS/S", "WAIT P50", "WAIT P99"), [_row(*item) for item in found.items()])
    return Exit.OK


async def _measure(
    client: AsyncLockClient, tasks: int, name: Callable[[int], str], seconds: float
) -> dict[str, Any]:
    waited: list[float] = []
    began = time.perf_counter()

    async def work(task: int) -> None:
        # One at least, however short the time is.
        while not waited or time.perf_counter() < began + seconds:
            asked = time.perf_counter()
            async with client.lock(name(task)):
                waited.append(time.perf_counter() - asked)

    work_of_all: list[Awaitable[None]] = [work(task) for task in range(tasks)]
    await asyncio.gather(*work_of_all)
    took = time.perf_counter() - began
    p99 = quantiles(waited, n=HUNDREDTHS)[-1] if len(waited) > 1 else waited[0]
    return {
        "locks_per_second": round(len(waited) / took, 1),
        "wait_p50_seconds": round(median(waited), 6),
        "wait_p99_seconds": round(p99, 6),
    }


def _row(title: str, found: dict[str, Any]) -> tuple[str, ...]:
    return (
        title,
        f"{found['locks_per_second']:.0f}",
        f"{found['wait_p50_seconds'] * 1000:.2f} ms",
        f"{found['wait_p99_seconds'] * 1000:.2f} ms",
    )
