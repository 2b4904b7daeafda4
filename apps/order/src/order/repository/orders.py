"""The table of orders."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CheckConstraint, ColumnElement, and_, func, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from order.domain import Body, Operation, Order, Status
from order.models import orders
from order.repository.payload import to_columns
from servicekit.walks import Listing, Rows, Walk, this_transaction

_LISTING: Final = Listing(
    created_at=orders.c.created_at, row_id=orders.c.id, made_by=orders.c.created_by_xid
)


class Orders:
    """Reads and writes orders on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def lock(self, order_id: UUID) -> Order | None:
        """Return the order with its row locked until the transaction ends, at any version."""
        statement = select(orders).where(orders.c.id == order_id).with_for_update()
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else order_of(row)

    async def lock_at(self, order_id: UUID) -> tuple[Order | None, datetime]:
        """Return the same, and the time of this transaction by the database's clock."""
        statement = select(orders, func.now().label("moment")).where(orders.c.id == order_id)
        row = (await self._connection.execute(statement.with_for_update())).one_or_none()
        if row is None:
            return None, datetime.max.replace(tzinfo=UTC)
        return order_of(row), row.moment

    async def now(self) -> datetime:
        """Return the time of this transaction by the database's clock."""
        return (await self._connection.execute(select(func.now()))).scalar_one()

    async def reserve(self, order_id: UUID, body: Body) -> None:
        """Make the row of an order whose creation is about to be recorded, if it is not there.

        It waits for another transaction that is making the same row.
        """
        statement = (
            postgresql.insert(orders)
            .values(id=order_id, version=0, **to_columns(body))
            .on_conflict_do_nothing(constraint="orders_pkey")
        )
        await self._connection.execute(statement)

    async def mark_pending(self, operation: Operation) -> None:
        """Note on the order which operation is on its way."""
        await self._connection.execute(
            update(orders).where(orders.c.id == operation.order_id).values(pending_op=operation.id)
        )

    async def advance(self, operation: Operation) -> Order | None:
        """Bring the order from the version before the operation's to its; None if it was not there.

        The version is compared in the same statement: of two that try, one changes the row.
        """
        statement = (
            update(orders)
            .where(
                and_(
                    orders.c.id == operation.order_id,
                    orders.c.version == operation.version - 1,
                    orders.c.pending_op == operation.id,
                )
            )
            .values(
                version=operation.version,
                pending_op=None,
                # An order's creation and its first update are the same moment.
                **(
                    {"created_by_xid": this_transaction()}
                    if operation.version == 1
                    else {"updated_at": func.now()}
                ),
                **to_columns(operation.body),
            )
            .returning(orders)
        )
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else order_of(row)

    async def restore(self, operation: Operation) -> None:
        """Write what the order's last committed operation says into its row again."""
        await self._connection.execute(
            update(orders)
            .where(orders.c.id == operation.order_id)
            .values(version=operation.version, **to_columns(operation.body))
        )

    async def unmark_pending(self, operation: Operation) -> None:
        """Forget an operation that came to nothing."""
        await self._connection.execute(
            update(orders)
            .where(orders.c.id == operation.order_id, orders.c.pending_op == operation.id)
            .values(pending_op=None)
        )


def admitted() -> ColumnElement[bool]:
    """Return what the table demands of a row, about columns that have the names of its own."""
    return and_(
        *(
            text(str(constraint.sqltext))
            for constraint in sorted(orders.constraints, key=lambda each: str(each.name))
            if isinstance(constraint, CheckConstraint)
        )
    )


async def page_of_orders(
    rows_of: Rows, *, after: Walk | None, user_id: UUID | None, limit: int
) -> tuple[list[Order], Walk | None]:
    """Return the next up to ``limit`` committed orders of a walk, the newest first."""
    statement = select(orders).where(orders.c.version > 0)
    if user_id is not None:
        statement = statement.where(orders.c.user_id == user_id)
    rows, walk = await _LISTING.page(rows_of, statement, after=after, limit=limit)
    return [order_of(row) for row in rows], walk


def order_of(row: Any) -> Order:  # noqa: ANN401 (a row of SQLAlchemy's or of psycopg's)
    """Return the order that a row holds."""
    body = Body(
        user_id=row.user_id,
        item_id=row.item_id,
        quantity=row.quantity,
        value=row.value,
        status=Status(row.status),
        update_time=row.update_time,
    )
    return Order(
        id=row.id,
        version=row.version,
        body=body,
        pending_op=row.pending_op,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
