"""What floor and bare have in common: their settings, and uvicorn as the shop runs it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import aiohttp
import uvicorn
from fastapi import FastAPI
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from devkit.ports import HOST

POOL_SIZE: Final = 16
WAIT_SECONDS: Final = 30.0

Row = dict[str, Any]
Pool = AsyncConnectionPool[AsyncConnection[Row]]


class OrderIn(BaseModel):
    """A new order."""

    user_id: UUID
    item_id: UUID
    quantity: int
    value: Decimal


class OrderPatch(BaseModel):
    """A change of an order."""

    update_time: datetime
    quantity: int | None = None
    value: Decimal | None = None


class InvoiceIn(BaseModel):
    """A new invoice."""

    user_id: UUID
    order_id: UUID
    total: Decimal


class InvoicePatch(BaseModel):
    """A change of an invoice."""

    total: Decimal


@dataclass(frozen=True)
class Settings:
    """Where everything is."""

    port: int
    database_url: str
    redis_url: str
    invoice_url: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables that ``contestants`` sets."""
        return cls(
            port=int(environment["BENCH_PORT"]),
            database_url=environment["BENCH_DATABASE_URL"],
            redis_url=environment["BENCH_REDIS_URL"],
            invoice_url=environment["BENCH_INVOICE_URL"],
        )


@asynccontextmanager
async def pool_of(url: str) -> AsyncIterator[Pool]:
    """Open connections on which each statement is a transaction."""
    pool: Pool = AsyncConnectionPool(
        url,
        min_size=POOL_SIZE,
        max_size=POOL_SIZE,
        timeout=WAIT_SECONDS,
        kwargs={"autocommit": True, "row_factory": dict_row},
        open=False,
    )
    async with pool:
        yield pool


async def one(pool: Pool, statement: str, **parameters: object) -> Row | None:
    """Run a statement and return its row, or None."""
    async with pool.connection() as connection:
        return await (await connection.execute(statement, parameters)).fetchone()


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a client of the other service."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
        yield session


Open = Callable[[FastAPI, Settings], AbstractAsyncContextManager[None]]


def serve(services: Mapping[str, tuple[Callable[[FastAPI], None], Open]]) -> None:
    """Serve the one that the command line names, as the shop's services are served."""
    routes, opened = services[sys.argv[1]]
    settings = Settings.from_environment()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(app, settings):
            yield

    app = FastAPI(lifespan=lifespan)
    routes(app)
    uvicorn.run(
        app,
        host=HOST,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
    )
