"""The storage guard for SQLAlchemy (``pip install fencelock[sqlalchemy]``).

::

    statement = fenced_update(
        update(orders).where(orders.c.id == 42).values(state="shipped"),
        orders.c.fence,
        lease.fence,
    )
    require_written(await session.execute(statement), lease.fence)

A write goes through only if nobody with a newer fence has written the row. The comparison is in the
same statement as the write, so no pause of the process can come between the two.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Result, Update, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute

from fencelock import guard

__all__ = ["fenced_update", "fenced_upsert", "require_written"]

Column = ColumnElement[int] | ColumnElement[int | None] | InstrumentedAttribute[Any]


def fenced_update(statement: Update, column: Column, fence: int) -> Update:
    """Let an UPDATE write ``fence``, and only rows whose fence is not newer (or is NULL).

    Args:
        statement: says which rows and which values.
        column: the column or mapped attribute that keeps the fence, a BIGINT.
        fence: that of the lease.
    """
    # With the column's own key, which an attribute may have renamed.
    return statement.where(_not_newer(column, fence)).values({column: fence})


def fenced_upsert(
    statement: "postgresql.Insert | sqlite.Insert",
    column: Column,
    fence: int,
    *,
    index_elements: Sequence[Any],
) -> "postgresql.Insert | sqlite.Insert":
    """Let an INSERT write ``fence``, and update the row that is there if its fence is not newer.

    Args:
        statement: the ``insert()`` of the PostgreSQL or SQLite dialect, with its values.
        column: the column or mapped attribute that keeps the fence, a BIGINT.
        fence: that of the lease.
        index_elements: the columns of the primary key, or of a unique index.

    Raises:
        ValueError: the statement has no values, or those of several rows; or ``index_elements``
            are no list.
    """
    guard.listed(index_elements)
    inserted = statement.values({column: fence})
    excluded = inserted.excluded
    # Only what was given a value: without column_keys every column of the table is listed.
    values = statement.compile(column_keys=[]).params
    if not values or not all(name in excluded for name in values):
        raise ValueError("an upsert under a fence writes one row, whose values it must have")
    key = {_name(each) for each in index_elements}
    written = {name: excluded[name] for name in (*values, _name(column)) if name not in key}
    guarded = inserted.on_conflict_do_update(
        index_elements=index_elements, set_=written, where=_not_newer(column, fence)
    )
    # SQLAlchemy keeps the count of an INSERT only when told to.
    return guarded.execution_options(preserve_rowcount=True)


def require_written(result: Result[Any], fence: int) -> None:
    """Raise unless the guarded statement wrote a row. Call it before the commit.

    Raises:
        StaleFence: no row was written.
        TypeError: the result is not that of a guarded statement.
    """
    if not isinstance(result, CursorResult):
        raise TypeError("not the result of an UPDATE or INSERT")
    guard.require_written(result.rowcount, fence)


def _not_newer(column: Column, fence: int) -> ColumnElement[bool]:
    return or_(column.is_(None), column <= fence)


def _name(column: Column | str) -> str:
    """The name in the database of a column, a mapped attribute, or a name."""
    if isinstance(column, str):
        return column
    name: str = getattr(column, "expression", column).name
    return name
