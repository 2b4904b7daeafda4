"""One connection to the server, shared by everything a process does with locks.

Commands that are sent in the same turn of the event loop leave in few writes, replies come back in
order, and pushes are handed out as they arrive. One timer watches the commands that have no reply
yet: if one takes too long the connection is dead, whatever the network says.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import cast

import hiredis

from fencelock._clock import now
from fencelock._errors import RedisUnavailable
from fencelock._isolation import isolated
from fencelock._protocol import ServerClock

Reply = object
Word = str | bytes | int

# How TLS begins to say that it did not understand.
_TLS_ALERT = b"\x15\x03"
_DISCARD_UNSENT = struct.pack("ii", 1, 0)
# While replies come the server is busy, not dead: to begin anew would give it all of it once more.
# So many more times its limit a reply may take then.
_BUSY_LIMITS = 4
# So many commands leave together at most, that server and client work at the same time: with 64
# tasks half as many pairs again as in one write a turn (`python -m libs.lock.bench`).
_WRITE_COMMANDS = 16
_READ_BYTES = 65536


def pack(words: tuple[Word, ...]) -> bytes:
    """One command as it is sent."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # knows 1-tuples only
    return packed


def discard_unsent(sock: socket.socket) -> None:
    """What the system has not sent yet when the socket is closed is never sent."""
    with contextlib.suppress(OSError, ValueError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD_UNSENT)


class Link(asyncio.BufferedProtocol):
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
        # Read into again and again. A protocol without a buffer of its own gets a fresh quarter of
        # a megabyte for each read, which many a process maps and unmaps each time.
        # As a view: what follows in a TLS connection goes behind what is there, into a part of it.
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._transport: asyncio.Transport | None = None
        self._outbox: list[bytes] = []
        # Each command without a reply, when it will have waited for too long, and how long that is.
        self._pending: deque[tuple[asyncio.Future[Reply], float, float]] = deque()
        self._watchdog: asyncio.TimerHandle | None = None
        self._watch_at = 0.0
        # When the last reply came.
        self._heard_at = 0.0
        self._reason = "connection closed by the server"
        self._cause: Exception | None = None
        self.closed = loop.create_future()
        self.clock = ServerClock()
        # Whether the server tells us of changes to keys that we ask it to watch.
        self.tracks = False
        # Why names cannot be shared there; None if they can.
        self.no_sharing: str | None = None

    @property
    def usable(self) -> bool:
        """Whether commands may still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def heard(self) -> bool:
        """Whether the server has ever answered."""
        return self._heard_at > 0.0

    def send(
        self,
        words: tuple[Word, ...] | bytes,
        limit: float | None = None,
        moment: float | None = None,
    ) -> asyncio.Future[Reply]:
        """Send one command, packed or not, at ``moment`` if it is known.

        The future yields the reply, which may be an error reply. It fails with
        :class:`RedisUnavailable` if the connection breaks first, which it does when the reply takes
        longer than ``limit`` seconds (the reply timeout if None), or a few times that while the
        server answers others. A caller may cancel it; the reply is then thrown away when it comes.
        """
        future: asyncio.Future[Reply] = self._loop.create_future()
        transport = self._transport
        if transport is None or transport.is_closing():
            self._fail(future)
            return future
        packed = words if type(words) is bytes else pack(words)  # type: ignore[arg-type]
        if self._pending:
            outbox = self._outbox
            if not outbox:
                self._loop.call_soon(self._flush)
            outbox.append(packed)
            if len(outbox) >= _WRITE_COMMANDS:
                # The server may begin with these while the rest is being made.
                self._flush()
        else:
            # Nobody else is talking: a lone command gains nothing from waiting for company.
            transport.write(packed)
        if moment is None:
            moment = now()
        if limit is None:
            limit = self._reply_timeout
        due = moment + limit
        self._pending.append((future, due, limit))
        if self._watchdog is None or due < self._watch_at:
            self._watch_from(moment, due)
        return future

    def abort(self, reason: str, cause: Exception | None = None) -> None:
        """Drop the connection at once; every command without a reply fails.

        What the system has not sent yet is never sent: a request that its sender has given up must
        not be carried out after something that the sender does later.
        """
        if self._transport is None:
            return
        # One that is closing already may wait for ever to send what it still has.
        if not self._transport.is_closing():
            self._reason, self._cause = reason, cause
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            discard_unsent(sock)
        self._transport.abort()

    def detach(self) -> socket.socket:
        """A socket of the same connection, which stays open when this one is dropped."""
        if self._transport is None:
            raise RedisUnavailable(self._reason)
        self._transport.pause_reading()
        sock: socket.socket = self._transport.get_extra_info("socket")
        return socket.socket(fileno=os.dup(sock.fileno()))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's signature)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # any buffer will do
        answered: list[tuple[asyncio.Future[Reply], Reply]] = []
        try:
            while (message := self._reader.gets()) is not False:
                # In RESP3 the answer to SUBSCRIBE is a push.
                if isinstance(message, hiredis.PushNotification) and (
                    not message or message[0] != b"subscribe"
                ):
                    isolated(self._on_push, message)
                else:
                    answered.append((self._pending.popleft()[0], message))
        except (hiredis.ProtocolError, IndexError) as error:
            tls = ", but TLS" if self._buffer[:2] == _TLS_ALERT else ""
            self.abort(f"the server does not speak the Redis protocol{tls}: {error}", error)
        if answered:
            self._heard_at = now()
        # After the pushes: who was made the holder goes first, then who has released. A server says
        # it the other way round.
        for future, message in answered:
            if not future.done():
                future.set_result(message)

    def eof_received(self) -> None:
        # Not closed in peace: who says no more may also read no more.
        self.abort(self._reason)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason, self._cause = f"connection lost: {exc}", exc
        if self._watchdog is not None:
            self._watchdog.cancel()
        for future, _, _ in self._pending:
            if not future.done():
                self._fail(future)
        self._pending.clear()
        if not self.closed.done():
            self.closed.set_result(None)
        self._on_lost(self)

    def _fail(self, future: asyncio.Future[Reply]) -> None:
        error = RedisUnavailable(self._reason)
        error.__cause__ = self._cause
        future.set_exception(error)
        # Not everybody waits for what it sent: that is nothing to be logged.
        future.exception()

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if outbox and self.usable and self._transport is not None:
            self._transport.write(b"".join(outbox))

    def _watch_from(self, moment: float, due: float) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watch_at = due
        self._watchdog = self._loop.call_later(max(0.0, due - moment), self._watch)

    def _watch(self) -> None:
        self._watchdog = None
        if not self._pending:
            return
        moment = now()
        due, limit = min((due, limit) for _, due, limit in self._pending)
        busy_until = min(self._heard_at + limit, due + _BUSY_LIMITS * limit)
        if moment < max(due, busy_until):
            self._watch_from(moment, max(due, busy_until))
        else:
            self.abort(f"no reply within {limit:g} s")
