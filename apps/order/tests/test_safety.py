"""What each precaution is there for: the same story with it, and with a variant that lacks it."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.order.tests.fakes import FakeInvoices, lost_reply
from apps.order.tests.test_changes import (
    a_change,
    a_creation,
    an_update,
    created,
    operations_of,
    order_of,
    seen,
)
from apps.order.tests.test_intent import NothingAtOnce
from apps.order.tests.waiting import somebody_waits, until_true
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from order import failpoints
from order.database import OrderDatabase
from order.domain import Delete, Operation, Update, invoice_id_for, plan_change
from order.ports import Change, Unrecorded
from order.repository import OperationRecord
from order.service.cancellation import Cancellation
from order.service.intent import PostgresIntents
from order.use_cases import UseCases
from servicekit.auth.principal import ANONYMOUS, Principal
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime
from tandem.commits import Attempt
from tandem.errors import OutcomeUnknown
from tandem.initiator import Delivery, records
from tandem.initiator.ports import Blocked, Decision, Intent, Lease, NoDeadlines, Recorded
from tandem.initiator.records import Key
from tandem.operation import Answer, Outcome, State


async def both_sides_agree(
    order_id: uuid.UUID, engine: AsyncEngine, invoices: FakeInvoices
) -> bool:
    order = await order_of(engine, order_id)
    row = invoices.rows.get(invoice_id_for(order_id))
    if order is None or row is None:
        return order is None and row is None
    return (order.version, order.body.total) == (row.version, row.total)


def delivering(use_cases: UseCases, delivery: Delivery[Operation]) -> None:
    """Give the use cases another way to deliver."""
    changes: Any = use_cases.changes
    changes._delivery = delivery
    changes._finishing._delivery = delivery


# An unknown outcome is not a refusal.


class TakesErrorsAsFinal(Delivery[Operation]):
    """The variant: whatever is not a success has failed."""

    async def deliver(self, operation: Operation, lease: Lease) -> Decision:
        try:
            return await super().deliver(operation, lease)
        except OutcomeUnknown as error:
            return Decision(Outcome.REJECTED, str(error))


async def applied_but_answered_503(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> bool:
    order_id = await created(use_cases)
    invoices.after = [OutcomeUnknown("503", retryable=False)]
    await use_cases.changes.apply(a_change(an_update(order_id)))
    await use_cases.reconciler.work_once()
    return await both_sides_agree(order_id, engine, invoices)


async def test_an_error_of_the_invoice_service_is_not_taken_as_its_decision(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine, runtime: Runtime
) -> None:
    assert await applied_but_answered_503(use_cases, invoices, engine)
    delivering(
        use_cases,
        TakesErrorsAsFinal(
            invoices,
            points=failpoints.POINTS,
            failpoints=runtime.failpoints,
            deadlines=NoDeadlines(),
            timeout_seconds=3,
        ),
    )
    assert not await applied_but_answered_503(use_cases, invoices, engine)


# Trying again carries the same id.


class NewIdEachTime(FakeInvoices):
    """The variant: the invoice service cannot tell a second try from another operation."""

    async def send(self, operation: Operation, *, proof: str, timeout_seconds: float) -> Decision:
        return await super().send(
            replace(operation, id=uuid.uuid4()), proof=proof, timeout_seconds=timeout_seconds
        )


async def answered_too_late(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> bool:
    order_id = await created(use_cases)
    invoices.after = [OutcomeUnknown("timeout", retryable=True)]
    await use_cases.changes.apply(a_change(an_update(order_id)))
    return await both_sides_agree(order_id, engine, invoices)


async def test_a_second_try_is_recognised_by_the_operations_id(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine, runtime: Runtime
) -> None:
    assert await answered_too_late(use_cases, invoices, engine)
    broken = NewIdEachTime()
    delivery = Delivery(
        broken,
        points=failpoints.POINTS,
        failpoints=runtime.failpoints,
        deadlines=NoDeadlines(),
        timeout_seconds=3,
    )
    delivering(use_cases, delivery)
    assert not await answered_too_late(use_cases, broken, engine)


# Cancelling asks whoever decides.


class CancelsByItself(Cancellation):
    """The variant: what is pending here is aborted here."""

    async def cancel(
        self, op_id: uuid.UUID, *, asked_by: Principal
    ) -> OperationRecord | Unrecorded:
        record = await self._reading.operation(op_id, asked_by=asked_by)
        assert isinstance(record, records.OperationRecord)
        await self._finishing._completions.complete(record.operation, Decision(Outcome.ABORTED))
        return await self._reading.operation(op_id, asked_by=asked_by)


async def cancelled_after_it_was_applied(
    use_cases: UseCases, cancellation: Cancellation, invoices: FakeInvoices, engine: AsyncEngine
) -> bool:
    order_id = await created(use_cases)
    invoices.after = [lost_reply()]
    change = a_change(an_update(order_id))
    await use_cases.changes.apply(change)
    await cancellation.cancel(change.op_id, asked_by=ANONYMOUS)
    return await both_sides_agree(order_id, engine, invoices)


async def test_a_cancellation_never_decides_here(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    real = use_cases.cancellation
    assert await cancelled_after_it_was_applied(use_cases, real, invoices, engine)
    broken = CancelsByItself(
        reading=real._reading,
        finishing=real._finishing,
        intents=real._intents,
        timeout_seconds=3,
    )
    assert not await cancelled_after_it_was_applied(use_cases, broken, invoices, engine)


# Answers are kept under their keys.


class KeepsNoAnswers(PostgresIntents):
    """The variant: keys are taken and forgotten."""

    async def replay(self, key: Key) -> Answer | None:
        return None

    async def record(
        self,
        change: Change,
        attempt: Attempt | None = None,
        *,
        told: Callable[[Intent[Operation]], None] = lambda _: None,
    ) -> Intent[Operation]:
        return await super().record(replace(change, key=None), attempt, told=told)


async def sent_twice(use_cases: UseCases, invoices: FakeInvoices) -> int:
    before = len(invoices.rows)
    for _ in range(2):
        await use_cases.changes.apply(a_change(a_creation(), key=f"key {before}"))
    return len(invoices.rows) - before


async def test_a_request_sent_twice_is_done_once(
    use_cases: UseCases, invoices: FakeInvoices, database: OrderDatabase
) -> None:
    assert await sent_twice(use_cases, invoices) == 1
    changes: Any = use_cases.changes
    changes._intents = KeepsNoAnswers(
        database, failpoints=Failpoints(failpoints.NAMES), due_in_seconds=3600
    )
    assert await sent_twice(use_cases, invoices) == 2


# T1, where it looks first, looks at the order with its row locked.


class IntentsWithoutRowLock(PostgresIntents):
    """The variant: it plans on what it sees, whatever others are doing to the row."""

    async def _plan(self, connection: AsyncConnection, change: Change) -> Intent[Operation]:
        assert isinstance(change.command, Update)
        order = await seen(connection, change.command.order_id)
        planned = plan_change(
            order,
            change.command,
            op_id=change.op_id,
            now=datetime.now(UTC),
            skew=timedelta(minutes=5),
        )
        assert planned is not None
        return await self._insert(connection, change, planned)


async def test_the_second_of_two_changes_sees_the_first(
    use_cases: UseCases, database: OrderDatabase, engine: AsyncEngine
) -> None:
    points = Failpoints(failpoints.NAMES)

    async def race(intents: PostgresIntents) -> Intent[Operation] | Exception:
        """Plan one change, plan another before the first is committed; what the second gets."""
        order_id = await created(use_cases)
        first = PostgresIntents(database, failpoints=points, due_in_seconds=3600)
        async with engine.connect() as connection:
            transaction = await connection.begin()
            planned = await first._plan(connection, a_change(an_update(order_id)))
            assert isinstance(planned, Recorded)
            second = asyncio.create_task(intents.record(a_change(an_update(order_id))))
            await until_true(lambda: _settled_or_waiting(engine, second))
            await transaction.commit()
        (result,) = await asyncio.gather(second, return_exceptions=True)
        assert not isinstance(result, BaseException) or isinstance(result, Exception)
        return result

    careful = replace(database, journal=NothingAtOnce())
    for known in (database, careful):
        real = PostgresIntents(known, failpoints=points, due_in_seconds=3600)
        assert isinstance(await race(real), Blocked)
    broken = IntentsWithoutRowLock(careful, failpoints=points, due_in_seconds=3600)
    assert not isinstance(await race(broken), Blocked)


async def _settled_or_waiting(engine: AsyncEngine, task: "asyncio.Task[Intent[Operation]]") -> bool:
    return task.done() or await somebody_waits(engine)


# Nothing is ever deleted.


async def test_a_deleted_order_keeps_its_row_and_its_history(
    use_cases: UseCases, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    await use_cases.changes.apply(a_change(Delete(order_id=order_id)))
    order = await order_of(engine, order_id)
    assert order is not None
    history = await operations_of(engine, order_id)
    assert [record.state for record in history] == [State.COMMITTED, State.COMMITTED]
    again = await use_cases.changes.apply(a_change(Delete(order_id=order_id)))
    assert again.status == 204
