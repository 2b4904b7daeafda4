"""What the service reads from and writes to its own database.

The journal has the statements of the usual path, each a transaction by itself. The careful path has
one class a table, which works on the connection it is given and begins and ends no transaction.
"""

from order.repository.idempotency_keys import IdempotencyKeys, Key, KnownKey
from order.repository.journal import Journal
from order.repository.operations import (
    CHANNEL,
    Backlog,
    OperationRecord,
    Operations,
    Unstorable,
    page_of_operations,
)
from order.repository.orders import Orders, page_of_orders

__all__ = [
    "CHANNEL",
    "Backlog",
    "IdempotencyKeys",
    "Journal",
    "Key",
    "KnownKey",
    "OperationRecord",
    "Operations",
    "Orders",
    "Unstorable",
    "page_of_operations",
    "page_of_orders",
]
