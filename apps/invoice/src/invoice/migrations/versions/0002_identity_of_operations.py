"""An operation is identified by its id together with its invoice.

Ids come from two kinds of clients: the order service makes one for each change of an order, and
direct clients bring keys of their own. Until now both met in one primary key, so that whoever knew
the id of an order's pending operation could occupy it. Now a record stands in nobody's way but that
of the same operation on the same invoice, and direct clients' keys are unique among themselves.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint("fk_invoices_last_op", "invoices")
    op.drop_constraint("pk_applied_operations", "applied_operations")
    op.create_primary_key("pk_applied_operations", "applied_operations", ["op_id", "invoice_id"])
    op.create_index(
        "uq_applied_operations_op_id_direct",
        "applied_operations",
        ["op_id"],
        unique=True,
        postgresql_where=sa.text("direct"),
    )
    op.create_foreign_key(
        "fk_invoices_last_op",
        "invoices",
        "applied_operations",
        ["last_op", "id"],
        ["op_id", "invoice_id"],
    )
