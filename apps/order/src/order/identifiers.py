"""Ids of operations: each says by itself that it was made here, and when.

A client can hold the id of an operation that is not recorded yet, or never will be, since an answer
that says so was sent when the database did not say which. Its page must not take such an id for a
mistake of the client's.
"""

import hashlib
import secrets
import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

_VERSION: Final = 8  # RFC 9562, 5.8: a layout of one's own
_TIME_BYTES: Final = 6
_CHECK_BYTES: Final = 2
_CHECK_INPUT: Final = b"shop-order operation "


def new_operation_id() -> UUID:
    """Return a new id: 48 bits of Unix milliseconds, 58 random bits and a check over both."""
    milliseconds = time.time_ns() // 1_000_000
    head = milliseconds.to_bytes(_TIME_BYTES) + secrets.token_bytes(16 - _TIME_BYTES)
    shaped = bytearray(head)
    shaped[6] = (shaped[6] & 0x0F) | (_VERSION << 4)
    shaped[8] = (shaped[8] & 0x3F) | 0x80
    body = bytes(shaped[:-_CHECK_BYTES])
    return UUID(bytes=body + _check(body))


def made_at(op_id: UUID) -> datetime | None:
    """Return when ``new_operation_id`` made this id, None if it did not."""
    body, check = op_id.bytes[:-_CHECK_BYTES], op_id.bytes[-_CHECK_BYTES:]
    if op_id.version != _VERSION or check != _check(body):
        return None
    milliseconds = int.from_bytes(body[:_TIME_BYTES])
    try:
        return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (OverflowError, ValueError):
        return None  # somebody has computed the check


def _check(body: bytes) -> bytes:
    return hashlib.sha256(_CHECK_INPUT + body).digest()[:_CHECK_BYTES]
