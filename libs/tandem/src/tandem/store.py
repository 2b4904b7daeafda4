"""Connections to one database, on which a statement is a transaction unless it is said otherwise.

No BEGIN, no COMMIT and no ping around a statement: it is one round trip. Whoever needs a connection
makes it himself, so that a database that is down says so at once. That is what psycopg's own pool
does otherwise: there a client waits for a worker that connects, and learns nothing but that it has
waited too long, and after a connection that was found broken it pauses.
"""

import asyncio
import select
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import pq
from psycopg.rows import namedtuple_row
from sqlalchemy.sql import ClauseElement

from tandem.errors import NoConnectionFree
from tandem.statements import Statement

LIFETIME_SECONDS: Final = 1800.0
WAIT_SECONDS: Final = 3.0

Row = Any
"""A named tuple of whichever columns the statement returns."""
_Connection = psycopg.AsyncConnection[NamedTuple]


class Session:
    """One connection, for as long as a caller has it."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def one(self, statement: Statement, **values: object) -> Row | None:
        """Run a statement and return its only row, or None."""
        cursor = await self._connection.execute(statement.text, statement.with_values(values))
        return await cursor.fetchone()

    async def run(self, statement: Statement, **values: object) -> int:
        """Run a statement that returns no rows, and say how many it concerned."""
        cursor = await self._connection.execute(statement.text, statement.with_values(values))
        return cursor.rowcount


class Store:
    """A database.

    Args:
        conninfo: ``postgresql://user:password@host:port/database``.
        parameters: more of libpq's, for every connection.
        size: connections at most.
        wait_seconds: limit for the wait for a free one, from the moment one is wanted.
        lifetime_seconds: after which a connection is not used again, from when it was made.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        parameters: Mapping[str, Any],
        size: int,
        wait_seconds: float = WAIT_SECONDS,
        lifetime_seconds: float = LIFETIME_SECONDS,
    ) -> None:
        self._conninfo = conninfo
        self._parameters = dict(parameters)
        self._wait_seconds = wait_seconds
        self._lifetime_seconds = lifetime_seconds
        self._free = asyncio.Semaphore(size)
        self._idle: list[tuple[_Connection, float]] = []
        self._closed = False

    async def one(self, statement: Statement, **values: object) -> Row | None:
        """Run a statement, a transaction by itself, and return its only row, or None.

        Raises:
            psycopg.Error: whatever is wrong; ``errors.is_transient`` says whether it will pass.
        """
        async with self._connection() as connection:
            return await Session(connection).one(statement, **values)

    async def rows(self, composed: ClauseElement) -> Sequence[Row]:
        """Run a statement that was composed for this once, and return its rows.

        Raises:
            psycopg.Error: as for ``one``.
        """
        statement = Statement(composed)
        async with self._connection() as connection:
            cursor = await connection.execute(statement.text, statement.with_values({}))
            return await cursor.fetchall()

    async def run(self, statement: Statement, **values: object) -> int:
        """Run a statement, a transaction by itself, and say how many rows it concerned.

        Raises:
            psycopg.Error: as for ``one``.
        """
        async with self._connection() as connection:
            return await Session(connection).run(statement, **values)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Lend a connection, on which each statement is a transaction by itself.

        Raises:
            psycopg.Error: none can be had; nothing was sent.
        """
        async with self._connection() as connection:
            yield Session(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Commit what the body runs, or nothing of it if it raises.

        Raises:
            psycopg.Error: as for ``one``.
        """
        async with self._connection() as connection, connection.transaction():
            yield Session(connection)

    async def close(self) -> None:
        """Close every connection; one that is in use, when it is given back."""
        self._closed = True
        while self._idle:
            await self._idle.pop()[0].close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise NoConnectionFree(f"no connection was free for {self._wait_seconds:g} s") from None
        try:
            connection, expires_at = await self._take()
            try:
                yield connection
            finally:
                await self._give_back(connection, expires_at)
        finally:
            self._free.release()

    async def _take(self) -> tuple[_Connection, float]:
        while self._idle:
            connection, expires_at = self._idle.pop()
            if expires_at > time.monotonic() and not _has_news(connection):
                return connection, expires_at
            await connection.close()
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo, autocommit=True, row_factory=namedtuple_row, **self._parameters
        )
        return connection, time.monotonic() + self._lifetime_seconds

    async def _give_back(self, connection: _Connection, expires_at: float) -> None:
        usable = connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
        if usable and not self._closed:
            self._idle.append((connection, expires_at))
        else:
            await connection.close()


def _has_news(connection: _Connection) -> bool:
    """Tell whether a connection that nobody uses has something to read, without a round trip.

    Nobody has asked for anything, so it is the server's farewell, or the end of the connection. A
    server whose settings were reloaded speaks unasked as well: then a new connection does no harm.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
