"""One log line a request, with its duration and what the endpoint bound to it."""

import structlog
from opentelemetry import trace
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit import log_context, trace_ids
from servicekit.exchange import Exchange, lines_of, watch
from servicekit.routes import route_template

_log = structlog.stdlib.get_logger(__name__)


def bind(**values: str) -> None:
    """Add values, such as ``operation_id``, to the current request's log lines and its span."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({f"shop.{name}": text for name, text in values.items()})
    log_context.bind(**values)


class AccessLogMiddleware:
    """Writes the event ``request`` when a request ends.

    It also gives each request its trace id, so it stands outermost.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        log_context.begin()
        token = trace_ids.bind_request(next(iter(lines_of(scope, b"traceparent")), None))
        exchange, watched_send = watch(scope, send)
        try:
            await self.app(scope, receive, watched_send)
        finally:
            self._write(scope, exchange)
            trace_ids.unbind_request(token)
            log_context.begin()

    def _write(self, scope: Scope, exchange: Exchange) -> None:
        status = exchange.status
        failed = status is None or status >= 500  # noqa: PLR2004 - server errors
        if not exchange.logged:
            return
        write = _log.error if failed else _log.info
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            route=route_template(scope),
            status=status,
            duration_ms=round(exchange.seconds * 1000, 2),
            client=(scope.get("client") or (None,))[0],
        )
