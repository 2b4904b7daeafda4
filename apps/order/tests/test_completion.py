"""T3 on a real database: the order follows the decision, once, and never by another path."""

import asyncio
import uuid
from typing import Any

import pytest
from apps.order.tests.test_changes import a_change, a_creation, an_update, order_of
from apps.order.tests.waiting import somebody_waits, until_true
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from order import failpoints
from order.domain import Operation, Outcome
from order.errors import ProtocolViolated
from order.metrics import Metrics
from order.ports import Decision, Recorded
from order.repository import Orders
from order.service.completion import PostgresCompletions
from order.service.intent import PostgresIntents
from servicekit.failpoints import Failpoints
from servicekit.idempotency import StoredResponse

APPLIED = Decision(Outcome.APPLIED)


@pytest.fixture
def completions(engine: AsyncEngine) -> PostgresCompletions:
    return PostgresCompletions(
        engine, failpoints=Failpoints(failpoints.NAMES), metrics=Metrics(CollectorRegistry())
    )


async def recorded(engine: AsyncEngine, order_id: uuid.UUID | None = None) -> Operation:
    intents = PostgresIntents(engine, failpoints=Failpoints(failpoints.NAMES), due_in_seconds=3600)
    command = a_creation() if order_id is None else an_update(order_id)
    intent = await intents.record(a_change(command))
    assert isinstance(intent, Recorded)
    return intent.operation


async def test_whoever_finishes_an_operation_gets_the_same_answer(
    engine: AsyncEngine, completions: PostgresCompletions
) -> None:
    operation = await recorded(engine)
    answers = await asyncio.gather(*(completions.complete(operation, APPLIED) for _ in range(6)))
    assert all(answer == answers[0] for answer in answers)
    order = await order_of(engine, operation.order_id)
    assert order is not None
    assert order.version == 1


async def test_the_first_decision_stands(
    engine: AsyncEngine, completions: PostgresCompletions
) -> None:
    operation = await recorded(engine)
    first = await completions.complete(operation, APPLIED)
    assert await completions.complete(operation, Decision(Outcome.ABORTED)) == first
    assert await order_of(engine, operation.order_id) is not None


async def test_an_operation_that_was_never_recorded_is_not_finished(
    engine: AsyncEngine, completions: PostgresCompletions
) -> None:
    operation = await recorded(engine)
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
    engine: AsyncEngine, completions: PostgresCompletions, variant: PostgresCompletions
) -> None:
    """Let ``variant`` complete an operation of version 2 when version 2 is there already."""
    creation = await recorded(engine)
    await completions.complete(creation, APPLIED)
    update = await recorded(engine, creation.order_id)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE orders SET version = 2, status = 'updated' WHERE id = :id"),
            {"id": creation.order_id},
        )
    await variant.complete(update, APPLIED)


class WithoutVersionCheck(PostgresCompletions):
    """The broken variant: whatever the order's version is, it becomes the operation's."""

    async def _finish(
        self, connection: AsyncConnection, operation: Operation, decision: Decision
    ) -> StoredResponse:
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
        return StoredResponse(204, (), b"")


async def test_an_order_takes_an_operation_only_at_the_version_before_it(
    engine: AsyncEngine, completions: PostgresCompletions
) -> None:
    with pytest.raises(ProtocolViolated):
        await overtaken(engine, completions, completions)
    broken = WithoutVersionCheck(
        engine, failpoints=Failpoints(failpoints.NAMES), metrics=Metrics(CollectorRegistry())
    )
    await overtaken(engine, completions, broken)


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
    engine: AsyncEngine, completions: PostgresCompletions
) -> None:
    operation = await recorded(engine)

    async def broken(operation: Operation) -> None:
        await operation_first(engine, operation)

    async def real(operation: Operation) -> None:
        await completions.complete(operation, APPLIED)

    assert not await locks_the_order_first(engine, broken, operation)
    assert await locks_the_order_first(engine, real, operation)
