"""Lock spans for OpenTelemetry (``pip install fencelock[otel]``).

``lock.acquire <class>`` covers asking and waiting, ``lock.hold <class>`` the time from grant to
release. The holder's trace context is kept beside the lease, so the spans of a waiter link to the
trace of whoever made it wait.
"""

from opentelemetry import context, trace
from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fencelock._instrumentation import AcquireOutcome, LossReason, Observation, Subject

_PROPAGATOR = TraceContextTextMapPropagator()
# Microseconds: what follows is noise of the clock, and fills the views of a trace.
_DIGITS = 6


class OpenTelemetryInstrumentation:
    """Records a span for waiting and one for holding."""

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        """Use ``tracer_provider``, or the global one as it is when the first lock is taken."""
        self._provider = tracer_provider
        self._tracer: Tracer | None = None

    def observe(self, subject: Subject) -> Observation:
        """Follow one acquisition (called by the client)."""
        if self._tracer is None:
            self._tracer = trace.get_tracer("fencelock", tracer_provider=self._provider)
        return _Traced(self._tracer, subject)


class _Traced(Observation):
    """One acquisition and its lease, as spans of the same parent."""

    __slots__ = ("_blockers", "_hold", "_parent", "_span", "_subject", "_tracer")

    def __init__(self, tracer: Tracer, subject: Subject) -> None:
        self._tracer = tracer
        self._subject = subject
        self._parent = context.get_current()
        self._blockers: set[str] = set()
        self._hold: Span | None = None
        self._span = tracer.start_span(
            f"lock.acquire {subject.lock_class}", self._parent, attributes=self._attributes()
        )

    def annotation(self) -> str | None:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span, self._parent))
        return carrier.get("traceparent")

    def waiting(self, blocker: str | None) -> None:
        self._span.add_event("lock.waiting")
        if blocker is not None:
            self.blocked_by(blocker)

    def blocked_by(self, blocker: str) -> None:
        if blocker in self._blockers:
            return
        self._blockers.add(blocker)
        holder = _span_context(blocker)
        if holder is not None:
            self._span.add_link(holder, {"lock.relation": "blocked_by"})

    def acquired(self, fence: int, waited: float) -> None:
        self._end_acquire("acquired", waited)
        self._span.set_attribute("lock.fence", fence)
        self._span.end()
        self._hold = self._tracer.start_span(
            f"lock.hold {self._subject.lock_class}",
            self._parent,
            attributes={**self._attributes(), "lock.fence": fence},
            links=[Link(self._span.get_span_context())],
        )

    def not_acquired(self, outcome: AcquireOutcome, waited: float) -> None:
        self._end_acquire(outcome, waited)
        self._span.set_status(Status(StatusCode.ERROR, outcome))
        self._span.end()

    def released(self, held: float) -> None:
        self._end_hold("released", held)

    def lost(self, reason: LossReason, held: float) -> None:
        if self._hold is not None:
            self._hold.set_status(Status(StatusCode.ERROR, reason))
        self._end_hold(f"lost ({reason})", held)

    def _attributes(self) -> dict[str, str | list[str]]:
        return {"lock.class": self._subject.lock_class, "lock.names": list(self._subject.names)}

    def _end_acquire(self, outcome: str, waited: float) -> None:
        self._span.set_attribute("lock.outcome", outcome)
        self._span.set_attribute("lock.wait_seconds", round(waited, _DIGITS))

    def _end_hold(self, outcome: str, held: float) -> None:
        if self._hold is not None:
            self._hold.set_attribute("lock.outcome", outcome)
            self._hold.set_attribute("lock.hold_seconds", round(held, _DIGITS))
            self._hold.end()


def _span_context(traceparent: str) -> SpanContext | None:
    """Read what a holder left beside its lease; None if it is not a trace context."""
    found = _PROPAGATOR.extract({"traceparent": traceparent}, context.Context())
    span_context = trace.get_current_span(found).get_span_context()
    return span_context if span_context.is_valid else None
