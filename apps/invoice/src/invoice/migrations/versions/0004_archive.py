"""Operations that were superseded long ago move to an archive, if that is wished for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "applied_operations_archive",
        sa.Column("op_id", sa.Uuid(), nullable=False),
        sa.Column("invoice_id", sa.Uuid(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary()),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("outcome", sa.String(8), nullable=False),
        sa.Column("version", sa.BigInteger()),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("direct", sa.Boolean(), nullable=False),
        sa.Column("response_status", sa.SmallInteger(), nullable=False),
        sa.Column("response_headers", postgresql.JSONB(), nullable=False),
        sa.Column("response_body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "archived_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
        sa.PrimaryKeyConstraint("op_id", "invoice_id", name="pk_applied_operations_archive"),
    )
    op.create_index(
        "ix_applied_operations_archive_archived_at", "applied_operations_archive", ["archived_at"]
    )
    op.create_index(
        "ix_applied_operations_applied_created_at_op_id",
        "applied_operations",
        ["created_at", "op_id"],
        postgresql_where=sa.text("outcome = 'applied' AND NOT direct"),
    )
