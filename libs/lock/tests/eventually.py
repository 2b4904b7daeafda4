"""Wait for a condition instead of for a time."""

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 30.0


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Poll until the condition holds.

    Raises:
        AssertionError: it did not, for as long as a very busy machine could need.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while not await condition():
        assert loop.time() < deadline, f"not in {PATIENCE_SECONDS:g} s: {what}"
        await asyncio.sleep(0.005)
