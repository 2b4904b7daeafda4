"""What the invoice service counts, beside its requests."""

from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter

import fencelock
from fencelock.contrib.prometheus import FenceRejections
from servicekit.lock_trouble import LockTrouble
from tandem.operation import Kind, Outcome

LockCheckResult = Literal["held", "not_held", "missing", "unavailable"]

_RESOURCE: Final = "invoice"


class InvoiceMetrics:
    """The counters of one process, in the registry given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._recorded = Counter(
            "shop_invoice_operations_total",
            "Operations decided by the invoice database, by kind and outcome",
            ("kind", "outcome"),
            registry=registry,
        )
        self._replayed = Counter(
            "shop_invoice_replays_total",
            "Requests answered from a recorded operation, by its outcome",
            ("outcome",),
            registry=registry,
        )
        self._lock_checks = Counter(
            "shop_invoice_lock_checks_total",
            "Checks whether the caller holds the lock, by result",
            ("result",),
            registry=registry,
        )
        self.lock_trouble: Final = LockTrouble(
            registry,
            configuration=fencelock.ConfigurationError,
            foreseen=fencelock.FencelockError,
        )
        self._fence_rejections = FenceRejections(registry=registry)
        self._purged = Counter(
            "shop_invoice_operations_purged_total",
            "Operations of direct clients removed after their retention",
            registry=registry,
        )
        self._archived = Counter(
            "shop_invoice_operations_archived_total",
            "Operations of orders moved from the journal to the archive",
            registry=registry,
        )
        self._show_zeros()

    def _show_zeros(self) -> None:
        """An increase from nothing to 1 is invisible to Prometheus, so begin at 0."""
        self._fence_rejections.show(_RESOURCE)
        for result in get_args(LockCheckResult):
            self._lock_checks.labels(result)
        for kind in Kind:
            for outcome in Outcome:
                self._recorded.labels(kind.value, outcome.value)

    def recorded(self, kind: Kind, outcome: Outcome) -> None:
        """Count an operation that was decided now."""
        self._recorded.labels(kind.value, outcome.value).inc()

    def replayed(self, outcome: Outcome) -> None:
        """Count an answer that was given before."""
        self._replayed.labels(outcome.value).inc()

    def lock_checked(self, result: LockCheckResult) -> None:
        """Count one look at the caller's lock."""
        self._lock_checks.labels(result).inc()

    def fence_rejected(self) -> None:
        """Count a write that came with an older lock than the last one."""
        self._fence_rejections.rejected(_RESOURCE)

    def archived(self, count: int) -> None:
        """Count operations that were moved to the archive."""
        self._archived.inc(count)

    def purged(self, count: int) -> None:
        """Count removed records."""
        self._purged.inc(count)
