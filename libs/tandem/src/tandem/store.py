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

from tandem.connecting import Connect, Connector
from tandem.errors import NoConnectionFree
from tandem.statements import Statement

LIFETIME_SECONDS: Final = 1800.0
WAIT_SECONDS: Final = 3.0
# Preparing is a round trip of its own, which a statement that is run once is not worth.
_RUNS_UNPREPARED: Final = 1

Row = Any
"""A named tuple of whichever columns the statement returns."""
_Connection = psycopg.AsyncConnection[NamedTuple]
_Cursor = psycopg.AsyncCursor[NamedTuple]


class Session:
    """One connection, for as long as a caller has it.

    Each statement has a cursor of its own, which knows how its parameters and columns are adapted
    from the first time that it is run.

    Args:
        connection: the connection.
        expires_at: by the monotonic clock, when it is not to be lent again.
    """

    def __init__(self, connection: _Connection, *, expires_at: float) -> None:
        self.connection = connection
        self.expires_at = expires_at
        self._cursors: dict[Statement, _Cursor] = {}

    async def one(self, statement: Statement, **values: object) -> Row | None:
        """Run a statement and return its only row, or None."""
        cursor = await self._execute(statement, values)
        return await cursor.fetchone()

    async def run(self, statement: Statement, **values: object) -> int:
        """Run a statement that returns no rows, and say how many it concerned."""
        cursor = await self._execute(statement, values)
        return cursor.rowcount

    async def _execute(self, statement: Statement, values: Mapping[str, object]) -> _Cursor:
        cursor = self._cursors.get(statement)
        if cursor is None:
            cursor = self._cursors[statement] = self.connection.cursor()
        return await cursor.execute(statement.text, statement.with_values(values))


class Store:
    """A database.

    Args:
        conninfo: ``postgresql://user:password@host:port/database``.
        parameters: more of libpq's, for every connection.
        size: connections at most.
        wait_seconds: limit for the wait for a free one, from the moment one is wanted.
        lifetime_seconds: after which a connection is not used again, from when it was made.
        connect: makes them, as ``connecting.Connector.connect`` does.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        parameters: Mapping[str, Any],
        size: int,
        wait_seconds: float = WAIT_SECONDS,
        lifetime_seconds: float = LIFETIME_SECONDS,
        connect: Connect | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._parameters = _planning_once(parameters)
        self._wait_seconds = wait_seconds
        self._lifetime_seconds = lifetime_seconds
        self._connect = connect or Connector().connect
        self._free = asyncio.Semaphore(size)
        self._idle: list[Session] = []
        self._closed = False

    async def one(self, statement: Statement, **values: object) -> Row | None:
        """Run a statement, a transaction by itself, and return its only row, or None.

        Raises:
            psycopg.Error: whatever is wrong; ``errors.is_transient`` says whether it will pass.
        """
        session = await self._borrow()
        try:
            return await session.one(statement, **values)
        finally:
            await self._give_back(session)

    async def rows(self, composed: ClauseElement) -> Sequence[Row]:
        """Run a statement that was composed for this once, and return its rows.

        Raises:
            psycopg.Error: as for ``one``.
        """
        statement = Statement(composed)
        async with self.session() as session:
            cursor = await session.connection.execute(
                statement.text, statement.with_values({}), prepare=False
            )
            return await cursor.fetchall()

    async def run(self, statement: Statement, **values: object) -> int:
        """Run a statement, a transaction by itself, and say how many rows it concerned.

        Raises:
            psycopg.Error: as for ``one``.
        """
        async with self.session() as session:
            return await session.run(statement, **values)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Lend a connection, on which each statement is a transaction by itself.

        Raises:
            psycopg.Error: none can be had; nothing was sent.
        """
        session = await self._borrow()
        try:
            yield session
        finally:
            await self._give_back(session)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Commit what the body runs, or nothing of it if it raises.

        Raises:
            psycopg.Error: as for ``one``.
        """
        async with self.session() as session, session.connection.transaction():
            yield session

    async def close(self) -> None:
        """Close every connection; one that is in use, when it is given back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().connection.close()

    async def _borrow(self) -> Session:
        await self._wait_for_a_place()
        try:
            return await self._take()
        except BaseException:
            self._free.release()
            raise

    async def _wait_for_a_place(self) -> None:
        if not self._free.locked():
            await self._free.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise NoConnectionFree(f"no connection was free for {self._wait_seconds:g} s") from None

    async def _take(self) -> Session:
        while self._idle:
            session = self._idle.pop()
            if session.expires_at > time.monotonic() and not _has_news(session.connection):
                return session
            await session.connection.close()
        connection = await self._connect(
            self._conninfo, autocommit=True, row_factory=namedtuple_row, **self._parameters
        )
        return Session(connection, expires_at=time.monotonic() + self._lifetime_seconds)

    async def _give_back(self, session: Session) -> None:
        try:
            status = session.connection.pgconn.transaction_status
            if status == pq.TransactionStatus.IDLE and not self._closed:
                self._idle.append(session)
            else:
                await session.connection.close()
        finally:
            self._free.release()


def _planning_once(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Let the server plan a statement once a connection, whatever values come.

    To plan one that finds its rows by their keys costs more than to run it, and the server would do
    so for each of its first ten times. A statement that is composed for once is not prepared.
    """
    if parameters.get("prepare_threshold", 0) is None:
        return dict(parameters)  # Whatever is between this and the server keeps no connection.
    options = f"{parameters.get('options', '')} -c plan_cache_mode=force_generic_plan".strip()
    return {**parameters, "options": options, "prepare_threshold": _RUNS_UNPREPARED}


def _has_news(connection: _Connection) -> bool:
    """Tell whether a connection that nobody uses has something to read, without a round trip.

    Nobody has asked for anything, so it is the server's farewell, or the end of the connection. A
    server whose settings were reloaded speaks unasked as well: then a new connection does no harm.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
