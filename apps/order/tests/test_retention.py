"""Old keys go; what the protocol still needs stays."""

import uuid
from dataclasses import replace

from apps.order.tests.fakes import FakeInvoices, lost_reply
from apps.order.tests.test_changes import a_change, a_creation, an_update, created
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from order.metrics import Metrics
from order.ports import Unrecorded
from order.retention import Retention
from order.use_cases import UseCases
from servicekit.auth.principal import ANONYMOUS
from tandem.operation import State


async def keys(engine: AsyncEngine) -> set[str]:
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT idempotency_key FROM idempotency_keys"))
        return set(rows.scalars())


async def test_only_keys_of_refused_requests_past_their_retention_are_removed(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    first = a_change(a_creation(), key="finished")
    await use_cases.changes.apply(first)
    await use_cases.changes.apply(a_change(an_update(uuid.uuid4()), key="refused"))
    invoices.before = [lost_reply()]
    await use_cases.changes.apply(a_change(a_creation(), key="pending"))
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE idempotency_keys SET created_at = now() - interval '2 days'")
        )
    await use_cases.changes.apply(a_change(a_creation(), key="young"))
    retention = Retention(
        engine,
        metrics=Metrics(CollectorRegistry()),
        retention_seconds=86_400,
        operation_retention_seconds=0,
        interval_seconds=60,
    )
    assert await retention.purge() == 1
    assert await keys(engine) == {"finished", "pending", "young"}
    async with engine.connect() as connection:
        left = (await connection.execute(text("SELECT count(*) FROM operations"))).scalar_one()
    assert left == 3
    invoices_before = len(invoices.rows)
    late = await use_cases.changes.apply(replace(first, op_id=uuid.uuid4()))
    assert late.status == 201
    assert len(invoices.rows) == invoices_before


def archiving(engine: AsyncEngine, *, retention_seconds: int = 86_400) -> Retention:
    return Retention(
        engine,
        metrics=Metrics(CollectorRegistry()),
        retention_seconds=86_400,
        operation_retention_seconds=retention_seconds,
        interval_seconds=60,
    )


async def age(engine: AsyncEngine, order_id: uuid.UUID, *, upto: int, days: int = 2) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE operations SET created_at = created_at - make_interval(days => :days)"
                " WHERE order_id = :id AND version <= :upto"
            ),
            {"id": order_id, "upto": upto, "days": days},
        )


async def versions(engine: AsyncEngine, table: str) -> list[int]:
    async with engine.connect() as connection:
        rows = await connection.execute(text(f"SELECT version FROM {table} ORDER BY version"))
        return list(rows.scalars())


async def test_operations_superseded_long_ago_move_and_their_pages_and_keys_answer_as_before(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    creation = a_change(a_creation(), key="k")
    order_id = creation.command.order_id
    first = await use_cases.changes.apply(creation)
    for quantity in (3, 4):
        await use_cases.changes.apply(a_change(an_update(order_id, quantity=quantity)))
    await age(engine, order_id, upto=3)
    retention = archiving(engine)
    assert await retention.archive() == 2
    assert await retention.archive() == 0
    assert await versions(engine, "operations") == [3]
    assert await versions(engine, "operations_archive") == [1, 2]
    page = await use_cases.reading.operation(creation.op_id, asked_by=ANONYMOUS)
    assert not isinstance(page, Unrecorded)
    assert (page.state, page.operation.version, page.response) == (State.COMMITTED, 1, first)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE idempotency_keys SET created_at = now() - interval '9 days'")
        )
    assert await retention.purge() == 0
    sent = len(invoices.rows)
    assert await use_cases.changes.apply(replace(creation, op_id=uuid.uuid4())) == first
    assert len(invoices.rows) == sent
    assert (await use_cases.changes.apply(a_change(an_update(order_id, quantity=9)))).status == 204


async def test_an_operation_stays_until_what_superseded_it_is_old_and_moves_then(
    use_cases: UseCases, engine: AsyncEngine
) -> None:
    order_id, other = await created(use_cases), await created(use_cases)
    await use_cases.changes.apply(a_change(an_update(order_id)))
    await age(engine, order_id, upto=1)
    await age(engine, other, upto=1)
    retention = archiving(engine)
    assert await retention.archive() == 0
    await age(engine, order_id, upto=2)
    await age(engine, other, upto=1, days=9)
    assert await archiving(engine).archive() == 1
    # One that moves forward only finds it too, once it is that old.
    await use_cases.changes.apply(a_change(an_update(order_id, quantity=8)))
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE operations SET created_at = now() - interval '30 h' WHERE version = 3")
        )
    assert await retention.archive() == 1
    assert await versions(engine, "operations") == [1, 3]


async def test_what_is_pending_or_was_rejected_stays_and_0_means_for_ever(
    use_cases: UseCases, invoices: FakeInvoices, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    invoices.before = [lost_reply()]
    await use_cases.changes.apply(a_change(an_update(order_id)))
    await age(engine, order_id, upto=2)
    assert await archiving(engine).archive() == 0
    assert await archiving(engine, retention_seconds=0).archive() == 0
    assert await versions(engine, "operations") == [1, 2]


async def test_a_long_history_moves_in_small_transactions(
    use_cases: UseCases, engine: AsyncEngine
) -> None:
    order_id = await created(use_cases)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO operations (op_id, order_id, invoice_id, kind, version, payload,"
                " state, response_status, response_headers, response_body, next_attempt_at,"
                " created_at, finished_at) SELECT gen_random_uuid(), order_id, invoice_id,"
                " 'update', 1 + n, payload, state, 204, '[]', '', now(),"
                " now() - interval '9 days' + n * interval '1 second', now()"
                " FROM operations, generate_series(1, 2500) n"
            )
        )
    await age(engine, order_id, upto=1, days=10)
    assert await archiving(engine).archive() == 2500
    assert await versions(engine, "operations") == [2501]
