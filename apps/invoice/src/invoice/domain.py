"""What an invoice is, and by which names it is changed; no I/O and no framework.

Every change is one operation with a version: the operation that makes version ``v`` is allowed on
version ``v - 1`` only, and at most one operation ever makes a given version of an invoice.
"""

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

ORDER_NAMESPACE: Final = uuid.UUID("6f2d6c0e-6a0e-5d5c-9a53-3f0e0b6b5a11")
"""Namespace of the invoice ids that follow from order ids; the order service has it too."""

CLIENT_KEY_NAMESPACE: Final = uuid.uuid5(ORDER_NAMESPACE, "client-key")
"""Namespace of the operation ids that follow from clients' idempotency keys."""

_ID_BYTES: Final = 16
_MARK_BYTES: Final = 6  # 1 in 2.8e14 that two clients share one
_OWN_LAYOUT: Final = 8


class InvoiceStatus(StrEnum):
    """What has become of an invoice."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What an invoice says; an update replaces it, but for what is said for good."""

    user_id: uuid.UUID
    total: Decimal


FOR_GOOD: Final = frozenset({"user_id"})
"""What of it no update changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """An invoice as stored."""

    id: uuid.UUID
    order_id: uuid.UUID | None
    body: Body
    status: InvoiceStatus
    version: int
    fence: int
    created_at: datetime
    updated_at: datetime


def invoice_id_for_order(order_id: uuid.UUID) -> uuid.UUID:
    """Return the id of an order's invoice, so that both can be locked before either exists."""
    return uuid.uuid5(ORDER_NAMESPACE, str(order_id))


def operation_id_for_key(key: str) -> uuid.UUID:
    """Return the operation id of an idempotency key: the key itself if it is a UUID."""
    return parse_uuid(key) or uuid.uuid5(CLIENT_KEY_NAMESPACE, key)


def operation_id_of_client(client: str, key: str | None) -> uuid.UUID:
    """Return the operation id of a client's idempotency key, or a new one without a key.

    It begins with a mark of the client, so no client's key ever leads to another one's operation,
    and an id says by itself whose operation it is.
    """
    rest = secrets.token_bytes(_ID_BYTES)
    if key is not None:
        rest = _digest(b"key", client, key)[:_ID_BYTES]
    raw = bytearray(_mark(client) + rest[len(_mark(client)) :])
    raw[6] = (raw[6] & 0x0F) | 0x80  # version 8: a layout of one's own (RFC 9562, 5.8)
    raw[8] = (raw[8] & 0x3F) | 0x80
    return uuid.UUID(bytes=bytes(raw))


def is_operation_of(client: str, op_id: uuid.UUID) -> bool:
    """Tell whether ``operation_id_of_client`` made this id for the client."""
    return op_id.version == _OWN_LAYOUT and op_id.bytes.startswith(_mark(client))


def _mark(client: str) -> bytes:
    return _digest(b"client", client)[:_MARK_BYTES]


def _digest(purpose: bytes, *texts: str) -> bytes:
    digest = hashlib.sha256(purpose)
    for text in texts:
        # With its length, so that no two lists of texts read alike.
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8) + encoded)
    return digest.digest()


def parse_uuid(text: str) -> uuid.UUID | None:
    """Return the UUID in its canonical form of 36 characters, in either case, or None."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return None
    return parsed if str(parsed) == text.lower() else None


def lock_names(invoice_id: uuid.UUID, order_id: uuid.UUID | None) -> tuple[str, ...]:
    """Return the lock names that a change of the invoice demands.

    An order's invoice is locked together with its order; the braces keep both names on one node of
    a Redis Cluster.
    """
    if order_id is None:
        return (f"invoice:{{{invoice_id}}}",)
    return (f"order:{{{order_id}}}", f"invoice:{{{order_id}}}")
