"""The least that a connection shared by many tasks can be: the yardstick's, and nobody else's.

It has nothing of the library, so that what makes the library faster does not move the yardstick.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import hiredis

Word = str | bytes | int


class BareLink(asyncio.Protocol):
    """Commands of one turn of the event loop leave in one write; replies come back in order."""

    def __init__(self, on_push: Callable[[list[object]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_push = on_push
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[object]] = deque()
        self._outbox: list[bytes] = []

    def send(self, words: tuple[Word, ...]) -> asyncio.Future[object]:
        """Send a command; the future yields the reply."""
        future: asyncio.Future[object] = self._loop.create_future()
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub knows 1-tuples
        if self._waiting:
            if not self._outbox:
                self._loop.call_soon(self._flush)
            self._outbox.append(packed)
        elif self._transport is not None:
            self._transport.write(packed)
        self._waiting.append(future)
        return future

    def close(self) -> None:
        """Disconnect."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # Not isinstance: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand out replies and pushes."""
        self._reader.feed(data)
        while (message := self._reader.gets()) is not False:
            # In RESP3 the answer to SUBSCRIBE is a push.
            if isinstance(message, hiredis.PushNotification) and message[0] == b"message":
                self._on_push(message)
            else:
                self._waiting.popleft().set_result(message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Let nobody wait for ever."""
        for future in self._waiting:
            future.cancel()

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if self._transport is not None:
            self._transport.write(b"".join(outbox))
