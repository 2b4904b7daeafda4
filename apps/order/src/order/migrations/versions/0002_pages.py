"""Pages that miss nothing, and pages of one state without reading all the others.

Revision ID: 0002
Revises: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # NULL in the rows that are there: they can be seen by everybody. No default in the statement
    # that adds the column, since the table would be written anew.
    op.add_column("orders", sa.Column("created_by_xid", sa.BigInteger))
    op.create_index("orders_created_by_xid_idx", "orders", ["created_by_xid"])
    op.add_column("operations", sa.Column("created_by_xid", sa.BigInteger))
    op.alter_column(
        "operations",
        "created_by_xid",
        server_default=sa.text("pg_current_xact_id()::text::bigint"),
    )
    op.create_index("operations_created_by_xid_idx", "operations", ["created_by_xid"])
    op.create_index(
        "operations_state_created_at_op_id_idx", "operations", ["state", "created_at", "op_id"]
    )


def downgrade() -> None:
    op.drop_index("operations_state_created_at_op_id_idx")
    op.drop_column("operations", "created_by_xid")
    op.drop_column("orders", "created_by_xid")
