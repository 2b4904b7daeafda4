"""T1 on a real database: what is recorded, once, and what a lost commit turns into."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from apps.order.tests.test_changes import a_change, a_creation, an_update
from apps.order.tests.waiting import somebody_waits, until_true
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from order import failpoints
from order.domain import Create, Outcome
from order.errors import DatabaseUnavailable
from order.metrics import Metrics
from order.ports import Answered, Blocked, Change, Decision, Recorded, RecordUnknown
from order.repository import Operations
from order.service import intent as intent_module
from order.service.completion import PostgresCompletions
from order.service.intent import PostgresIntents
from servicekit.database import create_engine
from servicekit.failpoints import Failpoints
from servicekit.problems import DeadlineExceeded
from servicekit.runtime import Runtime


def intents_on(engine: Any, *, timeout_seconds: float = 60) -> PostgresIntents:
    return PostgresIntents(
        engine,
        failpoints=Failpoints(failpoints.NAMES),
        due_in_seconds=3600,
        timeout_seconds=timeout_seconds,
    )


@pytest.fixture
def intents(engine: AsyncEngine) -> PostgresIntents:
    return intents_on(engine)


async def committed(
    engine: AsyncEngine, runtime: Runtime, intents: PostgresIntents, change: Change
) -> None:
    recorded = await intents.record(change)
    assert isinstance(recorded, Recorded)
    completions = PostgresCompletions(
        engine, failpoints=runtime.failpoints, metrics=Metrics(CollectorRegistry())
    )
    await completions.complete(recorded.operation, Decision(Outcome.APPLIED))


class LosesCommits:
    """An engine whose commits succeed while their replies are lost, or that fails before them."""

    def __init__(self, engine: AsyncEngine, *, commits_lost: int, made: bool) -> None:
        self._engine = engine
        self._left = commits_lost
        self._made = made

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with self._engine.connect() as connection:
            transaction = await connection.begin()
            yield connection
            if self._left == 0:
                await transaction.commit()
                return
            self._left -= 1
            await (transaction.commit() if self._made else transaction.rollback())
        raise connection_lost()


def connection_lost() -> DBAPIError:
    gone = psycopg.OperationalError("server closed the connection unexpectedly")
    return DBAPIError("COMMIT", {}, gone, connection_invalidated=True)


async def count(engine: AsyncEngine, table: str) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


@pytest.mark.parametrize("made", [True, False])
async def test_a_lost_commit_reply_ends_with_the_operation_recorded_once(
    engine: AsyncEngine, made: bool
) -> None:
    intents = intents_on(LosesCommits(engine, commits_lost=1, made=made))
    intent = await intents.record(a_change(a_creation()))
    assert isinstance(intent, Recorded)
    assert await count(engine, "operations") == 1


@pytest.mark.parametrize(("made", "known"), [(True, RecordUnknown), (False, DeadlineExceeded)])
async def test_a_database_that_stays_away_leaves_the_record_unknown_unless_it_proves_otherwise(
    engine: AsyncEngine, made: bool, known: type[Exception]
) -> None:
    losing = LosesCommits(engine, commits_lost=999, made=made)
    intents = intents_on(losing, timeout_seconds=1)
    with pytest.raises(known):
        await intents.record(a_change(a_creation()))
    assert await count(engine, "operations") == int(made)


async def test_a_lost_commit_is_found_even_if_recovery_has_finished_it_meanwhile(
    engine: AsyncEngine, runtime: Runtime, intents: PostgresIntents
) -> None:
    creation = a_change(a_creation())
    await committed(engine, runtime, intents, creation)

    class FinishesMeanwhile(LosesCommits):
        @asynccontextmanager
        async def begin(self) -> AsyncIterator[AsyncConnection]:
            try:
                async with super().begin() as connection:
                    yield connection
            except DBAPIError:
                completions = PostgresCompletions(
                    engine, failpoints=runtime.failpoints, metrics=Metrics(CollectorRegistry())
                )
                async with engine.connect() as connection:
                    pending = await Operations(connection).find(change.op_id)
                assert pending is not None
                await completions.complete(pending.operation, Decision(Outcome.APPLIED))
                raise

    change = a_change(an_update(creation.command.order_id))
    flaky: Any = FinishesMeanwhile(engine, commits_lost=1, made=True)
    intent = await intents_on(flaky).record(change)
    assert isinstance(intent, Recorded)
    assert intent.operation.version == 2
    assert await count(engine, "operations") == 2


async def test_a_database_that_is_down_is_503_before_anything_is_recorded() -> None:
    engine = create_engine("postgresql://nobody@127.0.0.1:1/none", application_name="test")
    with pytest.raises(DatabaseUnavailable):
        await intents_on(engine).record(a_change(a_creation()))
    await engine.dispose()


async def test_a_second_change_is_told_what_is_in_its_way(
    engine: AsyncEngine, runtime: Runtime, intents: PostgresIntents
) -> None:
    creation = a_change(a_creation())
    await committed(engine, runtime, intents, creation)
    first = await intents.record(a_change(an_update(creation.command.order_id)))
    assert isinstance(first, Recorded)
    second = await intents.record(a_change(an_update(creation.command.order_id)))
    assert second == Blocked(first.operation)


async def test_of_many_concurrent_changes_one_is_recorded_and_the_others_wait_behind_it(
    engine: AsyncEngine, runtime: Runtime, intents: PostgresIntents
) -> None:
    creation = a_change(a_creation())
    await committed(engine, runtime, intents, creation)
    changes = [a_change(an_update(creation.command.order_id)) for _ in range(6)]
    outcomes = await asyncio.gather(*(intents.record(change) for change in changes))
    recorded = [each for each in outcomes if isinstance(each, Recorded)]
    assert len(recorded) == 1
    assert outcomes.count(Blocked(recorded[0].operation)) == 5


async def test_one_key_belongs_to_one_of_two_concurrent_creations(
    engine: AsyncEngine, intents: PostgresIntents
) -> None:
    changes = [a_change(a_creation(), key="k") for _ in range(2)]
    results = await asyncio.gather(
        *(intents.record(change) for change in changes), return_exceptions=True
    )
    assert sum(isinstance(result, Recorded) for result in results) == 1
    assert await count(engine, "operations") == await count(engine, "orders") == 1


async def test_a_refusal_is_kept_with_its_key_and_without_an_operation(
    engine: AsyncEngine, intents: PostgresIntents
) -> None:
    intent = await intents.record(a_change(an_update(uuid.uuid4()), key="k"))
    assert isinstance(intent, Answered)
    assert intent.response.status == 404
    assert (await count(engine, "operations"), await count(engine, "idempotency_keys")) == (0, 1)


async def is_recorded(variant: Any, engine: AsyncEngine) -> bool:
    """Whether ``variant`` finds an operation whose commit is still in flight when it is asked."""
    change = a_change(a_creation())
    assert isinstance(change.command, Create)
    in_flight = intents_on(engine)
    async with engine.connect() as connection:
        transaction = await connection.begin()
        recorded = await in_flight._plan(connection, change)
        assert isinstance(recorded, Recorded)
        async with engine.connect() as other:
            asking = asyncio.create_task(variant(other, recorded.operation))
            await until_true(lambda: _asked(engine, asking))
            await transaction.commit()
            found: bool = await asking
            await other.rollback()
    return found


async def _asked(engine: AsyncEngine, task: "asyncio.Task[bool]") -> bool:
    """Whether the task has its answer, or its statement waits for the commit in flight."""
    return task.done() or await somebody_waits(engine)


async def by_select(connection: AsyncConnection, operation: Any) -> bool:
    """The broken variant: look instead of inserting."""
    return await Operations(connection).find(operation.id) is not None


async def test_inserting_again_finds_a_commit_in_flight_where_looking_does_not(
    engine: AsyncEngine,
) -> None:
    assert await is_recorded(intent_module._was_recorded, engine)
    assert not await is_recorded(by_select, engine)
