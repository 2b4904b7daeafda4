"""Waiting for something to become true, up to a limit that only a broken program reaches."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_INTERVAL_SECONDS = 0.02


async def eventually(check: Callable[[], Awaitable[bool]], *, within_seconds: float = 30.0) -> None:
    """Return as soon as ``check`` says true.

    Raises:
        AssertionError: it did not within ``within_seconds``.
    """
    deadline = time.monotonic() + within_seconds
    while not await check():
        assert time.monotonic() < deadline, f"not true within {within_seconds:g} s"  # noqa: S101
        await asyncio.sleep(_INTERVAL_SECONDS)
