"""Change an order and its invoice, or neither: the protocol from the request to the reply.

1. A known idempotency key is answered from what is kept; a dependency that is down, with 503.
2. Both locks are taken, or the answer is 423.
3. T1 records the operation (``intent``); one that is pending already is finished first.
4. The invoice service is asked to apply it, and decides (``delivery``).
5. T3 makes the order follow (``completion``).
6. The locks are released, and the client gets its answer.

Once step 3 may have been committed there is no way back, only forward: whatever fails later, and
however late it is, the answer is 202 with the operation's page, and recovery finishes what is left.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog
from starlette.responses import Response

from order import answers, failpoints
from order.domain import Operation, kind_of
from order.errors import InvoiceServiceUnavailable, OrderLocked
from order.metrics import Metrics
from order.ports import (
    Answered,
    Blocked,
    Change,
    Completions,
    Intent,
    Intents,
    Invoices,
    Lease,
    LeaseLost,
    Locks,
    OutcomeUnknown,
    Recorded,
    RecordUnknown,
)
from order.service.delivery import Delivery
from order.service.helping import Helping
from order.transactions import briefly, uninterrupted
from servicekit import deadlines, problems
from servicekit.database import cause_of
from servicekit.deadlines import remaining_seconds
from servicekit.failpoints import Failpoints
from servicekit.idempotency import StoredResponse
from servicekit.problems import DeadlineExceeded
from tandem.commits import Attempt
from tandem.errors import is_transient

# How many operations of others one request finishes before it gives up.
_HELPED_AT_MOST: Final = 3
PATIENCE_SECONDS: Final = 1.0
"""How long after its deadline a request waits for its own transaction to end."""
HAND_OVER_SECONDS: Final = 1.0
"""How long a request tries to wake recovery before it answers 202."""
_MARGIN_SECONDS: Final = 2.0
"""How long after all that the locks may take to be released."""
_log = structlog.stdlib.get_logger(__name__)


@dataclass
class _Progress:
    """How far a request has come; what it may answer depends on nothing else."""

    attempt: Attempt = field(default_factory=Attempt)
    operation: Operation | None = None
    answer: StoredResponse | None = None

    def nothing_is_recorded(self) -> bool:
        """Tell whether that is certain, and see to it that it stays so if it is."""
        return self.operation is None and self.attempt.give_up()


class Changes:
    """Carries out changes.

    Args:
        locks: the locks on orders and invoices.
        intents: T1.
        invoices: the invoice service.
        delivery: how an operation is sent to it.
        completions: T3.
        helping: how an operation that is in the way is finished.
        failpoints: where tests make it fail.
        metrics: counts replays, help and what is left to recovery.
        lock_wait_seconds: how long to wait for the locks.
        timeout_seconds: limit for one change where the request brings none.
    """

    def __init__(
        self,
        *,
        locks: Locks,
        intents: Intents,
        invoices: Invoices,
        delivery: Delivery,
        completions: Completions,
        helping: Helping,
        failpoints: Failpoints,
        metrics: Metrics,
        lock_wait_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self._locks = locks
        self._intents = intents
        self._invoices = invoices
        self._delivery = delivery
        self._completions = completions
        self._helping = helping
        self._failpoints = failpoints
        self._metrics = metrics
        self._lock_wait_seconds = lock_wait_seconds
        self._timeout_seconds = timeout_seconds

    async def apply(self, change: Change) -> StoredResponse:
        """Carry out ``change`` and return its answer.

        Raises:
            Problem: nothing was written.
        """
        if change.key is not None:
            known = await self._intents.replay(change.key)
            if known is not None:
                self._metrics.replayed()
                return known
        self._invoices.require_available()
        progress = _Progress()
        try:
            await self._run(change, progress)
            await self._failpoints.hit(failpoints.BEFORE_REPLY)
        except Exception as error:  # noqa: BLE001 - raised again unless there is something truer
            return await self._answer_despite(error, change, progress)
        assert progress.answer is not None  # noqa: S101 - _run ends with an answer or an error
        return progress.answer

    async def _run(self, change: Change, progress: _Progress) -> None:
        await self._failpoints.hit(failpoints.BEFORE_LOCK)
        limit = remaining_seconds(at_most_seconds=self._timeout_seconds)
        async with (
            asyncio.timeout(limit),
            self._locks.hold(
                change.command.order_id, wait_seconds=min(limit, self._lock_wait_seconds)
            ) as lease,
        ):
            await self._failpoints.hit(failpoints.AFTER_LOCK)
            await self._under_lock(change, progress, lease)
            await self._failpoints.hit(failpoints.BEFORE_RELEASE)
        await self._failpoints.hit(failpoints.AFTER_RELEASE)

    async def _under_lock(self, change: Change, progress: _Progress, lease: Lease) -> None:
        match await self._record(change, progress, lease):
            case Answered(replayed=replayed):
                if replayed:
                    self._metrics.replayed()
            case Recorded(operation):
                await self._failpoints.hit(failpoints.AFTER_T1)
                await self._carry_out(operation, progress, lease)
            case Blocked():
                raise OrderLocked("Other operations of this order kept coming first.")

    async def _record(self, change: Change, progress: _Progress, lease: Lease) -> Intent:
        """Do T1, finishing first what is in the way."""
        await self._failpoints.hit(failpoints.BEFORE_T1)
        intent = await self._record_once(change, progress)
        for _ in range(_HELPED_AT_MOST):
            if not isinstance(intent, Blocked):
                break
            await self._help(intent.pending, lease)
            intent = await self._record_once(change, progress)
        return intent

    async def _record_once(self, change: Change, progress: _Progress) -> Intent:
        async def record() -> Intent:
            intent = await self._intents.record(change, progress.attempt)
            match intent:
                case Recorded(operation):
                    progress.operation = operation
                case Answered(response):
                    progress.answer = response
            return intent

        progress.attempt = Attempt()
        left = remaining_seconds(at_most_seconds=self._timeout_seconds)
        deadlines.commit_to(
            lambda: _last_word(change, progress),
            within_seconds=left + 2 * PATIENCE_SECONDS + HAND_OVER_SECONDS + _MARGIN_SECONDS,
        )
        return await uninterrupted(record(), patience_seconds=PATIENCE_SECONDS)

    async def _help(self, pending: Operation, lease: Lease) -> None:
        _log.info("helping", operation_id=str(pending.id), order_id=str(pending.order_id))
        try:
            await self._helping.help_under(pending, lease)
        except OutcomeUnknown as error:
            raise InvoiceServiceUnavailable(
                "An earlier change of this order cannot be finished yet. Nothing was written."
            ) from error
        self._metrics.helped(pending.kind)

    async def _carry_out(self, operation: Operation, progress: _Progress, lease: Lease) -> None:
        decision = await self._delivery.deliver(operation, lease)
        await self._failpoints.hit(failpoints.BEFORE_T3)

        async def complete() -> None:
            progress.answer = await self._completions.complete(operation, decision)

        await uninterrupted(complete(), patience_seconds=PATIENCE_SECONDS)
        await self._failpoints.hit(failpoints.AFTER_T3)

    async def _answer_despite(
        self, error: Exception, change: Change, progress: _Progress
    ) -> StoredResponse:
        """Return the answer that is true after ``error``; raise only if nothing was written."""
        if progress.answer is not None:
            _log.warning("failed_after_the_end", error=repr(error))
            return progress.answer
        if progress.nothing_is_recorded():
            _raise_nothing_written(error)
        expected = is_transient(error) or isinstance(
            error, OutcomeUnknown | LeaseLost | TimeoutError | RecordUnknown
        )
        _log.log(
            _level(expected=expected),
            "outcome_unknown",
            operation_id=str(change.op_id),
            order_id=str(change.command.order_id),
            reason=repr(error),
            exc_info=not expected,
        )
        self._metrics.handed_over(kind_of(change.command))
        await self._hand_over(change, reason=cause_of(error))
        return answers.accepted(change.op_id, change.command.order_id)

    async def _hand_over(self, change: Change, *, reason: str) -> None:
        """Wake recovery; if that fails, its own clock will."""
        try:
            await briefly(
                self._intents.hand_over(change.op_id, reason=reason), seconds=HAND_OVER_SECONDS
            )
        except Exception as error:  # noqa: BLE001 - the answer is true without it
            _log.warning("hand_over_failed", operation_id=str(change.op_id), error=repr(error))


def _last_word(change: Change, progress: _Progress) -> Response:
    """Return what is true of a request that was cut off."""
    if progress.answer is not None:
        return progress.answer.to_response()
    if progress.nothing_is_recorded():
        problem = DeadlineExceeded("The time for this request ran out. Nothing was written.")
        return problems.response(problem, instance=change.path)
    return answers.accepted(change.op_id, change.command.order_id).to_response()


def _raise_nothing_written(error: Exception) -> NoReturn:
    """Raise what a failure before anything was recorded is answered with."""
    if isinstance(error, TimeoutError):
        raise DeadlineExceeded("The time for this request ran out. Nothing was written.") from error
    if isinstance(error, LeaseLost):
        raise OrderLocked("The order's locks were lost. Nothing was written.") from error
    raise error


def _level(*, expected: bool) -> int:
    """Return the logging level: what the protocol expects is a warning, the rest an error."""
    return logging.WARNING if expected else logging.ERROR
