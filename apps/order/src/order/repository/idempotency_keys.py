"""The table of idempotency keys: which request a key stands for, and where its answer is."""

from sqlalchemy.ext.asyncio import AsyncConnection

from order.repository.schema import ORDERS
from tandem.initiator.keys import Keys


class IdempotencyKeys(Keys):
    """Reads and writes idempotency keys on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__(ORDERS, connection)
