"""Reads of the order database, and what to make of its failures."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from order.errors import DatabaseUnavailable
from tandem.errors import DATABASE_ERRORS, is_transient


@contextmanager
def answering() -> Iterator[None]:
    """Tell a client of a database that cannot be reached, or does not answer in time.

    Raises:
        DatabaseUnavailable: that is what has happened in the body.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        if not is_transient(error):
            raise
        raise DatabaseUnavailable("The order database does not answer.") from error


@asynccontextmanager
async def reading_back(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that is rolled back at its end, whatever it did.

    Raises:
        DatabaseUnavailable: the database cannot be reached or does not answer in time.
    """
    with answering():
        async with engine.connect() as connection, connection.begin() as transaction:
            yield connection
            await transaction.rollback()
