"""Operations that were superseded long ago, out of the way of those that count."""

from typing import Final
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, FromClause, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from order.models import idempotency_keys, operations, operations_archive
from order.repository.operations import OperationRecord
from order.repository.schema import operation_of
from servicekit.walks import rows_on
from tandem.archive import Archive, Batch, Position
from tandem.initiator.records import ANSWER, record_of


def _keys_keep_the_answer(moved: CTE) -> CTE:
    """A key goes on answering what it has answered, now by itself."""
    return (
        update(idempotency_keys)
        .where(idempotency_keys.c.op_id == moved.c.op_id)
        .values(
            op_id=None,
            archived_op_id=moved.c.op_id,
            **{name: moved.c[name] for name in ANSWER},
        )
        .returning(idempotency_keys.c.client)
        .cte("keys")
    )


def _committed(journal: FromClause) -> ColumnElement[bool]:
    # The literal, not a parameter: only so can the planner use a partial index.
    committed: ColumnElement[bool] = journal.c.state == text("'committed'")
    return committed


_ARCHIVE: Final = Archive(
    operations,
    operations_archive,
    subject_id="order_id",
    carried_out=_committed,
    following=_keys_keep_the_answer,
)


class OperationsArchive:
    """Reads and writes the archive on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def move(self, *, older_than_seconds: float, after: Position | None) -> Batch:
        """Move one batch of superseded operations there; see ``Archive``."""
        return await _ARCHIVE.move(
            rows_on(self._connection), older_than_seconds=older_than_seconds, after=after
        )

    async def find(self, op_id: UUID) -> OperationRecord | None:
        """Return one operation."""
        statement = select(operations_archive).where(operations_archive.c.op_id == op_id)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else record_of(row, operation_of(row))
