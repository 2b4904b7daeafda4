"""What a client has under way, and its end, which waits for that."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

logger = logging.getLogger("fencelock")


class Operations:
    """Calls that must not be cut off half-way when the client is closed, and releases it owes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owed: Callable[[], int]) -> None:
        self._loop = loop
        self._owed = owed
        self._count = 0
        self._idle: asyncio.Event | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def closing(self) -> bool:
        """Whether the client is about to end."""
        return self._idle is not None

    def __enter__(self) -> None:
        """A call begins."""
        self._count += 1

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._count -= 1
        if self._idle is not None:
            self.look()

    def look(self) -> None:
        """Something is over: perhaps it was the last."""
        if self._idle is not None and not self._count and not self._owed():
            self._idle.set()

    def close(self, end: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Have the client ended, once; the task in which that happens."""
        if self._closing is None:
            self._idle = asyncio.Event()
            self._closing = self._loop.create_task(end(), name="fencelock-close")
        return self._closing

    async def over(self, seconds: float) -> None:
        """Wait for what is under way, for at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                while self._idle is not None and (self._count or self._owed()):
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            logger.warning(
                "closed with %d operations and %d releases under way", self._count, self._owed()
            )
