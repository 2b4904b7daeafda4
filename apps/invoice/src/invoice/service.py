"""The use cases: preconditions, repetitions, the caller's lock, and then the decision."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from invoice import failpoints
from invoice.domain import (
    Body,
    Invoice,
    InvoiceStatus,
    invoice_id_for_order,
    is_operation_of,
    lock_names,
)
from invoice.errors import (
    ChangedMeanwhile,
    IdempotencyKeyReused,
    InvoiceNotFound,
    OperationNotFound,
    OutcomeUnknown,
    StaleLock,
)
from invoice.fields import BODY
from invoice.locks import LockGuard
from invoice.metrics import InvoiceMetrics
from invoice.repository import (
    ARCHIVED,
    invoice_archive,
    invoice_of,
    invoice_records,
    page_of,
)
from invoice.terms import Terms
from servicekit import deadlines, idempotency, problems
from servicekit.auth.principal import Principal
from servicekit.failpoints import Failpoints
from servicekit.problems import DeadlineExceeded
from servicekit.walks import Walk
from tandem import errors
from tandem.archive import Position
from tandem.decider import PURGE_BATCH, Decision, DecisionPoint, Identity, Proposal, Record, Records
from tandem.operation import FIRST_VERSION, NO_FENCE, Kind, Outcome, Refusal
from tandem.store import Store

_ATTEMPTS: Final = 3
_PURGE_SECONDS: Final = 30.0
"""Limit for one batch of a purge, also on a connection that has gone silent."""
_MARGIN_SECONDS: Final = 2.0
"""How long a request has to answer once the end of its commit is known."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _ChangeRequest:
    """A change as asked for, not yet aimed at a version."""

    invoice_id: uuid.UUID
    kind: Kind
    values: Mapping[str, Any]
    op_id: uuid.UUID
    request_hash: bytes
    terms: Terms

    def on_version(self, base: int, *, direct: bool) -> Proposal:
        """Return the operation that builds on version ``base``."""
        return Proposal(
            identity=Identity(self.op_id, self.invoice_id, direct),
            request_hash=self.request_hash,
            kind=self.kind,
            version=base + 1,
            values=self.values,
            demands_version=self.terms.if_match is not None,
            path=f"/invoices/{self.invoice_id}",
        )


