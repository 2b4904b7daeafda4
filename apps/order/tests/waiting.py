"""Waiting for what another task or session is about to do, with a limit."""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

LIMIT_SECONDS = 30.0
_WAITING = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


async def until(holds: Callable[[], object]) -> None:
    """Wait for something that another task is about to do."""

    async def asked() -> object:
        return holds()

    await until_true(asked)


async def until_true(
    holds: Callable[[], Awaitable[object]], *, limit_seconds: float = LIMIT_SECONDS
) -> None:
    """Wait until an awaited question is answered with yes."""
    async with asyncio.timeout(limit_seconds):
        while not await holds():  # noqa: ASYNC110 - what is waited for is not ours to signal
            await asyncio.sleep(0.01)


async def somebody_waits(engine: AsyncEngine) -> bool:
    """Whether a session of this database waits for a lock."""
    async with engine.connect() as connection:
        return bool((await connection.execute(_WAITING)).scalar_one())
