"""A bulkhead for each order: many clients of one order take nothing from those of others.

Changes of one order are made one after the other, however many ask. ``OneOrderMiddleware`` lets
one of them in; the others stand in a line outside, where they cost no place, no connection
and no call. ``BoundedLocks`` is the second bulkhead, for those who cannot be refused outside.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from starlette.types import ASGIApp, Receive, Scope, Send

from order.errors import OrderLocked
from servicekit.deadlines import remaining_seconds
from servicekit.exchange import lines_of
from servicekit.idempotency import HEADER
from servicekit.pace import Pace
from servicekit.problems import response
from tandem.initiator.ports import Lease, Locks

INSIDE_PER_ORDER: Final = 1
"""How many changes of one order are let in. A second one could only wait for the locks, and take a
place from other orders; out here it costs nothing, and begins as soon as the first ends."""
_CHANGES: Final = frozenset({"PATCH", "DELETE"})
_PREFIX: Final = "/orders/"
_KEY: Final = HEADER.lower().encode()


@dataclass(eq=False)
class _Line:
    """Those who want to change one order."""

    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(INSIDE_PER_ORDER))
    members: int = 0
    """Inside and waiting."""


class OneOrderMiddleware:
    """Lets changes of one order in one after the other, the oldest first, and refuses the surplus.

    Stands outside of admission, so that whoever waits here takes no place.

    Args:
        app: the application.
        maximum_per_order: how many may be inside or wait; the next is refused, and held back first
            if there are many of them.
        wait_seconds: how long one waits here, from its arrival here.
    """

    def __init__(self, app: ASGIApp, *, maximum_per_order: int, wait_seconds: float) -> None:
        self.app = app
        self._maximum_per_order = maximum_per_order
        self._wait_seconds = wait_seconds
        self._lines: dict[UUID, _Line] = {}
        self._pace = Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        order_id = _order_to_change(scope)
        if order_id is None:
            await self.app(scope, receive, send)
            return
        line = self._lines.setdefault(order_id, _Line())
        if line.members >= self._maximum_per_order:
            await self._pace.wait()
            await self._refuse(_too_many(), scope, receive, send)
            return
        line.members += 1
        try:
            await self._in_line(line, scope, receive, send)
        finally:
            line.members -= 1
            if not line.members:
                del self._lines[order_id]

    async def _in_line(self, line: _Line, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(remaining_seconds(at_most_seconds=self._wait_seconds)):
                await line.turn.acquire()
        except TimeoutError:
            await self._refuse(_still_locked(), scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            line.turn.release()

    async def _refuse(self, error: OrderLocked, scope: Scope, receive: Receive, send: Send) -> None:
        # What is repeated under its key may have been done already, and only inside is that known.
        known_inside = lines_of(scope, _KEY)
        answer = self.app if known_inside else response(error, instance=scope["path"])
        await answer(scope, receive, send)


class BoundedLocks:
    """Lets only so many requests of this process hold or await the locks of one order.

    Args:
        locks: the locks themselves.
        maximum_per_order: how many; the next is told at once what it would learn after the wait.
    """

    def __init__(self, locks: Locks, *, maximum_per_order: int) -> None:
        self._locks = locks
        self._maximum_per_order = maximum_per_order
        self._inside: Counter[UUID] = Counter()

    @asynccontextmanager
    async def hold(self, order_id: UUID, *, wait_seconds: float) -> AsyncIterator[Lease]:
        """Hold both locks inside the ``async with``; see ``tandem.initiator.ports.Locks``.

        Raises:
            OrderLocked: also when too many wait already.
        """
        if self._inside[order_id] >= self._maximum_per_order:
            raise _too_many()
        self._inside[order_id] += 1
        try:
            async with self._locks.hold(order_id, wait_seconds=wait_seconds) as lease:
                yield lease
        finally:
            self._inside[order_id] -= 1
            if not self._inside[order_id]:
                del self._inside[order_id]


def _order_to_change(scope: Scope) -> UUID | None:
    """Return the order that a request wants to change, however its id is spelt; None if none."""
    if scope["type"] != "http" or scope["method"] not in _CHANGES:
        return None
    path: str = scope["path"]
    if not path.startswith(_PREFIX):
        return None
    try:
        return UUID(path.removeprefix(_PREFIX))
    except ValueError:
        return None


def _too_many() -> OrderLocked:
    return OrderLocked(
        "Too many requests wait to change this order. Nothing was written.", retry_after_seconds=2
    )


def _still_locked() -> OrderLocked:
    return OrderLocked("Other requests are changing this order. Nothing was written.")
