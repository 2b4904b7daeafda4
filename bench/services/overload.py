"""What is left of the shop's work when more is asked of it: ``python -m bench.services.overload``.

First as many creations as it can do, by clients that wait for their answers; then creations that
come at multiples of that rate whether or not the ones before are answered, each with a deadline.
Only what is created before its deadline counts. Beside it a probe looks four times a second.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from bench.services.contestants import Servers, TheShop
from bench.services.load import Connection, Load
from bench.services.rounds import Row, Runner
from devkit.ports import HOST

CLIENTS: Final = 32
PROBE_SECONDS: Final = 0.25
CREATED: Final = 201
REFUSED: Final = 503
OF_BEST: Final = 0.9
HEAD: Final = (
    "| places | offered, of best | offered/s | good/s | of best | refused | refusal p50, p99 | late"
    " | failed | probe max |\n|---|---|---|---|---|---|---|---|---|---|"
)


class Listener(Connection):
    """A connection that keeps the answer's ``Retry-After`` too."""

    def __init__(self) -> None:
        super().__init__()
        self.retry_after = ""

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self.retry_after = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if name.lower() == b"retry-after":
            self.retry_after = value.decode()


@dataclass
class Flood:
    """Creations at a rate, and what became of them.

    Args:
        port: where the order service listens.
        rate: creations a second.
        seconds: for how long.
        deadline_seconds: how long each may take.
    """

    port: int
    rate: float
    seconds: float
    deadline_seconds: float
    good: int = 0
    late: int = 0
    refused_ms: list[float] = field(default_factory=list)
    unhelpful: int = 0
    """Refusals that do not say when to come back."""
    failed: Counter[str] = field(default_factory=Counter)
    probes_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Prepare what is sent."""
        self._free: list[Listener] = []
        load = Load(host=HOST, port=self.port, work="create", clients=1, seconds=0, orders=[])
        self._requests: Iterator[bytes] = map(load.creation, itertools.count())

    async def run(self) -> None:
        """Send at the rate, wait for what is still on its way, and note everything."""
        probing = asyncio.create_task(self._probe())
        began = time.perf_counter()
        sent: list[asyncio.Task[None]] = []
        while (elapsed := time.perf_counter() - began) < self.seconds:
            while len(sent) < elapsed * self.rate:
                sent.append(asyncio.create_task(self._create()))
            await asyncio.sleep(1 / self.rate)
        await asyncio.gather(*sent)
        probing.cancel()
        with suppress(asyncio.CancelledError):
            await probing
        for connection in self._free:
            connection.close()

    async def _create(self) -> None:
        began = time.perf_counter()
        deadline = f"Request-Timeout-Ms: {self.deadline_seconds * 1000:.0f}\r\n".encode()
        request = next(self._requests).replace(b"Host:", deadline + b"Host:", 1)
        try:
            connection = await self._connection()
            status, _ = await connection.ask(request)
        except (OSError, TimeoutError) as error:
            self.failed[type(error).__name__] += 1
            return
        seconds = time.perf_counter() - began
        if status == CREATED and seconds <= self.deadline_seconds:
            self.good += 1
        elif status == CREATED:
            self.late += 1
        elif status == REFUSED:
            self.refused_ms.append(seconds * 1000)
            self.unhelpful += not connection.retry_after.isdecimal()
        else:
            self.failed[str(status)] += 1
        self._free.append(connection)

    async def _connection(self) -> Listener:
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(Listener, HOST, self.port)
        return made

    async def _probe(self) -> None:
        request = f"GET /livez HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        while True:
            began = time.perf_counter()
            connection = await self._connection()
            status, _ = await connection.ask(request)
            self.probes_ms.append((time.perf_counter() - began) * 1000)
            if status != 200:  # noqa: PLR2004 - OK
                self.failed[f"probe {status}"] += 1
            self._free.append(connection)
            await asyncio.sleep(PROBE_SECONDS)


def main() -> int:
    """Measure, print, and exit 1 if too little is left at any multiple."""
    parser = argparse.ArgumentParser(prog="python -m bench.services.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each row (default 10)")
    parser.add_argument("--deadline", type=float, default=2.0, help="seconds (default 2)")
    parser.add_argument("--times", type=float, nargs="+", default=[0.8, 1.0, 2.0, 4.0])
    parser.add_argument(
        "--places", type=int, nargs="+", default=[0], help="ORDER_MAX_CONCURRENT_REQUESTS, each"
    )
    options = parser.parse_args()
    print(HEAD)  # noqa: T201
    worst = 1.0
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
        running_servers(Path(folder)) as servers,
    ):
        for places in options.places:
            worst = min(worst, _measure(servers, places, options))
    return int(worst < OF_BEST)


def _measure(servers: Servers, places: int, options: argparse.Namespace) -> float:
    """Print a row for each multiple; return the least goodput of those above 1, of the best."""
    settings = {"ORDER_MAX_CONCURRENT_REQUESTS": str(places)} if places else {}
    worst = 1.0
    with TheShop(servers, name=f"shop{places}", settings=settings) as shop:
        runner = Runner(shop, servers)
        runner.run(Row("create", CLIENTS), 2.0)
        best = runner.run(Row("create", CLIENTS), options.seconds).rate
        for times in options.times:
            flood = Flood(shop.port, times * best, options.seconds, options.deadline)
            uvloop.run(flood.run())
            share = flood.good / options.seconds / best
            print(f"| {places or 'default'} | {times:g} {_row(flood, share)}", flush=True)  # noqa: T201
            if times > 1:
                worst = min(worst, share)
    return worst


def _row(flood: Flood, share: float) -> str:
    refused = sorted(flood.refused_ms) or [0.0]
    failed = dict(flood.failed) | ({"no Retry-After": flood.unhelpful} if flood.unhelpful else {})
    return (
        f"| {flood.rate:.0f} | {flood.good / flood.seconds:.0f} | {share:.2f}"
        f" | {len(flood.refused_ms)} | {statistics.median(refused):.0f},"
        f" {refused[int(len(refused) * 0.99)]:.0f} ms | {flood.late}"
        f" | {failed or '-'} | {max(flood.probes_ms, default=0):.0f} ms |"
    )


@contextmanager
def running_servers(folder: Path) -> Iterator[Servers]:
    """Start a PostgreSQL and a Redis that write nothing to the disk in time."""
    servers = Servers(folder, durable=False)
    with servers.postgres, servers.redis:
        yield servers


if __name__ == "__main__":
    sys.exit(main())
