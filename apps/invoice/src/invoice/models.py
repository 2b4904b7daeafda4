"""The tables of the invoice database, with every invariant that a database can hold.

Constraint names follow a pattern and are fixed by the migrations.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from invoice.fields import BODY

NAMING: Final = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}
metadata: Final = MetaData(naming_convention=NAMING)
_TIMESTAMP: Final = DateTime(timezone=True)


def _decided() -> list[Column[Any]]:
    """The columns of an operation that has been decided, in the journal as in the archive."""
    return [
        Column("op_id", Uuid, primary_key=True),
        Column("invoice_id", Uuid, primary_key=True),
        Column("request_hash", LargeBinary),
        Column("kind", String(8), nullable=False),
        Column("outcome", String(8), nullable=False),
        Column("version", BigInteger),
        Column("fence", BigInteger, nullable=False),
        Column("direct", Boolean, nullable=False),
        Column("response_status", SmallInteger, nullable=False),
        Column("response_headers", JSONB, nullable=False),
        Column("response_body", LargeBinary, nullable=False),
        Column("created_at", _TIMESTAMP, nullable=False),
    ]


# Operations that have been decided, each with the answer that was given; the decision point.
#
# One is identified by its id *and* its invoice: what is recorded of one invoice never stands in
# for, nor in the way of, an operation on another. A direct client's key, which becomes the id, is
# unique among the direct clients' keys, since a creation has no invoice yet to tell it apart.
#
# Rows of orders' operations are kept: they are what a late retry, the reconciler and the audit go
# by. Those that were superseded long ago may be moved to the archive. Rows of direct clients may
# be purged after their retention.
applied_operations: Final = Table(
    "applied_operations",
    metadata,
    *_decided(),
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

# Operations of orders that others superseded long ago; nothing refers to them.
applied_operations_archive: Final = Table(
    "applied_operations_archive",
    metadata,
    *_decided(),
    Column("archived_at", _TIMESTAMP, nullable=False, server_default=text("now()")),
    Index("ix_applied_operations_archive_archived_at", "archived_at"),
)

# Invoices: their last state only. Rows are never deleted, only marked.
invoices: Final = Table(
    "invoices",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("order_id", Uuid, unique=True),
    *BODY.columns(),
    Column("status", String(8), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("last_op", Uuid, nullable=False),
    Column("created_at", _TIMESTAMP, nullable=False),
    Column("updated_at", _TIMESTAMP, nullable=False),
    Column("created_by_xid", BigInteger, server_default=text("pg_current_xact_id()::text::bigint")),
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
    Index("ix_invoices_created_by_xid", "created_by_xid"),
    Index("ix_invoices_status_created_at_id", "status", "created_at", "id"),
    Index("ix_invoices_user_id_status_created_at_id", "user_id", "status", "created_at", "id"),
)
