"""T1: record what is about to be done, before anything is done.

A change becomes an operation in the journal, in the same transaction that has looked at the order
with its row locked. From then on the operation ends in one of two ways, whoever fails meanwhile.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from order import answers, failpoints
from order.domain import (
    Create,
    Delete,
    Operation,
    Order,
    Refusal,
    Update,
    UpdateFromTheFuture,
    plan_change,
    plan_creation,
)
from order.errors import (
    CONSTRAINTS,
    DatabaseUnavailable,
    OperationRunning,
    ProtocolViolated,
    problem_of,
    unstorable,
    violates,
)
from order.ports import Answered, Blocked, Change, Intent, Recorded, RecordUnknown
from order.repository import IdempotencyKeys, Key, KnownKey, Operations, Orders, Unstorable
from order.transactions import reading, repeated
from servicekit.database import constraint_name, is_transient
from servicekit.deadlines import remaining_seconds
from servicekit.failpoints import Failpoints
from servicekit.idempotency import StoredResponse
from servicekit.problems import DeadlineExceeded, IdempotencyKeyReused, Problem
from tandem import commits
from tandem.commits import Attempt

PATIENCE_SECONDS: Final = 1.0
"""How long after its deadline a request waits for the end of a COMMIT."""
_ONE_PENDING: Final = "operations_one_pending_idx"
_log = structlog.stdlib.get_logger(__name__)


class _KeyTaken(Exception):
    """Somebody else has used the idempotency key meanwhile; the transaction is rolled back."""


@dataclass
class _Planned:
    """What is left behind by an attempt whose commit may have been lost."""

    operation: Operation | None = None


class PostgresIntents:
    """Records operations in the order database.

    Args:
        engine: the order database.
        failpoints: where tests make it fail.
        due_in_seconds: how long recovery leaves a new operation to the request that made it.
        skew: how far the clocks of clients may differ from the database's.
        timeout_seconds: limit for a record where the request brings none.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        failpoints: Failpoints,
        due_in_seconds: float,
        skew: timedelta = timedelta(minutes=5),
        timeout_seconds: float = 15.0,
    ) -> None:
        self._engine = engine
        self._failpoints = failpoints
        self._due_in_seconds = due_in_seconds
        self._skew = skew
        self._timeout_seconds = timeout_seconds

    async def replay(self, key: Key) -> StoredResponse | None:
        """Return the answer kept under a key; see ``order.ports.Intents``."""
        async with reading(self._engine) as connection:
            known = await IdempotencyKeys(connection).find(key)
        return None if known is None else _answer_of(key, known)

    async def record(self, change: Change, attempt: Attempt | None = None) -> Intent:
        """Record the operation that carries out a change; see ``order.ports.Intents``."""
        try:
            return await self._record_known(change, attempt)
        except _KeyTaken:
            return await self._answer_of_taken_key(change)
        except commits.GivenUp as error:
            raise DeadlineExceeded(
                "The time for this request ran out. Nothing was written."
            ) from error
        except commits.CommitUnknown as error:
            raise RecordUnknown(str(change.op_id)) from error
        except Unstorable as error:
            raise unstorable() from error
        except (DBAPIError, PoolTimeout) as error:
            if (problem := _said_by_database(error)) is None:
                raise
            raise problem from error

    async def _record_known(self, change: Change, attempt: Attempt | None) -> Intent:
        planned = _Planned()

        async def work(attempt: Attempt) -> Intent:
            return await repeated(
                lambda: self._record(change, planned, attempt), event="intent_attempt_failed"
            )

        return await commits.known(
            work,
            attempt=attempt,
            deadline_seconds=remaining_seconds(at_most_seconds=self._timeout_seconds),
            patience_seconds=PATIENCE_SECONDS,
            event="intent_commit_lost",
        )

    async def hand_over(self, op_id: UUID, *, reason: str) -> None:
        """Leave a pending operation to recovery, now."""
        async with self._engine.begin() as connection:
            await Operations(connection).hand_over(op_id, error=reason)

    async def _record(self, change: Change, planned: _Planned, attempt: Attempt) -> Intent:
        async with self._engine.begin() as connection:
            if planned.operation is not None:
                if await _was_recorded(connection, planned.operation):
                    _log.info("lost_commit_found", operation_id=str(change.op_id))
                    return Recorded(planned.operation)
                attempt.proved_unwritten()
            planned.operation = None
            intent = await self._decide(connection, change)
            await self._failpoints.hit(failpoints.IN_T1)
            if isinstance(intent, Recorded):
                attempt.commits_now()
                planned.operation = intent.operation
        return intent

    async def _decide(self, connection: AsyncConnection, change: Change) -> Intent:
        try:
            return await self._plan(connection, change)
        except Refusal as refusal:
            problem = problem_of(refusal)
            if change.key is None:
                raise problem from refusal
            if isinstance(refusal, UpdateFromTheFuture):
                raise problem from refusal  # it will be past one day, so it is not kept
            response = answers.refused(problem, path=change.path)
            return await self._keep(connection, change.key, response)

    async def _plan(self, connection: AsyncConnection, change: Change) -> Intent:
        orders = Orders(connection)
        match change.command:
            case Create() as command:
                created = plan_creation(command, op_id=change.op_id, now=await orders.now())
                await orders.reserve(created.order_id, created.body)
                return await self._insert(connection, change, created)
            case Update() | Delete() as command:
                order, now = await orders.lock_at(command.order_id)
                if order is not None and order.pending_op is not None:
                    return await self._blocked(connection, change, order)
                planned = plan_change(order, command, op_id=change.op_id, now=now, skew=self._skew)
                if planned is not None:
                    return await self._insert(connection, change, planned)
                return await self._unchanged(connection, change, order)

    async def _insert(
        self, connection: AsyncConnection, change: Change, operation: Operation
    ) -> Recorded:
        if change.key is not None:
            await _bind(connection, change.key, op_id=operation.id)
        await Operations(connection).insert(
            operation, due_in_seconds=self._due_in_seconds, traceparent=change.traceparent
        )
        await Orders(connection).mark_pending(operation)
        return Recorded(operation)

    async def _blocked(self, connection: AsyncConnection, change: Change, order: Order) -> Intent:
        if change.key is not None:
            known = await IdempotencyKeys(connection).find(change.key)
            if known is not None:
                raise _KeyTaken
        pending = await Operations(connection).find(order.pending_op) if order.pending_op else None
        if pending is None:
            raise ProtocolViolated(f"order {order.id} points to an operation that is not there")
        return Blocked(pending.operation)

    async def _unchanged(
        self, connection: AsyncConnection, change: Change, order: Order | None
    ) -> Answered:
        if order is None:
            raise ProtocolViolated("nothing is never the wanted state")
        response = answers.unchanged(order)
        if change.key is None:
            return Answered(response)
        return await self._keep(connection, change.key, response)

    async def _keep(
        self, connection: AsyncConnection, key: Key, response: StoredResponse
    ) -> Answered:
        """Keep an answer that needs no operation, so that a retry gets the same."""
        await _bind(connection, key, response=response)
        return Answered(response)

    async def _answer_of_taken_key(self, change: Change) -> Answered:
        assert change.key is not None  # noqa: S101 - only a request with a key gets here
        response = await self.replay(change.key)
        if response is None:  # its retention ended in this very moment
            raise DatabaseUnavailable("The idempotency key is just being dropped. Try again.")
        return Answered(response, replayed=True)


