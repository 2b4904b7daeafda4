"""Transactions on the order database, and what to make of its failures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from order.errors import DatabaseUnavailable
from tandem.errors import DATABASE_ERRORS, is_transient

_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.05
_log = structlog.stdlib.get_logger(__name__)

Result = TypeVar("Result")


@contextmanager
def answering() -> Iterator[None]:
    """Tell a client of a database that cannot be reached, or does not answer in time.

    Raises:
        DatabaseUnavailable: that is what has happened in the body.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        if not is_transient(error):
            raise
        raise DatabaseUnavailable("The order database does not answer.") from error


@asynccontextmanager
async def reading_back(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that is rolled back at its end, whatever it did.

    Raises:
        DatabaseUnavailable: the database cannot be reached or does not answer in time.
    """
    with answering():
        async with engine.connect() as connection, connection.begin() as transaction:
            yield connection
            await transaction.rollback()


async def briefly(work: Coroutine[Any, Any, None], *, seconds: float) -> None:
    """Do ``work`` and wait for it ``seconds`` at most; then it goes on alone.

    A statement on a connection that has gone silent cannot even be cancelled in time.

    Raises:
        TimeoutError: it is not done yet.
    """
    task = asyncio.create_task(work)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.add_done_callback(_report)
        raise TimeoutError
    task.result()


async def repeated(
    work: Callable[[], Awaitable[Result]], *, attempts: int = _ATTEMPTS, event: str
) -> Result:
    """Do ``work``, a transaction that may be done twice, again if the database went away.

    Raises:
        psycopg.Error, DBAPIError, TimeoutError: of the last attempt, or one that
            another attempt would not mend.
    """
    for attempt in range(1, attempts + 1):
        try:
            return await work()
        except DATABASE_ERRORS as error:
            if attempt == attempts or not is_transient(error):
                raise
            _log.warning(event, attempt=attempt, error=str(error.__cause__ or error))
            await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)
    raise AssertionError("attempts must be at least 1")


async def uninterrupted(work: Coroutine[Any, Any, Result], *, patience_seconds: float) -> Result:
    """Do ``work`` to its end even if the caller is cancelled, and only then be cancelled.

    A transaction cut off in the middle of its commit leaves nobody knowing whether it was made. If
    it takes longer than ``patience_seconds`` after the cancellation it goes on alone.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait({task}, timeout=patience_seconds)
        _report(task)
        raise


def _report(task: "asyncio.Task[Any]") -> None:
    """Keep the error of a task whose caller is cancelled from going unseen."""
    if not task.done():
        task.add_done_callback(_report)
    elif not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("transaction_failed_after_cancellation", error=repr(error))
