"""T1: record what is about to be done, before anything is done.

A change becomes an operation in the journal. From then on the operation ends in one of two ways,
whoever fails meanwhile.

On the usual path that is one look at the order and one statement, which records the operation only
if the order is still what was seen. The careful path looks at the order with its row locked, in the
transaction that records the operation. It is taken when another operation is in the way, when the
statement wrote nothing, and whenever it is not known whether an earlier try was committed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import psycopg
import structlog
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from order import answers, failpoints
from order.database import OrderDatabase
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
from order.repository import (
    IdempotencyKeys,
    Key,
    KnownKey,
    Operations,
    Orders,
    Unstorable,
)
from order.transactions import answering, repeated
from servicekit.database import constraint_name
from servicekit.deadlines import remaining_seconds
from servicekit.failpoints import Failpoints
from servicekit.idempotency import StoredResponse
from servicekit.problems import DeadlineExceeded, IdempotencyKeyReused, Problem
from tandem import commits
from tandem.commits import Attempt
from tandem.errors import DATABASE_ERRORS, is_transient
from tandem.store import Session

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
        database: the order database.
        failpoints: where tests make it fail.
        due_in_seconds: how long recovery leaves a new operation to the request that made it.
        skew: how far the clocks of clients may differ from the database's.
        timeout_seconds: limit for a record where the request brings none.
    """

    def __init__(
        self,
        database: OrderDatabase,
        *,
        failpoints: Failpoints,
        due_in_seconds: float,
        skew: timedelta = timedelta(minutes=5),
        timeout_seconds: float = 15.0,
    ) -> None:
        self._engine = database.engine
        self._store = database.store
        self._journal = database.journal
        self._failpoints = failpoints
        self._due_in_seconds = due_in_seconds
        self._skew = skew
        self._timeout_seconds = timeout_seconds

    async def replay(self, key: Key) -> StoredResponse | None:
        """Return the answer kept under a key; see ``order.ports.Intents``."""
        with answering():
            known = await self._journal.known_key(self._store, key)
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
        except DATABASE_ERRORS as error:
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
        if planned.operation is None:
            intent = await self._record_at_once(change, planned, attempt)
            if intent is not None:
                return intent
        return await self._record_carefully(change, planned, attempt)

    async def _record_at_once(
        self, change: Change, planned: _Planned, attempt: Attempt
    ) -> Intent | None:
        """Do it in one look and one statement; None if that wrote nothing."""
        order, now = await self._look(change)
        if order is not None and order.pending_op is not None:
            return None
        try:
            operation = self._planned_on(order, change, now=now)
        except Refusal as refusal:
            return await self._keep_at_once(change, _kept_refusal(refusal, change))
        if operation is None:
            return await self._keep_at_once(change, _already_so(order))
        await self._failpoints.hit(failpoints.IN_T1)
        async with self._store.session() as session:
            attempt.commits_now()
            planned.operation = operation
            recorded = await self._write(session, operation, change)
        if recorded is None:
            planned.operation = None
            attempt.proved_unwritten()
            return None
        return Recorded(recorded)

    async def _look(self, change: Change) -> tuple[Order | None, datetime]:
        if isinstance(change.command, Create):
            # There is nothing to see, and the database itself dates what it creates.
            return None, datetime.now(UTC)
        return await self._journal.look(self._store, change.command.order_id)

    async def _write(
        self, session: Session, operation: Operation, change: Change
    ) -> Operation | None:
        try:
            return await self._journal.record(
                session,
                operation,
                key=change.key,
                client=change.client,
                due_in_seconds=self._due_in_seconds,
                traceparent=change.traceparent,
            )
        except psycopg.Error as error:
            if is_transient(error):
                raise
            return None  # The careful path finds out what it is that the database refuses.

    def _planned_on(
        self, order: Order | None, change: Change, *, now: datetime
    ) -> Operation | None:
        match change.command:
            case Create() as command:
                return plan_creation(command, op_id=change.op_id, now=now)
            case Update() | Delete() as command:
                return plan_change(order, command, op_id=change.op_id, now=now, skew=self._skew)

    async def _keep_at_once(self, change: Change, response: StoredResponse) -> Answered:
        """Keep an answer that needs no operation, so that a retry gets the same."""
        if change.key is not None and not await self._journal.keep(
            self._store, change.key, response
        ):
            raise _KeyTaken
        return Answered(response)

    async def _record_carefully(
        self, change: Change, planned: _Planned, attempt: Attempt
    ) -> Intent:
        async with self._engine.begin() as connection:
            if planned.operation is not None:
                if await _was_recorded(connection, planned.operation):
                    _log.info("lost_commit_found", operation_id=str(change.op_id))
                    return Recorded(await _recorded(connection, change.op_id))
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
            return await self._keep(connection, change, _kept_refusal(refusal, change))

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
                planned = self._planned_on(order, change, now=now)
                if planned is not None:
                    return await self._insert(connection, change, planned)
                return await self._keep(connection, change, _already_so(order))

    async def _insert(
        self, connection: AsyncConnection, change: Change, operation: Operation
    ) -> Recorded:
        if change.key is not None:
            await _bind(connection, change.key, op_id=operation.id)
        await Operations(connection).insert(
            operation,
            client=change.client,
            due_in_seconds=self._due_in_seconds,
            traceparent=change.traceparent,
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

    async def _keep(
        self, connection: AsyncConnection, change: Change, response: StoredResponse
    ) -> Answered:
        if change.key is not None:
            await _bind(connection, change.key, response=response)
        return Answered(response)

    async def _answer_of_taken_key(self, change: Change) -> Answered:
        assert change.key is not None  # noqa: S101 - only a request with a key gets here
        response = await self.replay(change.key)
        if response is None:  # its retention ended in this very moment
            raise DatabaseUnavailable("The idempotency key is just being dropped. Try again.")
        return Answered(response, replayed=True)


def _kept_refusal(refusal: Refusal, change: Change) -> StoredResponse:
    """Return the answer to keep for a change that the order does not admit.

    Raises:
        Problem: it is not kept.
    """
    problem = problem_of(refusal)
    if change.key is None:
        raise problem from refusal
    if isinstance(refusal, UpdateFromTheFuture):
        raise problem from refusal  # it will be past one day
    return answers.refused(problem, path=change.path)


def _already_so(order: Order | None) -> StoredResponse:
    """Return the answer to a change whose wanted state is there."""
    if order is None:
        raise ProtocolViolated("nothing is never the wanted state")
    return answers.unchanged(order)


async def _recorded(connection: AsyncConnection, op_id: UUID) -> Operation:
    """Return an operation as it was recorded, with the time that the database gave it."""
    record = await Operations(connection).find(op_id)
    if record is None:
        raise ProtocolViolated(f"operation {op_id} is recorded and cannot be read")
    return record.operation


def _said_by_database(error: Exception) -> Problem | None:
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
            operation, client="", due_in_seconds=0, traceparent=None
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
