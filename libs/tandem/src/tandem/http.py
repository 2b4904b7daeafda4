"""The headers by which both sides understand each other."""

from typing import Final

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
"""The operation's id: whoever sends it twice is answered twice, and nothing is done twice."""
IF_MATCH: Final = "If-Match"
"""The version that the operation builds on."""
LOCK_TOKEN: Final = "Lock-Token"  # noqa: S105 (a header's name)
"""The proof that the caller holds the locks."""
OPERATION_OUTCOME: Final = "Operation-Outcome"
"""What is recorded; an answer without it decides nothing."""