class InvoiceService:
    """What can be done with invoices.

    Args:
        store: the invoice database.
        records: the statements by which invoices are decided about.
        decisions: decides.
        guard: says whether the caller holds the lock.
        metrics: count what happens.
        points: where tests make it fail.
        timeout_seconds: limit for a decision where the request brings none.
        patience_seconds: how long after its deadline a request waits for the end of its commit.
        clock: the present time.
    """

    def __init__(
        self,
        *,
        store: Store,
        records: Records,
        decisions: DecisionPoint,
        guard: LockGuard,
        metrics: InvoiceMetrics,
        points: Failpoints,
        timeout_seconds: float,
        patience_seconds: float,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._records = records
        self._archive = invoice_archive()
        self._archived = invoice_records(decisions=ARCHIVED)
        self._archived_up_to: Position | None = None
        self._decisions = decisions
        self._guard = guard
        self._metrics = metrics
        self._points = points
        self._timeout_seconds = timeout_seconds
        self._patience_seconds = patience_seconds
        self._clock = clock

    async def invoice(self, invoice_id: uuid.UUID) -> Invoice:
        """Return an invoice as last committed.

        Raises:
            InvoiceNotFound: there is none.
        """
        row = await self._records.subject(self._store, invoice_id)
        if row is None:
            raise InvoiceNotFound(f"There is no invoice {invoice_id}.")
        return invoice_of(row)

    async def page(
        self,
        *,
        limit: int,
        after: Walk | None,
        user_id: uuid.UUID | None,
        status: InvoiceStatus | None,
    ) -> tuple[list[Invoice], Walk | None]:
        """Return the next page of a walk over invoices, the newest first."""
        return await page_of(
            self._store.rows, limit=limit, after=after, user_id=user_id, status=status
        )

    async def operation(
        self, op_id: uuid.UUID, *, invoice_id: uuid.UUID | None, asked_by: Principal
    ) -> Record:
        """Return what has become of an operation.

        Args:
            op_id: its id.
            invoice_id: its invoice, for who must not take another's record for its own.
            asked_by: who asks.

        Raises:
            OperationNotFound: nothing is recorded; it may still be on its way. Or it is another
                client's.
        """
        if not _may_see(asked_by, op_id):
            raise OperationNotFound(f"Nothing is recorded under operation {op_id}.")
        for records in (self._records, self._archived):
            if invoice_id is None:
                recorded = await records.find_anywhere(self._store, op_id)
            else:
                identity = Identity(op_id, invoice_id, direct=False)
                recorded = await records.find(self._store, identity)
            if recorded is not None:
                return recorded
        raise OperationNotFound(f"Nothing is recorded under operation {op_id}.")

    async def abort(self, op_id: uuid.UUID, invoice_id: uuid.UUID) -> Record:
        """Record a tombstone unless the operation is decided, and return what stands."""
        identity = Identity(op_id, invoice_id, direct=False)
        limit = self._committed_to(op_id)
        decision = await _true_of(self._decisions.abort(identity, deadline_seconds=limit), op_id)
        return decision.record

    async def create(self, body: Body, *, order_id: uuid.UUID | None, terms: Terms) -> Record:
        """Create an invoice; one of an order under the order's lock.

        Raises:
            PreconditionRequired: an order's invoice needs an idempotency key.
            IdempotencyKeyReused: the key belongs to another request.
            InvoiceNotLocked: the caller does not hold the lock.
            ServiceUnavailable: Redis did not say so; nothing was written.
        """
        if order_id is not None:
            terms.require_internal()
            terms.require_operation()
        content = {**BODY.to_payload(body), "order_id": order_id}
        invoice_id = uuid.uuid4() if order_id is None else invoice_id_for_order(order_id)
        proposal = Proposal(
            identity=Identity(terms.operation_id(), invoice_id, direct=order_id is None),
            request_hash=idempotency.request_hash("POST /invoices", content),
            kind=Kind.CREATE,
            version=FIRST_VERSION,
            values={"order_id": order_id, **BODY.to_columns(body)},
            demands_version=True,
            path="/invoices",
        )
        if terms.key is not None:
            known = await self._records.find(self._store, proposal.identity)
            if known is not None:
                return self._repeated(known, proposal.request_hash)
        fence = NO_FENCE
        if order_id is not None:
            fence = await self._fence(terms, invoice_id, order_id)
        return await self._decide(proposal, fence=fence)

    async def update(
        self, invoice_id: uuid.UUID, values: Mapping[str, Any], *, terms: Terms
    ) -> Record:
        """Give an invoice another body, but for what is said for good.

        Raises what ``_change`` says.
        """
        return await self._change(
            _ChangeRequest(
                invoice_id=invoice_id,
                kind=Kind.UPDATE,
                values=BODY.as_columns(values),
                op_id=terms.operation_id(),
                request_hash=_change_hash("PATCH", invoice_id, terms, BODY.as_json(values)),
                terms=terms,
            )
        )

    async def delete(self, invoice_id: uuid.UUID, *, terms: Terms) -> Record:
        """Mark an invoice as deleted; raises what ``_change`` says."""
        return await self._change(
            _ChangeRequest(
                invoice_id=invoice_id,
                kind=Kind.DELETE,
                values={},
                op_id=terms.operation_id(),
                # As the first release wrote it.
                request_hash=_change_hash("DELETE", invoice_id, terms, {"total": None}),
                terms=terms,
            )
        )

    async def purge(self, *, retention_seconds: float) -> int:
        """Remove direct clients' operations older than their retention, in small transactions."""
        before = self._clock() - timedelta(seconds=retention_seconds)
        total = 0
        while True:
            async with asyncio.timeout(_PURGE_SECONDS):
                count = await self._records.purge(self._store, before=before)
            self._metrics.purged(count)
            total += count
            if count < PURGE_BATCH:
                return total

    async def archive(self, *, retention_seconds: float) -> int:
        """Move operations that were superseded so long ago to the archive; return how many.

        In small transactions. A round goes on where the last one ended; after a start, and after a
        failure, it looks once at all that stays: at each invoice's last operation.
        """
        total, done = 0, False
        position, self._archived_up_to = self._archived_up_to, None
        while not done:
            async with asyncio.timeout(_PURGE_SECONDS):
                batch = await self._archive.move(
                    self._store.rows, older_than_seconds=retention_seconds, after=position
                )
            self._metrics.archived(batch.moved)
            total += batch.moved
            position, done = batch.position, batch.is_last
        self._archived_up_to = position
        return total

    async def _change(self, request: _ChangeRequest) -> Record:
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

    async def _try_change(self, request: _ChangeRequest) -> Record:
        terms = request.terms
        known_as = None if terms.key is None else request.op_id
        look = await self._records.look(self._store, request.invoice_id, known_as)
        if look.record is not None:
            return self._repeated(look.record, request.request_hash)
        if look.subject is None:
            return await self._refuse_unknown(request)
        invoice = invoice_of(look.subject)
        direct = invoice.order_id is None
        if not direct:
            terms.require_internal()
        # The lock first: whoever does not hold it is told that, whatever else is missing.
        fence = await self._fence(terms, invoice.id, invoice.order_id)
        if not direct:
            terms.require_operation()
            terms.require_version()
        base = terms.base_version(invoice.version)
        if base is None:
            proposal = request.on_version(invoice.version, direct=direct)
            return await self._refuse(proposal, Refusal.WRONG_VERSION)
        return await self._decide(request.on_version(base, direct=direct), fence=fence)

    async def _refuse_unknown(self, request: _ChangeRequest) -> Record:
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
        proposal = request.on_version(terms.require_version(), direct=False)
        return await self._refuse(proposal, Refusal.NOT_FOUND)

    async def _decide(self, proposal: Proposal, *, fence: int) -> Record:
        op_id = proposal.identity.op_id
        limit = self._committed_to(op_id)
        deciding = self._decisions.decide(proposal, fence=fence, deadline_seconds=limit)
        return self._settled(proposal, await _true_of(deciding, op_id))

    async def _refuse(self, proposal: Proposal, refusal: Refusal) -> Record:
        op_id = proposal.identity.op_id
        limit = self._committed_to(op_id)
        refusing = self._decisions.refuse(proposal, refusal, deadline_seconds=limit)
        return self._settled(proposal, await _true_of(refusing, op_id))

    def _committed_to(self, op_id: uuid.UUID) -> float:
        """Say what is true of the request from now on, and return how many seconds it has left."""
        limit = deadlines.remaining_seconds(at_most_seconds=self._timeout_seconds)
        unknown = OutcomeUnknown(op_id)
        deadlines.commit_to(
            lambda: problems.response(unknown, instance=f"/operations/{op_id}"),
            within_seconds=limit + self._patience_seconds + _MARGIN_SECONDS,
        )
        return limit

    async def _fence(self, terms: Terms, invoice_id: uuid.UUID, order_id: uuid.UUID | None) -> int:
        await self._points.hit(failpoints.BEFORE_LOCK_CHECK)
        fence = await self._guard.fence_of(terms.proof, lock_names(invoice_id, order_id))
        await self._points.hit(failpoints.AFTER_LOCK_CHECK)
        return fence

    def _settled(self, proposal: Proposal, decision: Decision) -> Record:
        if decision.new:
            return decision.record
        return self._repeated(decision.record, proposal.request_hash)

    def _repeated(self, recorded: Record, request_hash: bytes) -> Record:
        """Return a recorded operation to a request that repeats it.

        A tombstone has no request of its own: it answers whichever one comes under its id.

        Raises:
            IdempotencyKeyReused: the request is another one.
        """
        if recorded.outcome is not Outcome.ABORTED and recorded.request_hash != request_hash:
            raise IdempotencyKeyReused("This Idempotency-Key belongs to a different request.")
        self._metrics.replayed(recorded.outcome)
        return recorded


def _may_see(principal: Principal, op_id: uuid.UUID) -> bool:
    if principal.is_internal or principal.sees_all:
        return True
    return is_operation_of(principal.client, op_id)


async def _true_of(deciding: Awaitable[Decision], op_id: uuid.UUID) -> Decision:
    """Return the decision, or raise what a client is told when there is none."""
    try:
        return await deciding
    except errors.StaleFence as error:
        raise StaleLock(f"Nothing was written: {error}.") from error
    except errors.ChangedMeanwhile as error:
        raise ChangedMeanwhile(f"Nothing was written: {error}.") from error
    except errors.GivenUp as error:
        raise DeadlineExceeded("The time for this request ran out. Nothing was written.") from error
    except errors.CommitUnknown as error:
        raise OutcomeUnknown(op_id) from error


def _change_hash(
    method: str, invoice_id: uuid.UUID, terms: Terms, content: Mapping[str, Any]
) -> bytes:
    if_match = None if terms.if_match is None else terms.if_match.canonical()
    return idempotency.request_hash(
        f"{method} /invoices/{invoice_id}", {**content, "if_match": if_match}
    )
