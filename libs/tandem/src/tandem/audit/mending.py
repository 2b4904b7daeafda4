"""Mend what an audit has found, from the stored payloads and by the protocol's own steps.

The journal of the side that begins knows every change with its full body, so a decider that lost
some is given them again, under the locks and under their own ids; a row that was altered here is
written again from the last committed payload; an operation that is stuck is finished as recovery
would; and what was altered there is said once more by a new, ordinary change, if the service has
one for that. What the journal does not know, a decider ahead of it, is never undone: that is for a
person to decide.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncEngine

from tandem.audit.facts import Difference, DifferenceKind, Fact, Nouns
from tandem.errors import LeaseLost, Locked, LocksUnavailable, OutcomeUnknown
from tandem.initiator.delivery import Delivery
from tandem.initiator.finishing import Finishing
from tandem.initiator.operations import Operations
from tandem.initiator.ports import Locks
from tandem.initiator.schema import Schema
from tandem.initiator.subject import Operation, OpT, SubjectT
from tandem.initiator.subjects import Subjects
from tandem.operation import Outcome, State

LOCK_WAIT_SECONDS: Final = 30.0
_Op_contra = TypeVar("_Op_contra", bound=Operation, contravariant=True)


class NotMended(Exception):
    """A difference could not be mended; the message says why."""


class Restating(Protocol[_Op_contra]):
    """How the body that a subject has is said once more, by an ordinary change."""

    def require_possible(self, there: Fact, last: _Op_contra) -> None:
        """Return if that gives the decider all it lacks.

        Raises:
            NotMended: it does not.
        """
        ...

    async def restate(self, last: _Op_contra) -> None:
        """Make the change.

        Raises:
            NotMended: it was not made.
        """
        ...


class Mending(Generic[OpT, SubjectT]):
    """Mends differences, one subject at a time, on a live system.

    Args:
        engine: the database of the side that begins.
        schema: its tables.
        nouns: what a subject is called on either side.
        fact_of: what both sides should say after an operation.
        locks: the locks on subjects.
        delivery: how an operation is sent again.
        finishing: how an operation is finished.
        restating: how a body is said once more; without it what was altered there stays.
        archive: where operations are moved that were superseded long ago.
    """

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        schema: Schema[OpT, SubjectT],
        nouns: Nouns,
        fact_of: Callable[[OpT], Fact],
        locks: Locks,
        delivery: Delivery[OpT],
        finishing: Finishing[OpT, SubjectT],
        restating: Restating[OpT] | None = None,
        archive: Table | None = None,
    ) -> None:
        self._engine = engine
        self._schema = schema
        self._nouns = nouns
        self._fact_of = fact_of
        self._locks = locks
        self._delivery = delivery
        self._finishing = finishing
        self._restating = restating
        self._journals = [schema.operations] if archive is None else [schema.operations, archive]

    async def mend(self, difference: Difference) -> str:
        """Mend one difference and return what was done.

        Raises:
            NotMended: that is not possible, or not now.
        """
        try:
            return await self._mend(difference)
        except (OutcomeUnknown, Locked, LocksUnavailable, LeaseLost) as error:
            raise NotMended(str(error)) from error

    async def _mend(self, difference: Difference) -> str:
        subject_id, (here, there) = difference.subject_id, self._nouns
        if difference.kind is DifferenceKind.STUCK:
            return await self._finish(subject_id)
        history = await self._operations(subject_id, State.COMMITTED)
        if not history:
            raise NotMended(f"the journal knows nothing of this {here}")
        if difference.kind is DifferenceKind.HISTORY:
            raise NotMended(f"what is recorded of the {there} cannot be changed any more")
        return await self._bring_together(difference, history)

    async def _bring_together(self, difference: Difference, history: Sequence[OpT]) -> str:
        last, there = history[-1], difference.there
        if there is not None and there.version > last.version:
            raise NotMended(f"the journal does not know what the {self._nouns.there} is ahead by")
        behind = there is None or there.version < last.version
        restate = not behind and there != self._fact_of(last)
        if there is not None and restate:
            self._required_restating().require_possible(there, last)
        done = []
        if await self._restore(last):
            done.append(f"restored the {self._nouns.here}'s row from its last operation")
        if behind:
            done.append(await self._send_again(difference, history))
        elif restate:
            await self._required_restating().restate(last)
            done.append(f"restated the {self._nouns.here} by a new operation")
        return "; ".join(done) or "nothing was left to do"

    def _required_restating(self) -> Restating[OpT]:
        if self._restating is None:
            raise NotMended("there is no change that says the same once more")
        return self._restating

    async def _finish(self, subject_id: UUID) -> str:
        """Bring the pending operation to its end, as recovery does."""
        pending = await self._operations(subject_id, State.PENDING)
        if not pending:
            return "it has finished by itself"
        decision = await self._finishing.recover(pending[0], lock_wait_seconds=LOCK_WAIT_SECONDS)
        return f"finished operation {pending[0].id}: {decision.outcome.value}"

    async def _send_again(self, difference: Difference, history: Sequence[OpT]) -> str:
        """Give the decider the operations it lacks, in their order."""
        known = 0 if difference.there is None else difference.there.version
        missing = [operation for operation in history if operation.version > known]
        async with self._locks.hold(difference.subject_id, wait_seconds=LOCK_WAIT_SECONDS) as lease:
            for operation in missing:
                decision = await self._delivery.deliver(operation, lease)
                if decision.outcome is not Outcome.APPLIED:
                    raise NotMended(
                        f"operation {operation.id} was {decision.outcome.value}: {decision.detail}"
                    )
        return f"sent {len(missing)} operations again"

    async def _restore(self, last: OpT) -> bool:
        """Bring the row back to its last committed operation; tell whether it was not."""
        async with self._engine.begin() as connection:
            subjects = Subjects(self._schema, connection)
            subject = await subjects.lock(last.subject_id)
            newest = await Operations(self._schema, connection).newest_committed(last.subject_id)
            if subject is None or subject.pending_op is not None or newest != last.version:
                raise NotMended(f"the {self._nouns.here} is changing; try again")
            return await subjects.restore(last)

    async def _operations(self, subject_id: UUID, state: State) -> Sequence[OpT]:
        """Return a subject's operations in a state, by their versions."""
        found: list[OpT] = []
        async with self._engine.connect() as connection:
            for journal in self._journals:
                rows: Any = await connection.execute(
                    select(journal).where(
                        journal.c[self._schema.subject_id] == subject_id,
                        journal.c.state == state.value,
                    )
                )
                found += [self._schema.operation_of(row) for row in rows]
        return sorted(found, key=lambda operation: operation.version)
