"""The use cases: preconditions, repetitions, the caller's lock, and then the decision."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from invoice import failpoints
from invoice.decision import Clock, Decision, DecisionPoint, Sessions
from invoice.domain import (
    NO_FENCE,
    Change,
    Create,
    Delete,
    Invoice,
    InvoiceStatus,
    Outcome,
    Refusal,
    Update,
    invoice_id_for_order,
    lock_names,
)
from invoice.errors import (
    ChangedMeanwhile,
    IdempotencyKeyReused,
    InvoiceNotFound,
    OperationNotFound,
)
from invoice.locks import LockGuard
from invoice.metrics import InvoiceMetrics
from invoice.operations import Identity, Operation, RecordedOperation
from invoice.repository import PURGE_BATCH, InvoiceRepository
from invoice.terms import Terms
from servicekit import idempotency
from servicekit.failpoints import Failpoints
from servicekit.money import to_text
from servicekit.walks import Walk

_ATTEMPTS: Final = 3
_PURGE_SECONDS: Final = 30.0
"""Limit for one batch of a purge, also on a connection that has gone silent."""


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _ChangeRequest:
    """A change as asked for, not yet aimed at a version."""

    invoice_id: uuid.UUID
    aim: Callable[[int], Change]
    op_id: uuid.UUID
    request_hash: bytes
    terms: Terms

    def on_version(self, base: int, *, direct: bool) -> Operation:
        """Return the operation that builds on version ``base``."""
        return Operation(
            id=self.op_id,
            request_hash=self.request_hash,
            command=self.aim(base + 1),
            direct=direct,
            demands_version=self.terms.if_match is not None,
            instance=f"/invoices/{self.invoice_id}",
        )


class InvoiceService:
    """What can be done with invoices.

    Args:
        sessions: make transactions.
        reads: make sessions for single statements, without a transaction around them.
        guard: says whether the caller holds the lock.
        metrics: count what happens.
        points: where tests make it fail.
        timeout_seconds: limit for a decision where the request brings none.
        clock: the present time.
        repository: makes the statements of a transaction.
    """

    def __init__(
        self,
        *,
        sessions: Sessions,
        reads: Sessions,
        guard: LockGuard,
        metrics: InvoiceMetrics,
        points: Failpoints,
        timeout_seconds: float,
        clock: Clock = utc_now,
        repository: type[InvoiceRepository] = InvoiceRepository,
    ) -> None:
        self._repository = repository
        self._sessions = sessions
        self._reads = reads
        self._guard = guard
        self._metrics = metrics
        self._points = points
        self._clock = clock
        self._decisions = DecisionPoint(
            sessions=sessions,
            repository=repository,
            metrics=metrics,
            points=points,
            clock=clock,
            timeout_seconds=timeout_seconds,
        )

    async def invoice(self, invoice_id: uuid.UUID) -> Invoice:
        """Return an invoice as last committed.

        Raises:
            InvoiceNotFound: there is none.
        """
        async with self._reads() as session:
            invoice = await self._repository(session).find(invoice_id)
        if invoice is None:
            raise InvoiceNotFound(f"There is no invoice {invoice_id}.")
        return invoice

    async def page(
        self,
        *,
        limit: int,
        after: Walk | None,
        user_id: uuid.UUID | None,
        status: InvoiceStatus | None,
    ) -> tuple[list[Invoice], Walk | None]:
        """Return the next page of a walk over invoices, the newest first."""
        async with self._reads() as session:
            return await self._repository(session).page(
                limit=limit, after=after, user_id=user_id, status=status
            )

    async def operation(
        self, op_id: uuid.UUID, *, invoice_id: uuid.UUID | None
    ) -> RecordedOperation:
        """Return what has become of an operation.

        Args:
            op_id: its id.
            invoice_id: its invoice, for who must not take another's record for its own.

        Raises:
            OperationNotFound: nothing is recorded; it may still be on its way.
        """
        async with self._reads() as session:
            repository = self._repository(session)
            if invoice_id is None:
                recorded = await repository.recorded_anywhere(op_id)
            else:
                recorded = await repository.recorded(Identity(op_id, invoice_id, direct=False))
        if recorded is None:
            raise OperationNotFound(f"Nothing is recorded under operation {op_id}.")
        return recorded

    async def abort(self, op_id: uuid.UUID, invoice_id: uuid.UUID) -> RecordedOperation:
        """Record a tombstone unless the operation is decided, and return what stands."""
        return (await self._decisions.abort(op_id, invoice_id)).recorded

    async def create(
        self, *, user_id: uuid.UUID, total: Decimal, order_id: uuid.UUID | None, terms: Terms
    ) -> RecordedOperation:
        """Create an invoice; one of an order under the order's lock.

        Raises:
            PreconditionRequired: an order's invoice needs an idempotency key.
            IdempotencyKeyReused: the key belongs to another request.
            InvoiceNotLocked: the caller does not hold the lock.
            ServiceUnavailable: Redis did not say so; nothing was written.
        """
        if order_id is not None:
            terms.require_operation()
        content = {"user_id": user_id, "total": to_text(total), "order_id": order_id}
        invoice_id = uuid.uuid4() if order_id is None else invoice_id_for_order(order_id)
        operation = Operation(
            id=terms.operation_id(),
            request_hash=idempotency.request_hash("POST /invoices", content),
            command=Create(invoice_id, order_id, user_id, total),
            direct=order_id is None,
            demands_version=True,
            instance="/invoices",
        )
        if terms.key is not None and (known := await self._known(operation.identity)) is not None:
            return self._repeated(known, operation.request_hash)
        fence = NO_FENCE
        if order_id is not None:
            fence = await self._fence(terms, invoice_id, order_id)
        return self._settled(operation, await self._decisions.decide(operation, fence=fence))

    async def update(
        self, invoice_id: uuid.UUID, *, total: Decimal, terms: Terms
    ) -> RecordedOperation:
        """Give an invoice another total; raises what ``_change`` says."""
        return await self._change(
            _ChangeRequest(
                invoice_id=invoice_id,
                aim=lambda version: Update(invoice_id, version, total),
                op_id=terms.operation_id(),
                request_hash=_change_hash("PATCH", invoice_id, terms, total=to_text(total)),
                terms=terms,
            )
        )

    async def delete(self, invoice_id: uuid.UUID, *, terms: Terms) -> RecordedOperation:
        """Mark an invoice as deleted; raises what ``_change`` says."""
        return await self._change(
            _ChangeRequest(
                invoice_id=invoice_id,
                aim=lambda version: Delete(invoice_id, version),
                op_id=terms.operation_id(),
                request_hash=_change_hash("DELETE", invoice_id, terms, total=None),
                terms=terms,
            )
        )

    async def purge(self, *, retention_seconds: float) -> int:
        """Remove direct clients' operations older than their retention, in small transactions."""
        before = self._clock() - timedelta(seconds=retention_seconds)
        total = 0
        while True:
            async with asyncio.timeout(_PURGE_SECONDS), self._sessions.begin() as session:
                count = await self._repository(session).purge(before=before)
            self._metrics.purged(count)
            total += count
            if count < PURGE_BATCH:
                return total

    async def _change(self, request: _ChangeRequest) -> RecordedOperation:
        """Change an invoice under its lock.

        Without ``If-Match`` the change is aimed at whatever version the invoice has; should it be
        changed between our look and our write, we look again.

        Raises:
            InvoiceNotFound: there is none, and the request has no key to record that under.
            PreconditionRequired: an order's invoice needs a key and a version.
            IdempotencyKeyReused: the key belongs to another request.
            InvoiceNotLocked: the caller does not hold the lock.
            StaleLock: a newer lock has written before; nothing was recorded.
            ServiceUnavailable: Redis did not say so; nothing was written.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._try_change(request)
            except ChangedMeanwhile:
                continue
        return await self._try_change(request)

    async def _try_change(self, request: _ChangeRequest) -> RecordedOperation:
        terms = request.terms
        async with self._reads() as session:
            repository = self._repository(session)
            invoice = await repository.find(request.invoice_id)
            direct = invoice is not None and invoice.order_id is None
            identity = Identity(request.op_id, request.invoice_id, direct)
            known = None if terms.key is None else await repository.recorded(identity)
        if known is not None:
            return self._repeated(known, request.request_hash)
        if invoice is None:
            return await self._refuse_unknown(request)
        # The lock first: whoever does not hold it is told that, whatever else is missing.
        fence = await self._fence(terms, invoice.id, invoice.order_id)
        if not direct:
            terms.require_operation()
            terms.require_version()
        base = terms.base_version(invoice.version)
        if base is None:
            operation = request.on_version(invoice.version, direct=direct)
            decision = await self._decisions.refuse(operation, Refusal.WRONG_VERSION)
        else:
            operation = request.on_version(base, direct=direct)
            decision = await self._decisions.decide(operation, fence=fence)
        return self._settled(operation, decision)

    async def _refuse_unknown(self, request: _ChangeRequest) -> RecordedOperation:
        """Answer 404, and under the order's lock record it, so that its operation has an end.

        Who does not hold that lock records nothing: no answer to a stranger may decide an order's
        operation.
        """
        terms = request.terms
        order_id = terms.order_of(request.invoice_id)
        if order_id is None:
            raise InvoiceNotFound(f"There is no invoice {request.invoice_id}.")
        await self._fence(terms, request.invoice_id, order_id)
        terms.require_operation()
        operation = request.on_version(terms.require_version(), direct=False)
        decision = await self._decisions.refuse(operation, Refusal.NOT_FOUND)
        return self._settled(operation, decision)

    async def _known(self, identity: Identity) -> RecordedOperation | None:
        async with self._reads() as session:
            return await self._repository(session).recorded(identity)

    async def _fence(self, terms: Terms, invoice_id: uuid.UUID, order_id: uuid.UUID | None) -> int:
        await self._points.hit(failpoints.BEFORE_LOCK_CHECK)
        fence = await self._guard.fence_of(terms.proof, lock_names(invoice_id, order_id))
        await self._points.hit(failpoints.AFTER_LOCK_CHECK)
        return fence

    def _settled(self, operation: Operation, decision: Decision) -> RecordedOperation:
        if decision.new:
            return decision.recorded
        return self._repeated(decision.recorded, operation.request_hash)

    def _repeated(self, recorded: RecordedOperation, request_hash: bytes) -> RecordedOperation:
        """Return a recorded operation to a request that repeats it.

        A tombstone has no request of its own: it answers whichever one comes under its id.

        Raises:
            IdempotencyKeyReused: the request is another one.
        """
        if recorded.outcome is not Outcome.ABORTED and recorded.request_hash != request_hash:
            raise IdempotencyKeyReused("This Idempotency-Key belongs to a different request.")
        self._metrics.replayed(recorded.outcome)
        return recorded


def _change_hash(method: str, invoice_id: uuid.UUID, terms: Terms, *, total: str | None) -> bytes:
    if_match = None if terms.if_match is None else terms.if_match.canonical()
    return idempotency.request_hash(
        f"{method} /invoices/{invoice_id}", {"total": total, "if_match": if_match}
    )
