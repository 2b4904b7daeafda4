"""Invoices and the operations that were decided on them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_applied_operations()
    _create_invoices()


def _create_applied_operations() -> None:
    op.create_table(
        "applied_operations",
        sa.Column("op_id", sa.Uuid(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary()),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("outcome", sa.String(8), nullable=False),
        sa.Column("invoice_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger()),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("direct", sa.Boolean(), nullable=False),
        sa.Column("response_status", sa.SmallInteger(), nullable=False),
        sa.Column("response_headers", postgresql.JSONB(), nullable=False),
        sa.Column("response_body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("op_id", name="pk_applied_operations"),
        _check("applied_operations", "kind", "kind IN ('create', 'update', 'delete', 'abort')"),
        _check("applied_operations", "outcome", "outcome IN ('applied', 'rejected', 'aborted')"),
        _check(
            "applied_operations", "abort_is_aborted", "(kind = 'abort') = (outcome = 'aborted')"
        ),
        _check(
            "applied_operations",
            "request_hash_unless_abort",
            "(kind = 'abort') = (request_hash IS NULL)",
        ),
        _check(
            "applied_operations",
            "applied_has_version",
            "outcome <> 'applied' OR version IS NOT NULL",
        ),
        _check(
            "applied_operations",
            "create_is_version_one",
            "outcome <> 'applied' OR (kind = 'create') = (version = 1)",
        ),
        _check("applied_operations", "version_positive", "version >= 1"),
        _check("applied_operations", "fence_not_negative", "fence >= 0"),
        _check("applied_operations", "abort_is_kept", "NOT (direct AND kind = 'abort')"),
        _check(
            "applied_operations",
            "response_fits_outcome",
            "CASE WHEN outcome = 'applied' THEN response_status BETWEEN 200 AND 299"
            " ELSE response_status BETWEEN 400 AND 499 END",
        ),
    )
    op.create_index(
        "uq_applied_operations_invoice_id_version",
        "applied_operations",
        ["invoice_id", "version"],
        unique=True,
        postgresql_where=sa.text("outcome = 'applied'"),
    )
    op.create_index(
        "ix_applied_operations_direct_created_at",
        "applied_operations",
        ["created_at"],
        postgresql_where=sa.text("direct"),
    )


def _create_invoices() -> None:
    op.create_table(
        "invoices",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid()),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("total", sa.Numeric(18, 2), nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("last_op", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_invoices"),
        sa.UniqueConstraint("order_id", name="uq_invoices_order_id"),
        sa.ForeignKeyConstraint(
            ["last_op"], ["applied_operations.op_id"], name="fk_invoices_last_op"
        ),
        _check("invoices", "status", "status IN ('created', 'updated', 'deleted')"),
        _check("invoices", "total_not_negative", "total >= 0"),
        _check("invoices", "version_positive", "version >= 1"),
        _check("invoices", "created_is_version_one", "(status = 'created') = (version = 1)"),
        _check("invoices", "fence_not_negative", "fence >= 0"),
        _check("invoices", "order_bound_has_fence", "order_id IS NULL OR fence > 0"),
        _check("invoices", "updated_after_created", "updated_at >= created_at"),
    )
    op.create_index("ix_invoices_created_at_id", "invoices", ["created_at", "id"])
    op.create_index(
        "ix_invoices_user_id_created_at_id", "invoices", ["user_id", "created_at", "id"]
    )
    op.create_index("ix_invoices_last_op", "invoices", ["last_op"])


def _check(table: str, name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(f"ck_{table}_{name}"))
