"""A bulkhead for each order: many clients of one order take no places from those of others."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from order.errors import OrderLocked
from tandem.initiator.ports import Lease, Locks


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
            raise OrderLocked(
                "Too many requests wait to change this order. Nothing was written.",
                retry_after_seconds=2,
            )
        self._inside[order_id] += 1
        try:
            async with self._locks.hold(order_id, wait_seconds=wait_seconds) as lease:
                yield lease
        finally:
            self._inside[order_id] -= 1
            if not self._inside[order_id]:
                del self._inside[order_id]
