"""Recovery goes on whatever happens, and leaves alone what others work on."""

import asyncio
import uuid

import pytest
from apps.order.tests.fakes import FakeInvoices, FakeLocks, lost_reply
from apps.order.tests.test_changes import a_change, a_creation, order_of
from apps.order.tests.waiting import until, until_true
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from order.repository import ORDERS, Operations, page_of_operations
from order.settings import Settings
from order.use_cases import UseCases
from servicekit.runtime import Runtime
from servicekit.walks import rows_on
from tandem.initiator import WakeUp
from tandem.tasks import running


async def pending(use_cases: UseCases, invoices: FakeInvoices) -> uuid.UUID:
    """Leave a creation pending and return its order's id."""
    invoices.before.append(lost_reply())
    change = a_change(a_creation())
    assert (await use_cases.changes.apply(change)).status == 202
    return change.command.order_id


async def attempts(engine: AsyncEngine) -> list[tuple[int, float]]:
    statement = text(
        "SELECT attempts, extract(epoch FROM next_attempt_at - now()) FROM operations"
        " ORDER BY created_at"
    )
    async with engine.connect() as connection:
        return [(row[0], float(row[1])) for row in await connection.execute(statement)]


async def test_each_claim_puts_the_next_attempt_off_further(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    await pending(use_cases, invoices)
    waits = []
    for _ in range(6):
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE operations SET next_attempt_at = now()"))
            claimed = await Operations(connection).claim_due(
                limit=10, base_seconds=1.0, cap_seconds=10.0
            )
        assert len(claimed) == 1
        waits.append((await attempts(engine))[0][1])
    for number, wait in enumerate(waits):
        nominal = min(10.0, 2.0**number)
        assert 0.5 * nominal < wait < 1.3 * nominal


async def test_two_replicas_never_claim_the_same_operation(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    for _ in range(5):
        await pending(use_cases, invoices)

    async def claim() -> list[uuid.UUID]:
        async with engine.begin() as connection:
            claimed = await Operations(connection).claim_due(
                limit=3, base_seconds=60.0, cap_seconds=60.0
            )
            return [record.operation.id for record in claimed]

    first, second = await asyncio.gather(claim(), claim())
    assert len(first) + len(second) == len(set(first) | set(second)) == 5


async def test_an_operation_whose_order_is_locked_is_looked_at_again_soon(
    use_cases: UseCases, invoices: FakeInvoices, locks: FakeLocks, engine: AsyncEngine
) -> None:
    order_id = await pending(use_cases, invoices)
    async with locks.hold(order_id, wait_seconds=1):
        assert await use_cases.reconciler.work_once() == 1
    ((_, wait),) = await attempts(engine)
    assert wait <= 1.0
    assert await order_of(engine, order_id) is None


async def test_one_failing_operation_does_not_stop_the_others(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    first = await pending(use_cases, invoices)
    second = await pending(use_cases, invoices)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE orders SET pending_op = NULL WHERE id = :id"), {"id": first}
        )
    assert await use_cases.reconciler.work_once() == 2
    assert await order_of(engine, first) is None
    order = await order_of(engine, second)
    assert order is not None
    async with engine.connect() as connection:
        (record,), _ = await page_of_operations(
            rows_on(connection), after=None, state=None, order_id=first, limit=1
        )
    assert record.last_error is not None
    assert "ProtocolViolated" in record.last_error


async def test_it_is_woken_at_once_when_a_request_gives_up(
    settings: Settings, use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    """The poll comes once an hour, so only the notification can have woken it."""
    async with running(use_cases.background):
        order_id = await pending(use_cases, invoices)

        async def finished() -> bool:
            return await order_of(engine, order_id) is not None

        await until_true(finished)


async def test_it_survives_an_error_of_a_whole_round(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine, runtime: Runtime
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE operations RENAME TO hidden"))
    async with running([use_cases.reconciler]):
        failed = "shop_reconciler_rounds_total"
        await until(lambda: runtime.registry.get_sample_value(failed, {"result": "failed"}))
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE hidden RENAME TO operations"))
    await pending(use_cases, invoices)
    assert await use_cases.reconciler.work_once() == 1


async def test_nothing_loses_its_turn_while_the_invoice_service_is_known_to_be_away(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine, runtime: Runtime
) -> None:
    await pending(use_cases, invoices)
    invoices.available = False
    rounds = "shop_reconciler_rounds_total"
    async with running([use_cases.reconciler]):
        await until(lambda: runtime.registry.get_sample_value(rounds, {"result": "done"}))
    ((tried, wait),) = await attempts(engine)
    assert (tried, wait <= 0) == (0, True)


async def test_the_backlog_is_shown(
    use_cases: UseCases, invoices: FakeInvoices, locks: FakeLocks, runtime: Runtime
) -> None:
    order_id = await pending(use_cases, invoices)
    async with locks.hold(order_id, wait_seconds=1):
        await use_cases.reconciler.work_once()
    assert runtime.registry.get_sample_value("shop_operations_pending") == 1
    oldest = runtime.registry.get_sample_value("shop_operation_oldest_seconds")
    assert oldest is not None
    assert oldest > 0


async def test_a_wake_up_call_is_heard_again_after_the_connection_broke(
    settings: Settings, engine: AsyncEngine
) -> None:
    wake_up = WakeUp(
        settings.database_url.get_secret_value(),
        channel=ORDERS.channel,
        application_name="order-wake-up",
        retry_seconds=0.05,
    )
    listening = text(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'order-wake-up'"
        " AND datname = current_database() AND query LIKE 'LISTEN%'"
    )

    async def listener() -> int | None:
        async with engine.connect() as connection:
            pid: int | None = (await connection.execute(listening)).scalar_one_or_none()
            return pid

    async with running([wake_up]):
        await until_true(listener)
        first = await listener()
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": first})

        async def reconnected() -> bool:
            return await listener() not in {None, first}

        await until_true(reconnected)
        await wake_up.wait(timeout_seconds=1)
        async with engine.begin() as connection:
            await Operations(connection).hand_over(uuid.uuid4(), error="")
        async with asyncio.timeout(30):
            await wake_up.wait(timeout_seconds=3600)


async def test_without_recovery_a_pending_operation_stays_so(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    """The variant without a reconciler: what recovery is there for."""
    order_id = await pending(use_cases, invoices)
    others = [work for work in use_cases.background if work is not use_cases.reconciler]

    async def visible() -> bool:
        return await order_of(engine, order_id) is not None

    async with running(others):
        with pytest.raises(TimeoutError):
            await until_true(visible, limit_seconds=0.5)
    assert await use_cases.reconciler.work_once() == 1
    assert await visible()


async def test_background_work_begins_when_the_schema_is_there_and_not_before(
    use_cases: UseCases, runtime: Runtime
) -> None:
    there = asyncio.Event()

    async def schema() -> None:
        await there.wait()

    def rounds() -> float | None:
        return runtime.registry.get_sample_value("shop_reconciler_rounds_total", {"result": "done"})

    async with running(use_cases.background, after=schema):
        await asyncio.sleep(0.1)
        assert not rounds()
        there.set()
        await until(rounds)
    there.clear()
    async with running(use_cases.background, after=schema):
        pass  # it ends although nothing has begun
