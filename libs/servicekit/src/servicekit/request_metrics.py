"""How long requests take, by method, route and status, with an exemplar that leads to the trace."""

from typing import Final

from prometheus_client import CollectorRegistry, Histogram
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.exchange import watch
from servicekit.routes import route_template
from servicekit.trace_ids import current_exemplar

# From a replay (about 1 ms) to the longest request an order takes (15 s).
_BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    15.0,
)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMetrics:
    """The HTTP metrics of one service, in the registry given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._duration = Histogram(
            "http_server_request_duration_seconds",
            "Duration of HTTP requests by method, route template and status",
            ("method", "route", "status"),
            registry=registry,
            buckets=_BUCKETS,
        )
        # As many as the histogram itself keeps; its own look-up takes a lock and makes texts.
        self._series: dict[tuple[str, str, str], Histogram] = {}

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; a status of 0 means that the connection was cut without an answer."""
        key = (method if method in _METHODS else "_OTHER", route, str(status))
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._duration.labels(*key)
        series.observe(seconds, current_exemplar())


class RequestMetricsMiddleware:
    """Observes each request in ``metrics``."""

    def __init__(self, app: ASGIApp, *, metrics: RequestMetrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange, watched_send = watch(scope, send)
        try:
            await self.app(scope, receive, watched_send)
        finally:
            self._metrics.observe(
                method=scope["method"],
                route=route_template(scope),
                status=exchange.status or 0,
                seconds=exchange.seconds,
            )
