"""The statements on the invoice database."""

import uuid
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Table, select, text

from invoice.domain import FOR_GOOD, Invoice, InvoiceStatus
from invoice.fields import BODY
from invoice.models import applied_operations, applied_operations_archive, invoices
from servicekit.walks import Listing, Rows, Walk
from tandem.archive import Archive
from tandem.decider import Records

ARCHIVED: Final = applied_operations_archive
_LISTING: Final = Listing(
    created_at=invoices.c.created_at, row_id=invoices.c.id, made_by=invoices.c.created_by_xid
)


def _applied_of_order(journal: FromClause) -> ColumnElement[bool]:
    # The literal, not a parameter: only so can the planner use a partial index.
    return (journal.c.outcome == text("'applied'")) & ~journal.c.direct


def invoice_archive() -> Archive:
    """Return the statement that moves superseded operations to the archive."""
    return Archive(
        applied_operations, ARCHIVED, subject_id="invoice_id", carried_out=_applied_of_order
    )


def invoice_records(
    make: type[Records] = Records, *, decisions: Table = applied_operations
) -> Records:
    """Return the statements by which invoices are decided about."""
    return make(
        decisions,
        invoices,
        subject_id="invoice_id",
        fields=tuple(name for name in BODY.names if name not in FOR_GOOD),
        direct=invoices.c.order_id.is_(None),
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
    statement = select(invoices)
    if user_id is not None:
        statement = statement.where(invoices.c.user_id == user_id)
    if status is not None:
        statement = statement.where(invoices.c.status == status.value)
    rows, walk = await _LISTING.page(rows_of, statement, after=after, limit=limit)
    return [invoice_of(row) for row in rows], walk


def invoice_of(row: Any) -> Invoice:  # noqa: ANN401 (a row of SQLAlchemy's or of psycopg's)
    """Return the invoice that a row holds."""
    return Invoice(
        id=row.id,
        order_id=row.order_id,
        body=BODY.from_row(row),
        status=InvoiceStatus(row.status),
        version=row.version,
        fence=row.fence,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
