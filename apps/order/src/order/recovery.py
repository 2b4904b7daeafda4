"""What is seen of recovery: metrics, a span for each attempt, and what the log says."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from order.metrics import Metrics
from servicekit import log_context
from servicekit.quiet_log import Interval
from tandem.initiator.records import Backlog

_log = structlog.stdlib.get_logger(__name__)


class Recovery:
    """Watches recovery; see ``tandem.initiator.ports.RecoveryObserver``.

    Args:
        metrics: counts attempts and shows the backlog.
        tracer: makes a span for each attempt, linked to the request that began the operation.
    """

    def __init__(self, metrics: Metrics, tracer: trace.Tracer) -> None:
        self._metrics = metrics
        self._tracer = tracer
        self._failures = Interval()

    @contextmanager
    def attempt(self, op_id: UUID, *, attempts: int, traceparent: str | None) -> Iterator[None]:
        """Surround one attempt at one operation."""
        with (
            log_context.bound(operation_id=str(op_id)),
            self._tracer.start_as_current_span(
                "operation.recover", links=_links(traceparent)
            ) as span,
        ):
            span.set_attribute("operation.id", str(op_id))
            span.set_attribute("operation.attempt", attempts)
            yield

    def recovery(self, result: str, error: Exception | None = None, /) -> None:
        """Count the attempt that goes on."""
        span = trace.get_current_span()
        if error is not None:
            span.record_exception(error)
        span.set_attribute("operation.result", result)
        self._metrics.recovery(result)

    def round(self, error: Exception | None, /) -> None:
        """Count one round, and say now and then what rounds die of."""
        self._metrics.round("done" if error is None else "failed")
        if error is not None and (times := self._failures.due()) is not None:
            _log.warning("reconciler_round_failed", times=times, error=repr(error))

    def backlog(self, backlog: Backlog, /) -> None:
        """Show what is pending."""
        self._metrics.backlog(backlog)


def _links(traceparent: str | None) -> list[trace.Link]:
    """Return the link to the request that recorded the operation."""
    if traceparent is None:
        return []
    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    origin = trace.get_current_span(context).get_span_context()
    return [trace.Link(origin)] if origin.is_valid else []
