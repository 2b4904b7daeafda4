"""Postgres by async SQLAlchemy and psycopg 3: sessions with limits, errors by constraint name."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
import structlog
from fastapi import FastAPI
from psycopg import errors as pg
from sqlalchemy import exc, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.requests import Request
from starlette.responses import Response

from servicekit import problems
from servicekit.problems import ServiceUnavailable
from servicekit.settings import Pooler
from servicekit.urls import postgres_url

_CONNECT_TIMEOUT_SECONDS: Final = 5
_POOL_TIMEOUT_SECONDS: Final = 3.0
_RECYCLE_SECONDS: Final = 1800
_LOCK_TIMEOUT_SECONDS: Final = 2.0

# SQLSTATE classes and codes after which the same work may be tried again (Postgres, appendix A):
# connection exceptions, insufficient resources, operator intervention (shutdown, cancelled
# statement), serialization failure, deadlock, lock not available, read-only after a failover, a
# transaction that stood still or took too long, as that of a process which was paused.
_TRANSIENT_CLASSES: Final = ("08", "53", "57")
_TRANSIENT_STATES: Final = frozenset({"40001", "40P01", "55P03", "25006", "25P03", "25P04"})

_log = structlog.stdlib.get_logger(__name__)


def driver_url(url: str) -> URL:
    """Return ``postgresql://...`` as a SQLAlchemy URL for psycopg 3.

    Raises:
        ValueError: it is no such URL.
    """
    try:
        return postgres_url(url)
    except ValueError as error:
        raise ValueError(f"the database URL {error}") from error


def libpq_url(url: str) -> str:
    """Return ``postgresql://...`` as libpq takes it, whichever driver it names.

    Raises:
        ValueError: it is no such URL.
    """
    return driver_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def session_options(*, statement_timeout_seconds: float, lock_timeout_seconds: float) -> str:
    """Return the libpq ``options`` that every connection of a service starts with.

    They hold for the session whatever the server's or the role's defaults are: a limit on each
    statement and each wait for a lock, a transaction that is never left open, a commit that is on
    disk before it is acknowledged, and the isolation that the protocol's row locks are written for.
    """
    settings = {
        "statement_timeout": f"{round(statement_timeout_seconds * 1000)}ms",
        "lock_timeout": f"{round(lock_timeout_seconds * 1000)}ms",
        "idle_in_transaction_session_timeout": f"{round(statement_timeout_seconds * 2000)}ms",
        "synchronous_commit": "on",
        "default_transaction_isolation": r"read\ committed",
        "timezone": "UTC",
    }
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def connection_parameters(
    url: str,
    *,
    application_name: str,
    statement_timeout_seconds: float,
    lock_timeout_seconds: float = _LOCK_TIMEOUT_SECONDS,
    pooler: Pooler = "session",
) -> dict[str, Any]:
    """Return the parameters that every connection of a service is made with.

    Args:
        url: the database's, which may bring options of its own.
        application_name: shown in ``pg_stat_activity``.
        statement_timeout_seconds: limit for one statement, enforced by the server.
        lock_timeout_seconds: limit for one wait for a row lock.
        pooler: see ``create_engine``.

    Raises:
        ValueError: the URL is not one of Postgres.
    """
    parameters: dict[str, Any] = {
        "application_name": application_name,
        # Not the database's own: with SQL_ASCII psycopg would answer bytes for text.
        "client_encoding": "utf8",
        "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }
    if pooler == "transaction":
        return parameters | {"prepare_threshold": None}
    # Ours come last, so that they win over the URL's where both name one.
    given = driver_url(url).query.get("options", ())
    ours = session_options(
        statement_timeout_seconds=statement_timeout_seconds,
        lock_timeout_seconds=lock_timeout_seconds,
    )
    options = " ".join([*([given] if isinstance(given, str) else given), ours])
    return parameters | {"options": options}


def create_engine(
    url: str,
    *,
    application_name: str,
    pool_size: int = 10,
    statement_timeout_seconds: float = 5.0,
    lock_timeout_seconds: float = _LOCK_TIMEOUT_SECONDS,
    pool_timeout_seconds: float = _POOL_TIMEOUT_SECONDS,
    pooler: Pooler = "session",
    connect: Callable[..., Awaitable[psycopg.AsyncConnection[Any]]] | None = None,
) -> AsyncEngine:
    """Return an engine that has not connected yet.

    Args:
        url: ``postgresql://user:password@host:port/database``.
        application_name: shown in ``pg_stat_activity``.
        pool_size: connections at most.
        statement_timeout_seconds: limit for one statement, enforced by the server.
        lock_timeout_seconds: limit for one wait for a row lock.
        pool_timeout_seconds: limit for the wait for a free connection.
        pooler: ``transaction`` behind PgBouncer in that mode: the next transaction may run on
            another connection, so nothing is prepared and nothing set for the session. The role
            must bring the limits then (docs/growing.md).
        connect: makes the connections, if not ``psycopg.AsyncConnection.connect``.

    Raises:
        ValueError: the URL is not one of Postgres.
    """
    made_by = {} if connect is None else {"async_creator_fn": connect}
    return create_async_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout_seconds,
        pool_recycle=_RECYCLE_SECONDS,
        # One round trip, so that a restarted server costs no request an error.
        pool_pre_ping=True,
        connect_args=connection_parameters(
            url,
            application_name=application_name,
            statement_timeout_seconds=statement_timeout_seconds,
            lock_timeout_seconds=lock_timeout_seconds,
            pooler=pooler,
        )
        | made_by,
    )


async def ping(engine: AsyncEngine) -> None:
    """Ask the database for a sign of life; raises what SQLAlchemy raises if there is none."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


