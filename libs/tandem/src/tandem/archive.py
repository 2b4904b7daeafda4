"""Moves what a journal no longer needs out of its way.

A journal is read at every step of the protocol, and grows with every change. Of the operations that
were carried out on one subject only the last can be asked for, sent again or referred to; those
before it are history, which the audit reads and people ask for. An operation is moved once the one
that superseded it is old enough, so each subject's last stays, however old it is, and so does what
is pending and what was refused or aborted: it is little, and says what must never be done.

Moving an operation can undo nothing. Whoever would still send it aims at a version that its subject
has left behind, and is refused.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, FromClause, Select, Table, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from tandem.store import Row

Rows = Callable[[Select[Any]], Awaitable[Sequence[Row]]]
"""Executes a statement, a transaction by itself or within one, and returns its rows."""
BATCH: Final = 1000
"""How many operations are looked at in one transaction."""


@dataclass(frozen=True, slots=True)
class Position:
    """Up to which operation, in the order of their times, superseded ones have been moved."""

    created_at: datetime
    op_id: UUID


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction has done.

    Attributes:
        moved: how many operations it has moved.
        position: where the next one goes on.
        is_last: whether nothing is left to look at for now.
    """

    moved: int
    position: Position | None
    is_last: bool


class Archive:
    """The statement that moves operations from a journal to its archive.

    Args:
        journal: the table of operations, with ``op_id``, ``version`` and ``created_at``.
        archive: a table with the same columns, and more with defaults of their own.
        subject_id: the journal's column that names what an operation changes.
        carried_out: tells which rows of the journal, or of an alias, may be superseded.
        following: what else is written with it, given the rows that are moved.
    """

    def __init__(
        self,
        journal: Table,
        archive: Table,
        *,
        subject_id: str,
        carried_out: Callable[[FromClause], ColumnElement[bool]],
        following: Callable[[CTE], CTE] | None = None,
    ) -> None:
        self._journal = journal
        self._archive = archive
        self._subject_id = subject_id
        self._carried_out = carried_out
        self._following = following

    async def move(
        self,
        rows_of: Rows,
        *,
        older_than_seconds: float,
        after: Position | None,
        limit: int = BATCH,
    ) -> Batch:
        """Look at up to ``limit`` operations of that age, and move those that they superseded.

        One statement does it all.

        Of two that do this at once, one leaves to the other what that has begun to move.
        """
        looked_at = self._looked_at(older_than_seconds, after, limit).cte("looked_at")
        moved = self._moving(looked_at)
        count = select(func.count()).select_from(moved).scalar_subquery()
        statement = (
            select(looked_at.c.created_at, looked_at.c.op_id, count.label("moved"))
            .order_by(looked_at.c.created_at.desc(), looked_at.c.op_id.desc())
            .add_cte(self._keeping(moved))
        )
        if self._following is not None:
            statement = statement.add_cte(self._following(moved))
        rows = await rows_of(statement)
        if not rows:
            return Batch(0, after, is_last=True)
        last = Position(rows[0].created_at, rows[0].op_id)
        return Batch(rows[0].moved, last, is_last=len(rows) < limit)

    def _looked_at(self, older_than_seconds: float, after: Position | None, limit: int) -> Any:  # noqa: ANN401
        journal = self._journal.c
        at = tuple_(journal.created_at, journal.op_id)
        statement = select(
            journal.created_at, journal.op_id, journal[self._subject_id], journal.version
        ).where(
            self._carried_out(self._journal),
            journal.created_at < func.now() - timedelta(seconds=older_than_seconds),
        )
        if after is not None:
            statement = statement.where(at > tuple_(after.created_at, after.op_id))
        return statement.order_by(journal.created_at, journal.op_id).limit(limit)

    def _moving(self, looked_at: CTE) -> CTE:
        subject = looked_at.c[self._subject_id]
        newest = (
            select(subject, func.max(looked_at.c.version).label("version"))
            .group_by(subject)
            .cte("newest")
        )
        old = self._journal.alias("old")
        keys = [column.name for column in self._journal.primary_key]
        superseded = (
            select(*(old.c[name] for name in keys))
            .join(newest, newest.c[self._subject_id] == old.c[self._subject_id])
            .where(self._carried_out(old), old.c.version < newest.c.version)
            .with_for_update(of=old, skip_locked=True)
            .cte("superseded")
        )
        return (
            delete(self._journal)
            .where(*(self._journal.c[name] == superseded.c[name] for name in keys))
            .returning(*self._journal.c)
            .cte("moved")
        )

    def _keeping(self, moved: CTE) -> CTE:
        names = [column.name for column in self._journal.c]
        return (
            insert(self._archive)
            .from_select(names, select(*(moved.c[name] for name in names)), include_defaults=False)
            # It is there if it was sent again to a service that had lost it: the same, once more.
            .on_conflict_do_nothing(index_elements=list(self._archive.primary_key))
            .returning(self._archive.c.op_id)
            .cte("kept")
        )
