"""The decision point: one transaction, called T2 in the protocol, decides each operation once.

The operation is recorded first, under its id and under the version that it makes; then the row is
changed only if it is at the version before and no newer lock has written. What is recorded is the
decision, and everything after it is a repetition. So a COMMIT whose reply was lost is found out
about by deciding once more.
"""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from invoice import failpoints, operations
from invoice.domain import NO_FENCE, Command, Create, Invoice, Refusal, refusal_of
from invoice.errors import ChangedMeanwhile, OutcomeUnknown, StaleLock
from invoice.metrics import InvoiceMetrics
from invoice.operations import Identity, Operation, RecordedOperation
from invoice.repository import InvoiceRepository
from servicekit import commits, deadlines, problems
from servicekit.commits import Attempt
from servicekit.failpoints import Failpoints
from servicekit.problems import DeadlineExceeded

_PATIENCE_SECONDS: Final = 10.0
"""How long after its deadline a request waits for the end of its COMMIT."""
_MARGIN_SECONDS: Final = 2.0
"""How long after that the request has to answer."""

Sessions = async_sessionmaker[AsyncSession]
Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Decision:
    """What stands under an operation's id."""

    recorded: RecordedOperation
    new: bool
    """Whether it was recorded just now."""


class DecisionPoint:
    """Decides operations in the invoice database.

    Args:
        sessions: make transactions.
        repository: makes the statements of a transaction.
        metrics: count what is decided.
        points: where tests make it fail.
        clock: the present time.
        timeout_seconds: limit for a decision outside of a request, which brings its own.
    """

    def __init__(
        self,
        *,
        sessions: Sessions,
        repository: type[InvoiceRepository],
        metrics: InvoiceMetrics,
        points: Failpoints,
        clock: Clock,
        timeout_seconds: float,
    ) -> None:
        self._repository = repository
        self._sessions = sessions
        self._metrics = metrics
        self._points = points
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    async def decide(self, operation: Operation, *, fence: int) -> Decision:
        """Apply the operation, or record why that is impossible, or find it decided already.

        Args:
            operation: what to do.
            fence: the fence of the caller's lock.

        Raises:
            StaleLock: a newer lock has written; nothing was recorded.
            ChangedMeanwhile: the row changed at this moment; nothing was recorded.
            DeadlineExceeded: the request's time ran out; nothing was recorded.
            OutcomeUnknown: the database did not say whether it was recorded.
        """
        await self._points.hit(failpoints.BEFORE_T2)

        async def transaction(attempt: Attempt) -> Decision:
            async with self._sessions.begin() as session:
                repository = self._repository(session)
                decision = await self._record(repository, operation, attempt, fence=fence)
                await self._points.hit(failpoints.IN_T2_BEFORE_COMMIT)
                attempt.commits_now()
            return decision

        decision = await self._known(transaction, operation.identity)
        await self._points.hit(failpoints.AFTER_T2)
        return decision

    async def refuse(self, operation: Operation, refusal: Refusal) -> Decision:
        """Record that an operation can never take effect, unless it is decided already."""
        rejected = operations.rejected(operation, refusal, fence=NO_FENCE, now=self._clock())
        return await self._first_writer(rejected)

    async def abort(self, op_id: uuid.UUID, invoice_id: uuid.UUID) -> Decision:
        """Record a tombstone, unless the operation is decided already: the first writer wins."""
        await self._points.hit(failpoints.BEFORE_ABORT)
        decision = await self._first_writer(
            operations.aborted(op_id, invoice_id, now=self._clock())
        )
        await self._points.hit(failpoints.AFTER_ABORT)
        return decision

    async def _first_writer(self, operation: RecordedOperation) -> Decision:
        async def transaction(attempt: Attempt) -> Decision:
            async with self._sessions.begin() as session:
                decision = await _record_or_find(self._repository(session), operation)
                if decision.new:
                    attempt.proved_unwritten()
                attempt.commits_now()
            return decision

        return await self._known(transaction, operation.identity)

    async def _known(
        self, transaction: Callable[[Attempt], Awaitable[Decision]], identity: Identity
    ) -> Decision:
        """Commit, and return or raise only what is true of it."""
        deadline_seconds = deadlines.remaining_seconds(at_most_seconds=self._timeout_seconds)
        unknown = OutcomeUnknown(identity.op_id)
        deadlines.commit_to(
            lambda: problems.response(unknown, instance=f"/operations/{identity.op_id}"),
            within_seconds=deadline_seconds + _PATIENCE_SECONDS + _MARGIN_SECONDS,
        )
        try:
            decision = await commits.known(
                transaction,
                deadline_seconds=deadline_seconds,
                patience_seconds=_PATIENCE_SECONDS,
                event="decision_commit_lost",
            )
        except commits.GivenUp as error:
            raise DeadlineExceeded(
                "The time for this request ran out. Nothing was written."
            ) from error
        except commits.CommitUnknown as error:
            raise unknown from error
        self._count(decision)
        return decision

    async def _record(
        self,
        repository: InvoiceRepository,
        operation: Operation,
        attempt: Attempt,
        *,
        fence: int,
    ) -> Decision:
        now = self._clock()
        created = _invoice_of(operation.command, fence=fence, now=now)
        applied = operations.applied(operation, created=created, fence=fence, now=now)
        if not await repository.record(applied):
            return await self._after_conflict(repository, operation, fence=fence, now=now)
        # The INSERT has waited for whichever transaction was recording the same: there is none.
        attempt.proved_unwritten()
        await self._points.hit(failpoints.IN_T2_AFTER_INSERT)
        if await _write(repository, operation, created, fence=fence, now=now):
            return Decision(applied, new=True)
        refusal = await self._why(repository, operation, fence=fence)
        rejected = operations.rejected(operation, refusal, fence=fence, now=now)
        await repository.overrule(rejected)
        return Decision(rejected, new=True)

    async def _after_conflict(
        self, repository: InvoiceRepository, operation: Operation, *, fence: int, now: datetime
    ) -> Decision:
        """Find out what an INSERT met: the operation itself, or another that made its version."""
        known = await repository.recorded(operation.identity)
        if known is not None:
            return Decision(known, new=False)
        refusal = await self._why(repository, operation, fence=fence)
        rejected = operations.rejected(operation, refusal, fence=fence, now=now)
        return await _record_or_find(repository, rejected)

    async def _why(
        self, repository: InvoiceRepository, operation: Operation, *, fence: int
    ) -> Refusal:
        """Return why the row does not let the operation through, if that reason stays."""
        command = operation.command
        if isinstance(command, Create):
            return Refusal.EXISTS
        refusal = refusal_of(await repository.find(command.invoice_id), command, fence=fence)
        if refusal is Refusal.STALE_FENCE:
            self._metrics.fence_rejected()
            raise StaleLock(f"Invoice {command.invoice_id} was changed under a newer lock.")
        if refusal is None or (refusal is Refusal.WRONG_VERSION and not operation.demands_version):
            raise ChangedMeanwhile("The invoice changed at this moment; nothing was written.")
        return refusal

    def _count(self, decision: Decision) -> None:
        if decision.new:
            self._metrics.recorded(decision.recorded.kind, decision.recorded.outcome)


async def _write(
    repository: InvoiceRepository,
    operation: Operation,
    created: Invoice | None,
    *,
    fence: int,
    now: datetime,
) -> bool:
    """Write the row; tell whether it let the operation through."""
    command = operation.command
    if created is not None or isinstance(command, Create):
        return created is not None and await repository.add(created, op_id=operation.id)
    return await repository.apply(command, op_id=operation.id, fence=fence, now=now)


async def _record_or_find(repository: InvoiceRepository, operation: RecordedOperation) -> Decision:
    """Record an operation that makes no version, or return what its id stands for already."""
    if await repository.record(operation):
        return Decision(operation, new=True)
    known = await repository.recorded(operation.identity)
    if known is None:
        raise ChangedMeanwhile("The operation was purged at this moment; nothing was written.")
    return Decision(known, new=False)


def _invoice_of(command: Command, *, fence: int, now: datetime) -> Invoice | None:
    """Return the invoice that a creation makes; None for a change."""
    if not isinstance(command, Create):
        return None
    return Invoice(
        id=command.invoice_id,
        order_id=command.order_id,
        user_id=command.user_id,
        total=command.total,
        status=command.status,
        version=command.version,
        fence=fence,
        created_at=now,
        updated_at=now,
    )
