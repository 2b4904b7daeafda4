"""What the service reads from and writes to its own database, one class a table.

Nothing here begins or ends a transaction: each class works on the connection it is given.
"""

from order.repository.idempotency_keys import IdempotencyKeys, Key, KnownKey
from order.repository.operations import (
    CHANNEL,
    Backlog,
    OperationRecord,
    Operations,
    Unstorable,
)
from order.repository.orders import Orders

__all__ = [
    "CHANNEL",
    "Backlog",
    "IdempotencyKeys",
    "Key",
    "KnownKey",
    "OperationRecord",
    "Operations",
    "Orders",
    "Unstorable",
]
