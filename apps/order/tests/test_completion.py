"""T3 on a real database: the order follows the decision, once, and never by another path."""

import asyncio
import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from apps.order.tests.test_changes import a_change, a_creation, an_update, order_of
from apps.order.tests.test_intent import NothingAtOnce, completions_on, intents_on
from apps.order.tests.waiting import somebody_waits, until_true
from prometheus_client import CollectorRegistry
from sqlalchemy import ColumnElement, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from order import failpoints
from order.database import OrderDatabase
from order.domain import Operation
from order.metrics import Metrics
from order.repository import Journal, Orders
from order.service.completion import PostgresCompletions
from servicekit.failpoints import Failpoints
from tandem.errors import ProtocolViolated
from tandem.initiator.ports import Decision, Recorded
from tandem.operation import Answer, Outcome

APPLIED = Decision(Outcome.APPLIED)


@pytest.fixture
def completions(database: OrderDatabase) -> PostgresCompletions:
    return completions_on(database)


async def recorded(database: OrderDatabase, order_id: uuid.UUID | None = None) -> Operation:
    intents = intents_on(database)
    command = a_creation() if order_id is None else an_update(order_id)
    intent = await intents.record(a_change(command))
    assert isinstance(intent, Recorded)
    return intent.operation


async def test_whoever_finishes_an_operation_gets_the_same_answer(
    database: OrderDatabase, engine: AsyncEngine, completions: PostgresCompletions
) -> None:
    operation = await recorded(database)
    answers = await asyncio.gather(*(completions.complete(operation, APPLIED) for _ in range(6)))
    assert all(answer == answers[0] for answer in answers)
    order = await order_of(engine, operation.order_id)
    assert order is not None
    assert order.version == 1


async def test_the_first_decision_stands(
    database: OrderDatabase, engine: AsyncEngine, completions: PostgresCompletions
) -> None:
    operation = await recorded(database)
    first = await completions.complete(operation, APPLIED)
    assert await completions.complete(operation, Decision(Outcome.ABORTED)) == first
    assert await order_of(engine, operation.order_id) is not None


async def test_an_operation_that_was_never_recorded_is_not_finished(
    database: OrderDatabase, engine: AsyncEngine, completions: PostgresCompletions
) -> None:
    operation = await recorded(database)
    never = Operation(
        id=uuid.uuid4(),
        order_id=operation.order_id,
        invoice_id=operation.invoice_id,
        kind=operation.kind,
        version=1,
        body=operation.body,
    )
    with pytest.raises(ProtocolViolated):
        await completions.complete(never, APPLIED)


async def overtaken(
    database: OrderDatabase, engine: AsyncEngine, variant: PostgresCompletions
) -> None:
    """Let ``variant`` complete an operation of version 2 when version 2 is there already."""
    creation = await recorded(database)
    await completions_on(database).complete(creation, APPLIED)
    update = await recorded(database, creation.order_id)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE orders SET version = 2, status = 'updated' WHERE id = :id"),
            {"id": creation.order_id},
        )
    await variant.complete(update, APPLIED)


class WithoutVersionCheck(PostgresCompletions):
    """The broken careful path: whatever the order's version is, it becomes the operation's."""

    async def _finish(
        self, connection: AsyncConnection, operation: Operation, decision: Decision
    ) -> Answer:
        await connection.execute(
            text(
                "UPDATE orders SET version = :version, quantity = :quantity,"
                " total = :quantity * value, pending_op = NULL WHERE id = :id"
            ),
            {
                "id": operation.order_id,
                "version": operation.version,
                "quantity": operation.body.quantity,
            },
        )
        return Answer(204, (), b"")


class WithoutConditions(Journal):
    """The broken usual path: the same, in one statement."""

    def awaiting(self) -> list[ColumnElement[bool]]:
        return []


async def test_an_order_takes_an_operation_only_at_the_version_before_it(
    database: OrderDatabase, engine: AsyncEngine
) -> None:
    careful = replace(database, journal=NothingAtOnce())
    for real in (database, careful):
        with pytest.raises(ProtocolViolated):
            await overtaken(database, engine, completions_on(real))
    broken = WithoutVersionCheck(
        careful, failpoints=Failpoints(failpoints.NAMES), metrics=Metrics(CollectorRegistry())
    )
    await overtaken(database, engine, broken)
    at_once = completions_on(replace(database, journal=WithoutConditions()))
    await overtaken(database, engine, at_once)


