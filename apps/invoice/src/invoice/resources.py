"""What the process opens at its start and closes at its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

import fencelock
from invoice.locks import LockGuard, LockVerifier
from invoice.metrics import InvoiceMetrics
from invoice.repository import InvoiceRepository
from invoice.service import InvoiceService
from invoice.settings import Settings
from servicekit import database
from servicekit.runtime import Runtime

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Resources:
    """The parts that the endpoints work with."""

    runtime: Runtime
    engine: AsyncEngine
    service: InvoiceService


def create_engine(settings: Settings) -> AsyncEngine:
    """Return the engine of the invoice database; it connects at first use."""
    return database.create_engine(
        settings.database_url.get_secret_value(),
        application_name="invoice",
        pool_size=settings.database_pool_size,
        statement_timeout_seconds=settings.statement_timeout_seconds,
        pooler=settings.database_pooler,
    )


def create_lock_client(settings: Settings) -> fencelock.AsyncLockClient:
    """Return the client that verifies locks; it connects at first use."""
    return fencelock.AsyncLockClient.from_url(settings.redis_url.get_secret_value())


def create_service(
    settings: Settings,
    *,
    runtime: Runtime,
    engine: AsyncEngine,
    verifier: LockVerifier,
    repository: type[InvoiceRepository] = InvoiceRepository,
) -> InvoiceService:
    """Return the use cases on an engine and a lock client."""
    metrics = InvoiceMetrics(runtime.registry)
    return InvoiceService(
        sessions=async_sessionmaker(engine, expire_on_commit=False),
        # A single SELECT needs no BEGIN and ROLLBACK around it: two round trips less.
        reads=async_sessionmaker(
            engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False
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
        repository=repository,
    )


@asynccontextmanager
async def purging(
    service: InvoiceService, *, interval_seconds: float, retention_seconds: float
) -> AsyncIterator[None]:
    """Purge in the background while the body runs."""
    task = asyncio.create_task(
        _purge_for_ever(
            service, interval_seconds=interval_seconds, retention_seconds=retention_seconds
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
    service: InvoiceService, *, interval_seconds: float, retention_seconds: float
) -> None:
    while True:
        await asyncio.sleep(interval_seconds)
        try:
            count = await service.purge(retention_seconds=retention_seconds)
        except (SQLAlchemyError, TimeoutError) as error:
            _log.warning("purge_failed", error_type=type(error).__name__)
        else:
            _log.info("purged", count=count)
