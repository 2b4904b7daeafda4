"""A real server on a free port, inside the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from servicekit.connections import Connections
from servicekit.failpoints import DroppableConnectionMiddleware
from servicekit.http_protocol import Front, FrontConfig, HttpLimits
from servicekit.lifecycle import Lifecycle
from servicekit.ports import listen
from servicekit.server import KEEP_ALIVE_SECONDS

_STOP_SECONDS = 10


class _QuietServer(uvicorn.Server):
    """A server that leaves the signals to the test runner."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(
    app: ASGIApp,
    *,
    limits: HttpLimits | None = None,
    connections: Connections | None = None,
    lifecycle: Lifecycle | None = None,
    stop_seconds: int = _STOP_SECONDS,
) -> AsyncIterator[str]:
    """Serve ``app``, lifespan included, and yield its base URL; failpoints may drop connections.

    At the end requests that go on get ``stop_seconds``, and are cut off then.
    """
    front = Front(
        limits=limits or HttpLimits(idle_grace_seconds=0.0),
        connections=Connections(maximum=1000, registry=CollectorRegistry())
        if connections is None
        else connections,
        lifecycle=lifecycle or Lifecycle(),
    )
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = _QuietServer(
            FrontConfig(
                DroppableConnectionMiddleware(app),
                front=front,
                lifespan="on",
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=stop_seconds,
            )
        )
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                if task.done():
                    task.result()
                    raise RuntimeError("the server ended before it started")
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await task
