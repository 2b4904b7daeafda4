"""What Postgres means to do with a statement."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from sqlalchemy import Select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.walks import Rows


async def plan_of(connection: AsyncConnection, statement: Select[Any]) -> list[dict[str, Any]]:
    """Return every node of the statement's plan, the outermost first."""
    dialect = connection.dialect
    compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    result = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}")
    found = result.scalar_one()
    plan = json.loads(found) if isinstance(found, str) else found
    return list(_nodes(plan[0]["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


class Planned(Exception):
    """A statement would have been executed.

    Attributes:
        plan: the nodes of its plan.
    """

    def __init__(self, plan: list[dict[str, Any]]) -> None:
        super().__init__(plan)
        self.plan = plan


def planning(connection: AsyncConnection) -> Rows:
    """Return what a list may be read with: it raises ``Planned`` at the first statement."""

    async def rows(statement: Select[Any]) -> NoReturn:
        raise Planned(await plan_of(connection, statement))

    return rows


async def scans(
    connection: AsyncConnection, *, since: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Return how often the present transaction has read each table as a whole, if it has.

    What the database does by itself, such as looking for rows that refer to a deleted one, counts.

    Args:
        connection: in the transaction.
        since: what this returned at its begin, if the connection was used before: what earlier
            transactions read may not have been taken from it yet.
    """
    rows = await connection.execute(
        text("SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE seq_scan > 0")
    )
    earlier = since or {}
    found = {row.relname: row.seq_scan - earlier.get(row.relname, 0) for row in rows}
    return {table: times for table, times in found.items() if times}