def _said_by_database(error: DBAPIError | PoolTimeout) -> Problem | None:
    """Return what a statement that failed means to a client; None for a defect of ours."""
    if isinstance(error, DataError):
        return unstorable()
    if isinstance(error, IntegrityError):
        make_problem = CONSTRAINTS.get(constraint_name(error) or "")
        return None if make_problem is None else make_problem()
    if is_transient(error):
        return DatabaseUnavailable("The order database does not answer.")
    return None


async def _bind(
    connection: AsyncConnection,
    key: Key,
    *,
    op_id: UUID | None = None,
    response: StoredResponse | None = None,
) -> None:
    if not await IdempotencyKeys(connection).insert(key, op_id=op_id, response=response):
        raise _KeyTaken


async def _was_recorded(connection: AsyncConnection, operation: Operation) -> bool:
    """Tell whether an earlier attempt was committed, by recording the operation once more.

    A SELECT would not do: it does not see a commit still in flight, which then lands after all. The
    INSERT waits for it. What it inserts if there was none is rolled back, because the order may
    have changed since the operation was planned.
    """
    await Orders(connection).lock(operation.order_id)
    if operation.version == 1:
        await Orders(connection).reserve(operation.order_id, operation.body)
    savepoint = await connection.begin_nested()
    try:
        inserted = await Operations(connection).insert(
            operation, due_in_seconds=0, traceparent=None
        )
    except IntegrityError as error:
        if not violates(error, _ONE_PENDING):
            raise
        inserted = True  # it could have been: another operation has taken its place
    await savepoint.rollback()
    return not inserted


def _answer_of(key: Key, known: KnownKey) -> StoredResponse:
    if known.request_hash != key.request_hash:
        raise IdempotencyKeyReused("This idempotency key was used before, for another request.")
    if known.response is not None:
        return known.response
    if known.op_id is None:
        raise ProtocolViolated("an idempotency key leads nowhere")
    raise OperationRunning(known.op_id)
