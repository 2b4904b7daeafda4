"""Ids of operations: each says by itself that it was made here, and when.

A client can hold the id of an operation that is not recorded yet, or never will be, since an answer
that says so was sent when the database did not say which. Its page must not take such an id for a
mistake of the client's.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tandem.initiator.journal import ALWAYS

_VERSION: Final = 8  # RFC 9562, 5.8: a layout of one's own
_TIME_BYTES: Final = 6
_CHECK_BYTES: Final = 2
# If they differ more, the careful path records what is in time; it only costs more.
_CLOCKS_DIFFER_SECONDS: Final = 1.0
_CHECK_INPUT: Final = b"shop-order operation "


def new_operation_id(*, at: datetime | None = None) -> UUID:
    """Return a new id: 48 bits of Unix milliseconds, 58 random bits and a check over both.

    Args:
        at: when it is made, if not now.
    """
    milliseconds = time.time_ns() // 1_000_000 if at is None else int(at.timestamp() * 1000)
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


def recordable_until(*, timeout_seconds: float) -> Callable[[UUID], datetime]:
    """Return what says, by an operation's id, until when the database may still record it.

    A request whose time is up is answered, and what it has sent may be on its way yet: in a
    network that holds it back, or in the queue of a database that stands still. What comes later
    than this is not done, so that from then on the operation's page can say that it never will be.

    Args:
        timeout_seconds: the longest time a request may take.
    """
    span = timedelta(seconds=timeout_seconds + _CLOCKS_DIFFER_SECONDS)

    def until(op_id: UUID) -> datetime:
        made = made_at(op_id)
        # One that was not made here has no page that would have to know.
        return ALWAYS if made is None else made + span

    return until


def _check(body: bytes) -> bytes:
    return hashlib.sha256(_CHECK_INPUT + body).digest()[:_CHECK_BYTES]
