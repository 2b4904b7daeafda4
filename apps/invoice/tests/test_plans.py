"""Lists are read from an index, whatever they are narrowed to; nothing reads a whole table."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from apps.invoice.tests.shop import USER
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from invoice.domain import InvoiceStatus
from invoice.repository import invoice_archive, invoice_records, page_of
from servicekit.testing.plans import Planned, planning, scans
from servicekit.walks import Snapshot, Walk, rows_on

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


OF_ORDERS = """
INSERT INTO applied_operations (op_id, invoice_id, request_hash, kind, outcome, version, fence,
  direct, response_status, response_headers, response_body, created_at)
SELECT gen_random_uuid(), a.invoice_id, 'x', 'update', 'applied', v + 10, 1, false,
  204, '[]', '', a.created_at + v * interval '1 second'
FROM (SELECT * FROM applied_operations ORDER BY created_at LIMIT 400) a, generate_series(1, 2) v;
"""


async def fill(engine: AsyncEngine, script: str) -> None:
    async with engine.begin() as connection:
        # The engine's is that of a request.
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        for statement in filter(str.strip, script.split(";")):
            await connection.execute(text(statement))
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(
            text("VACUUM ANALYZE invoices, applied_operations")
        )


async def test_no_list_scans_a_table(engine: AsyncEngine) -> None:
    await fill(engine, FILL)
    moment = datetime.now(UTC)
    snapshot = Snapshot(2_000_000_000, 2_000_000_009, (2_000_000_003,))
    position = (moment, uuid.UUID(int=1))
    async with engine.connect() as connection:
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


async def test_what_archives_and_purges_scans_no_table(engine: AsyncEngine) -> None:
    await fill(engine, FILL + OF_ORDERS)
    async with engine.begin() as connection:
        # These tables are small: one is read as a whole only where no index would do.
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        read_before = await scans(connection)
        rows = rows_on(connection)
        batch = await invoice_archive().move(rows, older_than_seconds=3600, after=None)
        assert batch.moved == 400
        again = await invoice_archive().move(rows, older_than_seconds=3600, after=batch.position)
        assert again.moved == 0
        purging = invoice_records()._purging()
        before = datetime.now(UTC) - timedelta(days=1)
        await connection.execute(purging, {"before": before})
        # Whether an invoice points to what is gone is asked for each row, at the latest now.
        await connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        assert await scans(connection, since=read_before) == {}
