"""The invoice service on real Postgres and Redis, each test with a database of its own."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from apps.invoice.tests.shop import Query, Serve, Shop
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

import fencelock
from devkit.database_proxy import DatabaseProxy, database_proxy
from devkit.servers import PostgresServer, RedisServer
from invoice import failpoints
from invoice.app import create_app
from invoice.schema import MIGRATIONS
from invoice.settings import Settings
from servicekit.database import driver_url
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime
from servicekit.testing.logs import route_to_stdlib
from servicekit.testing.server import serving


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Let pytest collect what the service logs."""
    route_to_stdlib()


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """A database with the newest schema, to be copied."""
    name = "invoice_template"
    postgres_server.create_database(name)
    MIGRATIONS.upgrade(postgres_server.url(name))
    return name


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """An empty database with the newest schema."""
    name = f"invoice_{uuid.uuid4().hex}"
    postgres_server.create_database(name, template=migrated_template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The test's own way into the database."""
    engine = create_async_engine(driver_url(database_url), poolclass=NullPool)
    yield engine
    await engine.dispose()


@pytest.fixture
def settings(database_url: str, redis_server: RedisServer) -> Settings:
    """Settings for a service on the test's servers."""
    return Settings.model_validate(
        {
            "port": 0,
            "metrics_port": 0,
            "database_url": database_url,
            "redis_url": redis_server.url,
            # A busy machine must not turn a slow answer into another answer.
            "request_timeout_seconds": 60,
            "lock_check_timeout_seconds": 10,
            "statement_timeout_seconds": 30,
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
    return Runtime.bare(service="invoice", failpoints=Failpoints(failpoints.NAMES))


@pytest.fixture
def app(settings: Settings, runtime: Runtime) -> FastAPI:
    """The service."""
    return create_app(settings, runtime=runtime)


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application over real HTTP and yield a client of it."""
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield client


@pytest.fixture
def serve() -> Serve:
    """Serves another application than the usual one."""
    return client_of


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running service."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def locks(redis_server: RedisServer) -> AsyncIterator[fencelock.AsyncLockClient]:
    """A lock client, as the order service has one."""
    async with fencelock.AsyncLockClient.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def shop(client: httpx.AsyncClient, locks: fencelock.AsyncLockClient) -> Shop:
    """The order service's part, played by the test."""
    return Shop(client, locks)


@pytest.fixture
async def proxied(
    behind: Settings, runtime: Runtime, locks: fencelock.AsyncLockClient
) -> AsyncIterator[Shop]:
    """The same with the proxy between the service and its database."""
    async with client_of(create_app(behind, runtime=runtime)) as client:
        yield Shop(client, locks)


@pytest.fixture
def query(engine: AsyncEngine) -> Query:
    """Runs a SELECT past the service."""

    async def run(statement: str) -> list[dict[str, Any]]:
        async with engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(text(statement))).mappings()]

    return run
