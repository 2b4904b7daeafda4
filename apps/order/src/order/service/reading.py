"""Reads: the last committed state, without any lock."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from order.domain import Order, State
from order.errors import OperationNotFound, OrderNotFound
from order.repository import OperationRecord, Operations, Orders
from order.transactions import reading

Position = tuple[datetime, UUID]
"""Where a page ends: when its last row was made, and the row's id."""


class Reading:
    """Reads orders and operations.

    Args:
        engine: the order database.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def order(self, order_id: UUID) -> Order:
        """Return one order.

        Raises:
            OrderNotFound: there is none, or its creation is not committed.
        """
        async with reading(self._engine) as connection:
            order = await Orders(connection).find(order_id)
        if order is None:
            raise OrderNotFound("There is no order with this id.")
        return order

    async def orders(
        self, *, after: Position | None, user_id: UUID | None, limit: int
    ) -> list[Order]:
        """Return up to ``limit`` orders after a position, the oldest first."""
        async with reading(self._engine) as connection:
            return await Orders(connection).page(after=after, user_id=user_id, limit=limit)

    async def operation(self, op_id: UUID) -> OperationRecord:
        """Return one operation.

        Raises:
            OperationNotFound: there is none.
        """
        async with reading(self._engine) as connection:
            record = await Operations(connection).find(op_id)
        if record is None:
            raise OperationNotFound("There is no operation with this id.")
        return record

    async def operations(
        self, *, after: Position | None, state: State | None, order_id: UUID | None, limit: int
    ) -> list[OperationRecord]:
        """Return up to ``limit`` operations after a position, the oldest first."""
        async with reading(self._engine) as connection:
            return await Operations(connection).page(
                after=after, state=state, order_id=order_id, limit=limit
            )
