"""The server's side of one HTTP connection, with limits on what a client may hold.

uvicorn bounds neither the size nor the time of a request's head, nor the time of its body, and
hands a request to the application when its head is there. Here the application gets a request
when it is there as a whole, so that whoever does not send one takes no place from those who do.
"""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from servicekit import health
from servicekit.connections import Connections, Place
from servicekit.lifecycle import Lifecycle
from servicekit.plain_parser import PlainParser, head_without_offer

_CHECK_SECONDS: Final = 1.0
# How long the rest of a refused request is read and dropped: a reset would overtake the answer.
_LINGER_SECONDS: Final = 1.0
_TUNNEL: Final = b"CONNECT"
# A chunk of one byte comes with five of framing.
_FRAMING: Final = 8


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one connection may hold."""

    head_bytes: int = 32_768
    """Request line and headers."""
    head_fields: int = 100
    head_seconds: float = 10.0
    """From the connection's begin, or the first byte of a later request, to the end of the head."""
    body_bytes: int = 65_536
    body_seconds: float = 20.0
    """From the end of the head to the end of the body."""
    body_grace_seconds: float = 5.0
    """How long after the end of the head no rate is demanded."""
    body_bytes_per_second: int = 1024
    """How fast a body must come after that."""
    idle_grace_seconds: float = 2.0
    """How long a connection may still bring a request once the listener is closed."""
    answer_seconds: float = 10.0
    """How often it is looked whether a client goes on reading what it was answered."""
    answer_bytes_per_second: int = 1024
    """How fast it must do so."""


@dataclass(frozen=True, slots=True)
class Front:
    """What all connections of one process share."""

    limits: HttpLimits
    connections: Connections
    lifecycle: Lifecycle


