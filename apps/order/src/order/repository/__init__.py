"""What the service reads from and writes to its own database.

The protocol's statements are ``tandem.initiator``'s; here is what they are made of, and what orders
and operations are listed by.
"""

from order.repository.archive import OperationsArchive
from order.repository.idempotency_keys import IdempotencyKeys
from order.repository.operations import OperationRecord, Operations, page_of_operations
from order.repository.orders import Orders, page_of_orders
from order.repository.schema import ORDERS, Journal

__all__ = [
    "ORDERS",
    "IdempotencyKeys",
    "Journal",
    "OperationRecord",
    "Operations",
    "OperationsArchive",
    "Orders",
    "page_of_operations",
    "page_of_orders",
]
