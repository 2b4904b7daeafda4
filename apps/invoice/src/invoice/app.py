"""The composition root of the invoice service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from invoice import endpoints
from invoice.locks import LockVerifier
from invoice.repository import invoice_records
from invoice.resources import (
    Resources,
    create_engine,
    create_lock_client,
    create_service,
    create_store,
    purging,
)
from invoice.schema import MIGRATIONS
from invoice.settings import Settings
from servicekit import application, database
from servicekit.runtime import Runtime
from tandem.decider import Records

DESCRIPTION: Final = """
Invoices change only under a lock. The invoice of an order is locked together with its order, by the
names `order:{<order id>}` and `invoice:{<order id>}`; another one by `invoice:{<invoice id>}`. The
holder proves it with the header `Lock-Token`.

**Operations.** Every change is decided once, under its `Idempotency-Key`, and the decision never
changes: a repetition gets the same answer byte for byte, without any lock. Answers that report a
decision carry `Operation-Outcome: applied | rejected | aborted`, and in `Operation-Id` which one it
is of. An answer without them says nothing about the operation: ask again with the same key, or at
`/operations/{op_id}`. A key of a direct client and the id of an order's operation never meet, also
if they are the same UUID.

**Answers.** `4xx` and `503` mean that nothing was written, also when a request's time runs out.
`504` means that the database went away during the commit and did not come back in time: whether it
was written is told by the same request again under the same key, or by the page at `Location`.

**Versions.** The `ETag` is the invoice's version: `"1"`, `"2"`, ... Every applied operation makes
exactly one version.

**Errors** are `application/problem+json` (RFC 9457).
"""
TAGS: Final = {
    "invoices": "Invoices, of orders and by themselves.",
    "operations": "What was decided, under the keys of those who asked for it.",
}


def create_app(
    settings: Settings,
    *,
    runtime: Runtime,
    verifier: LockVerifier | None = None,
    records: type[Records] = Records,
) -> FastAPI:
    """Return the service, which connects to nothing before its first request.

    Args:
        settings: how it is set up.
        runtime: the parts of this process.
        verifier: another check of locks than Redis; for tests.
        records: makes other statements than ours; for tests.
    """
    engine = create_engine(settings)
    app = application.build(
        runtime=runtime,
        settings=settings,
        title="Invoices",
        summary="Invoices that change only under the lock of their order.",
        description=DESCRIPTION,
        checks={
            "database": lambda: database.ping(engine),
            "schema": lambda: MIGRATIONS.require_head(engine),
        },
        lifespan=_lifespan(settings, runtime, engine, verifier, records),
        tags=TAGS,
    )
    app.include_router(endpoints.router)
    return app


def _lifespan(
    settings: Settings,
    runtime: Runtime,
    engine: AsyncEngine,
    verifier: LockVerifier | None,
    records: type[Records],
) -> application.Lifespan:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lock_client, store = create_lock_client(settings), create_store(settings)
        service = create_service(
            settings,
            runtime=runtime,
            store=store,
            verifier=verifier or lock_client,
            records=invoice_records(records),
        )
        app.state.resources = Resources(runtime=runtime, engine=engine, service=service)
        try:
            async with purging(
                service,
                interval_seconds=settings.purge_interval_seconds,
                retention_seconds=settings.idempotency_retention_seconds,
                operation_retention_seconds=settings.operation_retention_seconds,
            ):
                yield
        finally:
            await lock_client.aclose()
            await store.close()
            await engine.dispose()

    return lifespan
