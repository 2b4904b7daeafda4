"""The tables of the invoice database, with every invariant that a database can hold.

Constraint names follow a pattern and are fixed by the migrations.
"""

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING: Final = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


class Base(DeclarativeBase):
    """Holds the metadata that the migrations are compared with."""

    metadata = MetaData(naming_convention=NAMING)


class _Decided:
    """The columns of an operation that has been decided, in the journal as in the archive."""

    op_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    invoice_id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    request_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    kind: Mapped[str] = mapped_column(String(8))
    outcome: Mapped[str] = mapped_column(String(8))
    version: Mapped[int | None] = mapped_column(BigInteger)
    fence: Mapped[int] = mapped_column(BigInteger)
    direct: Mapped[bool]
    response_status: Mapped[int] = mapped_column(SmallInteger)
    response_headers: Mapped[list[list[str]]] = mapped_column(JSONB)
    response_body: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AppliedOperation(_Decided, Base):
    """An operation that has been decided, with the answer that was given; the decision point.

    It is identified by its id *and* its invoice: what is recorded of one invoice never stands in
    for, nor in the way of, an operation on another. A direct client's key, which becomes the id, is
    unique among the direct clients' keys, since a creation has no invoice yet to tell it apart.

    Rows of orders' operations are kept: they are what a late retry, the reconciler and the audit go
    by. Those that were superseded long ago may be moved to the archive. Rows of direct clients may
    be purged after their retention.
    """

    __tablename__ = "applied_operations"

    __table_args__ = (
        CheckConstraint("kind IN ('create', 'update', 'delete', 'abort')", "kind"),
        CheckConstraint("outcome IN ('applied', 'rejected', 'aborted')", "outcome"),
        CheckConstraint("(kind = 'abort') = (outcome = 'aborted')", "abort_is_aborted"),
        CheckConstraint("(kind = 'abort') = (request_hash IS NULL)", "request_hash_unless_abort"),
        CheckConstraint("outcome <> 'applied' OR version IS NOT NULL", "applied_has_version"),
        CheckConstraint(
            "outcome <> 'applied' OR (kind = 'create') = (version = 1)", "create_is_version_one"
        ),
        CheckConstraint("version >= 1", "version_positive"),
        CheckConstraint("fence >= 0", "fence_not_negative"),
        CheckConstraint("NOT (direct AND kind = 'abort')", "abort_is_kept"),
        CheckConstraint(
            "CASE WHEN outcome = 'applied' THEN response_status BETWEEN 200 AND 299"
            " ELSE response_status BETWEEN 400 AND 499 END",
            "response_fits_outcome",
        ),
        Index(
            "uq_applied_operations_op_id_direct",
            "op_id",
            unique=True,
            postgresql_where=text("direct"),
        ),
        Index(
            "uq_applied_operations_invoice_id_version",
            "invoice_id",
            "version",
            unique=True,
            postgresql_where=text("outcome = 'applied'"),
        ),
        Index(
            "ix_applied_operations_direct_created_at",
            "created_at",
            postgresql_where=text("direct"),
        ),
        Index(
            "ix_applied_operations_applied_created_at_op_id",
            "created_at",
            "op_id",
            postgresql_where=text("outcome = 'applied' AND NOT direct"),
        ),
    )


class ArchivedOperation(_Decided, Base):
    """An operation of an order that another one superseded long ago; nothing refers to it."""

    __tablename__ = "applied_operations_archive"

    archived_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("now()")
    )

    __table_args__ = (Index("ix_applied_operations_archive_archived_at", "archived_at"),)


class InvoiceRow(Base):
    """An invoice: its last state only. Rows are never deleted, only marked."""

    __tablename__ = "invoices"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    order_id: Mapped[uuid.UUID | None] = mapped_column(Uuid, unique=True)
    user_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    total: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    status: Mapped[str] = mapped_column(String(8))
    version: Mapped[int] = mapped_column(BigInteger)
    fence: Mapped[int] = mapped_column(BigInteger)
    last_op: Mapped[uuid.UUID] = mapped_column(Uuid)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    created_by_xid: Mapped[int | None] = mapped_column(
        BigInteger, server_default=text("pg_current_xact_id()::text::bigint")
    )

    __table_args__ = (
        ForeignKeyConstraint(
            ["last_op", "id"], ["applied_operations.op_id", "applied_operations.invoice_id"]
        ),
        CheckConstraint("status IN ('created', 'updated', 'deleted')", "status"),
        CheckConstraint("total >= 0", "total_not_negative"),
        CheckConstraint("version >= 1", "version_positive"),
        CheckConstraint("(status = 'created') = (version = 1)", "created_is_version_one"),
        CheckConstraint("fence >= 0", "fence_not_negative"),
        CheckConstraint("order_id IS NULL OR fence > 0", "order_bound_has_fence"),
        CheckConstraint("updated_at >= created_at", "updated_after_created"),
        Index("ix_invoices_created_at_id", "created_at", "id"),
        Index("ix_invoices_user_id_created_at_id", "user_id", "created_at", "id"),
        Index("ix_invoices_last_op", "last_op"),
        Index("ix_invoices_created_by_xid", "created_by_xid"),
        Index("ix_invoices_status_created_at_id", "status", "created_at", "id"),
        Index("ix_invoices_user_id_status_created_at_id", "user_id", "status", "created_at", "id"),
    )
