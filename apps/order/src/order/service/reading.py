"""Reads: the last committed state, without any lock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from order.database import OrderDatabase
from order.domain import Order
from order.errors import OperationNotFound, OrderNotFound
from order.identifiers import made_at
from order.ports import Unrecorded
from order.repository import (
    OperationRecord,
    Operations,
    OperationsArchive,
    page_of_operations,
    page_of_orders,
)
from order.transactions import answering, reading_back
from servicekit.auth.principal import Principal
from servicekit.walks import Walk
from tandem.operation import State

_PROBE_SECONDS: Final = 0.3
"""How long a page waits for a transaction that may be recording its operation."""
_NO_OPERATION: Final = "There is no operation with this id, nor will there be one."
_REMEMBERED: Final = timedelta(days=1)
"""How long an operation that was never recorded has a page that says so; then it is 404."""


class Reading:
    """Reads orders and operations.

    Args:
        database: the order database.
        until: until when an operation may be recorded, by its id.
    """

    def __init__(self, database: OrderDatabase, *, until: Callable[[UUID], datetime]) -> None:
        self._until = until
        self._engine = database.engine
        self._store = database.store
        self._journal = database.journal

    async def order(self, order_id: UUID) -> Order:
        """Return one order.

        Raises:
            OrderNotFound: there is none, or its creation is not committed.
        """
        with answering():
            order = await self._journal.subject(self._store, order_id)
        if order is None:
            raise OrderNotFound("There is no order with this id.")
        return order

    async def orders(
        self, *, after: Walk | None, user_id: UUID | None, limit: int
    ) -> tuple[list[Order], Walk | None]:
        """Return the next up to ``limit`` orders of a walk, the newest first."""
        with answering():
            return await page_of_orders(self._store.rows, after=after, user_id=user_id, limit=limit)

    async def operation(self, op_id: UUID, *, asked_by: Principal) -> OperationRecord | Unrecorded:
        """Return one operation, also one that an answer has named and that is not recorded.

        Raises:
            OperationNotFound: there is none and there will be none, or it is another client's.
        """
        with answering():
            record = await self._journal.operation(self._store, op_id)
        if record is None:
            async with reading_back(self._engine) as connection:
                record = await OperationsArchive(connection).find(op_id)
        if record is not None:
            if not asked_by.owns(record.client):
                raise OperationNotFound(_NO_OPERATION)
            return record
        made = made_at(op_id)
        if made is None or datetime.now(UTC) - made > _REMEMBERED:
            raise OperationNotFound(_NO_OPERATION)
        async with reading_back(self._engine) as connection:
            may_come = await Operations(connection).may_be_recorded(
                op_id, until=self._until(op_id), wait_seconds=_PROBE_SECONDS
            )
        return Unrecorded(op_id, may_come=may_come)

    async def operations(
        self,
        *,
        after: Walk | None,
        state: State | None,
        order_id: UUID | None,
        client: str | None,
        limit: int,
    ) -> tuple[list[OperationRecord], Walk | None]:
        """Return the next up to ``limit`` operations of a walk, the oldest first.

        Args:
            after: where the walk stands.
            state: only those in it.
            order_id: only those of this order.
            client: only those that it has begun; None for those of all.
            limit: how many at most.
        """
        with answering():
            return await page_of_operations(
                self._store.rows,
                after=after,
                state=state,
                order_id=order_id,
                client=client,
                limit=limit,
            )
