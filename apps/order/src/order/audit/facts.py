"""What an audit knows about one order, one invoice, and where they disagree."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from order.domain import Kind, Status
from tandem.operation import State


@dataclass(frozen=True, slots=True)
class Fact:
    """The side of an order, or of its invoice, that both must agree on."""

    version: int
    status: Status
    content: Mapping[str, Any]
    """What both have of the order's body."""

    def parts(self) -> dict[str, Any]:
        """Return all that is compared, by name."""
        return {"version": self.version, "status": self.status, **self.content}


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of an order's history."""

    id: UUID
    kind: Kind
    state: State
    version: int
    created_at: datetime
    finished_at: datetime | None
    detail: str | None


class DifferenceKind(StrEnum):
    """How an order and its invoice disagree."""

    MISSING_INVOICE = "missing_invoice"
    MISSING_ORDER = "missing_order"
    INVOICE_BEHIND = "invoice_behind"
    INVOICE_AHEAD = "invoice_ahead"
    CONTENT = "content"
    HISTORY = "history"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An order and an invoice that disagree although nothing is on its way between them.

    Or, if it is ``STUCK``, between which something has been on its way for too long.
    """

    order_id: UUID
    kind: DifferenceKind
    order: Fact | None
    invoice: Fact | None
    detail: str
    history: tuple[Step, ...] = ()


@dataclass(slots=True)
class Findings:
    """What an audit has found."""

    orders: int = 0
    invoices: int = 0
    pending: int = 0
    """Orders whose sides differ because an operation is on its way, not for long; no difference."""
    differences: list[Difference] = field(default_factory=list)


def compare(order_id: UUID, order: Fact | None, invoice: Fact | None) -> Difference | None:
    """Return how the two sides of an order disagree, None if they do not."""
    if order == invoice:
        return None
    kind, detail = _describe(order, invoice)
    return Difference(order_id=order_id, kind=kind, order=order, invoice=invoice, detail=detail)


def _describe(order: Fact | None, invoice: Fact | None) -> tuple[DifferenceKind, str]:
    if order is None:
        return DifferenceKind.MISSING_ORDER, "there is an invoice, but no order"
    if invoice is None:
        return DifferenceKind.MISSING_INVOICE, "there is an order, but no invoice"
    if invoice.version < order.version:
        kind = DifferenceKind.INVOICE_BEHIND
    elif invoice.version > order.version:
        kind = DifferenceKind.INVOICE_AHEAD
    else:
        kind = DifferenceKind.CONTENT
    there = invoice.parts()
    parts = [
        f"{name} {here} in the order, {there[name]} in the invoice"
        for name, here in order.parts().items()
        if here != there[name]
    ]
    return kind, "; ".join(parts)
