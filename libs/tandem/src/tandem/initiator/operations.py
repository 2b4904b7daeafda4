"""The table of operations: the journal of what was meant, and what became of it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic
from uuid import UUID

from sqlalchemy import Text, cast, func, literal, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import CTE

from tandem.errors import Unstorable
from tandem.initiator.records import Backlog, OperationRecord, answer_columns, record_of
from tandem.initiator.schema import Row, Schema
from tandem.initiator.subject import OpT
from tandem.operation import Answer, State


class Operations(Generic[OpT]):
    """Reads and writes operations on one connection."""

    def __init__(self, schema: Schema[OpT, Any], connection: AsyncConnection) -> None:
        self._schema = schema
        self._operations = schema.operations
        self._connection = connection

    async def find(self, op_id: UUID) -> OperationRecord[OpT] | None:
        """Return one operation."""
        statement = select(self._operations).where(self._operations.c.op_id == op_id)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else self._record(row)

    async def insert(
        self,
        operation: OpT,
        *,
        client: str,
        due_in_seconds: float,
        traceparent: str | None,
    ) -> bool:
        """Insert a pending operation; False if this very operation is recorded already.

        It waits for a transaction that is inserting the same id: where a SELECT could miss a commit
        still in flight, this finds out. In the same statement the database proves that the
        subject's row will take what the operation says: there is no way back from a decision.

        Raises:
            Unstorable: it will not.
            sqlalchemy.exc.DataError: nor can the database even read it.
            sqlalchemy.exc.IntegrityError: another operation of the subject is pending.
        """
        completed = {**self._schema.columns_of(operation), "version": operation.version}
        row = self._completed_row(completed)
        statement = (
            postgresql.insert(self._operations)
            .values(
                **self._schema.identity_of(operation),
                **self._schema.more_of(operation),
                kind=str(operation.kind),
                payload=self._schema.payload_of(operation),
                next_attempt_at=func.now() + timedelta(seconds=due_in_seconds),
                client=client,
                traceparent=traceparent,
            )
            .on_conflict_do_nothing(constraint=self._operations.primary_key)
            .returning(*(select(column).scalar_subquery().label(column.name) for column in row.c))
        )
        inserted = (await self._connection.execute(statement)).one_or_none()
        if inserted is None:
            return False
        if tuple(inserted) != (*completed.values(), True):
            raise Unstorable(str(operation.id))
        return True

    async def finish(self, op_id: UUID, *, state: State, response: Answer) -> bool:
        """Give a pending operation its end; False if it has one."""
        statement = (
            update(self._operations)
            .where(
                self._operations.c.op_id == op_id, self._operations.c.state == State.PENDING.value
            )
            .values(
                state=state.value,
                finished_at=func.now(),
                last_error=None,
                **answer_columns(response),
            )
            .returning(self._operations.c.op_id)
        )
        return (await self._connection.execute(statement)).one_or_none() is not None

    async def claim_due(
        self, *, limit: int, base_seconds: float, cap_seconds: float
    ) -> Sequence[OperationRecord[OpT]]:
        """Claim pending operations that are due, by putting their next attempt off.

        The claim is the later time itself, with exponential backoff and jitter: no row stays
        locked while the operation is worked on, and one that its worker loses is due again.
        """
        due = (
            select(self._operations.c.op_id)
            .where(
                self._operations.c.state == text("'pending'"),
                self._operations.c.next_attempt_at <= func.now(),
            )
            .order_by(self._operations.c.next_attempt_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        # 2^20 is far beyond any cap; without the least() the power would overflow some day.
        backoff = func.least(
            cap_seconds, base_seconds * func.power(2, func.least(self._operations.c.attempts, 20))
        )
        jittered = backoff * (0.75 + 0.5 * func.random())
        statement = (
            update(self._operations)
            .where(self._operations.c.op_id.in_(due))
            .values(
                attempts=self._operations.c.attempts + 1,
                next_attempt_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, jittered),
            )
            .returning(self._operations)
        )
        return [self._record(row) for row in await self._connection.execute(statement)]

    async def postpone(self, op_id: UUID, *, seconds: float, error: str) -> None:
        """Note why the last attempt failed and when the next one is, if that is sooner."""
        when = func.now() + timedelta(seconds=seconds)
        await self._connection.execute(
            update(self._operations)
            .where(
                self._operations.c.op_id == op_id, self._operations.c.state == State.PENDING.value
            )
            .values(
                next_attempt_at=func.least(self._operations.c.next_attempt_at, when),
                last_error=error,
            )
        )

    async def note_error(self, op_id: UUID, *, error: str) -> None:
        """Note why the last attempt failed."""
        await self._connection.execute(
            update(self._operations)
            .where(
                self._operations.c.op_id == op_id, self._operations.c.state == State.PENDING.value
            )
            .values(last_error=error)
        )

    async def hand_over(self, op_id: UUID, *, error: str) -> None:
        """Make an operation due now and wake whoever recovers operations, once this commits."""
        await self.postpone(op_id, seconds=0, error=error)
        await self._connection.execute(
            select(func.pg_notify(self._schema.channel, cast(literal(""), Text)))
        )

    async def newest_committed(self, subject_id: UUID) -> int | None:
        """Return the greatest version of a subject that a committed operation has made."""
        statement = select(func.max(self._operations.c.version)).where(
            self._schema.operation_subject == subject_id,
            self._operations.c.state == State.COMMITTED.value,
        )
        newest: int | None = (await self._connection.execute(statement)).scalar_one()
        return newest

    async def backlog(self) -> Backlog:
        """Return how much is pending."""
        age = func.now() - func.min(self._operations.c.created_at)
        statement = select(func.count(), func.coalesce(func.extract("epoch", age), 0)).where(
            self._operations.c.state == text("'pending'")
        )
        pending, oldest = (await self._connection.execute(statement)).one()
        return Backlog(pending=pending, oldest_seconds=max(0.0, float(oldest)))

    def _record(self, row: Row) -> OperationRecord[OpT]:
        return record_of(row, self._schema.operation_of(row))

    def _completed_row(self, completed: Mapping[str, Any]) -> CTE:
        """The row once the operation is completed, judged by the table's own checks."""
        columns = self._schema.subjects.c
        typed = select(
            *(
                cast(literal(value, columns[name].type), columns[name].type).label(name)
                for name, value in completed.items()
            )
        ).subquery("completed")
        return select(typed, self._schema.admitted().label("admitted")).cte("completed_row")
