"""Cancel an operation, by asking the one place that decides."""

import asyncio
from uuid import UUID

import structlog

from order import answers
from order.domain import Operation, Order
from order.errors import DatabaseUnavailable
from order.ports import Unrecorded
from order.repository import OperationRecord
from order.service.intent import PostgresIntents
from order.service.reading import Reading
from servicekit import deadlines
from servicekit.auth.principal import Principal
from servicekit.deadlines import remaining_seconds
from servicekit.idempotency import StoredResponse
from servicekit.problems import DeadlineExceeded
from tandem.errors import OutcomeUnknown, cause_of
from tandem.initiator import Finishing
from tandem.operation import State
from tandem.tasks import briefly

_HAND_OVER_SECONDS = 1.0
_MARGIN_SECONDS = 3.0
_log = structlog.stdlib.get_logger(__name__)


class NotCancelledYet(Exception):
    """The invoice service may have recorded that the operation is dropped; the order will follow.

    Attributes:
        operation: the operation.
    """

    def __init__(self, operation: Operation) -> None:
        super().__init__(str(operation.id))
        self.operation = operation


class Cancellation:
    """Cancels pending operations.

    Args:
        reading: finds operations.
        finishing: asks the invoice service never to apply it, and makes the order follow.
        intents: wakes recovery if it cannot follow now.
        timeout_seconds: limit for asking the invoice service.
    """

    def __init__(
        self,
        *,
        reading: Reading,
        finishing: Finishing[Operation, Order],
        intents: PostgresIntents,
        timeout_seconds: float,
    ) -> None:
        self._reading = reading
        self._finishing = finishing
        self._intents = intents
        self._timeout_seconds = timeout_seconds

    async def cancel(self, op_id: UUID, *, asked_by: Principal) -> OperationRecord | Unrecorded:
        """Ask for an operation never to be applied, and return what stands.

        The answer may be that it is committed: whoever is recorded first wins, and nothing is
        decided here.

        Raises:
            OperationNotFound: there is no such operation, or it is another client's.
            NotCancelledYet: the tombstone may be recorded, and what stands cannot be told now.
            DeadlineExceeded: the time ran out before anything was asked.
        """
        record = await self._find(op_id, asked_by=asked_by)
        if isinstance(record, Unrecorded) or record.state is not State.PENDING:
            return record
        operation = record.operation
        # No lock: a tombstone changes no invoice, and whoever holds the lock may be what hangs.
        seconds = remaining_seconds(at_most_seconds=self._timeout_seconds)
        # From here on it may be cancelled: nothing may be answered that says it is not.
        deadlines.commit_to(
            lambda: StoredResponse(*answers.accepted(op_id, operation.order_id)).to_response(),
            within_seconds=2 * seconds + _HAND_OVER_SECONDS + _MARGIN_SECONDS,
        )
        try:
            await self._finishing.cancel(operation, timeout_seconds=seconds)
            return await self._reading.operation(op_id, asked_by=asked_by)
        except (OutcomeUnknown, DatabaseUnavailable) as error:
            await self._hand_over(op_id, reason=cause_of(error))
            raise NotCancelledYet(operation) from error

    async def _find(self, op_id: UUID, *, asked_by: Principal) -> OperationRecord | Unrecorded:
        try:
            async with asyncio.timeout(remaining_seconds(at_most_seconds=self._timeout_seconds)):
                return await self._reading.operation(op_id, asked_by=asked_by)
        except TimeoutError as error:
            raise DeadlineExceeded(
                "The time for this request ran out. Nothing was written."
            ) from error

    async def _hand_over(self, op_id: UUID, *, reason: str) -> None:
        """Wake recovery; if that fails, its own clock will."""
        try:
            await briefly(self._intents.hand_over(op_id, reason=reason), seconds=_HAND_OVER_SECONDS)
        except Exception as error:  # noqa: BLE001 - the answer is true without it
            _log.warning("hand_over_failed", operation_id=str(op_id), error=repr(error))
