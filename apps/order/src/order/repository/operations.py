"""The table of operations: the journal of what was meant, and what became of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg.errors import LockNotAvailable
from sqlalchemy import (
    Text,
    cast,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import CTE

from order.domain import Kind, Operation, State
from order.models import operations, orders
from order.repository.orders import admitted
from order.repository.payload import FIELDS, from_payload, to_columns, to_payload
from servicekit.database import constraint_name
from servicekit.idempotency import StoredResponse
from servicekit.walks import Listing, Rows, Walk

_LISTING: Final = Listing(
    created_at=operations.c.created_at,
    row_id=operations.c.op_id,
    made_by=operations.c.created_by_xid,
    newest_first=False,
)
ANSWER: Final = ("response_status", "response_headers", "response_body")
"""The columns of an answer, of an operation as of an idempotency key."""
CHANNEL = "order_operations"
"""Where a notification says that a pending operation is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRecord:
    """An operation with what is known of its progress."""

    operation: Operation
    state: State
    response: StoredResponse | None
    attempts: int
    next_attempt_at: datetime
    last_error: str | None
    client: str
    traceparent: str | None
    created_at: datetime
    finished_at: datetime | None


class Unstorable(Exception):
    """The order could not be completed with what the operation says."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many operations are pending, and how old the oldest is."""

    pending: int
    oldest_seconds: float


