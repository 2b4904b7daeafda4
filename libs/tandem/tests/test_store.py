"""The connections to one database, on a real one."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import psycopg
import pytest
from sqlalchemy import Integer, Text, bindparam, column, func, literal_column, select, table

from devkit.database_proxy import database_proxy
from devkit.servers import PostgresServer
from servicekit.testing.polling import eventually
from tandem.connection import INTERRUPT_SECONDS
from tandem.errors import NoConnectionFree, is_transient
from tandem.statements import Statement
from tandem.store import Session, Store

ECHO = Statement(select(bindparam("value", type_=Integer).label("value")))
PROCESS = Statement(select(func.pg_backend_pid().label("pid")))
DIVIDE = Statement(select((literal_column("1") / bindparam("by", type_=Integer)).label("result")))
SLEEP = Statement(select(func.pg_sleep(30)))
APPEND = Statement(
    table("notes", column("note", Text)).insert().values(note=bindparam("note", type_=Text))
)
_ACTIVITY = table("pg_stat_activity", column("pid", Integer), column("wait_event", Text))
ASLEEP = Statement(
    select(func.count().label("found"))
    .select_from(_ACTIVITY)
    .where(_ACTIVITY.c.wait_event == "PgSleep")
)
ALIVE = Statement(
    select(func.count().label("found"))
    .select_from(_ACTIVITY)
    .where(_ACTIVITY.c.pid == bindparam("pid", type_=Integer))
)
PLANNED = Statement(
    select(column("generic_plans"), column("custom_plans"))
    .select_from(table("pg_prepared_statements"))
    .where(column("statement").like("%AS value"))
)
MODE = Statement(select(func.current_setting("plan_cache_mode").label("mode")))
NOTES = Statement(select(func.count().label("found")).select_from(table("notes")))


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    name = f"store_{uuid.uuid4().hex}"
    url = postgres_server.create_database(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE notes (note text)")
    yield url
    postgres_server.drop_database(name)


@asynccontextmanager
async def opened(
    url: str,
    *,
    size: int = 2,
    parameters: Mapping[str, Any] = MappingProxyType({}),
    **limits: Any,
) -> AsyncIterator[Store]:
    store = Store(url, parameters={"connect_timeout": 10, **parameters}, size=size, **limits)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    async with opened(url) as store:
        yield store


async def row_of(within: Store | Session, statement: Statement, **values: object) -> Any:
    """The one row that the statement returns."""
    row = await within.one(statement, **values)
    assert row is not None
    return row


def test_a_statement_is_text_and_the_values_that_it_brings() -> None:
    statement = Statement(select(literal_column("1")).where(bindparam("a", type_=Integer) == 7))
    (fixed,) = set(statement.with_values({})) - {"a"}
    assert "%(a)s::INTEGER = " in statement.text
    assert statement.with_values({"a": 5}) == {"a": 5, fixed: 7}
    assert repr(statement).startswith("Statement('SELECT 1")


async def test_a_connection_is_used_again(store: Store) -> None:
    pids = {(await row_of(store, PROCESS)).pid for _ in range(5)}
    assert len(pids) == 1


async def test_one_that_the_server_has_closed_costs_nobody_an_error(store: Store, url: str) -> None:
    before = (await row_of(store, PROCESS)).pid
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [before])
    assert (await row_of(store, PROCESS)).pid != before


async def test_one_that_is_too_old_is_not_used_again(url: str) -> None:
    async with opened(url, lifetime_seconds=0) as store:
        assert (await row_of(store, PROCESS)).pid != (await row_of(store, PROCESS)).pid


async def test_a_statement_is_planned_once_a_connection(url: str) -> None:
    async with opened(url, size=1) as store:
        for value in range(5):
            assert (await row_of(store, ECHO, value=value)).value == value
        planned = await row_of(store, PLANNED)
    assert (planned.generic_plans, planned.custom_plans) == (4, 0)


async def test_behind_a_pooler_nothing_is_prepared_nor_set(url: str) -> None:
    async with opened(url, size=1, parameters={"prepare_threshold": None}) as store:
        for value in range(5):
            assert (await row_of(store, ECHO, value=value)).value == value
        assert await store.one(PLANNED) is None
        assert (await row_of(store, MODE)).mode == "auto"


async def test_a_failed_statement_leaves_the_connection_good(store: Store) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero) as caught:
        await store.one(DIVIDE, by=0)
    assert not is_transient(caught.value)
    assert (await row_of(store, ECHO, value=3)).value == 3


async def test_who_gets_no_connection_in_time_is_told_so_and_has_sent_nothing(url: str) -> None:
    async with opened(url, size=1, wait_seconds=0.05) as store, store.session():
        with pytest.raises(NoConnectionFree) as caught:
            await store.one(ECHO, value=1)
        assert is_transient(caught.value)


async def test_a_database_that_is_not_there_says_so_at_once() -> None:
    async with opened("postgresql://127.0.0.1:1/none", wait_seconds=3600) as store:
        with pytest.raises(psycopg.OperationalError) as caught:
            await store.one(ECHO, value=1)
    assert is_transient(caught.value)


async def test_cancelling_who_waits_for_an_answer_gives_the_connection_back(url: str) -> None:
    async with opened(url, size=1) as store, opened(url) as other:

        async def sleeping() -> bool:
            return bool((await row_of(other, ASLEEP)).found)

        task = asyncio.create_task(store.one(SLEEP))
        await eventually(sleeping)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await row_of(store, ECHO, value=4)).value == 4


@pytest.mark.parametrize("within", ["a statement", "a transaction"])
async def test_who_is_cancelled_does_not_wait_for_a_database_that_is_silent(
    url: str, within: str
) -> None:
    """Psycopg alone would ask it for ten seconds to cancel the statement."""
    with database_proxy(url) as proxy:
        async with opened(proxy.url, size=1) as store:

            async def work() -> None:
                if within == "a statement":
                    await store.one(ECHO, value=1)
                else:
                    async with store.transaction() as session:
                        await session.run(APPEND, note="a")

            await work()
            proxy.go_dark()
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await work()
            assert time.monotonic() - began < 8 * INTERRUPT_SECONDS
            proxy.go_dark(dark=False)
            assert (await row_of(store, ECHO, value=5)).value == 5


async def test_a_transaction_is_committed_as_a_whole_or_not_at_all(store: Store) -> None:
    async def twice_then(*, fail: bool) -> None:
        async with store.transaction() as session:
            await session.run(APPEND, note="a")
            await session.run(APPEND, note="b")
            if fail:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await twice_then(fail=True)
    assert (await row_of(store, NOTES)).found == 0
    await twice_then(fail=False)
    assert (await row_of(store, NOTES)).found == 2


async def test_a_connection_in_use_when_the_store_closes_is_closed_when_it_comes_back(
    url: str,
) -> None:
    async with opened(url) as store:
        async with store.session() as session:
            pid = (await row_of(session, PROCESS)).pid
            await store.close()

        async def gone() -> bool:
            async with opened(url) as other:
                return not (await row_of(other, ALIVE, pid=pid)).found

        await eventually(gone)