@pytest.mark.parametrize("kind", ["create", "update"])
@pytest.mark.parametrize("outcome", list(Outcome))
async def test_both_paths_end_an_operation_alike(
    database: OrderDatabase, engine: AsyncEngine, kind: str, outcome: Outcome
) -> None:
    async def ended(journal: Journal) -> tuple[dict[str, Any], dict[str, Any], Answer]:
        completions = completions_on(replace(database, journal=journal))
        operation = await recorded(database)
        if kind == "update":
            await completions.complete(operation, APPLIED)
            operation = await recorded(database, operation.order_id)
        response = await completions.complete(operation, Decision(outcome, "because"))
        names = {str(operation.id): "op", str(operation.order_id): "order"}
        return (
            await row_of(engine, "orders", "id", operation.order_id, names),
            await row_of(engine, "operations", "op_id", operation.id, names),
            response,
        )

    usual, careful = await ended(Journal()), await ended(NothingAtOnce())
    assert usual[0] == careful[0]
    assert usual[1] == careful[1]
    assert (usual[2].status, len(usual[2].body)) == (careful[2].status, len(careful[2].body))


NOT_ALIKE = {"id", "user_id", "item_id", "invoice_id", "payload", "response_body"}


async def row_of(
    engine: AsyncEngine, table: str, column: str, row_id: uuid.UUID, names: dict[str, str]
) -> dict[str, Any]:
    """A row, with names for what is new each time, and only whether there is a time."""
    async with engine.connect() as connection:
        statement = text(f"SELECT * FROM {table} WHERE {column} = :id")
        row = (await connection.execute(statement, {"id": row_id})).mappings().one()
    shown = {name: row[name] for name in row.keys() - NOT_ALIKE}
    if table == "orders":
        shown["created and updated at once"] = row["created_at"] == row["updated_at"]
        shown["created_by_xid"] = row["created_by_xid"] is not None
    else:
        shown["response_headers"] = len(row["response_headers"] or ())
        shown["created_by_xid"] = None
    return {
        name: value is not None if isinstance(value, datetime) else names.get(str(value), value)
        for name, value in shown.items()
    }


async def locks_the_order_first(engine: AsyncEngine, complete: Any, operation: Operation) -> bool:
    """Whether ``complete``, while it waits for the order's row, leaves the operation's row free."""
    async with engine.connect() as holder, engine.connect() as probe:
        await Orders(holder).lock(operation.order_id)
        task = asyncio.create_task(complete(operation))
        await until_true(lambda: somebody_waits(engine))
        try:
            await probe.execute(
                text("SELECT 1 FROM operations WHERE op_id = :id FOR UPDATE NOWAIT"),
                {"id": operation.id},
            )
            free = True
        except DBAPIError:
            free = False
        await probe.rollback()
        await holder.rollback()
        await task
    return free


async def operation_first(engine: AsyncEngine, operation: Operation) -> None:
    """The broken variant: it takes the rows the other way round."""
    async with engine.begin() as connection:
        await _lock_operation(connection, operation)
        await Orders(connection).lock(operation.order_id)


async def _lock_operation(connection: AsyncConnection, operation: Operation) -> None:
    await connection.execute(
        text("SELECT 1 FROM operations WHERE op_id = :id FOR UPDATE"), {"id": operation.id}
    )


async def test_the_order_is_locked_before_the_operation(
    database: OrderDatabase, engine: AsyncEngine, completions: PostgresCompletions
) -> None:
    operation = await recorded(database)

    async def broken(operation: Operation) -> None:
        await operation_first(engine, operation)

    async def real(operation: Operation) -> None:
        await completions.complete(operation, APPLIED)

    async def carefully(operation: Operation) -> None:
        careful = completions_on(replace(database, journal=NothingAtOnce()))
        await careful.complete(operation, APPLIED)

    assert not await locks_the_order_first(engine, broken, operation)
    assert await locks_the_order_first(engine, real, operation)
    assert await locks_the_order_first(engine, carefully, await recorded(database))
