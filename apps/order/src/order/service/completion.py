"""T3: make the order follow what the invoice service has decided."""

from typing import Final

import psycopg
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from order import answers, failpoints
from order.database import OrderDatabase
from order.domain import Kind, Operation, Order, State
from order.errors import ProtocolViolated
from order.metrics import Metrics
from order.ports import Decision, OutcomeUnknown
from order.repository import Operations, Orders
from order.transactions import repeated
from servicekit.deadlines import remaining_seconds
from servicekit.failpoints import Failpoints
from servicekit.idempotency import StoredResponse
from tandem import commits
from tandem.commits import Attempt
from tandem.errors import DATABASE_ERRORS, is_transient
from tandem.operation import Outcome

_STATES: Final = {
    Outcome.APPLIED: State.COMMITTED,
    Outcome.REJECTED: State.REJECTED,
    Outcome.ABORTED: State.REJECTED,
}
_FOLLOWS_LATER: Final = "it is decided, and the order follows later"
PATIENCE_SECONDS: Final = 1.0
"""How long past its deadline a request waits for the order to follow a decision."""
_log = structlog.stdlib.get_logger(__name__)


class PostgresCompletions:
    """Finishes operations in the order database.

    Args:
        database: the order database.
        failpoints: where tests make it fail.
        metrics: counts what became of operations.
        timeout_seconds: limit for one completion where the request brings none.
    """

    def __init__(
        self,
        database: OrderDatabase,
        *,
        failpoints: Failpoints,
        metrics: Metrics,
        timeout_seconds: float = 15.0,
    ) -> None:
        self._engine = database.engine
        self._store = database.store
        self._journal = database.journal
        self._failpoints = failpoints
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds

    async def complete(self, operation: Operation, decision: Decision) -> StoredResponse:
        """Make the order follow the decision; see ``order.ports.Completions``.

        Doing it twice is the same as doing it once, so a lost reply to the commit only costs a
        second try. Whatever else the database does, the decision stands: the order follows later.
        """

        async def work(_: Attempt) -> StoredResponse:
            return await repeated(
                lambda: self._complete(operation, decision), event="completion_attempt_failed"
            )

        deadline_seconds = remaining_seconds(at_most_seconds=self._timeout_seconds)
        try:
            return await commits.known(
                work,
                deadline_seconds=deadline_seconds + PATIENCE_SECONDS,
                patience_seconds=0,
                event="completion_commit_lost",
            )
        except (commits.GivenUp, commits.CommitUnknown) as error:
            raise OutcomeUnknown(_FOLLOWS_LATER, retryable=False) from error
        except DATABASE_ERRORS as error:
            if not is_transient(error):
                raise
            raise OutcomeUnknown(_FOLLOWS_LATER, retryable=False) from error

    async def _complete(self, operation: Operation, decision: Decision) -> StoredResponse:
        response = await self._complete_at_once(operation, decision)
        if response is not None:
            self._finished(operation, decision)
            return response
        return await self._complete_carefully(operation, decision)

    async def _complete_at_once(
        self, operation: Operation, decision: Decision
    ) -> StoredResponse | None:
        """Do it in one statement; None if that wrote nothing, as after a lost acknowledgement."""
        response = _answer(operation, decision, _as_created(operation))
        await self._failpoints.hit(failpoints.IN_T3)
        try:
            async with self._store.session() as session:
                written = await self._journal.complete(
                    session, operation, state=_STATES[decision.outcome], response=response
                )
        except psycopg.Error as error:
            if is_transient(error):
                raise
            # Whatever refused it refuses the careful path as well, which says so.
            _log.warning("completion_refused_at_once", error=str(error))
            return None
        return response if written else None

    async def _complete_carefully(self, operation: Operation, decision: Decision) -> StoredResponse:
        async with self._engine.begin() as connection:
            # The order first, then the operation: the order in which T1 takes them. The other way
            # round the two wait for each other.
            order = await Orders(connection).lock(operation.order_id)
            record = await Operations(connection).find(operation.id)
            if order is None or record is None:
                raise ProtocolViolated(f"operation {operation.id} was never recorded")
            if record.response is not None:
                return record.response
            response = await self._finish(connection, operation, decision)
            await self._failpoints.hit(failpoints.IN_T3)
        self._finished(operation, decision)
        return response

    def _finished(self, operation: Operation, decision: Decision) -> None:
        self._metrics.finished(operation.kind, decision.outcome)
        _log.info(
            "operation_finished",
            operation_id=str(operation.id),
            order_id=str(operation.order_id),
            kind=operation.kind.value,
            version=operation.version,
            outcome=decision.outcome.value,
        )

    async def _finish(
        self, connection: AsyncConnection, operation: Operation, decision: Decision
    ) -> StoredResponse:
        orders = Orders(connection)
        order = None
        if decision.outcome is Outcome.APPLIED:
            order = await orders.advance(operation)
            if order is None:
                raise ProtocolViolated(
                    f"order {operation.order_id} is not at version {operation.version - 1}"
                )
        else:
            await orders.unmark_pending(operation)
        response = _answer(operation, decision, order)
        finished = await Operations(connection).finish(
            operation.id, state=_STATES[decision.outcome], response=response
        )
        if not finished:
            raise ProtocolViolated(f"operation {operation.id} ended twice")
        return response


def _answer(operation: Operation, decision: Decision, order: Order | None) -> StoredResponse:
    if decision.outcome is Outcome.APPLIED:
        return answers.committed(operation, order)
    return answers.refused_by_invoices(operation, decision)


def _as_created(operation: Operation) -> Order | None:
    """Return the order that a creation makes, as it is from the moment it was recorded."""
    if operation.kind is not Kind.CREATE:
        return None
    return Order(
        id=operation.order_id,
        version=operation.version,
        body=operation.body,
        pending_op=None,
        created_at=operation.body.update_time,
        updated_at=operation.body.update_time,
    )
