"""What one process of the order service holds open: database, locks, HTTP client."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace
from sqlalchemy.ext.asyncio import AsyncEngine

import fencelock
from order.database import OrderDatabase
from order.repository import Journal
from order.settings import Settings
from servicekit.auth.files import WatchedFile, parse_credential
from servicekit.database import connection_parameters, create_engine, libpq_url
from servicekit.http_client import AiohttpClient
from tandem.connecting import Connect, Connector
from tandem.store import Store

_CAREFUL_CONNECTIONS: Final = 4


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything that has connections; none is made before it is needed."""

    database: OrderDatabase
    recovery_engine: AsyncEngine
    """A few connections of its own, so that recovery goes on when requests use up theirs."""
    locks: fencelock.AsyncLockClient
    http: AiohttpClient
    credential: WatchedFile[str] | None
    """The access token for the invoice service."""

    @classmethod
    def create(
        cls,
        settings: Settings,
        *,
        instrumentation: Sequence[fencelock.Instrumentation] = (),
        tracer: trace.Tracer | None = None,
        journal: Journal | None = None,
    ) -> "Resources":
        """Return the resources that ``settings`` describe; nothing is connected to.

        Args:
            settings: what is where.
            instrumentation: what observes the locks.
            tracer: makes the spans of calls of the invoice service.
            journal: other statements than ours; for tests.

        Raises:
            ValueError: the file with the access token cannot be read, or holds none.
        """
        url = settings.database_url.get_secret_value()
        connect = Connector().connect
        return cls(
            database=_database(settings, journal or Journal(), connect),
            recovery_engine=create_engine(
                url,
                application_name="order-recovery",
                pool_size=2,
                statement_timeout_seconds=settings.statement_timeout_seconds,
                pooler=settings.database_pooler,
                connect=connect,
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
            credential=None
            if settings.invoice_token_file is None
            else WatchedFile(settings.invoice_token_file, parse_credential),
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close everything at the end, the locks first: others may be waiting for them."""
        try:
            yield
        finally:
            if self.credential is not None:
                await self.credential.aclose()
            await self.locks.aclose()
            await self.http.aclose()
            await self.recovery_engine.dispose()
            await self.database.store.close()
            await self.database.engine.dispose()


def _database(settings: Settings, journal: Journal, connect: Connect) -> OrderDatabase:
    url = settings.database_url.get_secret_value()
    return OrderDatabase(
        store=Store(
            libpq_url(url),
            parameters=connection_parameters(
                url,
                application_name="order",
                statement_timeout_seconds=settings.statement_timeout_seconds,
                pooler=settings.database_pooler,
            ),
            size=settings.database_pool_size,
            connect=connect,
        ),
        journal=journal,
        engine=create_engine(
            url,
            application_name="order-careful",
            pool_size=_CAREFUL_CONNECTIONS,
            statement_timeout_seconds=settings.statement_timeout_seconds,
            pooler=settings.database_pooler,
            connect=connect,
        ),
    )
