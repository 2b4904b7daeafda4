"""Send an operation to the decider until it gives a recorded outcome, or time is up."""

import asyncio
import random
from typing import Final, Generic

import structlog

from tandem.errors import OutcomeUnknown
from tandem.failpoints import Failpoints
from tandem.initiator.points import Points
from tandem.initiator.ports import Deadlines, Decider, Decision, Lease
from tandem.initiator.subject import OpT

_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.05
_log = structlog.stdlib.get_logger(__name__)


class Delivery(Generic[OpT]):
    """Asks the decider to apply operations.

    Args:
        decider: the service that decides.
        points: the names of the failpoints.
        failpoints: where tests make it fail.
        deadlines: how long callers wait.
        timeout_seconds: limit for one try.
        attempts: how often at most one delivery tries.
    """

    def __init__(
        self,
        decider: Decider[OpT],
        *,
        points: Points,
        failpoints: Failpoints,
        deadlines: Deadlines,
        timeout_seconds: float,
        attempts: int = _ATTEMPTS,
    ) -> None:
        self._decider = decider
        self._points = points
        self._failpoints = failpoints
        self._deadlines = deadlines
        self._timeout_seconds = timeout_seconds
        self._attempts = attempts

    async def deliver(self, operation: OpT, lease: Lease) -> Decision:
        """Send ``operation`` under ``lease`` and return what the decider has recorded.

        Trying again is safe, since every try carries the operation's id: the decider
        applies it once and repeats its answer.

        Raises:
            OutcomeUnknown: there is no recorded outcome yet.
        """
        await self._failpoints.hit(self._points.before_send)
        decision = await self._send_repeatedly(operation, lease)
        await self._failpoints.hit(self._points.after_send)
        return decision

    async def _send_repeatedly(self, operation: OpT, lease: Lease) -> Decision:
        attempt = 1
        while True:
            timeout = self._deadlines.remaining_seconds(at_most_seconds=self._timeout_seconds)
            if timeout <= 0:
                raise OutcomeUnknown("no time left to send it", retryable=False)
            try:
                # A proof for each try: of a lease that was lost meanwhile none can be had.
                return await self._decider.send(
                    operation, proof=lease.proof(), timeout_seconds=timeout
                )
            except OutcomeUnknown as error:
                if not error.retryable or attempt >= self._attempts:
                    raise
                _log.info("delivery_attempt_failed", attempt=attempt, reason=str(error))
            # Full jitter: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
            await asyncio.sleep(random.uniform(0, _PAUSE_SECONDS * 2**attempt))  # noqa: S311
            attempt += 1
