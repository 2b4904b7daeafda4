"""The tables that a decider needs, for services that have none of their own yet."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
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

_TIMESTAMP: Final = DateTime(timezone=True)


def decisions_table(metadata: MetaData, *, subject_id: str) -> Table:
    """Return the table of decisions on subjects, which the column ``subject_id`` names."""
    return Table(
        "decisions",
        metadata,
        Column("op_id", Uuid, nullable=False),
        Column(subject_id, Uuid, nullable=False),
        Column("request_hash", LargeBinary),
        Column("kind", Text, nullable=False),
        Column("outcome", Text, nullable=False),
        Column("version", Integer),
        Column("fence", BigInteger, nullable=False),
        Column("direct", Boolean, nullable=False),
        Column("response_status", Integer, nullable=False),
        Column("response_headers", JSONB, nullable=False),
        Column("response_body", LargeBinary, nullable=False),
        Column("created_at", _TIMESTAMP, nullable=False),
        PrimaryKeyConstraint("op_id", subject_id, name="decisions_pkey"),
        CheckConstraint(
            "kind IN ('create', 'update', 'delete', 'abort')", name="decisions_kind_check"
        ),
        CheckConstraint(
            "outcome IN ('applied', 'rejected', 'aborted')", name="decisions_outcome_check"
        ),
        CheckConstraint("(kind = 'abort') = (outcome = 'aborted')", name="decisions_abort_check"),
        Index(
            "decisions_version_idx",
            subject_id,
            "version",
            unique=True,
            postgresql_where=text("outcome = 'applied'"),
        ),
    )


def subjects_table(metadata: MetaData, name: str, decisions: Table, *fields: SchemaItem) -> Table:
    """Return a table of what ``decisions`` are about, with the columns of the body."""
    keys = [column.name for column in decisions.primary_key]
    return Table(
        name,
        metadata,
        Column("id", Uuid, nullable=False),
        *fields,
        Column("status", Text, nullable=False),
        Column("version", Integer, nullable=False),
        Column("fence", BigInteger, nullable=False),
        Column("last_op", Uuid, nullable=False),
        Column("created_at", _TIMESTAMP, nullable=False),
        Column("updated_at", _TIMESTAMP, nullable=False),
        PrimaryKeyConstraint("id", name=f"{name}_pkey"),
        ForeignKeyConstraint(
            ["last_op", "id"],
            [decisions.c[key] for key in keys],
            name=f"{name}_last_op_fkey",
        ),
        CheckConstraint("version >= 1", name=f"{name}_version_check"),
        CheckConstraint("(status = 'created') = (version = 1)", name=f"{name}_status_check"),
    )
