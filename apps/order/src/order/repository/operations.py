"""The table of operations: the journal of what was meant, and what became of it."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from psycopg.errors import LockNotAvailable
from sqlalchemy import func, literal, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from order.domain import Kind, Operation
from order.fields import BODY
from order.models import operations
from order.repository.schema import ORDERS, operation_of
from servicekit.database import constraint_name
from servicekit.walks import Listing, Rows, Walk
from tandem.initiator import operations as protocol
from tandem.initiator import records
from tandem.operation import State

OperationRecord = records.OperationRecord[Operation]
# From the begin of a statement, which is what its time is compared with, to its first row.
_EXECUTION: Final = timedelta(seconds=2)
_LISTING: Final = Listing(
    created_at=operations.c.created_at,
    row_id=operations.c.op_id,
    made_by=operations.c.created_by_xid,
    newest_first=False,
)


class Operations(protocol.Operations[Operation]):
    """Reads and writes operations on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__(ORDERS, connection)

    async def may_be_recorded(self, op_id: UUID, *, until: datetime, wait_seconds: float) -> bool:
        """Tell whether the operation may still be recorded, or is at this moment.

        The caller has looked for it, and rolls back. Before the end of its time a statement may be
        on its way. After that a transaction may be going on yet: it is found out by recording it
        again, for an order that cannot be. That fails unless somebody else was there first, or is
        about to.

        Args:
            op_id: the operation.
            until: the end of its time.
            wait_seconds: how long to wait for such a transaction.
        """
        limit = f"{round(wait_seconds * 1000)}ms"
        preparing = select(
            func.set_config("lock_timeout", limit, literal(value=True)),
            (func.clock_timestamp() < until + _EXECUTION).label("in_time"),
        )
        if (await self._connection.execute(preparing)).one().in_time:
            return True
        probe = postgresql.insert(operations).values(
            op_id=op_id,
            order_id=UUID(int=0),
            invoice_id=UUID(int=0),
            kind=Kind.CREATE.value,
            version=1,
            payload=dict.fromkeys(BODY.required),
            next_attempt_at=func.now(),
        )
        try:
            await self._connection.execute(probe)
        except IntegrityError as error:
            # Its own id is taken: it was recorded at this very moment.
            return constraint_name(error) != "operations_order_id_fkey"
        except OperationalError as error:
            if isinstance(error.orig, LockNotAvailable):
                return True
            raise
        raise AssertionError("an operation was recorded without an order")


async def page_of_operations(
    rows_of: Rows,
    *,
    after: Walk | None,
    state: State | None,
    order_id: UUID | None,
    limit: int,
    client: str | None = None,
) -> tuple[list[OperationRecord], Walk | None]:
    """Return the next up to ``limit`` operations of a walk, the oldest first."""
    statement = select(operations)
    if state is not None:
        # The literal, not a parameter: only so can the planner use a partial index.
        statement = statement.where(operations.c.state == text(f"'{state.value}'"))
    if order_id is not None:
        statement = statement.where(operations.c.order_id == order_id)
    if client is not None:
        statement = statement.where(operations.c.client == client)
    rows, walk = await _LISTING.page(rows_of, statement, after=after, limit=limit)
    return [records.record_of(row, operation_of(row)) for row in rows], walk
