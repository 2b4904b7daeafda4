"""One log line a request, with its duration and what the endpoint bound to it."""

import time
from collections.abc import Collection

import structlog
from opentelemetry import trace
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicekit import trace_ids
from servicekit.routes import route_template

_log = structlog.stdlib.get_logger(__name__)


def bind(**values: str) -> None:
    """Add values, such as ``operation_id``, to the current request's log lines and its span."""
    trace.get_current_span().set_attributes({f"shop.{name}": text for name, text in values.items()})
    structlog.contextvars.bind_contextvars(**values)


class AccessLogMiddleware:
    """Writes the event ``request`` when a request ends; quiet paths are left out unless they fail.

    It also gives each request its trace id, so it stands outermost.
    """

    def __init__(self, app: ASGIApp, *, quiet_paths: Collection[str] = ()) -> None:
        self.app = app
        self._quiet_paths = frozenset(quiet_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        structlog.contextvars.clear_contextvars()
        token = trace_ids.bind_request(Headers(scope=scope).get("traceparent"))
        status: int | None = None
        started = time.perf_counter()

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        finally:
            self._write(scope, status, time.perf_counter() - started)
            trace_ids.unbind_request(token)
            structlog.contextvars.clear_contextvars()

    def _write(self, scope: Scope, status: int | None, seconds: float) -> None:
        failed = status is None or status >= 500  # noqa: PLR2004 - server errors
        if (scope["path"] in self._quiet_paths and not failed) or "servicekit.unlogged" in scope:
            return
        write = _log.error if failed else _log.info
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            route=route_template(scope),
            status=status,
            duration_ms=round(seconds * 1000, 2),
            client=(scope.get("client") or (None,))[0],
        )
