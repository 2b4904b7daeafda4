"""Find every order whose two sides disagree, on a live system, without a lock.

First all orders and all invoices are read, page by page, and compared. While that goes on things
move, so what seems to differ is only a suspect. Each suspect is then looked at by itself until the
order's history stands still around a look at both sides. An operation that is pending for longer
than any trouble should last is a finding by itself: nothing waits for it but a person.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from order.audit.facts import Difference, DifferenceKind, Fact, Findings, Step, compare
from order.audit.sources import InvoiceSource, OrderSource
from tandem.operation import Outcome, State

_LOOKS: Final = 20
_PAUSE_SECONDS: Final = 0.25


class Outcomes(Protocol):
    """What the invoice service has recorded for operations; only its database can be asked so."""

    async def outcomes(self, order_id: UUID, op_ids: list[UUID]) -> dict[UUID, Outcome]:
        """Return what is recorded for these operations of an order, on its own invoice."""
        ...


class Comparison:
    """Compares orders with invoices.

    Args:
        orders: where orders are read.
        invoices: where invoices are read.
        outcomes: where recorded outcomes are read; without it histories are not compared.
        pending_at_most: how long an operation may be on its way.
    """

    def __init__(
        self,
        orders: OrderSource,
        invoices: InvoiceSource,
        *,
        outcomes: Outcomes | None = None,
        pending_at_most: timedelta,
    ) -> None:
        self._orders = orders
        self._invoices = invoices
        self._outcomes = outcomes
        self._pending_at_most = pending_at_most

    async def run(self) -> Findings:
        """Compare everything.

        Raises:
            SourceUnavailable: one side cannot be read.
        """
        findings = Findings()
        for order_id in await self._suspects(findings):
            await self._judge(order_id, findings)
        return findings

    async def look(self, order_id: UUID) -> Findings:
        """Compare one order with its invoice."""
        findings = Findings()
        await self._judge(order_id, findings)
        return findings

    async def _suspects(self, findings: Findings) -> list[UUID]:
        """Return what must be looked at by itself."""
        unmatched: dict[UUID, Fact] = {}
        everything: list[UUID] = []
        async for order_id, fact in self._orders.orders():
            unmatched[order_id] = fact
            findings.orders += 1
            if self._outcomes is not None:
                everything.append(order_id)
        suspects: dict[UUID, None] = {}
        async for order_id, fact in self._invoices.invoices():
            findings.invoices += 1
            if unmatched.pop(order_id, None) != fact:
                suspects[order_id] = None
        suspects.update(dict.fromkeys(unmatched))
        suspects.update(dict.fromkeys(everything))
        async for order_id, step in self._orders.pending():
            if self._is_stuck(step):
                suspects[order_id] = None
        return list(suspects)

    async def _judge(self, order_id: UUID, findings: Findings) -> None:
        """Look until the history is the same before and after, or something is on its way."""
        moving = False
        for _ in range(_LOOKS):
            before = await self._orders.history(order_id)
            order = await self._orders.order(order_id)
            invoice = await self._invoices.invoice(order_id)
            difference = (
                self._stuck(order_id, order, invoice, before)
                or compare(order_id, order, invoice)
                or await self._contradiction(order_id, order, invoice, before)
            )
            if difference is None:
                return
            moving = self._is_moving(before) or before != await self._orders.history(order_id)
            if not moving:
                findings.differences.append(_with_history(difference, before))
                return
            await asyncio.sleep(_PAUSE_SECONDS)
        findings.pending += moving

    def _stuck(
        self, order_id: UUID, order: Fact | None, invoice: Fact | None, history: tuple[Step, ...]
    ) -> Difference | None:
        """Return the operation that has been on its way for too long, if there is one."""
        for step in filter(self._is_stuck, history):
            why = f": {step.detail}" if step.detail else ""
            return Difference(
                order_id=order_id,
                kind=DifferenceKind.STUCK,
                order=order,
                invoice=invoice,
                detail=f"operation {step.id} is pending since {step.created_at.isoformat()}{why}",
            )
        return None

    def _is_stuck(self, step: Step) -> bool:
        if step.state is not State.PENDING:
            return False
        return datetime.now(UTC) - step.created_at > self._pending_at_most

    def _is_moving(self, history: tuple[Step, ...]) -> bool:
        return any(step.state is State.PENDING and not self._is_stuck(step) for step in history)

    async def _contradiction(
        self, order_id: UUID, order: Fact | None, invoice: Fact | None, history: tuple[Step, ...]
    ) -> Difference | None:
        """Return where the operations' two ends disagree, although the two sides do not."""
        if self._outcomes is None:
            return None
        finished = [step for step in history if step.state is not State.PENDING]
        recorded = await self._outcomes.outcomes(order_id, [step.id for step in finished])
        for step in finished:
            outcome = recorded.get(step.id)
            if (step.state is State.COMMITTED) != (outcome is Outcome.APPLIED):
                said = "nothing" if outcome is None else outcome.value
                return Difference(
                    order_id=order_id,
                    kind=DifferenceKind.HISTORY,
                    order=order,
                    invoice=invoice,
                    detail=f"operation {step.id} is {step.state.value} here, {said} there",
                )
        return None


def _with_history(difference: Difference, history: tuple[Step, ...]) -> Difference:
    return Difference(
        order_id=difference.order_id,
        kind=difference.kind,
        order=difference.order,
        invoice=difference.invoice,
        detail=difference.detail,
        history=history,
    )
