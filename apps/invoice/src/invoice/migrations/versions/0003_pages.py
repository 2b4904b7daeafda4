"""Pages that miss nothing, and pages of one status without reading all the others."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # NULL in the rows that are there: they can be seen by everybody. No default in the statement
    # that adds the column, since the table would be written anew.
    op.add_column("invoices", sa.Column("created_by_xid", sa.BigInteger()))
    op.alter_column(
        "invoices", "created_by_xid", server_default=sa.text("pg_current_xact_id()::text::bigint")
    )
    op.create_index("ix_invoices_created_by_xid", "invoices", ["created_by_xid"])
    op.create_index("ix_invoices_status_created_at_id", "invoices", ["status", "created_at", "id"])
    op.create_index(
        "ix_invoices_user_id_status_created_at_id",
        "invoices",
        ["user_id", "status", "created_at", "id"],
    )
