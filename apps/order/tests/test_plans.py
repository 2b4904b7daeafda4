"""Lists are read from an index, whatever they are narrowed to; nothing reads a whole table."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from order.repository import (
    IdempotencyKeys,
    OperationsArchive,
    page_of_operations,
    page_of_orders,
)
from servicekit.testing.plans import Planned, planning, scans
from servicekit.walks import Rows, Snapshot, Walk
from tandem.operation import State

FILL = """
INSERT INTO orders (id, user_id, item_id, quantity, value, total, status, version, update_time,
  created_at, created_by_xid)
SELECT gen_random_uuid(), '00000000-0000-4000-8000-000000000001', gen_random_uuid(), 1, 1, 1,
  'created', 1, now(), now() - n * interval '1 minute', 3
FROM generate_series(1, 8000) n;
INSERT INTO operations (op_id, order_id, invoice_id, kind, version, payload, state,
  response_status, response_headers, response_body, next_attempt_at, created_at, finished_at)
SELECT gen_random_uuid(), id, id, 'create', 1, jsonb_build_object('user_id', 1, 'item_id', 1,
  'quantity', 1, 'value', 1, 'total', 1, 'status', 1, 'update_time', 1),
  CASE WHEN random() < 0.001 THEN 'rejected' ELSE 'committed' END, 201, '[]', '', now(),
  created_at, now()
FROM orders;
"""


CHANGE = """
INSERT INTO operations (op_id, order_id, invoice_id, kind, version, payload, state,
  response_status, response_headers, response_body, next_attempt_at, created_at, finished_at)
SELECT gen_random_uuid(), order_id, invoice_id, 'update', 2, payload, 'committed', 204, '[]', '',
  now(), created_at + interval '1 second', now()
FROM operations WHERE state = 'committed' ORDER BY created_at LIMIT 400;
INSERT INTO idempotency_keys (client, idempotency_key, request_hash, op_id, created_at)
SELECT 'a', op_id, sha256(''), op_id, created_at FROM operations;
INSERT INTO idempotency_keys (client, idempotency_key, request_hash, response_status,
  response_headers, response_body, created_at)
SELECT 'b', n, sha256(''), 404, '[]', '', now() - interval '2 days' FROM generate_series(1, 100) n;
"""


@pytest.fixture(scope="module")
def walks() -> list[Walk | None]:
    moment = _moment()
    snapshot = Snapshot(2_000_000_000, 2_000_000_009, (2_000_000_003,))
    position = (moment, uuid.UUID(int=1))
    return [
        None,
        Walk(snapshot, moment, late=False, position=position),
        Walk(snapshot, moment, late=True, position=position),
    ]


def _moment() -> datetime:
    return datetime.now(UTC)


async def nodes(page: Any, rows: Rows, **query: Any) -> list[dict[str, Any]]:
    with pytest.raises(Planned) as caught:
        await page(rows, **query, limit=50)
    return caught.value.plan


async def fill(engine: AsyncEngine, script: str) -> None:
    async with engine.begin() as connection:
        # The engine's is that of a request.
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        for statement in filter(str.strip, script.split(";")):
            await connection.execute(text(statement))
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(
            text("VACUUM ANALYZE orders, operations, idempotency_keys")
        )


async def test_no_list_scans_a_table(engine: AsyncEngine, walks: list[Walk | None]) -> None:
    await fill(engine, FILL)
    async with engine.connect() as connection:
        rows = planning(connection)
        for walk in walks:
            for user_id in (None, uuid.uuid4(), uuid.UUID("00000000-0000-4000-8000-000000000001")):
                plan = await nodes(page_of_orders, rows, after=walk, user_id=user_id)
                assert not any("Seq Scan" in node["Node Type"] for node in plan), plan
            for state in (None, *State):
                for order_id in (None, uuid.uuid4()):
                    plan = await nodes(
                        page_of_operations, rows, after=walk, state=state, order_id=order_id
                    )
                    assert not any("Seq Scan" in node["Node Type"] for node in plan), plan
                    if walk is None or not walk.late:
                        assert plan[0]["Total Cost"] < 200, (state, order_id, plan)


async def test_what_archives_and_purges_scans_no_table(engine: AsyncEngine) -> None:
    await fill(engine, FILL + CHANGE)
    async with engine.begin() as connection:
        # These tables are small: one is read as a whole only where no index would do.
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        read_before = await scans(connection)
        batch = await OperationsArchive(connection).move(older_than_seconds=3600, after=None)
        assert batch.moved == 400
        again = await OperationsArchive(connection).move(
            older_than_seconds=3600, after=batch.position
        )
        assert again.moved == 0
        purged = await IdempotencyKeys(connection).purge(older_than_seconds=86_400, limit=1000)
        assert purged == 100
        # Whether an order points to what is gone is asked for each row, at the latest now.
        await connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        assert await scans(connection, since=read_before) == {}


async def test_and_without_the_index_of_pending_operations_it_would(engine: AsyncEngine) -> None:
    await fill(engine, FILL + CHANGE)
    # Never committed: the database is that of the other tests, too.
    async with engine.connect() as connection:
        # These tables are small: one is read as a whole only where no index would do.
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        read_before = await scans(connection)
        await connection.execute(text("DROP INDEX orders_pending_op_idx"))
        await OperationsArchive(connection).move(older_than_seconds=3600, after=None)
        await connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        assert await scans(connection, since=read_before) == {"orders": 400}
