"""The use cases of one process, put together from their parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from order import failpoints
from order.answers import OrderAnswers
from order.bulkhead import INSIDE_PER_ORDER, BoundedLocks
from order.deadlines import RequestDeadlines
from order.domain import Operation, Order
from order.identifiers import recordable_until
from order.invoice_client import HttpInvoices
from order.locks import RedisLocks
from order.metrics import Metrics
from order.ports import Invoices
from order.recovery import Recovery
from order.repository import ORDERS
from order.resources import Resources
from order.retention import Retention
from order.service.cancellation import Cancellation
from order.service.changes import Changes
from order.service.completion import PostgresCompletions
from order.service.intent import PostgresIntents
from order.service.reading import Reading
from order.settings import Settings
from servicekit.breaker import CircuitBreaker
from servicekit.runtime import Runtime
from tandem.initiator import Delivery, Finishing, Reconciler, WakeUp
from tandem.initiator.ports import Locks
from tandem.tasks import BackgroundWork

_BREAKER_FAILURES: Final = 5
_BREAKER_RESET_SECONDS: Final = 2.0
_BACKOFF_SECONDS: Final = 1.0
"""The first pause between two attempts, and so how long the claim of a replica that dies holds."""
_RECOVERY_LOCK_WAIT_SECONDS: Final = 0.5
"""Recovery waits less than requests do: it has time, and they have somebody waiting."""


@dataclass(frozen=True, slots=True)
class UseCases:
    """What endpoints and the audit call, and what goes on by itself."""

    reading: Reading
    changes: Changes
    cancellation: Cancellation
    reconciler: Reconciler[Operation, Order]
    locks: Locks
    delivery: Delivery[Operation]
    finishing: Finishing[Operation, Order]
    background: Sequence[BackgroundWork]


def create_use_cases(
    settings: Settings,
    *,
    runtime: Runtime,
    resources: Resources,
    metrics: Metrics,
    invoices: Invoices | None = None,
    locks: Locks | None = None,
) -> UseCases:
    """Return the use cases over real resources.

    Args:
        settings: limits and intervals.
        runtime: the parts of this process.
        resources: what has connections.
        metrics: what is counted.
        invoices: another invoice service than the one over HTTP; for tests.
        locks: other locks than those in Redis; for tests.
    """
    return _assemble(
        settings,
        runtime=runtime,
        resources=resources,
        metrics=metrics,
        invoices=invoices or _http_invoices(settings, resources, metrics),
        locks=locks or RedisLocks(resources.locks, trouble=metrics.lock_trouble),
    )


def _http_invoices(settings: Settings, resources: Resources, metrics: Metrics) -> HttpInvoices:
    breaker = CircuitBreaker(
        failure_threshold=_BREAKER_FAILURES, reset_seconds=_BREAKER_RESET_SECONDS
    )
    metrics.watch_breaker(lambda: breaker.state)
    return HttpInvoices(
        resources.http,
        breaker=breaker,
        usual_timeout_seconds=settings.invoice_timeout_seconds,
        credential=None if resources.credential is None else resources.credential.current,
    )


def _assemble(
    settings: Settings,
    *,
    runtime: Runtime,
    resources: Resources,
    metrics: Metrics,
    invoices: Invoices,
    locks: Locks,
) -> UseCases:
    points, deadlines = runtime.failpoints, RequestDeadlines()
    delivery = Delivery(
        invoices,
        points=failpoints.POINTS,
        failpoints=points,
        deadlines=deadlines,
        timeout_seconds=settings.invoice_timeout_seconds,
    )
    completions = PostgresCompletions(
        resources.database,
        failpoints=points,
        metrics=metrics,
        timeout_seconds=settings.request_timeout_seconds,
    )
    intents = PostgresIntents(
        resources.database,
        failpoints=points,
        # Before that the request itself is still at its first try.
        due_in_seconds=settings.invoice_timeout_seconds,
        skew=timedelta(seconds=settings.update_time_skew_seconds),
        timeout_seconds=settings.request_timeout_seconds,
    )
    finishing = Finishing(
        decider=invoices,
        locks=locks,
        delivery=delivery,
        completions=completions,
        ask_timeout_seconds=settings.invoice_timeout_seconds,
        lock_wait_seconds=min(_RECOVERY_LOCK_WAIT_SECONDS, settings.lock_wait_seconds),
    )
    changes = Changes(
        locks=BoundedLocks(locks, maximum_per_order=INSIDE_PER_ORDER),
        intents=intents,
        decider=invoices,
        delivery=delivery,
        completions=completions,
        finishing=finishing,
        answers=OrderAnswers(),
        observer=metrics,
        points=failpoints.POINTS,
        failpoints=points,
        deadlines=deadlines,
        lock_wait_seconds=settings.lock_wait_seconds,
        timeout_seconds=settings.request_timeout_seconds,
    )
    reading = Reading(
        resources.database,
        until=recordable_until(timeout_seconds=settings.request_timeout_seconds),
    )
    wake_up = WakeUp(
        settings.database_url.get_secret_value(),
        channel=ORDERS.channel,
        application_name="order-wake-up",
    )
    reconciler = _reconciler(
        settings,
        runtime=runtime,
        resources=resources,
        metrics=metrics,
        invoices=invoices,
        finishing=finishing,
        wake_up=wake_up,
    )
    retention = Retention(
        resources.recovery_engine,
        metrics=metrics,
        retention_seconds=settings.idempotency_retention_seconds,
        operation_retention_seconds=settings.operation_retention_seconds,
        interval_seconds=settings.purge_interval_seconds,
    )
    return UseCases(
        reading=reading,
        changes=changes,
        cancellation=Cancellation(
            reading=reading,
            finishing=finishing,
            intents=intents,
            timeout_seconds=settings.invoice_timeout_seconds,
        ),
        reconciler=reconciler,
        locks=locks,
        delivery=delivery,
        finishing=finishing,
        background=(reconciler, wake_up, retention),
    )


def _reconciler(
    settings: Settings,
    *,
    runtime: Runtime,
    resources: Resources,
    metrics: Metrics,
    invoices: Invoices,
    finishing: Finishing[Operation, Order],
    wake_up: WakeUp,
) -> Reconciler[Operation, Order]:
    return Reconciler(
        engine=resources.recovery_engine,
        schema=ORDERS,
        decider=invoices,
        finishing=finishing,
        wake_up=wake_up,
        observer=Recovery(metrics, runtime.telemetry.tracer("order.reconciler")),
        interval_seconds=settings.reconcile_interval_seconds,
        attempt_timeout_seconds=settings.request_timeout_seconds,
        backoff_seconds=min(settings.reconcile_interval_seconds, _BACKOFF_SECONDS),
    )
