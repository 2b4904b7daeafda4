"""What goes wrong with a database, and what to make of it.

::

    psycopg.OperationalError
    └── NoConnectionFree     every connection was in use for as long as one was waited for

    GivenUp                  the time ran out before anything was written
    CommitUnknown            whether it was written could not be found out in time
    StaleFence               a newer lock has written before; nothing was recorded
    ChangedMeanwhile         the subject changed at this moment; nothing was recorded

    Locked                   somebody else holds the locks; nothing was written
    LocksUnavailable         the locks cannot be had; nothing was written
    LeaseLost                the locks were lost before they were released
    DatabaseUnavailable      the database does not answer; nothing was written
    PredecessorUnfinished    an earlier change cannot be finished yet; nothing was written
    KeyReused                the idempotency key belongs to another request
    StillRunning             the request with this idempotency key is still being worked on
    Unstorable               the subject could not be completed with what the operation says
    RecordUnknown            whether an operation was recorded cannot be told now
    OutcomeUnknown           what the decider has recorded cannot be told now
    ProtocolViolated         what the protocol rules out has happened
"""

from typing import Final
from uuid import UUID

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# SQLSTATE classes and codes after which the same work may be tried again (Postgres, appendix A):
# connection exceptions, insufficient resources, operator intervention (shutdown, cancelled
# statement), serialization failure, deadlock, lock not available, read-only after a failover, a
# transaction that stood still or took too long, as that of a process which was paused.
_TRANSIENT_CLASSES: Final = ("08", "53", "57")
_TRANSIENT_STATES: Final = frozenset({"40001", "40P01", "55P03", "25006", "25P03", "25P04"})

_LONGEST_TEXT: Final = 500

DATABASE_ERRORS: Final = (psycopg.Error, DBAPIError, PoolTimeout)
"""What a database, or the way to it, can raise, by psycopg or by SQLAlchemy."""


class NoConnectionFree(psycopg.OperationalError):
    """Every connection was in use for as long as one was waited for; nothing was sent."""


class GivenUp(Exception):
    """The time ran out before anything was sent that writes; nothing was or will be written."""


class CommitUnknown(Exception):
    """Whether a change was committed could not be found out in time."""


class StaleFence(Exception):
    """A holder of a newer lock has written before; nothing was recorded."""


class ChangedMeanwhile(Exception):
    """The subject changed at this moment; nothing was recorded, and another try may succeed."""


class Locked(Exception):
    """Somebody else is changing the subject, and was not done in time; nothing was written."""


class LocksUnavailable(Exception):
    """The lock service does not answer; nothing was written."""


class LeaseLost(Exception):
    """The locks of a subject were lost before they were released."""


class DatabaseUnavailable(Exception):
    """The database does not answer; nothing was written."""


class PredecessorUnfinished(Exception):
    """An earlier change of the subject cannot be finished yet; nothing was written."""


class KeyReused(Exception):
    """The idempotency key belongs to another request."""


class StillRunning(Exception):
    """The request with this idempotency key is still being worked on.

    Attributes:
        op_id: the operation that it became.
    """

    def __init__(self, op_id: UUID) -> None:
        super().__init__(str(op_id))
        self.op_id = op_id


class Unstorable(Exception):
    """The subject could not be completed with what the operation says."""


class RecordUnknown(Exception):
    """Whether an operation was recorded cannot be told now: the database went away in between."""


class OutcomeUnknown(Exception):
    """Whether the decider has applied an operation, or will, cannot be told now.

    Its text may be the other side's, and is cut to what can be kept.

    Attributes:
        retryable: whether sending it again at once may tell.
    """

    def __init__(self, reason: str, *, retryable: bool) -> None:
        super().__init__(keepable(reason))
        self.retryable = retryable


class ProtocolViolated(Exception):
    """What the protocol rules out has happened; nothing is written, and a person must look."""


def keepable(text: str) -> str:
    """Return what another service said as a database and a log can keep it: printable, and short.

    Postgres holds no NUL, UTF-8 no half of a surrogate pair; an operation whose outcome could not
    be recorded for its wording would stay pending for ever.
    """
    return "".join(each if each.isprintable() else " " for each in text[:_LONGEST_TEXT])


def cause_of(error: BaseException) -> str:
    """Return in one line what went wrong, as it may be shown: no statement, no parameter."""
    original = getattr(error, "orig", error)
    if isinstance(original, psycopg.Error):
        state = f", SQLSTATE {original.sqlstate}" if original.sqlstate else ""
        return f"the database failed ({type(original).__name__}{state})"
    if isinstance(error, SQLAlchemyError):
        return f"the database failed ({type(error).__name__})"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def detail_of(error: BaseException) -> str:
    """Return in one line all that is known of what went wrong, for the log: libpq's own words.

    It may name hosts, certificates and users, and a value that the database did not take.
    """
    original = getattr(error, "orig", error)
    said = str(original).partition("\n")[0] if isinstance(original, psycopg.Error) else ""
    return said or cause_of(error)


def violates(error: BaseException, constraint: str) -> bool:
    """Tell whether the database refused a statement by this constraint."""
    original = getattr(error, "orig", error)
    return isinstance(original, psycopg.Error) and original.diag.constraint_name == constraint


def is_transient(error: BaseException) -> bool:
    """Tell whether the same work may succeed a moment later, by psycopg's error or SQLAlchemy's.

    True says nothing about whether the work was done: a connection can be cut between a commit and
    its acknowledgement.
    """
    if isinstance(error, PoolTimeout):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig or error
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate
    if state is None:
        # libpq reports a refused or cut connection without a SQLSTATE.
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state in _TRANSIENT_STATES or state.startswith(_TRANSIENT_CLASSES)
