"""Writes whose end must be known: neither a deadline nor a lost reply makes them a riddle.

Whoever has sent a COMMIT, or a statement that commits by itself, and heard nothing knows nothing.
So the work is done in a task of its own, which nobody cancels: at the request's deadline it is
given up only if its COMMIT is not on its way yet, and a COMMIT whose reply was lost is found out
about by doing the work again, which has to be such that doing it twice is the same as doing it
once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from tandem.errors import DATABASE_ERRORS, CommitUnknown, GivenUp, detail_of, is_transient

__all__ = ["Attempt", "CommitUnknown", "GivenUp", "known", "repeated"]

_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.05
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
_LEFT_ALONE_SECONDS: Final = 10.0
_PATIENCE_AFTER_CANCELLATION_SECONDS: Final = 1.0
_log = structlog.stdlib.get_logger(__name__)
# The event loop itself keeps weak references only.
_left_alone: Final[set["asyncio.Task[Any]"]] = set()

Result = TypeVar("Result")


class Attempt:
    """How far a transaction has come."""

    def __init__(self) -> None:
        self._may_be_written = False
        self._given_up = False
        self.over = False
        """Whether nobody waits for the result any more."""

    @property
    def may_be_written(self) -> bool:
        """Whether a COMMIT was sent whose end is not known."""
        return self._may_be_written

    def commits_now(self) -> None:
        """Say that the COMMIT comes next; to be called right before it.

        Raises:
            GivenUp: the deadline has passed, and none was sent before.
        """
        if self._given_up and not self._may_be_written:
            raise GivenUp
        self._may_be_written = True

    def proved_unwritten(self) -> None:
        """Say that the attempts before this one are known to have come to nothing."""
        self._may_be_written = False

    def give_up(self) -> bool:
        """Let the work end before its COMMIT; tell whether it is certain that nothing is written.

        It is not if a COMMIT is on its way. Then only that one's end is still found out.
        """
        self._given_up = True
        return not self._may_be_written


async def known(
    work: Callable[[Attempt], Awaitable[Result]],
    *,
    deadline_seconds: float,
    patience_seconds: float,
    event: str,
    attempt: Attempt | None = None,
) -> Result:
    """Do ``work``, a transaction, and return only when it is known what became of it.

    Args:
        work: the transaction; it calls ``commits_now`` right before its COMMIT, and finds out by
            itself, when it is done again, whether an earlier COMMIT was made after all.
        deadline_seconds: from now, how long to wait as long as no COMMIT was sent.
        patience_seconds: from that deadline, how long to wait for the end of a COMMIT.
        event: how the log names a COMMIT whose reply was lost.
        attempt: the caller's own, if it has to know how far this came although it is cancelled.

    Raises:
        GivenUp: the deadline passed; nothing was written.
        CommitUnknown: patience is over, and a COMMIT may have been made or not.
        Exception: what ``work`` raises before its COMMIT; nothing was written.
    """
    attempt = attempt or Attempt()
    task = asyncio.create_task(_until_known(work, attempt, event), name=event)
    try:
        await asyncio.wait({task}, timeout=deadline_seconds)
        if not task.done() and attempt.give_up():
            raise GivenUp
        if not task.done():
            await asyncio.wait({task}, timeout=patience_seconds)
            attempt.over = True
    except asyncio.CancelledError:
        # The process is ending. What has begun gets a moment to end by itself.
        attempt.give_up()
        attempt.over = True
        await asyncio.wait({task}, timeout=_PATIENCE_AFTER_CANCELLATION_SECONDS)
        if task.done():
            _report(task)
        raise
    finally:
        if not task.done():
            _leave_alone(task)
    if not task.done():
        raise CommitUnknown
    return task.result()


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
            _log.warning(event, attempt=attempt, error=detail_of(error))
            await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)
    raise AssertionError("attempts must be at least 1")


async def _until_known(
    work: Callable[[Attempt], Awaitable[Result]], attempt: Attempt, event: str
) -> Result:
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await work(attempt)
        except DATABASE_ERRORS as error:
            if not attempt.may_be_written or not is_transient(error):
                raise
            if attempt.over:
                raise CommitUnknown from error
            _log.warning(event, error=detail_of(error))
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)


def _leave_alone(task: "asyncio.Task[Any]") -> None:
    """Let a task end by itself, and end it some day: its connection may stay silent for ever."""
    _left_alone.add(task)
    end = asyncio.get_running_loop().call_later(_LEFT_ALONE_SECONDS, task.cancel)
    task.add_done_callback(lambda _: end.cancel())
    task.add_done_callback(_report)


def _report(task: "asyncio.Task[Any]") -> None:
    """Keep the error of a task that nobody waits for any more from going unseen."""
    _left_alone.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.info("transaction_ended_alone", error=repr(error))
