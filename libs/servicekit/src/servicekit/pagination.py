"""Keyset pages: opaque cursors that stay right while rows come and go."""

import base64
import binascii
import hashlib
import hmac
import json
from typing import Annotated, Final, Generic, TypeVar

from pydantic import BaseModel, Field, WithJsonSchema

from servicekit.problems import ValidationFailed

DEFAULT_LIMIT: Final = 50
MAXIMUM_LIMIT: Final = 200
MAXIMUM_CURSOR_LENGTH: Final = 2048
_CHECK_BYTES: Final = 8
Cursor = Annotated[
    str,
    Field(max_length=MAXIMUM_CURSOR_LENGTH),
    WithJsonSchema(
        {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": MAXIMUM_CURSOR_LENGTH}
    ),
]
"""Where a page begins, as the page before said it."""

Item = TypeVar("Item", bound=BaseModel)


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null: end.")


class CursorCodec:
    """Turns the position after a row into an opaque text and back.

    The text carries a check over itself and over what the list shows, so that a changed cursor, or
    one of another list or filter, is refused instead of giving a page from nowhere. It is no
    secret: a client learns nothing from it that the page did not say.
    """

    def __init__(self, scope: str) -> None:
        """Serve the list that ``scope`` names, its filters included."""
        self._key = hashlib.sha256(scope.encode()).digest()

    def encode(self, *position: str) -> str:
        """Return the cursor that continues after ``position``."""
        payload = json.dumps(position, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._check(payload) + payload).rstrip(b"=").decode()

    def decode(self, cursor: str, *, parts: int) -> tuple[str, ...]:
        """Return the position that ``encode`` was given.

        Args:
            cursor: what the client sent back.
            parts: how many values a position of this list has.

        Raises:
            ValidationFailed: the cursor was not made here, or for another list.
        """
        refusal = ValidationFailed.of("cursor", "is not a cursor of this list")
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise refusal from error
        check, payload = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        if not hmac.compare_digest(check, self._check(payload)):
            raise refusal
        # The check is no secret: whoever has computed it can have put anything under it.
        try:
            position = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise refusal from error
        if not isinstance(position, list) or len(position) != parts:
            raise refusal
        if not all(isinstance(part, str) for part in position):
            raise refusal
        return tuple(position)

    def _check(self, payload: bytes) -> bytes:
        return hashlib.blake2b(payload, key=self._key, digest_size=_CHECK_BYTES).digest()
