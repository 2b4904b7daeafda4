"""One connection to the server, shared by everything a process does with locks.

Commands that are sent in the same turn of the event loop leave in one write, replies come back in
order, and pushes are handed out as they arrive. One timer watches the oldest command that has no
reply yet: if it takes too long the connection is dead, whatever the network says.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import hiredis

from fencelock._clock import now
from fencelock._errors import RedisUnavailable

Reply = object
Word = str | bytes | int


class Link(asyncio.Protocol):
    """An open connection that speaks RESP3. It is used until it breaks, then thrown away."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        reply_timeout: float,
        on_push: Callable[[object], None],
        on_lost: Callable[["Link"], None],
    ) -> None:
        self._loop = loop
        self._reply_timeout = reply_timeout
        self._on_push = on_push
        self._on_lost = on_lost
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._outbox: list[bytes] = []
        self._pending: deque[tuple[asyncio.Future[Reply], float]] = deque()
        self._watchdog: asyncio.TimerHandle | None = None
        self._reason = "connection closed by the server"
        self.closed = loop.create_future()

    @property
    def usable(self) -> bool:
        """Whether commands may still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, words: tuple[Word, ...]) -> asyncio.Future[Reply]:
        """Send one command. The future yields the reply, an error reply included.

        It fails with :class:`RedisUnavailable` if the connection breaks first. A caller may cancel
        it; the reply is then thrown away when it comes.
        """
        future: asyncio.Future[Reply] = self._loop.create_future()
        transport = self._transport
        if transport is None or transport.is_closing():
            future.set_exception(RedisUnavailable(self._reason))
            return future
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub knows 1-tuples
        if self._pending:
            if not self._outbox:
                self._loop.call_soon(self._flush)
            self._outbox.append(packed)
        else:
            # Nobody else is talking: a lone command gains nothing from waiting for company.
            transport.write(packed)
        self._pending.append((future, now()))
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(self._reply_timeout, self._watch)
        return future

    def abort(self, reason: str) -> None:
        """Drop the connection at once; every command without a reply fails."""
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (message := self._reader.gets()) is not False:
                # In RESP3 the answer to SUBSCRIBE is a push.
                if isinstance(message, hiredis.PushNotification) and message[0] != b"subscribe":
                    self._on_push(message)
                    continue
                future, _ = self._pending.popleft()
                if not future.done():
                    future.set_result(message)
        except (hiredis.ProtocolError, IndexError) as error:
            self.abort(f"the server does not speak the Redis protocol: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason = f"connection lost: {exc}"
        if self._watchdog is not None:
            self._watchdog.cancel()
        for future, _ in self._pending:
            if not future.done():
                future.set_exception(RedisUnavailable(self._reason))
        self._pending.clear()
        if not self.closed.done():
            self.closed.set_result(None)
        self._on_lost(self)

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if self.usable and self._transport is not None:
            self._transport.write(b"".join(outbox))

    def _watch(self) -> None:
        self._watchdog = None
        if not self._pending:
            return
        left = self._pending[0][1] + self._reply_timeout - now()
        if left <= 0:
            self.abort(f"no reply within {self._reply_timeout:g} s")
        else:
            self._watchdog = self._loop.call_later(left, self._watch)
