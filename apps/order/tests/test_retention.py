"""Old keys go; what the protocol still needs stays."""

import uuid
from dataclasses import replace

from apps.order.tests.fakes import FakeInvoices, lost_reply
from apps.order.tests.test_changes import a_change, a_creation, an_update
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from order.metrics import Metrics
from order.retention import Retention
from order.use_cases import UseCases


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
