"""What the order service counts, beside its requests."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

import fencelock
from order.domain import Kind
from servicekit.breaker import BreakerState
from servicekit.lock_trouble import LockTrouble
from tandem.initiator.records import Backlog
from tandem.operation import Outcome

_OUTCOMES = {
    Outcome.APPLIED: "committed",
    Outcome.REJECTED: "rejected",
    Outcome.ABORTED: "aborted",
}


class Metrics:
    """The metrics of one process, in the registry given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.lock_trouble: Final = LockTrouble(
            registry,
            configuration=fencelock.ConfigurationError,
            foreseen=fencelock.FencelockError,
        )
        self._operations = Counter(
            "shop_operations",
            "Operations finished by this process, by kind and outcome",
            ("kind", "outcome"),
            registry=registry,
        )
        self._handed_over = Counter(
            "shop_operations_handed_over",
            "Requests answered 202 because their outcome was not known; recovery goes on",
            ("kind",),
            registry=registry,
        )
        self._helped = Counter(
            "shop_operations_helped",
            "Pending operations finished by a request that they were in the way of",
            ("kind",),
            registry=registry,
        )
        self._replays = Counter(
            "shop_idempotent_replays",
            "Requests answered from what is kept under their idempotency key",
            registry=registry,
        )
        self._keys_purged = Counter(
            "shop_idempotency_keys_purged",
            "Idempotency keys removed after their retention",
            registry=registry,
        )
        self._archived = Counter(
            "shop_operations_archived",
            "Operations moved from the journal to the archive",
            registry=registry,
        )
        self._pending = Gauge(
            "shop_operations_pending",
            "Operations whose outcome is not known yet, in the database",
            registry=registry,
        )
        self._oldest = Gauge(
            "shop_operation_oldest_seconds",
            "Age of the oldest pending operation, 0 if there is none",
            registry=registry,
        )
        self._recoveries = Counter(
            "shop_reconciler_attempts",
            "Attempts of this process to finish a pending operation, by result",
            ("result",),
            registry=registry,
        )
        self._rounds = Counter(
            "shop_reconciler_rounds",
            "Rounds of this process's reconciler, by result",
            ("result",),
            registry=registry,
        )
        self._show_zeros()

    def _show_zeros(self) -> None:
        """An increase from nothing to 1 is invisible to Prometheus, so begin at 0."""
        for kind in Kind:
            self._handed_over.labels(kind.value)
            self._helped.labels(kind.value)
            for outcome in _OUTCOMES.values():
                self._operations.labels(kind.value, outcome)
        for result in ("finished", "locked", "unknown", "failed"):
            self._recoveries.labels(result)
        for result in ("done", "failed"):
            self._rounds.labels(result)

    def finished(self, kind: str, outcome: Outcome, /) -> None:
        """Count an operation that this process has finished."""
        self._operations.labels(kind, _OUTCOMES[outcome]).inc()

    def handed_over(self, kind: str, /) -> None:
        """Count a request that was answered 202."""
        self._handed_over.labels(kind).inc()

    def helped(self, kind: str, /) -> None:
        """Count an operation that a request finished for somebody else."""
        self._helped.labels(kind).inc()

    def replayed(self) -> None:
        """Count an answer that was given before."""
        self._replays.inc()

    def keys_purged(self, count: int) -> None:
        """Count removed idempotency keys."""
        self._keys_purged.inc(count)

    def archived(self, count: int) -> None:
        """Count operations that were moved to the archive."""
        self._archived.inc(count)

    def backlog(self, backlog: Backlog) -> None:
        """Show what is pending."""
        self._pending.set(backlog.pending)
        self._oldest.set(backlog.oldest_seconds)

    def recovery(self, result: str) -> None:
        """Count one attempt: ``finished``, ``locked``, ``unknown`` or ``failed``."""
        self._recoveries.labels(result).inc()

    def round(self, result: str) -> None:
        """Count one round of the reconciler: ``done`` or ``failed``."""
        self._rounds.labels(result).inc()

    def watch_breaker(self, state: Callable[[], BreakerState]) -> None:
        """Show the state of the circuit breaker for the invoice service."""
        gauge = Gauge(
            "shop_invoice_breaker_state",
            "1 for the state of the circuit breaker for the invoice service",
            ("state",),
            registry=self._registry,
        )
        for each in BreakerState:
            gauge.labels(each.value).set_function(_indicator(state, each))


def _indicator(state: Callable[[], BreakerState], wanted: BreakerState) -> Callable[[], float]:
    return lambda: float(state() is wanted)
