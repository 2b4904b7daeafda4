"""What both services of the pair agree on, and the few lines that they have in common."""

from collections.abc import Mapping
from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy import MetaData, create_engine, func, select

from tandem.operation import Answer


def lock_names(ticket_id: UUID) -> tuple[str, ...]:
    """Return the names of the locks on a ticket and its seat; the braces keep them together."""
    return f"ticket:{{{ticket_id}}}", f"seat:{{{ticket_id}}}"


def http(answer: Answer | None) -> Response:
    """Return an answer as it was kept; 404 if there is none."""
    if answer is None:
        return JSONResponse({}, 404)
    return Response(answer.body, answer.status, dict(answer.headers))


def answer_errors(app: FastAPI, statuses: Mapping[type[Exception], int]) -> None:
    """Have errors answered with their statuses, subclasses too."""

    async def answer(_: Request, error: Exception) -> Response:
        status = next(status for kind, status in statuses.items() if isinstance(error, kind))
        return JSONResponse({"error": type(error).__name__}, status)

    for kind in statuses:
        app.add_exception_handler(kind, answer)


def driver_url(url: str) -> str:
    """Return a database's URL as SQLAlchemy wants it."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def create_tables(metadata: MetaData, url: str) -> None:
    """Make the tables that are not there yet, one replica at a time."""
    engine = create_engine(driver_url(url))
    with engine.begin() as connection:
        connection.execute(select(func.pg_advisory_xact_lock(1)))
        metadata.create_all(connection)
    engine.dispose()
