"""What a request is answered, whatever fails around it."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from apps.order.tests.fakes import FakeInvoices, FakeLocks, lost_reply
from apps.order.tests.waiting import until
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from order import failpoints
from order.domain import Create, Delete, Order, Status, Update
from order.errors import (
    InvoiceServiceUnavailable,
    LocksUnavailable,
    OperationRunning,
    OrderLocked,
    OrderNotFound,
    UpdateIsStale,
)
from order.models import orders
from order.ports import Change
from order.repository import OperationRecord, page_of_operations
from order.repository.schema import order_of as order_in
from order.use_cases import UseCases
from servicekit.auth.principal import ANONYMOUS
from servicekit.failpoints import FailpointError
from servicekit.problems import IdempotencyKeyReused
from servicekit.runtime import Runtime
from servicekit.walks import rows_on
from tandem.errors import OutcomeUnknown
from tandem.initiator import records
from tandem.initiator.ports import Decision
from tandem.initiator.records import Key
from tandem.operation import Answer, Outcome, State


def a_change(
    command: Create | Update | Delete, *, key: str | None = None, body: str = "a"
) -> Change:
    return Change(
        command=command,
        op_id=uuid.uuid4(),
        path=f"/orders/{command.order_id}",
        key=None if key is None else Key("anonymous", key, body.encode().ljust(32)),
        client=ANONYMOUS.client,
        traceparent=None,
    )


def a_creation() -> Create:
    return Create(
        order_id=uuid.uuid4(),
        user_id=uuid.uuid4(),
        item_id=uuid.uuid4(),
        quantity=2,
        value=Decimal("9.50"),
    )


def an_update(order_id: uuid.UUID, *, quantity: int = 5) -> Update:
    return Update(order_id=order_id, update_time=datetime.now(UTC), quantity=quantity)


async def created(use_cases: UseCases) -> uuid.UUID:
    command = a_creation()
    assert (await use_cases.changes.apply(a_change(command))).status == 201
    return command.order_id


async def seen(connection: AsyncConnection, order_id: uuid.UUID) -> Order | None:
    statement = select(orders).where(orders.c.id == order_id, orders.c.version > 0)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else order_in(row)


async def order_of(engine: AsyncEngine, order_id: uuid.UUID) -> Order | None:
    async with engine.connect() as connection:
        return await seen(connection, order_id)


async def operations_of(engine: AsyncEngine, order_id: uuid.UUID) -> Sequence[OperationRecord]:
    async with engine.connect() as connection:
        records, _ = await page_of_operations(
            rows_on(connection), after=None, state=None, order_id=order_id, limit=100
        )
    return records


def header(response: Answer, name: str) -> str:
    return dict(response.headers)[name]


async def test_a_change_takes_the_lock_first_and_gives_it_back_last(
    use_cases: UseCases, locks: FakeLocks, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    assert locks.log == ["lock", "release"]
    assert [proof for _, proof in invoices.sent] == [f"proof of {order_id}"]
    order = await order_of(engine, order_id)
    assert order is not None
    assert (order.version, order.pending_op) == (1, None)


async def test_a_refused_change_is_never_sent(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    old = Update(order_id=order_id, update_time=datetime(2001, 1, 1, tzinfo=UTC), quantity=9)
    with pytest.raises(UpdateIsStale):
        await use_cases.changes.apply(a_change(old))
    with pytest.raises(OrderNotFound):
        await use_cases.changes.apply(a_change(an_update(uuid.uuid4())))
    assert len(invoices.sent) == 1
    assert len(await operations_of(engine, order_id)) == 1


async def test_a_lost_reply_is_202_and_the_order_stays_as_it_was_until_recovery(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    invoices.after = [lost_reply()]
    change = a_change(an_update(order_id))
    response = await use_cases.changes.apply(change)
    assert (response.status, header(response, "location")) == (202, f"/operations/{change.op_id}")
    before = await order_of(engine, order_id)
    assert before is not None
    assert (before.version, before.pending_op) == (1, change.op_id)
    assert await use_cases.reconciler.work_once() == 1
    after = await order_of(engine, order_id)
    assert after is not None
    assert (after.version, after.body.quantity, after.pending_op) == (2, 5, None)


async def test_an_undelivered_operation_is_sent_again_under_a_lock_of_its_own(
    use_cases: UseCases, invoices: FakeInvoices, locks: FakeLocks, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    invoices.before = [lost_reply()]
    change = a_change(Delete(order_id=order_id))
    assert (await use_cases.changes.apply(change)).status == 202
    locks.log.clear()
    assert await use_cases.reconciler.work_once() == 1
    assert locks.log == ["lock", "release"]
    order = await order_of(engine, order_id)
    assert order is not None
    assert order.body.status is Status.DELETED


async def test_an_unknown_outcome_is_asked_for_again_under_the_same_id(
    use_cases: UseCases, invoices: FakeInvoices
) -> None:
    invoices.after = [OutcomeUnknown("cut", retryable=True), OutcomeUnknown("cut", retryable=True)]
    change = a_change(a_creation())
    assert (await use_cases.changes.apply(change)).status == 201
    assert [op_id for op_id, _ in invoices.sent] == [change.op_id] * 3


async def test_a_pending_operation_in_the_way_is_finished_first(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    invoices.before = [lost_reply()]
    first = a_change(an_update(order_id, quantity=7))
    assert (await use_cases.changes.apply(first)).status == 202
    second = Update(order_id=order_id, update_time=datetime.now(UTC), value=Decimal(3))
    response = await use_cases.changes.apply(a_change(second))
    assert (response.status, header(response, "etag")) == (204, '"3"')
    order = await order_of(engine, order_id)
    assert order is not None
    assert (order.body.quantity, order.body.value) == (7, Decimal("3.00"))


async def test_nothing_is_written_while_an_operation_in_the_way_cannot_be_finished(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    invoices.before = [lost_reply(), lost_reply()]
    await use_cases.changes.apply(a_change(an_update(order_id)))
    with pytest.raises(InvoiceServiceUnavailable):
        await use_cases.changes.apply(a_change(an_update(order_id, quantity=8)))
    assert len(await operations_of(engine, order_id)) == 2


async def test_a_lease_lost_before_anything_is_written_is_423(
    use_cases: UseCases, runtime: Runtime, locks: FakeLocks, engine: AsyncEngine
) -> None:
    runtime.failpoints.arm(f"{failpoints.AFTER_LOCK}=delay:60")
    command = a_creation()
    request = asyncio.create_task(use_cases.changes.apply(a_change(command)))
    await until(lambda: runtime.failpoints.hits)
    locks.lose(command.order_id)
    with pytest.raises(OrderLocked):
        await request
    assert await operations_of(engine, command.order_id) == []


async def test_a_lease_lost_after_recording_is_202_and_recovery_finishes(
    use_cases: UseCases, runtime: Runtime, locks: FakeLocks, engine: AsyncEngine
) -> None:
    runtime.failpoints.arm(f"{failpoints.BEFORE_SEND}=delay:60")
    command = a_creation()
    request = asyncio.create_task(use_cases.changes.apply(a_change(command)))
    await until(lambda: runtime.failpoints.hits)
    locks.lose(command.order_id)
    assert (await request).status == 202
    runtime.failpoints.disarm()
    await use_cases.reconciler.work_once()
    order = await order_of(engine, command.order_id)
    assert order is not None
    assert order.version == 1


@pytest.mark.parametrize("point", failpoints.NAMES)
async def test_an_error_anywhere_is_never_a_5xx_once_something_is_recorded(
    use_cases: UseCases, runtime: Runtime, invoices: FakeInvoices, engine: AsyncEngine, point: str
) -> None:
    order_id = await created(use_cases)
    runtime.failpoints.arm(f"{point}=error*1")
    change = a_change(an_update(order_id))
    try:
        status = (await use_cases.changes.apply(change)).status
    except FailpointError:
        status = 500
    assert runtime.failpoints.hits[point] == 1
    records = {record.operation.id: record for record in await operations_of(engine, order_id)}
    if status == 500:
        assert change.op_id not in records
    elif status == 202:
        assert records[change.op_id].state is State.PENDING
        await use_cases.reconciler.work_once()
    order = await order_of(engine, order_id)
    assert order is not None
    expected = 1 if status == 500 else 2
    row = invoices.rows[records[next(iter(records))].operation.invoice_id]
    assert (order.version, row.version, order.body.total) == (expected, expected, row.total)


async def test_locks_that_cannot_be_reached_are_503_and_nothing_is_written(
    use_cases: UseCases, locks: FakeLocks, engine: AsyncEngine
) -> None:
    locks.available = False
    command = a_creation()
    with pytest.raises(LocksUnavailable):
        await use_cases.changes.apply(a_change(command))
    assert await operations_of(engine, command.order_id) == []


async def test_an_open_breaker_is_503_before_any_lock(
    use_cases: UseCases, invoices: FakeInvoices, locks: FakeLocks
) -> None:
    invoices.available = False
    with pytest.raises(InvoiceServiceUnavailable):
        await use_cases.changes.apply(a_change(a_creation()))
    assert locks.log == []


async def test_the_same_key_gets_the_same_answer_even_while_everything_else_is_down(
    use_cases: UseCases, invoices: FakeInvoices, locks: FakeLocks
) -> None:
    command = a_creation()
    first = await use_cases.changes.apply(a_change(command, key="k"))
    invoices.available = locks.available = False
    again = await use_cases.changes.apply(a_change(a_creation(), key="k"))
    assert again == first


async def test_the_same_key_with_another_body_is_refused(use_cases: UseCases) -> None:
    await use_cases.changes.apply(a_change(a_creation(), key="k"))
    with pytest.raises(IdempotencyKeyReused):
        await use_cases.changes.apply(a_change(a_creation(), key="k", body="b"))


async def test_a_refusal_is_kept_under_its_key_too(use_cases: UseCases) -> None:
    order_id = await created(use_cases)
    old = Update(order_id=order_id, update_time=datetime(2001, 1, 1, tzinfo=UTC))
    first = await use_cases.changes.apply(a_change(old, key="k"))
    assert first.status == 409
    await use_cases.changes.apply(a_change(Delete(order_id=order_id)))
    assert await use_cases.changes.apply(a_change(old, key="k")) == first


async def test_a_key_whose_operation_is_pending_points_to_it(
    use_cases: UseCases, invoices: FakeInvoices
) -> None:
    invoices.before = [lost_reply()]
    change = a_change(a_creation(), key="k")
    assert (await use_cases.changes.apply(change)).status == 202
    with pytest.raises(OperationRunning) as caught:
        await use_cases.changes.apply(a_change(a_creation(), key="k"))
    assert caught.value.headers["Location"] == f"/operations/{change.op_id}"
    await use_cases.reconciler.work_once()
    assert (await use_cases.changes.apply(a_change(a_creation(), key="k"))).status == 201


async def test_concurrent_requests_with_one_key_do_one_thing(
    use_cases: UseCases, invoices: FakeInvoices
) -> None:
    async def once() -> int:
        try:
            return (await use_cases.changes.apply(a_change(a_creation(), key="k"))).status
        except OperationRunning:
            return 409

    statuses = await asyncio.gather(*(once() for _ in range(8)))
    assert set(statuses) <= {201, 409}
    assert len(invoices.rows) == 1


async def test_a_rejected_change_leaves_the_order_as_it_was(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    next(iter(invoices.rows.values())).version = 9
    response = await use_cases.changes.apply(a_change(an_update(order_id)))
    assert response.status == 409
    assert b"operation-rejected" in response.body
    order = await order_of(engine, order_id)
    assert order is not None
    assert (order.version, order.body.quantity, order.pending_op) == (1, 2, None)


@pytest.mark.parametrize("wording", ["no\x00", "no\ud800", "no\r\nno", "no " * 100_000])
async def test_an_outcome_is_followed_however_it_is_worded(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine, wording: str
) -> None:
    order_id = await created(use_cases)
    refused, unknown = (a_change(an_update(order_id)) for _ in range(2))
    invoices.decisions[refused.op_id] = Decision(Outcome.REJECTED, wording)
    response = await use_cases.changes.apply(refused)
    assert (response.status, len(response.body) < 2_000) == (409, True)
    invoices.before.append(OutcomeUnknown(wording, retryable=False))
    assert (await use_cases.changes.apply(unknown)).status == 202
    order = await order_of(engine, order_id)
    assert order is not None
    assert order.pending_op == unknown.op_id


async def state_after_cancelling(use_cases: UseCases, op_id: uuid.UUID) -> State:
    record = await use_cases.cancellation.cancel(op_id, asked_by=ANONYMOUS)
    assert isinstance(record, records.OperationRecord)
    return record.state


async def test_cancelling_follows_whoever_was_recorded_first(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    invoices.before = [lost_reply()]
    undecided = a_change(an_update(order_id))
    await use_cases.changes.apply(undecided)
    assert await state_after_cancelling(use_cases, undecided.op_id) is State.REJECTED
    invoices.after = [lost_reply()]
    decided = a_change(an_update(order_id, quantity=8))
    await use_cases.changes.apply(decided)
    assert await state_after_cancelling(use_cases, decided.op_id) is State.COMMITTED
    order = await order_of(engine, order_id)
    assert order is not None
    assert (order.version, order.body.quantity) == (2, 8)


async def test_a_cancelled_creation_stays_invisible(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    invoices.before = [lost_reply()]
    change = a_change(a_creation())
    await use_cases.changes.apply(change)
    assert await order_of(engine, change.command.order_id) is None
    await use_cases.cancellation.cancel(change.op_id, asked_by=ANONYMOUS)
    assert await order_of(engine, change.command.order_id) is None
    with pytest.raises(OrderNotFound):
        await use_cases.changes.apply(a_change(Delete(order_id=change.command.order_id)))


async def test_a_request_out_of_time_is_202_once_something_is_recorded(
    use_cases: UseCases, runtime: Runtime, engine: AsyncEngine
) -> None:
    runtime.failpoints.arm(f"{failpoints.BEFORE_SEND}=delay:60")
    changes: Any = use_cases.changes
    changes._timeout_seconds = 2.0
    change = a_change(a_creation())
    assert (await use_cases.changes.apply(change)).status == 202
    assert len(await operations_of(engine, change.command.order_id)) == 1
