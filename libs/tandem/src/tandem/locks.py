"""The locks of a pair, by fencelock."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import fencelock
from tandem.errors import LeaseLost, Locked, LocksUnavailable
from tandem.initiator.ports import Lease


class RedisLocks:
    """Holds the locks on a subject; see ``tandem.initiator.ports.Locks``.

    Args:
        client: fencelock's client; its TTL is that of every lease.
        names: the names of a subject's locks, the same at the decider.
    """

    def __init__(
        self, client: fencelock.AsyncLockClient, names: Callable[[UUID], tuple[str, ...]]
    ) -> None:
        self._client = client
        self._names = names

    @asynccontextmanager
    async def hold(self, subject_id: UUID, /, *, wait_seconds: float) -> AsyncIterator[Lease]:
        """Hold the locks inside the ``async with``.

        Raises:
            Locked: somebody else holds one, and did so for all of ``wait_seconds``.
            LocksUnavailable: they cannot be had; nothing was done.
            LeaseLost: they were lost while held; the body was cancelled.
        """
        try:
            async with self._client.lock(*self._names(subject_id), wait=wait_seconds) as lease:
                yield lease
        except fencelock.LockNotAcquired as error:
            raise Locked("Another request is changing it. Nothing was written.") from error
        except fencelock.LeaseLost as error:
            raise LeaseLost(str(error)) from error
        except fencelock.FencelockError as error:
            raise LocksUnavailable("The locks cannot be had.") from error
