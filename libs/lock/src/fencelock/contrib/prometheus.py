"""Lock metrics for Prometheus (``pip install fencelock[prometheus]``).

The label ``lock`` is the class of the lock, never its name, and the number of classes is bounded.
The histograms carry the trace id of a sampled span as an exemplar, which OpenMetrics shows.
"""

from collections.abc import Callable
from typing import Final, get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from fencelock._classes import Classes
from fencelock._instrumentation import AcquireOutcome, LossReason, Observation, Subject

# An uncontended acquire takes well below a millisecond; nobody waits for minutes.
ACQUIRE_BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
)
HOLD_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
EXEMPLAR_LABEL: Final = "trace_id"
# OpenMetrics: so many characters have the labels of an exemplar, with their names, at most.
EXEMPLAR_MAX: Final = 128
_ACQUIRE_OUTCOMES: Final = ("acquired", "contended", "timeout", "error")
_HOLD_OUTCOMES: Final = ("released", "lost")
_RENEWAL_OUTCOMES: Final = ("extended", "failed")

TraceId = Callable[[], str | None]


class FenceRejections:
    """Counts writes that storage refused: for a service that checks fences and takes no locks.

    ``PrometheusInstrumentation`` has one. Make one for each registry.
    """

    def __init__(self, *, registry: CollectorRegistry = REGISTRY, max_resources: int = 50) -> None:
        """Create the metric.

        Args:
            registry: where it is registered.
            max_resources: how many resources get a label of their own; whatever comes after them
                is counted as ``other``.
        """
        self._resources = Classes(max_resources)
        self._counter = Counter(
            "fencelock_fence_rejections",
            "Writes that storage refused since a newer lease had written.",
            ["resource"],
            registry=registry,
        )

    def show(self, resource: str) -> None:
        """Show 0 from the start: an increase from nothing to 1 is invisible to ``increase``."""
        self._counter.labels(self._resources.value(resource))

    def rejected(self, resource: str) -> None:
        """Storage refused a write because of its fence. ``resource`` is a kind, such as a table."""
        self._counter.labels(self._resources.value(resource)).inc()


class PrometheusInstrumentation:
    """Counts and times what locks do. Make one for each registry."""

    def __init__(
        self,
        *,
        registry: CollectorRegistry = REGISTRY,
        max_classes: int = 50,
        trace_id: TraceId | None = None,
    ) -> None:
        """Create the metrics.

        Args:
            registry: where they are registered.
            max_classes: how many lock classes (and resources) get a label of their own; whatever
                comes after them is counted as ``other``.
            trace_id: gives the trace id for exemplars, of 120 characters at most; by default that
                of the current sampled OpenTelemetry span, if OpenTelemetry is installed.
        """
        self._trace_id = trace_id or _current_trace_id()
        self._classes = Classes(max_classes)
        self._shown: set[str] = set()
        self.acquire: Histogram = Histogram(
            "fencelock_acquire_duration_seconds",
            "Time from asking for a lock to having it, or to giving up.",
            ["lock", "outcome"],
            buckets=ACQUIRE_BUCKETS,
            registry=registry,
        )
        self.hold: Histogram = Histogram(
            "fencelock_hold_duration_seconds",
            "Time a lock was held.",
            ["lock", "outcome"],
            buckets=HOLD_BUCKETS,
            registry=registry,
        )
        self.held: Gauge = Gauge(
            "fencelock_held", "Locks held by this process now.", ["lock"], registry=registry
        )
        self.waiters: Gauge = Gauge(
            "fencelock_waiters", "Tasks that stand in line now.", ["lock"], registry=registry
        )
        self.contended: Counter = Counter(
            "fencelock_contended",
            "Acquisitions that found the lock taken, whether they waited for it or not.",
            ["lock"],
            registry=registry,
        )
        self.renewals: Counter = Counter(
            "fencelock_renewals", "Renewals of leases.", ["lock", "outcome"], registry=registry
        )
        self.losses: Counter = Counter(
            "fencelock_lost", "Leases that were lost.", ["lock", "reason"], registry=registry
        )
        self._fence_rejections = FenceRejections(registry=registry, max_resources=max_classes)

    def observe(self, subject: Subject) -> Observation:
        """Follow one acquisition (called by the client)."""
        lock = self._classes.value(subject.lock_class)
        if lock not in self._shown:
            self._show(lock)
        return _Metered(self, lock)

    def fence_rejected(self, resource: str) -> None:
        """Storage refused a write because of its fence. ``resource`` is a kind, such as a table."""
        self._fence_rejections.rejected(resource)

    def _show(self, lock: str) -> None:
        """Show zeros from the start: an increase from nothing to 1 is invisible to ``increase``."""
        self._shown.add(lock)
        self.held.labels(lock)
        self.waiters.labels(lock)
        self.contended.labels(lock)
        for outcome in _ACQUIRE_OUTCOMES:
            self.acquire.labels(lock, outcome)
        for outcome in _HOLD_OUTCOMES:
            self.hold.labels(lock, outcome)
        for outcome in _RENEWAL_OUTCOMES:
            self.renewals.labels(lock, outcome)
        for reason in get_args(LossReason):
            self.losses.labels(lock, reason)

    def exemplar(self) -> dict[str, str] | None:
        """The label that leads from a measurement to its trace."""
        trace_id: object = self._trace_id()
        # prometheus_client refuses others, and the measurement with them.
        fits = isinstance(trace_id, str) and len(trace_id) <= EXEMPLAR_MAX - len(EXEMPLAR_LABEL)
        return {EXEMPLAR_LABEL: str(trace_id)} if fits else None


