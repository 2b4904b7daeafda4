"""Bounded concurrency: what a service cannot take now it refuses at once, before any work."""

import asyncio
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.problems import Overloaded, response


class LoadSheddingMiddleware:
    """Lets ``maximum_requests`` in at once, as many wait briefly, and sheds the rest with 503.

    Args:
        app: the application.
        maximum_requests: how many requests are worked on at once.
        wait_seconds: how long a request waits for its turn.
        exempt_paths: probes, which must be answered under load.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        maximum_requests: int,
        wait_seconds: float = 0.5,
        exempt_paths: Collection[str] = (),
    ) -> None:
        self.app = app
        self._maximum_requests = maximum_requests
        self._wait_seconds = wait_seconds
        self._exempt_paths = frozenset(exempt_paths)
        self._slots = asyncio.Semaphore(maximum_requests)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["path"] in self._exempt_paths:
            await self.app(scope, receive, send)
            return
        if not await self._enter():
            problem = Overloaded("The service is busy; nothing was done. Try again shortly.")
            await response(problem, instance=scope["path"])(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self._slots.release()

    async def _enter(self) -> bool:
        if self._slots.locked() and self._waiting >= self._maximum_requests:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await self._slots.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
