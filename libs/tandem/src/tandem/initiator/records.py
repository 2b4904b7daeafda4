"""What the initiator's tables hold beside the subjects themselves; no I/O."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic
from uuid import UUID

from tandem.initiator.subject import OpT
from tandem.operation import Answer, State

ANSWER: Final = ("response_status", "response_headers", "response_body")
"""The columns of an answer, of an operation as of an idempotency key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A client's name for one request, with the hash of what it asks for."""

    client: str
    value: str
    request_hash: bytes

    @classmethod
    def of(cls, value: str | None, *asked: object, client: str = "") -> "Key | None":
        """Return the key of a request that asks for ``asked``, None if it has none.

        Args:
            value: what the client calls the request.
            asked: what it asks for; what means the same must have the same ``repr``.
            client: whose key it is.
        """
        if value is None:
            return None
        return cls(client, value, hashlib.sha256(repr(asked).encode()).digest())


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that was used before: the request it stood for and, once there is one, the answer."""

    request_hash: bytes
    op_id: UUID | None
    response: Answer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRecord(Generic[OpT]):
    """An operation with what is known of its progress."""

    operation: OpT
    state: State
    response: Answer | None
    attempts: int
    next_attempt_at: datetime
    last_error: str | None
    client: str
    traceparent: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many operations are pending, and how old the oldest is."""

    pending: int
    oldest_seconds: float


def answer_columns(response: Answer) -> dict[str, Any]:
    """Return an answer as the columns of an operation or of an idempotency key."""
    return {
        "response_status": response.status,
        "response_headers": [list(header) for header in response.headers],
        "response_body": response.body,
    }


def answer_in(row: Any) -> Answer | None:  # noqa: ANN401 (a row of SQLAlchemy's or of psycopg's)
    """Return the answer a row holds, of an operation or of an idempotency key."""
    if row.response_status is None:
        return None
    headers = tuple((name, value) for name, value in row.response_headers)
    return Answer(row.response_status, headers, bytes(row.response_body))


def record_of(row: Any, operation: OpT) -> OperationRecord[OpT]:  # noqa: ANN401
    """Return what a row says of an operation that it holds."""
    return OperationRecord(
        operation=operation,
        state=State(row.state),
        response=answer_in(row),
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        last_error=row.last_error,
        client=row.client,
        traceparent=row.traceparent,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def key_columns(key: Key) -> Mapping[str, Any]:
    """Return a key as the columns that name it."""
    return {
        "client": key.client,
        "idempotency_key": key.value,
        "request_hash": key.request_hash,
    }
