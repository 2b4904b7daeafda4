"""``async with``: hold names for the length of a block, and interrupt it if they are lost."""

import asyncio
import logging
from collections.abc import Awaitable
from types import TracebackType
from typing import Protocol

from fencelock._errors import LeaseLost, NotOwner, RedisUnavailable
from fencelock._kinds import Kind
from fencelock._lease import AsyncLease
from fencelock._reentry import Reentry, end_inner

logger = logging.getLogger("fencelock")

# Names, ttl, wait, max_hold and kind, as the user gave them.
Wanted = tuple[tuple[str, ...], float | None, float | None, float | None, Kind]


class Client(Protocol):
    """What takes the lock."""

    def take(self, wanted: Wanted) -> Awaitable[AsyncLease]:
        """Take all of the names or none."""


class AsyncLock:
    """A lock that is taken by entering it. One block at a time; make one for each task."""

    __slots__ = (
        "__weakref__",
        "_cancelling",
        "_client",
        "_entered",
        "_interrupted",
        "_lease",
        "_outer",
        "_reentry",
        "_task",
        "_wanted",
    )

    def __init__(
        self, client: Client, wanted: Wanted, reentry: Reentry[AsyncLease] | None = None
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._reentry = reentry
        self._entered = False
        self._outer: AsyncLease | None = None
        self._lease: AsyncLease | None = None
        self._task: asyncio.Task[object] | None = None

    async def __aenter__(self) -> AsyncLease:
        if self._entered:
            raise RuntimeError("this lock object is in use: make one for each `async with`")
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a lock can be entered in a task only")
        self._entered = True
        try:
            if self._reentry is not None:
                self._outer = self._reentry.held()
                if self._outer is not None:
                    return self._outer
            lease = await self._client.take(self._wanted)
        except BaseException:
            self._entered = False
            raise
        self._lease = lease
        # The block runs under the lease, in this task.
        self._task = task
        self._cancelling = task.cancelling()
        self._interrupted = False
        lease.on_lost(self._interrupt)
        if self._reentry is not None:
            self._reentry.enter(lease)
        return lease

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lease, self._lease = self._lease, None
        outer, self._outer = self._outer, None
        self._entered = False
        if outer is not None:
            end_inner(outer, exc)
        if lease is None:
            return
        if self._reentry is not None:
            self._reentry.leave(lease)
        # As asyncio.timeout does: take our own cancellation back, and see if there was another.
        task, self._task = self._task, None
        interrupted_by_us_alone = (
            self._interrupted and task is not None and task.uncancel() <= self._cancelling
        )
        try:
            await lease.release()
        except RedisUnavailable as error:
            # The block ran under the lock to its end. The release is repeated in the background,
            # and the lease ends by itself at the latest.
            logger.warning("release of %s was not confirmed: %s", lease.names, error)
        except (LeaseLost, NotOwner) as error:
            _tell(error, exc, interrupted_by_us_alone)

    def _interrupt(self, _: object) -> None:
        # A body that ends the lease itself, by closing the client, is told at its end.
        task = self._task
        if task is not None and asyncio.current_task() is not task:
            self._interrupted = True
            task.cancel("the lease was lost")


def _tell(error: LeaseLost | NotOwner, exc: BaseException | None, cancelled_by_us: bool) -> None:  # noqa: FBT001
    """The block did not run under the lock to its end; ``exc`` is what left it."""
    lost = error
    if isinstance(error, NotOwner):
        lost = LeaseLost(str(error))
        lost.__cause__ = error
    if exc is None:
        raise lost
    if isinstance(exc, asyncio.CancelledError) and cancelled_by_us:
        raise lost from exc
    exc.add_note(str(lost))
