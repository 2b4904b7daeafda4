"""Find the keys of refused requests past their retention, among all those that stay.

Revision ID: 0003
Revises: 0002
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_index(
        "idempotency_keys_refused_created_at_idx",
        "idempotency_keys",
        ["created_at"],
        postgresql_where=sa.text("op_id IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("idempotency_keys_refused_created_at_idx")
