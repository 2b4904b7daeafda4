"""The statements on the invoice database."""

import uuid
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Table, select, text

from invoice.domain import FIELDS, Invoice, InvoiceStatus
from invoice.models import AppliedOperation, ArchivedOperation, InvoiceRow
from servicekit.walks import Listing, Rows, Walk
from tandem.archive import Archive
from tandem.decider import Records

INVOICES: Final[Table] = InvoiceRow.metadata.tables["invoices"]
DECISIONS: Final[Table] = AppliedOperation.metadata.tables["applied_operations"]
ARCHIVED: Final[Table] = ArchivedOperation.metadata.tables["applied_operations_archive"]
_LISTING: Final = Listing(
    created_at=INVOICES.c.created_at, row_id=INVOICES.c.id, made_by=INVOICES.c.created_by_xid
)


def _applied_of_order(journal: FromClause) -> ColumnElement[bool]:
    # The literal, not a parameter: only so can the planner use a partial index.
    return (journal.c.outcome == text("'applied'")) & ~journal.c.direct


def invoice_archive() -> Archive:
    """Return the statement that moves superseded operations to the archive."""
    return Archive(DECISIONS, ARCHIVED, subject_id="invoice_id", carried_out=_applied_of_order)


def invoice_records(make: type[Records] = Records, *, decisions: Table = DECISIONS) -> Records:
    """Return the statements by which invoices are decided about."""
    return make(
        decisions,
        INVOICES,
        subject_id="invoice_id",
        fields=FIELDS,
        direct=INVOICES.c.order_id.is_(None),
    )


async def page_of(
    rows_of: Rows,
    *,
    limit: int,
    after: Walk | None,
    user_id: uuid.UUID | None,
    status: InvoiceStatus | None,
) -> tuple[list[Invoice], Walk | None]:
    """Return the next at most ``limit`` invoices of a walk, the newest first."""
    statement = select(INVOICES)
    if user_id is not None:
        statement = statement.where(INVOICES.c.user_id == user_id)
    if status is not None:
        statement = statement.where(INVOICES.c.status == status.value)
    rows, walk = await _LISTING.page(rows_of, statement, after=after, limit=limit)
    return [invoice_of(row) for row in rows], walk


def invoice_of(row: Any) -> Invoice:  # noqa: ANN401 (a row of SQLAlchemy's or of psycopg's)
    """Return the invoice that a row holds."""
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
