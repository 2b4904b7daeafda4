"""A connection whose statements can be given up in a limited time, whatever the server does."""

import asyncio
from typing import Final, TypeVar

import psycopg
import structlog
from psycopg import errors, pq, waiting
from psycopg.abc import PQGen
from psycopg.rows import Row

INTERRUPT_SECONDS: Final = 0.5
"""Limit for the end of a statement, from the moment that its caller is cancelled."""
# Psycopg's own: how often it looks whether there is something else to do.
_LOOK_SECONDS: Final = 0.1

_Result = TypeVar("_Result")
_log: Final = structlog.stdlib.get_logger(__name__)


class Connection(psycopg.AsyncConnection[Row]):
    """Psycopg's, but for the time that a cancelled statement may still take.

    Psycopg asks the server to cancel it, and gives it five seconds twice. Each statement of a
    request to a silent database would add as much to the request's own limit. What does not end in
    ``INTERRUPT_SECONDS`` ends with its connection: whether it was done is unknown either way.
    """

    async def wait(
        self,
        gen: PQGen[_Result],
        interval: float = _LOOK_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's signature
    ) -> _Result:
        """Wait for the server; for a cancelled statement's end no longer than the limit."""
        try:
            return await waiting.wait_async(
                gen, self.pgconn.socket, interval=interval, timeout=timeout
            )
        except asyncio.CancelledError:
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                await self._interrupt(gen)
            raise

    async def _interrupt(self, gen: PQGen[_Result]) -> None:
        try:
            async with asyncio.timeout(INTERRUPT_SECONDS):
                await self.cancel_safe(timeout=INTERRUPT_SECONDS)
                await waiting.wait_async(gen, self.pgconn.socket, interval=_LOOK_SECONDS)
        except errors.QueryCanceled:
            pass
        except BaseException as error:
            _log.warning(
                "connection_given_up", reason="a cancelled statement did not end", error=repr(error)
            )
            self.pgconn.finish()
            if not isinstance(error, Exception):
                raise