class _Metered(Observation):
    """One acquisition, measured."""

    __slots__ = ("_exemplar", "_lock", "_metrics", "_waiting")

    def __init__(self, metrics: PrometheusInstrumentation, lock: str) -> None:
        self._metrics = metrics
        # Of whoever asked for the lock: a loss is found out in the context of something else.
        self._exemplar = metrics.exemplar()
        self._lock = lock
        self._waiting = False

    def waiting(self, blocker: str | None) -> None:  # noqa: ARG002 (part of the protocol)
        self._waiting = True
        self._metrics.waiters.labels(self._lock).inc()
        self._metrics.contended.labels(self._lock).inc()

    def acquired(self, fence: int, waited: float) -> None:  # noqa: ARG002 (part of the protocol)
        self._end_acquire("acquired", waited)
        self._metrics.held.labels(self._lock).inc()

    def not_acquired(self, outcome: AcquireOutcome, waited: float) -> None:
        if outcome == "contended":
            self._metrics.contended.labels(self._lock).inc()
        # A caller that is cancelled gave up waiting, like one whose time is up.
        self._end_acquire("timeout" if outcome == "cancelled" else outcome, waited)

    def renewed(self, *, extended: bool) -> None:
        outcome = "extended" if extended else "failed"
        self._metrics.renewals.labels(self._lock, outcome).inc()

    def released(self, held: float) -> None:
        self._end_hold("released", held)

    def lost(self, reason: LossReason, held: float) -> None:
        self._end_hold("lost", held)
        self._metrics.losses.labels(self._lock, reason).inc()

    def _end_acquire(self, outcome: str, waited: float) -> None:
        if self._waiting:
            self._waiting = False
            self._metrics.waiters.labels(self._lock).dec()
        histogram = self._metrics.acquire.labels(self._lock, outcome)
        histogram.observe(waited, self._exemplar)

    def _end_hold(self, outcome: str, held: float) -> None:
        self._metrics.held.labels(self._lock).dec()
        self._metrics.hold.labels(self._lock, outcome).observe(held, self._exemplar)


def _current_trace_id() -> TraceId:
    """Reads the current sampled span; nothing if OpenTelemetry is not installed."""
    try:
        from opentelemetry import trace  # noqa: PLC0415 (optional)
    except ImportError:
        return lambda: None

    def current() -> str | None:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid or not context.trace_flags.sampled:
            return None
        return trace.format_trace_id(context.trace_id)

    return current
