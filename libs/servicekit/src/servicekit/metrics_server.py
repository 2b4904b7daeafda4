"""The metrics of one process, on their own port, so that they need no route among the API's."""

import contextlib
import socket
from threading import Thread, Timer
from types import TracebackType
from typing import Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from servicekit.ports import port_in_use

_JOIN_SECONDS = 2.0
# From the connection's start; a scrape takes milliseconds, and Prometheus gives it 10 s by default.
_CONNECTION_SECONDS = 10.0


class _LimitedHandler(WSGIRequestHandler):
    """Ends a connection when its time is over: one that says nothing would keep a thread for ever.

    Set ``limit_seconds`` in a class derived from it.
    """

    limit_seconds = _CONNECTION_SECONDS

    def handle(self) -> None:
        """Answer one request."""
        # Not a socket's timeout, which starts anew with each byte.
        timer = Timer(self.limit_seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            # Whoever is gone, or was ended, is owed nothing.
            with contextlib.suppress(ConnectionError):
                super().handle()
        finally:
            timer.cancel()

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - overrides
        """Say nothing: scrapes come every few seconds."""


class MetricsServer:
    """Serves ``/metrics`` (OpenMetrics, with exemplars, for who asks for it) from a thread.

    A thread, so that a scrape is answered while the event loop is busy. Use as a context manager.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        host: str,
        port: int,
        limit_seconds: float = _CONNECTION_SECONDS,
    ) -> None:
        """Serve ``registry``; a connection may last ``limit_seconds`` from its start."""
        self._registry = registry
        self._host = host
        self._port = port
        self._limit_seconds = limit_seconds
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port if self._server is None else self._server.server_port

    def __enter__(self) -> Self:
        """Start listening.

        Raises:
            PortInUse: somebody else has the port.
        """
        with port_in_use(self._host, self._port):
            self._server, self._thread = start_http_server(
                self._port, addr=self._host, registry=self._registry
            )
        self._server.RequestHandlerClass = type(
            "Handler", (_LimitedHandler,), {"limit_seconds": self._limit_seconds}
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(timeout=_JOIN_SECONDS)
            self._server = self._thread = None
