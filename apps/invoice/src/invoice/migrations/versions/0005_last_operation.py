"""No index on the last operation: who looks for it has the invoice's id too.

Without it most changes of an invoice touch no index at all.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_invoices_last_op", "invoices")
