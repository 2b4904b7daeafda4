"""Change a subject here and at the decider, or neither: the protocol from the request to the reply.

1. A known idempotency key is answered from what is kept; a decider that is down, with an error.
2. The locks are taken, or the answer is that somebody else has them.
3. The *intent* records the operation; one that is pending already is finished first.
4. The decider is asked to apply it: the *decision* (``delivery``).
5. The *completion* makes the subject follow.
6. The locks are released, and the client gets its answer.

Once step 3 may have been committed there is no way back, only forward: whatever fails later, and
however late it is, the answer is that the outcome is not known yet, and recovery finishes what is
left.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final, Generic, NoReturn

import structlog

from tandem.commits import Attempt
from tandem.errors import (
    GivenUp,
    LeaseLost,
    Locked,
    OutcomeUnknown,
    PredecessorUnfinished,
    RecordUnknown,
    cause_of,
    is_transient,
)
from tandem.failpoints import Failpoints
from tandem.initiator.completion import Completions
from tandem.initiator.delivery import Delivery
from tandem.initiator.finishing import Finishing
from tandem.initiator.intent import Intents
from tandem.initiator.points import Points
from tandem.initiator.ports import (
    Answered,
    Answers,
    Blocked,
    ChangeT,
    Deadlines,
    Decider,
    Intent,
    Lease,
    Locks,
    Observer,
    Recorded,
)
from tandem.initiator.subject import OpT, SubjectT
from tandem.operation import Answer
from tandem.tasks import briefly

# How many operations of others one request finishes before it gives up.
_HELPED_AT_MOST: Final = 3
PATIENCE_SECONDS: Final = 1.0
"""How long after its deadline a request waits for its own transaction to end."""
HAND_OVER_SECONDS: Final = 1.0
"""How long a request tries to wake recovery before it answers that the outcome is not known."""
_MARGIN_SECONDS: Final = 2.0
"""How long after all that the locks may take to be released."""
_log = structlog.stdlib.get_logger(__name__)


@dataclass
class _Progress(Generic[OpT]):
    """How far a request has come; what it may answer depends on nothing else."""

    attempt: Attempt = field(default_factory=Attempt)
    operation: OpT | None = None
    answer: Answer | None = None

    def note(self, intent: Intent[OpT]) -> None:
        """Take down what became of the intent, also when nobody waits for it any more."""
        match intent:
            case Recorded(operation):
                self.operation = operation
            case Answered(response):
                self.answer = response

    def end(self, answer: Answer) -> None:
        """Take down the answer that is true from now on."""
        self.answer = answer

    def nothing_is_recorded(self) -> bool:
        """Tell whether that is certain, and see to it that it stays so if it is."""
        return self.operation is None and self.attempt.give_up()


class Changes(Generic[ChangeT, OpT, SubjectT]):
    """Carries out changes.

    Args:
        locks: the locks on subjects.
        intents: how an operation is recorded.
        decider: the service that decides.
        delivery: how an operation is sent to it.
        completions: how the subject follows.
        finishing: how an operation that is in the way is finished.
        answers: how changes are answered.
        observer: counts replays, help and what is left to recovery.
        points: the names of the failpoints.
        failpoints: where tests make it fail.
        deadlines: how long callers wait.
        lock_wait_seconds: how long to wait for the locks.
        timeout_seconds: limit for one change where the request brings none.
    """

    def __init__(
        self,
        *,
        locks: Locks,
        intents: Intents[ChangeT, OpT, SubjectT],
        decider: Decider[OpT],
        delivery: Delivery[OpT],
        completions: Completions[OpT, SubjectT],
        finishing: Finishing[OpT, SubjectT],
        answers: Answers[ChangeT, OpT, SubjectT],
        observer: Observer,
        points: Points,
        failpoints: Failpoints,
        deadlines: Deadlines,
        lock_wait_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self._locks = locks
        self._intents = intents
        self._noun = intents.schema.noun
        self._decider = decider
        self._delivery = delivery
        self._completions = completions
        self._finishing = finishing
        self._answers = answers
        self._observer = observer
        self._points = points
        self._failpoints = failpoints
        self._deadlines = deadlines
        self._lock_wait_seconds = lock_wait_seconds
        self._timeout_seconds = timeout_seconds

    async def apply(self, change: ChangeT) -> Answer:
        """Carry out ``change`` and return its answer.

        Raises:
            GivenUp: the time ran out; nothing was written.
            Locked: somebody else has the locks, or they were lost; nothing was written.
            PredecessorUnfinished: an earlier change cannot be finished; nothing was written.
            Exception: what the intent, the locks or the decider raise; nothing was written.
        """
        if change.key is not None:
            known = await self._intents.replay(change.key)
            if known is not None:
                self._observer.replayed()
                return known
        # After the look for the key: what is decided is told while the decider is down.
        self._decider.require_available()
        progress: _Progress[OpT] = _Progress()
        try:
            await self._run(change, progress)
            await self._failpoints.hit(self._points.before_reply)
        except Exception as error:  # noqa: BLE001 - raised again unless there is something truer
            return await self._answer_despite(error, change, progress)
        assert progress.answer is not None  # noqa: S101 - _run ends with an answer or an error
        return progress.answer

    async def _run(self, change: ChangeT, progress: _Progress[OpT]) -> None:
        await self._failpoints.hit(self._points.before_lock)
        limit = self._deadlines.remaining_seconds(at_most_seconds=self._timeout_seconds)
        # The limit stands outside of the locks, so that giving them back is within it too; it ends
        # waits only, since what writes is not interrupted.
        async with (
            asyncio.timeout(limit),
            self._locks.hold(
                change.subject_id, wait_seconds=min(limit, self._lock_wait_seconds)
            ) as lease,
        ):
            await self._failpoints.hit(self._points.after_lock)
            await self._under_lock(change, progress, lease)
            await self._failpoints.hit(self._points.before_release)
        await self._failpoints.hit(self._points.after_release)

    async def _under_lock(self, change: ChangeT, progress: _Progress[OpT], lease: Lease) -> None:
        match await self._record(change, progress, lease):
            case Answered(replayed=replayed):
                if replayed:
                    self._observer.replayed()
            case Recorded(operation):
                await self._failpoints.hit(self._points.after_intent)
                await self._carry_out(operation, progress, lease)
            case Blocked():
                # Not for ever: each turn finishes somebody else's work while our client waits.
                raise Locked(f"Other operations of this {self._noun} kept coming first.")

    async def _record(self, change: ChangeT, progress: _Progress[OpT], lease: Lease) -> Intent[OpT]:
        """Record the operation, finishing first what is in the way."""
        await self._failpoints.hit(self._points.before_intent)
        intent = await self._record_once(change, progress)
        for _ in range(_HELPED_AT_MOST):
            if not isinstance(intent, Blocked):
                break
            await self._help(intent.pending, lease)
            intent = await self._record_once(change, progress)
        return intent

    async def _record_once(self, change: ChangeT, progress: _Progress[OpT]) -> Intent[OpT]:
        # Before the last word may be asked for: one that was proved unwritten says nothing of this.
        progress.attempt = Attempt()
        left = self._deadlines.remaining_seconds(at_most_seconds=self._timeout_seconds)
        self._deadlines.commit_to(
            lambda: self._last_word(change, progress),
            within_seconds=left + 2 * PATIENCE_SECONDS + HAND_OVER_SECONDS + _MARGIN_SECONDS,
        )
        return await self._intents.record(change, progress.attempt, told=progress.note)

    async def _help(self, pending: OpT, lease: Lease) -> None:
        _log.info("helping", **self._intents.schema.logged(pending))
        try:
            await self._finishing.carry_out(pending, lease)
        except OutcomeUnknown as error:
            # Theirs is unknown, ours is not recorded: as OutcomeUnknown it would be answered 202.
            raise PredecessorUnfinished(str(pending.id)) from error
        self._observer.helped(pending.kind)

    async def _carry_out(self, operation: OpT, progress: _Progress[OpT], lease: Lease) -> None:
        decision = await self._delivery.deliver(operation, lease)
        await self._failpoints.hit(self._points.before_completion)

        await self._completions.complete(operation, decision, told=progress.end)
        await self._failpoints.hit(self._points.after_completion)

    async def _answer_despite(
        self, error: Exception, change: ChangeT, progress: _Progress[OpT]
    ) -> Answer:
        """Return the answer that is true after ``error``; raise only if nothing was written."""
        if progress.answer is not None:
            # Such as a lock that could not be released: its lease ends by itself.
            _log.warning("failed_after_the_end", error=repr(error))
            return progress.answer
        if progress.nothing_is_recorded():
            self._raise_nothing_written(error)
        expected = is_transient(error) or isinstance(
            error, OutcomeUnknown | LeaseLost | TimeoutError | RecordUnknown
        )
        _log.log(
            _level(expected=expected),
            "outcome_unknown",
            operation_id=str(change.op_id),
            **{self._intents.schema.subject_id: str(change.subject_id)},
            reason=repr(error),
            exc_info=not expected,
        )
        self._observer.handed_over(change.kind)
        await self._hand_over(change, reason=cause_of(error))
        return self._answers.accepted(change)

    async def _hand_over(self, change: ChangeT, *, reason: str) -> None:
        """Wake recovery; if that fails, its own clock will."""
        try:
            await briefly(
                self._intents.hand_over(change.op_id, reason=reason), seconds=HAND_OVER_SECONDS
            )
        except Exception as error:  # noqa: BLE001 - the answer is true without it
            _log.warning("hand_over_failed", operation_id=str(change.op_id), error=repr(error))

    def _raise_nothing_written(self, error: Exception) -> NoReturn:
        """Raise what a failure before anything was recorded is answered with."""
        if isinstance(error, TimeoutError):
            raise GivenUp from error
        if isinstance(error, LeaseLost):
            # For the client the same as a lock not had: somebody else may be at it, try again.
            raise Locked(f"The {self._noun}'s locks were lost. Nothing was written.") from error
        raise error

    def _last_word(self, change: ChangeT, progress: _Progress[OpT]) -> Answer:
        """Return what is true of a request that was cut off."""
        if progress.answer is not None:
            return progress.answer
        if progress.nothing_is_recorded():
            return self._answers.out_of_time(change)
        return self._answers.accepted(change)


def _level(*, expected: bool) -> int:
    """Return the logging level: what the protocol expects is a warning, the rest an error."""
    return logging.WARNING if expected else logging.ERROR
