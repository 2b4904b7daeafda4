"""The metrics of one process, on their own port, so that they need no route among the API's."""

from threading import Thread
from types import TracebackType
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from servicekit.ports import port_in_use

_JOIN_SECONDS = 2.0


class MetricsServer:
    """Serves ``/metrics`` (OpenMetrics, with exemplars, for who asks for it) from a thread.

    A thread, so that a scrape is answered while the event loop is busy. Use as a context manager.
    """

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int) -> None:
        self._registry = registry
        self._host = host
        self._port = port
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
