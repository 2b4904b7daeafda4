"""The headers by which both sides understand each other, and what errors are in HTTP."""

from typing import Final

from sqlalchemy.exc import IntegrityError

from tandem import errors

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
"""The operation's id: whoever sends it twice is answered twice, and nothing is done twice."""
IF_MATCH: Final = "If-Match"
"""The version that the operation builds on."""
LOCK_TOKEN: Final = "Lock-Token"  # noqa: S105 (a header's name)
"""The proof that the caller holds the locks."""
OPERATION_OUTCOME: Final = "Operation-Outcome"
"""What is recorded; an answer without it decides nothing."""
OPERATION_ID: Final = "Operation-Id"
"""Of which operation that is; an answer about another one decides nothing."""

NOTHING_WRITTEN: Final = {
    errors.Locked: 423,
    errors.KeyReused: 422,
    errors.Unstorable: 422,
    IntegrityError: 422,
    errors.StillRunning: 409,
    errors.GivenUp: 503,
    errors.LocksUnavailable: 503,
    errors.DatabaseUnavailable: 503,
    errors.PredecessorUnfinished: 503,
}
"""Statuses of what an initiator raises when a change was refused and nothing was written."""