class FrontConfig(uvicorn.Config):
    """uvicorn's configuration, and what our protocol needs beside it."""

    def __init__(self, app: Any, *, front: Front, **more: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(app, http=BoundedProtocol, ws="none", **more)
        self.front = front


class _TooLargeHead(Exception):
    """The head has more bytes or fields than allowed."""


class _NoValidHost(Exception):
    """The head does not say in one way for whom the request is (RFC 9112, 3.2)."""


# RFC 3986, 3.2.2 and 3.2.3: a name or an address, and a port.
_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")


class _Alarm:
    """Calls back once after it was set, unless it is cancelled before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Ring after so many seconds; nothing changes if it is set already."""
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._over)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        self._timer = None
        self._ring()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, with ``HttpLimits``.

    A connection is *held* while its request's body is on its way, *busy* while the application has
    a request of its, and waits for its client otherwise.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        if not isinstance(config, FrontConfig):
            raise TypeError("BoundedProtocol needs a FrontConfig")
        self._limits = config.front.limits
        self._connections = config.front.connections
        self._lifecycle = config.front.lifecycle
        self._place = Place.ANY
        self._request_alarm = _Alarm(self.loop, self._look)
        self._held: tuple[Any, Any] | None = None
        self._in_head = False
        self._in_body = False
        self._head_bytes = 0
        self._head_fields = 0
        self._received = 0
        """Raw bytes of the part of the message that is on its way."""
        self._since = 0.0
        self._refused = False
        self._last = False
        """Whether no request is taken after the next one."""
        self._offered = False
        """Whether the head that was parsed came with an offer, and is parsed again without."""
        self.parser: Any = PlainParser(self)
        self._unread: tuple[Any, Any] | None = None
        """The request that waits until its client has read what it was answered before."""
        self._unsent = 0
        self._reader_alarm = _Alarm(self.loop, self._look_at_reader)

    # The connection

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Take a place, and begin to wait for the first request."""
        super().connection_made(transport)
        self._place = self._connections.enter(self)
        if self._place is Place.NONE:
            self.transport.abort()
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back; a request that was not there as a whole is forgotten."""
        self._connections.leave(self)
        self._request_alarm.cancel()
        self._reader_alarm.cancel()
        self._held = self._unread = None
        super().connection_lost(exc)

    def evict(self) -> None:
        """End the connection at once, to make room."""
        self.transport.abort()

    def drain(self) -> None:
        """Let the answer that is being made say that the connection closes after it."""
        cycle = self._present()
        if cycle is not None and not cycle.response_started:
            cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close after the present request; without one, after a grace in which one may come."""
        self._last = True
        self.drain()
        if self._waits() or self._unread is not None:
            self.loop.call_later(self._limits.idle_grace_seconds, self._close_unless_busy)
        else:
            self.cycle.keep_alive = False

    def _close_unless_busy(self) -> None:
        if self._waits() or self._unread is not None:
            self.transport.close()

    def _waits(self) -> bool:
        """Whether the next step is the client's."""
        cycle = self._present()
        return self._held is not None or cycle is None or cycle.response_complete

    def _present(self) -> RequestResponseCycle | None:
        """Return the latest request, of which uvicorn says that there always is one."""
        present: RequestResponseCycle | None = self.cycle
        return present

    # Bytes

    def data_received(self, data: bytes) -> None:
        """Parse what came, within the limits."""
        if self._refused:
            return
        self._received += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._is_refused():
            return
        if self._in_head and self._received > self._limits.head_bytes:
            self._refuse(431, "large_head")
        elif self._in_body and self._waits() and self._received > self._most_received():
            self._refuse(413, "large_body")
        elif self._waits():
            self._watch()

    def _is_refused(self) -> bool:
        return self._refused

    def _most_received(self) -> int:
        return _FRAMING * self._limits.body_bytes + self._limits.head_bytes

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._head_fields = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; one that comes after the body is not one of the request."""
        if self._in_body:
            return
        self._head_fields += 1
        self._head_bytes += len(name) + len(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the head: the time of the body counts from here."""
        if (
            self._head_fields > self._limits.head_fields
            or self._head_bytes + len(self.url) > self._limits.head_bytes
        ):
            raise _TooLargeHead
        if self.parser.should_upgrade() and self.parser.get_method() != _TUNNEL:
            self._offered = True
            return
        if not self._says_for_whom():
            raise _NoValidHost
        self._in_head = False
        self._in_body = True
        self._received = 0
        self._since = self.loop.time()
        self._request_alarm.cancel()
        super().on_headers_complete()

    def take_offer(self) -> bytes | None:
        """Return a head that came with an offer, to be parsed again; see ``PlainParser``."""
        if not self._offered:
            return None
        self._offered = False
        return head_without_offer(
            self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers
        )

    def _says_for_whom(self) -> bool:
        hosts = [value for name, value in self.headers if name == b"host"]
        if not hosts:
            return bool(self.parser.get_http_version() == "1.0")
        return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body; more than the limit is the application's to refuse."""
        super().on_body(body)
        if self._held is None:
            return
        if len(self.cycle.body) > self._limits.body_bytes:
            self._release()
        else:
            self.flow.resume_reading()

    def on_message_complete(self) -> None:
        """Hand the request to the application."""
        if self._offered:
            return
        self._in_body = False
        self._received = 0
        super().on_message_complete()
        self._release()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and self._waits():
            self._connections.idle(self)
            if self._in_head or self._in_body:
                self._watch()

    # The application

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:  # noqa: ANN401 - uvicorn's own
        if cycle is self.cycle and self._in_body and not self._announced_too_much():
            self._held = (cycle, app)
            if cycle.waiting_for_100_continue:
                cycle.waiting_for_100_continue = False
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self._request_alarm.cancel()
        if self._place is Place.PROBES_ONLY and cycle.scope["path"] not in health.PATHS:
            self._refuse(503, "full")
            return
        if self.flow.write_paused:
            # It could not be answered: it would keep its place until the client reads again.
            self._unread = (cycle, app)
            self._connections.idle(self)
            return
        if self._last or self._lifecycle.draining:
            cycle.keep_alive = False
        self._connections.working(self)
        super()._start_asgi_task(cycle, app)

    def _release(self) -> None:
        if self._held is None:
            return
        held, self._held = self._held, None
        in_body, self._in_body = self._in_body, False
        self._start_asgi_task(*held)
        self._in_body = in_body

    def _announced_too_much(self) -> bool:
        for name, value in self.headers:
            if name == b"content-length":
                # The parser has refused what is no number.
                return len(value) > 18 or int(value) > self._limits.body_bytes  # noqa: PLR2004 - 64 bits
        return False

    # Answers

    def pause_writing(self) -> None:
        """Wait until the client has read more of its answers, and see to it that it does."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Go on with its next request."""
        super().resume_writing()
        self._reader_alarm.cancel()
        if self._unread is not None:
            unread, self._unread = self._unread, None
            self._start_asgi_task(*unread)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, once its client has read the last answer."""
        super().timeout_keep_alive_handler()
        self._watch_reader()

    def _watch_reader(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent:
            self._reader_alarm.set(self._limits.answer_seconds)

    def _look_at_reader(self) -> None:
        demanded = self._limits.answer_seconds * self._limits.answer_bytes_per_second
        unsent = self.transport.get_write_buffer_size()
        if unsent > 0 and self._unsent - unsent < demanded:
            self._connections.refused("slow_reader")
            self.transport.abort()
        else:
            self._watch_reader()

    # Time

    def _watch(self) -> None:
        self._request_alarm.set(_CHECK_SECONDS if self._in_body else self._limits.head_seconds)

    def _look(self) -> None:
        if self.transport.is_closing() or self._refused:
            return
        if not self._in_body:
            # Between two requests it is the keep-alive limit that counts.
            if self._in_head or self._present() is None or self.timeout_keep_alive_task is None:
                self._refuse(408, "slow_head")
            return
        elapsed = self.loop.time() - self._since
        demanded = (elapsed - self._limits.body_grace_seconds) * self._limits.body_bytes_per_second
        if elapsed > self._limits.body_seconds or self._received < demanded:
            self._refuse(408, "slow_body")
        else:
            self._watch()

    # Refusals

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own
        """Refuse what is not HTTP, or too much of it."""
        if self._head_fields > self._limits.head_fields or (
            self._in_head and self._head_bytes + len(self.url) > self._limits.head_bytes
        ):
            self._refuse(431, "large_head")
        else:
            self._refuse(400, "malformed")

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a problem where that is possible, and close."""
        self._refused = True
        self._connections.refused(reason)
        self._request_alarm.cancel()
        answerable = self._waits() or reason == "full"
        self._held = self._unread = None
        if (cycle := self._present()) is not None:
            cycle.disconnected = True
        if not answerable or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write(_refusal(status, self.server_state.default_headers))
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


_DETAILS: Final = {
    400: "This is not an HTTP request with one valid Host.",
    408: "The request did not arrive in time. Nothing was done.",
    413: "The body is too large.",
    431: "The request's head is too large.",
    503: "All connections are taken. Nothing was done.",
}


def _refusal(status: int, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    phrase = HTTPStatus(status).phrase
    body = json.dumps(
        {
            "type": f"/problems/{phrase.lower().replace(' ', '-')}",
            "title": phrase,
            "status": status,
            "detail": _DETAILS[status],
        }
    ).encode()
    headers = [
        *default_headers,
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"1"))
    lines = [STATUS_LINE[status], *(b"%s: %s\r\n" % field for field in headers), b"\r\n", body]
    return b"".join(lines)


# What the parser raises through our callbacks, so that `data_received` of the base class sees it.
assert issubclass(httptools.HttpParserCallbackError, httptools.HttpParserError)  # noqa: S101
