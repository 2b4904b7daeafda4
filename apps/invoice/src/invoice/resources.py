"""What the process opens at its start and closes at its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psycopg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

import fencelock
from invoice import failpoints
from invoice.answers import InvoiceAnswers
from invoice.locks import LockGuard, LockVerifier
from invoice.metrics import InvoiceMetrics
from invoice.service import InvoiceService, utc_now
from invoice.settings import Settings
from servicekit import database
from servicekit.runtime import Runtime
from tandem.connecting import Connector
from tandem.decider import DecisionPoint, Points, Records
from tandem.store import Store

_PROBE_CONNECTIONS: Final = 2
_POINTS: Final = Points(
    before=failpoints.BEFORE_T2,
    after=failpoints.AFTER_T2,
    before_abort=failpoints.BEFORE_ABORT,
    after_abort=failpoints.AFTER_ABORT,
)
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Resources:
    """The parts that the endpoints work with."""

    runtime: Runtime
    engine: AsyncEngine
    service: InvoiceService


def create_engine(settings: Settings) -> AsyncEngine:
    """Return the engine of the invoice database, for probes; it connects at first use."""
    return database.create_engine(
        settings.database_url.get_secret_value(),
        application_name="invoice-probes",
        pool_size=_PROBE_CONNECTIONS,
        statement_timeout_seconds=settings.statement_timeout_seconds,
        pooler=settings.database_pooler,
        connect=Connector().connect,
    )


def create_store(settings: Settings) -> Store:
    """Return the connections for everything else; they are made at first use."""
    url = settings.database_url.get_secret_value()
    return Store(
        database.libpq_url(url),
        parameters=database.connection_parameters(
            url,
            application_name="invoice",
            statement_timeout_seconds=settings.statement_timeout_seconds,
            pooler=settings.database_pooler,
        ),
        size=settings.database_pool_size,
    )


def create_lock_client(settings: Settings) -> fencelock.AsyncLockClient:
    """Return the client that verifies locks; it connects at first use."""
    return fencelock.AsyncLockClient.from_url(settings.redis_url.get_secret_value())


def create_service(
    settings: Settings,
    *,
    runtime: Runtime,
    store: Store,
    verifier: LockVerifier,
    records: Records,
) -> InvoiceService:
    """Return the use cases on a database and a lock client."""
    metrics = InvoiceMetrics(runtime.registry)
    return InvoiceService(
        store=store,
        records=records,
        decisions=DecisionPoint(
            store,
            records,
            answers=InvoiceAnswers(),
            observer=metrics,
            failpoints=runtime.failpoints,
            points=_POINTS,
            clock=utc_now,
            patience_seconds=settings.commit_patience_seconds,
        ),
        guard=LockGuard(
            verifier,
            timeout_seconds=settings.lock_check_timeout_seconds,
            metrics=metrics,
            tracer=runtime.telemetry.tracer("invoice"),
        ),
        metrics=metrics,
        points=runtime.failpoints,
        timeout_seconds=settings.request_timeout_seconds,
        patience_seconds=settings.commit_patience_seconds,
    )


@asynccontextmanager
async def purging(
    service: InvoiceService,
    *,
    interval_seconds: float,
    retention_seconds: float,
    operation_retention_seconds: float = 0,
) -> AsyncIterator[None]:
    """Purge and, if operations are not to stay for ever, archive while the body runs."""
    task = asyncio.create_task(
        _purge_for_ever(
            service,
            interval_seconds=interval_seconds,
            retention_seconds=retention_seconds,
            operation_retention_seconds=operation_retention_seconds,
        ),
        name="purge",
    )
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _purge_for_ever(
    service: InvoiceService,
    *,
    interval_seconds: float,
    retention_seconds: float,
    operation_retention_seconds: float,
) -> None:
    while True:
        await asyncio.sleep(interval_seconds)
        try:
            count = await service.purge(retention_seconds=retention_seconds)
        except (psycopg.Error, TimeoutError) as error:
            _log.warning("purge_failed", error=database.detail_of(error))
        else:
            _log.info("purged", count=count)
        if not operation_retention_seconds:
            continue
        try:
            count = await service.archive(retention_seconds=operation_retention_seconds)
        except (psycopg.Error, TimeoutError) as error:
            _log.warning("archive_failed", error=database.detail_of(error))
        else:
            _log.info("archived", count=count)
