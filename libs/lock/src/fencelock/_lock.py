"""``async with``: hold names for the length of a block, and interrupt it if they are lost."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType

from fencelock._errors import LeaseLost, NotOwner, RedisUnavailable
from fencelock._lease import AsyncLease
from fencelock._reentry import Reentry, end_inner

logger = logging.getLogger("fencelock")


class AsyncLock:
    """A lock that is taken by entering it. One block at a time; make one for each task."""

    def __init__(
        self,
        acquire: Callable[[], Awaitable[AsyncLease]],
        reentry: Reentry[AsyncLease] | None = None,
    ) -> None:
        self._acquire = acquire
        self._reentry = reentry
        self._outer: AsyncLease | None = None
        self._body: _Body | None = None
        self._entered = False

    async def __aenter__(self) -> AsyncLease:
        if self._entered:
            raise RuntimeError("this lock object is in use: make one for each `async with`")
        self._entered = True
        try:
            self._outer = None if self._reentry is None else self._reentry.held()
            if self._outer is not None:
                return self._outer
            lease = await self._acquire()
        except BaseException:
            self._entered = False
            raise
        self._body = _Body(lease)
        if self._reentry is not None:
            self._reentry.enter(lease)
        return lease

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        body, self._body = self._body, None
        outer, self._outer = self._outer, None
        self._entered = False
        if outer is not None:
            end_inner(outer, exc)
        elif body is not None:
            if self._reentry is not None:
                self._reentry.leave(body.lease)
            await body.end(exc)


class _Body:
    """The block that runs under a lease, in the task that entered it."""

    def __init__(self, lease: AsyncLease) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a lock can be entered in a task only")
        self.lease = lease
        self._task = task
        self._cancelling = task.cancelling()
        self._interrupted = False
        lease.on_lost(lambda _: self._interrupt())

    def _interrupt(self) -> None:
        # A body that ends the lease itself, by closing the client, is told at its end.
        if asyncio.current_task() is not self._task:
            self._interrupted = True
            self._task.cancel("the lease was lost")

    async def end(self, exc: BaseException | None) -> None:
        """Release, or say that the lease was lost. ``exc`` is what left the block."""
        # As asyncio.timeout does: take our own cancellation back, and see if there was another.
        interrupted_by_us_alone = self._interrupted and self._task.uncancel() <= self._cancelling
        try:
            await self._release()
        except LeaseLost as lost:
            if exc is None:
                raise
            if isinstance(exc, asyncio.CancelledError) and interrupted_by_us_alone:
                raise lost from exc
            exc.add_note(str(lost))

    async def _release(self) -> None:
        try:
            await self.lease.release()
        except NotOwner as error:
            raise LeaseLost(str(error)) from error
        except RedisUnavailable as error:
            # The block ran under the lock to its end. The release is repeated in the background,
            # and the lease ends by itself at the latest.
            logger.warning("release of %s was not confirmed: %s", self.lease.names, error)
