"""The composition root of the order service."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from starlette.middleware import Middleware

from fencelock import Instrumentation
from fencelock.contrib.otel import OpenTelemetryInstrumentation
from fencelock.contrib.prometheus import PrometheusInstrumentation
from order import endpoints
from order.bulkhead import OneOrderMiddleware
from order.metrics import Metrics
from order.ports import Invoices
from order.repository import Journal
from order.resources import Resources
from order.schema import MIGRATIONS
from order.settings import Settings
from order.use_cases import UseCases, create_use_cases
from servicekit import application, database
from servicekit.runtime import Runtime
from tandem.initiator.changes import HAND_OVER_SECONDS, PATIENCE_SECONDS
from tandem.initiator.ports import Locks
from tandem.tasks import running

DESCRIPTION: Final = """
An order and its invoice change together or not at all.

**Answers.** `201` and `204` mean that both sides are changed. `4xx` and `503` mean that nothing was
written. `202` means that the outcome is not known yet: the operation at `Location` will be finished
or dropped as a whole, by itself, and its page says which. Until then the page says `pending`, also
while the operation is not recorded yet; a `404` there is final.

**Repeating.** Send an `Idempotency-Key` with every change and repeat it as often as you like: the
same key and body get the same answer, byte for byte, as long as the change itself is kept. The
answer to a request that was refused is kept for a day by default. While the first request is still
running the answer is `409` with the operation's address.

**Versions.** The `ETag` is the order's version: `"1"`, `"2"`, ... `If-Match` makes a change only at
that version.

**Errors** are `application/problem+json` (RFC 9457).

**Paths** in bodies, such as `order` and `operation`, are paths of this document: they go on from
the server's URL. Those in headers are whole.
"""
TAGS: Final = {
    "orders": "Orders, each of which has its invoice.",
    "operations": "What became of changes whose outcome was not known when they were answered.",
}
# After its deadline a request still waits for its own transaction, and wakes recovery.
_GRACE_SECONDS: Final = PATIENCE_SECONDS + HAND_OVER_SECONDS + 1.0


def create_app(
    settings: Settings,
    *,
    runtime: Runtime,
    invoices: Invoices | None = None,
    locks: Locks | None = None,
    journal: Journal | None = None,
) -> FastAPI:
    """Return the service, which connects to nothing before its first request.

    Args:
        settings: how it is set up.
        runtime: the parts of this process.
        invoices: another invoice service than the one over HTTP; for tests.
        locks: other locks than those in Redis; for tests.
        journal: other statements than ours; for tests.
    """
    telemetry = runtime.telemetry
    resources = Resources.create(
        settings,
        instrumentation=_instrumentation(runtime),
        tracer=telemetry.tracer("order.invoice_client") if telemetry.enabled else None,
        journal=journal,
    )

    def make_use_cases() -> UseCases:
        return create_use_cases(
            settings,
            runtime=runtime,
            resources=resources,
            metrics=Metrics(runtime.registry),
            invoices=invoices,
            locks=locks,
        )

    app = application.build(
        runtime=runtime,
        settings=settings,
        title="Orders",
        summary="Orders that are always true with their invoices.",
        description=DESCRIPTION,
        checks={
            "database": lambda: database.ping(resources.database.engine),
            "schema": lambda: MIGRATIONS.require_head(resources.database.engine),
        },
        lifespan=_lifespan(resources, make_use_cases),
        tags=TAGS,
        deadline_grace_seconds=_GRACE_SECONDS,
        before_admission=[
            Middleware(
                OneOrderMiddleware,
                maximum_per_order=settings.max_requests_per_order,
                wait_seconds=settings.lock_wait_seconds,
            )
        ],
    )
    app.include_router(endpoints.router)
    return app


def _lifespan(resources: Resources, make_use_cases: Callable[[], UseCases]) -> application.Lifespan:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.use_cases = use_cases = make_use_cases()
        async with (
            resources.open(),
            running(
                use_cases.background,
                after=lambda: MIGRATIONS.wait_for_head(resources.recovery_engine),
            ),
        ):
            yield

    return lifespan


def _instrumentation(runtime: Runtime) -> list[Instrumentation]:
    """Return what observes the locks: metrics always, spans if there are any."""
    observers: list[Instrumentation] = [PrometheusInstrumentation(registry=runtime.registry)]
    if runtime.telemetry.enabled:
        observers.append(OpenTelemetryInstrumentation(runtime.telemetry.provider))
    return observers
