"""The locks on orders and their invoices, by fencelock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import fencelock
from order.domain import lock_names
from order.errors import LocksUnavailable, OrderLocked
from servicekit.lock_trouble import LockTrouble
from tandem.errors import LeaseLost
from tandem.initiator.ports import Lease


class RedisLocks:
    """Holds an order's lock and its invoice's together.

    Args:
        client: fencelock's client; its TTL is that of every lease.
        trouble: is told what keeps it from a lock.
    """

    def __init__(self, client: fencelock.AsyncLockClient, *, trouble: LockTrouble) -> None:
        self._client = client
        self._trouble = trouble

    @asynccontextmanager
    async def hold(self, order_id: UUID, *, wait_seconds: float) -> AsyncIterator[Lease]:
        """Hold both locks inside the ``async with``; see ``tandem.initiator.ports.Locks``."""
        granted = False
        try:
            async with self._client.lock(*lock_names(order_id), wait=wait_seconds) as lease:
                granted = True
                yield lease
        except fencelock.LockNotAcquired as error:
            raise OrderLocked(
                "Another request is changing this order. Nothing was written."
            ) from error
        except fencelock.LeaseLost as error:
            raise LeaseLost(str(error)) from error
        except Exception as error:
            # Refused credentials, an evicting policy, or a defect: without a lock nothing was done.
            if granted and not isinstance(error, fencelock.FencelockError):
                raise
            self._trouble.report(error)
            raise LocksUnavailable("The locks cannot be had. Nothing was written.") from error
