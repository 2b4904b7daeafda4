"""Two tables that only a lock keeps together, and what they have lost."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from devkit.processes import Process
from tools.playground.lock_only import TABLE
from tools.playground.steps import LEASE_SECONDS
from tools.playground.tables import Look
from tools.playground.world import World

PROGRAM: Final = "tools.playground.lock_only"
END_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.05
ALL: Final = "SELECT id, wish, total, version, made_at FROM lock_only ORDER BY made_at DESC, id"


@dataclass(frozen=True)
class Pair:
    """One order of the control, as its two tables have it."""

    order_id: UUID
    order: dict[str, Any] | None
    invoice: dict[str, Any] | None

    @property
    def differs(self) -> bool:
        """Whether the two sides disagree about what is to be paid."""
        if self.order is None or self.invoice is None:
            return True
        return bool(self.order["total"] != self.invoice["total"])


@dataclass(frozen=True)
class Books:
    """What the control holds, and what it has lost."""

    pairs: Sequence[Pair]
    changes: int
    """How many changes were tried."""

    @property
    def lost(self) -> int:
        """How many orders differ from their invoices."""
        return sum(pair.differs for pair in self.pairs)

    @property
    def made_twice(self) -> int:
        """How many orders exist beside another one for the same wish."""
        rows = [pair.order for pair in self.pairs if pair.order is not None]
        return len(rows) - len({row["wish"] for row in rows})


class Change:
    """One change by a process of its own."""

    def __init__(self, process: Process) -> None:
        """Take over a process that has not been started."""
        self._process = process

    async def start(self) -> None:
        """Start it."""
        await asyncio.to_thread(self._process.start)

    async def until_hit(self, point: str) -> None:
        """Wait until a failpoint has acted, or the process has ended.

        Raises:
            TimeoutError: Neither happened within a minute.
        """
        deadline = time.monotonic() + END_SECONDS
        while self._process.running and not self._has_hit(point):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{point} was not reached")
            await asyncio.sleep(POLL_SECONDS)

    async def end(self) -> int:
        """Wait for its end; the exit status, 137 when it was killed.

        Raises:
            TimeoutError: It still runs after a minute.
        """
        return await asyncio.to_thread(self._process.wait, timeout_seconds=END_SECONDS)

    async def pause(self) -> None:
        """Stop it where it is, as a paused machine is."""
        await asyncio.to_thread(self._process.signal, signal.SIGSTOP)

    async def resume(self) -> None:
        """Let it go on."""
        await asyncio.to_thread(self._process.signal, signal.SIGCONT)

    def kill(self) -> None:
        """End it now, if it runs."""
        self._process.kill()

    def _has_hit(self, point: str) -> bool:
        log = self._process.log
        return log.exists() and f"{point}" in log.read_text(errors="replace")


class Control:
    """Makes changes with the lock alone, and compares what both tables hold."""

    def __init__(self, world: World) -> None:
        """Describe it; see :meth:`open`."""
        self._world = world
        self.orders = Look(world.database_url("control_orders"))
        self.invoices = Look(world.database_url("control_invoices"))
        self._running: set[Change] = set()
        self._tried = 0

    async def open(self) -> None:
        """Make both tables, empty.

        Raises:
            Unreadable: A database did not answer.
        """
        for side in (self.orders, self.invoices):
            await side.rows(TABLE)
            await side.rows("TRUNCATE lock_only")

    async def end_all(self) -> None:
        """End what runs: a scene that has failed leaves processes that stand still."""
        while self._running:
            await asyncio.to_thread(self._running.pop().kill)

    async def close(self) -> None:
        """End what runs and close the connections."""
        await self.end_all()
        await self.orders.close()
        await self.invoices.close()

    async def change(
        self, order_id: UUID, total: Decimal, *, failpoints: str = "", wish: UUID | None = None
    ) -> int:
        """Make one change to its end; see :meth:`begin`."""
        change = await self.begin(order_id, total, failpoints=failpoints, wish=wish)
        return await self.finish(change)

    async def begin(
        self, order_id: UUID, total: Decimal, *, failpoints: str = "", wish: UUID | None = None
    ) -> Change:
        """Start a change: of an order to a new total, which makes the order if there is none."""
        arguments = {
            "order": order_id,
            "wish": wish or order_id,
            "total": total,
            "lease": LEASE_SECONDS,
            "failpoints": failpoints,
        }
        change = Change(
            self._world.process(
                PROGRAM,
                [f"--{name}={value}" for name, value in arguments.items()],
                {
                    "CONTROL_ORDERS_URL": self._world.database_url("control_orders"),
                    "CONTROL_INVOICES_URL": self._world.database_url("control_invoices"),
                    "CONTROL_REDIS_URL": self._world.redis_url,
                },
            )
        )
        self._tried += 1
        self._running.add(change)
        await change.start()
        return change

    async def finish(self, change: Change) -> int:
        """Wait for a change's end; the exit status of its process."""
        try:
            return await change.end()
        finally:
            await asyncio.to_thread(change.kill)
            self._running.discard(change)

    async def make(self, total: Decimal) -> UUID:
        """Put an order and its invoice there, equal, without any process.

        Raises:
            Unreadable: A database did not answer.
        """
        order_id = uuid.uuid4()
        for side in (self.orders, self.invoices):
            await side.rows(
                "INSERT INTO lock_only (id, wish, total, version)"
                " VALUES (%(id)s, %(id)s, %(total)s, 1)",
                id=order_id,
                total=total,
            )
        return order_id

    async def books(self) -> Books:
        """What both tables hold now.

        Raises:
            Unreadable: A database did not answer.
        """
        orders = {row["id"]: row for row in await self.orders.rows(ALL)}
        invoices = {row["id"]: row for row in await self.invoices.rows(ALL)}
        rows = {**invoices, **orders}
        newest = sorted(rows, key=lambda key: rows[key]["made_at"], reverse=True)
        pairs = [Pair(key, orders.get(key), invoices.get(key)) for key in newest]
        return Books(pairs, self._tried)
