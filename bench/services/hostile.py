"""What hostile clients cost polite ones: ``python -m bench.services.hostile``.

Polite clients create orders, each the next when the last one is answered; first alone, then while
others do what they can to be in the way. Those do it from a process of their own, on the same
machine, and what they need of its processors is theirs, not what the services spend on them. So it
is measured as well, and taken off what polite clients can be expected to keep: with a tenth of the
processors gone to whoever attacks, nine tenths of the rate are all that is left to keep. That holds
where the processors are what bounds the rate, as they are with so many polite clients at once.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import uvloop

from bench.services.contestants import Servers, TheShop, used_seconds
from bench.services.load import Connection, Load
from bench.services.overload import running_servers
from bench.services.rounds import Row, Runner
from devkit.ports import HOST

POLITE: Final = 16
KEPT: Final = 0.9
PAUSE_SECONDS: Final = 0.2
"""How long an attacker whose connection was ended waits before the next one."""
HEAD: Final = (
    "| hostile clients | polite alone/s | beside them/s | of alone | their own processor time"
    " | of what that leaves |\n|---|---|---|---|---|---|"
)
PROCESSORS: Final = os.cpu_count() or 1


class Attack:
    """One way to be in the way.

    Args:
        port: where the order service listens.
        order: an order that is there.
    """

    def __init__(self, port: int, order: str) -> None:
        self._port = port
        self._order = order

    async def silent(self) -> None:
        """Connect and say nothing, until the server ends it."""
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            await reader.read()
        finally:
            writer.close()

    async def unsent(self) -> None:
        """Announce a body and send a byte of it each second."""
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            writer.write(self._head("POST", "/orders", "Content-Length: 900"))
            while not reader.at_eof():
                writer.write(b" ")
                await writer.drain()
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await reader.read(1)
        finally:
            writer.close()

    async def huge(self) -> None:
        """Send a request with a head of 100 kB, five a second."""
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            writer.write(self._head("GET", "/livez", f"X-Large: {'x' * 100_000}"))
            await reader.read()
        finally:
            writer.close()

    async def probes(self) -> None:
        """Ask whether it is ready, 25 times a second on one connection."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, HOST, self._port)
        while connection.usable:
            await connection.ask(self._head("GET", "/readyz"))
            await asyncio.sleep(0.04)

    async def hot(self) -> None:
        """Change the one order as fast as it goes."""
        load = Load(
            host=HOST,
            port=self._port,
            work="contended",
            clients=1,
            seconds=60,
            orders=[self._order],
        )
        await load.run()

    def _head(self, method: str, path: str, *fields: str) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json"]
        return "\r\n".join([*lines, *fields, "\r\n"]).encode()


ATTACKS: Final[Mapping[str, tuple[int, str, Callable[[Attack], Awaitable[None]]]]] = {
    "silent": (1000, "that connect and say nothing", Attack.silent),
    "unsent": (200, "that do not send the body they announce", Attack.unsent),
    "huge": (4, "that send heads of 100 kB, five a second each", Attack.huge),
    "probes": (8, "that ask 25 times a second whether it is ready", Attack.probes),
    "hot": (32, "that change one order", Attack.hot),
}


def main() -> int:
    """Measure, print, and exit 1 if polite clients keep too little of their rate."""
    parser = argparse.ArgumentParser(prog="python -m bench.services.hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="of each kind (default 3)")
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--attack", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        name, port, order = options.attack
        uvloop.run(_attack(name, Attack(int(port), order)))
        return 0
    return int(_measure(options.only, seconds=options.seconds, rounds=options.rounds) < KEPT)


def _measure(names: list[str], *, seconds: float, rounds: int) -> float:
    """Print a row for each kind; return the least share that polite clients have kept."""
    print(HEAD)  # noqa: T201
    worst = 1.0
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
        running_servers(Path(folder)) as servers,
        TheShop(servers) as shop,
    ):
        polite = _polite(shop, servers)
        polite(3.0)
        order = _an_order(shop.port)
        for name in names:
            pairs = [_pair(name, shop.port, order, polite, seconds) for _ in range(rounds)]
            kept = statistics.median(pair.kept for pair in pairs)
            print(f"| {ATTACKS[name][0]} {ATTACKS[name][1]} {_row(pairs)}", flush=True)  # noqa: T201
            worst = min(worst, kept)
    return worst


def _polite(shop: TheShop, servers: Servers) -> Callable[[float], float]:
    runner = Runner(shop, servers)
    return lambda seconds: runner.run(Row("create", POLITE), seconds).rate


@dataclass(frozen=True, slots=True)
class Pair:
    """Polite clients alone, and right after it beside hostile ones."""

    alone: float
    """Orders a second."""
    beside: float
    attackers: float
    """The share of this machine's processors that the attackers used themselves."""

    @property
    def kept(self) -> float:
        """What polite clients have kept of what the attackers' own processor time left."""
        return self.beside / self.alone / (1.0 - self.attackers)


def _row(pairs: list[Pair]) -> str:
    def median(of: Callable[[Pair], float]) -> float:
        return statistics.median(map(of, pairs))

    return (
        f"| {median(lambda pair: pair.alone):.0f} | {median(lambda pair: pair.beside):.0f}"
        f" | {median(lambda pair: pair.beside / pair.alone):.2f}"
        f" | {median(lambda pair: pair.attackers):.0%} | {median(lambda pair: pair.kept):.2f} |"
    )


def _pair(
    name: str, port: int, order: str, polite: Callable[[float], float], seconds: float
) -> Pair:
    alone = polite(seconds)
    with _attacking(name, port, order) as attacker:
        used, began = used_seconds(attacker), time.perf_counter()
        beside = polite(seconds)
        lasted = time.perf_counter() - began
        return Pair(alone, beside, (used_seconds(attacker) - used) / lasted / PROCESSORS)


@contextmanager
def _attacking(name: str, port: int, order: str) -> Iterator[int]:
    """Let them attack, and tell their process."""
    command = [sys.executable, "-m", "bench.services.hostile", "--attack", name, str(port), order]
    with subprocess.Popen(command) as process:
        try:
            time.sleep(2.0)  # until it has connected
            assert process.poll() is None  # noqa: S101 - else nothing would be measured
            yield process.pid
        finally:
            process.kill()


async def _attack(name: str, attack: Attack) -> None:
    number, _, once = ATTACKS[name]
    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(_for_ever(once, attack))


async def _for_ever(once: Callable[[Attack], Awaitable[None]], attack: Attack) -> None:
    for _ in itertools.count():
        with suppress(OSError, TimeoutError):
            await once(attack)
        await asyncio.sleep(PAUSE_SECONDS)


def _an_order(port: int) -> str:
    body = {"user_id": str(uuid.uuid4()), "item_id": str(uuid.uuid4()), "value": "1", "quantity": 1}
    answer = httpx.post(f"http://{HOST}:{port}/orders", json=body, timeout=30.0)
    return str(json.loads(answer.raise_for_status().content)["id"])


if __name__ == "__main__":
    sys.exit(main())
