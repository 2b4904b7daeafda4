"""Operations that were superseded long ago move to an archive, if that is wished for.

A key whose operation is there holds its answer itself, and says which operation it was.

Revision ID: 0005
Revises: 0004
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "operations_archive",
        sa.Column("op_id", sa.Uuid, nullable=False),
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("invoice_id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("payload", postgresql.JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("response_status", sa.Integer, nullable=False),
        sa.Column("response_headers", postgresql.JSONB, nullable=False),
        sa.Column("response_body", sa.LargeBinary, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("traceparent", sa.Text),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by_xid", sa.BigInteger),
        sa.Column(
            "archived_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
        sa.PrimaryKeyConstraint("op_id", name="operations_archive_pkey"),
    )
    op.create_index(
        "operations_archive_order_id_version_idx",
        "operations_archive",
        ["order_id", "version"],
        unique=True,
    )
    op.create_index("operations_archive_archived_at_idx", "operations_archive", ["archived_at"])
    op.add_column("idempotency_keys", sa.Column("archived_op_id", sa.Uuid))


def downgrade() -> None:
    op.execute(
        "INSERT INTO operations (op_id, order_id, invoice_id, kind, version, payload, state,"
        " response_status, response_headers, response_body, attempts, next_attempt_at, last_error,"
        " traceparent, client, created_at, finished_at, created_by_xid)"
        " SELECT op_id, order_id, invoice_id, kind, version, payload, state, response_status,"
        " response_headers, response_body, attempts, next_attempt_at, last_error, traceparent,"
        " client, created_at, finished_at, created_by_xid FROM operations_archive"
    )
    op.execute(
        "UPDATE idempotency_keys SET op_id = archived_op_id, response_status = NULL,"
        " response_headers = NULL, response_body = NULL WHERE archived_op_id IS NOT NULL"
    )
    op.drop_column("idempotency_keys", "archived_op_id")
    op.drop_table("operations_archive")
