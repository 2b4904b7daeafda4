"""Idempotency keys (draft-ietf-httpapi-idempotency-key-header) and the answers kept under them."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import WithJsonSchema
from starlette.datastructures import Headers
from starlette.responses import Response

from servicekit.problems import ValidationFailed

HEADER: Final = "Idempotency-Key"
MAXIMUM_LENGTH: Final = 255
# The draft makes the value a structured-field string (RFC 8941, 3.3.3). Most clients in the field,
# ours among them, send it bare, so both are taken and mean the same key.
_QUOTED: Final = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE: Final = re.compile(r"[\x21\x23-\x7e]+")
_PATTERN: Final = (
    rf'^("([ !#-\[\]-~]|\\["\\]){{1,{MAXIMUM_LENGTH}}}"|[!#-~]{{1,{MAXIMUM_LENGTH}}})$'
)
KeyHeader = Annotated[str, WithJsonSchema({"type": "string", "pattern": _PATTERN})]
"""The header's value as the API's document describes it; ``parse_key`` says what is wrong."""
_ESCAPE: Final = re.compile(r"\\(.)")


def parse_key(value: str) -> str:
    """Return the key that a header's value means, without quotes or escapes.

    Raises:
        ValidationFailed: it is empty, longer than 255 characters, or not a string of visible ASCII.
    """
    text = value.strip()
    if match := _QUOTED.fullmatch(text):
        key = _ESCAPE.sub(r"\1", match.group(1))
    elif _BARE.fullmatch(text):
        key = text
    else:
        raise ValidationFailed.of(HEADER, "must be a string of visible ASCII characters")
    if not 0 < len(key) <= MAXIMUM_LENGTH:
        raise ValidationFailed.of(HEADER, f"must have 1 to {MAXIMUM_LENGTH} characters")
    return key


def require_one_line(headers: Headers, *names: str) -> None:
    """Refuse several lines of a header that has one value: any of them could be meant.

    Raises:
        ValidationFailed: a header of ``names`` comes more than once.
    """
    for name in names:
        if len(headers.getlist(name)) > 1:
            raise ValidationFailed.of(name, "must not be given more than once")


def request_hash(operation: str, content: Mapping[str, Any]) -> bytes:
    """Return the SHA-256 of what a request means, for telling a retry from a reused key.

    Args:
        operation: the method and the route's template, for example ``PATCH /invoices/{id}``.
        content: the validated parameters; equal meaning must give equal text under ``str``, so
            amounts are quantized first. Key order does not matter.
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(f"{operation}\n{canonical}".encode()).digest()


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer kept with an operation and replayed byte for byte."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def to_response(self) -> Response:
        """Return the HTTP response: exactly these headers and bytes."""
        replay = Response(content=self.body, status_code=self.status)
        kept = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in self.headers
        ]
        # RFC 9110, 8.6: no Content-Length in a 204.
        length = [] if self.status == 204 else [(b"content-length", b"%d" % len(self.body))]  # noqa: PLR2004
        replay.raw_headers = kept + length
        return replay
