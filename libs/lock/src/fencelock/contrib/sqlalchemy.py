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

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Insert, Result, Update, or_
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
    return statement.where(_not_newer(column, fence)).values({_place(statement, column): fence})


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
    identifying = guard.listed(index_elements)
    key = {_name(each) for each in identifying}
    if not _values(statement):
        raise ValueError("an upsert under a fence writes one row, whose values it must have")
    inserted = statement.values({_place(statement, column): fence})
    excluded = inserted.excluded
    # Only what was given a value: a default is for a row that is new.
    written = {c.key: excluded[c.key] for c in _given(inserted) if _name(c) not in key}
    guarded = inserted.on_conflict_do_update(
        index_elements=identifying, set_=written, where=_not_newer(column, fence)
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


def _values(statement: Update | Insert) -> Mapping[Any, object]:
    """What the statement writes, by column, or by the key of a column."""
    # Nothing public says it: a compiled statement has no word of values that are expressions, and
    # has the defaults of columns that were given none.
    return statement._values or {}  # noqa: SLF001


def _place(statement: Update | Insert, column: Column) -> Column | str:
    """Under what to write the fence: as the statement calls its column, if it gives it a value."""
    key: str = _expression(column).key
    return key if key in _values(statement) else column


def _given(statement: Insert) -> list[Any]:
    """The columns that get a value. SQLAlchemy itself says which there are not."""
    columns = statement.table.c
    found = (columns.get(each) if isinstance(each, str) else each for each in _values(statement))
    return [each for each in found if each is not None]


def _expression(column: Column) -> Any:  # noqa: ANN401 (a column, of a type that has a key)
    """The column itself of a mapped attribute."""
    return getattr(column, "expression", column)


def _name(column: Column | str) -> str:
    """The name in the database of a column, a mapped attribute, or a name."""
    return column if isinstance(column, str) else str(_expression(column).name)
