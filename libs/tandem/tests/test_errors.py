"""Which failures of a database pass by themselves, without a database."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from servicekit import database
from tandem.errors import NoConnectionFree, is_transient

PASSING = [
    errors.SerializationFailure(),
    errors.DeadlockDetected(),
    errors.LockNotAvailable(),
    errors.ReadOnlySqlTransaction(),
    errors.ConnectionException(),
    errors.TooManyConnections(),
    errors.DiskFull(),
    errors.QueryCanceled(),
    errors.AdminShutdown(),
    errors.CannotConnectNow(),
    psycopg.OperationalError("the connection is lost"),
    psycopg.InterfaceError("the connection is closed"),
    NoConnectionFree(),
    errors.IdleInTransactionSessionTimeout(),
]
STAYING = [
    errors.UniqueViolation(),
    errors.CheckViolation(),
    errors.NumericValueOutOfRange(),
    errors.UndefinedTable(),
    errors.InFailedSqlTransaction(),
    errors.InvalidPassword(),
    psycopg.ProgrammingError("a parameter is missing"),
]


def by_sqlalchemy(error: psycopg.Error, *, cut: bool = False) -> DBAPIError:
    return DBAPIError("SELECT 1", {}, error, connection_invalidated=cut)


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_the_same_work_may_be_tried_again_after_what_passes(error: psycopg.Error) -> None:
    assert is_transient(error)
    assert is_transient(by_sqlalchemy(error))


@pytest.mark.parametrize("error", STAYING, ids=repr)
def test_and_not_after_what_stays(error: psycopg.Error) -> None:
    assert not is_transient(error)
    assert not is_transient(by_sqlalchemy(error))


def test_a_full_pool_and_a_cut_connection_pass_whatever_was_said_last() -> None:
    assert is_transient(PoolTimeout())
    assert is_transient(by_sqlalchemy(errors.UniqueViolation(), cut=True))
    assert not is_transient(ValueError())


@pytest.mark.parametrize("error", [*PASSING, *STAYING], ids=repr)
def test_what_answers_requests_judges_alike(error: psycopg.Error) -> None:
    assert database.is_transient(error) == is_transient(error)
    assert database.is_transient(by_sqlalchemy(error)) == is_transient(by_sqlalchemy(error))
