"""What goes in and out over HTTP."""

import uuid
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from invoice.domain import Invoice, InvoiceStatus
from invoice.fields import BODY
from servicekit.money import Money
from servicekit.pagination import DEFAULT_LIMIT, MAXIMUM_LIMIT, Cursor
from tandem.operation import Kind, Outcome


class _Strict(BaseModel):
    """Refuses fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InvoiceCreation(_Strict):
    """A new invoice."""

    user_id: uuid.UUID = Field(description="Who is billed.")
    total: Money = Field(description="The amount, with at most two decimals.")
    order_id: uuid.UUID | None = Field(
        default=None,
        description="The order that it bills. Then `Idempotency-Key` and `Lock-Token` are required,"
        " and the invoice's id follows from the order's.",
    )


class InvoiceUpdate(_Strict):
    """A new total."""

    total: Money = Field(description="The amount, with at most two decimals.")


class AbortRequest(_Strict):
    """Which invoice the operation was meant for."""

    invoice_id: uuid.UUID


class InvoiceQuery(_Strict):
    """Which invoices to list."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAXIMUM_LIMIT, description="How many at most.")
    cursor: Cursor | None = Field(None, description="The `next_cursor` of the page before.")
    user_id: uuid.UUID | None = Field(None, description="Only invoices of this user.")
    status: InvoiceStatus | None = Field(None, description="Only invoices in this status.")


class OperationQuery(_Strict):
    """Which operation is meant."""

    invoice_id: uuid.UUID | None = Field(
        None, description="Only what is recorded for this invoice; ids are the clients' choice."
    )


class InvoiceDocument(BaseModel):
    """An invoice."""

    id: uuid.UUID
    order_id: uuid.UUID | None = Field(description="Null if it was created without an order.")
    user_id: uuid.UUID
    total: Money = Field(description="The amount as a string with two decimals.")
    status: InvoiceStatus
    version: int = Field(description="Also the ETag.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, invoice: Invoice) -> "InvoiceDocument":
        """Return the document of a stored invoice."""
        return cls(
            **BODY.values(invoice.body),
            id=invoice.id,
            order_id=invoice.order_id,
            status=invoice.status,
            version=invoice.version,
            created_at=invoice.created_at,
            updated_at=invoice.updated_at,
        )


class OperationDocument(BaseModel):
    """What has become of an operation; it never changes again."""

    id: uuid.UUID
    kind: Kind = Field(description="What it did; `abort` for a tombstone.")
    outcome: Outcome
    invoice_id: uuid.UUID
    version: int | None = Field(
        description="The version that it made, or would have made; null for a tombstone."
    )
    status: int = Field(description="The HTTP status that was answered.")
    created_at: datetime
