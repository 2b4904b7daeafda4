"""The statements on the invoice database. Callers own the transaction."""

import uuid
from datetime import datetime
from typing import Final

from sqlalchemy import CursorResult, Select, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from invoice.domain import Change, Invoice, InvoiceStatus, OperationKind, Outcome, Update
from invoice.models import AppliedOperation, InvoiceRow
from invoice.operations import Identity, RecordedOperation
from servicekit.idempotency import StoredResponse
from servicekit.walks import Listing, Walk

PURGE_BATCH: Final = 1000
_LISTING: Final = Listing(
    created_at=InvoiceRow.__table__.c.created_at,
    row_id=InvoiceRow.__table__.c.id,
    made_by=InvoiceRow.__table__.c.created_by_xid,
)


class InvoiceRepository:
    """Reads and writes in the transaction of one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def recorded(self, identity: Identity) -> RecordedOperation | None:
        """Return what is recorded of an operation, and of no other that happens to have its id."""
        of_this_invoice = AppliedOperation.invoice_id == identity.invoice_id
        whose = (
            or_(AppliedOperation.direct, of_this_invoice) if identity.direct else of_this_invoice
        )
        return await self._first(
            select(AppliedOperation)
            .where(AppliedOperation.op_id == identity.op_id, whose)
            .order_by(AppliedOperation.direct.desc())
        )

    async def recorded_anywhere(self, op_id: uuid.UUID) -> RecordedOperation | None:
        """Return what was recorded first under an id, an order's operations before others."""
        return await self._first(
            select(AppliedOperation)
            .where(AppliedOperation.op_id == op_id)
            .order_by(AppliedOperation.direct, AppliedOperation.created_at)
        )

    async def _first(self, statement: Select[AppliedOperation]) -> RecordedOperation | None:
        fresh = statement.limit(1).execution_options(populate_existing=True)
        row = (await self._session.execute(fresh)).scalar_one_or_none()
        return None if row is None else _recorded(row)

    async def record(self, operation: RecordedOperation) -> bool:
        """Record an operation unless another has its id or makes its version; tell whether it did.

        Waits for a transaction that is just recording the same: one INSERT, never a look before
        it, so that of two at once exactly one is told yes.
        """
        statement = (
            insert(AppliedOperation)
            .values(_columns(operation))
            .on_conflict_do_nothing()
            .returning(AppliedOperation.op_id)
        )
        return (await self._session.execute(statement)).first() is not None

    async def overrule(self, operation: RecordedOperation) -> None:
        """Replace what this transaction recorded under the same id."""
        statement = (
            update(AppliedOperation)
            .where(
                AppliedOperation.op_id == operation.op_id,
                AppliedOperation.invoice_id == operation.invoice_id,
            )
            .values(_columns(operation))
        )
        await self._session.execute(statement)

    async def find(self, invoice_id: uuid.UUID) -> Invoice | None:
        """Return an invoice as last committed."""
        statement = (
            select(InvoiceRow)
            .where(InvoiceRow.id == invoice_id)
            .execution_options(populate_existing=True)
        )
        row = (await self._session.execute(statement)).scalar_one_or_none()
        return None if row is None else _invoice(row)

    async def add(self, invoice: Invoice, *, op_id: uuid.UUID) -> bool:
        """Insert an invoice unless one has its id or its order; tell whether it did."""
        statement = (
            insert(InvoiceRow)
            .values(
                id=invoice.id,
                order_id=invoice.order_id,
                user_id=invoice.user_id,
                total=invoice.total,
                status=invoice.status.value,
                version=invoice.version,
                fence=invoice.fence,
                last_op=op_id,
                created_at=invoice.created_at,
                updated_at=invoice.updated_at,
            )
            .on_conflict_do_nothing()
            .returning(InvoiceRow.id)
        )
        return (await self._session.execute(statement)).first() is not None

    async def apply(self, change: Change, *, op_id: uuid.UUID, fence: int, now: datetime) -> bool:
        """Change an invoice that is at the version before and not touched by a newer lock.

        Returns:
            Whether the row was changed; if not, nothing was written.
        """
        statement = (
            update(InvoiceRow)
            .where(
                InvoiceRow.id == change.invoice_id,
                InvoiceRow.version == change.version - 1,
                InvoiceRow.status != InvoiceStatus.DELETED.value,
                InvoiceRow.fence <= fence,
            )
            .values(
                status=change.status.value,
                version=change.version,
                fence=fence,
                last_op=op_id,
                # Replicas' clocks differ; a row's time never goes back.
                updated_at=func.greatest(InvoiceRow.updated_at, now),
            )
            .returning(InvoiceRow.id)
            .execution_options(synchronize_session=False)
        )
        if isinstance(change, Update):
            statement = statement.values(total=change.total)
        return (await self._session.execute(statement)).first() is not None

    async def page(
        self,
        *,
        limit: int,
        after: Walk | None,
        user_id: uuid.UUID | None,
        status: InvoiceStatus | None,
    ) -> tuple[list[Invoice], Walk | None]:
        """Return the next at most ``limit`` invoices of a walk, the newest first."""
        statement = select(InvoiceRow)
        if user_id is not None:
            statement = statement.where(InvoiceRow.user_id == user_id)
        if status is not None:
            statement = statement.where(InvoiceRow.status == status.value)
        rows, walk = await _LISTING.page(self._session.execute, statement, after=after, limit=limit)
        return [_invoice(row[0]) for row in rows], walk

    async def purge(self, *, before: datetime) -> int:
        """Remove one batch of direct clients' operations recorded before ``before``.

        An order's operations and tombstones are never removed, nor is an invoice's last operation,
        to which its row refers. Returns how many were removed.
        """
        last_of_an_invoice = select(InvoiceRow.id).where(
            InvoiceRow.last_op == AppliedOperation.op_id,
            InvoiceRow.id == AppliedOperation.invoice_id,
        )
        expired = (
            select(AppliedOperation.op_id)
            .where(
                AppliedOperation.direct,
                AppliedOperation.created_at < before,
                ~last_of_an_invoice.exists(),
            )
            .order_by(AppliedOperation.created_at)
            .limit(PURGE_BATCH)
            .with_for_update(skip_locked=True, of=AppliedOperation)
        )
        statement = (
            delete(AppliedOperation)
            .where(AppliedOperation.op_id.in_(expired), AppliedOperation.direct)
            .execution_options(synchronize_session=False)
        )
        result = await self._session.execute(statement)
        return result.rowcount if isinstance(result, CursorResult) else 0


