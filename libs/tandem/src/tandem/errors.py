"""What goes wrong with a database, and what to make of it.

::

    psycopg.OperationalError
    └── NoConnectionFree     every connection was in use for as long as one was waited for

    GivenUp                  the time ran out before anything was written
    CommitUnknown            whether it was written could not be found out in time
    StaleFence               a newer lock has written before; nothing was recorded
    ChangedMeanwhile         the subject changed at this moment; nothing was recorded
"""

from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# SQLSTATE classes and codes after which the same work may be tried again (Postgres, appendix A):
# connection exceptions, insufficient resources, operator intervention (shutdown, cancelled
# statement), serialization failure, deadlock, lock not available, read-only after a failover.
_TRANSIENT_CLASSES: Final = ("08", "53", "57")
_TRANSIENT_STATES: Final = frozenset({"40001", "40P01", "55P03", "25006"})

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
