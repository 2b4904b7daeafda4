"""Sessions with limits, and errors that tell what may be tried again."""

import uuid
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from sqlalchemy import exc, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from devkit.servers import PostgresServer
from servicekit import database
from servicekit.database import (
    constraint_name,
    create_engine,
    driver_url,
    is_transient,
    is_unreachable,
    ping,
)


@pytest.fixture(scope="module")
def url(postgres_server: PostgresServer) -> Iterator[str]:
    name = f"kit_{uuid.uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(
        url,
        application_name="kit",
        pool_size=2,
        statement_timeout_seconds=30,
        lock_timeout_seconds=0.1,
        pool_timeout_seconds=0.1,
    )
    yield engine
    await engine.dispose()


async def test_every_session_has_its_limits_and_a_durable_commit(engine: AsyncEngine) -> None:
    expected = {
        "statement_timeout": "30s",
        "lock_timeout": "100ms",
        "idle_in_transaction_session_timeout": "1min",
        "synchronous_commit": "on",
        "transaction_isolation": "read committed",
        "application_name": "kit",
    }
    async with engine.connect() as connection:
        found = {
            name: (await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in expected
        }
    assert found == expected


async def test_a_violated_constraint_is_told_by_its_name(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("CREATE TEMP TABLE t (a int CONSTRAINT ck_a CHECK (a > 0))"))
        with pytest.raises(IntegrityError) as caught:
            await connection.execute(text("INSERT INTO t VALUES (0)"))
    assert constraint_name(caught.value) == "ck_a"
    assert not is_transient(caught.value)


async def test_a_lock_that_takes_too_long_may_be_tried_again(engine: AsyncEngine) -> None:
    async with engine.connect() as holder, engine.connect() as waiter:
        await holder.execute(text("SELECT pg_advisory_xact_lock(1)"))
        with pytest.raises(DBAPIError) as caught:
            await waiter.execute(text("SELECT pg_advisory_xact_lock(1)"))
    assert is_transient(caught.value)
    assert not is_unreachable(caught.value)


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = '50ms'"))
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text("SELECT pg_sleep(60)"))
    assert is_transient(caught.value)


async def test_a_full_pool_is_noticed_within_its_limit(engine: AsyncEngine) -> None:
    async with engine.connect(), engine.connect():
        with pytest.raises(PoolTimeout) as caught:
            async with engine.connect():
                raise AssertionError("there was a third connection")
    assert is_unreachable(caught.value)


async def test_an_unreachable_server_is_told_apart() -> None:
    engine = create_engine("postgresql://u:p@127.0.0.1:1/d", application_name="kit")
    with pytest.raises(DBAPIError) as caught:
        await ping(engine)
    assert is_unreachable(caught.value)
    await engine.dispose()


async def test_connections_cut_by_the_server_cost_the_next_request_nothing(
    engine: AsyncEngine, url: str
) -> None:
    async with engine.connect() as connection:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    other = create_engine(url, application_name="other")
    async with other.connect() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
    await other.dispose()
    await ping(engine)


@pytest.mark.parametrize("url", ["mysql://h/d", "not a url", ""])
def test_what_is_no_postgres_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="the database URL"):
        driver_url(url)


def test_the_cause_that_is_shown_has_neither_statement_nor_parameters() -> None:
    error = exc.OperationalError(
        "UPDATE secret_table", {"card": "4111"}, psycopg.errors.LockNotAvailable("row 4111")
    )
    shown = database.cause_of(error)
    assert shown == "the database failed (LockNotAvailable, SQLSTATE 55P03)"
    assert database.cause_of(ValueError("a\nb")) == "ValueError: a"


def test_operators_are_told_in_one_line_what_the_driver_said_and_no_statement() -> None:
    said = psycopg.OperationalError("connection failed: SSL error\n\tIs the server running?")
    error = exc.OperationalError("SELECT 1", {}, said)
    assert database.detail_of(error) == "connection failed: SSL error"
    assert database.detail_of(psycopg.errors.LockNotAvailable()) == database.cause_of(
        psycopg.errors.LockNotAvailable()
    )


async def test_options_of_the_url_are_obeyed_and_ours_win(url: str) -> None:
    options = "options=-csearch_path%3Dpg_catalog%20-cstatement_timeout%3D0"
    engine = create_engine(f"{url}?{options}", application_name="kit", statement_timeout_seconds=2)
    try:
        async with engine.connect() as connection:
            path = (await connection.execute(text("SHOW search_path"))).scalar_one()
            limit = (await connection.execute(text("SHOW statement_timeout"))).scalar_one()
    finally:
        await engine.dispose()
    assert (path, limit) == ("pg_catalog", "2s")


async def test_behind_a_pooler_of_transactions_nothing_is_kept_in_the_session(url: str) -> None:
    engine = create_engine(url, application_name="kit", pooler="transaction")
    count = text("SELECT count(*) FROM pg_prepared_statements")
    try:
        async with engine.connect() as connection:
            found = [(await connection.execute(count)).scalar_one() for _ in range(10)]
            limit = (await connection.execute(text("SHOW statement_timeout"))).scalar_one()
    finally:
        await engine.dispose()
    assert (sum(found), limit) == (0, "0")  # psycopg would prepare from the sixth on
