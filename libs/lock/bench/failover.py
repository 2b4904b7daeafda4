"""For how long nobody can acquire: ``python -m libs.lock.bench.failover`` from the root.

One client takes and releases a lock again and again while servers are killed, hang or change
places. What counts is the longest time from one grant to the next.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from libs.lock.tests.topologies.servers import Clustered, Replicated, ask, server, until

from devkit.servers import RedisServer
from fencelock import AsyncLockClient, LockNotAcquired, RedisUnavailable

NAME = "order:{1}"
QUORUM = 5
PATIENCE_SECONDS = 120.0
# So many grants say that it is over, for some time.
GRANTS_AFTER = 50
PAUSE_SECONDS = 0.002


class Case(NamedTuple):
    """Something that befalls servers, and how they become what they were."""

    title: str
    befall: Callable[[], object]
    mend: Callable[[], object]


class Prober:
    """Takes and releases one lock as often as it can."""

    def __init__(self, client: AsyncLockClient) -> None:
        self._client = client
        self.granted: list[float] = []
        self.refused: Counter[str] = Counter()

    async def grants(self, count: int) -> None:
        """Wait for so many more.

        Raises:
            TimeoutError: they did not come.
        """
        wanted = len(self.granted) + count
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.granted) < wanted:  # noqa: ASYNC110 (the servers decide)
                await asyncio.sleep(PAUSE_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let it go on in the background."""
        task = asyncio.create_task(self._work())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _work(self) -> None:
        while True:
            try:
                async with self._client.lock(NAME, wait=0.0):
                    self.granted.append(time.perf_counter())
            except (LockNotAcquired, RedisUnavailable) as error:
                self.refused[type(error).__name__] += 1
            await asyncio.sleep(PAUSE_SECONDS)


async def gap(url: str, case: Case) -> tuple[float, dict[str, int]]:
    """Seconds from one grant to the next, at most, while it happens; and what was said instead."""
    async with AsyncLockClient.from_url(url) as client:
        prober = Prober(client)
        async with prober.running():
            await prober.grants(GRANTS_AFTER)
            await asyncio.to_thread(case.befall)
            await prober.grants(GRANTS_AFTER)
    longest = max(after - before for before, after in pairwise(prober.granted))
    return longest, dict(prober.refused)


@contextmanager
def sentinel(folder: Path, down_after: float) -> Iterator[tuple[str, list[Case]]]:
    """A master, a replica and three Sentinels."""
    with Replicated(folder, down_after_seconds=down_after) as servers:

        def kill() -> None:
            servers.master.kill()

        def hang() -> None:
            servers.master.pause()

        yield (
            servers.url,
            [
                Case("the master is killed", kill, servers.settle),
                Case("the master hangs", hang, servers.settle),
                Case("a planned failover", servers.fail_over, servers.settle),
            ],
        )


@contextmanager
def cluster(folder: Path, down_after: float) -> Iterator[tuple[str, list[Case]]]:
    """Three masters with a replica each."""
    with Clustered(folder, down_after_seconds=down_after) as servers:

        def mend() -> None:
            _run_again(servers.nodes)
            until(servers.settled, "the Cluster is as it was")

        def hand_over() -> None:
            replica = servers.replica_of(servers.master_of(NAME))
            ask(replica.port, "CLUSTER", "FAILOVER")
            until(lambda: servers.master_of(NAME).port == replica.port, "the replica is the master")

        yield (
            servers.url,
            [
                Case("a master is killed", lambda: servers.master_of(NAME).kill(), mend),
                Case("a planned failover", hand_over, mend),
            ],
        )


@contextmanager
def quorum(folder: Path, _: float) -> Iterator[tuple[str, list[Case]]]:
    """Five servers that know nothing of each other."""
    with ExitStack() as stack:
        servers = [stack.enter_context(server(folder / str(number))) for number in range(QUORUM)]

        def mend() -> None:
            _run_again(servers)

        def some(count: int, what: Callable[[RedisServer], None]) -> Callable[[], object]:
            return lambda: list(map(what, servers[:count]))

        yield (
            ",".join(each.url for each in servers),
            [
                Case("one of five is killed", some(1, RedisServer.kill), mend),
                Case("two of five are killed", some(2, RedisServer.kill), mend),
                Case("two of five hang", some(2, RedisServer.pause), mend),
            ],
        )
        mend()


TOPOLOGIES = {"Sentinel": sentinel, "Cluster": cluster, "quorum": quorum}


def _run_again(servers: Sequence[RedisServer]) -> None:
    for each in servers:
        each.resume()
        if not each.running:
            each.start()


def main() -> None:
    """Let each happen some times, and print the gaps."""
    parser = argparse.ArgumentParser(prog="python -m libs.lock.bench.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each (default 3)")
    parser.add_argument(
        "--down-after",
        type=float,
        default=1.0,
        help="seconds until Sentinels and a Cluster's nodes take a silent one for gone (default 1)",
    )
    parser.add_argument("--only", default="", choices=["", *TOPOLOGIES], help="this topology")
    options = parser.parse_args()
    for name, topology in TOPOLOGIES.items():
        if options.only not in ("", name):
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            topology(Path(folder), options.down_after) as (url, cases),
        ):
            for case in cases:
                _report(name, case, url, options.rounds)


def _report(name: str, case: Case, url: str, rounds: int) -> None:
    gaps = []
    for _ in range(rounds):
        gaps.append(asyncio.run(gap(url, case)))
        case.mend()
    worst, refused = max(gaps, key=lambda each: each[0])
    half = median(each for each, _ in gaps)
    sys.stdout.write(f"{name}, {case.title}: {half:.2f} s (worst {worst:.2f} s, {refused})\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
