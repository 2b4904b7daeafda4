"""The table of orders."""

from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from order.domain import Operation, Order
from order.models import orders
from order.repository.schema import ORDERS, order_of
from servicekit.walks import Listing, Rows, Walk
from tandem.initiator.subjects import Subjects

_LISTING: Final = Listing(
    created_at=orders.c.created_at, row_id=orders.c.id, made_by=orders.c.created_by_xid
)


class Orders(Subjects[Operation, Order]):
    """Reads and writes orders on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__(ORDERS, connection)


async def page_of_orders(
    rows_of: Rows, *, after: Walk | None, user_id: UUID | None, limit: int
) -> tuple[list[Order], Walk | None]:
    """Return the next up to ``limit`` committed orders of a walk, the newest first."""
    statement = select(orders).where(orders.c.version > 0)
    if user_id is not None:
        statement = statement.where(orders.c.user_id == user_id)
    rows, walk = await _LISTING.page(rows_of, statement, after=after, limit=limit)
    return [order_of(row) for row in rows], walk
