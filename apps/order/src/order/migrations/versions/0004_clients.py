"""Operations say who asked for them, so that a client sees and cancels its own only.

What is there already is nobody's. The default is a constant, so the table is not written anew, and
a release that does not know the column goes on writing beside this one.

Revision ID: 0004
Revises: 0003
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "operations",
        sa.Column("client", sa.Text, nullable=False, server_default="anonymous"),
    )
    op.create_index(
        "operations_client_created_at_op_id_idx", "operations", ["client", "created_at", "op_id"]
    )


def downgrade() -> None:
    op.drop_index("operations_client_created_at_op_id_idx")
    op.drop_column("operations", "client")
