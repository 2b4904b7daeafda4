"""The order service on a real, migrated Postgres; invoices and locks are in memory."""

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from apps.order.tests.fakes import FakeInvoices, FakeLocks
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from devkit.database_proxy import DatabaseProxy, database_proxy
from devkit.servers import PostgresServer
from order import failpoints
from order.app import create_app
from order.database import OrderDatabase
from order.metrics import Metrics
from order.resources import Resources
from order.schema import MIGRATIONS
from order.settings import Settings
from order.use_cases import UseCases, create_use_cases
from servicekit.database import create_engine
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime


@pytest.fixture(scope="session")
def migrated_database(postgres_server: PostgresServer) -> str:
    """The URL of a database with the newest schema."""
    url = postgres_server.create_database(f"order_{uuid.uuid4().hex}")
    MIGRATIONS.upgrade(url)
    return url


@pytest.fixture
def database_url(migrated_database: str) -> str:
    """The same, empty: far quicker than a new one for each test."""
    with psycopg.connect(migrated_database, connect_timeout=30) as connection:
        connection.execute("TRUNCATE orders, operations, idempotency_keys, operations_archive")
    return migrated_database


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Settings under which nothing happens by itself while a test looks."""
    return Settings.model_validate(
        {
            "port": 0,
            "metrics_port": 0,
            "database_url": database_url,
            "redis_url": "redis://127.0.0.1:1",
            # A busy machine must not turn a slow answer into another answer.
            "request_timeout_seconds": 60,
            "statement_timeout_seconds": 30,
            "reconcile_interval_seconds": 3600,
            # Tests date their updates when they are loaded.
            "update_time_skew_seconds": 3600,
        }
    )


@pytest.fixture
def proxy(database_url: str) -> Iterator[DatabaseProxy]:
    """Stands between a service and its database."""
    with database_proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
def behind(settings: Settings, proxy: DatabaseProxy) -> Settings:
    """Settings for a service behind the proxy."""
    return settings.model_copy(update={"database_url": type(settings.database_url)(proxy.url)})


@pytest.fixture
def runtime() -> Runtime:
    """The process-wide parts, without tracing."""
    return Runtime.bare(service="order", failpoints=Failpoints(failpoints.NAMES))


@pytest.fixture
def invoices() -> FakeInvoices:
    return FakeInvoices()


@pytest.fixture
def locks() -> FakeLocks:
    return FakeLocks()


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    made = Resources.create(settings)
    async with made.open():
        yield made


@pytest.fixture
def database(resources: Resources) -> OrderDatabase:
    return resources.database


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The test's own way to the database."""
    made = create_engine(database_url, application_name="test")
    yield made
    await made.dispose()


@pytest.fixture
def use_cases(
    settings: Settings,
    runtime: Runtime,
    resources: Resources,
    invoices: FakeInvoices,
    locks: FakeLocks,
) -> UseCases:
    """The use cases without a server and without background work."""
    return create_use_cases(
        settings,
        runtime=runtime,
        resources=resources,
        metrics=Metrics(runtime.registry),
        invoices=invoices,
        locks=locks,
    )


@pytest.fixture
def app(settings: Settings, runtime: Runtime, invoices: FakeInvoices, locks: FakeLocks) -> FastAPI:
    return create_app(settings, runtime=runtime, invoices=invoices, locks=locks)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, in this process."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://order") as made,
    ):
        yield made


@pytest.fixture
def new_order() -> dict[str, Any]:
    return {
        "user_id": str(uuid.uuid4()),
        "item_id": str(uuid.uuid4()),
        "quantity": 2,
        "value": "9.50",
    }
