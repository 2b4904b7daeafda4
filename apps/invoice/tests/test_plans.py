"""Lists are read from an index, whatever they are narrowed to; nothing reads a whole table."""

import uuid
from datetime import UTC, datetime

import pytest
from apps.invoice.tests.shop import USER
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from invoice.domain import InvoiceStatus
from invoice.repository import page_of
from servicekit.testing.plans import Planned, planning
from servicekit.walks import Snapshot, Walk

FILL = f"""
INSERT INTO applied_operations (op_id, invoice_id, request_hash, kind, outcome, version, fence,
  direct, response_status, response_headers, response_body, created_at)
SELECT gen_random_uuid(), gen_random_uuid(), 'x', 'create', 'applied', 1, 0, true, 201, '[]', '',
  now() - n * interval '1 minute' FROM generate_series(1, 8000) n;
INSERT INTO invoices (id, user_id, total, status, version, fence, last_op, created_at, updated_at,
  created_by_xid)
SELECT invoice_id, '{USER}', 1, CASE WHEN random() < 0.001 THEN 'deleted' ELSE 'updated' END, 2, 0,
  op_id, created_at, created_at, 3 FROM applied_operations;
"""


async def test_no_list_scans_a_table(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for statement in filter(str.strip, FILL.split(";")):
            await connection.execute(text(statement))
    moment = datetime.now(UTC)
    snapshot = Snapshot(2_000_000_000, 2_000_000_009, (2_000_000_003,))
    position = (moment, uuid.UUID(int=1))
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(
            text("VACUUM ANALYZE invoices, applied_operations")
        )
        rows = planning(connection)
        for walk in (
            None,
            Walk(snapshot, moment, late=False, position=position),
            Walk(snapshot, moment, late=True, position=position),
        ):
            for user_id in (None, uuid.uuid4(), USER):
                for status in (None, *InvoiceStatus):
                    with pytest.raises(Planned) as caught:
                        await page_of(rows, limit=50, after=walk, user_id=user_id, status=status)
                    plan = caught.value.plan
                    assert not any("Seq Scan" in node["Node Type"] for node in plan), plan
                    assert plan[0]["Total Cost"] < 200, (user_id, status, plan)
