"""Mend what an audit has found, from the stored payloads and by the protocol's own steps.

The order database knows every change with its full body, so an invoice that lost some is given them
again, under the lock and under their own ids; one whose content was altered is told the order's
content by a new, ordinary change; an order's row that was altered is written again from the last
committed payload. What the order database does not know, an invoice ahead of it, is never undone:
that is for a person to decide.
"""

from typing import Final
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from order.audit.facts import Difference, DifferenceKind, Fact
from order.domain import Operation, Outcome, State, Update
from order.ports import Change, LeaseLost, Locks, OutcomeUnknown
from order.repository import OperationRecord, Operations, Orders
from order.service.changes import Changes
from order.service.delivery import Delivery
from servicekit.problems import Problem

_LOCK_WAIT_SECONDS: Final = 30.0
_HISTORY_LIMIT: Final = 100_000
_NO_CONTENT: Final = 204


class NotRepaired(Exception):
    """A difference could not be mended; the message says why."""


class Repair:
    """Mends differences, one order at a time, on a live system.

    Args:
        engine: the order database.
        locks: the locks on orders and invoices.
        delivery: how an operation is sent again.
        changes: how an ordinary change is made.
    """

    def __init__(
        self, *, engine: AsyncEngine, locks: Locks, delivery: Delivery, changes: Changes
    ) -> None:
        self._engine = engine
        self._locks = locks
        self._delivery = delivery
        self._changes = changes

    async def mend(self, difference: Difference) -> str:
        """Mend one difference and return what was done.

        Raises:
            NotRepaired: that is not possible, or not now.
        """
        try:
            return await self._mend(difference)
        except (Problem, OutcomeUnknown, LeaseLost) as error:
            raise NotRepaired(str(error)) from error

    async def _mend(self, difference: Difference) -> str:
        history = await self._committed(difference.order_id)
        if not history:
            raise NotRepaired("the order database knows nothing of this order")
        if difference.kind in {DifferenceKind.INVOICE_BEHIND, DifferenceKind.MISSING_INVOICE}:
            return await self._send_again(difference, history)
        if difference.kind is DifferenceKind.CONTENT:
            return await self._restate(difference, history[-1].operation)
        raise NotRepaired("the order database does not know what the invoice service has recorded")

    async def _send_again(self, difference: Difference, history: list[OperationRecord]) -> str:
        """Give the invoice service the operations it lacks, in their order."""
        known = 0 if difference.invoice is None else difference.invoice.version
        missing = [record.operation for record in history if record.operation.version > known]
        async with self._locks.hold(difference.order_id, wait_seconds=_LOCK_WAIT_SECONDS) as lease:
            for operation in missing:
                decision = await self._delivery.deliver(operation, lease)
                if decision.outcome is not Outcome.APPLIED:
                    raise NotRepaired(
                        f"operation {operation.id} was {decision.outcome.value}: {decision.detail}"
                    )
        return f"sent {len(missing)} operations again"

    async def _restate(self, difference: Difference, last: Operation) -> str:
        """Bring the order's row back to its last payload and, if need be, say it all once more."""
        done = []
        if await self._restore(last):
            done.append("restored the order's row from its last operation")
        invoice = difference.invoice
        if invoice is None or not _says_the_same(invoice, last):
            await self._change_nothing(last)
            done.append("restated the order by a new operation")
        return "; ".join(done) or "nothing was left to do"

    async def _restore(self, last: Operation) -> bool:
        async with self._engine.begin() as connection:
            orders = Orders(connection)
            order = await orders.lock(last.order_id)
            if order is None or order.version != last.version or order.pending_op is not None:
                raise NotRepaired("the order is changing; try again")
            if order.body == last.body:
                return False
            await orders.restore(last)
            return True

    async def _change_nothing(self, last: Operation) -> None:
        """Make an ordinary update that says what the order says: the invoice takes its total."""
        change = Change(
            command=Update(order_id=last.order_id, update_time=last.body.update_time),
            op_id=uuid4(),
            path=f"/orders/{last.order_id}",
            key=None,
            traceparent=None,
        )
        response = await self._changes.apply(change)
        if response.status != _NO_CONTENT:
            raise NotRepaired(f"the change that restates the order was answered {response.status}")

    async def _committed(self, order_id: UUID) -> list[OperationRecord]:
        async with self._engine.connect() as connection:
            records = await Operations(connection).page(
                after=None, state=State.COMMITTED, order_id=order_id, limit=_HISTORY_LIMIT
            )
        return sorted(records, key=lambda record: record.operation.version)


def _says_the_same(invoice: Fact, last: Operation) -> bool:
    body = last.body
    return invoice == Fact(last.version, body.status, body.total, body.user_id)
