"""Where an audit reads from: the services over HTTP, or their databases."""

from collections.abc import AsyncIterator
from typing import Protocol
from uuid import UUID

from order.audit.facts import Fact, Step


class SourceUnavailable(Exception):
    """One side cannot be read, so nothing can be said."""


class OrderSource(Protocol):
    """The orders, at their last committed versions."""

    def orders(self) -> AsyncIterator[tuple[UUID, Fact]]:
        """Iterate over all orders, page by page."""
        ...

    async def order(self, order_id: UUID) -> Fact | None:
        """Return one order."""
        ...

    def pending(self) -> AsyncIterator[tuple[UUID, Step]]:
        """Iterate over all pending operations by the order's id, page by page."""
        ...

    async def history(self, order_id: UUID) -> tuple[Step, ...]:
        """Return an order's operations, the oldest first."""
        ...


class InvoiceSource(Protocol):
    """The invoices of orders."""

    def invoices(self) -> AsyncIterator[tuple[UUID, Fact]]:
        """Iterate over all invoices of orders by the order's id, page by page."""
        ...

    async def invoice(self, order_id: UUID) -> Fact | None:
        """Return the invoice of one order."""
        ...
