"""What an operation is, in words that both sides share; no I/O."""

from enum import StrEnum
from typing import Final, NamedTuple

FIRST_VERSION: Final = 1
NO_FENCE: Final = 0
"""The fence of a change that needed no lock."""


class Kind(StrEnum):
    """What an operation does to its subject."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    ABORT = "abort"
    """Nothing: a tombstone in the place of an operation that must never be applied."""


STATUSES: Final = {Kind.CREATE: "created", Kind.UPDATE: "updated", Kind.DELETE: "deleted"}
"""What the column ``status`` of a subject says after an operation of a kind."""


class State(StrEnum):
    """How far an operation has come here."""

    PENDING = "pending"
    COMMITTED = "committed"
    REJECTED = "rejected"


class Outcome(StrEnum):
    """What the decider has recorded for an operation, for good."""

    APPLIED = "applied"
    REJECTED = "rejected"
    ABORTED = "aborted"


class Refusal(StrEnum):
    """Why a subject cannot be changed as asked."""

    NOT_FOUND = "not_found"
    EXISTS = "exists"
    DELETED = "deleted"
    WRONG_VERSION = "wrong_version"
    STALE_FENCE = "stale_fence"


class Answer(NamedTuple):
    """An HTTP answer as it is kept: a repetition gets these very headers and bytes."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
