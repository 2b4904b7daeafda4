"""Work beside requests: what outlives whoever began it, and what goes on until the end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import structlog

_log: Final = structlog.stdlib.get_logger(__name__)


class BackgroundWork(Protocol):
    """Something that goes on until it is cancelled."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...


async def briefly(work: Coroutine[Any, Any, None], *, seconds: float) -> None:
    """Do ``work`` and wait for it ``seconds`` at most; then it goes on alone.

    A statement on a connection that has gone silent takes a while to be cancelled.

    Raises:
        TimeoutError: it is not done yet.
    """
    task = asyncio.create_task(work)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.add_done_callback(_report)
        raise TimeoutError
    task.result()


async def _at_once() -> None:
    """Wait for nothing."""


@asynccontextmanager
async def running(
    background: Sequence[BackgroundWork],
    *,
    after: Callable[[], Coroutine[Any, Any, None]] = _at_once,
) -> AsyncIterator[None]:
    """Let the background work go on while the body runs, end it, and raise what it died of.

    Args:
        background: the work.
        after: returns once it may begin; the body does not wait for that.
    """
    gate = asyncio.create_task(after(), name="gate")

    async def begin(work: BackgroundWork) -> None:
        await asyncio.shield(gate)
        await work.run()

    tasks = [
        gate,
        *(
            asyncio.create_task(begin(work), name=type(work).__name__.lower())
            for work in background
        ),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


def _report(task: "asyncio.Task[Any]") -> None:
    """Keep the error of a task whose caller is cancelled from going unseen."""
    if not task.done():
        task.add_done_callback(_report)
    elif not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("transaction_failed_after_cancellation", error=repr(error))