def constraint_name(error: BaseException) -> str | None:
    """Return the name of the constraint that a statement violated, if that was the error."""
    original = getattr(error, "orig", error)
    if isinstance(original, psycopg.Error):
        return original.diag.constraint_name
    return None


def cause_of(error: BaseException) -> str:
    """Return in one line what went wrong, as it may be shown: no statement, no parameter."""
    original = getattr(error, "orig", error)
    if isinstance(original, psycopg.Error):
        state = f", SQLSTATE {original.sqlstate}" if original.sqlstate else ""
        return f"the database failed ({type(original).__name__}{state})"
    if isinstance(error, exc.SQLAlchemyError):
        return f"the database failed ({type(error).__name__})"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def detail_of(error: BaseException) -> str:
    """Return in one line what went wrong, for those who operate the service: all that libpq said.

    It may name hosts, certificates and users, and a value that the database did not take.
    """
    original = getattr(error, "orig", error)
    said = str(original).partition("\n")[0] if isinstance(original, psycopg.Error) else ""
    return said or cause_of(error)


def is_unreachable(error: BaseException) -> bool:
    """Tell whether the database could not be reached or no connection was free."""
    if isinstance(error, exc.TimeoutError):
        return True
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    original = getattr(error, "orig", error)
    if isinstance(original, psycopg.InterfaceError | pg.ConnectionTimeout):
        return True
    # libpq reports a refused or cut connection without a SQLSTATE.
    return isinstance(original, psycopg.OperationalError) and original.sqlstate is None


def is_transient(error: BaseException) -> bool:
    """Tell whether the same work may succeed a moment later.

    True says nothing about whether the work was done: a connection can be cut between a commit and
    its acknowledgement.
    """
    if is_unreachable(error):
        return True
    original = getattr(error, "orig", error)
    state = original.sqlstate if isinstance(original, psycopg.Error) else None
    return state is not None and (
        state in _TRANSIENT_STATES or state.startswith(_TRANSIENT_CLASSES)
    )


def install_problems(app: FastAPI) -> None:
    """Make ``app`` answer a database that is down, or a lock that takes too long, with 503."""
    app.add_exception_handler(exc.SQLAlchemyError, _answer_database_error)
    app.add_exception_handler(psycopg.Error, _answer_database_error)


async def _answer_database_error(request: Request, error: Exception) -> Response:
    if not is_transient(error):
        raise error
    _log.warning("database_unavailable", error_type=type(error).__name__, error=str(error))
    problem = ServiceUnavailable(
        "The database did not answer in time. The request may be repeated."
    )
    return problems.response(problem, instance=request.url.path)
