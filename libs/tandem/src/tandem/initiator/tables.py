"""The tables that an initiator needs, for services that have none of their own yet."""

from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SchemaItem

_NOW: Final = text("now()")
_TIMESTAMP: Final = DateTime(timezone=True)


def subjects_table(metadata: MetaData, name: str, *fields: SchemaItem) -> Table:
    """Return a table of subjects.

    Args:
        metadata: where it belongs.
        name: its name.
        fields: the columns of the body, and check constraints on them and on ``version``: a body
            that violates one is refused before anything is recorded.
    """
    return Table(
        name,
        metadata,
        Column("id", Uuid, nullable=False),
        *fields,
        # 0 until the creation is committed: such a row is a place to lock, and no reader sees it.
        Column("version", Integer, nullable=False),
        Column(
            "pending_op",
            Uuid,
            # The subject points to the operation and back; either comes first.
            ForeignKey(
                "operations.op_id",
                name=f"{name}_pending_op_fkey",
                deferrable=True,
                initially="DEFERRED",
                use_alter=True,
            ),
        ),
        Column("created_at", _TIMESTAMP, nullable=False, server_default=_NOW),
        Column("updated_at", _TIMESTAMP, nullable=False, server_default=_NOW),
        PrimaryKeyConstraint("id", name=f"{name}_pkey"),
        CheckConstraint("version >= 0", name=f"{name}_version_check"),
        # For whoever deletes operations: the database looks for subjects that still point to them.
        Index(
            f"{name}_pending_op_idx",
            "pending_op",
            postgresql_where=text("pending_op IS NOT NULL"),
        ),
    )


def operations_table(metadata: MetaData, subjects: Table, *, subject_id: str) -> Table:
    """Return the table of operations on ``subjects``, which the column ``subject_id`` names."""
    return Table(
        "operations",
        metadata,
        Column("op_id", Uuid, nullable=False),
        Column(
            subject_id,
            Uuid,
            ForeignKey(subjects.c.id, name=f"operations_{subject_id}_fkey"),
            nullable=False,
        ),
        Column("kind", Text, nullable=False),
        Column("version", Integer, nullable=False),
        # The full resulting body, never a difference: applied twice, or late, it changes no more.
        Column("payload", JSONB, nullable=False),
        Column("state", Text, nullable=False, server_default="pending"),
        *_answer_columns(),
        Column("attempts", Integer, nullable=False, server_default="0"),
        Column("next_attempt_at", _TIMESTAMP, nullable=False),
        Column("last_error", Text),
        Column("traceparent", Text),
        Column("client", Text, nullable=False),
        Column("created_at", _TIMESTAMP, nullable=False, server_default=_NOW),
        Column("finished_at", _TIMESTAMP),
        PrimaryKeyConstraint("op_id", name="operations_pkey"),
        CheckConstraint("kind IN ('create', 'update', 'delete')", name="operations_kind_check"),
        CheckConstraint(
            "state IN ('pending', 'committed', 'rejected')", name="operations_state_check"
        ),
        CheckConstraint("(version = 1) = (kind = 'create')", name="operations_version_check"),
        CheckConstraint(
            "num_nulls(finished_at, response_status, response_headers, response_body)"
            " = CASE state WHEN 'pending' THEN 4 ELSE 0 END",
            name="operations_finished_check",
        ),
        # One pending operation a subject, and one committed operation a version.
        Index(
            "operations_one_pending_idx",
            subject_id,
            unique=True,
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            f"operations_{subject_id}_version_idx",
            subject_id,
            "version",
            unique=True,
            postgresql_where=text("state = 'committed'"),
        ),
        Index(
            "operations_next_attempt_at_idx",
            "next_attempt_at",
            postgresql_where=text("state = 'pending'"),
        ),
    )


def keys_table(metadata: MetaData) -> Table:
    """Return the table of idempotency keys, whose operations are those of the same ``metadata``."""
    return Table(
        "idempotency_keys",
        metadata,
        Column("client", Text, nullable=False),
        Column("idempotency_key", Text, nullable=False),
        Column("request_hash", LargeBinary, nullable=False),
        # A key leads to its operation, which holds the answer, or holds a refusal's answer itself.
        Column(
            "op_id",
            Uuid,
            ForeignKey(
                "operations.op_id",
                name="idempotency_keys_op_id_fkey",
                deferrable=True,
                initially="DEFERRED",
            ),
            unique=True,
        ),
        *_answer_columns(),
        Column("created_at", _TIMESTAMP, nullable=False, server_default=_NOW),
        # The operation that the key led to, once that is in an archive; the answer is here then.
        Column("archived_op_id", Uuid),
        PrimaryKeyConstraint("client", "idempotency_key", name="idempotency_keys_pkey"),
        CheckConstraint(
            "num_nulls(response_status, response_headers, response_body)"
            " = CASE WHEN op_id IS NULL THEN 0 ELSE 3 END",
            name="idempotency_keys_answer_check",
        ),
    )


def _answer_columns() -> tuple[Column[int], Column[list[list[str]]], Column[bytes]]:
    return (
        Column("response_status", Integer),
        Column("response_headers", JSONB),
        Column("response_body", LargeBinary),
    )
