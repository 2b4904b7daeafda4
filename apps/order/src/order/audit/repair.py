"""Mend what an audit has found, from the stored payloads and by the protocol's own steps.

The order database knows every change with its full body, so an invoice that lost some is given them
again, under the lock and under their own ids; one whose total was altered is told the order's by a
new, ordinary change; an order's row that was altered is written again from the last committed
payload; an operation that is stuck is finished as recovery would. What the order database does not
know, an invoice ahead of it, is never undone, and what no operation can change, an invoice's user,
is left alone: both are for a person to decide.
"""

from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from order.audit.facts import Difference, DifferenceKind, Fact
from order.domain import INVOICED, INVOICED_FOR_GOOD, Operation, Order, Status, Update
from order.fields import BODY
from order.identifiers import new_operation_id
from order.ports import Change
from order.repository import (
    OperationRecord,
    Operations,
    OperationsArchive,
    Orders,
    page_of_operations,
)
from order.service.changes import Changes
from servicekit.auth.principal import ANONYMOUS
from servicekit.problems import Problem
from servicekit.walks import rows_on
from tandem.errors import LeaseLost, OutcomeUnknown
from tandem.initiator import Delivery, Finishing
from tandem.initiator.ports import Locks
from tandem.operation import Outcome, State

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
        finishing: how an operation is finished.
    """

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        locks: Locks,
        delivery: Delivery[Operation],
        changes: Changes,
        finishing: Finishing[Operation, Order],
    ) -> None:
        self._engine = engine
        self._locks = locks
        self._delivery = delivery
        self._changes = changes
        self._finishing = finishing

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
        if difference.kind is DifferenceKind.STUCK:
            return await self._finish(difference.order_id)
        history = await self._committed(difference.order_id)
        if not history:
            raise NotRepaired("the order database knows nothing of this order")
        if difference.kind is DifferenceKind.HISTORY:
            raise NotRepaired("what the invoice service has recorded cannot be changed any more")
        return await self._bring_together(difference, history)

    async def _bring_together(self, difference: Difference, history: list[OperationRecord]) -> str:
        last, invoice = history[-1].operation, difference.invoice
        if invoice is not None and invoice.version > last.version:
            raise NotRepaired("the order database does not know what the invoice is ahead by")
        behind = invoice is None or invoice.version < last.version
        restate = not behind and invoice != _fact_of(last)
        if invoice is not None and restate:
            _require_restatable(invoice, last)
        done = []
        if await self._restore(last):
            done.append("restored the order's row from its last operation")
        if behind:
            done.append(await self._send_again(difference, history))
        elif restate:
            await self._change_nothing(last)
            done.append("restated the order by a new operation")
        return "; ".join(done) or "nothing was left to do"

    async def _finish(self, order_id: UUID) -> str:
        """Bring the order's pending operation to its end, as recovery does."""
        pending = await self._operations(order_id, State.PENDING)
        if not pending:
            return "it has finished by itself"
        decision = await self._finishing.recover(
            pending[0].operation, lock_wait_seconds=_LOCK_WAIT_SECONDS
        )
        return f"finished operation {pending[0].operation.id}: {decision.outcome.value}"

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

    async def _restore(self, last: Operation) -> bool:
        """Bring the order's row back to its last committed operation; tell whether it was not."""
        async with self._engine.begin() as connection:
            orders = Orders(connection)
            order = await orders.lock(last.order_id)
            newest = await Operations(connection).newest_committed(last.order_id)
            if order is None or order.pending_op is not None or newest != last.version:
                raise NotRepaired("the order is changing; try again")
            if (order.body, order.version) == (last.body, last.version):
                return False
            await orders.restore(last)
            return True

    async def _change_nothing(self, last: Operation) -> None:
        """Make an ordinary update that says what the order says: the invoice takes its total."""
        change = Change(
            command=Update(order_id=last.order_id, update_time=last.body.update_time),
            op_id=new_operation_id(),
            path=f"/orders/{last.order_id}",
            key=None,
            client=ANONYMOUS.client,
            traceparent=None,
        )
        response = await self._changes.apply(change)
        if response.status != _NO_CONTENT:
            raise NotRepaired(f"the change that restates the order was answered {response.status}")

    async def _committed(self, order_id: UUID) -> list[OperationRecord]:
        records = await self._operations(order_id, State.COMMITTED)
        async with self._engine.connect() as connection:
            records += await OperationsArchive(connection).of_order(order_id)
        return sorted(records, key=lambda record: record.operation.version)

    async def _operations(self, order_id: UUID, state: State) -> list[OperationRecord]:
        async with self._engine.connect() as connection:
            records, _ = await page_of_operations(
                rows_on(connection),
                after=None,
                state=state,
                order_id=order_id,
                limit=_HISTORY_LIMIT,
            )
        return records


def _require_restatable(invoice: Fact, last: Operation) -> None:
    """Return if saying the order once more, by a new operation, gives the invoice all it lacks."""
    for name, ours in _fact_of(last).content.items():
        if name in INVOICED_FOR_GOOD and invoice.content[name] != ours:
            raise NotRepaired(f"no operation changes the {name} of an invoice")
    if Status.DELETED in {invoice.status, last.body.status}:
        raise NotRepaired("no operation changes what is deleted")


def _fact_of(last: Operation) -> Fact:
    kept = BODY.values(last.body)
    return Fact(last.version, last.body.status, {name: kept[name] for name in INVOICED})
