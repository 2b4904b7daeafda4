"""Recovery: finish what requests have left pending, in every replica, for ever.

Each replica claims operations that are due, by moving their next attempt into the future, and then
works on them without any lock on their rows. Two replicas that meet at one operation do no harm:
the invoice service applies it once, and the order takes the outcome once.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy.ext.asyncio import AsyncEngine

from order.errors import LocksUnavailable, OrderLocked
from order.metrics import Metrics
from order.ports import Invoices, LeaseLost, OutcomeUnknown
from order.repository import OperationRecord, Operations
from order.service.helping import Helping
from order.wakeup import WakeUp
from servicekit import log_context
from servicekit.database import cause_of
from servicekit.quiet_log import Interval

BATCH: Final = 16
"""How many operations one replica claims, and works on, at once."""
BACKOFF_CAP_SECONDS: Final = 10.0
"""The longest pause between two attempts, before jitter."""
_LOCKED_RETRY_SECONDS: Final = 1.0
_log = structlog.stdlib.get_logger(__name__)


class Reconciler:
    """Finishes pending operations in the background.

    Args:
        engine: the order database.
        invoices: says how many attempts are worth making.
        helping: how one operation is finished.
        wake_up: says when to look.
        metrics: counts attempts and shows the backlog.
        tracer: makes a span for each attempt, linked to the request that began the operation.
        interval_seconds: how often to look without being woken.
        attempt_timeout_seconds: limit for one attempt at one operation.
        backoff_seconds: the first pause between two attempts; it doubles.
    """

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        invoices: Invoices,
        helping: Helping,
        wake_up: WakeUp,
        metrics: Metrics,
        tracer: trace.Tracer,
        interval_seconds: float,
        attempt_timeout_seconds: float,
        backoff_seconds: float,
    ) -> None:
        self._engine = engine
        self._invoices = invoices
        self._helping = helping
        self._wake_up = wake_up
        self._metrics = metrics
        self._tracer = tracer
        self._interval_seconds = interval_seconds
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._backoff_seconds = backoff_seconds

    async def run(self) -> None:
        """Work until cancelled; no error ends it."""
        failures = Interval()
        while True:
            # A claim costs an operation its turn, so none is made for a call that the breaker would
            # refuse: all of them would come late once the invoice service is back.
            limit = self._invoices.permits(BATCH)
            try:
                claimed = await self.work_once(limit=limit)
            except Exception as error:  # noqa: BLE001 - the next round may succeed; it is counted
                self._metrics.round("failed")
                if (times := failures.due()) is not None:
                    _log.warning("reconciler_round_failed", times=times, error=repr(error))
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
            claimed = await Operations(connection).claim_due(
                limit=limit, base_seconds=self._backoff_seconds, cap_seconds=BACKOFF_CAP_SECONDS
            )
        await self._recover_all(claimed)
        async with (
            asyncio.timeout(self._attempt_timeout_seconds),
            self._engine.connect() as connection,
        ):
            self._metrics.backlog(await Operations(connection).backlog())
        self._metrics.round("done")
        return len(claimed)

    async def _recover_all(self, claimed: Sequence[OperationRecord]) -> None:
        async with asyncio.TaskGroup() as group:
            for record in claimed:
                group.create_task(self._recover(record))

    async def _recover(self, record: OperationRecord) -> None:
        """Make one attempt; its failure concerns nobody but the operation itself."""
        op_id = str(record.operation.id)
        with (
            log_context.bound(operation_id=op_id),
            self._tracer.start_as_current_span("operation.recover", links=_links(record)) as span,
        ):
            span.set_attribute("operation.id", op_id)
            span.set_attribute("operation.attempt", record.attempts)
            try:
                result = await self._attempt(record)
            except Exception as error:  # noqa: BLE001 - one operation must not stop the others
                result = "failed"
                span.record_exception(error)
                _log.exception("recovery_failed", attempts=record.attempts)
                await self._note(record, cause_of(error))
            span.set_attribute("operation.result", result)
            self._metrics.recovery(result)

    async def _attempt(self, record: OperationRecord) -> str:
        try:
            async with asyncio.timeout(self._attempt_timeout_seconds):
                decision = await self._helping.recover(record.operation)
        except OrderLocked:
            # Whoever holds the lock may be the request itself, or will help; look again soon.
            await self._note(record, "the order is locked", retry_seconds=_LOCKED_RETRY_SECONDS)
            return "locked"
        except (OutcomeUnknown, LeaseLost, LocksUnavailable, TimeoutError) as error:
            reason = str(error) or "no time left"
            _log.info("recovery_postponed", attempts=record.attempts, reason=reason)
            await self._note(record, reason)
            return "unknown"
        _log.info("operation_recovered", attempts=record.attempts, outcome=decision.outcome.value)
        return "finished"

    async def _note(
        self, record: OperationRecord, error: str, *, retry_seconds: float | None = None
    ) -> None:
        op_id = record.operation.id
        try:
            async with (
                asyncio.timeout(self._attempt_timeout_seconds),
                self._engine.begin() as connection,
            ):
                operations = Operations(connection)
                if retry_seconds is None:
                    await operations.note_error(op_id, error=error)
                else:
                    await operations.postpone(op_id, seconds=retry_seconds, error=error)
        except Exception as failure:  # noqa: BLE001 - a note is not worth losing the others' work
            _log.warning("recovery_note_failed", error=repr(failure))


def _links(record: OperationRecord) -> list[trace.Link]:
    """Return the link to the request that recorded the operation."""
    if record.traceparent is None:
        return []
    context = TraceContextTextMapPropagator().extract({"traceparent": record.traceparent})
    origin = trace.get_current_span(context).get_span_context()
    return [trace.Link(origin)] if origin.is_valid else []
