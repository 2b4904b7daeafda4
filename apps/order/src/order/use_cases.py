"""The use cases of one process, put together from their parts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

from order.bulkhead import BoundedLocks
from order.invoice_client import HttpInvoices
from order.locks import RedisLocks
from order.metrics import Metrics
from order.ports import Invoices, Locks
from order.reconciler import Reconciler
from order.resources import Resources
from order.retention import Retention
from order.service.cancellation import Cancellation
from order.service.changes import Changes
from order.service.completion import PostgresCompletions
from order.service.delivery import Delivery
from order.service.helping import Helping
from order.service.intent import PostgresIntents
from order.service.reading import Reading
from order.settings import Settings
from order.wakeup import WakeUp
from servicekit.breaker import CircuitBreaker
from servicekit.runtime import Runtime

_BREAKER_FAILURES: Final = 5
_BREAKER_RESET_SECONDS: Final = 2.0
_BACKOFF_SECONDS: Final = 1.0
"""The first pause between two attempts, and so how long the claim of a replica that dies holds."""
_RECOVERY_LOCK_WAIT_SECONDS: Final = 0.5
"""Recovery waits less than requests do: it has time, and they have somebody waiting."""


class BackgroundWork(Protocol):
    """Something that goes on until it is cancelled."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class UseCases:
    """What endpoints and the audit call, and what goes on by itself."""

    reading: Reading
    changes: Changes
    cancellation: Cancellation
    reconciler: Reconciler
    locks: Locks
    delivery: Delivery
    helping: Helping
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
        locks=locks or RedisLocks(resources.locks),
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
    points = runtime.failpoints
    delivery = Delivery(
        invoices, failpoints=points, timeout_seconds=settings.invoice_timeout_seconds
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
    helping = Helping(
        invoices=invoices,
        locks=locks,
        delivery=delivery,
        completions=completions,
        ask_timeout_seconds=settings.invoice_timeout_seconds,
        lock_wait_seconds=min(_RECOVERY_LOCK_WAIT_SECONDS, settings.lock_wait_seconds),
    )
    changes = Changes(
        locks=BoundedLocks(locks, maximum_per_order=settings.max_requests_per_order),
        intents=intents,
        invoices=invoices,
        delivery=delivery,
        completions=completions,
        helping=helping,
        failpoints=points,
        metrics=metrics,
        lock_wait_seconds=settings.lock_wait_seconds,
        timeout_seconds=settings.request_timeout_seconds,
    )
    reading = Reading(resources.database)
    wake_up = WakeUp(settings.database_url.get_secret_value())
    reconciler = _reconciler(
        settings,
        runtime=runtime,
        resources=resources,
        metrics=metrics,
        invoices=invoices,
        helping=helping,
        wake_up=wake_up,
    )
    retention = Retention(
        resources.recovery_engine,
        metrics=metrics,
        retention_seconds=settings.idempotency_retention_seconds,
        interval_seconds=settings.purge_interval_seconds,
    )
    return UseCases(
        reading=reading,
        changes=changes,
        cancellation=Cancellation(
            reading=reading,
            invoices=invoices,
            completions=completions,
            intents=intents,
            timeout_seconds=settings.invoice_timeout_seconds,
        ),
        reconciler=reconciler,
        locks=locks,
        delivery=delivery,
        helping=helping,
        background=(reconciler, wake_up, retention),
    )


def _reconciler(
    settings: Settings,
    *,
    runtime: Runtime,
    resources: Resources,
    metrics: Metrics,
    invoices: Invoices,
    helping: Helping,
    wake_up: WakeUp,
) -> Reconciler:
    return Reconciler(
        engine=resources.recovery_engine,
        invoices=invoices,
        helping=helping,
        wake_up=wake_up,
        metrics=metrics,
        tracer=runtime.telemetry.tracer("order.reconciler"),
        interval_seconds=settings.reconcile_interval_seconds,
        attempt_timeout_seconds=settings.request_timeout_seconds,
        backoff_seconds=min(settings.reconcile_interval_seconds, _BACKOFF_SECONDS),
    )


async def _at_once() -> None:
    """Wait for nothing."""


@asynccontextmanager
async def running(
    background: Sequence[BackgroundWork],
    *,
    after: Callable[[], Coroutine[Any, Any, None]] = _at_once,
) -> AsyncIterator[None]:
    """Let the background work go on while the body runs, end it, and raise what it died of.

    Args:
        background: the work.
        after: returns once it may begin; the body does not wait for that.
    """
    gate = asyncio.create_task(after(), name="gate")

    async def begin(work: BackgroundWork) -> None:
        await asyncio.shield(gate)
        await work.run()

    tasks = [
        gate,
        *(
            asyncio.create_task(begin(work), name=type(work).__name__.lower())
            for work in background
        ),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
