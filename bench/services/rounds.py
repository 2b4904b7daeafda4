"""The rounds: every contestant does every row in each of them, one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.services.contestants import Contestant, Servers
from bench.services.figures import Sample
from devkit.ports import HOST

WORKS: Final = ("create", "update", "contended", "read", "delete")
PREPARE_CLIENTS: Final = 8
PREPARE_SECONDS: Final = 2.0
PREPARE_ROUNDS: Final = 30
LOAD_SECONDS: Final = 120.0


@dataclass(frozen=True, order=True)
class Row:
    """One kind of work at one number of clients."""

    work: str
    clients: int

    def __str__(self) -> str:
        """Its name as the command line and the tables have it."""
        return f"{self.work}@{self.clients}"


@dataclass
class Runner:
    """Runs rows on one contestant and keeps the orders they work on."""

    contestant: Contestant
    servers: Servers
    kept: list[str] = field(default_factory=list)
    """Orders that are updated and read, never deleted."""
    spare: dict[int, list[str]] = field(default_factory=dict)
    """Orders that each row of creation made, for the row of deletion with as many clients."""

    def prepare(self, orders: int) -> None:
        """Make the orders that rows work on, and warm everything up.

        Raises:
            RuntimeError: It makes too few, whatever is wrong with it.
        """
        for _ in range(PREPARE_ROUNDS):
            if len(self.kept) >= orders:
                return
            answer = self._load("create", PREPARE_CLIENTS, PREPARE_SECONDS, [])
            self.kept += answer["created"]
        raise RuntimeError(f"{self.contestant.name} made only {len(self.kept)} orders")

    def run(self, row: Row, seconds: float) -> Sample:
        """Measure one row once."""
        orders = self.spare.pop(row.clients) if row.work == "delete" else self.kept
        before = self.servers.cpu(self.contestant)
        answer = self._load(row.work, row.clients, seconds, orders)
        after = self.servers.cpu(self.contestant)
        if row.work == "create":
            self.spare[row.clients] = answer["created"]
        return Sample(
            seconds=answer["seconds"],
            done_ms=answer["done_ms"],
            failed=answer["failed"],
            cpu_seconds={name: after[name] - before[name] for name in before},
            load_seconds=answer["load_seconds"],
        )

    def _load(self, work: str, clients: int, seconds: float, orders: list[str]) -> dict[str, Any]:
        plan = {"host": HOST, "port": self.contestant.port, "work": work, "clients": clients}
        done = subprocess.run(
            [sys.executable, "-m", "bench.services.load"],
            input=json.dumps({**plan, "seconds": seconds, "orders": orders}),
            capture_output=True,
            text=True,
            timeout=seconds + LOAD_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the load generator failed:\n{done.stderr}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def measure(
    runners: Sequence[Runner],
    rows: Sequence[Row],
    *,
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
) -> Iterator[tuple[str, Row, Sample]]:
    """Measure every row on everybody, ``rounds`` times; each round begins with another one."""
    for number in range(rounds):
        first = number % len(runners)
        for row in rows:
            for runner in (*runners[first:], *runners[:first]):
                name = runner.contestant.name
                if row.work == "delete" and not runner.spare.get(row.clients):
                    tell(f"round {number + 1} of {rounds}: {row} {name}: nothing to delete")
                    continue
                sample = runner.run(row, seconds)
                tell(f"round {number + 1} of {rounds}: {row} {name}: {sample.rate:.0f}/s")
                yield name, row, sample
