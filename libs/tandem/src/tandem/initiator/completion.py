"""Make the subject follow what the decider has decided."""

from collections.abc import Callable
from typing import Any, Final, Generic

import psycopg
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from tandem import commits
from tandem.commits import Attempt, repeated
from tandem.errors import DATABASE_ERRORS, OutcomeUnknown, ProtocolViolated, is_transient
from tandem.failpoints import Failpoints
from tandem.initiator.database import Database
from tandem.initiator.points import Points
from tandem.initiator.ports import Answers, Deadlines, Decision, Observer
from tandem.initiator.subject import OpT, SubjectT
from tandem.operation import Answer, Outcome, State

_STATES: Final = {
    Outcome.APPLIED: State.COMMITTED,
    Outcome.REJECTED: State.REJECTED,
    Outcome.ABORTED: State.REJECTED,
}
PATIENCE_SECONDS: Final = 1.0
"""How long past its deadline a request waits for the subject to follow a decision."""
_log = structlog.stdlib.get_logger(__name__)


class Completions(Generic[OpT, SubjectT]):
    """Finishes operations in the initiator's database.

    Args:
        database: the initiator's database.
        answers: how changes are answered.
        observer: counts what became of operations.
        points: the names of the failpoints.
        failpoints: where tests make it fail.
        deadlines: how long callers wait.
        timeout_seconds: limit for one completion where the request brings none.
    """

    def __init__(
        self,
        database: Database[OpT, SubjectT],
        *,
        answers: Answers[Any, OpT, SubjectT],
        observer: Observer,
        points: Points,
        failpoints: Failpoints,
        deadlines: Deadlines,
        timeout_seconds: float = 15.0,
    ) -> None:
        self._database = database
        self._answers = answers
        self._observer = observer
        self._points = points
        self._failpoints = failpoints
        self._deadlines = deadlines
        self._timeout_seconds = timeout_seconds

    async def complete(
        self,
        operation: OpT,
        decision: Decision,
        *,
        told: Callable[[Answer], None] = lambda _: None,
    ) -> Answer:
        """Make the subject follow the decision and return the answer, the same for whoever asks.

        Doing it twice is the same as doing it once, so a lost reply to the commit only costs a
        second try. Whatever else the database does, the decision stands: the subject follows later.
        When this is cancelled it first waits a moment for the end of its own transaction.

        Args:
            operation: what was decided.
            decision: what the decider has recorded.
            told: called with the answer, also when this was cancelled before.

        Raises:
            ProtocolViolated: the subject is not where the operation found it.
            OutcomeUnknown: the database does not say in time that the subject follows.
        """

        async def work(_: Attempt) -> Answer:
            answer = await repeated(
                lambda: self._complete(operation, decision), event="completion_attempt_failed"
            )
            told(answer)
            return answer

        deadline_seconds = self._deadlines.remaining_seconds(at_most_seconds=self._timeout_seconds)
        try:
            return await commits.known(
                work,
                # Patience is for a COMMIT that was sent. Here one may be sent late as well, for
                # twice is the same as once: all of the time is for trying.
                deadline_seconds=deadline_seconds + PATIENCE_SECONDS,
                patience_seconds=0,
                event="completion_commit_lost",
            )
        except (commits.GivenUp, commits.CommitUnknown) as error:
            raise self._follows_later() from error
        except DATABASE_ERRORS as error:
            if not is_transient(error):
                raise
            raise self._follows_later() from error

    def _follows_later(self) -> OutcomeUnknown:
        noun = self._database.schema.noun
        return OutcomeUnknown(f"it is decided, and the {noun} follows later", retryable=False)

    async def _complete(self, operation: OpT, decision: Decision) -> Answer:
        response = await self._complete_at_once(operation, decision)
        if response is not None:
            self._finished(operation, decision)
            return response
        return await self._complete_carefully(operation, decision)

    async def _complete_at_once(self, operation: OpT, decision: Decision) -> Answer | None:
        """Do it in one statement; None if that wrote nothing, as after a lost acknowledgement."""
        response = self._answer(operation, decision, None)
        await self._failpoints.hit(self._points.in_completion)
        try:
            async with self._database.store.session() as session:
                written = await self._database.journal.complete(
                    session, operation, state=_STATES[decision.outcome], response=response
                )
        except psycopg.Error as error:
            if is_transient(error):
                raise
            # Whatever refused it refuses the careful path as well, which says so.
            _log.warning("completion_refused_at_once", error=str(error))
            return None
        return response if written else None

    async def _complete_carefully(self, operation: OpT, decision: Decision) -> Answer:
        async with self._database.engine.begin() as connection:
            # The subject first, then the operation: the order in which the intent takes them.
            # The other way round the two wait for each other.
            subject = await self._database.subjects(connection).lock(operation.subject_id)
            record = await self._database.operations(connection).find(operation.id)
            if subject is None or record is None:
                raise ProtocolViolated(f"operation {operation.id} was never recorded")
            if record.response is not None:
                # Recovery, or whoever came next, was faster. Theirs is what a retry will get.
                return record.response
            response = await self._finish(connection, operation, decision)
            await self._failpoints.hit(self._points.in_completion)
        self._finished(operation, decision)
        return response

    def _finished(self, operation: OpT, decision: Decision) -> None:
        self._observer.finished(operation.kind, decision.outcome)
        _log.info(
            "operation_finished",
            **self._database.schema.logged(operation),
            kind=str(operation.kind),
            version=operation.version,
            outcome=decision.outcome.value,
        )

    async def _finish(
        self, connection: AsyncConnection, operation: OpT, decision: Decision
    ) -> Answer:
        subjects = self._database.subjects(connection)
        subject = None
        if decision.outcome is Outcome.APPLIED:
            subject = await subjects.advance(operation)
            if subject is None:
                # Nobody may write here without the operation's turn: no second try mends this.
                whose = f"{self._database.schema.noun} {operation.subject_id}"
                raise ProtocolViolated(f"{whose} is not at version {operation.version - 1}")
        else:
            await subjects.unmark_pending(operation)
        response = self._answer(operation, decision, subject)
        finished = await self._database.operations(connection).finish(
            operation.id, state=_STATES[decision.outcome], response=response
        )
        if not finished:
            raise ProtocolViolated(f"operation {operation.id} ended twice")
        return response

    def _answer(self, operation: OpT, decision: Decision, subject: SubjectT | None) -> Answer:
        if decision.outcome is Outcome.APPLIED:
            return self._answers.committed(operation, subject)
        return self._answers.dropped(operation, decision)
