"""The storage guard in plain SQL: write a row only if nobody with a newer fence has written it.

The comparison is in the same statement as the write. Read first and write then, and a holder that
was stopped in between overwrites its successor. :mod:`fencelock.contrib.sqlalchemy` has the same
for SQLAlchemy.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

from fencelock._errors import StaleFence
from fencelock._shown import shown

__all__ = ["Placeholders", "fenced_update", "fenced_upsert", "require_written"]

Placeholders = Literal["pyformat", "named"]

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_PLACEHOLDER: Final = {"pyformat": "%({})s", "named": ":{}"}


def fenced_update(
    table: str,
    *,
    where: Sequence[str],
    values: Sequence[str],
    fence: str = "fence",
    placeholders: Placeholders = "pyformat",
) -> str:
    """An UPDATE whose parameters are named like the columns, the one of the fence included.

    A row whose fence is NULL was never written under a lock: anybody may write it.

    Args:
        table: the table, with its schema before a point if need be.
        where: the columns that identify the row.
        values: the columns to write, besides the fence.
        fence: the column that keeps the fence, a BIGINT.
        placeholders: ``pyformat`` (psycopg) or ``named`` (sqlite3, python-oracledb). Names are
            in double quotes, as the SQL standard has it.

    Raises:
        ValueError: a name is not an SQL identifier, a column is missing or named twice, columns are
            no list, or there are no such placeholders.
    """
    identifying, written = listed(where), (*listed(values), fence)
    _require_columns(identifying, written)
    hole = _hole(placeholders)
    assignments = ", ".join(f"{_quoted(c)} = {hole(c)}" for c in written)
    identity = " AND ".join(f"{_quoted(c)} = {hole(c)}" for c in identifying)
    kept = _quoted(fence)
    return (
        f"UPDATE {_table(table)} SET {assignments} WHERE {identity}"  # noqa: S608 (quoted names)
        f" AND ({kept} IS NULL OR {kept} <= {hole(fence)})"
    )


def fenced_upsert(
    table: str,
    *,
    key: Sequence[str],
    values: Sequence[str],
    fence: str = "fence",
    placeholders: Placeholders = "pyformat",
) -> str:
    """An INSERT that becomes a guarded UPDATE if the row is there (PostgreSQL, SQLite).

    Args:
        table: the table, with its schema before a point if need be.
        key: the columns of the primary key, or of a unique index.
        values: the columns to write, besides the key and the fence.
        fence: the column that keeps the fence, a BIGINT.
        placeholders: as for :func:`fenced_update`.

    Raises:
        ValueError: as for :func:`fenced_update`.
    """
    identifying, written = listed(key), (*listed(values), fence)
    _require_columns(identifying, written)
    hole = _hole(placeholders)
    columns = ", ".join(_quoted(c) for c in (*identifying, *written))
    holes = ", ".join(hole(c) for c in (*identifying, *written))
    updates = ", ".join(f"{_quoted(c)} = excluded.{_quoted(c)}" for c in written)
    # By the last part of its name, which is how both databases know the row that is there.
    kept = f"{_quoted(table.rpartition('.')[2])}.{_quoted(fence)}"
    return (
        f"INSERT INTO {_table(table)} ({columns}) VALUES ({holes})"  # noqa: S608 (quoted names)
        f" ON CONFLICT ({', '.join(map(_quoted, identifying))}) DO UPDATE SET {updates}"
        f" WHERE {kept} IS NULL OR {kept} <= excluded.{_quoted(fence)}"
    )


def require_written(rowcount: int, fence: int) -> None:
    """Raise unless the guarded statement wrote a row. Call it before the commit.

    Args:
        rowcount: the cursor's.
        fence: the fence that was written.

    Raises:
        StaleFence: no row was written.
        ValueError: the driver does not count rows (-1).
    """
    if rowcount < 0:
        raise ValueError("the driver does not say how many rows were written")
    if rowcount == 0:
        raise StaleFence(
            f"nothing was written with fence {fence}: a later holder of the lock has written the "
            "row, or an UPDATE found none"
        )


def _hole(placeholders: Placeholders) -> Callable[[str], str]:
    if placeholders not in _PLACEHOLDER:
        known = " or ".join(_PLACEHOLDER)
        raise ValueError(f"placeholders are {known}, not {shown(placeholders)}")
    return _PLACEHOLDER[placeholders].format


def listed(columns: Iterable[Any]) -> tuple[Any, ...]:
    """The columns, however they come, unless as one text, which is no list of its letters.

    Raises:
        ValueError: they are.
    """
    if isinstance(columns, (str, bytes)):
        text = f"{shown(columns)}: columns are a list of str, even if it is one"
        raise ValueError(text)  # noqa: TRY004 (as all else that makes no statement)
    # What can be gone through once only would be gone when the statement is made.
    return tuple(columns)


def _require_columns(identity: Sequence[str], written: Sequence[str]) -> None:
    columns = [*identity, *written]
    if not identity:
        raise ValueError("without a column that identifies the row every row would be written")
    if len(set(columns)) < len(columns):
        raise ValueError(f"a column is named twice: {', '.join(columns)}")


def _table(name: str) -> str:
    return ".".join(_quoted(part) for part in name.split("."))


def _quoted(identifier: object) -> str:
    if not isinstance(identifier, str) or not _IDENTIFIER.fullmatch(identifier):
        raise ValueError(f"not an SQL identifier: {shown(identifier)}")
    return f'"{identifier}"'
