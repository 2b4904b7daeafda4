"""T1 on a real database: what is recorded, once, and what a lost commit turns into."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
import pytest
from apps.order.tests.test_changes import a_change, a_creation, an_update
from apps.order.tests.waiting import somebody_waits, until_true
from prometheus_client import CollectorRegistry
from sqlalchemy import ColumnElement, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from order import failpoints
from order.database import OrderDatabase
from order.domain import Create, Delete, Operation, Order
from order.errors import DatabaseUnavailable
from order.metrics import Metrics
from order.ports import Change
from order.repository import Journal, Operations
from order.resources import Resources
from order.service.completion import PostgresCompletions
from order.service.intent import PostgresIntents
from order.settings import Settings
from servicekit.failpoints import Failpoints
from servicekit.problems import DeadlineExceeded
from tandem.errors import RecordUnknown
from tandem.initiator.ports import Answered, Blocked, Decision, Recorded
from tandem.operation import Outcome
from tandem.statements import Statement
from tandem.store import Session, Store


def intents_on(database: OrderDatabase, *, timeout_seconds: float = 60) -> PostgresIntents:
    return PostgresIntents(
        database,
        failpoints=Failpoints(failpoints.NAMES),
        due_in_seconds=3600,
        timeout_seconds=timeout_seconds,
    )


@pytest.fixture
def intents(database: OrderDatabase) -> PostgresIntents:
    return intents_on(database)


def completions_on(database: OrderDatabase) -> PostgresCompletions:
    return PostgresCompletions(
        database, failpoints=Failpoints(failpoints.NAMES), metrics=Metrics(CollectorRegistry())
    )


async def committed(database: OrderDatabase, change: Change) -> None:
    recorded = await intents_on(database).record(change)
    assert isinstance(recorded, Recorded)
    await completions_on(database).complete(recorded.operation, Decision(Outcome.APPLIED))


class NothingAtOnce(Journal):
    """Statements that find every order changed, so that the careful path is taken."""

    async def record(self, session: Session, operation: Operation, **_: object) -> None:
        return None

    async def complete(self, session: Session, operation: Operation, **_: object) -> bool:
        return False


class LosesCommits:
    """A database whose commits succeed while their replies are lost, or that fails before them."""

    def __init__(self, database: OrderDatabase, *, commits_lost: int, made: bool) -> None:
        self._database = database
        self._left = commits_lost
        self._made = made

    @classmethod
    def between(cls, database: OrderDatabase, *, commits_lost: int, made: bool) -> OrderDatabase:
        """The database with this in the way, on both paths."""
        losing: Any = cls(database, commits_lost=commits_lost, made=made)
        return OrderDatabase(store=losing, journal=database.journal, engine=losing)

    async def one(self, statement: Statement, **values: object) -> Any:
        return await self._database.store.one(statement, **values)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        async with self._database.store.session() as session:
            yield LosesReply(self, session)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with self._database.engine.connect() as connection:
            transaction = await connection.begin()
            yield connection
            if not self.loses():
                await transaction.commit()
                return
            await (transaction.commit() if self._made else transaction.rollback())
        raise DBAPIError("COMMIT", {}, gone(), connection_invalidated=True)

    async def lose(self, statement: Callable[[], Awaitable[object]]) -> None:
        if self._made:
            await statement()
        raise gone()

    def loses(self) -> bool:
        self._left -= 1
        return self._left >= 0


class LosesReply:
    """A connection on which each statement is a transaction."""

    def __init__(self, database: LosesCommits, session: Session) -> None:
        self._database = database
        self._session = session

    async def one(self, statement: Statement, **values: object) -> Any:
        if self._database.loses():
            await self._database.lose(lambda: self._session.one(statement, **values))
        return await self._session.one(statement, **values)


def gone() -> psycopg.OperationalError:
    return psycopg.OperationalError("server closed the connection unexpectedly")


async def count(engine: AsyncEngine, table: str) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


@pytest.mark.parametrize("journal", [Journal(), NothingAtOnce()], ids=["at once", "carefully"])
@pytest.mark.parametrize("made", [True, False])
async def test_a_lost_commit_reply_ends_with_the_operation_recorded_once(
    database: OrderDatabase, engine: AsyncEngine, made: bool, journal: Journal
) -> None:
    known = replace(database, journal=journal)
    intents = intents_on(LosesCommits.between(known, commits_lost=1, made=made))
    intent = await intents.record(a_change(a_creation()))
    assert isinstance(intent, Recorded)
    assert await count(engine, "operations") == 1
    record = await database.journal.operation(database.store, intent.operation.id)
    assert record is not None
    assert record.operation == intent.operation


@pytest.mark.parametrize(("made", "known"), [(True, RecordUnknown), (False, DeadlineExceeded)])
async def test_a_database_that_stays_away_leaves_the_record_unknown_unless_it_proves_otherwise(
    database: OrderDatabase, engine: AsyncEngine, made: bool, known: type[Exception]
) -> None:
    losing = LosesCommits.between(database, commits_lost=999, made=made)
    intents = intents_on(losing, timeout_seconds=1)
    with pytest.raises(known):
        await intents.record(a_change(a_creation()))
    assert await count(engine, "operations") == int(made)


async def test_a_lost_commit_is_found_even_if_recovery_has_finished_it_meanwhile(
    database: OrderDatabase, engine: AsyncEngine
) -> None:
    creation = a_change(a_creation())
    await committed(database, creation)

    class FinishesMeanwhile(LosesCommits):
        async def lose(self, statement: Callable[[], Awaitable[object]]) -> None:
            try:
                await super().lose(statement)
            finally:
                pending = await database.journal.operation(database.store, change.op_id)
                assert pending is not None
                await completions_on(database).complete(
                    pending.operation, Decision(Outcome.APPLIED)
                )

    change = a_change(an_update(creation.command.order_id))
    flaky = FinishesMeanwhile.between(database, commits_lost=1, made=True)
    intent = await intents_on(flaky).record(change)
    assert isinstance(intent, Recorded)
    assert intent.operation.version == 2
    assert await count(engine, "operations") == 2


async def test_a_database_that_is_down_is_503_before_anything_is_recorded(
    settings: Settings,
) -> None:
    nowhere = type(settings.database_url)("postgresql://nobody@127.0.0.1:1/none")
    resources = Resources.create(settings.model_copy(update={"database_url": nowhere}))
    async with resources.open():
        with pytest.raises(DatabaseUnavailable):
            await intents_on(resources.database).record(a_change(a_creation()))


async def test_a_second_change_is_told_what_is_in_its_way(
    database: OrderDatabase, intents: PostgresIntents
) -> None:
    creation = a_change(a_creation())
    await committed(database, creation)
    first = await intents.record(a_change(an_update(creation.command.order_id)))
    assert isinstance(first, Recorded)
    second = await intents.record(a_change(an_update(creation.command.order_id)))
    assert second == Blocked(first.operation)


async def test_of_many_concurrent_changes_one_is_recorded_and_the_others_wait_behind_it(
    database: OrderDatabase, intents: PostgresIntents
) -> None:
    creation = a_change(a_creation())
    await committed(database, creation)
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


class OvertakenAfterItLooked(Journal):
    """Lets another change of the order be committed between its look and its statement."""

    database: OrderDatabase | None = None

    async def look(self, store: Store, order_id: uuid.UUID) -> tuple[Order | None, datetime]:
        seen = await super().look(store, order_id)
        if (database := self.database) is not None:
            self.database = None
            await committed(database, a_change(an_update(order_id)))
        return seen


class OvertakenWithoutConditions(OvertakenAfterItLooked):
    """The broken variant: the statement does not ask what the order has become."""

    def unchanged(self) -> list[ColumnElement[bool]]:
        return []


async def test_a_change_planned_on_what_is_no_more_is_planned_again(
    database: OrderDatabase,
) -> None:
    async def version_made(journal: OvertakenAfterItLooked) -> int:
        creation = a_change(a_creation())
        await committed(database, creation)
        journal.database = database
        intents = intents_on(replace(database, journal=journal))
        intent = await intents.record(a_change(Delete(order_id=creation.command.order_id)))
        assert isinstance(intent, Recorded)
        return intent.operation.version

    assert await version_made(OvertakenAfterItLooked()) == 3
    assert await version_made(OvertakenWithoutConditions()) == 2


async def is_recorded(variant: Any, database: OrderDatabase, engine: AsyncEngine) -> bool:
    """Whether ``variant`` finds an operation whose commit is still in flight when it is asked."""
    change = a_change(a_creation())
    assert isinstance(change.command, Create)
    in_flight = intents_on(database)
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
    database: OrderDatabase, engine: AsyncEngine, intents: PostgresIntents
) -> None:
    assert await is_recorded(intents._was_recorded, database, engine)
    assert not await is_recorded(by_select, database, engine)
