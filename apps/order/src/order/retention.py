"""Removes idempotency keys of refused requests whose retention is over."""

import asyncio
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from order.metrics import Metrics
from order.repository import IdempotencyKeys

_BATCH: Final = 1000
_BATCH_SECONDS: Final = 30.0
"""Limit for one batch, also on a connection that has gone silent."""
_log = structlog.stdlib.get_logger(__name__)


class Retention:
    """Purges old idempotency keys in the background, in every replica.

    Only the keys of requests that were refused go: the key of an operation lives as long as the
    operation, so that a retry never does again what was done, however late it comes. Operations
    stay: they are the history that the audit reads.

    Args:
        engine: the order database.
        metrics: counts what is removed.
        retention_seconds: how long a key is kept.
        interval_seconds: how often to look.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        metrics: Metrics,
        retention_seconds: float,
        interval_seconds: float,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._retention_seconds = retention_seconds
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Purge until cancelled; no error ends it."""
        while True:
            try:
                await self.purge()
            except Exception as error:  # noqa: BLE001 - the next round may succeed
                _log.warning("purge_failed", error=repr(error))
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