class Operations:
    """Reads and writes operations on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, op_id: UUID) -> OperationRecord | None:
        """Return one operation."""
        statement = select(operations).where(operations.c.op_id == op_id)
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else record_of(row)

    async def insert(
        self,
        operation: Operation,
        *,
        client: str,
        due_in_seconds: float,
        traceparent: str | None,
    ) -> bool:
        """Insert a pending operation; False if this very operation is recorded already.

        It waits for a transaction that is inserting the same id: where a SELECT could miss a commit
        still in flight, this finds out. In the same statement the database proves that the order's
        row will take what the operation says, since there is no way back from a decision.

        Raises:
            Unstorable: it will not.
            sqlalchemy.exc.DataError: nor can the database even read it.
            sqlalchemy.exc.IntegrityError: another operation of the order is pending.
        """
        completed = {**to_columns(operation.body), "version": operation.version}
        row = _completed_row(completed)
        statement = (
            postgresql.insert(operations)
            .values(
                op_id=operation.id,
                order_id=operation.order_id,
                invoice_id=operation.invoice_id,
                kind=operation.kind.value,
                version=operation.version,
                payload=to_payload(operation.body),
                next_attempt_at=func.now() + timedelta(seconds=due_in_seconds),
                client=client,
                traceparent=traceparent,
            )
            .on_conflict_do_nothing(constraint="operations_pkey")
            .returning(*(select(column).scalar_subquery().label(column.name) for column in row.c))
        )
        inserted = (await self._connection.execute(statement)).one_or_none()
        if inserted is None:
            return False
        if tuple(inserted) != (*completed.values(), True):
            raise Unstorable(str(operation.id))
        return True

    async def is_being_recorded(self, op_id: UUID, *, wait_seconds: float) -> bool:
        """Tell whether a transaction that records the operation is just going on.

        The caller has looked for it, and rolls back. It is found out by recording it again, for an
        order that cannot be: that fails unless somebody else was there first, or is about to.
        """
        limit = f"{round(wait_seconds * 1000)}ms"
        await self._connection.execute(
            select(func.set_config("lock_timeout", limit, literal(value=True)))
        )
        probe = postgresql.insert(operations).values(
            op_id=op_id,
            order_id=UUID(int=0),
            invoice_id=UUID(int=0),
            kind=Kind.CREATE.value,
            version=1,
            payload=dict.fromkeys(FIELDS),
            next_attempt_at=func.now(),
        )
        try:
            await self._connection.execute(probe)
        except IntegrityError as error:
            # Its own id is taken: it was recorded at this very moment.
            return constraint_name(error) != "operations_order_id_fkey"
        except OperationalError as error:
            if isinstance(error.orig, LockNotAvailable):
                return True
            raise
        raise AssertionError("an operation was recorded without an order")

    async def finish(self, op_id: UUID, *, state: State, response: StoredResponse) -> bool:
        """Give a pending operation its end; False if it has one."""
        statement = (
            update(operations)
            .where(operations.c.op_id == op_id, operations.c.state == State.PENDING.value)
            .values(
                state=state.value,
                finished_at=func.now(),
                last_error=None,
                **answer_columns(response),
            )
            .returning(operations.c.op_id)
        )
        return (await self._connection.execute(statement)).one_or_none() is not None

    async def newest_committed(self, order_id: UUID) -> int | None:
        """Return the greatest version of an order that a committed operation has made."""
        statement = select(func.max(operations.c.version)).where(
            operations.c.order_id == order_id, operations.c.state == State.COMMITTED.value
        )
        newest: int | None = (await self._connection.execute(statement)).scalar_one()
        return newest

    async def claim_due(
        self, *, limit: int, base_seconds: float, cap_seconds: float
    ) -> Sequence[OperationRecord]:
        """Claim pending operations that are due, by putting their next attempt off.

        The claim is the later time itself, with exponential backoff and jitter: no row stays
        locked while the operation is worked on, and one that its worker loses is due again.
        """
        due = (
            select(operations.c.op_id)
            .where(
                operations.c.state == text("'pending'"), operations.c.next_attempt_at <= func.now()
            )
            .order_by(operations.c.next_attempt_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        # 2^20 is far beyond any cap; without the least() the power would overflow some day.
        backoff = func.least(
            cap_seconds, base_seconds * func.power(2, func.least(operations.c.attempts, 20))
        )
        jittered = backoff * (0.75 + 0.5 * func.random())
        statement = (
            update(operations)
            .where(operations.c.op_id.in_(due))
            .values(
                attempts=operations.c.attempts + 1,
                next_attempt_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, jittered),
            )
            .returning(operations)
        )
        return [record_of(row) for row in await self._connection.execute(statement)]

    async def postpone(self, op_id: UUID, *, seconds: float, error: str) -> None:
        """Note why the last attempt failed and when the next one is, if that is sooner."""
        when = func.now() + timedelta(seconds=seconds)
        await self._connection.execute(
            update(operations)
            .where(operations.c.op_id == op_id, operations.c.state == State.PENDING.value)
            .values(
                next_attempt_at=func.least(operations.c.next_attempt_at, when),
                last_error=error,
            )
        )

    async def note_error(self, op_id: UUID, *, error: str) -> None:
        """Note why the last attempt failed."""
        await self._connection.execute(
            update(operations)
            .where(operations.c.op_id == op_id, operations.c.state == State.PENDING.value)
            .values(last_error=error)
        )

    async def hand_over(self, op_id: UUID, *, error: str) -> None:
        """Make an operation due now and wake whoever recovers operations, once this commits."""
        await self.postpone(op_id, seconds=0, error=error)
        await self._connection.execute(select(func.pg_notify(CHANNEL, cast(literal(""), Text))))

    async def backlog(self) -> Backlog:
        """Return how much is pending."""
        age = func.now() - func.min(operations.c.created_at)
        statement = select(func.count(), func.coalesce(func.extract("epoch", age), 0)).where(
            operations.c.state == text("'pending'")
        )
        pending, oldest = (await self._connection.execute(statement)).one()
        return Backlog(pending=pending, oldest_seconds=max(0.0, float(oldest)))


async def page_of_operations(
    rows_of: Rows,
    *,
    after: Walk | None,
    state: State | None,
    order_id: UUID | None,
    limit: int,
    client: str | None = None,
) -> tuple[list[OperationRecord], Walk | None]:
    """Return the next up to ``limit`` operations of a walk, the oldest first."""
    statement = select(operations)
    if state is not None:
        # The literal, not a parameter: only so can the planner use a partial index.
        statement = statement.where(operations.c.state == text(f"'{state.value}'"))
    if order_id is not None:
        statement = statement.where(operations.c.order_id == order_id)
    if client is not None:
        statement = statement.where(operations.c.client == client)
    rows, walk = await _LISTING.page(rows_of, statement, after=after, limit=limit)
    return [record_of(row) for row in rows], walk


def _completed_row(completed: Mapping[str, Any]) -> CTE:
    """Return the order's row once the operation is completed, judged by the table's own checks."""
    typed = select(
        *(
            cast(literal(value, orders.c[name].type), orders.c[name].type).label(name)
            for name, value in completed.items()
        )
    ).subquery("completed")
    return select(typed, admitted().label("admitted")).cte("completed_row")


def answer_columns(response: StoredResponse) -> dict[str, Any]:
    """Return an answer as the columns of an operation or of an idempotency key."""
    return {
        "response_status": response.status,
        "response_headers": response.headers_json(),
        "response_body": response.body,
    }


def response_of(row: Any) -> StoredResponse | None:  # noqa: ANN401
    """Return the answer a row holds, of an operation or of an idempotency key."""
    if row.response_status is None:
        return None
    return StoredResponse.from_row(
        status=row.response_status, headers=row.response_headers, body=row.response_body
    )


def record_of(row: Any) -> OperationRecord:  # noqa: ANN401 (a row of SQLAlchemy's or of psycopg's)
    """Return the operation that a row holds."""
    operation = Operation(
        id=row.op_id,
        order_id=row.order_id,
        invoice_id=row.invoice_id,
        kind=Kind(row.kind),
        version=row.version,
        body=from_payload(row.payload),
    )
    return OperationRecord(
        operation=operation,
        state=State(row.state),
        response=response_of(row),
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        last_error=row.last_error,
        client=row.client,
        traceparent=row.traceparent,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
