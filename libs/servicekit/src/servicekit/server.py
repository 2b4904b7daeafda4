"""Runs an application under uvicorn, as PID 1 or by hand, and stops it in order.

SIGTERM: ``/readyz`` says draining, and every answer that its connection closes, for
``drain_seconds``; then the listener closes. A request that still comes on a connection within
``idle_grace_seconds`` is answered, requests in flight get ``shutdown_seconds`` (then each is cut
off, and answered what is true of it), the resources are closed, the spans are flushed, and the
process ends with 0. A second signal skips the draining; a third, if it is SIGINT, the requests too.
"""

import math
import signal
import socket
import sys
import time
from types import FrameType
from typing import Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from servicekit import garbage
from servicekit.connections import Connections
from servicekit.descriptors import DescriptorWatch, affordable
from servicekit.failpoints import DroppableConnectionMiddleware
from servicekit.http_protocol import BoundedProtocol, Front, FrontConfig, HttpLimits
from servicekit.lifecycle import Lifecycle
from servicekit.metrics_server import MetricsServer
from servicekit.ports import PortInUse, listen
from servicekit.runtime import Runtime
from servicekit.settings import ServerSettings

# Longer than clients keep an idle connection (ours and httpx: 5 s): otherwise the server may close
# one in the very moment in which the client sends its next request on it.
KEEP_ALIVE_SECONDS: Final = 30
EXIT_PORT_IN_USE: Final = 1
_log = structlog.stdlib.get_logger(__name__)


class DrainingServer(uvicorn.Server):
    """A uvicorn server that drains before it stops, and ends the process with 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        lifecycle: Lifecycle,
        drain_seconds: float,
        descriptors: DescriptorWatch,
    ) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._descriptors = descriptors
        self._drain_seconds = drain_seconds
        self._stop_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - overrides
        """Begin to drain; a second signal ends that, a third (SIGINT) everything.

        The signal is not kept for uvicorn to raise again after its clean stop.
        """
        if not self._lifecycle.draining:
            self._lifecycle.start_draining()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.drain()
            self._stop_at = time.monotonic() + self._drain_seconds
        elif not self.should_exit and self._stop_at > time.monotonic():
            self._stop_at = time.monotonic()
        elif sig == signal.SIGINT:
            self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Tell whether it is time to stop; called ten times a second."""
        self._descriptors.look()
        return await super().on_tick(counter) or time.monotonic() >= self._stop_at

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where."""
        await super().startup(sockets=sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            _log.info("server_started", host=host, port=port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, and say so."""
        self.should_exit = True
        _log.info("server_stopping", connections=len(self.server_state.connections))
        await super().shutdown(sockets=sockets)
        _log.info("server_stopped")


def run(app: ASGIApp, *, runtime: Runtime, settings: ServerSettings) -> int:
    """Serve until a signal says stop, and return the process's exit status.

    A port that cannot be had gives one line on standard error and status 1.
    """
    try:
        listener = listen(settings.host, settings.port)
        with (
            listener,
            MetricsServer(
                runtime.registry, host=settings.host, port=settings.metrics_port
            ) as metrics,
        ):
            _log.info("metrics_started", host=settings.host, port=metrics.port)
            configuration = config(app, runtime=runtime, settings=settings)
            server = DrainingServer(
                configuration,
                lifecycle=runtime.lifecycle,
                drain_seconds=settings.drain_seconds,
                descriptors=DescriptorWatch(listener.fileno(), configuration.front.connections),
            )
            garbage.settle()
            server.run(sockets=[listener])
    except PortInUse as error:
        print(f"{runtime.service}: {error}", file=sys.stderr)  # noqa: T201 - for the person who started it
        return EXIT_PORT_IN_USE
    return 0


def config(app: ASGIApp, *, runtime: Runtime, settings: ServerSettings) -> FrontConfig:
    """Return uvicorn's configuration for ``app``."""
    outermost = DroppableConnectionMiddleware(app) if runtime.failpoints.active else app
    return FrontConfig(
        outermost,
        front=front(runtime=runtime, settings=settings),
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
    )


def front(*, runtime: Runtime, settings: ServerSettings) -> Front:
    """Return what the connections of this process share."""
    return Front(
        limits=HttpLimits(
            body_bytes=settings.max_body_bytes, idle_grace_seconds=settings.idle_grace_seconds
        ),
        connections=Connections(
            maximum=affordable(settings.max_connections), registry=runtime.registry
        ),
        lifecycle=runtime.lifecycle,
    )
