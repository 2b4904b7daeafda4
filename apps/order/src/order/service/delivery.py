"""Send an operation to the invoice service until it gives a recorded outcome, or time is up."""

import asyncio
import random
from typing import Final

import structlog

from order import failpoints
from order.domain import Operation
from order.ports import Decision, Invoices, Lease, OutcomeUnknown
from servicekit.deadlines import remaining_seconds
from servicekit.failpoints import Failpoints

_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.05
_log = structlog.stdlib.get_logger(__name__)


class Delivery:
    """Asks the invoice service to apply operations.

    Args:
        invoices: the invoice service.
        failpoints: where tests make it fail.
        timeout_seconds: limit for one try.
        attempts: how often at most one delivery tries.
    """

    def __init__(
        self,
        invoices: Invoices,
        *,
        failpoints: Failpoints,
        timeout_seconds: float,
        attempts: int = _ATTEMPTS,
    ) -> None:
        self._invoices = invoices
        self._failpoints = failpoints
        self._timeout_seconds = timeout_seconds
        self._attempts = attempts

    async def deliver(self, operation: Operation, lease: Lease) -> Decision:
        """Send ``operation`` under ``lease`` and return what the invoice service has recorded.

        Trying again is safe, since every try carries the operation's id: the invoice service
        applies it once and repeats its answer.

        Raises:
            OutcomeUnknown: there is no recorded outcome yet.
        """
        await self._failpoints.hit(failpoints.BEFORE_SEND)
        decision = await self._send_repeatedly(operation, lease)
        await self._failpoints.hit(failpoints.AFTER_SEND)
        return decision

    async def _send_repeatedly(self, operation: Operation, lease: Lease) -> Decision:
        attempt = 1
        while True:
            timeout = remaining_seconds(at_most_seconds=self._timeout_seconds)
            if timeout <= 0:
                raise OutcomeUnknown("no time left to send it", retryable=False)
            try:
                return await self._invoices.send(
                    operation, proof=lease.proof(), timeout_seconds=timeout
                )
            except OutcomeUnknown as error:
                if not error.retryable or attempt >= self._attempts:
                    raise
                _log.info("delivery_attempt_failed", attempt=attempt, reason=str(error))
            # Full jitter: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
            await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS * 2**attempt))  # noqa: S311
            attempt += 1
