"""Record what is about to be done, before anything is done.

A change becomes an operation in the journal. From then on the operation ends in one of two ways,
whoever fails meanwhile.

On the usual path that is one look at the subject and one statement, which records the operation
only if the subject is still what was seen. The careful path looks at the subject with its row
locked, in the transaction that records the operation. It is taken when another operation is in the
way, when the statement wrote nothing, and whenever it is not known whether an earlier try was
committed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic
from uuid import UUID

import psycopg
import structlog
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from tandem import commits
from tandem.commits import Attempt, repeated
from tandem.errors import (
    DATABASE_ERRORS,
    DatabaseUnavailable,
    KeyReused,
    Locked,
    ProtocolViolated,
    RecordUnknown,
    StillRunning,
    Unstorable,
    is_transient,
    violates,
)
from tandem.failpoints import Failpoints
from tandem.initiator.database import Database
from tandem.initiator.journal import ALWAYS
from tandem.initiator.points import Points
from tandem.initiator.ports import (
    Answered,
    Blocked,
    ChangeT,
    Deadlines,
    Intent,
    Plan,
    Recorded,
)
from tandem.initiator.records import Key, KnownKey
from tandem.initiator.schema import Schema
from tandem.initiator.subject import OpT, SubjectT
from tandem.operation import FIRST_VERSION, Answer, Kind
from tandem.store import Session

PATIENCE_SECONDS: Final = 1.0
"""How long after its deadline a request waits for the end of a COMMIT."""
_log = structlog.stdlib.get_logger(__name__)


class _KeyTaken(Exception):
    """Somebody else has used the idempotency key meanwhile; the transaction is rolled back."""


@dataclass
class _Planned(Generic[OpT]):
    """What is left behind by an attempt whose commit may have been lost."""

    operation: OpT | None = None


class Intents(Generic[ChangeT, OpT, SubjectT]):
    """Records operations in the initiator's database.

    Args:
        database: the initiator's database.
        plan: what a change means for a subject.
        points: the names of the failpoints.
        failpoints: where tests make it fail.
        deadlines: how long callers wait.
        due_in_seconds: how long recovery leaves a new operation to the request that made it.
        timeout_seconds: limit for a record where the request brings none.
        until: the end of the time, by the database's clock, in which an operation may still be
            recorded, by its id; whoever knows the id can tell then what will never happen.
    """

    def __init__(
        self,
        database: Database[OpT, SubjectT],
        *,
        plan: Plan[ChangeT, SubjectT, OpT],
        points: Points,
        failpoints: Failpoints,
        deadlines: Deadlines,
        due_in_seconds: float,
        timeout_seconds: float = 15.0,
        until: Callable[[UUID], datetime] = lambda _: ALWAYS,
    ) -> None:
        self._database = database
        self._plan_of = plan
        self._points = points
        self._failpoints = failpoints
        self._deadlines = deadlines
        self._due_in_seconds = due_in_seconds
        self._timeout_seconds = timeout_seconds
        self._until = until

    @property
    def schema(self) -> Schema[OpT, SubjectT]:
        """The tables."""
        return self._database.schema

    async def replay(self, key: Key) -> Answer | None:
        """Return the answer kept under a key, None if the key is new.

        Raises:
            KeyReused: the key belongs to another request.
            StillRunning: the request is still being worked on.
            DatabaseUnavailable: the database does not answer.
        """
        try:
            known = await self._database.journal.known_key(self._database.store, key)
        except DATABASE_ERRORS as error:
            if not is_transient(error):
                raise
            raise DatabaseUnavailable("The database does not answer.") from error
        return None if known is None else _answer_of(key, known)

    async def record(
        self,
        change: ChangeT,
        attempt: Attempt | None = None,
        *,
        told: Callable[[Intent[OpT]], None] = lambda _: None,
    ) -> Intent[OpT]:
        """Record the operation that carries out ``change``, unless the subject does not admit it.

        A transaction cut off in the middle of its commit leaves nobody knowing whether it was made:
        when this is cancelled it first waits a moment for the end of its own.

        Args:
            change: what is asked for.
            attempt: says at any time, also when this is cancelled, how far it has come.
            told: called with what came of it, also when this was cancelled before.

        Raises:
            GivenUp: the time ran out; nothing was written.
            DatabaseUnavailable, Locked, Unstorable, KeyReused, StillRunning: nothing was written.
            sqlalchemy.exc.DBAPIError: a constraint refuses it; nothing was written.
            RecordUnknown: it cannot be told whether it is recorded.
            Exception: what the plan raises; nothing was written.
        """
        try:
            return await self._record_known(change, attempt, told)
        except _KeyTaken:
            answered = await self._answer_of_taken_key(change)
            told(answered)
            return answered
        except commits.CommitUnknown as error:
            raise RecordUnknown(str(change.op_id)) from error
        except DataError as error:
            raise Unstorable(str(change.op_id)) from error
        except DATABASE_ERRORS as error:
            if violates(error, self._database.schema.one_pending):
                # Under the locks that is not foreseen: they were lost, and the database held.
                raise Locked("Another operation is pending.") from error
            if not is_transient(error):
                raise
            raise DatabaseUnavailable("The database does not answer.") from error

    async def _record_known(
        self, change: ChangeT, attempt: Attempt | None, told: Callable[[Intent[OpT]], None]
    ) -> Intent[OpT]:
        planned: _Planned[OpT] = _Planned()

        async def work(attempt: Attempt) -> Intent[OpT]:
            intent = await repeated(
                lambda: self._record(change, planned, attempt), event="intent_attempt_failed"
            )
            told(intent)
            return intent

        return await commits.known(
            work,
            attempt=attempt,
            deadline_seconds=self._deadlines.remaining_seconds(
                at_most_seconds=self._timeout_seconds
            ),
            patience_seconds=PATIENCE_SECONDS,
            event="intent_commit_lost",
        )

    async def hand_over(self, op_id: UUID, *, reason: str) -> None:
        """Leave a pending operation to recovery, now."""
        async with self._database.engine.begin() as connection:
            await self._database.operations(connection).hand_over(op_id, error=reason)

    async def _record(
        self, change: ChangeT, planned: _Planned[OpT], attempt: Attempt
    ) -> Intent[OpT]:
        if planned.operation is None:
            intent = await self._record_at_once(change, planned, attempt)
            if intent is not None:
                return intent
        return await self._record_carefully(change, planned, attempt)

    async def _record_at_once(
        self, change: ChangeT, planned: _Planned[OpT], attempt: Attempt
    ) -> Intent[OpT] | None:
        """Do it in one look and one statement; None if that wrote nothing."""
        subject, now = await self._look(change)
        if subject is not None and subject.pending_op is not None:
            return None
        operation = self._plan_of(subject, change, now=now)
        if isinstance(operation, Answered):
            return await self._keep_at_once(change, operation)
        await self._failpoints.hit(self._points.in_intent)
        async with self._database.store.session() as session:
            # The statement is a transaction by itself: once it is sent, so is its COMMIT.
            attempt.commits_now()
            planned.operation = operation
            recorded = await self._write(session, operation, change)
        if recorded is None:
            planned.operation = None
            attempt.proved_unwritten()
            return None
        return Recorded(recorded)

    async def _look(self, change: ChangeT) -> tuple[SubjectT | None, datetime]:
        if change.kind == Kind.CREATE:
            # There is nothing to see, and the database itself dates what it creates.
            return None, datetime.now(UTC)
        return await self._database.journal.look(self._database.store, change.subject_id)

    async def _write(self, session: Session, operation: OpT, change: ChangeT) -> OpT | None:
        try:
            return await self._database.journal.record(
                session,
                operation,
                key=change.key,
                client=change.client,
                due_in_seconds=self._due_in_seconds,
                traceparent=change.traceparent,
                until=self._until(operation.id),
            )
        except psycopg.Error as error:
            if is_transient(error):
                raise
            return None  # The careful path finds out what it is that the database refuses.

    async def _keep_at_once(self, change: ChangeT, answered: Answered) -> Answered:
        """Keep an answer that needs no operation, so that a retry gets the same."""
        if change.key is not None and not await self._database.journal.keep(
            self._database.store, change.key, answered.response
        ):
            raise _KeyTaken
        return answered

    async def _record_carefully(
        self, change: ChangeT, planned: _Planned[OpT], attempt: Attempt
    ) -> Intent[OpT]:
        async with self._database.engine.begin() as connection:
            if planned.operation is not None:
                if await self._was_recorded(connection, planned.operation):
                    _log.info("lost_commit_found", operation_id=str(change.op_id))
                    return Recorded(await self._recorded(connection, change.op_id))
                attempt.proved_unwritten()
            planned.operation = None
            intent = await self._plan(connection, change)
            await self._failpoints.hit(self._points.in_intent)
            if isinstance(intent, Recorded):
                attempt.commits_now()
                planned.operation = intent.operation
        return intent

    async def _plan(self, connection: AsyncConnection, change: ChangeT) -> Intent[OpT]:
        subjects = self._database.subjects(connection)
        if change.kind == Kind.CREATE:
            planned = self._plan_of(None, change, now=await subjects.now())
            if not isinstance(planned, Answered):
                await subjects.reserve(planned)
        else:
            subject, now = await subjects.lock_at(change.subject_id)
            if subject is not None and subject.pending_op is not None:
                return await self._blocked(connection, change, subject.pending_op)
            planned = self._plan_of(subject, change, now=now)
        if isinstance(planned, Answered):
            return await self._keep(connection, change, planned)
        return await self._insert(connection, change, planned)

    async def _insert(
        self, connection: AsyncConnection, change: ChangeT, operation: OpT
    ) -> Recorded[OpT]:
        if change.key is not None:
            await self._bind(connection, change.key, op_id=operation.id)
        await self._database.operations(connection).insert(
            operation,
            client=change.client,
            due_in_seconds=self._due_in_seconds,
            traceparent=change.traceparent,
        )
        await self._database.subjects(connection).mark_pending(operation)
        return Recorded(operation)

    async def _blocked(
        self, connection: AsyncConnection, change: ChangeT, pending_op: UUID
    ) -> Intent[OpT]:
        if change.key is not None:
            # What is in the way may be this very request, sent before: it runs, and needs no help.
            known = await self._database.keys(connection).find(change.key)
            if known is not None:
                raise _KeyTaken
        pending = await self._database.operations(connection).find(pending_op)
        if pending is None:
            raise ProtocolViolated(
                f"{self.schema.noun} {change.subject_id} points to an operation that is not there"
            )
        return Blocked(pending.operation)

    async def _keep(
        self, connection: AsyncConnection, change: ChangeT, answered: Answered
    ) -> Answered:
        if change.key is not None:
            await self._bind(connection, change.key, response=answered.response)
        return answered

    async def _bind(
        self,
        connection: AsyncConnection,
        key: Key,
        *,
        op_id: UUID | None = None,
        response: Answer | None = None,
    ) -> None:
        keys = self._database.keys(connection)
        if not await keys.insert(key, op_id=op_id, response=response):
            raise _KeyTaken

    async def _recorded(self, connection: AsyncConnection, op_id: UUID) -> OpT:
        """Return an operation as it was recorded, with the time that the database gave it."""
        record = await self._database.operations(connection).find(op_id)
        if record is None:
            raise ProtocolViolated(f"operation {op_id} is recorded and cannot be read")
        return record.operation

    async def _was_recorded(self, connection: AsyncConnection, operation: OpT) -> bool:
        """Tell whether an earlier attempt was committed, by recording the operation once more.

        A SELECT would not do: it does not see a commit still in flight, which then lands after all.
        The INSERT waits for it. What it inserts if there was none is rolled back, because the
        subject may have changed since the operation was planned.
        """
        subjects = self._database.subjects(connection)
        await subjects.lock(operation.subject_id)
        if operation.version == FIRST_VERSION:
            await subjects.reserve(operation)
        savepoint = await connection.begin_nested()
        try:
            inserted = await self._database.operations(connection).insert(
                operation, client="", due_in_seconds=0, traceparent=None
            )
        except IntegrityError as error:
            if not violates(error, self._database.schema.one_pending):
                raise
            inserted = True  # it could have been: another operation has taken its place
        await savepoint.rollback()
        return not inserted

    async def _answer_of_taken_key(self, change: ChangeT) -> Answered:
        assert change.key is not None  # noqa: S101 - only a request with a key gets here
        response = await self.replay(change.key)
        if response is None:  # its retention ended in this very moment
            raise DatabaseUnavailable("The idempotency key is just being dropped. Try again.")
        return Answered(response, replayed=True)


def _answer_of(key: Key, known: KnownKey) -> Answer:
    if known.request_hash != key.request_hash:
        raise KeyReused("This idempotency key was used before, for another request.")
    if known.response is not None:
        return known.response
    if known.op_id is None:
        raise ProtocolViolated("an idempotency key leads nowhere")
    raise StillRunning(known.op_id)
