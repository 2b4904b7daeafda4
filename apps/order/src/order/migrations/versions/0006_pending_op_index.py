"""Moving an operation to the archive does not read all orders.

For each row that leaves the journal the database looks for an order that points to it.

Revision ID: 0006
Revises: 0005
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_index(
        "orders_pending_op_idx",
        "orders",
        ["pending_op"],
        postgresql_where=sa.text("pending_op IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("orders_pending_op_idx")
