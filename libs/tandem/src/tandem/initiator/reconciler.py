"""Recovery: finish what requests have left pending, in every replica, for ever.

Each replica claims operations that are due, by moving their next attempt into the future, and then
works on them without any lock on their rows. Two replicas that meet at one operation do no harm:
the decider applies it once, and the subject takes the outcome once.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Generic

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from tandem.errors import LeaseLost, Locked, LocksUnavailable, OutcomeUnknown, cause_of
from tandem.initiator.finishing import Finishing
from tandem.initiator.operations import Operations
from tandem.initiator.ports import Decider, RecoveryObserver
from tandem.initiator.records import OperationRecord
from tandem.initiator.schema import Schema
from tandem.initiator.subject import OpT, SubjectT
from tandem.initiator.wakeup import WakeUp

BATCH: Final = 16
"""How many operations one replica claims, and works on, at once."""
BACKOFF_CAP_SECONDS: Final = 10.0
"""The longest pause between two attempts, before jitter."""
_LOCKED_RETRY_SECONDS: Final = 1.0
_log = structlog.stdlib.get_logger(__name__)


class Reconciler(Generic[OpT, SubjectT]):
    """Finishes pending operations in the background.

    Args:
        engine: the initiator's database; connections of its own, which requests cannot use up.
        schema: its tables.
        decider: says how many attempts are worth making.
        finishing: how one operation is finished.
        wake_up: says when to look.
        observer: watches attempts and shows the backlog.
        interval_seconds: how often to look without being woken.
        attempt_timeout_seconds: limit for one attempt at one operation.
        backoff_seconds: the first pause between two attempts; it doubles.
    """

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        schema: Schema[OpT, SubjectT],
        decider: Decider[OpT],
        finishing: Finishing[OpT, SubjectT],
        wake_up: WakeUp,
        observer: RecoveryObserver,
        interval_seconds: float,
        attempt_timeout_seconds: float,
        backoff_seconds: float,
    ) -> None:
        self._engine = engine
        self._schema = schema
        self._decider = decider
        self._finishing = finishing
        self._wake_up = wake_up
        self._observer = observer
        self._interval_seconds = interval_seconds
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._backoff_seconds = backoff_seconds

    async def run(self) -> None:
        """Work until cancelled; no error ends it."""
        while True:
            # A claim costs an operation its turn, so none is made for a call that the breaker would
            # refuse: all of them would come late once the decider is back.
            limit = self._decider.permits(BATCH)
            try:
                claimed = await self.work_once(limit=limit)
            except Exception as error:  # noqa: BLE001 - the next round may succeed; it is counted
                self._observer.round(error)
                claimed = 0
            if claimed == 0 or claimed < limit:
                await self._wake_up.wait(timeout_seconds=self._interval_seconds)

    async def work_once(self, *, limit: int = BATCH) -> int:
        """Claim up to ``limit`` operations that are due, work on them, and return how many."""
        # A connection that has gone silent would otherwise end recovery for good.
        async with (
            asyncio.timeout(self._attempt_timeout_seconds),
            self._engine.begin() as connection,
        ):
            claimed = await Operations(self._schema, connection).claim_due(
                limit=limit, base_seconds=self._backoff_seconds, cap_seconds=BACKOFF_CAP_SECONDS
            )
        await self._recover_all(claimed)
        async with (
            asyncio.timeout(self._attempt_timeout_seconds),
            self._engine.connect() as connection,
        ):
            self._observer.backlog(await Operations(self._schema, connection).backlog())
        self._observer.round(None)
        return len(claimed)

    async def _recover_all(self, claimed: Sequence[OperationRecord[OpT]]) -> None:
        async with asyncio.TaskGroup() as group:
            for record in claimed:
                group.create_task(self._recover(record))

    async def _recover(self, record: OperationRecord[OpT]) -> None:
        """Make one attempt; its failure concerns nobody but the operation itself."""
        with self._observer.attempt(
            record.operation.id, attempts=record.attempts, traceparent=record.traceparent
        ):
            failure: Exception | None = None
            try:
                result = await self._attempt(record)
            except Exception as error:  # noqa: BLE001 - one operation must not stop the others
                result, failure = "failed", error
                _log.exception("recovery_failed", attempts=record.attempts)
                await self._note(record, cause_of(error))
            self._observer.recovery(result, failure)

    async def _attempt(self, record: OperationRecord[OpT]) -> str:
        try:
            async with asyncio.timeout(self._attempt_timeout_seconds):
                decision = await self._finishing.recover(record.operation)
        except Locked:
            # Whoever holds the lock may be the request itself, or will help; look again soon.
            await self._note(
                record,
                f"the {self._schema.noun} is locked",
                retry_seconds=_LOCKED_RETRY_SECONDS,
            )
            return "locked"
        except (OutcomeUnknown, LeaseLost, LocksUnavailable, TimeoutError) as error:
            reason = str(error) or "no time left"
            _log.info("recovery_postponed", attempts=record.attempts, reason=reason)
            await self._note(record, reason)
            return "unknown"
        _log.info("operation_recovered", attempts=record.attempts, outcome=decision.outcome.value)
        return "finished"

    async def _note(
        self, record: OperationRecord[OpT], error: str, *, retry_seconds: float | None = None
    ) -> None:
        op_id = record.operation.id
        try:
            async with (
                asyncio.timeout(self._attempt_timeout_seconds),
                self._engine.begin() as connection,
            ):
                operations = Operations(self._schema, connection)
                if retry_seconds is None:
                    await operations.note_error(op_id, error=error)
                else:
                    await operations.postpone(op_id, seconds=retry_seconds, error=error)
        except Exception as failure:  # noqa: BLE001 - a note is not worth losing the others' work
            _log.warning("recovery_note_failed", error=repr(failure))
