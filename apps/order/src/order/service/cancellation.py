"""Cancel an operation, by asking the one place that decides."""

from uuid import UUID

from order.domain import State
from order.ports import Completions, Invoices
from order.repository import OperationRecord
from order.service.reading import Reading


class Cancellation:
    """Cancels pending operations.

    Args:
        reading: finds operations.
        invoices: records that an operation is never to be applied, unless it is applied already.
        completions: makes the order follow.
        timeout_seconds: limit for asking the invoice service.
    """

    def __init__(
        self,
        *,
        reading: Reading,
        invoices: Invoices,
        completions: Completions,
        timeout_seconds: float,
    ) -> None:
        self._reading = reading
        self._invoices = invoices
        self._completions = completions
        self._timeout_seconds = timeout_seconds

    async def cancel(self, op_id: UUID) -> OperationRecord:
        """Ask for an operation never to be applied, and return what stands.

        The answer may be that it is committed: whoever is recorded first wins, and nothing is
        decided here.

        Raises:
            OperationNotFound: there is no such operation.
            OutcomeUnknown: the invoice service does not say what stands.
        """
        record = await self._reading.operation(op_id)
        if record.state is not State.PENDING:
            return record
        operation = record.operation
        decision = await self._invoices.abort(operation, timeout_seconds=self._timeout_seconds)
        await self._completions.complete(operation, decision)
        return await self._reading.operation(op_id)