def _columns(operation: RecordedOperation) -> dict[str, object]:
    return {
        "op_id": operation.op_id,
        "request_hash": operation.request_hash,
        "kind": operation.kind.value,
        "outcome": operation.outcome.value,
        "invoice_id": operation.invoice_id,
        "version": operation.version,
        "fence": operation.fence,
        "direct": operation.direct,
        "response_status": operation.response.status,
        "response_headers": operation.response.headers_json(),
        "response_body": operation.response.body,
        "created_at": operation.created_at,
    }


def _recorded(row: AppliedOperation) -> RecordedOperation:
    return RecordedOperation(
        op_id=row.op_id,
        request_hash=None if row.request_hash is None else bytes(row.request_hash),
        kind=OperationKind(row.kind),
        outcome=Outcome(row.outcome),
        invoice_id=row.invoice_id,
        version=row.version,
        fence=row.fence,
        direct=row.direct,
        response=StoredResponse.from_row(
            status=row.response_status, headers=row.response_headers, body=row.response_body
        ),
        created_at=row.created_at,
    )


def _invoice(row: InvoiceRow) -> Invoice:
    return Invoice(
        id=row.id,
        order_id=row.order_id,
        user_id=row.user_id,
        total=row.total,
        status=InvoiceStatus(row.status),
        version=row.version,
        fence=row.fence,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
