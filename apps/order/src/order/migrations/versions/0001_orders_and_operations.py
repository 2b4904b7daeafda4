"""Orders, the operations that change them, and idempotency keys.

Revision ID: 0001
Revises:
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_orders()
    _create_operations()
    op.create_foreign_key(
        "orders_pending_op_fkey",
        "orders",
        "operations",
        ["pending_op"],
        ["op_id"],
        deferrable=True,
        initially="DEFERRED",
    )
    _create_idempotency_keys()


def downgrade() -> None:
    op.drop_table("idempotency_keys")
    op.drop_constraint("orders_pending_op_fkey", "orders")
    op.drop_table("operations")
    op.drop_table("orders")


def _create_orders() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("item_id", sa.Uuid, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("value", sa.Numeric(18, 2), nullable=False),
        sa.Column("total", sa.Numeric(18, 2), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("update_time", _TIMESTAMP, nullable=False),
        sa.Column("created_at", _TIMESTAMP, nullable=False, server_default=sa.text("now()")),
        sa.Column("updated_at", _TIMESTAMP, nullable=False, server_default=sa.text("now()")),
        sa.Column("pending_op", sa.Uuid),
        sa.PrimaryKeyConstraint("id", name="orders_pkey"),
        sa.CheckConstraint("quantity >= 1", name="orders_quantity_check"),
        sa.CheckConstraint("value >= 0", name="orders_value_check"),
        sa.CheckConstraint("total = quantity * value", name="orders_total_check"),
        sa.CheckConstraint("version >= 0", name="orders_version_check"),
        sa.CheckConstraint(
            "status IN ('created', 'updated', 'deleted')", name="orders_status_check"
        ),
        sa.CheckConstraint(
            "(version <= 1) = (status = 'created')", name="orders_status_version_check"
        ),
    )
    committed = sa.text("version > 0")
    op.create_index(
        "orders_created_at_id_idx", "orders", ["created_at", "id"], postgresql_where=committed
    )
    op.create_index(
        "orders_user_id_created_at_id_idx",
        "orders",
        ["user_id", "created_at", "id"],
        postgresql_where=committed,
    )


def _create_operations() -> None:
    op.create_table(
        "operations",
        sa.Column("op_id", sa.Uuid, nullable=False),
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("invoice_id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("payload", postgresql.JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        sa.Column("response_status", sa.Integer),
        sa.Column("response_headers", postgresql.JSONB),
        sa.Column("response_body", sa.LargeBinary),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_attempt_at", _TIMESTAMP, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("traceparent", sa.Text),
        sa.Column("created_at", _TIMESTAMP, nullable=False, server_default=sa.text("now()")),
        sa.Column("finished_at", _TIMESTAMP),
        sa.PrimaryKeyConstraint("op_id", name="operations_pkey"),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="operations_order_id_fkey"),
        sa.CheckConstraint("kind IN ('create', 'update', 'delete')", name="operations_kind_check"),
        sa.CheckConstraint(
            "state IN ('pending', 'committed', 'rejected')", name="operations_state_check"
        ),
        sa.CheckConstraint("version >= 1", name="operations_version_check"),
        sa.CheckConstraint(
            "(version = 1) = (kind = 'create')", name="operations_kind_version_check"
        ),
        sa.CheckConstraint("attempts >= 0", name="operations_attempts_check"),
        sa.CheckConstraint(
            "payload ?& array['user_id', 'item_id', 'quantity', 'value', 'total', 'status',"
            " 'update_time']",
            name="operations_payload_check",
        ),
        sa.CheckConstraint(
            "num_nulls(finished_at, response_status, response_headers, response_body)"
            " = CASE state WHEN 'pending' THEN 4 ELSE 0 END",
            name="operations_finished_check",
        ),
    )
    _create_operation_indexes()


def _create_operation_indexes() -> None:
    pending = sa.text("state = 'pending'")
    op.create_index(
        "operations_one_pending_idx",
        "operations",
        ["order_id"],
        unique=True,
        postgresql_where=pending,
    )
    op.create_index(
        "operations_order_id_version_idx",
        "operations",
        ["order_id", "version"],
        unique=True,
        postgresql_where=sa.text("state = 'committed'"),
    )
    op.create_index(
        "operations_next_attempt_at_idx",
        "operations",
        ["next_attempt_at"],
        postgresql_where=pending,
    )
    op.create_index("operations_created_at_op_id_idx", "operations", ["created_at", "op_id"])
    op.create_index(
        "operations_order_id_created_at_op_id_idx",
        "operations",
        ["order_id", "created_at", "op_id"],
    )


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("request_hash", sa.LargeBinary, nullable=False),
        sa.Column("op_id", sa.Uuid),
        sa.Column("response_status", sa.Integer),
        sa.Column("response_headers", postgresql.JSONB),
        sa.Column("response_body", sa.LargeBinary),
        sa.Column("created_at", _TIMESTAMP, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("client", "idempotency_key", name="idempotency_keys_pkey"),
        sa.ForeignKeyConstraint(
            ["op_id"],
            ["operations.op_id"],
            name="idempotency_keys_op_id_fkey",
            deferrable=True,
            initially="DEFERRED",
        ),
        sa.CheckConstraint(
            "num_nulls(response_status, response_headers, response_body)"
            " = CASE WHEN op_id IS NULL THEN 0 ELSE 3 END",
            name="idempotency_keys_answer_check",
        ),
        sa.CheckConstraint("length(request_hash) = 32", name="idempotency_keys_request_hash_check"),
        sa.CheckConstraint(
            "length(idempotency_key) BETWEEN 1 AND 255", name="idempotency_keys_key_check"
        ),
    )
    op.create_index("idempotency_keys_op_id_idx", "idempotency_keys", ["op_id"], unique=True)
    op.create_index("idempotency_keys_created_at_idx", "idempotency_keys", ["created_at"])
