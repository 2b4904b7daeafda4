"""The tables of the order database, with everything about them that the database itself can hold.

Constraint names are what ``order.errors`` maps to answers; they are part of the schema's contract.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
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

from order.fields import BODY

metadata: Final = MetaData()

_NOW = text("now()")
_TIMESTAMP = DateTime(timezone=True)

orders: Final = Table(
    "orders",
    metadata,
    Column("id", Uuid, nullable=False),
    *BODY.columns(),
    # 0 until the creation is committed: such a row is a place to lock, and no reader sees it.
    Column("version", Integer, nullable=False),
    Column("created_at", _TIMESTAMP, nullable=False, server_default=_NOW),
    Column("updated_at", _TIMESTAMP, nullable=False, server_default=_NOW),
    # The transaction that committed the creation; NULL in rows from before this was noted.
    Column("created_by_xid", BigInteger),
    Column(
        "pending_op",
        Uuid,
        # The order points to the operation and the operation to the order; either comes first.
        ForeignKey(
            "operations.op_id",
            name="orders_pending_op_fkey",
            deferrable=True,
            initially="DEFERRED",
            use_alter=True,
        ),
    ),
    PrimaryKeyConstraint("id", name="orders_pkey"),
    CheckConstraint("quantity >= 1", name="orders_quantity_check"),
    CheckConstraint("value >= 0", name="orders_value_check"),
    CheckConstraint("total = quantity * value", name="orders_total_check"),
    CheckConstraint("version >= 0", name="orders_version_check"),
    CheckConstraint("status IN ('created', 'updated', 'deleted')", name="orders_status_check"),
    CheckConstraint("(version <= 1) = (status = 'created')", name="orders_status_version_check"),
    # For whoever deletes operations: the database looks for orders that still point to them.
    Index("orders_pending_op_idx", "pending_op", postgresql_where=text("pending_op IS NOT NULL")),
    Index("orders_created_by_xid_idx", "created_by_xid"),
    Index("orders_created_at_id_idx", "created_at", "id", postgresql_where=text("version > 0")),
    Index(
        "orders_user_id_created_at_id_idx",
        "user_id",
        "created_at",
        "id",
        postgresql_where=text("version > 0"),
    ),
)

operations: Final = Table(
    "operations",
    metadata,
    Column("op_id", Uuid, nullable=False),
    Column(
        "order_id",
        Uuid,
        ForeignKey("orders.id", name="operations_order_id_fkey"),
        nullable=False,
    ),
    Column("invoice_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("version", Integer, nullable=False),
    # The full resulting body, never a difference: applying it twice, or late, changes nothing more.
    Column("payload", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("response_status", Integer),
    Column("response_headers", JSONB),
    Column("response_body", LargeBinary),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", _TIMESTAMP, nullable=False),
    Column("last_error", Text),
    Column("traceparent", Text),
    # Who asked for it; those from before this was noted, and of releases that do not, are nobody's.
    Column("client", Text, nullable=False, server_default="anonymous"),
    Column("created_at", _TIMESTAMP, nullable=False, server_default=_NOW),
    Column("finished_at", _TIMESTAMP),
    Column("created_by_xid", BigInteger, server_default=text("pg_current_xact_id()::text::bigint")),
    PrimaryKeyConstraint("op_id", name="operations_pkey"),
    CheckConstraint("kind IN ('create', 'update', 'delete')", name="operations_kind_check"),
    CheckConstraint("state IN ('pending', 'committed', 'rejected')", name="operations_state_check"),
    CheckConstraint("version >= 1", name="operations_version_check"),
    CheckConstraint("(version = 1) = (kind = 'create')", name="operations_kind_version_check"),
    CheckConstraint("attempts >= 0", name="operations_attempts_check"),
    CheckConstraint(
        f"payload ?& array{list(BODY.required)}",
        name="operations_payload_check",
    ),
    CheckConstraint(
        "num_nulls(finished_at, response_status, response_headers, response_body)"
        " = CASE state WHEN 'pending' THEN 4 ELSE 0 END",
        name="operations_finished_check",
    ),
    # One pending operation an order, and one committed operation a version.
    Index(
        "operations_one_pending_idx",
        "order_id",
        unique=True,
        postgresql_where=text("state = 'pending'"),
    ),
    Index(
        "operations_order_id_version_idx",
        "order_id",
        "version",
        unique=True,
        postgresql_where=text("state = 'committed'"),
    ),
    Index(
        "operations_next_attempt_at_idx",
        "next_attempt_at",
        postgresql_where=text("state = 'pending'"),
    ),
    Index("operations_created_at_op_id_idx", "created_at", "op_id"),
    Index("operations_state_created_at_op_id_idx", "state", "created_at", "op_id"),
    Index("operations_created_by_xid_idx", "created_by_xid"),
    Index("operations_client_created_at_op_id_idx", "client", "created_at", "op_id"),
    Index("operations_order_id_created_at_op_id_idx", "order_id", "created_at", "op_id"),
)

idempotency_keys: Final = Table(
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
    ),
    Column("response_status", Integer),
    Column("response_headers", JSONB),
    Column("response_body", LargeBinary),
    Column("created_at", _TIMESTAMP, nullable=False, server_default=_NOW),
    # The operation that the key led to, once that is in the archive; the answer is here then.
    Column("archived_op_id", Uuid),
    PrimaryKeyConstraint("client", "idempotency_key", name="idempotency_keys_pkey"),
    CheckConstraint(
        "num_nulls(response_status, response_headers, response_body)"
        " = CASE WHEN op_id IS NULL THEN 0 ELSE 3 END",
        name="idempotency_keys_answer_check",
    ),
    CheckConstraint("length(request_hash) = 32", name="idempotency_keys_request_hash_check"),
    CheckConstraint("length(idempotency_key) BETWEEN 1 AND 255", name="idempotency_keys_key_check"),
    Index("idempotency_keys_op_id_idx", "op_id", unique=True),
    Index("idempotency_keys_created_at_idx", "created_at"),
    Index(
        "idempotency_keys_refused_created_at_idx",
        "created_at",
        postgresql_where=text("op_id IS NULL"),
    ),
)

_UNKNOWN_OF_SOME: Final = frozenset({"last_error", "traceparent", "created_by_xid"})

# What nothing refers to any more: no key leads here, and nothing of the protocol reads it.
operations_archive: Final = Table(
    "operations_archive",
    metadata,
    *(
        Column(each.name, each.type, nullable=each.name in _UNKNOWN_OF_SOME)
        for each in operations.c
    ),
    Column("archived_at", _TIMESTAMP, nullable=False, server_default=_NOW),
    PrimaryKeyConstraint("op_id", name="operations_archive_pkey"),
    Index("operations_archive_order_id_version_idx", "order_id", "version", unique=True),
    Index("operations_archive_archived_at_idx", "archived_at"),
)
