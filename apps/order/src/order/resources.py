"""What one process of the order service holds open: database, locks, HTTP client."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from opentelemetry import trace
from sqlalchemy.ext.asyncio import AsyncEngine

import fencelock
from order.settings import Settings
from servicekit.database import create_engine
from servicekit.http_client import AiohttpClient


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything that has connections; none is made before it is needed."""

    engine: AsyncEngine
    recovery_engine: AsyncEngine
    """A few connections of its own, so that recovery goes on when requests use up theirs."""
    locks: fencelock.AsyncLockClient
    http: AiohttpClient

    @classmethod
    def create(
        cls,
        settings: Settings,
        *,
        instrumentation: Sequence[fencelock.Instrumentation] = (),
        tracer: trace.Tracer | None = None,
    ) -> "Resources":
        """Return the resources that ``settings`` describe, without any I/O.

        Args:
            settings: what is where.
            instrumentation: what observes the locks.
            tracer: makes the spans of calls of the invoice service.
        """
        url = settings.database_url.get_secret_value()
        return cls(
            engine=create_engine(
                url,
                application_name="order",
                pool_size=settings.database_pool_size,
                statement_timeout_seconds=settings.statement_timeout_seconds,
                pooler=settings.database_pooler,
            ),
            recovery_engine=create_engine(
                url,
                application_name="order-recovery",
                pool_size=2,
                statement_timeout_seconds=settings.statement_timeout_seconds,
                pooler=settings.database_pooler,
            ),
            locks=fencelock.AsyncLockClient.from_url(
                settings.redis_url.get_secret_value(),
                ttl=settings.lock_ttl_seconds,
                wait=settings.lock_wait_seconds,
                instrumentation=instrumentation,
            ),
            http=AiohttpClient(
                settings.invoice_url,
                user_agent="shop-order",
                tracer=tracer,
            ),
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close everything at the end, the locks first: others may be waiting for them."""
        try:
            yield
        finally:
            await self.locks.aclose()
            await self.http.aclose()
            await self.recovery_engine.dispose()
            await self.engine.dispose()
