"""Lists are read from an index, whatever they are narrowed to; nothing reads a whole table."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from order.repository import page_of_operations, page_of_orders
from servicekit.testing.plans import Planned, planning
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


async def test_no_list_scans_a_table(engine: AsyncEngine, walks: list[Walk | None]) -> None:
    async with engine.begin() as connection:
        for statement in filter(str.strip, FILL.split(";")):
            await connection.execute(text(statement))
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(
            text("VACUUM ANALYZE orders, operations")
        )
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
