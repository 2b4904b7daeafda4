"""A private event loop in one daemon thread, and how other threads wait for what runs in it.

The blocking client runs the very code of the asyncio client in here, so there is one protocol, one
connection and one keeper of leases, whatever the number of threads. Threads wait on a bare lock,
which a signal handler that raises (Ctrl-C, a time limit of Celery) interrupts, and no foreign
exception can hit the code that runs in the loop.
"""

import asyncio
import contextlib
import contextvars
import logging
import os
import selectors
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from fencelock._errors import RedisUnavailable

logger = logging.getLogger("fencelock")

# How often a waiting thread makes sure that the loop's thread still lives.
LOOK_SECONDS = 5.0
JOIN_SECONDS = 5.0

T = TypeVar("T")


class LoopThread:
    """One event loop that runs in a thread of its own until it is stopped."""

    def __init__(self, name: str) -> None:
        """Start it.

        Raises:
            RedisUnavailable: the system, or an interpreter that ends, gives no thread.
        """
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._loop.close()
            unavailable = RedisUnavailable(f"no thread for locks could be started: {error}")
            unavailable.reached = False
            raise unavailable from error

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.get_ident() == self._thread.ident

    def call(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        unclaimed: Callable[[T], Coroutine[Any, Any, object]] | None = None,
    ) -> T:
        """Run a coroutine in the loop and wait for its result.

        Args:
            work: makes the coroutine; called in the loop, in the context of the caller.
            unclaimed: makes what is run with a result that nobody takes, since an exception (of a
                signal handler, say) hit the caller while it waited. The coroutine is cancelled in
                that case; without ``unclaimed`` it is left to end by itself.

        Raises:
            RuntimeError: called in the loop's own thread, which would wait for itself for ever.
        """
        if self.is_current:
            raise RuntimeError("a blocking call in the event loop of the client would never end")
        job = _Job(self._loop, work, unclaimed)
        context = contextvars.copy_context()
        try:
            self.post(job.start, context=context)
            while not job.done.acquire(timeout=LOOK_SECONDS) and self._thread.is_alive():
                pass
            return job.take()
        except BaseException:
            if not job.taken and unclaimed is not None:
                self.post_if_open(job.cancel)
            raise

    def post(
        self, callback: Callable[[], object], context: contextvars.Context | None = None
    ) -> None:
        """Run a callback in the loop, soon.

        Raises:
            RedisUnavailable: the loop was stopped.
        """
        try:
            self._loop.call_soon_threadsafe(callback, context=context)
        except RuntimeError as error:
            raise RedisUnavailable("the client was closed") from error

    def stop(self) -> None:
        """End the loop and wait for its thread; what still runs in it is cancelled."""
        self.post_if_open(self._halt)
        if not self.is_current:
            self._thread.join(JOIN_SECONDS)

    def wind_up(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine, then end the loop, without waiting for either."""

        def begin() -> None:
            ending.append(self._loop.create_task(_quietly(work())))
            ending[0].add_done_callback(lambda _: self._halt())

        ending: list[asyncio.Task[None]] = []
        self.post_if_open(begin)

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine soon, without waiting for it."""
        self.post_if_open(lambda: _spawn(self._loop, work()))

    def forsake(self, keep: object) -> None:
        """Called in a forked child, where the thread does not exist: let go of what is shared.

        The sockets are closed here, or the server would not see them close when the parent dies.
        Only their descriptors: were asyncio to do it, it would also take them out of the poll
        object, which the parent's loop is using.

        Args:
            keep: what else must never be collected, since it belongs to the parent.
        """
        watched = list(self._selector.get_map().values())
        # For ever: if they were collected, they would close descriptors that are others' by then.
        _forsaken.append((self, watched, keep))
        for key in watched:
            with contextlib.suppress(OSError):  # whoever forked may have closed them all
                os.close(key.fd)

    def post_if_open(self, callback: Callable[[], object]) -> None:
        """Run a callback in the loop, soon, if the loop still runs."""
        try:
            self.post(callback)
        except RedisUnavailable:
            logger.debug("the loop had been stopped")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._stopped:
                # What an observer raises to end the process ends no process here.
                with contextlib.suppress(KeyboardInterrupt, SystemExit):
                    self._loop.run_forever()
        finally:
            self._end()

    def _halt(self) -> None:
        self._stopped = True
        self._loop.stop()

    def _end(self) -> None:
        # What was posted last gets its turn, so that nobody waits for a task that never began.
        self._loop.run_until_complete(asyncio.sleep(0))
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=JOIN_SECONDS))
        self._loop.close()


_forsaken: list[object] = []


class _Job(Generic[T]):
    """One call: a task in the loop, and a lock that is open when it is done."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[[], Coroutine[Any, Any, T]],
        unclaimed: Callable[[T], Coroutine[Any, Any, object]] | None,
    ) -> None:
        self._loop = loop
        self._work = work
        self._unclaimed = unclaimed
        self._task: asyncio.Task[T] | None = None
        self._given_up = False
        self._noticed = False
        self.taken = False
        self.done = threading.Lock()
        self.done.acquire()

    def start(self) -> None:
        """Make the task (in the loop)."""
        self._task = self._loop.create_task(self._run(), name="fencelock-call")
        self._task.add_done_callback(self._finished)

    async def _run(self) -> T:
        # In the task: whoever waits would not hear of what is raised before there is one.
        return await self._work()

    def cancel(self) -> None:
        """Nobody waits any more (in the loop)."""
        self._given_up = True
        if self._task is not None and not self._task.cancel() and self._noticed:
            self._give_up(self._task)

    def take(self) -> T:
        """The result of the task, once it is done (in the caller's thread)."""
        task = self._task
        if task is None or not task.done() or task.cancelled():
            self.taken = True
            raise RedisUnavailable("the client was closed")
        if task.exception() is not None:
            self.taken = True
            return task.result()
        # Taken when it cannot get lost any more: a signal handler may raise after any step.
        result = task.result()
        self.taken = True
        return result

    def _finished(self, task: asyncio.Task[T]) -> None:
        self._noticed = True
        self.done.release()
        if self._given_up:
            self._give_up(task)

    def _give_up(self, task: asyncio.Task[T]) -> None:
        if task.cancelled() or task.exception() is not None or self._unclaimed is None:
            return
        _spawn(self._loop, self._unclaimed(task.result()))


_unattended: set[asyncio.Task[None]] = set()


def _spawn(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, object]) -> None:
    task = loop.create_task(_quietly(work))
    _unattended.add(task)
    task.add_done_callback(_unattended.discard)


async def _quietly(work: Coroutine[Any, Any, object]) -> None:
    """Nobody is there to hear of an error but the log."""
    try:
        await work
    except Exception:
        logger.exception("cleaning up failed")
