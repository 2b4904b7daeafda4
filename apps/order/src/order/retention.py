"""Removes what is kept for a time: keys of refused requests, and operations from the journal."""

import asyncio
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from order.metrics import Metrics
from order.repository import IdempotencyKeys, OperationsArchive
from tandem.archive import Position

_BATCH: Final = 1000
_BATCH_SECONDS: Final = 30.0
"""Limit for one batch, also on a connection that has gone silent."""
_log = structlog.stdlib.get_logger(__name__)


class Retention:
    """Purges old idempotency keys, and archives old operations, in every replica.

    Only the keys of requests that were refused go: the key of an operation lives as long as the
    operation, so that a retry never does again what was done, however late it comes. Operations
    stay, in the journal or in its archive: they are the history that the audit reads.

    Args:
        engine: the order database.
        metrics: counts what is removed.
        retention_seconds: how long a key is kept.
        operation_retention_seconds: how long after it was superseded an operation stays in the
            journal; 0 for ever.
        interval_seconds: how often to look.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        metrics: Metrics,
        retention_seconds: float,
        operation_retention_seconds: float,
        interval_seconds: float,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._retention_seconds = retention_seconds
        self._operation_retention_seconds = operation_retention_seconds
        self._archived_up_to: Position | None = None
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Purge until cancelled; no error ends it."""
        while True:
            for work, failure in ((self.purge, "purge_failed"), (self.archive, "archive_failed")):
                try:
                    await work()
                except Exception as error:  # noqa: BLE001 - the next round may succeed
                    _log.warning(failure, error=repr(error))
            await asyncio.sleep(self._interval_seconds)

    async def purge(self) -> int:
        """Remove all keys past their retention, in small transactions; return how many."""
        total = 0
        while True:
            async with asyncio.timeout(_BATCH_SECONDS), self._engine.begin() as connection:
                removed = await IdempotencyKeys(connection).purge(
                    older_than_seconds=self._retention_seconds, limit=_BATCH
                )
            self._metrics.keys_purged(removed)
            total += removed
            if removed < _BATCH:
                return total

    async def archive(self) -> int:
        """Move superseded operations past their retention, in small transactions; return how many.

        A round goes on where the last one ended. After a start, and after a failure, it looks once
        at all that stays: at each order's last operation.
        """
        if not self._operation_retention_seconds:
            return 0
        total, done = 0, False
        position, self._archived_up_to = self._archived_up_to, None
        while not done:
            async with asyncio.timeout(_BATCH_SECONDS), self._engine.begin() as connection:
                batch = await OperationsArchive(connection).move(
                    older_than_seconds=self._operation_retention_seconds, after=position
                )
            self._metrics.archived(batch.moved)
            total += batch.moved
            position, done = batch.position, batch.is_last
        self._archived_up_to = position
        return total
